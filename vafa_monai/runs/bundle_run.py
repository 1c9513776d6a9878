"""One run of a MONAI Bundle: the command that it stands for, and the same run inside this process."""

from __future__ import annotations

import hashlib
import json
import logging
import shlex
import sys
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from fire.parser import DefaultParseValue
from ignite.handlers import ProgressBar
from monai.bundle import ConfigWorkflow

from vafa_monai.data.check import check_cases
from vafa_monai.data.files import read_json, sha256
from vafa_monai.runs.override import is_expression, is_text, merged_config, refuse_impossible, require_known

__all__ = ["BundleRun", "as_config", "digest", "hardening_overlays", "make_importable", "run_facts"]

ENGINES = {"train#trainer": "train", "validate#evaluator": "evaluate"}


@dataclass(frozen=True, kw_only=True)
class BundleRun:
    """A chain of configs of a bundle and what is changed in it.

    Args:
        bundle: folder of the bundle.
        overlays: names of the overlays on ``train.json``, without the ending, such as ``"attacks/pgd"``.
        overrides: config ids and their values. Those that end in ``_dir``, ``_path``, ``_name`` and the like are text
            as it is; any other text may be one of MONAI's expressions.

    Raises:
        ValueError: if the folder is no bundle or has no such overlay, if an id is in none of its configs, or if a value
            cannot be.
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
        require_known(self.config, self.overrides)
        refuse_impossible(self.overrides)

    @property
    def config(self) -> dict[str, Any]:
        """What the configs say together, before the overrides; it is not to be changed."""
        return merged_config(self.bundle / path for path in self.configs)

    @property
    def configs(self) -> list[str]:
        """The config files, relative to the bundle."""
        return [f"configs/{name}.json" for name in ("train", *self.overlays)]

    def command(self) -> str:
        """Return the line that does the same from the folder of the bundle."""
        files = ",".join(f"'{path}'" for path in self.configs)
        chain = self.configs[0] if len(self.configs) == 1 else f'"[{files}]"'
        flags = [_flag(key, as_word(key, value)) for key, value in self.overrides.items()]
        return " ".join(["python -m monai.bundle run --config_file", chain, *flags])

    def workflow(self) -> ConfigWorkflow:
        """Return the workflow, parsed, with the paths of the bundle made absolute."""
        configs = self.bundle / "configs"
        make_importable(self.bundle)
        values = {"bundle_root": str(self.bundle.resolve()), **self.overrides}
        logging.getLogger("monai.bundle.workflows").setLevel(logging.ERROR)  # that attacks have a folder of their own
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message="parsing config_file")  # that configs are code; ours are known
            return ConfigWorkflow(
                config_file=[str(self.bundle / path) for path in self.configs],
                meta_file=str(configs / "metadata.json") if (configs / "metadata.json").is_file() else None,
                logging_file=False,
                workflow_type="train",
                **{key: as_config(key, value) for key, value in values.items()},
            )

    def run(self, progress: str, watch: Callable[[Any], object] | None = None) -> Any:
        """Run in this process.

        Args:
            progress: engine to show a progress bar of, on a terminal: ``"train#trainer"`` or ``"validate#evaluator"``.
            watch: given that engine before it runs, to attach handlers to it.

        Returns:
            The state of that engine.
        """
        workflow = self.workflow()
        if progress not in workflow.parser:
            raise ValueError(f"bundle must have {progress} in its configs, got {str(self.bundle)!r}.")
        workflow.initialize()
        if progress == "train#trainer" and "training" in workflow.parser:  # refused before its data are loaded
            workflow.parser.get_parsed_content("training").check()
        engine = workflow.parser.get_parsed_content(progress)
        terminal = sys.__stderr__ is not None and sys.__stderr__.isatty()
        bar = ProgressBar(desc=ENGINES[progress], persist=False, file=sys.__stderr__, disable=not terminal)
        bar.attach(engine, output_transform=_loss)
        if watch is not None:
            watch(engine)
        workflow.run()
        workflow.finalize()
        return engine.state

    def check(self) -> None:
        """Check the cases that the run would train on, if the bundle names them; see ``check_cases``."""
        parser = self.workflow().parser
        if "train#data" not in parser or "validate#preprocessing" not in parser:
            return
        names = {"num_classes": "num_classes", "value_range": "value_range", "roi_size": "least_size"}
        names |= {"in_channels": "network_def#in_channels", "output": "output"}
        known = {argument: parser.get_parsed_content(name) for argument, name in names.items() if name in parser}
        data = [*parser.get_parsed_content("train#data"), *parser.get_parsed_content("validate#data")]
        check_cases(data, preprocessing=parser.get_parsed_content("validate#preprocessing"), **known)


def make_importable(bundle: Path) -> None:
    """Let configs import the modules in the folder of a bundle, as they do where ``monai.bundle`` runs in it.

    Those of another bundle, which have the same names, are forgotten.
    """
    own = str(bundle.resolve())
    if not (bundle / "scripts").is_dir():
        return
    if own in sys.path:
        sys.path.remove(own)
    sys.path.insert(0, own)
    known = getattr(sys.modules.get("scripts"), "__path__", None)
    if known is not None and str(bundle.resolve() / "scripts") not in known:
        for name in [one for one in sys.modules if one == "scripts" or one.startswith("scripts.")]:
            del sys.modules[name]


def hardening_overlays(bundle: Path, recipe: str) -> list[str]:
    """Return the overlays that harden by a recipe.

    Raises:
        ValueError: if the bundle has recipes, and this is none of them.
    """
    known = sorted(path.stem for path in (bundle / "configs" / "hardening").glob("*.json"))
    if known and recipe not in known:
        raise ValueError(f"recipe must be one of {known}, got {recipe!r}.")
    return ["harden", f"hardening/{recipe}"]


def _flag(name: str, word: str) -> str:
    """Return a flag and its value for a shell; a value that begins like a flag needs the equals sign."""
    return f"--{name}={shlex.quote(word)}" if word.startswith("-") else f"--{name} {shlex.quote(word)}"


def _loss(output: Any) -> dict[str, float]:
    """Return the loss of an iteration, if it has one; a batch is a list of cases, or whole with deep supervision."""
    first = output[0] if isinstance(output, list) else output
    return {"loss": float(first["loss"])} if isinstance(first, dict) and "loss" in first else {}


def as_config(name: str, value: Any) -> Any:
    r"""Return the config value whose meaning is ``value``; MONAI rewrites ``#`` and evaluates ``$`` in any text.

    Example:
        >>> as_config("dataset_dir", "/data#2"), as_config("eps", "$8 / 255"), as_config("classes", ["a", "b"])
        ("$'/data\\x232'", '$8 / 255', ['a', 'b'])
    """
    if isinstance(value, (list, tuple)):
        return [as_config("", one) for one in value]
    if isinstance(value, Mapping):
        return {key: as_config(str(key), one) for key, one in value.items()}
    if isinstance(value, Path):
        return _quoted(str(value))
    plain = isinstance(value, str) and (is_text(name) or not is_expression(value))
    return _quoted(value) if plain else value


def _quoted(text: str) -> str:
    """Return a text that MONAI takes as it is, or an expression that gives it."""
    if not (set(text) & set("#@") or text.startswith(("$", "%")) or "%::" in text):
        return text
    quoted = repr(text)
    for letter in "#@%":
        quoted = quoted.replace(letter, f"\\x{ord(letter):02x}")
    return f"${quoted}"


def as_word(name: str, value: Any) -> str:
    """Return the word that gives a value on the command line of ``monai.bundle``, before a shell's quotes.

    Example:
        >>> as_word("model_name", "1e3"), as_word("eps", 0.5), as_word("num_cases", None), as_word("output_dir", "/a b")
        ("'1e3'", '0.5', '$None', '/a b')
    """
    value = as_config(name, value)
    if value is None:
        return "$None"  # a plain None is dropped
    if not isinstance(value, str):
        return repr(value)
    parsed = DefaultParseValue(value)
    return value if isinstance(parsed, str) and parsed == value else repr(value)


PLACES = ("ckpt_dir", "ckpt_path", "model_file", "model_name", "results_dir")  # of weights and results
PLACES_AND_MEANS = (  # config ids that change where and how fast, not what
    "bundle_root",
    "dataset_dir",
    "datalist",
    "output_dir",
    "ckpt_dir",
    "ckpt_path",
    "pretrained_file",
    "model_file",
    "model_name",
    "attack_name",
    "results_dir",
    "resume_dir",
    "resume_interval",
    "save_predictions",
    "device",
    "num_workers",
    "cache_rate",
)


def run_facts(run: BundleRun, datalist: Path) -> dict[str, Any]:
    """Return what a run is made of: the contents of its configs, its overrides, the list of its cases.

    Paths, devices and workers are left out: a run that was moved is the same run.
    """
    contents = [read_json(run.bundle / path, "config") for path in run.configs]
    kept = {name: value for name, value in run.overrides.items() if name not in PLACES_AND_MEANS}
    return {
        "configs": dict(zip(run.configs, map(digest, contents), strict=True)),
        "overrides": json.loads(json.dumps(kept, default=str)),
        "datalist": sha256(datalist),
    }


def digest(content: Mapping[str, Any]) -> str:
    """Return a short hash of JSON content, whatever its layout.

    Example:
        >>> digest({"a": 1, "b": 2}) == digest({"b": 2, "a": 1})
        True
    """
    return hashlib.sha256(json.dumps(content, sort_keys=True, default=str).encode()).hexdigest()[:16]
