"""What a bundle must be to be shared: the checks of the model zoo that need no training, all faults at once."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from importlib.util import find_spec
from pathlib import Path
from pydoc import ErrorDuringImport, locate
from typing import Any, NamedTuple

import torch
import yaml
from monai.bundle import ConfigParser, ConfigWorkflow
from monai.utils import optional_import

from vafa_monai.data.checkpoint import read_checkpoint
from vafa_monai.data.files import read_json, sha256
from vafa_monai.data.weights import check_checkpoint, extract_weights, flaw
from vafa_monai.sharing.archive import folder_files
from vafa_monai.sharing.config_code import PACKAGES, component_table
from vafa_monai.sharing.file_content import require_data

__all__ = ["PackageFault", "bundle_faults"]


class PackageFault(NamedTuple):
    """One fault: the file, what is wrong, and what to do."""

    file: str
    problem: str
    remedy: str

    def __str__(self) -> str:
        """Say it in one line."""
        return f"{self.file}: {self.problem}; {self.remedy}"


Faults = Iterator[PackageFault]


def config_faults(files: dict[str, Path]) -> Faults:
    """Yield configs that are no JSON, and targets that are not there."""
    for name, path in files.items():
        if not name.startswith("configs/") or path.suffix != ".json" or path.name == "metadata.json":
            continue
        try:
            content = read_json(path, name)
        except ValueError as error:
            yield PackageFault(name, f"is no JSON object ({error.__cause__ or error})", "correct it")
            continue
        for target in sorted(set(_targets(content))):
            if not _can_be_found(target):
                yield PackageFault(name, f"names {target!r}, which cannot be found", "correct the name")


def property_faults(bundle: Path) -> Faults:
    """Yield what training and inference lack of what every bundle has."""
    for name, kind in (("train", "train"), ("inference", "infer")):
        try:
            workflow = ConfigWorkflow(
                config_file=str(bundle / "configs" / f"{name}.json"),
                meta_file=str(bundle / "configs" / "metadata.json"),
                logging_file=False,
                workflow_type=kind,
                bundle_root=str(bundle),
            )
            lacking = [one for one in _required(workflow) if one not in workflow.parser]
        except Exception as error:
            yield PackageFault(f"configs/{name}.json", f"cannot be parsed ({_first_line(error)})", "correct it")
            continue
        for one in lacking:
            yield PackageFault(f"configs/{name}.json", f"has no {one!r}", "add it; MONAI's tools ask for it")


def _required(workflow: ConfigWorkflow) -> list[str]:
    """Return the config ids that MONAI requires of this kind of workflow."""
    described = workflow.properties or {}
    return [str(one["id"]) for one in described.values() if one.get("required") and "id" in one]


def network_faults(bundle: Path, files: dict[str, Path]) -> Faults:
    """Yield what is wrong with the network: its shapes, its weights, its export."""
    try:
        parser = ConfigParser()
        parser.read_config(str(bundle / "configs" / "inference.json"))
        network = parser.get_parsed_content("network_def").eval()
        metadata = read_json(files["configs/metadata.json"], "metadata.json")
        formats = metadata["network_data_format"]
        image, pred = formats["inputs"]["image"], formats["outputs"]["pred"]
        volume = torch.zeros(1, image["num_channels"], *image["spatial_shape"])
        with torch.no_grad():
            output = network(volume)
    except Exception as error:
        problem = f"has a network that does not take what metadata.json says ({_first_line(error)})"
        yield PackageFault("configs/inference.json", problem, "make them agree")
        return
    expected = (1, pred["num_channels"], *pred.get("spatial_shape", volume.shape[2:]))
    if tuple(output.shape) != expected:
        problem = f"has a network that gives {tuple(output.shape)}, and metadata.json says {expected}"
        yield PackageFault("configs/inference.json", problem, "make them agree")
    for name in (name for name in files if name.startswith("models/") and name.endswith(".pt")):
        try:
            check_checkpoint(files[name], network)
        except ValueError as error:
            yield PackageFault(name, str(error).rstrip("."), "save the state dict of this network")
    yield from _export(network, volume, files)


def weight_faults(files: dict[str, Path]) -> Faults:
    """Yield weights that cannot be read as data or are not finite; nothing of the configs is executed."""
    for name in (name for name in files if name.startswith("models/") and name.endswith(".pt")):
        try:
            weights = extract_weights(read_checkpoint(files[name]))
        except ValueError as error:
            yield PackageFault(name, str(error).rstrip("."), "save the state dict of the network")
            continue
        if broken := flaw(weights, weights):
            yield PackageFault(name, f"must hold finite numbers, got weights {broken}", "train again")


def _export(network: torch.nn.Module, volume: torch.Tensor, files: dict[str, Path]) -> Faults:
    """Yield that the network cannot become TorchScript, unless the README says why."""
    readme = files["docs/README.md"].read_text(encoding="utf-8", errors="replace") if "docs/README.md" in files else ""
    ways: tuple[Callable[[], Any], ...] = (
        lambda: torch.jit.script(network),
        lambda: torch.jit.trace(network, volume, check_trace=False),
    )
    if "TorchScript" in readme or any(_works(way) for way in ways):
        return
    problem = "says nothing of TorchScript, to which the network cannot be exported"
    yield PackageFault("docs/README.md", problem, "state why in a sentence with that word")


def _works(way: Callable[[], Any]) -> bool:
    """Tell whether a call ends without an error."""
    try:
        way()
    except Exception:
        return False
    return True


def _targets(value: Any) -> Iterator[str]:
    """Yield every target of a config that is a plain name."""
    if isinstance(value, dict):
        target = value.get("_target_")
        if isinstance(target, str) and not target.startswith(("$", "@", "%")):
            yield target
        for item in value.values():
            yield from _targets(item)
    elif isinstance(value, list):
        for item in value:
            yield from _targets(item)


def _can_be_found(target: str) -> bool:
    """Tell whether a target is of MONAI by its name, or of a package by its path; only known packages are imported."""
    if "." not in target:
        return component_table().get_component_module_name(target) is not None
    top = target.partition(".")[0]
    if "__main__" in target:  # which would run when it is imported
        return False
    try:
        return locate(target) is not None if top in PACKAGES else find_spec(top) is not None
    except (ErrorDuringImport, ImportError, ValueError):
        return False


def _first_line(error: BaseException) -> str:
    """Return the first line of an error, short enough for a table."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:160]


NEEDED = {
    "LICENSE": "add the license of configs and weights",
    "configs/metadata.json": "describe the bundle; see the specification of MONAI",
    "configs/inference.json": "add the config that MONAI Label and Deploy load",
    "configs/train.json": "add the config that trains the model",
    "docs/README.md": "say what the bundle does, on what data, and where it fails",
}
LARGE_FILE = 25 * 10**6  # bytes; the model zoo keeps larger files elsewhere
PERSONAL = re.compile(r"(?:/home/|/Users/|/root/|/mnt/|[A-Za-z]:\\\\?Users)[^\s\"',)]*")
SECRET = re.compile(r"hf_[A-Za-z0-9]{20,}|AKIA[0-9A-Z]{16}|-----BEGIN [A-Z ]*PRIVATE KEY-----")
VERSION = re.compile(r"\d+\.\d+\.\d+(?:[-+.][0-9A-Za-z.]+)?")
EXACT = re.compile(r"\d+(?:\.\d+)+(?:[-+.0-9A-Za-z]*)?")
JUNK = re.compile(r"(?:^|/)(?:\.DS_Store|Thumbs\.db|__pycache__|\.git|\.ipynb_checkpoints|core)(?:/|$)|\.pyc$|~$")
TEXTS = (".json", ".md", ".txt", ".yml", ".yaml", ".conf", ".py")


def bundle_faults(bundle: Path, trust: bool = True) -> list[PackageFault]:
    """Return everything that keeps a bundle from being shared; nothing is changed.

    Its configs are executed only if they may be, and the files themselves are as they must be.

    Args:
        bundle: folder of the bundle.
        trust: execute ``inference.json`` to build the network, load the weights and export it; otherwise weights are
            only read.
    """
    try:
        files = folder_files(bundle)
    except ValueError as error:
        return [PackageFault(".", str(error), "take files and names that every system has")]
    found = [*_missing(files), *_texts(files), *_junk(files), *_metadata(files), *_large_files(files)]
    broken = [*config_faults(files)]
    found += broken
    if not broken and not [fault for fault in found if fault.file.startswith("configs")]:
        found += [*property_faults(bundle), *(network_faults(bundle, files) if trust else weight_faults(files))]
    return found


def metadata_faults(content: Any) -> list[str]:
    """Return in what metadata differ from MONAI's schema, one sentence each."""
    jsonschema, found = optional_import("jsonschema")
    if not found:
        raise ValueError('jsonschema is not installed, and checking a bundle needs it; pip install ".[share]".')
    schema = json.loads(Path(__file__).with_name("metadata_schema.json").read_text(encoding="utf-8"))
    errors = jsonschema.validators.validator_for(schema)(schema).iter_errors(content)
    return [f"{'#'.join(map(str, error.absolute_path)) or 'it'}: {error.message}" for error in errors]


def _missing(files: dict[str, Path]) -> Faults:
    """Yield the files that are not there or empty."""
    for name, remedy in NEEDED.items():
        if name not in files:
            yield PackageFault(name, "is missing", remedy)
        elif not files[name].stat().st_size:
            yield PackageFault(name, "is empty", remedy)


def _texts(files: dict[str, Path]) -> Faults:
    """Yield personal paths and secrets in texts."""
    for name, path in files.items():
        if path.suffix not in TEXTS and path.name != "LICENSE":
            continue
        text = path.read_text(encoding="utf-8", errors="replace")
        for match in sorted(set(PERSONAL.findall(text))):
            yield PackageFault(name, f"has the path {match!r} of one machine", "make it relative to @bundle_root")
        if SECRET.search(text):
            yield PackageFault(name, "has what looks like a key or a token", "take it out, and revoke it")


def _junk(files: dict[str, Path]) -> Faults:
    """Yield files that no bundle needs, and images, which may be of patients."""
    for name, path in files.items():
        if JUNK.search(name):
            yield PackageFault(name, "does not belong in a bundle", "delete it")
        if name.endswith((".nii", ".nii.gz", ".dcm", ".nrrd", ".mha")):
            yield PackageFault(name, "is an image, of a patient perhaps", "keep data out of the bundle")
        if name.endswith((".pkl", ".pickle", ".npy", ".joblib")) or _may_execute(name, path):
            yield PackageFault(name, "may execute code when it is loaded", "save weights as .pt, read as data")


def _may_execute(name: str, path: Path) -> bool:
    """Tell whether a file that is no checkpoint of the bundle is a pickle by its content."""
    if name.startswith("models/") and name.endswith(".pt"):
        return False  # whose faults are told with the network
    try:
        require_data(name, path)
    except ValueError:
        return True
    return False


def _metadata(files: dict[str, Path]) -> Faults:
    """Yield what is wrong with the description of the bundle."""
    name = "configs/metadata.json"
    if name not in files:
        return
    try:
        content = read_json(files[name], name)
    except ValueError as error:
        yield PackageFault(name, f"is no JSON object ({error.__cause__ or error})", "correct it")
        return
    yield from _stale_figures(name, content.get("robustness"), files)
    for sentence in metadata_faults(content):
        yield PackageFault(name, f"does not fit the schema, {sentence}", "see the specification of MONAI")
    version, changelog = str(content.get("version", "")), content.get("changelog")
    if not VERSION.fullmatch(version):
        yield PackageFault(name, f"has the version {version!r}", "write three numbers, such as 0.1.0")
    if not isinstance(changelog, dict) or version not in changelog:
        yield PackageFault(name, f"has no entry for {version!r} in its changelog", "say what is new in it")
    needed = content.get("required_packages_version")
    for package, number in (needed if isinstance(needed, dict) else {}).items():
        if not EXACT.fullmatch(str(number)):
            problem = f"asks for {package} {number!r}, which is no exact version"
            yield PackageFault(name, problem, "name the version that was used")


def _stale_figures(name: str, figures: Any, files: dict[str, Path]) -> Faults:
    """Yield figures of robustness of weights that the bundle does not hold, such as those before a new training."""
    held = {sha256(path) for file, path in files.items() if file.startswith("models/")} if figures else set()
    for model, one in figures.items() if isinstance(figures, dict) else ():
        if not isinstance(one, dict) or one.get("sha256") not in held:
            problem = f"has figures of robustness of {model!r} that are of none of its weights"
            yield PackageFault(name, problem, "take them out; --results puts in those of the weights")


def _large_files(files: dict[str, Path]) -> Faults:
    """Yield what is wrong with the list of files that live elsewhere."""
    listed = next((name for name in files if re.fullmatch(r"large_files\.(?:ya?ml|json)", name)), None)
    if listed is None:
        return
    try:
        content = yaml.safe_load(files[listed].read_text(encoding="utf-8")) or {}
    except yaml.YAMLError as error:
        yield PackageFault(listed, f"is no YAML ({str(error).splitlines()[0]})", "correct it")
        return
    for entry in content.get("large_files") or []:
        path = str(entry.get("path", ""))
        if not path or path.startswith("/") or ".." in Path(path).parts:
            yield PackageFault(listed, f"lists {path!r}, which is not inside the bundle", "name a file of the bundle")
            continue
        if entry.get("hash_type") != "sha256" or not re.fullmatch(r"[0-9a-f]{64}", str(entry.get("hash_val", ""))):
            yield PackageFault(listed, f"has no sha256 for {path!r}", "add hash_type: sha256 and hash_val")
        elif path in files and sha256(files[path]) != entry["hash_val"]:
            yield PackageFault(listed, f"has another sha256 than {path!r}", "enter the one of the file")
