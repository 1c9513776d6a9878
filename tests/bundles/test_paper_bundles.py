"""The bundles of the paper with shrunken networks on synthetic volumes."""

import json
import shutil
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import torch

from vafa_monai.data import prepare_acdc, prepare_synapse, write_phantom
from vafa_monai.results import load_results

pytestmark = pytest.mark.bundle

ROOT = Path(__file__).parents[2] / "bundles"
SHORT = {"epochs": 1, "windows_per_epoch": 2, "windows_per_volume": 1, "batch_size": 1, "val_interval": 1}
SHORT |= {"num_workers": 0, "resume_interval": 1, "attack_steps": 1}
COARSE = {"synapse": "[12,12,12]", "acdc": "[6,6,8]"}  # mm
BUNDLES = [
    "acdc_unetrpp_segmentation",
    pytest.param("acdc_unetr_segmentation", marks=pytest.mark.slow),
    pytest.param("synapse_unetr_segmentation", marks=pytest.mark.slow),
    pytest.param("synapse_unetrpp_segmentation", marks=pytest.mark.slow),
]


@pytest.fixture(scope="module")
def sources(tmp_path_factory):
    """The two datasets in their official layouts."""
    folders = {kind: tmp_path_factory.mktemp(kind) for kind in ("synapse", "acdc")}
    for kind, folder in folders.items():
        write_phantom(kind, folder / "raw", cases=6, size=0.5)
    names = sorted(path.name.removesuffix(".nii.gz") for path in (folders["synapse"] / "raw" / "img").iterdir())
    split = {"training": names[:2], "validation": names[2:4], "test": names[4:]}  # two ranks need two cases of each
    (folders["synapse"] / "split.json").write_text(json.dumps(split))
    return folders


@pytest.fixture(scope="module", params=BUNDLES)
def chain(request, sources, tiny, run_chain, tmp_path_factory):
    """Prepare, train, harden, evaluate, attack and infer by one bundle; return its folder, data and settings."""
    dataset, network = request.param.split("_")[:2]
    data = tmp_path_factory.mktemp("data") / "prepared"
    if dataset == "acdc":
        prepare_acdc(sources["acdc"] / "raw", data, allow_missing=True)
    else:
        classes = 9 if network == "unetrpp" else 14
        prepare_synapse(sources["synapse"] / "raw", data, classes=classes, split=sources["synapse"] / "split.json")
    folder = Path(shutil.copytree(ROOT / request.param, tmp_path_factory.mktemp("bundle") / request.param))
    settings = {"dataset_dir": str(data), "pixdim": COARSE[dataset], **SHORT, **tiny[network]}
    for configs, more in (
        (["train"], {}),
        (["train", "harden", "hardening/vaft"], {}),
        (["train", "evaluate", "attacks/vafa_authors", "tiles"], {"save_predictions": True}),
        (["train", "evaluate", "attack", "attacks/pgd"], {}),
    ):
        code, output = run_chain(configs, settings | more, folder)
        assert code == 0, f"{configs}\n{output[-4000:]}"
    names = ("dataset_dir", "roi_size", "pixdim")
    inference = {key: value for key, value in settings.items() if key in names or key.startswith("network_def")}
    code, output = run_chain(["inference"], inference, folder)
    assert code == 0, output[-4000:]
    return folder, data, settings


def test_training_and_hardening_write_two_models_side_by_side(chain):
    models = [torch.load(chain[0] / "models" / f"{name}.pt", weights_only=True) for name in ("model", "model_vaft")]
    assert models[0].keys() == models[1].keys()
    assert any(not torch.equal(models[0][name], models[1][name]) for name in models[0])


def test_volumes_are_odd_thin_and_not_all_in_ras(chain):
    _, data, _ = chain
    cases = json.loads((data / "dataset.json").read_text())
    volumes = [nib.load(data / case["image"]) for split in ("training", "test") for case in cases[split]]
    assert any(size % 2 for volume in volumes for size in volume.shape)
    assert len({nib.aff2axcodes(volume.affine) for volume in volumes}) > 1
    assert all(len(set(np.round(volume.header.get_zooms(), 3))) > 1 for volume in volumes)


def test_predictions_land_in_the_grid_of_the_untouched_volume(chain):
    folder, data, _ = chain
    cases = json.loads((data / "dataset.json").read_text())["test"]
    for case in cases:
        source = nib.load(data / case["image"])
        name = Path(case["image"]).name.removesuffix(".nii.gz")
        label = Path(case["label"]).name.removesuffix(".nii.gz")
        predictions = folder / "eval" / "predictions"
        for path in (
            predictions / f"{name}_pred.nii.gz",
            predictions / "model" / "vafa_authors" / f"{label}_pred.nii.gz",
        ):
            pred = nib.load(path)
            assert pred.shape == source.shape
            np.testing.assert_allclose(pred.affine, source.affine, atol=1e-4)
            assert pred.get_data_dtype() == np.uint8


def test_attacked_volumes_are_evaluated_again_in_the_same_grid_with_the_same_result(chain):
    folder, data, _ = chain
    results, reloaded = (
        {(result.model, result.attack): result for result in load_results(folder / "eval" / name)}
        for name in ("results", "results_reloaded")
    )
    before, after = results["model", "pgd"], reloaded["model", "pgd"]
    assert before.summary["dice"] == pytest.approx(after.summary["dice"], abs=2e-3)
    cases = json.loads((data / "dataset.json").read_text())["test"]
    assert len(before.cases) == len(after.cases) == len(cases)
    saved = folder / "eval" / "adversarial" / "model" / "pgd"
    for case in cases:
        name = Path(case["image"]).name.removesuffix(".nii.gz")
        native, label = nib.load(saved / f"{name}_native_label.nii.gz"), nib.load(data / case["label"])
        np.testing.assert_array_equal(native.get_fdata(), label.get_fdata())
        np.testing.assert_allclose(native.affine, label.affine, atol=1e-4)
        assert nib.load(saved / f"{name}_image.nii.gz").shape != label.shape  # the grid of the network is another


def test_budget_of_the_attack_is_that_of_the_bundle(chain):
    folder, _, _ = chain
    result = {result.attack: result for result in load_results(folder / "eval" / "results")}
    levels = 2 if "acdc" in folder.name else 4
    assert result["pgd"].summary["linf_grey"] == pytest.approx(levels, abs=0.01)
    assert result["vafa_authors"].settings["_target_"] == "vafa_monai.attacks.TiledAttack"
    assert result["vafa_authors"].settings["attack"]["q_max"] == (10 if "acdc" in folder.name else 20)


def test_two_ranks_harden_together(chain, run_chain_in_ranks, tmp_path):
    folder, _, settings = chain
    copy = Path(shutil.copytree(folder, tmp_path / folder.name))
    (copy / "models" / "model_vaft.pt").unlink()
    shutil.rmtree(copy / "eval")
    code, output = run_chain_in_ranks(["train", "harden", "hardening/vaft", "multi_gpu_train"], settings, copy)
    assert code == 0, output[-4000:]
    assert (copy / "models" / "model_vaft.pt").is_file()
