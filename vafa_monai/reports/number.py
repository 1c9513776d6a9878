"""How a report writes numbers; a value that is undefined is a dash."""

from __future__ import annotations

__all__ = ["MINUS", "fixed", "percent", "points"]

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
