"""The hippocampus bundles with shrunken networks, on the tiny dataset of as many classes."""

import json
import shutil
from pathlib import Path

import nibabel as nib
import pytest
import torch

from vafa_monai.results import load_results

pytestmark = pytest.mark.bundle

ROOT = Path(__file__).parents[2] / "bundles"
SHORT = {"epochs": 1, "windows_per_epoch": 4, "val_interval": 1}
CHAINS = [["train"], ["train", "harden", "hardening/rs_fgsm"], ["train", "evaluate", "attacks/pgd"]]


@pytest.fixture(scope="module", params=["unetr", pytest.param("unetrpp", marks=pytest.mark.slow)])
def chain(request, tiny, dataset_dir, run_chain, tmp_path_factory):
    """Train, harden, evaluate and segment with one bundle; return its folder."""
    name = f"hippocampus_{request.param}_segmentation"
    weights = shutil.ignore_patterns("*.pt", "*.training.json")  # that it ships, of the full size
    folder = Path(shutil.copytree(ROOT / name, tmp_path_factory.mktemp("bundle") / name, ignore=weights))
    settings = {"dataset_dir": str(dataset_dir), **tiny[request.param]}
    for configs in [*CHAINS, ["inference"]]:
        more = {"attack_steps": 2} if "evaluate" in configs else SHORT if "train" in configs else {}
        code, output = run_chain(configs, settings | more, folder)
        assert code == 0, f"{configs}\n{output[-4000:]}"
    return folder


def test_hardening_starts_from_the_standard_model_and_is_kept_beside_it(chain):
    models = [torch.load(chain / "models" / f"{name}.pt", weights_only=True) for name in ("model", "model_rs_fgsm")]
    assert models[0].keys() == models[1].keys()
    assert any(not torch.equal(models[0][name], models[1][name]) for name in models[0])


def test_budget_of_the_attack_is_that_of_the_bundle(chain, dataset_dir):
    (result,) = load_results(chain / "eval" / "results")
    assert len(result.cases) == len(json.loads((dataset_dir / "dataset.json").read_text())["test"])
    assert result.summary["linf_grey"] == pytest.approx(4, abs=0.01)


def test_predictions_land_in_the_grid_of_the_untouched_volume(chain, dataset_dir):
    for case in json.loads((dataset_dir / "dataset.json").read_text())["test"]:
        source = nib.load(dataset_dir / case["image"])
        pred = nib.load(chain / "eval" / "predictions" / Path(case["image"]).name.replace(".nii.gz", "_pred.nii.gz"))
        assert pred.shape == source.shape
        assert nib.aff2axcodes(pred.affine) == nib.aff2axcodes(source.affine)
