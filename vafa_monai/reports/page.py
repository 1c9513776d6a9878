"""Pages of HTML that need no network: one file with its styles and scripts, every text in it escaped."""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from markupsafe import Markup

from vafa_monai.data.page import TEMPLATES, page_environment
from vafa_monai.results.case import mean_known

__all__ = ["pretty", "render", "script_data"]


@dataclass(frozen=True)
class _Script:
    """A script of the package; the page allows it, and no other, by its hash."""

    text: Markup
    digest: str


def render(template: str, *, scripts: Sequence[str], **content: Any) -> str:
    """Fill a template of the package.

    Args:
        template: its name.
        scripts: names of the scripts that the page runs.
        **content: what the template asks for.
    """
    environment = page_environment()
    environment.filters["mean"] = mean_known
    return environment.get_template(template).render(scripts=[_script(name) for name in scripts], **content)


def script_data(content: Any) -> Markup:
    """Return JSON that can stand inside a script element, whatever texts are in it."""
    text = json.dumps(content, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    return Markup(text.replace("&", "\\u0026").replace("<", "\\u003c").replace(">", "\\u003e"))


def pretty(value: Any) -> str:
    """Return JSON for a reader."""
    return json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False, default=str)


def _script(name: str) -> _Script:
    """Read a script with the hash by which its page allows it."""
    text = (TEMPLATES / name).read_text(encoding="utf-8")
    return _Script(Markup(text), base64.b64encode(hashlib.sha256(text.encode()).digest()).decode())
