"""Seeded volumes, labels and tiny networks; every axis has another size on purpose."""

from __future__ import annotations

import json
import logging
import multiprocessing
import os
import re
import runpy
import shutil
import signal
import socket
import sys
import time
import traceback
import warnings
from collections.abc import Callable, Mapping, Sequence
from itertools import count
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import torch
import torch.nn.functional as F
from monai.bundle import ConfigParser
from torch import Tensor, nn

from vafa_monai.losses import dice_ce
from vafa_monai.reports.evidence import gather, report_document
from vafa_monai.results import load_results
from vafa_monai.results.audit import load_audits
from vafa_monai.runs import shipped_bundle

torch.set_num_threads(1)  # tensors are tiny: threads would spend the time waiting for each other, on busy cores by far

SHAPE = (2, 1, 11, 9, 6)
CLASSES = 3
DEVICES = ["cpu", pytest.param("cuda", marks=pytest.mark.gpu)] if torch.cuda.is_available() else ["cpu"]


@pytest.fixture(params=DEVICES)
def device(request: pytest.FixtureRequest) -> torch.device:
    return torch.device(request.param)


@pytest.fixture
def volume() -> Tensor:
    """A smooth random batch that touches 0 and 1."""
    noise = torch.rand(SHAPE, generator=torch.Generator().manual_seed(0))
    smooth = F.avg_pool3d(F.pad(noise, [1] * 6, mode="replicate"), kernel_size=3, stride=1)
    return (smooth - smooth.amin()) / (smooth.amax() - smooth.amin())


@pytest.fixture
def label(volume: Tensor) -> Tensor:
    """Three classes: dark, gray, bright."""
    return (volume > 0.4).long() + (volume > 0.6).long()


@pytest.fixture
def tiny_network() -> nn.Module:
    """Convolution, softplus, convolution: smooth, so that no gradient is exactly 0; in eval mode."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return nn.Sequential(nn.Conv3d(1, 4, 3, padding=1), nn.Softplus(), nn.Conv3d(4, CLASSES, 1)).eval()


@pytest.fixture
def normalized_network() -> nn.Module:
    """A network with batch norm, whose running statistics are those of data, and dropout; in eval mode."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        normalize, dropout = nn.BatchNorm3d(4), nn.Dropout3d(0.3)
        network = nn.Sequential(
            nn.Conv3d(1, 4, 3, padding=1), normalize, nn.Softplus(), dropout, nn.Conv3d(4, CLASSES, 1)
        )
        with torch.no_grad():
            for _ in range(3):
                network(torch.rand(SHAPE))
    return network.eval()


@pytest.fixture
def not_refused() -> Callable[..., dict[str, str]]:
    """A function: what the items of a table do instead whose call does not end with an error of one kind and text."""

    def instead_of(kind: type[Exception], match: str, call: Callable, items: Mapping[str, object]) -> dict[str, str]:
        instead = {}
        for name, item in items.items():
            try:
                call(item)
            except Exception as error:
                if not isinstance(error, kind) or not re.search(match, str(error)):
                    instead[name] = repr(error)
            else:
                instead[name] = "no error"
        return instead

    return instead_of


def draw(samples: int, seed: int) -> tuple[Tensor, Tensor]:
    """Smooth random volumes, and labels that are thresholds of them: dark, gray, bright."""
    noise = torch.rand(samples, 1, 11, 9, 6, generator=torch.Generator().manual_seed(seed))
    smooth = F.avg_pool3d(F.pad(noise, [1] * 6, mode="replicate"), kernel_size=3, stride=1)
    low, high = smooth.amin((1, 2, 3, 4), keepdim=True), smooth.amax((1, 2, 3, 4), keepdim=True)
    volume = (smooth - low) / (high - low)
    return volume, (volume > 0.4).long() + (volume > 0.6).long()


def train(seed: int) -> nn.Module:
    """Three layers and 80 steps, a second at most; foreground Dice about 0.87."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        first, second, last = nn.Conv3d(1, 8, 3, padding=1), nn.Conv3d(8, 8, 1), nn.Conv3d(8, 3, 1)
        network = nn.Sequential(first, nn.Softplus(), second, nn.Softplus(), last)
    optimizer, loss_function = torch.optim.Adam(network.parameters(), lr=0.02), dice_ce()
    for step in range(80):
        volume, label = draw(8, seed=1000 * seed + step + 1)
        optimizer.zero_grad()
        loss_function(network(volume), label).backward()
        optimizer.step()
    network.zero_grad()
    return network.eval()


@pytest.fixture(scope="session")
def trained_network() -> nn.Module:
    return train(seed=0)


@pytest.fixture(scope="session")
def other_network() -> nn.Module:
    """The same task and layers, other weights."""
    return train(seed=1)


@pytest.fixture(scope="session")
def session_cases() -> tuple[Tensor, Tensor]:
    """Six volumes and labels that no network was trained on; not to be changed."""
    return draw(6, seed=0)


@pytest.fixture
def unseen_cases(session_cases: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
    """The same, to do with as one likes."""
    volumes, labels = session_cases
    return volumes.clone(), labels.clone()


# A tiny Synapse on disk, and bundles with a tiny network


SMALL_CT_SHAPE = (24, 20, 18)
SPACING = (1.5, 1.5, 2.0)
PARTS = {"training": [1, 2], "validation": [3], "test": [4, 5]}
SMALL = {
    "roi_size": [16, 16, 16],
    "pixdim": list(SPACING),
    "overlap": 0.25,
    "network_def#feature_size": 4,
    "network_def#hidden_size": 24,
    "network_def#mlp_dim": 48,
    "network_def#num_heads": 2,
}


def write_case(folder: Path, number: int, classes: int) -> dict[str, str]:
    """Write a body in air with a ball of its own brightness for every class but the background, in HU."""
    rng = np.random.default_rng(number)
    grid = np.stack(np.meshgrid(*map(np.arange, SMALL_CT_SHAPE), indexing="ij"), -1)
    label = np.zeros(SMALL_CT_SHAPE, np.uint8)
    for index in range(1, classes):
        center = rng.uniform(4, np.array(SMALL_CT_SHAPE) - 4)
        label[np.linalg.norm(grid - center, axis=-1) < 3] = index
    body = np.linalg.norm((grid / np.array(SMALL_CT_SHAPE) - 0.5), axis=-1) < 0.5
    image = np.where(body | (label > 0), 20 + 15 * label, -1000) + rng.normal(0, 8, SMALL_CT_SHAPE)
    case = {kind: f"{kind}s/case_{number:02d}.nii.gz" for kind in ("image", "label")}
    for kind, volume in (("image", image.astype(np.int16)), ("label", label)):
        (folder / case[kind]).parent.mkdir(exist_ok=True)
        nib.save(nib.Nifti1Image(volume, np.diag([*SPACING, 1])), folder / case[kind])
    return case


@pytest.fixture(scope="session")
def synapse_dir(tmp_path_factory) -> Path:
    """A prepared dataset of 14 classes: two training cases, one for validation, two for the test."""
    folder = tmp_path_factory.mktemp("synapse")
    parts = {part: [write_case(folder, number, 14) for number in numbers] for part, numbers in PARTS.items()}
    (folder / "dataset.json").write_text(json.dumps({"description": "Balls in a body.", "synthetic": True, **parts}))
    return folder


@pytest.fixture
def paper_bundle(tmp_path) -> Path:
    """A copy of the bundle of UNETR on Synapse, without what was trained in a checkout."""
    name = "synapse_unetr_segmentation"
    ignore = shutil.ignore_patterns("eval", "*.pt", "__pycache__")
    return Path(shutil.copytree(shipped_bundle(name), tmp_path / name, ignore=ignore))


@pytest.fixture
def small() -> dict[str, object]:
    """Overrides that make a run of seconds."""
    return dict(SMALL)


TINY = {"feature_size": 4, "hidden_size": 24, "mlp_dim": 48, "num_heads": 2}


@pytest.fixture(scope="session")
def small_bundle(tmp_path_factory):
    """A bundle that passes the checks for sharing, with a tiny network and weights; only to be read."""
    folder = tmp_path_factory.mktemp("bundle") / "mni152_unetr_segmentation"
    shutil.copytree(
        shipped_bundle("mni152_unetr_segmentation"),
        folder,
        ignore=shutil.ignore_patterns("eval", "*.pt", "__pycache__"),
    )
    for name in ("train", "inference"):
        path = folder / "configs" / f"{name}.json"
        content = json.loads(path.read_text())
        content["roi_size"] = [16, 16, 16]
        content["network_def"] |= TINY
        path.write_text(json.dumps(content, indent=4))
    path = folder / "configs" / "metadata.json"
    content = json.loads(path.read_text())
    for way, name in (("inputs", "image"), ("outputs", "pred")):
        content["network_data_format"][way][name]["spatial_shape"] = [16, 16, 16]
    path.write_text(json.dumps(content, indent=4))
    parser = ConfigParser()
    parser.read_config(str(folder / "configs" / "inference.json"))
    torch.manual_seed(0)
    torch.save(parser.get_parsed_content("network_def").state_dict(), folder / "models" / "model.pt")
    return folder


@pytest.fixture
def bundle(small_bundle, tmp_path):
    """A copy to be broken."""
    return Path(shutil.copytree(small_bundle, tmp_path / "work" / small_bundle.name))


# Results, audits and reports on disk


@pytest.fixture
def results_dir(tmp_path):
    return tmp_path / "results"


def result_writer(results_dir):
    """Return what writes one result file; every class and case has the DSC ``dice``, plus 0.02 in the second case."""

    def write(model, attack, dice, /, *, role="attack", cases=("one", "two"), slices=False, **overrides):
        folder = results_dir / model
        folder.mkdir(parents=True, exist_ok=True)
        quality = {"ssim": 0.97, "psnr_db": 38.1, "rms_grey": 3.6, "linf_grey": 4.0, "lpips": None}
        counts = {"lost": 0, "invented": 0}
        spread = [0.02 * index - 0.01 * (len(cases) - 1) for index in range(len(cases))]
        entries = [
            {
                "case": case,
                "dice": [0.99, dice + more, dice + more],
                "hd95_mm": [1.0, 2.0, None],
                "nsd": [1.0, 0.9, None],
                "files": {name: f"{name} of {case}" for name in ("image", "label")},
                "input": {"shape": [1, 12, 10, 5], "mean": 0.5, "std": 0.25},
            }
            for case, more in zip(cases, spread, strict=True)
        ]
        document = {
            "schema": "vafa_monai.result/1",
            "model": model,
            "checkpoint": {"path": f"models/{model}.pt", "sha256": f"{model}0123"},
            "attack": {"name": attack, "role": role, "settings": {"_target_": f"vafa_monai.attacks.{attack}"}},
            "classes": ["background", "gray matter", "white matter"],
            "intensity": {"value_range": [0.0, 1.0], "physical_range": None, "physical_unit": None},
            "evaluation": {"inferer": {"_target_": "SlidingWindowInferer", "overlap": 0.25}, "nsd_tolerance_mm": 1.0},
            "seed": 0,
            "versions": {"vafa_monai": "0.1.0", "python": "3.11"},
            "device": "cpu",
            "seconds": 12.3,
            "cases": [entry | quality | counts for entry in entries],
            "summary": {"dice": dice, "dice_with_background": 0.93, "hd95_mm": 2.0, "nsd": 0.9, **quality, **counts},
            "notes": ["LPIPS absent: set lpips_weights to a local file."],
            "slices": f"{attack}.npz" if slices else None,
        }
        if slices:
            label = np.zeros((12, 10), np.uint8)
            label[3:9, 3:7] = 1
            clean = np.linspace(0, 1, 120, dtype=np.float32).reshape(12, 10)
            arrays = {"clean": clean, "adv": clean[::-1], "label": label, "pred": label * (attack == "identity")}
            np.savez(folder / f"{attack}.npz", case=np.array(cases[0]), **arrays, **volumes_of(arrays))
        path = folder / f"{attack}.json"
        path.write_text(json.dumps(document | overrides))
        return path

    return write


def volumes_of(slices, depth=5):
    """A small volume in which the organ grows with the slice, as a result keeps it beside its slice."""

    def stack(name):
        return np.stack([slices[name] * (index > 0) for index in range(depth)], axis=-1)

    change = stack("adv") - stack("clean")
    largest = np.abs(change).max()
    energy = np.array([0.75, 0.25, 0, 0]) * bool(largest)
    return {
        "volume_clean": np.rint(255 * stack("clean")).astype(np.uint8),
        "volume_delta": np.rint(127 * change / (largest or 1)).astype(np.int8),
        "volume_delta_grey": np.float32(255 * largest),
        "volume_label": stack("label"),
        "volume_pred": stack("pred"),
        "volume_spacing": np.array([2.0, 1.0, 3.0], np.float32),
        "spectrum_energy": energy,
        "spectrum_coefficients": np.full(4, 0.25),
    }


def audit_writer(results_dir):
    """Return what writes an audit of a model beside its results; a check for each status."""

    def write(model, verdict, statuses=("PASS",), **overrides):
        checks = [
            {
                "id": f"S{number}",
                "name": f"check_{number}",
                "title": f"Check number {number}",
                "status": status,
                "value": None if status == "SKIP" else 0.25,
                "limit": None if status == "SKIP" else 0.5,
                "unit": "points",
                "sentence": f"Found in {number}.",
                "meaning": f"Meaning of {number}.",
                "details": {},
            }
            for number, status in enumerate(statuses)
        ]
        curve = {"name": "dice_over_eps", "x_label": "budget", "x_unit": "gray levels", "x": [0, 1, 3, 7]}
        document = {
            "schema": "vafa_monai.audit/1",
            "verdict": verdict,
            "model": model,
            "checkpoint": {"path": f"models/{model}.pt", "sha256": f"{model}0123"},
            "seed": 0,
            "settings": {"steps": 20},
            "classes": ["background", "gray matter", "white matter"],
            "cases": ["one"],
            "command": f"vafa-monai audit --model_name {model}",
            "versions": {"vafa_monai": "0.1.0", "scipy": "1.17"},
            "device": "cpu",
            "seconds": 60.5,
            "checks": checks,
            "curves": [curve | {"dice": [0.8, 0.6, 0.4, 0.0], "dice_per_class": [[0.8, 0.6, 0.4, 0.0]]}],
            "cost": {"forward": 1200, "backward": 600},
        }
        path = results_dir / model / "audit.json"
        path.write_text(json.dumps(document | overrides))
        return path

    return write


@pytest.fixture(scope="session")
def writers():
    """What writes results and audits into a folder, for fixtures that live longer than a test."""
    return result_writer, audit_writer, write_two_models


@pytest.fixture
def write_result(results_dir):
    return result_writer(results_dir)


@pytest.fixture
def write_audit(results_dir):
    return audit_writer(results_dir)


@pytest.fixture
def write_report(results_dir):
    """Write the ``report.json`` of all results, without its pictures, which take most of the time."""

    def write(folder, **about):
        results, audits = load_results(results_dir), load_audits(results_dir)
        evidence = gather(results, audits, trained_on=about.get("trained_on"))
        about = {"title": "One", "trained_on": None, "data_note": None, "commands": [], "settings": {}} | about
        folder.mkdir(parents=True)
        (folder / "report.json").write_text(json.dumps(report_document(evidence, about)))
        return folder / "report.json"

    return write


@pytest.fixture
def two_models(write_result):
    write_two_models(write_result)


def write_two_models(write_result):
    """Drops: VAFA 0.20 and 0.06, PGD 0.10 and 0.15, stretch 0.05 and 0.00; clean 0.90 and 0.895."""
    scores = {
        "standard": {"identity": 0.9, "identity_stretch": 0.85, "pgd": 0.8, "vafa_authors": 0.7},
        "hardened": {"identity": 0.895, "identity_stretch": 0.895, "pgd": 0.745, "vafa_authors": 0.835},
    }
    for model, attacks in scores.items():
        for attack, dice in attacks.items():
            write_result(model, attack, dice, role="control" if attack.startswith("identity") else "attack")


# Processes


class Fork:
    """A copy of this process that does what ``python -m`` does; it need not import anything first, which takes seconds.

    It is used like ``subprocess.Popen``. What it says is one text, and it never sees a GPU, which cannot be forked.
    """

    def __init__(self, words: Sequence[object], cwd: Path, log: Path, **variables: object) -> None:
        arguments = ([str(word) for word in words], cwd, log, {name: str(value) for name, value in variables.items()})
        self.log, self._process = log, multiprocessing.get_context("fork").Process(target=run_module, args=arguments)
        self._process.start()

    @property
    def returncode(self) -> int | None:
        return self._process.exitcode

    def kill(self) -> None:
        self._process.kill()

    def communicate(self, timeout: float = 300) -> tuple[str, None]:
        self._process.join(timeout)
        self._process.kill()  # what has ended takes no notice
        return self.log.read_text(), None


def run_module(words: list[str], cwd: Path, log: Path, variables: dict[str, str]) -> None:
    """Run a module by its name with its arguments, and tell what it says to a file."""
    with log.open("w", buffering=1) as file:
        os.dup2(file.fileno(), 1)
        os.dup2(file.fileno(), 2)
        sys.stdout = sys.stderr = sys.__stderr__ = file
        logging.raiseExceptions = False  # handlers of this process write to what the fork has closed
        warnings.simplefilter("ignore")
        torch.cuda.is_available = lambda: False
        os.environ.update(variables)
        os.chdir(cwd)
        sys.path.insert(0, str(cwd))
        sys.argv = list(words)
        try:
            runpy.run_module(words[0], run_name="__main__", alter_sys=True)
        except SystemExit as end:  # whose sentence the interpreter would tell
            file.write("" if isinstance(end.code, int | None) else f"{end.code}\n")
            raise SystemExit(end.code if isinstance(end.code, int | None) else 1) from None
        except Exception:
            traceback.print_exc(file=file)
            raise SystemExit(1) from None


@pytest.fixture(scope="session")
def fork_python(tmp_path_factory) -> Callable[..., Fork]:
    """Return what starts ``python -m`` with some words in a folder, as a :class:`Fork`."""
    numbers, folder = count(), tmp_path_factory.mktemp("logs")

    def begin(words: Sequence[object], cwd: Path, **variables: object) -> Fork:
        return Fork(words, cwd, folder / f"{next(numbers)}.log", **variables)

    return begin


@pytest.fixture(scope="session")
def fork_ranks(fork_python) -> Callable[..., tuple[int, str]]:
    """Return what runs ``python -m`` as the two processes of ``torchrun``; it returns a code and their text."""

    def run(words: Sequence[object], cwd: Path) -> tuple[int, str]:
        with socket.socket() as free:
            free.bind(("localhost", 0))
            port = free.getsockname()[1]
        about = {"WORLD_SIZE": 2, "LOCAL_WORLD_SIZE": 2, "MASTER_ADDR": "localhost", "MASTER_PORT": port}
        ranks = [fork_python(words, cwd, RANK=rank, LOCAL_RANK=rank, **about) for rank in range(2)]
        told = "\n".join(rank.communicate()[0] for rank in ranks)
        return max(abs(rank.returncode) for rank in ranks), told

    return run


# Killed


def die_at_rename(number: int, of: str) -> None:
    """Let this process kill itself at a rename to a name: 0 is right before the first of them, 1 right after it."""
    numbers = count()

    def dying(rename: Callable[..., Path]) -> Callable[..., Path]:
        def renamed(self: Path, target: object) -> Path:
            is_last = Path(str(target)).match(of) and next(numbers) == number // 2
            if is_last and number % 2 == 0:
                os.kill(os.getpid(), signal.SIGKILL)
            moved = rename(self, target)
            if is_last:
                os.kill(os.getpid(), signal.SIGKILL)
            return moved

        return renamed

    Path.replace, Path.rename = dying(Path.replace), dying(Path.rename)


def call_and_kill(call: Callable[[], object], *, seconds: float = 300, rename: int | None = None, of: str = "*") -> int:
    """Call in a copy of this process and kill that after some seconds, or at a rename; return its exit code.

    It is ``-SIGKILL``, 0 if the call ended before, 1 if it raised.
    """
    child = os.fork()
    if not child:
        code = 1
        try:
            if rename is not None:
                die_at_rename(rename, of)
            call()
            code = 0
        finally:
            os._exit(code)
    end, status = time.monotonic() + seconds, (0, 0)
    while status[0] == 0 and time.monotonic() < end:
        status = os.waitpid(child, os.WNOHANG)
        time.sleep(0.002)
    if status[0] == 0:
        os.kill(child, signal.SIGKILL)
        status = os.waitpid(child, 0)
    return os.waitstatus_to_exitcode(status[1])


@pytest.fixture(scope="session")
def kill() -> Callable[..., int]:
    """Return :func:`call_and_kill`."""
    return call_and_kill
