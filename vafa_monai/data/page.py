"""The one environment that fills the templates of all pages: every text in them is escaped."""

from __future__ import annotations

import base64
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined

import vafa_monai

__all__ = ["TEMPLATES", "data_uri", "page_environment"]

TEMPLATES = Path(vafa_monai.__file__).parent / "reports" / "templates"


def page_environment() -> Environment:
    """Return what fills a template; a name that is not given is an error."""
    return Environment(
        loader=FileSystemLoader(TEMPLATES),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )


def data_uri(path: Path) -> str:
    """Return a PNG file as an address that needs no network."""
    return f"data:image/png;base64,{base64.b64encode(path.read_bytes()).decode()}"
