"""Result files with known numbers."""

import json

import numpy as np
import pytest

from vafa_monai.reports import load_results
from vafa_monai.reports.audit_document import load_audits
from vafa_monai.reports.evidence import gather
from vafa_monai.reports.report_document import report_document


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
        curve = {"name": "dice_over_eps", "x_label": "budget", "x_unit": "grey levels", "x": [0, 1, 3, 7]}
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
