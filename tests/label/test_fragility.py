"""How far a small attack moves a prediction; the app around MONAI Label's own."""

import json
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import torch
from torch import nn

from vafa_monai.attacks import PGD, Identity, UniformQuantization
from vafa_monai.label import Fragility, install_app, prediction_change


class Threshold(nn.Module):
    """Say class 1 above one half, with logits of a slope."""

    def forward(self, inputs):
        return torch.cat([0.5 - inputs, inputs - 0.5], dim=1) * 10


def test_what_no_attack_can_reach_does_not_move():
    sure = torch.tensor([0.0, 1.0]).repeat(60)[:60].view(1, 1, 3, 4, 5)
    assert prediction_change(Threshold(), sure, PGD(eps=0.1, steps=3)) == 0.0


def test_a_prediction_at_its_limit_is_lost():
    close = torch.tensor([0.4, 0.51]).repeat(60)[:60].view(1, 1, 3, 4, 5)
    assert prediction_change(Threshold(), close, PGD(eps=0.05, steps=3)) == 1.0
    assert prediction_change(Threshold(), close, Identity()) == 0.0


def test_the_change_is_one_minus_dice():
    volume = torch.full((1, 1, 1, 1, 4), 0.0)
    volume[..., :2] = torch.tensor([0.51, 0.9])  # one of two voxels can be lost: DSC 2 * 1 / (2 + 1)
    assert prediction_change(Threshold(), volume, PGD(eps=0.05, steps=3)) == pytest.approx(1 / 3)


def test_background_alone_counts_one_when_something_appears():
    volume = torch.full((1, 1, 2, 2, 2), 0.2)
    volume[..., 0, 0] = 0.49
    assert prediction_change(Threshold(), volume, PGD(eps=0.05, steps=3)) == 1.0
    assert prediction_change(Threshold(), volume * 0, PGD(eps=0.05, steps=3)) == 0.0


def test_one_channel_of_logits_is_a_threshold_at_zero():
    volume = torch.tensor([0.4, 0.51, 0.0, 0.9]).view(1, 1, 1, 2, 2)
    attack = UniformQuantization(q=1, output="sigmoid")
    assert prediction_change(lambda inputs: inputs - 0.5, volume, attack) == 0.0
    assert prediction_change(lambda inputs: inputs - 0.5, volume, PGD(eps=0.05, steps=3, output="sigmoid")) > 0


@pytest.fixture
def bundle(tmp_path):
    """A bundle of a convolution of one voxel, with weights that say class 1 above one half."""
    folder = tmp_path / "bundle"
    (folder / "configs").mkdir(parents=True)
    (folder / "models").mkdir()
    image = {"keys": "image"}
    config = {
        "device": "cpu",
        "network_def": {"_target_": "torch.nn.Conv3d", "in_channels": 1, "out_channels": 2, "kernel_size": 1},
        "inferer": {"_target_": "SlidingWindowInferer", "roi_size": [4, 4, 4], "overlap": 0.5},
        "preprocessing": {
            "_target_": "Compose",
            "transforms": [{"_target_": "LoadImaged", **image}, {"_target_": "EnsureChannelFirstd", **image}],
        },
    }
    (folder / "configs" / "inference.json").write_text(json.dumps(config))
    weights = {"weight": torch.tensor([-10.0, 10.0]).view(2, 1, 1, 1, 1), "bias": torch.tensor([5.0, -5.0])}
    torch.save(weights, folder / "models" / "model.pt")
    return folder


def write(path, low, high):
    volume = np.where(np.arange(5 * 6 * 7).reshape(5, 6, 7) % 2, high, low).astype(np.float32)
    nib.save(nib.Nifti1Image(volume, np.eye(4)), path)
    return path


def test_a_bundle_ranks_volumes_by_how_close_they_are(bundle, tmp_path):
    measure = Fragility(bundle=bundle)
    assert measure(write(tmp_path / "clear.nii.gz", 0.1, 0.9)) == 0.0
    assert measure(write(tmp_path / "close.nii.gz", 0.1, 0.505)) == 1.0


def test_intensities_without_a_range_are_adapted(bundle, tmp_path):
    assert Fragility(bundle=bundle)(write(tmp_path / "wide.nii.gz", -3, 0.501)) == 1.0


def test_what_does_not_fit_is_refused(bundle, tmp_path):
    with pytest.raises(ValueError, match=r"inference\.json"):
        Fragility(bundle=tmp_path)
    with pytest.raises(ValueError, match="file"):
        _ = Fragility(bundle=bundle, checkpoint="models/other.pt").network
    torch.save({"weight": torch.zeros(3, 1, 1, 1, 1)}, bundle / "models" / "model.pt")
    with pytest.raises(ValueError, match="checkpoint"):
        _ = Fragility(bundle=bundle).network


def test_an_app_that_is_not_the_stock_one_is_left_alone(tmp_path):
    (tmp_path / "main.py").write_text("class Other: ...")
    with pytest.raises(ValueError, match="monaibundle"):
        install_app(tmp_path)
    assert [path.name for path in Path(tmp_path).iterdir()] == ["main.py"]
