"""Result files with known numbers."""

import json

import numpy as np
import pytest


@pytest.fixture
def results_dir(tmp_path):
    return tmp_path / "results"


@pytest.fixture
def write_result(results_dir):
    """Write one result file; every class and case has the DSC ``dice``, plus 0.02 in the second case."""

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
            }
            for case, more in zip(cases, spread, strict=True)
        ]
        document = {
            "schema": "vafa_monai.result/1",
            "model": model,
            "checkpoint": {"path": f"models/{model}.pt", "sha256": f"{model}0123"},
            "attack": {"name": attack, "role": role, "settings": {"_target_": f"vafa_monai.attacks.{attack}"}},
            "classes": ["background", "gray matter", "white matter"],
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
            np.savez(folder / f"{attack}.npz", case=np.array(cases[0]), **arrays)
        path = folder / f"{attack}.json"
        path.write_text(json.dumps(document | overrides))
        return path

    return write


@pytest.fixture
def two_models(write_result):
    """Drops: VAFA 0.20 and 0.06, PGD 0.10 and 0.15, stretch 0.05 and 0.00; clean 0.90 and 0.895."""
    scores = {
        "standard": {"identity": 0.9, "identity_stretch": 0.85, "pgd": 0.8, "vafa_authors": 0.7},
        "hardened": {"identity": 0.895, "identity_stretch": 0.895, "pgd": 0.745, "vafa_authors": 0.835},
    }
    for model, attacks in scores.items():
        for attack, dice in attacks.items():
            write_result(model, attack, dice, role="control" if attack.startswith("identity") else "attack")
