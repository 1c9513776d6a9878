"""The report of a study: recipes of hardening side by side, over patients and seeds, as one document and one page."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from vafa_monai.data.files import write_json, write_whole
from vafa_monai.data.page import data_uri, p_value
from vafa_monai.reports.chart import CurveChart, curve_chart, house_style, model_colors, save_png
from vafa_monai.reports.page import render
from vafa_monai.reports.statistics import adjusted_p_values, mean_interval, paired_test, smallest_p_value
from vafa_monai.reports.table import drop_share
from vafa_monai.results.attack_name import CLEAN, attack_order, attack_title
from vafa_monai.results.audit import Curve
from vafa_monai.results.case import mean_known
from vafa_monai.results.result import Result

__all__ = ["HEADLINE", "STANDARD", "StudyModel", "StudyPoint", "pareto_front", "study_document", "write_study"]

STUDY_SCHEMA = "vafa_monai.study/1"
STANDARD = "standard"  # what every recipe starts from
HEADLINE = "ensemble"  # the attack whose DSC a model is quoted by
LEVEL = 0.05


@dataclass(frozen=True, kw_only=True)
class StudyModel:
    """One model of a study.

    Args:
        recipe: the recipe that it was hardened by, or ``"standard"``.
        seed: seed of its training.
        iterations: length of its training.
        cost: what was counted of its training: ``iterations``, ``seconds``, windows ``forward`` and ``backward``.
    """

    recipe: str
    seed: int
    iterations: int | None = None
    cost: Mapping[str, float] | None = None

    @property
    def label(self) -> str:
        """Its name, in files and results."""
        return f"{self.recipe}_seed{self.seed}"

    def trained(self, record: Mapping[str, Any]) -> StudyModel:
        """Return the model with what its record tells."""
        return replace(self, iterations=record.get("iterations"), cost=record.get("cost"))

    def per_iteration(self, name: str) -> float | None:
        """Return what an iteration cost, or ``None`` if nothing was counted."""
        return None if self.cost is None else self.cost[name] / self.cost["iterations"]


@dataclass(frozen=True, kw_only=True)
class StudyPoint:
    """A point of a curve: one model under one attack of another strength, in gray levels."""

    model: StudyModel
    attack: str
    strength: float
    result: Result


def pareto_front(points: Sequence[tuple[float | None, float | None]]) -> list[bool]:
    """Tell of each point whether no other is as good in both values and better in one; an unknown one is not.

    Example:
        >>> pareto_front([(0.9, 0.1), (0.8, 0.7), (0.8, 0.6), (None, 0.9)])
        [True, True, False, False]
    """
    known = [(a, b) for a, b in points if a is not None and b is not None]
    return [
        a is not None and b is not None and not any(x >= a and y >= b and (x, y) != (a, b) for x, y in known)
        for a, b in points
    ]


@dataclass(frozen=True, kw_only=True)
class _Figures:
    """The DSC of the cases, seed by seed.

    Args:
        models: the models of each recipe, the standard ones first.
        results: results by label and attack.
    """

    models: Mapping[str, Sequence[StudyModel]]
    results: Mapping[tuple[str, str], Result] = field(repr=False)

    def of_seeds(self, recipe: str, attack: str) -> dict[int, dict[str, float | None]]:
        """Return the DSC of every case by seed."""
        found = {one.seed: self.results.get((one.label, attack)) for one in self.models[recipe]}
        return {seed: _by_case(result) for seed, result in found.items() if result is not None}

    def of_cases(self, recipe: str, attack: str) -> dict[str, float]:
        """Return the DSC of every case, the mean over seeds; a case that one seed has no DSC of is left out."""
        return _over_seeds(list(self.of_seeds(recipe, attack).values()))

    def drop(self, recipe: str, attack: str) -> float | None:
        """Return the DSC lost to an attack, on the cases that are known with and without it."""
        clean, attacked = self.of_cases(recipe, CLEAN), self.of_cases(recipe, attack)
        return mean_known([clean[case] - attacked[case] for case in attacked if case in clean])


def _by_case(result: Result) -> dict[str, float | None]:
    """Return the foreground DSC of every case of a result."""
    return {case.case: case.foreground_dice for case in result.cases}


def _over_seeds(seeds: Sequence[Mapping[str, float | None]]) -> dict[str, float]:
    """Return the mean over seeds of every case that all of them know."""
    names = list(seeds[0]) if seeds else []
    values = {name: [known for seed in seeds if (known := seed.get(name)) is not None] for name in names}
    return {name: sum(known) / len(known) for name, known in values.items() if len(known) == len(seeds)}


def study_document(
    *,
    title: str,
    models: Sequence[StudyModel],
    results: Sequence[Result],
    points: Sequence[StudyPoint],
    strengths: Mapping[str, float],
    settings: Mapping[str, Any],
    runs: Sequence[Mapping[str, Any]],
    failures: Sequence[Mapping[str, Any]],
) -> dict[str, Any]:
    """Return all figures of a study as JSON.

    A figure of a recipe is one over patients: of every patient the mean DSC over seeds, then mean and interval over
    patients. The seeds stand beside it.

    Args:
        title: heading of the page.
        models: all models, the standard ones first.
        results: results of all of them under the same attacks.
        points: results under attacks of other strengths.
        strengths: strength of ``results`` in gray levels, of each attack that has a curve.
        settings: what makes one study differ from another.
        runs: every run that was made.
        failures: cases that failed under an attack.
    """
    recipes = list(dict.fromkeys(model.recipe for model in models))
    figures = _Figures(
        models={recipe: [one for one in models if one.recipe == recipe] for recipe in recipes},
        results={(one.model, one.attack): one for one in results},
    )
    roles = {one.attack: one.role for one in results}
    rows = [
        {"title": attack_title(attack), "role": roles[attack], **_row(figures, recipe, attack)}
        for attack in attack_order(roles)
        for recipe in recipes
    ]
    adjusted = adjusted_p_values([row["test"]["p_value"] for row in rows])
    for row, value in zip(rows, adjusted, strict=True):
        row["test"]["adjusted"] = value
    return {
        "schema": STUDY_SCHEMA,
        "title": title,
        "settings": dict(settings),
        "recipes": _recipes(figures, rows),
        "rows": rows,
        "curves": _curves(figures, points, strengths),
        "runs": [dict(run) for run in runs],
        "failures": [dict(one) for one in failures],
    }


def _row(figures: _Figures, recipe: str, attack: str) -> dict[str, Any]:
    """Return the figures of one recipe under one attack, and its test against the standard models."""
    mine, other = figures.of_cases(recipe, attack), figures.of_cases(STANDARD, attack)
    drop, whole = figures.drop(recipe, attack), figures.drop(STANDARD, attack)
    shared = [case for case in other if case in mine] if recipe != STANDARD else []
    test = paired_test([other[case] for case in shared], [mine[case] for case in shared])
    return {
        "attack": attack,
        "recipe": recipe,
        "dice": asdict(mean_interval(list(mine.values()))),
        "seeds": {str(seed): mean_known(dice.values()) for seed, dice in figures.of_seeds(recipe, attack).items()},
        "drop": None if attack == CLEAN else drop,
        "share": None if attack == CLEAN else drop_share(drop, whole),
        "test": {**asdict(test.difference), "p_value": test.p_value},
    }


def _recipes(figures: _Figures, rows: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Return what a recipe gives and costs, and which lie on the front."""
    found = {(row["recipe"], row["attack"]): row for row in rows}
    told = []
    for recipe, models in figures.models.items():
        clean, attacked = found.get((recipe, CLEAN)), found.get((recipe, HEADLINE))
        one: dict[str, Any] = {"recipe": recipe}
        for name, row in (("clean", clean), ("robust", attacked)):
            one[name] = None if row is None else row["dice"]
            one[f"{name}_seeds"] = {} if row is None else row["seeds"]
        one["share"] = None if attacked is None else attacked["share"]
        one["clean_change"] = None if clean is None else clean["test"]["mean"]
        told.append({**one, "cost": _cost(models, figures.models[STANDARD])})
    means = [[(one[name] or {}).get("mean") for name in ("clean", "robust")] for one in told]
    front = pareto_front([(a, b) for a, b in means])
    return [{**one, "pareto": value} for one, value in zip(told, front, strict=True)]


def _cost(models: Sequence[StudyModel], standard: Sequence[StudyModel]) -> dict[str, Any]:
    """Return what an iteration cost, mean over seeds, and that in units of the standard model of the same seed."""
    plain = {one.seed: one for one in standard}
    told: dict[str, Any] = {"iterations": mean_known([one.iterations for one in models])}
    for name in ("seconds", "forward", "backward"):
        each = [(one.per_iteration(name), plain[one.seed].per_iteration(name)) for one in models]
        told[name] = mean_known([mine for mine, _ in each])
        told[f"relative_{name}"] = mean_known([mine / whole for mine, whole in each if mine is not None and whole])
    return told


def _curves(figures: _Figures, points: Sequence[StudyPoint], strengths: Mapping[str, float]) -> list[dict[str, Any]]:
    """Return the mean DSC over strengths, from 0, by recipe; means over seeds and cases."""
    curves = []
    for attack, strength in strengths.items():
        measured = {(one.model.label, one.strength): one.result for one in points if one.attack == attack}
        places = sorted({x for _, x in measured} | {0.0, strength})
        for recipe, models in figures.models.items():
            labels = [model.label for model in models]
            own = {(label, strength): figures.results.get((label, attack)) for label in labels}
            clean = {(label, 0.0): figures.results.get((label, CLEAN)) for label in labels}
            known = {**measured, **own, **clean}
            each = [[known.get((label, x)) for label in labels] for x in places]
            over = [_over_seeds([_by_case(one) for one in some if one is not None]) for some in each]
            curves.append(
                {"attack": attack, "recipe": recipe, "x": places, "dice": [mean_known(one.values()) for one in over]}
            )
    return curves


def write_study(document: Mapping[str, Any], output: Path) -> dict[str, Path]:
    """Write ``study.json``, ``study.html`` and the chart ``study.png``; return their paths by kind."""
    write_json(output / "study.json", document)
    recipes = [one["recipe"] for one in document["recipes"]]
    chart = front_chart(document["recipes"], output / "study.png")
    fewest = min((row["dice"]["n"] for row in document["rows"] if row["dice"]["n"]), default=0)
    html = render(
        "study.html.j2",
        scripts=("sort.js",),
        title=document["title"],
        study=document,
        table={(row["attack"], row["recipe"]): row for row in document["rows"]},
        attacks=list(dict.fromkeys(row["attack"] for row in document["rows"])),
        recipes=recipes,
        colors=model_colors(recipes),
        chart=data_uri(chart),
        curves=_charts(document["curves"]),
        standard=STANDARD,
        clean=CLEAN,
        level=LEVEL,
        fewest=fewest,
        smallest=p_value(smallest_p_value(fewest)) if fewest else None,
    )
    return {"html": write_whole(output / "study.html", html), "json": output / "study.json", "chart": chart}


def _charts(curves: Sequence[Mapping[str, Any]]) -> list[CurveChart]:
    """Lay out the curves, a chart an attack."""
    charts = []
    for attack in dict.fromkeys(one["attack"] for one in curves):
        mine = [one for one in curves if one["attack"] == attack]
        label = f"strength of {attack_title(attack)}"
        about = {"name": attack, "x_label": label, "x_unit": "gray levels", "dice_per_class": ()}
        found = {one["recipe"]: Curve(**about, x=tuple(one["x"]), dice=tuple(one["dice"])) for one in mine}
        charts.append(curve_chart(attack, found))
    return charts


def front_chart(recipes: Sequence[Mapping[str, Any]], path: Path) -> Path:
    """Draw clean DSC over DSC under VolAA with intervals over patients, seeds as dots, and the front as a line."""
    colors = model_colors([one["recipe"] for one in recipes])
    known = [one for one in recipes if one["clean"] and one["robust"] and None not in _place(one)]
    with house_style():
        figure = Figure(figsize=(6.4, 4.2), layout="constrained")
        axes = figure.add_subplot()
        for one in known:
            _draw(axes, one, colors[one["recipe"]])
        front = sorted(_place(one) for one in known if one["pareto"])
        axes.plot([x for x, _ in front], [y for _, y in front], color="#9AA5B1", linewidth=1, linestyle="--", zorder=0)
        if known:
            axes.legend(loc="upper left", bbox_to_anchor=(1, 1), frameon=False)
        axes.set_xlabel("DSC under VolAA")
        axes.set_ylabel("DSC without attack")
        axes.grid(color="#E4E7EB", linewidth=0.6)
        axes.set_axisbelow(True)
        axes.spines[["top", "right"]].set_visible(False)
        return save_png(figure, path)


def _draw(axes: Axes, one: Mapping[str, Any], color: str) -> None:
    """Draw one recipe: mean, intervals and seeds."""
    x, y = _place(one)
    mark = "D" if one["pareto"] else "o"
    across, along = _arms(one["robust"]), _arms(one["clean"])
    axes.errorbar(x, y, along, across, fmt=mark, color=color, elinewidth=0.8, label=one["recipe"])
    pairs = [(dice, one["clean_seeds"].get(seed)) for seed, dice in one["robust_seeds"].items()]
    known = [pair for pair in pairs if None not in pair]
    axes.scatter([x for x, _ in known], [y for _, y in known], s=9, color=color, alpha=0.5, linewidths=0)


def _arms(value: Mapping[str, Any]) -> list[list[float]] | None:
    """Return how far the interval of a mean reaches below and above it."""
    ends = (value["low"], value["high"])
    return None if None in ends else [[abs(end - value["mean"])] for end in ends]


def _place(one: Mapping[str, Any]) -> tuple[Any, Any]:
    """Return DSC under VolAA and without attack."""
    return one["robust"]["mean"], one["clean"]["mean"]
