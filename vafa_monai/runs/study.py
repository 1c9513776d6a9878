"""A study of recipes: every model is trained, then all are attacked alike on the test cases, and one report is made."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import vafa_monai
from vafa_monai.data.files import read_json, require_writable, sha256, write_json
from vafa_monai.data.overlap import require_apart
from vafa_monai.reports.study import HEADLINE, STANDARD, StudyModel, StudyPoint, study_document, write_study
from vafa_monai.results.attack_name import CLEAN
from vafa_monai.results.document import parse
from vafa_monai.results.provenance import listed_files, listed_name
from vafa_monai.results.record import ModelTraining
from vafa_monai.results.result import Result, load_result, parse_result
from vafa_monai.runs.benchmark import OWN, Benchmark
from vafa_monai.runs.bundle_model import BundleModel
from vafa_monai.runs.bundle_run import PLACES, BundleRun, digest, hardening_overlays, run_facts
from vafa_monai.runs.override import RULES, is_known, refuse_taken, require_known
from vafa_monai.runs.run_log import CostTally, RunLog
from vafa_monai.runs.work import Item, Processes, Work, WorkOutcome, claimed, require_own, whole_or_aside

__all__ = ["ATTACKS", "STRENGTHS", "Study"]

ATTACKS = (CLEAN, "pgd", "apgd", "frequency_pgd", "vafa_authors", "vafa_audit", HEADLINE)
STRENGTHS = (0.5, 1.0, 2.0, 4.0)
CURVES = {"pgd": "radius", "frequency_pgd": "q_max"}  # the id of the strength of an attack
GRAY = {"radius": 255.0, "q_max": 1.0}  # gray levels in one unit of that id
TAKEN: tuple[str, ...] = (*PLACES, "attack_name", "output_dir", "pretrained_file", "radius", "recipe_name")
TAKEN += ("resume", "resume_dir", "seed")
TOLD = ("model", "recipe", "seed", "sha256", "iterations", "cost")
PARTS = {"training": "train#data", "validation": "validate#data"}
GROWING = ("recipes", "seeds", "attacks", "strengths", "configs")  # settings that may be more before the first attack
SCORES = ("val_robust_score", "val_mean_dice", "val_mean_dice_adv")


@dataclass(frozen=True, kw_only=True)
class Study:
    """Train a standard model a seed and harden it by every recipe; then attack all models alike on the test cases.

    Before the last model is trained, test cases are only compared with those of the other parts, so that none is in
    two; every figure is computed once. With ``train_only`` the study ends before its first attack and tells how each
    model did on the validation cases; until that attack, recipes, seeds and attacks may be chosen anew, after it the
    settings are fixed. What is done is not done again, so that a study that was killed goes on; ``torchrun`` shares
    trainings and cases among processes. The bundle is only read. An override of an id of ``train.json`` holds for all
    runs, but not where a recipe or ``harden.json`` says it otherwise (``epochs``: use ``hardening#epochs``); any other
    is one of the attacks on the test cases.

    Args:
        bundle: folder of the bundle.
        dataset_dir: folder of the data.
        recipes: names of recipes, of ``configs/hardening``.
        seeds: seeds of the trainings, each of which makes one model a recipe.
        output: folder of models, records and report.
        attacks: names of attacks, of ``configs/attacks``; ``identity`` and ``ensemble`` among them.
        strengths: for the curves, multiples of the strength of the bundle, above 0; none draws no curves.
        overrides: config ids and values.
        title: title of the report.
        train_only: end when all models are trained, without a look at a test case.
        say: told of every step, line by line.

    Raises:
        ValueError: if a recipe, an attack or the bundle is not there, a value cannot be, or the folder holds something
            else or a study with other settings.
    """

    bundle: Path
    dataset_dir: Path
    recipes: Sequence[str]
    output: Path
    seeds: Sequence[int] = (0,)
    attacks: Sequence[str] = ATTACKS
    strengths: Sequence[float] = STRENGTHS
    overrides: Mapping[str, Any] = field(default_factory=dict)
    title: str = "Recipes of hardening"
    train_only: bool = False
    say: Callable[[str], None] = field(default=logging.getLogger(__name__).info, repr=False)

    def __post_init__(self) -> None:
        """Refuse what cannot be, before anything runs."""
        for name in ("bundle", "dataset_dir", "output"):
            object.__setattr__(self, name, Path(getattr(self, name)).resolve())
        self._refuse_impossible()
        refuse_taken(self.overrides, TAKEN)
        evaluation = self.runs()[-1].config
        require_known(evaluation, [name for name in self.overrides if not is_known(self._standard.config, name)])
        require_own(self.output, "study", self.settings_file)
        self._require_same()

    def _refuse_impossible(self) -> None:
        """Refuse values that no study has."""
        for name, values in (("recipes", self.recipes), ("seeds", self.seeds), ("attacks", self.attacks)):
            if not values or len(set(values)) < len(values):
                raise ValueError(f"{name} must be at least one, all different, got {list(values)!r}.")
        rule, holds = RULES["seed"]
        for seed in self.seeds:
            if not holds(seed):
                raise ValueError(f"seeds must each be {rule}, got {seed!r}.")
        if not {CLEAN, HEADLINE} <= set(self.attacks):
            raise ValueError(f"attacks must have {CLEAN} and {HEADLINE} among them, got {list(self.attacks)!r}.")
        if STANDARD in self.recipes:
            raise ValueError(f"recipes must leave the name {STANDARD} to the model before them, got it.")
        if not all(isinstance(one, (int, float)) and 0 < one < float("inf") for one in self.strengths):
            raise ValueError(f"strengths must be numbers above 0, got {list(self.strengths)!r}.")

    @property
    def settings_file(self) -> Path:
        """The file that says what the folder belongs to."""
        return self.output / "settings.json"

    @property
    def benchmark_folder(self) -> Path:
        """Where the attacks on the test cases are; from then on the settings are fixed."""
        return self.output / "benchmark"

    @property
    def models(self) -> list[StudyModel]:
        """All models, the standard ones first."""
        return [StudyModel(recipe=recipe, seed=seed) for recipe in (STANDARD, *self.recipes) for seed in self.seeds]

    def runs(self) -> list[BundleRun]:
        """Return the training of every model, then the evaluation of each attack."""
        return list(self._runs)

    @cached_property
    def _runs(self) -> list[BundleRun]:
        overlays = [["evaluate", f"attacks/{attack}"] for attack in self.attacks]
        evaluations = [BundleRun(bundle=self.bundle, overlays=one, overrides=self._evaluation) for one in overlays]
        return [*map(self.training_run, self.models), *evaluations]

    @cached_property
    def _standard(self) -> BundleRun:
        """The chain of the standard model, without overrides."""
        return BundleRun(bundle=self.bundle)

    @property
    def _evaluation(self) -> dict[str, Any]:
        """The overrides of the attacks."""
        mine = {name: value for name, value in self.overrides.items() if name.split("#")[0] not in OWN}
        return {**mine, "dataset_dir": str(self.dataset_dir)}

    def _of_trainings(self, overrides: Mapping[str, Any]) -> dict[str, Any]:
        """Return the overrides that trainings know; the others are of the attacks alone."""
        return {name: value for name, value in overrides.items() if is_known(self._standard.config, name)}

    def checkpoint(self, model: StudyModel) -> Path:
        """Return the file of the weights of a model."""
        return self.output / "models" / f"{model.label}.pt"

    def record_file(self, model: StudyModel) -> Path:
        """Return the file that says how a model was trained."""
        return self.output / "training" / f"{model.label}.json"

    def training_run(self, model: StudyModel) -> BundleRun:
        """Return the run that trains a model."""
        places = {
            "dataset_dir": str(self.dataset_dir),
            "ckpt_dir": str(self.output / "models"),
            "output_dir": str(self.output / "training"),
            "model_file": f"{model.label}.pt",
            "seed": model.seed,
        }
        known = self._of_trainings(self.overrides)
        if model.recipe == STANDARD:
            return BundleRun(bundle=self.bundle, overrides={**known, **places})
        places["pretrained_file"] = str(self.checkpoint(StudyModel(recipe=STANDARD, seed=model.seed)))
        overlays = hardening_overlays(self.bundle, model.recipe)
        said = [key for one in overlays for key in read_json(self.bundle / "configs" / f"{one}.json", "config")]
        kept = {name: value for name, value in known.items() if not _is_said(name, said)}
        return BundleRun(bundle=self.bundle, overlays=overlays, overrides={**kept, **places})

    @cached_property
    def parts(self) -> dict[str, list[Mapping[str, Any]]]:
        """The cases of each part, as the configs list them; of the test part all, however few are attacked."""
        chains = [(part, name, self.training_run(self.models[0])) for part, name in PARTS.items()]
        all_cases = {name: value for name, value in self._evaluation.items() if name != "num_cases"}
        chains.append(("test", "validate#data", replace(self.runs()[-1], overrides=all_cases)))
        return {part: run.workflow().parser.get_parsed_content(name) for part, name, run in chains}

    @cached_property
    def settings(self) -> dict[str, Any]:
        """What makes one study differ from another, as JSON; a study that was moved is the same."""
        paths = sorted({path for run in self.runs() for path in run.configs})
        told = {name: getattr(self, name) for name in ("recipes", "seeds", "attacks", "strengths", "overrides")}
        content = {
            **told,
            "configs": {path: digest(read_json(self.bundle / path, "config")) for path in paths},
            "cases": {part: digest({"cases": [*map(_content, cases)]}) for part, cases in self.parts.items()},
            "vafa_monai": vafa_monai.__version__,
        }
        return dict(json.loads(json.dumps(content, default=str)))

    def _require_same(self) -> None:
        """Refuse a folder of other settings."""
        found = whole_or_aside(self.settings_file, partial(read_json, what="settings of the study"), self.say)
        names = [one for one in {**found, **self.settings} if not self._may_follow(one, found)] if found else []
        if names:
            rule = "hold a study with the same settings"
            raise ValueError(f"output must {rule}, got {str(self.output)!r}, made with other {' and '.join(names)}.")

    def _may_follow(self, name: str, found: Mapping[str, Any]) -> bool:
        """Tell whether a setting is what was found, or may be another as long as no test case was attacked."""
        before, now = found.get(name), self.settings.get(name)
        if name == "overrides" and not self.benchmark_folder.exists():  # those of the attacks may still be chosen
            before, now = (self._of_trainings(one or {}) for one in (before, now))
        if before == now or self.benchmark_folder.exists() or name not in GROWING:
            return bool(before == now)
        known: Mapping[str, str] = (before or {}) if name == "configs" else {}
        return all(self.settings["configs"].get(path, content) == content for path, content in known.items())

    def run(self) -> WorkOutcome:
        """Do what is left.

        Returns:
            The files of the report and what failed; in all processes but the first nothing.

        Raises:
            ValueError: if another process is at the folder, or a training failed.
        """
        require_writable(self.settings_file)
        group = Processes.launched(self.say)
        with claimed(self.output, "study", group.rank):
            return self._run(group)

    def _run(self, group: Processes) -> WorkOutcome:
        """Train, meet, attack, and report."""
        if group.rank == 0:
            write_json(self.settings_file, self.settings)
        group.meet("claimed", begins=True)
        require_apart(self.parts)
        self.training_run(self.models[0]).check()
        steps = [[one for one in self.models if (one.recipe == STANDARD) is standard] for standard in (True, False)]
        with RunLog(self.output / f"study.{group.rank}.log", self.say) as log:
            mine = [[self._training(model, log) for model in models[group.rank :: group.ranks]] for models in steps]
            work = Work([item for items in mine for item in items], log)
            for number, models in enumerate(steps):  # the standard ones, which the others start from
                for item in mine[number]:
                    work.do(item)
                group.meet(f"trained {number}")
                self._require_trained(models, work.failures)
        if self.train_only:
            for model in self.models if group.rank == 0 else []:
                self.say(f"{model.label}: {self._validated(model)}")
            return WorkOutcome()
        return self._attack(group)

    def _validated(self, model: StudyModel) -> str:
        """Say how the weights that were kept did on the validation cases."""
        path = self.checkpoint(model).with_suffix(".training.json")
        selection = parse(ModelTraining, read_json(path, "training record"), path.name).selection
        best = selection["best"]["epoch"]
        (kept,) = [one for one in selection["validations"] if one["epoch"] == best]
        figures = ", ".join(f"{name} {kept[name]:.4f}" for name in SCORES if kept.get(name) is not None)
        return f"{figures} after epoch {best} of {selection['epochs']}"

    def _training(self, model: StudyModel, log: RunLog) -> Item[dict[str, Any]]:
        """Return the work that trains a model, or goes on with it, to its record."""
        return Item(
            key=model.label,
            kind=model.recipe,
            find=partial(self._trained, model),
            make=partial(self._train, model, log),
            told=lambda _, left: f"{model.label}: trained ({left})",
            before=lambda *_: f"{model.label}: done before",
        )

    def _trained(self, model: StudyModel) -> dict[str, Any] | None:
        """Return the record of a model that was trained just so."""
        record, weights = self._record(model), self.checkpoint(model)
        whole = weights.is_file() and record.get("sha256") == sha256(weights)
        return record if whole and record.get("made_of") == self._made_of(model) else None

    def _made_of(self, model: StudyModel) -> str:
        """Return a hash of what a model is made of, the weights that it starts from among it."""
        run = self.training_run(model)
        start = {"start": sha256(run.overrides["pretrained_file"])} if model.recipe != STANDARD else {}
        return digest({**run_facts(run, self._datalist), "cases": self.settings["cases"], **start, "seed": model.seed})

    def _train(self, model: StudyModel, log: RunLog) -> dict[str, Any]:
        """Train one model, or go on with it; return its record."""
        run, made_of = self.training_run(model), self._made_of(model)
        self.record_file(model).unlink(missing_ok=True)  # so that no process takes what is there for done
        log.announce(run)
        tally = CostTally(self.output / "training" / f"{model.label}.cost.json", made_of)
        state = log.run(run, "train#trainer", watch=tally.attach)
        record = {"model": model.label, "recipe": model.recipe, "seed": model.seed, "made_of": made_of}
        record |= {"sha256": sha256(self.checkpoint(model)), "iterations": state.iteration, "cost": tally.total()}
        write_json(self.record_file(model), record)
        return record

    @cached_property
    def _datalist(self) -> Path:
        return Path(self.training_run(self.models[0]).workflow().parser.get_parsed_content("datalist"))

    def _record(self, model: StudyModel) -> dict[str, Any]:
        """Return how a model was trained, empty if nobody can tell."""
        read = partial(read_json, what="record of the training")
        return whole_or_aside(self.record_file(model), read, self.say) or {}

    def _require_trained(self, models: Sequence[StudyModel], failed: Mapping[str, str]) -> None:
        """Refuse to go on without all models."""
        missing = [model.label for model in models if not self.record_file(model).is_file()]
        if failed or missing:
            why = next(iter(failed.values()), f"see the logs in {str(self.output)!r}")
            name = next(iter([*failed, *missing]))
            raise ValueError(f"models must all be trained before the attacks, got a failure of {name}: {why}")

    def _attack(self, group: Processes) -> WorkOutcome:
        """Attack all models in the same way; the first process writes the report."""
        points = list(self._curve_points())
        benchmark = Benchmark(
            bundle=self.bundle,
            dataset_dir=self.dataset_dir,
            attacks=self.attacks,
            checkpoints=[str(self.checkpoint(model)) for model in self.models],
            output=self.benchmark_folder,
            overrides=self._evaluation,
            more=[run for *_, run in points],
            report=False,
            say=self.say,
        )
        outcome = benchmark.run(group)
        if group.rank:
            return WorkOutcome()
        results = [one for run in benchmark.settings() if (one := self._result(run)) is not None]
        measured = [
            StudyPoint(model=model, attack=run.attack, strength=gray, result=parse_result(dict(one), run.attack))
            for (model, gray, run), one in zip(points, outcome.more, strict=True)
            if one is not None
        ]
        at_bundle = {attack: GRAY[name] * self._strength(attack) for attack, name in self._curves().items()}
        document = study_document(
            title=self.title,
            models=[model.trained(self._record(model)) for model in self.models],
            results=results,
            points=measured,
            strengths=at_bundle,
            settings=self.settings,
            runs=[*self._trainings(), *self._evaluations(benchmark)],
            failures=outcome.failures,
        )
        return WorkOutcome(files=write_study(document, self.output), failures=outcome.failures)

    def _curves(self) -> dict[str, str]:
        """Return the attacks that have a curve, with the id of their strength."""
        return {attack: name for attack, name in CURVES.items() if attack in self.attacks and self.strengths}

    def _attacked(self, model: StudyModel, attack: str, **changes: Any) -> BundleModel:
        overrides = {**self._evaluation, **changes}
        return BundleModel(bundle=self.bundle, checkpoint=self.checkpoint(model), attack=attack, overrides=overrides)

    def _strength(self, attack: str) -> float:
        """Return the strength that the bundle has for an attack."""
        return float(self._attacked(self.models[0], attack).get(CURVES[attack]))

    def _curve_points(self) -> Iterator[tuple[StudyModel, float, BundleModel]]:
        """Yield the runs of all curves with model and strength in gray levels; the bundle's is measured anyway."""
        for attack, name in self._curves().items():
            base = self._strength(attack)
            for model in self.models:
                for value in [base * factor for factor in self.strengths if factor != 1]:
                    yield model, GRAY[name] * value, self._attacked(model, attack, **{name: value})

    def _result(self, run: BundleModel) -> Result | None:
        """Return a result of the benchmark, if a case could be measured."""
        folder = self.benchmark_folder / "results"
        path = folder / run.model / f"{run.attack}.json"
        return load_result(path, folder) if path.is_file() else None

    def _trainings(self) -> list[dict[str, Any]]:
        """Return what is told of each training."""
        told = [({name: self._record(model)[name] for name in TOLD}, model) for model in self.models]
        return [{"kind": "training", **one, "command": self.training_run(model).command()} for one, model in told]

    def _evaluations(self, benchmark: Benchmark) -> list[dict[str, Any]]:
        """Return what is told of each attack on each model."""
        runs = [*benchmark.settings(), *benchmark.more]
        told = [{"model": run.model, "attack": run.attack, "command": run.run.command()} for run in runs]
        return [{"kind": "attack on the test cases", **one} for one in told]


def _is_said(name: str, said: Sequence[str]) -> bool:
    """Tell whether overlays say an id themselves.

    Example:
        >>> _is_said("epochs", ["epochs", "+train#handlers"]), _is_said("hardening#epochs", ["epochs"])
        (True, False)
    """
    plain = name.replace("::", "#")
    return any(plain == one or plain.startswith(f"{one}#") for one in said)


def _content(case: Mapping[str, Any]) -> str:
    """Return the name of a case and the hashes of its files."""
    hashes = ["+".join(one or "missing" for one in several) for several in listed_files(case, {}).values()]
    return " ".join([listed_name(case), *hashes])
