"""What the configs of a bundle that is to be shared must be: parsed, complete, and with a network as they say."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from importlib.util import find_spec
from pathlib import Path
from pydoc import ErrorDuringImport, locate
from typing import Any

import torch
from monai.bundle import ConfigParser, ConfigWorkflow

from vafa_monai.data import check_checkpoint, read_checkpoint, read_json
from vafa_monai.workflows.harmless_target import PACKAGES, component_table
from vafa_monai.workflows.package_fault import Faults, PackageFault

__all__ = ["config_faults", "network_faults", "property_faults", "weight_faults"]


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
    """Yield weights that cannot be read as data; nothing of the configs is executed."""
    for name in (name for name in files if name.startswith("models/") and name.endswith(".pt")):
        try:
            read_checkpoint(files[name])
        except ValueError as error:
            yield PackageFault(name, str(error).rstrip("."), "save the state dict of the network")


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
