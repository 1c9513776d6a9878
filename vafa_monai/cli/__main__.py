"""``python -m vafa_monai.cli`` is ``vafa-monai``."""

from __future__ import annotations

from vafa_monai.cli import main

main()
