"""``python -m vafa_monai.cli`` is ``vafa-monai``."""

from vafa_monai.cli import main

main()
