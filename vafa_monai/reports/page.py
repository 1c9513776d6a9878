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

__all__ = [
    "MINUS",
    "fixed",
    "interval",
    "p_value",
    "percent",
    "points",
    "pretty",
    "render",
    "script_data",
    "signed",
]

UNDEFINED = "\N{EN DASH}"
MINUS = "\N{MINUS SIGN}"


def fixed(value: float | None, digits: int) -> str:
    """Write a number with a fixed count of digits; what rounds to 0 has no sign.

    Example:
        >>> fixed(0.7654, 2), fixed(-0.001, 2)
        ('0.77', '0.00')
    """
    if value is None:
        return UNDEFINED
    text = f"{abs(value):.{digits}f}"
    return MINUS + text if value < 0 and float(text) else text


def percent(value: float | None, digits: int = 0) -> str:
    """Write a fraction as a percentage.

    Example:
        >>> percent(0.349)
        '35 %'
    """
    return UNDEFINED if value is None else f"{fixed(100 * value, digits)} %"


def points(value: float | None) -> str:
    """Write a difference of DSC in points, hundredths.

    Example:
        >>> points(0.1754)
        '17.5'
    """
    return UNDEFINED if value is None else fixed(100 * value, 1)


def interval(mean: float | None, low: float | None, high: float | None, digits: int = 3) -> str:
    """Write a mean with the ends of its interval, which one case does not have.

    Example:
        >>> interval(0.81, 0.74, 0.879, 2), interval(0.81, None, None, 2)
        ('0.81 [0.74, 0.88]', '0.81')
    """
    text = fixed(mean, digits)
    return text if low is None or high is None else f"{text} [{fixed(low, digits)}, {fixed(high, digits)}]"


def p_value(value: float | None) -> str:
    """Write a p-value with three digits; a very small one is only bounded.

    Example:
        >>> p_value(0.0156), p_value(0.00002)
        ('0.016', '<0.001')
    """
    return "<0.001" if value is not None and value < 0.001 else fixed(value, 3)


def count(value: float | None) -> str:
    """Write a number of passes with thin spaces between thousands.

    Example:
        >>> count(12345).replace("\N{NARROW NO-BREAK SPACE}", " ")
        '12 345'
    """
    return UNDEFINED if value is None else f"{value:,.0f}".replace(",", "\N{NARROW NO-BREAK SPACE}")


def signed(value: float | None, digits: int) -> str:
    """Write a difference with its sign.

    Example:
        >>> signed(0.05, 2), signed(0.001, 2)
        ('+0.05', '0.00')
    """
    text = fixed(value, digits)
    return f"+{text}" if value is not None and value > 0 and float(text) else text


def figure(value: float | None) -> str:
    """Write a number of any size with four significant digits.

    Example:
        >>> figure(0.000123456), figure(1234.0)
        ('0.0001235', '1234')
    """
    return UNDEFINED if value is None else f"{value:.4g}".replace("-", MINUS)


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
    environment.filters |= {
        "count": count,
        "figure": figure,
        "fixed": fixed,
        "interval": interval,
        "mean": mean_known,
        "p_value": p_value,
        "percent": percent,
        "points": points,
        "signed": signed,
    }
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
