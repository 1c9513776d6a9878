"""nnU-Net v2 itself: planned, trained by our trainer for two iterations, continued, loaded, attacked and audited."""

import json
import os
import subprocess
import sys
from pathlib import Path

import jsonschema
import nibabel as nib
import numpy as np
import pytest
import torch

import vafa_monai.audit
from vafa_monai.attacks import PGD, RangeAdapter
from vafa_monai.data import read_checkpoint
from vafa_monai.inferers import NNUNetInferer
from vafa_monai.losses import FrequencyConsistencyLoss, dice_ce
from vafa_monai.nnunet import TRAINERS, NNUNetModel

pytestmark = [pytest.mark.nnunet, pytest.mark.slow]
pytest.importorskip("nnunetv2")

PROJECT = Path(__file__).parents[2]
DATASET = "Dataset001_Ball"
TRAINER = "nnUNetTrainerBrief"
CLASSES = {"background": 0, "shell": 1, "core": 2}
BRIEF = """
import os
import torch
from vafa_monai.nnunet.trainer import nnUNetTrainerVAFT

class nnUNetTrainerBrief(nnUNetTrainerVAFT):
    attack_steps = 2

    def __init__(self, plans, configuration, fold, dataset_json, device=torch.device("cuda")):
        super().__init__(plans, configuration, fold, dataset_json, device)
        self.num_epochs = int(os.environ["BRIEF_EPOCHS"])
        self.num_iterations_per_epoch, self.num_val_iterations_per_epoch = 2, 1
"""


def write_case(folder, number, part="Tr"):
    """Write a noisy ball in a ball, in voxels that are no cubes."""
    rng = np.random.default_rng(number)
    shape = (34, 30, 20)
    grid = np.stack(np.meshgrid(*(np.arange(size) for size in shape), indexing="ij"), -1) * (1, 1, 1.5)
    distance = np.linalg.norm(grid - np.array([17, 15, 15]) - rng.uniform(-2, 2, 3), axis=-1)
    label = (distance < 11).astype(np.uint8) + (distance < 6).astype(np.uint8)
    image = np.array([20.0, 120, 200])[label] + rng.normal(0, 8, shape)
    for kind, volume, name in (("images", image.astype(np.float32), "_0000"), ("labels", label, "")):
        (folder / f"{kind}{part}").mkdir(parents=True, exist_ok=True)
        nib.save(
            nib.Nifti1Image(volume, np.diag([1, 1, 1.5, 1])), folder / f"{kind}{part}" / f"ball_{number}{name}.nii.gz"
        )


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """The folders of nnU-Net, with one dataset; the environment variables stay for the module."""
    place = tmp_path_factory.mktemp("nnunet")
    dataset = place / "raw" / DATASET
    for number in range(6):
        write_case(dataset, number)
    write_case(dataset, 6, "Ts")
    about = {"channel_names": {"0": "MR"}, "labels": CLASSES, "numTraining": 6, "file_ending": ".nii.gz"}
    (dataset / "dataset.json").write_text(json.dumps(about))
    (place / "trainers").mkdir()
    (place / "trainers" / "brief.py").write_text(BRIEF)
    variables = {f"nnUNet_{name}": str(place / name) for name in ("raw", "preprocessed", "results")}
    variables |= {
        "nnUNet_extTrainer": os.pathsep.join([str(TRAINERS), str(place / "trainers")]),
        "nnUNet_n_proc_DA": "1",
        "nnUNet_def_n_proc": "1",
        "BRIEF_EPOCHS": "1",
        "PYTHONPATH": str(PROJECT),
    }
    with pytest.MonkeyPatch.context() as patch:
        for name, value in variables.items():
            patch.setenv(name, value)
        run("nnUNetv2_plan_and_preprocess", "-d", "1", "-c", "3d_fullres", "-np", "1", "-npfp", "1")
        patch.setenv("nnUNet_n_proc_DA", "0")  # of training; planning refuses it
        yield place


def run(command, *words):
    """Run a command of this environment."""
    words = [Path(sys.executable).parent / command, *words]
    finished = subprocess.run([str(word) for word in words], capture_output=True, text=True, timeout=1200)
    assert finished.returncode in (0, 3) if command == "vafa-monai" else finished.returncode == 0, (
        finished.stdout + finished.stderr
    )[-4000:]
    return finished.stdout


def train(*words):
    return run("nnUNetv2_train", "1", "3d_fullres", "0", "-tr", TRAINER, "-device", "cpu", *words)


@pytest.fixture(scope="module")
def trained(place):
    """An nnU-Net of one epoch of two iterations, then continued for a second; its folder and both checkpoints."""
    folder = place / "results" / DATASET / f"{TRAINER}__nnUNetPlans__3d_fullres"
    train()
    first = read_checkpoint(folder / "fold_0" / "checkpoint_final.pth")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("BRIEF_EPOCHS", "2")
        train("--c")
    return folder, first, read_checkpoint(folder / "fold_0" / "checkpoint_final.pth")


@pytest.fixture(scope="module")
def model(trained):
    return NNUNetModel.load(trained[0])


@pytest.fixture(scope="module")
def case(model, place):
    return next(iter(model.cases(place / "raw" / DATASET / "imagesTr", place / "raw" / DATASET / "labelsTr")))


def build_trainer(place, name="nnUNetTrainerVAFT"):
    from nnunetv2.run.run_training import get_trainer_from_args

    trainer = get_trainer_from_args("1", "3d_fullres", 0, name, device=torch.device("cpu"))
    trainer.attack_steps = 2
    torch.manual_seed(0)
    trainer.initialize()
    return trainer


@pytest.mark.parametrize("name", ["nnUNetTrainerVAFT", "nnUNetTrainerPGD"])
def test_nnunet_finds_the_trainers_by_name(place, name):
    from nnunetv2.utilities.find_objects import recursive_find_trainer_class_by_name

    assert recursive_find_trainer_class_by_name(name).__name__ == name


def test_training_continues_from_its_checkpoint(trained):
    _, first, last = trained
    assert (first["current_epoch"], last["current_epoch"]) == (1, 2)
    assert first["trainer_name"] == last["trainer_name"] == TRAINER
    assert first["network_weights"].keys() == last["network_weights"].keys()
    before, after = first["network_weights"], last["network_weights"]
    assert any(not torch.equal(before[name], after[name]) for name in after)
    log = "".join(path.read_text() for path in (trained[0] / "fold_0").glob("training_log_*.txt"))
    assert "VAFA" in log


def weight_of_windows(inferer, size):
    """Return the sum of the weights of all windows, voxel by voxel of an unpadded volume."""
    lacks = [max(edge - voxels, 0) for edge, voxels in zip(inferer.patch_size, size, strict=True)]
    total = torch.zeros([voxels + lack for voxels, lack in zip(size, lacks, strict=True)])
    for place in inferer._places(total.shape):
        total[place] += inferer._weight
    return total[tuple(slice(lack // 2, lack // 2 + voxels) for lack, voxels in zip(lacks, size, strict=True))]


@pytest.mark.parametrize("gaussian", [False, True])
def test_model_predicts_what_nnunet_predicts(gaussian, trained, model, case):
    """In half precision nnU-Net loses the corners of a volume, where a Gaussian's weight times a logit rounds to 0."""
    from nnunetv2.inference.predict_from_raw_data import nnUNetPredictor

    predictor = nnUNetPredictor(use_gaussian=gaussian, device=torch.device("cpu"), allow_tqdm=False)
    predictor.initialize_from_trained_model_folder(str(trained[0]), (0,))
    expected = predictor.predict_logits_from_preprocessed_data(case.image[0]).float()
    inferer = NNUNetInferer(model.inferer.patch_size, gaussian=gaussian, mirror_axes=model.inferer.mirror_axes)
    assert inferer.mirror_axes == (0, 1, 2)
    with torch.no_grad():
        found = inferer(case.image, model.network)[0]
    kept = weight_of_windows(inferer, found.shape[1:]) > 1e-4  # half precision rounds by 6e-8
    assert kept.float().mean() > (0.7 if gaussian else 0.999)
    torch.testing.assert_close(found[:, kept], expected[:, kept], atol=1e-2, rtol=1e-2)


def test_case_is_what_nnunet_sees(model, case):
    assert case.image.shape[1] == 1
    assert case.label.shape == case.image.shape
    assert abs(case.image.mean()) < 0.1  # standardized
    assert abs(case.image.std() - 1) < 0.1
    assert set(case.label.unique().tolist()) == {0, 1, 2}
    assert model.classes == tuple(CLASSES)


def test_trained_model_is_attacked_as_a_whole(model, case):
    attack = RangeAdapter(attack=PGD(eps=8 / 255, steps=3))
    adv = attack(case.image, case.label, model.whole)
    width = case.image.max() - case.image.min()
    assert (adv - case.image).abs().max() <= width * 8 / 255 + 1e-4
    with torch.no_grad():
        clean, attacked = (dice_ce()(model.whole(volume), case.label) for volume in (case.image, adv))
    assert attacked > clean


@pytest.mark.parametrize("name", ["nnUNetTrainerVAFT", "nnUNetTrainerPGD"])
def test_loss_of_a_step_is_ours(place, name):
    trainer = build_trainer(place, name)
    trainer.dataloader_train, trainer.dataloader_val = trainer.get_dataloaders()
    batch = next(trainer.dataloader_train)
    doubled = trainer.doubled(batch)
    half = len(batch["data"])
    assert torch.equal(doubled["data"][:half], batch["data"])
    assert not torch.equal(doubled["data"][half:], batch["data"])
    with torch.no_grad():
        outputs = trainer.network(doubled["data"])
        clean, adversarial = [out[:half] for out in outputs], [out[half:] for out in outputs]
        expected = trainer.loss(clean, batch["target"]) + trainer.loss(adversarial, batch["target"])
        if name == "nnUNetTrainerVAFT":
            expected += FrequencyConsistencyLoss()(adversarial[0], clean[0])
    assert trainer.train_step(batch)["loss"] == pytest.approx(expected.item(), rel=1e-4)
    assert np.isfinite(trainer.validation_step(next(trainer.dataloader_val))["loss"])  # nnU-Net's own loss again


def test_trained_model_is_audited(trained, place, tmp_path):
    raw = place / "raw" / DATASET
    words = ["--steps", "2", "--queries", "4", "--restarts", "2", "--mirroring", "False"]
    words += ["--steps_curve", "[1,2]", "--eps_curve", "[0,0.1,1]", "--output", tmp_path / "audit.json"]
    output = run("vafa-monai", "audit_nnunet", trained[0], raw / "imagesTs", raw / "labelsTs", *words)
    assert "verdict:" in output
    document = json.loads((tmp_path / "audit.json").read_text())
    schema = json.loads((Path(vafa_monai.__file__).parent / "results" / "schemas" / "audit.schema.json").read_text())
    jsonschema.validate(document, schema)
    assert document["classes"] == list(CLASSES)
    assert document["cases"] == ["ball_6"]


def test_what_is_no_model_is_refused(trained, tmp_path):
    with pytest.raises(ValueError, match=r"plans\.json"):
        NNUNetModel.load(tmp_path)
    with pytest.raises(ValueError, match="checkpoint must be a file"):
        NNUNetModel.load(trained[0], fold=1)
    with pytest.raises(ValueError, match="<case>_0000"):
        next(NNUNetModel.load(trained[0]).cases(tmp_path, tmp_path))
