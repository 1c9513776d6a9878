"""The numbers of a report as rows: one for each attack and model, and one for each class of each case."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any
from unicodedata import category

from vafa_monai.data.page import fixed, interval, percent
from vafa_monai.reports.statistics import mean_interval, rate, volume_error
from vafa_monai.results.attack_name import CLEAN, attack_title
from vafa_monai.results.case import IMAGE_QUALITY, Case, mean_known
from vafa_monai.results.document import Role
from vafa_monai.results.result import SUMMARY, Result
from vafa_monai.results.result_set import Comparison, share_is_fair

__all__ = ["Row", "csv_text", "drop_share", "markdown_line", "markdown_text", "table_cell", "table_rows", "visible"]

FORMULA = ("=", "+", "-", "@", "\t", "\r")  # what spreadsheets take for the start of one
STEERING = ("Cc", "Cf", "Zl", "Zp")  # categories of Unicode
SMALLEST_DROP = 0.005  # half a point of DSC: shares of less would be shares of noise

COLUMNS = (
    "model",
    "attack",
    "role",
    "case",
    "class_index",
    "class",
    "dice",
    "hd95_mm",
    "nsd",
    "dice_clean",
    "dice_drop",
)
CASE_COLUMNS = (*IMAGE_QUALITY, "lost", "invented")


@dataclass(frozen=True, kw_only=True)
class Row:
    """One attack on one model. DSC are means over foreground classes and cases; ``None`` is a value that is undefined.

    Args:
        low: lower end of the bootstrap 95 % interval of the mean DSC over cases.
        high: its upper end.
        worst_case: the case with the lowest DSC.
        worst_dice: its DSC.
        lost_rate: lost organs, as a fraction of those that the truth has.
        invented_rate: invented organs, as a fraction of those absent from the reference.
        volume_error: mean relative error of the organs' volumes, ``None`` if the result holds no volumes.
        forward: windows that passed the network forward, ``None`` if they were not counted.
        backward: windows that passed it backward.
        drop: DSC lost to the attack, ``dice_clean - dice``.
        share: this drop as a fraction of the reference model's; ``None`` for the reference model itself, if that loses
            less than half a point, and if the two are of other cases, data, versions or settings.
        dice_clean: DSC without attack on the cases of this row, ``None`` if one of them has none.
    """

    attack: str
    title: str
    role: Role
    model: str
    n_cases: int
    dice_clean: float | None
    dice: float | None
    low: float | None
    high: float | None
    worst_case: str | None
    worst_dice: float | None
    drop: float | None
    share: float | None
    dice_with_background: float | None
    hd95_mm: float | None
    nsd: float | None
    ssim: float | None
    psnr_db: float | None
    rms_grey: float | None
    linf_grey: float | None
    lpips: float | None
    lost: float | None
    invented: float | None
    lost_rate: float | None
    invented_rate: float | None
    volume_error: float | None
    forward: int | None
    backward: int | None
    seconds: float | None


def drop_share(part: float | None, whole: float | None) -> float | None:
    """Return ``part / whole``, or ``None`` if ``whole`` is no drop worth the name.

    Example:
        >>> drop_share(0.05, 0.2), drop_share(0.05, 0.001)
        (0.25, None)
    """
    return None if part is None or whole is None or whole < SMALLEST_DROP else part / whole


def table_rows(results: Sequence[Result]) -> list[Row]:
    """Join the models by attack: attacks in the order of the report, within each the reference model first."""
    comparison = Comparison(results)
    rows = []
    for attack in comparison.attacks():
        reference = comparison.get(comparison.reference, attack)
        whole = None if reference is None else _drop(comparison, reference)
        for model in comparison.models:
            result = comparison.get(model, attack)
            if result is not None:
                alone = reference is None or result is reference or attack == CLEAN
                fair = not alone and reference is not None and share_is_fair(reference, result)
                share = drop_share(_drop(comparison, result), whole) if fair else None
                rows.append(_row(comparison, result, share))
    return rows


def _row(comparison: Comparison, result: Result, share: float | None) -> Row:
    """Return the row of one result."""
    by_case = {case.case: case.foreground_dice for case in result.cases}
    known = {name: dice for name, dice in by_case.items() if dice is not None}
    mean = mean_interval(list(by_case.values()))
    worst = min(known, key=lambda name: known[name], default=None)
    summary: dict[str, Any] = {name: result.summary[name] for name in SUMMARY}
    possible = sum(case.organs for case in result.cases)
    absent = len(result.cases) * (len(result.classes) - 1) - possible
    return Row(
        attack=result.attack,
        title=attack_title(result.attack),
        role=result.role,
        model=result.model,
        n_cases=len(result.cases),
        dice_clean=comparison.clean_dice(result.model, result.attack),
        low=mean.low,
        high=mean.high,
        worst_case=worst,
        worst_dice=None if worst is None else known[worst],
        drop=_drop(comparison, result),
        share=share,
        lost_rate=rate(sum(case.lost or 0 for case in result.cases), possible),
        invented_rate=rate(sum(case.invented or 0 for case in result.cases), absent),
        volume_error=mean_known(_volume_error(case) for case in result.cases),
        forward=result.forward,
        backward=result.backward,
        seconds=result.seconds,
        **summary,
    )


def _volume_error(case: Case) -> float | None:
    """Return the mean relative error of the volumes of the organs of a case."""
    return mean_known(volume_error(pred, truth) for pred, truth in case.volume_ml[1:])


def _drop(comparison: Comparison, result: Result) -> float | None:
    """Return how much foreground DSC an attack took from its model."""
    clean, attacked = comparison.clean_dice(result.model, result.attack), result.summary["dice"]
    return None if clean is None or attacked is None else clean - attacked


def csv_text(results: Sequence[Result]) -> str:
    """Return a CSV table with one line for each model, attack, case and class; undefined values are empty.

    ``dice_clean`` and ``dice_drop`` are of the same case and class. What describes the whole case (image quality, lost
    and invented organs) is repeated on each of its lines.
    """
    comparison = Comparison(results)
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    writer.writerow((*COLUMNS, *(f"case_{name}" for name in CASE_COLUMNS), "seed", "checkpoint_sha256"))
    for attack in comparison.attacks():
        for model in comparison.models:
            result = comparison.get(model, attack)
            if result is not None:
                writer.writerows(_csv_lines(result, comparison.get(model, CLEAN)))
    return buffer.getvalue()


def _csv_lines(result: Result, clean: Result | None) -> list[tuple[object, ...]]:
    """Return the CSV lines of one result."""
    clean_dice = {} if clean is None else {case.case: case.dice for case in clean.cases}
    nothing = (None,) * len(result.classes)
    lines: list[tuple[object, ...]] = []
    for case in result.cases:
        whole_case = [getattr(case, name) for name in CASE_COLUMNS]
        before = clean_dice.get(case.case, nothing)
        per_class = zip(result.classes, case.dice, case.hd95_mm, case.nsd, before, strict=True)
        for index, (name, dice, hd95, nsd, old) in enumerate(per_class):
            drop = None if old is None or dice is None else old - dice
            start = (result.model, result.attack, result.role, case.case, index, name, dice, hd95, nsd, old, drop)
            line = (*start, *whole_case, result.seed, result.checkpoint.get("sha256"))
            lines.append(tuple(csv_cell(value) if isinstance(value, str) else value for value in line))
    return lines


def markdown_text(rows: Sequence[Row]) -> str:
    """Return the main table in Markdown, one line for each attack and model."""
    lines = [
        "| attack | role | model | DSC [95 %] | drop | share of drop | lowest | HD95 (mm) | NSD | rms (gray) | lost |",
        "|---|---|---|--:|--:|--:|--:|--:|--:|--:|--:|",
    ]
    for row in rows:
        texts = [table_cell(row.title), row.role, table_cell(row.model), interval(row.dice, row.low, row.high)]
        drop = fixed(None if row.attack == CLEAN else row.drop, 3)
        fractions = [drop, percent(row.share), fixed(row.worst_dice, 3)]
        others = [fixed(row.hd95_mm, 1), fixed(row.nsd, 3), fixed(row.rms_grey, 1), fixed(row.lost, 0)]
        lines.append("| " + " | ".join([*texts, *fractions, *others]) + " |")
    return "\n".join(lines) + "\n"


def csv_cell(text: str) -> str:
    """Return a text that no program takes for a formula.

    Example:
        >>> csv_cell("=1+1"), csv_cell("liver")
        ("'=1+1", 'liver')
    """
    plain = visible(text)
    return f"'{plain}" if plain.startswith(FORMULA) else plain


def table_cell(text: str) -> str:
    r"""Keep a text inside one cell of a Markdown table, as text.

    Example:
        >>> table_cell("a|b <b>")
        'a\\|b &lt;b>'
    """
    return markdown_line(text).replace("|", "\\|")


def markdown_line(text: str) -> str:
    r"""Return a text as one line of Markdown that begins no element of HTML and no link.

    Example:
        >>> markdown_line("one\n<script> [here](http://x)")
        'one &lt;script> [here]\\(http://x)'
    """
    line = " ".join(visible(" ".join(text.split())).split())
    return line.replace("&", "&amp;").replace("<", "&lt;").replace("](", "]\\(")


def visible(text: str) -> str:
    r"""Write the characters that steer a terminal or the direction of a text as what they are.

    Example:
        >>> visible("liver\x1b[2J")
        'liver\\x1b[2J'
    """
    return "".join(
        character.encode("unicode_escape").decode() if category(character) in STEERING else character
        for character in text
    )
