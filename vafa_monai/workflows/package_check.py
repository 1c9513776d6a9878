"""What a bundle must be to be shared: the checks of the model zoo that need no training, all faults at once."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import yaml
from monai.utils import optional_import

from vafa_monai.data import read_json, sha256
from vafa_monai.workflows.file_content import require_data
from vafa_monai.workflows.manifest import folder_files
from vafa_monai.workflows.package_config import config_faults, network_faults, property_faults, weight_faults
from vafa_monai.workflows.package_fault import Faults, PackageFault

__all__ = ["bundle_faults", "metadata_faults"]

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
        raise ValueError('jsonschema must be installed to check a bundle, got no such package; pip install ".[share]".')
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
            yield PackageFault(name, "does not belong into a bundle", "delete it")
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
