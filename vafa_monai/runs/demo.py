"""The demo: a real brain MRI, a standard and a hardened model, every attack on both, one report."""

from __future__ import annotations

import shlex
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import vafa_monai
from vafa_monai.data.files import read_json, sha256, write_json
from vafa_monai.data.mni152 import prepare_mni152
from vafa_monai.reports.build import build_report
from vafa_monai.results.document import parse
from vafa_monai.results.record import DemoState
from vafa_monai.results.result import load_result
from vafa_monai.runs.audit import BundleAudit
from vafa_monai.runs.bundle_run import BundleRun, digest, run_facts
from vafa_monai.runs.run_log import RunLog
from vafa_monai.runs.shipped import copy_bundle
from vafa_monai.runs.work import claimed, require_own, whole_or_aside

__all__ = ["Demo", "DemoSettings"]

BUNDLE = "mni152_unetr_segmentation"
RECIPE = "mixed"
MODELS = {"standard": "model.pt", "hardened": f"model_{RECIPE}.pt"}
CONTROLS = ("identity", "identity_stretch", "uniform_quantization", "gaussian_noise")
ATTACKS = ("fgsm", "pgd", "frequency_pgd", "vafa_2d", "vafa_paper", "vafa_authors", "vafa_audit", "ensemble")
NOISE_OF = "vafa_authors"  # the attack whose change is drawn as noise
SHORTER = {"attack#steps": 20, "attack#queries": 200}  # of the ensemble; its name says so
MATCHED_NOISE = "gaussian_noise_rms"
AUDIT = {  # fewer points of a curve and repeats than an audit has by itself, to end in minutes
    "restarts": 2,
    "eps_curve": (0, 2 / 255, 4 / 255, 16 / 255, 1),
}
QUICK_AUDIT = {
    "steps": 2,
    "queries": 2,
    "restarts": 2,
    "eps_curve": (0, 4 / 255, 1),
    "steps_curve": (1, 2),
}
LAST_SEED = 2**32 - 1  # of numpy
TITLE = "Adversarial robustness of a brain MRI segmentation, before and after hardening"


@dataclass(frozen=True, kw_only=True)
class DemoSettings:
    """What makes one demo differ from another.

    Args:
        seed: seed of the training, of the random attacks and of the noise.
        quick: a smoke run of seconds, on two cases with two attack steps after eight iterations of training.
        audit: audit both models at the end; ``None`` does unless it is a smoke run.

    Raises:
        ValueError: if the seed is none that all random generators take.
    """

    seed: int = 0
    quick: bool = False
    audit: bool | None = None

    def __post_init__(self) -> None:
        """Refuse a seed that the last step would stumble over."""
        if isinstance(self.seed, bool) or not isinstance(self.seed, int) or not 0 <= self.seed <= LAST_SEED:
            raise ValueError(f"seed must be a whole number from 0 to {LAST_SEED}, got {self.seed!r}.")

    def training(self) -> dict[str, Any]:
        """Return what a training run is told beside its paths."""
        shorter = {"epochs": 1, "windows_per_epoch": 16, "val_interval": 1} if self.quick else {}
        return {"seed": self.seed, **shorter}

    def evaluation(self) -> dict[str, Any]:
        """Return what an evaluation is told beside its paths."""
        return {"seed": self.seed, **({"num_cases": 2, "attack_steps": 2} if self.quick else {})}

    def ensemble(self) -> dict[str, Any]:
        """Return what an evaluation under the attack ensemble is told more."""
        return dict.fromkeys(SHORTER, 2) if self.quick else SHORTER

    def audit_settings(self) -> dict[str, Any]:
        """Return what an audit is told."""
        return {"seed": self.seed, **(QUICK_AUDIT if self.quick else AUDIT)}


class Demo:
    """Run the demo in a folder; what is done already is not done again.

    ``demo.json`` says of every model and result what it was made of; what does not agree with it is made again.

    Args:
        output: folder of the data, the bundle with its models, and the report.
        settings: seed and length.
        say: what is told of every step, line by line.

    Raises:
        ValueError: if the folder holds something else or a demo with other settings; when run, if another process is
            at it.
    """

    def __init__(self, output: str | Path, settings: DemoSettings, say: Callable[[str], None]) -> None:
        self.output = Path(output).resolve()
        self.settings = settings
        self.say = say
        self.bundle = self.output / BUNDLE
        self.state_file = self.output / "demo.json"
        self.log = RunLog(self.output / "demo.log", say)
        require_own(self.output, "demo", self.state_file)
        found = self._state().get("settings", self._wanted())
        if found != self._wanted():
            raise ValueError(f"output must hold a demo with the settings {self._wanted()}, got one with {found}.")

    @property
    def results(self) -> Path:
        """The folder of the results."""
        return self.bundle / "eval" / "results"

    def run(self) -> dict[str, Path]:
        """Do every step that is left.

        Returns:
            The paths of the report's files by name.
        """
        with claimed(self.output, "demo"), self.log:
            return self._run()

    def _run(self) -> dict[str, Path]:
        """Do the steps, with the log file open."""
        if not self._state():
            write_json(self.state_file, {"settings": self._wanted(), "done": {}})
        self.say(f"data: {self.output / 'data'} (MNI152 T1, 1 mm, from nilearn)")
        prepare_mni152(self.output / "data")
        self._copy_bundle()
        self.say(f"bundle: cd {self.bundle}")
        self._train("standard", [])
        self._train("hardened", ["harden", f"hardening/{RECIPE}"])
        for model in MODELS:
            for attack in (*CONTROLS, *ATTACKS):
                shorter = self.settings.ensemble() if attack == "ensemble" else {}
                self._evaluate(model, attack, [f"attacks/{attack}"], **shorter)
        for model in MODELS:
            self._match_noise(model)
        if self.settings.audit or (self.settings.audit is None and not self.settings.quick):
            self._audit()
        return build_report(
            self.results,
            self.output,
            title=TITLE,
            commands=self.log.commands,
            settings=self._wanted(),
            data_note=self._data_note(),
        )

    def _wanted(self) -> dict[str, Any]:
        return {**asdict(self.settings), "vafa_monai": vafa_monai.__version__}

    def _state(self) -> dict[str, Any]:
        """Return what is done, empty if nothing is or nobody can tell."""

        def read(path: Path) -> dict[str, Any]:
            parse(DemoState, found := dict(read_json(path, "demo.json")), str(path))
            return found

        return whole_or_aside(self.state_file, read, self.say) or {}

    def _copy_bundle(self) -> None:
        """Copy the bundle without what was trained in a checkout: whole or not at all."""
        if self.bundle.is_dir():
            return
        copy_bundle(BUNDLE, self.output)

    def _facts(self, run: BundleRun, **files: Path) -> dict[str, Any]:
        """Return what a step is made of: configs, overrides, the contents of the data and of more files."""
        data = self.output / "data"
        cases = {str(path.relative_to(data)): sha256(path) for path in sorted(data.rglob("*.nii.gz"))}
        return {
            **run_facts(run, data / "dataset.json"),
            "data": digest(cases),
            **{name: sha256(path) if path.is_file() else None for name, path in files.items()},
        }

    def _is_done(self, name: str, facts: dict[str, Any]) -> bool:
        return self._state().get("done", {}).get(name) == digest(facts)

    def _mark(self, name: str, facts: dict[str, Any]) -> None:
        """Record what a step was made of, after it was done."""
        done = {**self._state().get("done", {}), name: digest(facts)}
        write_json(self.state_file, {"settings": self._wanted(), "done": done})

    def _start(self, overlays: list[str], overrides: dict[str, Any]) -> BundleRun:
        """Tell which command comes next."""
        overrides = {"dataset_dir": str(self.output / "data"), **overrides}
        run = BundleRun(bundle=self.bundle, overlays=overlays, overrides=overrides)
        self.log.announce(run)
        return run

    def _train(self, model: str, overlays: list[str]) -> None:
        """Train one model, or go on with it."""
        run = self._start(overlays, self.settings.training())
        file = self.bundle / "models" / MODELS[model]
        pretrained = {"pretrained": self.bundle / "models" / MODELS["standard"]} if overlays else {}
        if self._is_done(model, self._facts(run, model=file, **pretrained)):
            self.say("  done before")
            return
        run.check()
        state = self.log.run(run, "train#trainer")
        self._mark(model, self._facts(run, model=file, **pretrained))
        self.say(f"  {model} model: {state.iteration} iterations, {file}")

    def _evaluate(self, model: str, attack: str, overlays: list[str], **overrides: Any) -> dict[str, Any]:
        """Attack one model, unless this very checkpoint was, on these data; return the result."""
        checkpoint = self.bundle / "models" / MODELS[model]
        names = {"ckpt_path": f"models/{checkpoint.name}", "model_name": model, **overrides}
        run = self._start(["evaluate", *overlays], {**names, **self.settings.evaluation()})
        path, facts = self.results / model / f"{attack}.json", self._facts(run, checkpoint=checkpoint)
        found = self._found(path)
        if found and self._is_done(f"{model}/{attack}", facts):
            self.say("  done before")
            return found
        absolute = {**run.overrides, "ckpt_path": str(checkpoint)}
        self.log.run(replace(run, overrides=absolute), "validate#evaluator")
        self._mark(f"{model}/{attack}", facts)
        found = self._found(path)
        summary = found["summary"]
        change = f"{summary['rms_grey']:.1f} gray levels rms"
        self.say(f"  DSC {summary['dice']:.3f}, change {change}, {found['seconds']:.0f} s")
        return found

    def _found(self, path: Path) -> dict[str, Any]:
        """Return a result, empty if there is none; a damaged one is set aside."""
        found = whole_or_aside(path, partial(load_result, results_dir=self.results), self.log.detail)
        return {} if found is None else dict(found.document)

    def _audit(self) -> None:
        """Audit both models, unless that was done; the documents lie beside the results."""
        files = {model: f"models/{name}" for model, name in MODELS.items()}
        words = {"bundle": self.bundle, "dataset_dir": self.output / "data", "checkpoint": ",".join(files.values())}
        settings = {"model_names": ",".join(files), **self.settings.audit_settings(), **self._audited_cases()}
        flags = [word for name, value in {**words, **settings}.items() for word in (f"--{name}", str(value))]
        command = shlex.join(["vafa-monai", "audit", *flags])
        self.say(f"$ {command}")
        BundleAudit(
            bundle=self.bundle,
            dataset_dir=self.output / "data",
            checkpoints=list(files.values()),
            labels={file: model for model, file in files.items()},
            settings=self.settings.audit_settings(),
            overrides=self._audited_cases(),
            command=command,
            say=self.log.detail,
        ).run()

    def _audited_cases(self) -> dict[str, Any]:
        return {"num_cases": 2} if self.settings.quick else {}

    def _match_noise(self, model: str) -> None:
        """Attack with the Gaussian noise whose change is as large as that of VAFA.

        Clipping makes noise smaller in air; how much, the noise of 4 gray levels has shown.
        """
        target = self._result(model, NOISE_OF)["summary"]["rms_grey"]
        noise = self._result(model, "gaussian_noise")
        std = target / noise["summary"]["rms_grey"] * noise["attack"]["settings"]["std"]
        overrides = {"attack_name": MATCHED_NOISE, "attack#std": round(std, 5)}
        self._evaluate(model, MATCHED_NOISE, ["attacks/gaussian_noise"], **overrides)

    def _result(self, model: str, attack: str) -> dict[str, Any]:
        return read_json(self.results / model / f"{attack}.json", "result")

    def _data_note(self) -> str:
        """Tell what was measured on, and that a real audit measures more."""
        cases = self._result("standard", "identity")["cases"]
        description = read_json(self.output / "data" / "dataset.json", "datalist").get("description", "")
        steps = self._result("standard", "vafa_audit")["attack"]["settings"]["steps"]
        measured = f"Measured on {len(cases)} windows of 32 x 32 x 32 mm with {steps} attack steps"
        return f"{description} {measured}, on one brain and one seed: fewer windows and steps than a real audit."
