"""Every chain of configs as ``python -m monai.bundle run`` on small NIfTI files, one of each kind as a real process."""

import json
import shutil
import sys
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import torch

from vafa_monai.results import load_results

pytestmark = pytest.mark.bundle

CONFIGS = Path(__file__).parents[2] / "bundles" / "mni152_unetr_segmentation" / "configs"
EVERY_ATTACK = sorted(path.stem for path in (CONFIGS / "attacks").glob("*.json"))
TORCHRUN = (sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2")


def weights(path):
    return torch.load(path, weights_only=True)


def same(first, second):
    return all(torch.equal(first[name], second[name]) for name in first)


def test_training_and_hardening_write_a_model_each(trained):
    standard, hardened = (weights(trained / "models" / f"{name}.pt") for name in ("model", "model_vaft"))
    assert standard.keys() == hardened.keys()
    assert not same(standard, hardened)


def test_two_trainings_with_one_seed_give_the_same_weights(trained, make_bundle, small, run_chain):
    again = make_bundle("again")
    shutil.copy(trained / "models" / "model.pt", again / "models" / "model.pt")
    code, output = run_chain(["train", "harden", "hardening/vaft"], small | {"attack_steps": 1}, again)
    assert code == 0, output[-2000:]
    assert same(weights(trained / "models" / "model_vaft.pt"), weights(again / "models" / "model_vaft.pt"))
    code, _ = run_chain(["train"], small | {"model_file": "second.pt"}, again)
    assert same(weights(trained / "models" / "model.pt"), weights(again / "models" / "second.pt"))


@pytest.fixture(scope="module")
def evaluated(trained, small, run_chain, tmp_path_factory):
    """Results under two attacks, one of them by a real process from elsewhere."""
    overrides = small | {"attack_steps": 2, "ckpt_path": str(trained / "models" / "model.pt")}
    real = {"elsewhere": tmp_path_factory.mktemp("elsewhere"), "launcher": (sys.executable,)}
    for attack, place in (("identity", {}), ("pgd", real)):
        code, output = run_chain(["train", "evaluate", f"attacks/{attack}"], overrides, trained, **place)
        assert code == 0, output[-2000:]
    return {result.attack: result.document for result in load_results(trained / "eval" / "results")}


@pytest.mark.slow
@pytest.mark.parametrize("attack", sorted(set(EVERY_ATTACK) - {"identity", "pgd"}))
def test_evaluation_under_every_attack_writes_its_result(trained, small, run_chain, attack):
    overrides = small | {"attack_steps": 2, "ckpt_path": str(trained / "models" / "model.pt"), "model_name": "beyond"}
    if attack == "ensemble":  # its standard settings are the overlay's own
        overrides |= {"attack#steps": 2, "attack#queries": 8}
    code, output = run_chain(["train", "evaluate", f"attacks/{attack}"], overrides, trained)
    assert code == 0, output[-2000:]
    found = json.loads((trained / "eval" / "results" / "beyond" / f"{attack}.json").read_text())
    assert found["attack"]["name"] == attack
    assert found["attack"]["role"] == json.loads((CONFIGS / "attacks" / f"{attack}.json").read_text())["attack_role"]
    assert found["summary"]["linf_grey"] > 0


def test_evaluation_writes_the_result_of_its_attack(evaluated):
    assert {name: found["attack"]["role"] for name, found in evaluated.items()} == {
        "identity": "control",
        "pgd": "attack",
    }
    for name, document in evaluated.items():
        assert [case["case"] for case in document["cases"]] == ["case_03", "case_04", "case_05"]
        assert (document["summary"]["linf_grey"] == 0) == (name == "identity")


def test_evaluation_without_an_attack_overlay_is_clean(trained, small, run_chain, evaluated):
    overrides = small | {"ckpt_path": str(trained / "models" / "model.pt"), "model_name": "plain"}
    code, output = run_chain(["train", "evaluate"], overrides, trained)
    assert code == 0, output[-2000:]
    found = json.loads((trained / "eval" / "results" / "plain" / "identity.json").read_text())
    assert found["summary"] == evaluated["identity"]["summary"]


def test_attack_writes_volumes_reads_them_back_and_evaluates_what_it_read(
    trained, small, run_chain, dataset_dir, evaluated
):
    folder = trained / "eval" / "adversarial" / "saved" / "pgd"
    folder.mkdir(parents=True)
    for kind in ("image", "label", "native_label"):  # of an earlier run of more cases
        shutil.copyfile(dataset_dir / "labelsTs" / "case_03.nii.gz", folder / f"case_99_{kind}.nii.gz")
    code, output = run_chain(
        ["train", "evaluate", "attack", "attacks/pgd"], small | {"attack_steps": 2, "model_name": "saved"}, trained
    )
    assert code == 0, output[-2000:]
    volume = nib.load(folder / "case_03_image.nii.gz")
    source = nib.load(dataset_dir / "imagesTs" / "case_03.nii.gz")
    assert volume.get_data_dtype() == np.float32
    np.testing.assert_allclose(volume.affine, source.affine)
    change = np.abs(volume.get_fdata() - source.get_fdata() / 255)
    assert 0 < change.max() <= 4 / 255 + 1e-6
    sidecar = json.loads((folder / "case_03.json").read_text())
    assert sidecar["attack"]["settings"]["_target_"] == "vafa_monai.attacks.PGD"
    assert len(sidecar["checkpoint"]["sha256"]) == 64
    results = [
        json.loads((trained / "eval" / name / "saved" / "pgd.json").read_text())
        for name in ("results", "results_reloaded")
    ]
    assert [case["case"] for case in results[1]["cases"]] == [f"case_0{number}_image" for number in (3, 4, 5)]
    assert results[0]["summary"]["dice"] == pytest.approx(results[1]["summary"]["dice"], abs=1e-6)
    assert results[0]["summary"]["dice"] == evaluated["pgd"]["summary"]["dice"]


def test_inference_writes_label_maps_in_the_grid_of_the_input(trained, small, dataset_dir, run_chain, tmp_path):
    values = {key: value for key, value in small.items() if key.startswith(("network", "roi", "dataset"))}
    code, output = run_chain(["inference"], values | {"output_dir": str(tmp_path)}, trained)
    assert code == 0, output[-2000:]
    for number in (3, 5):  # RAS and LPS
        pred = nib.load(tmp_path / f"case_{number:02d}_pred.nii.gz")
        source = nib.load(dataset_dir / "imagesTs" / f"case_{number:02d}.nii.gz")
        assert pred.shape == source.shape
        np.testing.assert_allclose(pred.affine, source.affine)
        assert set(np.unique(pred.get_fdata())) <= {0, 1, 2}


def test_two_ranks_harden_together(trained, make_bundle, small, run_chain):
    folder = make_bundle("ranks")
    shutil.copy(trained / "models" / "model.pt", folder / "models" / "model.pt")
    code, output = run_chain(
        ["train", "harden", "hardening/vaft", "multi_gpu_train"],
        small | {"attack_steps": 1, "windows_per_epoch": 8},
        folder,
        launcher=TORCHRUN,
    )
    assert code == 0, output[-3000:]
    assert weights(folder / "models" / "model_vaft.pt").keys() == weights(trained / "models" / "model.pt").keys()


def spoil(dataset, name, change):
    image = nib.load(dataset / name)
    nib.save(nib.Nifti1Image(change(image.get_fdata()).astype(np.float32), image.affine), dataset / name)


@pytest.mark.parametrize(
    ("overrides", "sentence"),
    [
        ({"spoil": "nan"}, "image must be finite, got 1 NaN or infinite voxels"),
        ({"attack#steps": -1}, "steps must be at least 0, got -1."),
        ({"network_def#feature_size": 8}, "checkpoint must hold the weights of this UNETR"),
        ({"roi_size": "[32,32,32]", "ckpt_path": "nowhere.pt"}, "checkpoint must be a file, got 'nowhere.pt'"),
    ],
    ids=["nan", "steps", "network", "checkpoint"],
)
def test_bad_input_ends_a_run_with_one_sentence_and_writes_nothing(
    copy_trained, small, dataset_dir, run_chain, tmp_path, overrides, sentence
):
    shutil.rmtree(copy_trained / "eval")
    dataset = Path(shutil.copytree(dataset_dir, tmp_path / "dataset"))
    if overrides.pop("spoil", None):
        spoil(
            dataset,
            "imagesTs/case_04.nii.gz",
            lambda image: np.where(np.arange(image.size).reshape(image.shape), image, np.nan),
        )
    chain = ["train", "evaluate", "attack", "attacks/pgd"]
    code, output = run_chain(chain, small | {"dataset_dir": str(dataset)} | overrides, copy_trained)
    assert code != 0
    assert sentence in output
    assert not list((copy_trained / "eval").rglob("*.*"))
