"""The published attacks, value by value; see ``published/README.md`` for what the numbers are."""

from __future__ import annotations

from functools import cache
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from vafa_monai.attacks import BIM, FGSM, PGD, VAFA, Ascent, Iterate, OutputNorm, Rounding
from vafa_monai.attacks.quantization_table import QuantizationTable
from vafa_monai.frequency import smooth_round
from vafa_monai.losses import block_ssim, dice_ce, frequency_consistency

FOLDER = Path(__file__).with_name("published")
every_vafa = pytest.mark.parametrize("name", ["vafa_3d", "vafa_3d_no_ssim_q40", "vafa_2d"])
every_3d_vafa = pytest.mark.parametrize("name", ["vafa_3d", "vafa_3d_no_ssim_q40"])


@cache
def published(name: str) -> dict[str, np.ndarray]:
    """Merge the files ``name.npz`` and ``name.<part>.npz``."""
    return {key: value for path in FOLDER.glob(f"{name}.*npz") for key, value in np.load(path).items()}


def tensor(name: str, key: str) -> Tensor:
    return torch.from_numpy(published(name)[key])


def network_of(name: str) -> nn.Module:
    """Convolution, softplus, convolution with the published weights."""
    first, second = nn.Conv3d(1, 6, 3, padding=1), nn.Conv3d(6, 3, 1)
    for layer, part in ((first, "conv1"), (second, "conv2")):
        layer.load_state_dict({key: tensor(name, f"{part}.{key}") for key in ("weight", "bias")})
    return nn.Sequential(first, nn.Softplus(), second)


def settings_of(name: str) -> dict:
    block_size, use_ssim = published(name)["block_size"].tolist(), bool(published(name)["use_ssim"])
    counts = {key: int(published(name)[key]) for key in ("steps", "q_min", "q_max")}
    return {"block_size": (*block_size, 1)[:3], "ssim_weight": float(use_ssim), **counts}


@cache
def attacked(name: str, iterate: Iterate) -> Ascent:
    attack = VAFA.preset("authors", iterate=iterate, **settings_of(name))
    return attack.run(tensor(name, "image"), tensor(name, "label"), network_of(name))


def logits_of(name: str) -> Tensor:
    with torch.no_grad():
        return network_of(name)(attacked(name, Iterate.LAST_EVALUATED).adv)


@every_vafa
def test_adversarial_volume(name):
    difference = attacked(name, Iterate.LAST_EVALUATED).adv - tensor(name, "adversarial")
    assert difference.abs().mean() < 1e-3


@every_vafa
def test_quantization_table_after_the_last_update(name):
    table = attacked(name, Iterate.LAST).variable
    if name == "vafa_2d":
        table = table.squeeze(-1).permute(0, 1, 4, 2, 3, 5, 6)  # -> (B, C, D, H/h, W/w, h, w)
        table = table.flatten(3, 4)
    else:
        table = table.flatten(2, 4)
    assert torch.isclose(table, tensor(name, "q_table").float()).float().mean() >= 0.99


@every_vafa
def test_losses(name):
    clean = dice_ce()(network_of(name)(tensor(name, "image")), tensor(name, "label").long()).item()
    adversarial = dice_ce()(logits_of(name), tensor(name, "label").long()).item()
    assert clean == pytest.approx(published(name)["loss_clean"].item(), rel=1e-5)
    assert adversarial == pytest.approx(published(name)["loss_adversarial"].item(), rel=0.01)


@every_vafa
def test_predicted_labels(name):
    predicted = logits_of(name).argmax(1, keepdim=True)
    assert (predicted == tensor(name, "predicted_label")).float().mean() > 0.999


@cache
def first_step(name: str) -> dict[str, Tensor]:
    """The quantities of the first step, where every entry of the table is ``q_max``."""
    settings = settings_of(name)
    weight, q_max = settings.pop("ssim_weight"), settings["q_max"]
    clean = tensor(name, "image")
    authors = {"rounding": Rounding.SOFT, "output_norm": OutputNorm.SLICE_MINMAX, "value_range": (0.0, 1.0)}
    perturbation = QuantizationTable(clean=clean, q_init=q_max, **authors, **settings)
    table = perturbation.start().requires_grad_()
    image = perturbation.apply(table, step=0)
    loss = dice_ce()(network_of(name)(image), tensor(name, "label").long())
    cost = -loss + weight * (1 - block_ssim(image, clean, settings["block_size"]).mean())
    (gradient,) = torch.autograd.grad(cost, table)
    coefficients = perturbation.coefficients.flatten(2, 4)
    return {"coefficients": coefficients, "image": image, "cost": cost, "gradient": gradient.flatten(2, 4)}


def assert_agree(actual: Tensor, expected: Tensor) -> None:
    """Agree to 1e-3 of a value, or of the typical value where it is near 0."""
    torch.testing.assert_close(actual.detach(), expected, rtol=1e-3, atol=1e-3 * expected.std().item())


@every_3d_vafa
@pytest.mark.parametrize("quantity", ["coefficients", "gradient"])
def test_first_step_on_blocks(name, quantity):
    blocks = tensor(name, "step1_blocks")
    assert_agree(first_step(name)[quantity][:, :, blocks], tensor(name, f"step1_{quantity}"))


@every_3d_vafa
def test_first_step_on_voxels(name):
    slices = tensor(name, "step1_slices")
    assert_agree(first_step(name)["image"][..., slices], tensor(name, "step1_image"))


@every_3d_vafa
def test_first_step_cost(name):
    assert first_step(name)["cost"].item() == pytest.approx(published(name)["step1_cost"].item(), rel=1e-3)


@pytest.mark.parametrize(("attack", "key"), [(PGD, "pgd"), (BIM, "pgd"), (FGSM, "fgsm")], ids=["PGD", "BIM", "FGSM"])
def test_voxel_attacks(attack, key):
    name = "voxel_attacks"
    settings = {"eps": published(name)["eps"].item()}
    if attack is not FGSM:
        settings |= {"step_size": published(name)["alpha"].item(), "steps": int(published(name)["steps"])}
    adv = attack(**settings)(tensor(name, "image"), tensor(name, "label"), network_of(name))
    assert (adv - tensor(name, key)).abs().mean() < 1e-3
    assert (adv - tensor(name, "image")).abs().mean() > 1e-3


@pytest.mark.parametrize("row", range(5))
def test_smooth_rounding(row):
    alpha, expected = published("diff_round")["alpha"][row].item(), tensor("diff_round", "value")[row]
    torch.testing.assert_close(smooth_round(tensor("diff_round", "x"), alpha), expected, rtol=0, atol=1e-6)


@pytest.mark.parametrize(("normalization", "key"), [("sum", "l1_sum"), ("authors", "normalized_l1")])
def test_frequency_consistency(normalization, key):
    adversarial, clean = (tensor("frequency_consistency", f"{half}_logits") for half in ("adversarial", "clean"))
    value = frequency_consistency(adversarial, clean, normalization).item()
    assert value == pytest.approx(published("frequency_consistency")[key].item(), rel=1e-5)
