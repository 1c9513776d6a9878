"""How all pages are written: the forms of numbers, and the environment that fills templates and escapes every text."""

from __future__ import annotations

import base64
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined

import vafa_monai

__all__ = [
    "MINUS",
    "TEMPLATES",
    "data_uri",
    "fixed",
    "interval",
    "p_value",
    "page_environment",
    "percent",
    "points",
    "signed",
]

TEMPLATES = Path(vafa_monai.__file__).parent / "reports" / "templates"
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
    """Write a number of any size with four significant digits; from 1000 on it is whole.

    Example:
        >>> figure(0.000123456), figure(12345.6).replace("\N{NARROW NO-BREAK SPACE}", " ")
        ('0.0001235', '12 346')
    """
    if value is None:
        return UNDEFINED
    return (count(value) if abs(value) >= 1000 else f"{value:.4g}").replace("-", MINUS)


FORMS = (count, figure, fixed, interval, p_value, percent, points, signed)


def page_environment() -> Environment:
    """Return what fills a template, with a filter for each form of a number; a name that is not given is an error."""
    environment = Environment(
        loader=FileSystemLoader(TEMPLATES),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {form.__name__: form for form in FORMS}
    return environment


def data_uri(path: Path) -> str:
    """Return a PNG file as an address that needs no network."""
    return f"data:image/png;base64,{base64.b64encode(path.read_bytes()).decode()}"
