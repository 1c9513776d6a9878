"""The demo: a real brain MRI, a standard and a hardened model, every attack on both, one report."""

from __future__ import annotations

import json
import logging
import shlex
import shutil
from collections.abc import Callable
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import vafa_monai
from vafa_monai.data import prepare_mni152, sha256, write_json
from vafa_monai.reports import build_report
from vafa_monai.workflows.audit import BundleAudit
from vafa_monai.workflows.bundle_run import BundleRun, shipped_bundle

__all__ = ["Demo", "DemoSettings"]

BUNDLE = "mni152_unetr_segmentation"
MODELS = {"standard": "model.pt", "hardened": "model_vaft.pt"}
CONTROLS = ("identity", "identity_stretch", "uniform_quantization", "gaussian_noise")
ATTACKS = ("fgsm", "bim", "pgd", "vafa_2d", "vafa_paper", "vafa_authors", "vafa_audit")
TRAINED_ON = "vafa_authors"
MATCHED_NOISE = "gaussian_noise_rms"
QUICK_AUDIT = {
    "steps": 2,
    "queries": 2,
    "restarts": 2,
    "eps_curve": (0, 4 / 255, 1),
    "steps_curve": (1, 2),
}
TITLE = "Adversarial robustness of a brain MRI segmentation, before and after hardening"


@dataclass(frozen=True, kw_only=True)
class DemoSettings:
    """What makes one demo differ from another.

    Args:
        seed: seed of the training, of the random attacks and of the noise.
        quick: a smoke run of seconds, on two cases with two attack steps after eight iterations of training.
        audit: audit both models at the end; ``None`` does unless it is a smoke run.
    """

    seed: int = 0
    quick: bool = False
    audit: bool | None = None

    def training(self) -> dict[str, Any]:
        """Return what a training run is told beside its paths."""
        shorter = {"epochs": 1, "windows_per_epoch": 16, "val_interval": 1} if self.quick else {}
        return {"seed": self.seed, **shorter}

    def evaluation(self) -> dict[str, Any]:
        """Return what an evaluation is told beside its paths."""
        return {"seed": self.seed, **({"num_cases": 2, "attack_steps": 2} if self.quick else {})}

    def audit_settings(self) -> dict[str, Any]:
        """Return what an audit is told."""
        return {"seed": self.seed, **(QUICK_AUDIT if self.quick else {})}


class Demo:
    """Run the demo in a folder; what is done already is not done again.

    Args:
        output: folder of the data, the bundle with its models, and the report.
        settings: seed and length.
        say: what is told of every step, line by line.

    Raises:
        ValueError: if the folder holds something else or a demo with other settings.
    """

    def __init__(self, output: str | Path, settings: DemoSettings, say: Callable[[str], None]) -> None:
        self.output = Path(output).resolve()
        self.settings = settings
        self.say = say
        self.bundle = self.output / BUNDLE
        self.state_file = self.output / "demo.json"
        self.commands: list[str] = []
        self._claim()

    @property
    def results(self) -> Path:
        """The folder of the results."""
        return self.bundle / "eval" / "results"

    def run(self) -> dict[str, Path]:
        """Do every step that is left.

        Returns:
            The paths of the report's files by name.
        """
        with (self.output / "demo.log").open("a", encoding="utf-8") as self._log:
            return self._run()

    def _run(self) -> dict[str, Path]:
        """Do the steps, with the log file open."""
        logging.basicConfig(stream=self._log, level=logging.INFO, format="%(asctime)s %(name)s %(message)s", force=True)
        self.say(f"data: {self.output / 'data'} (MNI152 T1, 1 mm, from nilearn)")
        prepare_mni152(self.output / "data")
        if not self.bundle.is_dir():
            ignore = shutil.ignore_patterns("eval", "*.pt", "__pycache__")  # what was trained in a checkout
            shutil.copytree(shipped_bundle(BUNDLE), self.bundle, ignore=ignore)
        self.say(f"bundle: cd {self.bundle}")
        self._train("standard", [])
        self._train("hardened", ["vaft"])
        for model in MODELS:
            for attack in (*CONTROLS, *ATTACKS):
                self._evaluate(model, attack, [f"attacks/{attack}"])
        for model in MODELS:
            self._match_noise(model)
        if self.settings.audit or (self.settings.audit is None and not self.settings.quick):
            self._audit()
        return build_report(
            self.results,
            self.output,
            title=TITLE,
            trained_on=TRAINED_ON,
            commands=self.commands,
            settings={**asdict(self.settings), "vafa_monai": vafa_monai.__version__},
            data_note=self._data_note(),
        )

    def _claim(self) -> None:
        """Make the folder ours, or find that it is."""
        wanted = {**asdict(self.settings), "vafa_monai": vafa_monai.__version__}
        if self.state_file.is_file():
            found = json.loads(self.state_file.read_text(encoding="utf-8"))["settings"]
            if found != wanted:
                raise ValueError(f"output must hold a demo with the settings {wanted}, got one with {found}.")
        elif self.output.is_dir() and any(self.output.iterdir()):
            raise ValueError(f"output must be a new or empty folder or that of a demo, got {str(self.output)!r}.")
        else:
            write_json(self.state_file, {"settings": wanted, "done": []})

    def _done(self) -> list[str]:
        return json.loads(self.state_file.read_text(encoding="utf-8"))["done"]

    def _start(self, overlays: list[str], overrides: dict[str, Any]) -> BundleRun:
        """Tell which command comes next."""
        overrides = {"dataset_dir": str(self.output / "data"), **overrides}
        run = BundleRun(bundle=self.bundle, overlays=overlays, overrides=overrides)
        self.commands.append(run.command())
        self.say(f"$ {run.command()}")
        return run

    def _train(self, model: str, overlays: list[str]) -> None:
        """Train one model, or go on with it."""
        run = self._start(overlays, self.settings.training())
        if model in self._done():
            self.say("  done before")
            return
        run.check()
        state = self._quietly(run, "train#trainer")
        content = json.loads(self.state_file.read_text(encoding="utf-8"))
        write_json(self.state_file, {**content, "done": [*content["done"], model]})
        self.say(f"  {model} model: {state.iteration} iterations, {self.bundle / 'models' / MODELS[model]}")

    def _evaluate(self, model: str, attack: str, overlays: list[str], **overrides: Any) -> dict[str, Any]:
        """Attack one model, unless this very checkpoint was; return the result."""
        checkpoint = self.bundle / "models" / MODELS[model]
        names = {"ckpt_path": f"models/{checkpoint.name}", "model_name": model, **overrides}
        run = self._start(["evaluate", *overlays], {**names, **self.settings.evaluation()})
        path = self.results / model / f"{attack}.json"
        if path.is_file():
            found = json.loads(path.read_text(encoding="utf-8"))
            if found["checkpoint"]["sha256"] == sha256(checkpoint):
                self.say("  done before")
                return found
        absolute = {**run.overrides, "ckpt_path": str(checkpoint)}
        self._quietly(replace(run, overrides=absolute), "validate#evaluator")
        found = json.loads(path.read_text(encoding="utf-8"))
        summary = found["summary"]
        change = f"{summary['rms_grey']:.1f} grey levels rms"
        self.say(f"  DSC {summary['dice']:.3f}, change {change}, {found['seconds']:.0f} s")
        return found

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
            say=lambda line: self.say(f"  {line}"),
        ).run()

    def _audited_cases(self) -> dict[str, Any]:
        return {"num_cases": 2} if self.settings.quick else {}

    def _quietly(self, run: BundleRun, progress: str) -> Any:
        """Run with a progress bar; what the engines print goes to the log file."""
        with redirect_stdout(self._log), redirect_stderr(self._log):
            return run.run(progress=progress)

    def _match_noise(self, model: str) -> None:
        """Attack with the Gaussian noise whose change is as large as that of the attack trained on.

        Clipping makes noise smaller in air; how much, the noise of 4 grey levels has shown.
        """
        target = self._result(model, TRAINED_ON)["summary"]["rms_grey"]
        noise = self._result(model, "gaussian_noise")
        std = target / noise["summary"]["rms_grey"] * noise["attack"]["settings"]["std"]
        overrides = {"attack_name": MATCHED_NOISE, "attack#std": round(std, 5)}
        self._evaluate(model, MATCHED_NOISE, ["attacks/gaussian_noise"], **overrides)

    def _result(self, model: str, attack: str) -> dict[str, Any]:
        return json.loads((self.results / model / f"{attack}.json").read_text(encoding="utf-8"))

    def _data_note(self) -> str:
        """Tell what was measured on, and that a real audit measures more."""
        cases = self._result("standard", "identity")["cases"]
        description = json.loads((self.output / "data" / "dataset.json").read_text(encoding="utf-8"))["description"]
        steps = self._result("standard", "vafa_audit")["attack"]["settings"]["steps"]
        measured = f"Measured on {len(cases)} windows of 32 x 32 x 32 mm with {steps} attack steps"
        return f"{description} {measured}, on one brain and one seed: fewer windows and steps than a real audit."
