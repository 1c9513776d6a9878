"""The tables of the paper as declarations: which models and which attacks, bundle by bundle."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Any

from vafa_monai.paper.row import paper_keys, paper_tables
from vafa_monai.results.attack_name import CLEAN

__all__ = ["FIGURE", "Hardening", "Measurement", "PaperSetting", "bundle_name_of", "paper_setting"]

__all__ += ["vafa", "vafa_2d", "voxels"]

SIGMA = "\N{GREEK SMALL LETTER SIGMA}"
STEPS, STEPS_2D, STEP_SIZE = 20, 10, 0.01
SMALL_BLOCK, BLOCK = 8, 32


@dataclass(frozen=True, kw_only=True)
class Measurement:
    """One attack of a table.

    Args:
        name: name of its result.
        title: what a reader is shown.
        overlay: its file in ``configs/attacks``.
        overrides: config ids and the values that the table sets.
        key: its row, in Table 6 its column, among the paper's values; ``None`` for what is not in the paper.
        gradients: number of gradients that it takes, which is most of its cost.
    """

    name: str
    title: str
    overlay: str
    overrides: Mapping[str, Any] = field(default_factory=dict)
    key: str | None = None
    gradients: int = 0


def clean() -> Measurement:
    """Return the run without attack."""
    return Measurement(name=CLEAN, title="Clean", overlay=CLEAN, key="clean")


def voxels(overlay: str, levels: int, key: str | None, **names: str) -> Measurement:
    """Return PGD, BIM or FGSM as published: the last of 20 steps of 0.01 without a random start, or one step.

    Args:
        overlay: ``"pgd"``, ``"bim"`` or ``"fgsm"``.
        levels: radius in gray levels.
        key: its row among the paper's values.
        **names: ``name`` and ``title`` other than those of the attack.
    """
    steps = 1 if overlay == "fgsm" else STEPS
    overrides: dict[str, Any] = {"eps": f"${levels} / 255"}
    if overlay != "fgsm":
        overrides |= {"attack_steps": steps, "attack#step_size": STEP_SIZE}
    if overlay == "pgd":
        overrides |= {"attack#random_start": False}
    names = {"name": overlay, "title": overlay.upper()} | names
    return Measurement(overlay=overlay, overrides=overrides, key=key, gradients=steps, **_texts(names))


def noise(levels: int, key: str | None = None, **names: str) -> Measurement:
    """Return Gaussian noise of a standard deviation in gray levels."""
    names = {"name": "gaussian_noise", "title": f"Gaussian noise ({SIGMA} = {levels})"} | names
    return Measurement(overlay="gaussian_noise", overrides={"eps": f"${levels} / 255"}, key=key, **_texts(names))


def vafa(q_max: int, block: int, key: str | None, steps: int = STEPS, **names: str) -> Measurement:
    """Return VAFA with the preset of the published code."""
    overrides = {"q_max": q_max, "block_size": [block] * 3, "attack_steps": steps}
    names = {"name": key or "vafa_authors", "title": "VAFA"} | names
    return Measurement(overlay="vafa_authors", overrides=overrides, key=key, gradients=steps, **_texts(names))


def vafa_2d(steps: int, key: str | None, **names: str) -> Measurement:
    """Return VAFA-2D with the preset of the published code."""
    overrides = {"q_max": 20, "attack#block_size": [SMALL_BLOCK, SMALL_BLOCK, 1], "attack_steps": steps}
    names = {"name": "vafa_2d", "title": "VAFA-2D"} | names
    return Measurement(overlay="vafa_2d", overrides=overrides, key=key, gradients=steps, **_texts(names))


def stretch() -> Measurement:
    """Return the control that stretches every slice as the published VAFA does, and does nothing else."""
    return Measurement(name="identity_stretch", title="Slice stretch only", overlay="identity_stretch")


def uniform(q_max: int, block: int, ending: str = "", words: str = "") -> Measurement:
    """Return the control that quantizes every coefficient by ``q_max``; ``ending`` and ``words`` tell it apart."""
    overrides = {"q_max": q_max, "block_size": [block] * 3}
    names = {"name": f"uniform_quantization{ending}", "title": f"Uniform quantization{words}"}
    return Measurement(overlay="uniform_quantization", overrides=overrides, **_texts(names))


def _texts(names: Mapping[str, str]) -> dict[str, Any]:
    """Refuse a name that no measurement has."""
    if set(names) != {"name", "title"}:
        raise TypeError(f"names must be name and title, got {sorted(names)!r}.")
    return dict(names)


BUDGETS: Mapping[str, tuple[int, int]] = MappingProxyType({"synapse": (4, 20), "acdc": (2, 10)})  # gray levels, q_max
BUNDLES = tuple(f"{dataset}_{network}" for dataset in BUDGETS for network in ("unetr", "unetrpp"))
FIGURE = "figure2"
VOXEL_ATTACKS = ("pgd", "fgsm", "bim")
RECIPE = ("harden", "hardening/vaft_authors")
ADVERSARIAL_ONLY: Mapping[str, Any] = {"clean_weight": 0, "adversarial_weight": 1, "consistency_weight": 0}
EVERY_TERM: Mapping[str, Any] = dict.fromkeys(ADVERSARIAL_ONLY, 1)


@dataclass(frozen=True, kw_only=True)
class Hardening:
    """A model that is trained from the standard one.

    Args:
        key: its row among the paper's values; also names its file and its results.
        title: what a reader is shown.
        overlays: the configs on ``train.json``.
        overrides: config ids and the values that the table sets.
        setting: how it is trained, in words.
    """

    key: str
    title: str
    overlays: Sequence[str]
    overrides: Mapping[str, Any]
    setting: str


@dataclass(frozen=True, kw_only=True)
class PaperSetting:
    """A table, or the figure, for one bundle.

    Args:
        table: ``"table1"`` to ``"table6"``, or ``"figure2"``.
        title: heading.
        bundle: dataset and network, such as ``"synapse_unetr"``.
        measurements: the attacks; rows, or columns of Table 6.
        hardenings: the robust models of Table 6, its rows.
        metrics: columns, but of Table 6.
        varied: config ids that the table is about, which an override would spoil.
        digits: decimals of the paper's values.
    """

    table: str
    title: str
    bundle: str
    measurements: Sequence[Measurement]
    hardenings: Sequence[Hardening] = ()
    metrics: Sequence[str] = ("dsc", "lpips")
    varied: Sequence[str] = ()
    digits: int = 2


def bundle_name_of(folder: Path, given: str | None = None) -> str:
    """Return the dataset and network of a bundle, by the name of its folder unless it is given.

    Raises:
        ValueError: if it is none of the paper's.
    """
    name = (folder.resolve().name if given is None else given).removesuffix("_segmentation")
    if name not in BUNDLES:
        raise ValueError(f"bundle_name must be one of {list(BUNDLES)}, got {name!r}; name it with --bundle_name.")
    return name


def paper_setting(table: str, bundle: str) -> PaperSetting:
    """Return what is to be measured for a table.

    Args:
        table: ``"table1"`` to ``"table6"``, or ``"figure2"``, which is drawn for every bundle.
        bundle: ``"synapse_unetr"``, ``"synapse_unetrpp"``, ``"acdc_unetr"`` or ``"acdc_unetrpp"``.

    Raises:
        ValueError: if the paper has no such table for this bundle.
    """
    tables = [*paper_tables(bundle), FIGURE]
    if table not in tables:
        raise ValueError(f"table must be one of {tables} for {bundle}, got {table!r}.")
    return MAKERS[table](bundle)


def _table1(bundle: str) -> PaperSetting:
    rows = [*(voxels(name, 4, name) for name in VOXEL_ATTACKS), noise(4, "gn", name="gn", title="GN")]
    rows += [vafa_2d(STEPS_2D, "vafa_2d"), vafa(20, SMALL_BLOCK, "vafa")]
    extra = [vafa_2d(STEPS, None, name="vafa_2d_steps20", title="VAFA-2D, 20 steps"), stretch()]
    measurements = [clean(), *rows, *extra, uniform(20, SMALL_BLOCK)]
    title = "Table 1. Voxel attacks and frequency attacks"
    return PaperSetting(table="table1", title=title, bundle=bundle, measurements=measurements)


def _table2(bundle: str) -> PaperSetting:
    values = (10, 20, 30, 40, 60, 80)
    rows = [vafa(q, SMALL_BLOCK, f"vafa_q{q}", title=f"VAFA, q_max = {q}") for q in values]
    extra = [stretch(), *(uniform(q, SMALL_BLOCK, f"_q{q}", f", q = {q}") for q in values), noise(4)]
    title, measurements = "Table 2. Impact of q_max on VAFA", [clean(), *rows, *extra]
    return PaperSetting(table="table2", title=title, bundle=bundle, measurements=measurements, varied=["q_max"])


def _table3(bundle: str) -> PaperSetting:
    counts = (10, 20, 30, 40, 50, 60)
    rows = [vafa(20, SMALL_BLOCK, f"vafa_steps{n}", steps=n, title=f"VAFA, {n} steps") for n in counts]
    extra = [stretch(), uniform(20, SMALL_BLOCK), noise(4)]
    title, measurements = "Table 3. Impact of the number of steps on VAFA", [clean(), *rows, *extra]
    return PaperSetting(table="table3", title=title, bundle=bundle, measurements=measurements, varied=["attack_steps"])


def _table4(bundle: str) -> PaperSetting:
    edges = (4, 8, 16, 32, 48, 96)
    rows = [vafa(20, n, f"vafa_block{n}", title=f"VAFA, block {n}") for n in edges]
    extra = [stretch(), *(uniform(20, n, f"_block{n}", f", block {n}") for n in edges), noise(4)]
    title, measurements = "Table 4. Impact of the patch size on VAFA", [clean(), *rows, *extra]
    return PaperSetting(table="table4", title=title, bundle=bundle, measurements=measurements, varied=["block_size"])


def _table5(bundle: str) -> PaperSetting:
    rows = [
        voxels(attack, n, f"{attack}_eps{n}", name=f"{attack}_eps{n}", title=f"{attack.upper()} (ε = {n})")
        for attack in VOXEL_ATTACKS
        for n in (4, 8)
    ]
    rows += [noise(n, f"gn_std{n}", name=f"gn_std{n}", title=f"GN ({SIGMA} = {n})") for n in (4, 8)]
    rows += [vafa(q, BLOCK, f"vafa_q{q}", title=f"VAFA (q_max = {q})") for q in (20, 30)]
    extra = [stretch(), *(uniform(q, BLOCK, f"_q{q}", f", q = {q}") for q in (20, 30))]
    return PaperSetting(
        table="table5",
        title="Table 5. VAFA and voxel attacks",
        bundle=bundle,
        measurements=[clean(), *rows, *extra],
        metrics=("dsc", "hd95", "lpips"),
        varied=["eps", "q_max"],
        digits=1,
    )


def _table6(bundle: str) -> PaperSetting:
    levels, q_max = _budgets(bundle)
    columns = [clean(), *(voxels(name, levels, name) for name in VOXEL_ATTACKS), vafa(q_max, BLOCK, "vafa")]
    known = {one.key: one for one in _hardenings(levels, q_max)}
    return PaperSetting(
        table="table6",
        title="Table 6. Attacks on adversarially trained models",
        bundle=bundle,
        measurements=[*columns, stretch(), uniform(q_max, BLOCK), noise(levels)],
        hardenings=[known[key] for key in paper_keys("table6", bundle)],
        metrics=("dsc",),
        varied=["clean_weight", "consistency_weight"],
    )


def _hardenings(levels: int, q_max: int) -> list[Hardening]:
    """Return the six robust models of Table 6, whatever the dataset."""
    attacks = [(name, name, voxels(name, levels, None)) for name in VOXEL_ATTACKS]
    attacks += [("gn", "gaussian_noise", noise(levels))]
    models = [
        Hardening(
            key=key,
            title=f"M_{key.upper()}",
            overlays=[*RECIPE, f"attacks/{overlay}"],
            overrides={**attack.overrides, **ADVERSARIAL_ONLY},
            setting=f"trained on {key.upper()}, attacked windows only",
        )
        for key, overlay, attack in attacks
    ]
    trained_on = vafa(q_max, BLOCK, None).overrides  # the recipe brings the attack itself
    terms = "clean and attacked windows and their frequency consistency"
    kinds = (("vafa", ADVERSARIAL_ONLY, "attacked windows only"), ("vafa_fr", EVERY_TERM, terms))
    for key, weights, words in kinds:
        title, setting = f"M_{key.upper().replace('_', '-')}", f"trained on VAFA, {words}"
        overrides = {**trained_on, **weights}
        models.append(Hardening(key=key, title=title, overlays=RECIPE, overrides=overrides, setting=setting))
    return models


def _figure2(bundle: str) -> PaperSetting:
    levels, q_max = _budgets(bundle)
    shown = [*(voxels(name, levels, name) for name in VOXEL_ATTACKS), noise(levels, "gn")]
    shown += [vafa(q_max, BLOCK, "vafa", name="vafa_authors")]  # names that the figure knows
    title = "Figure 2. Segmentation under different attacks"
    return PaperSetting(table=FIGURE, title=title, bundle=bundle, measurements=[clean(), *shown], metrics=("dsc",))


def _budgets(bundle: str) -> tuple[int, int]:
    """Return the paper's eps in gray levels and q_max for the dataset of a bundle."""
    return BUDGETS[bundle.partition("_")[0]]


MAKERS: Mapping[str, Callable[[str], PaperSetting]] = MappingProxyType(
    {
        "table1": _table1,
        "table2": _table2,
        "table3": _table3,
        "table4": _table4,
        "table5": _table5,
        "table6": _table6,
        FIGURE: _figure2,
    }
)
