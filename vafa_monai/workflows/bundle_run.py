"""One run of a MONAI Bundle: the command that it stands for, and the same run inside this process."""

from __future__ import annotations

import logging
import shlex
import sys
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ignite.handlers import ProgressBar
from monai.bundle import ConfigWorkflow

import vafa_monai
from vafa_monai.data import check_cases

__all__ = ["BundleRun", "shipped_bundle"]

ENGINES = {"train#trainer": "train", "validate#evaluator": "evaluate"}


def shipped_bundle(name: str) -> Path:
    """Return the folder of a bundle that comes with the package.

    Raises:
        ValueError: if there is no such bundle.
    """
    package = Path(vafa_monai.__file__).parent
    roots = [package / "bundles", package.parent / "bundles"]  # installed, or a checkout
    for root in roots:
        if (root / name / "configs").is_dir():
            return root / name
    names = sorted({path.name for root in roots if root.is_dir() for path in root.iterdir()})
    raise ValueError(f"bundle must be one of {names}, got {name!r}.")


@dataclass(frozen=True, kw_only=True)
class BundleRun:
    """A chain of configs of a bundle and what is changed in it.

    Args:
        bundle: folder of the bundle.
        overlays: names of the overlays on ``train.json``, without the ending, such as ``"attacks/pgd"``.
        overrides: config ids and their values.

    Raises:
        ValueError: if the folder is no bundle or has no such overlay.
    """

    bundle: Path
    overlays: Sequence[str] = ()
    overrides: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Refuse what is not there."""
        object.__setattr__(self, "bundle", Path(self.bundle))
        if not (self.bundle / "configs" / "train.json").is_file():
            raise ValueError(f"bundle must be a folder with configs/train.json, got {str(self.bundle)!r}.")
        for name, path in zip(self.overlays, self.configs[1:], strict=True):
            if not (self.bundle / path).is_file():
                folder = (self.bundle / path).parent
                known = sorted(file.stem for file in folder.glob("*.json")) if folder.is_dir() else []
                raise ValueError(f"overlay must be one of {known}, got {Path(name).name!r}.")

    @property
    def configs(self) -> list[str]:
        """The config files, relative to the bundle."""
        return [f"configs/{name}.json" for name in ("train", *self.overlays)]

    def command(self) -> str:
        """Return the line that does the same from the folder of the bundle."""
        files = ",".join(f"'{path}'" for path in self.configs)
        chain = self.configs[0] if len(self.configs) == 1 else f'"[{files}]"'
        flags = [word for key, value in self.overrides.items() for word in (f"--{key}", shlex.quote(str(value)))]
        return " ".join(["python -m monai.bundle run --config_file", chain, *flags])

    def workflow(self) -> ConfigWorkflow:
        """Return the workflow, parsed, with the paths of the bundle made absolute."""
        configs = self.bundle / "configs"
        logging.getLogger("monai.bundle.workflows").setLevel(logging.ERROR)  # that attacks have a folder of their own
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message="parsing config_file")  # that configs are code; ours are known
            return ConfigWorkflow(
                config_file=[str(self.bundle / path) for path in self.configs],
                meta_file=str(configs / "metadata.json") if (configs / "metadata.json").is_file() else None,
                logging_file=False,
                workflow_type="train",
                **{"bundle_root": str(self.bundle.resolve()), **self.overrides},
            )

    def run(self, progress: str) -> Any:
        """Run in this process.

        Args:
            progress: engine to show a progress bar of, on a terminal: ``"train#trainer"`` or ``"validate#evaluator"``.

        Returns:
            The state of that engine.
        """
        workflow = self.workflow()
        workflow.initialize()
        engine = workflow.parser.get_parsed_content(progress)
        terminal = sys.__stderr__ is not None and sys.__stderr__.isatty()
        bar = ProgressBar(desc=ENGINES[progress], persist=False, file=sys.__stderr__, disable=not terminal)
        bar.attach(engine, output_transform=_loss)
        workflow.run()
        workflow.finalize()
        return engine.state

    def check(self) -> None:
        """Check the cases that the run would train on, if the bundle names them; see ``check_cases``."""
        parser = self.workflow().parser
        if "train#data" not in parser or "validate#preprocessing" not in parser:
            return
        names = {"num_classes": "num_classes", "value_range": "value_range", "roi_size": "least_size"}
        known = {argument: parser.get_parsed_content(name) for argument, name in names.items() if name in parser}
        data = [*parser.get_parsed_content("train#data"), *parser.get_parsed_content("validate#data")]
        check_cases(data, preprocessing=parser.get_parsed_content("validate#preprocessing"), **known)


def _loss(output: Any) -> dict[str, float]:
    """Return the loss of an iteration, if it has one; a batch is a list of cases, or whole with deep supervision."""
    first = output[0] if isinstance(output, list) else output
    return {"loss": float(first["loss"])} if isinstance(first, dict) and "loss" in first else {}
