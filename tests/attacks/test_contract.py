"""The promises of every attack, one table of instances against one list of promises."""

from __future__ import annotations

import dataclasses
import inspect
import json
import random
from collections.abc import Callable, Iterator

import numpy as np
import pytest
import torch
from monai.bundle import ConfigParser
from monai.data import MetaTensor
from torch import Tensor, nn

from vafa_monai import attacks
from vafa_monai.attacks import (
    APGD,
    BIM,
    FGSM,
    NFGSM,
    PGD,
    VAFA,
    Attack,
    AttackEnsemble,
    CosPGD,
    FrequencyPGD,
    GaussianNoise,
    GradientAttack,
    Identity,
    LossAttack,
    RandomQuantization,
    SegPGD,
    SquareAttack,
    TransferPGD,
    UniformQuantization,
)
from vafa_monai.attacks.attack import AttackWrapper
from vafa_monai.losses import dice_ce

BLOCK = (4, 3, 5)  # divides the width of the volume, but neither its height nor its depth


def of_sigmoids(attack: Attack) -> Attack:
    """The same attack on a network whose channels each say yes or no, with the loss of its own."""
    settings = {item.name: getattr(attack, item.name) for item in dataclasses.fields(attack) if item.init}
    settings.pop("loss_function", None)
    return type(attack)(**settings | {"output": "sigmoid"})


def labels_of(attack: Attack, label: Tensor) -> Tensor:
    """Three classes as they are, or as three regions that overlap."""
    return torch.cat([label > 0, label > 1, label == 1], 1).long() if attack.output == "sigmoid" else label


@pytest.fixture
def label(label: Tensor, request: pytest.FixtureRequest) -> Tensor:
    """Labels of the kind that the attack takes."""
    given = getattr(request.node, "callspec", None)
    return labels_of(given.params["attack"], label) if given and "attack" in given.params else label


ATTACKS: dict[str, Attack] = {
    "vafa_authors": VAFA.preset("authors", block_size=BLOCK, steps=3),
    "vafa_paper": VAFA.preset("paper", block_size=BLOCK, steps=3),
    "vafa_audit": VAFA.preset("audit", block_size=BLOCK, steps=3),
    "vafa_with_ssim": VAFA(block_size=BLOCK, steps=3),
    "vafa_2d": VAFA(block_size=(4, 4, 1), steps=3),
    "vafa_targeted": VAFA(block_size=BLOCK, steps=3, targeted=True),
    "vafa_shared_table": VAFA(block_size=BLOCK, steps=3, shared_table=True),
    "vafa_restarts": VAFA(block_size=BLOCK, steps=3, restarts=2),
    "pgd": PGD(steps=3),
    "pgd_random_start": PGD(steps=3, random_start=True),
    "pgd_best": PGD(steps=3, iterate="best"),
    "pgd_targeted": PGD(steps=3, targeted=True),
    "pgd_l2": PGD(steps=3, norm="l2"),
    "apgd": APGD(steps=5),
    "apgd_l2": APGD(steps=5, norm="l2"),
    "apgd_restarts": APGD(steps=3, restarts=2, random_start=True),
    "seg_pgd": SegPGD(steps=3),
    "seg_pgd_targeted": SegPGD(steps=3, targeted=True),
    "cos_pgd": CosPGD(steps=3),
    "cos_pgd_targeted": CosPGD(steps=3, targeted=True),
    "transfer_pgd": TransferPGD(steps=3, diversity=1, least_share=0.7),
    "frequency_pgd": FrequencyPGD(block_size=BLOCK, steps=3),
    "frequency_pgd_random_start": FrequencyPGD(block_size=BLOCK, steps=3, random_start=True),
    "frequency_pgd_band": FrequencyPGD(block_size=BLOCK, steps=3, band=(0.25, 0.75)),
    "square": SquareAttack(queries=25),
    "square_targeted": SquareAttack(queries=25, targeted=True),
    "ensemble": AttackEnsemble(block_size=BLOCK, steps=2, queries=3),
    "bim": BIM(steps=3),
    "fgsm": FGSM(),
    "n_fgsm": NFGSM(),
    "gaussian_noise": GaussianNoise(),
    "identity": Identity(),
    "identity_stretched": Identity(output_norm="slice_minmax"),
    "uniform_quantization": UniformQuantization(block_size=BLOCK),
    "random_quantization": RandomQuantization(block_size=BLOCK),
}
OF_SIGMOIDS = (
    "vafa_audit",
    "pgd_best",
    "pgd_targeted",
    "apgd_l2",
    "seg_pgd",
    "cos_pgd",
    "transfer_pgd",
    "frequency_pgd",
)
OF_SIGMOIDS += ("square", "ensemble")
SOFTMAX = dict(ATTACKS)
SIGMOID = {f"{name}_of_sigmoids": of_sigmoids(ATTACKS[name]) for name in OF_SIGMOIDS}
ATTACKS |= SIGMOID
ASKING = {name: attack for name, attack in ATTACKS.items() if isinstance(attack, LossAttack)}
SOFTMAX_ASKING = {name: attack for name, attack in ASKING.items() if name in SOFTMAX}
GRADIENT = {name: attack for name, attack in ATTACKS.items() if isinstance(attack, GradientAttack)}
STRETCHED = ("vafa_authors", "identity_stretched")  # their change is bounded by value_range alone


def table(*names: str) -> pytest.MarkDecorator:
    """Parametrize by the named attacks."""
    return pytest.mark.parametrize("attack", [pytest.param(ATTACKS[name], id=name) for name in names])


every_attack = table(*ATTACKS)
every_gradient_attack = table(*GRADIENT)
every_attack_that_asks = table(*ASKING)


@pytest.fixture
def expected(attack: Attack, volume: Tensor, label: Tensor, tiny_network: nn.Module) -> Tensor:
    """What a plain call of the attack gives; worked out once for all promises that compare with it."""
    if attack not in PLAIN:
        PLAIN[attack] = attack(volume, label, tiny_network)
    return PLAIN[attack].clone()


PLAIN: dict[Attack, Tensor] = {}


def test_every_attack_of_the_package_is_in_the_table():
    public = [kind for kind in vars(attacks).values() if isinstance(kind, type) and issubclass(kind, Attack)]
    whole = {kind for kind in public if not inspect.isabstract(kind) and not issubclass(kind, AttackWrapper)}
    assert {type(attack) for attack in ATTACKS.values()} == whole


# What comes out


@every_attack
def test_shape_dtype_and_device_are_those_of_the_inputs(attack, device, volume, label, tiny_network):
    for dtype in (torch.float32, torch.float64):
        inputs = volume.to(device, dtype)
        adv = attack(inputs, label.to(device), tiny_network.to(inputs))
        assert (adv.shape, adv.dtype, adv.device, adv.requires_grad) == (inputs.shape, dtype, inputs.device, False)


@every_attack
def test_every_size_can_be_attacked(attack, tiny_network):
    wrong_already = isinstance(attack, AttackEnsemble) and attack.output == "softmax"  # everywhere, of this network
    left_alone = attack == Identity() or wrong_already
    for size in ((1, 1, 4, 3, 5), (1, 1, 5, 2, 3), (3, 1, 7, 12, 6)):
        inputs = torch.rand(size, generator=torch.Generator().manual_seed(0))
        adv = attack(inputs, labels_of(attack, (inputs > 0.5).long()), tiny_network)
        assert adv.shape == inputs.shape
        assert torch.equal(adv, inputs) == left_alone, size


@every_attack
def test_intensities_stay_inside_value_range(attack, expected, volume, label, tiny_network):
    assert -1e-6 <= expected.amin() < expected.amax() <= 1 + 1e-6  # float32
    for low, high in ((-1000.0, 1000.0), (-0.7, 1.9)):
        width = high - low
        adv = dataclasses.replace(attack, value_range=(low, high))(low + width * volume, label, tiny_network)
        assert low - 1e-6 * width <= adv.amin() < adv.amax() <= high + 1e-6 * width


IN_THE_CUBE = [name for name, attack in ATTACKS.items() if getattr(attack, "norm", "") == "linf"]
IN_THE_CUBE += ["square", "square_of_sigmoids"]
IN_THE_CUBE.remove("n_fgsm")  # its noise is larger than eps
IN_THE_BALL = [name for name, attack in ATTACKS.items() if getattr(attack, "norm", "") == "l2"]


@table(*IN_THE_CUBE)
def test_no_voxel_moves_further_than_eps_and_some_move_that_far(attack, volume, label, tiny_network):
    change = (attack(volume, label, tiny_network) - volume).abs().amax((1, 2, 3, 4))
    torch.testing.assert_close(change, torch.full_like(change, attack.eps), rtol=0, atol=1e-6)  # float32


@table(*IN_THE_BALL)
def test_root_mean_square_of_the_change_is_eps_at_most_and_nearly_that(attack, volume, label, tiny_network):
    inputs = 0.2 + 0.6 * volume  # nothing is clipped
    change = (attack(inputs, label, tiny_network) - inputs).square().mean((1, 2, 3, 4)).sqrt()
    assert (change <= attack.eps + 1e-6).all()  # float32
    assert (change >= 0.8 * attack.eps).all()


@table("frequency_pgd", "frequency_pgd_band")
def test_no_coefficient_moves_further_than_half_a_step_and_some_move_that_far(attack, volume, label, tiny_network):
    moved = attack.run(volume, label, tiny_network).variable.abs().flatten(1).amax(1)
    torch.testing.assert_close(moved, torch.full_like(moved, attack.q_max / 2))


QUANTIZING = [name for name in ATTACKS if name.startswith("vafa") and name not in STRETCHED]


@table(*QUANTIZING, "uniform_quantization", "random_quantization", "frequency_pgd", "frequency_pgd_band")
def test_coefficients_move_a_volume_by_half_a_step_at_most(attack, volume, label, tiny_network):
    """By Parseval: the rms change of the padded blocks is at most half the largest quantization step."""
    change = attack(volume, label, tiny_network) - volume
    padded = np.prod([-(-size // edge) * edge for size, edge in zip(volume.shape[2:], attack.block_size, strict=True)])
    largest_step = attack.q if isinstance(attack, UniformQuantization) else attack.q_max
    assert (change.square().sum((1, 2, 3, 4)) <= padded * (largest_step / 2 / 255) ** 2).all()


@every_attack
def test_constant_slices_and_volumes_stay_finite(attack, volume, label, tiny_network):
    volume[..., :2], volume[..., 4] = 0.0, 0.7
    inputs = torch.cat([volume[:1], *(torch.full_like(volume[:1], level) for level in (0.0, 0.3, 1.0))])
    assert attack(inputs, label[:1].repeat(4, 1, 1, 1, 1), tiny_network).isfinite().all()


@every_attack
def test_a_batch_equals_its_samples(attack, volume, label, tiny_network):
    """Every voxel is compared, in double precision: in single precision the sign of a gradient near 0 may differ."""
    inputs, network = volume.double(), tiny_network.double()
    single = [attack(inputs[i : i + 1], label[i : i + 1], network) for i in range(len(inputs))]
    torch.testing.assert_close(attack(inputs, label, network), torch.cat(single), rtol=0, atol=1e-9)


@every_attack
@pytest.mark.parametrize("training", [False, True], ids=["eval", "train"])
def test_second_call_equals_first_and_random_generators_are_left(attack, training, volume, label, normalized_network):
    normalized_network.train(training)
    random.seed(3)
    torch.manual_seed(3)
    before = (random.getstate(), torch.get_rng_state(), np.random.get_state()[1].tolist())  # noqa: NPY002
    first = attack(volume, label, normalized_network)
    assert random.getstate() == before[0]
    assert torch.equal(torch.get_rng_state(), before[1])
    assert np.random.get_state()[1].tolist() == before[2]  # noqa: NPY002
    torch.rand(7)  # the state of the global generator does not matter
    assert torch.equal(attack(volume, label, normalized_network), first)


@every_attack
def test_intensity_unit_does_not_matter(attack, volume, label, tiny_network):
    volume, network = volume.double(), tiny_network.double()
    expected = attack(volume, label, network)
    for low, width in ((-1000.0, 2000.0), (-3.0, 6.0), (0.0, 255.0)):
        rescaled = dataclasses.replace(attack, value_range=(low, low + width))(
            low + width * volume, label, lambda inputs, low=low, width=width: network((inputs - low) / width)
        )
        torch.testing.assert_close((rescaled - low) / width, expected, rtol=0, atol=1e-9)


@every_attack
def test_metadata_of_the_inputs_is_kept(attack, expected, volume, label, tiny_network):
    affine = torch.diag(torch.tensor([1.5, 2.0, 3.0, 1.0], dtype=torch.float64))
    inputs = MetaTensor(volume, affine=affine, meta={"filename_or_obj": "case"})
    adv = attack(inputs, MetaTensor(label.float()), tiny_network)
    assert isinstance(adv, MetaTensor)
    assert torch.equal(adv.affine, affine)
    assert adv.meta["filename_or_obj"] == "case"
    assert torch.equal(adv.as_tensor(), expected)


@every_attack
def test_attack_works_where_gradients_are_switched_off(attack, expected, volume, label, tiny_network):
    with torch.no_grad():
        assert torch.equal(attack(volume, label, tiny_network), expected)


@every_attack
def test_attack_works_inside_autocast(attack, device, volume, label, tiny_network):
    inputs, network = volume.to(device), tiny_network.to(device)
    with torch.autocast(device.type, dtype=torch.bfloat16):
        adv = attack(inputs, label.to(device), network)
    assert adv.dtype == torch.float32
    if not isinstance(attack, (LossAttack, AttackEnsemble)):
        assert torch.equal(adv, attack(inputs, label.to(device), network))


def test_loss_gets_single_precision_inside_autocast(device, volume, label, tiny_network):
    seen = []
    attack = FGSM(loss_function=lambda logits, _: seen.append(logits.dtype) or logits.sum())
    with torch.autocast(device.type, dtype=torch.bfloat16):
        attack(volume.to(device), label.to(device), tiny_network.to(device))
    assert set(seen) == {torch.float32}


# What is left alone


def freeze_one_weight_and_fill_the_gradient_of_another(network: nn.Module) -> None:
    first, *_, last = network.parameters()
    first.requires_grad_(False)
    last.grad = torch.ones_like(last)


@every_attack
def test_network_is_left_as_it_was(attack, volume, label, normalized_network):
    network = normalized_network
    freeze_one_weight_and_fill_the_gradient_of_another(network)
    asked = [parameter.requires_grad for parameter in network.parameters()]
    *others, last = network.parameters()
    for mode in ("eval", "train", "batch norm in train"):
        network.train(mode == "train")[1].train(mode != "eval")
        state = {name: value.clone() for name, value in network.state_dict().items()}
        modes = [module.training for module in network.modules()]
        attack(volume, label, network)
        torch.testing.assert_close(network.state_dict(), state, rtol=0, atol=0)
        assert [parameter.requires_grad for parameter in network.parameters()] == asked, mode
        assert [module.training for module in network.modules()] == modes, mode
        assert all(parameter.grad is None for parameter in others), mode
        assert torch.equal(last.grad, torch.ones_like(last)), mode


@every_attack_that_asks
def test_network_is_left_as_it_was_when_the_attack_fails(attack, volume, label, normalized_network):
    network = normalized_network.train()
    state = {name: value.clone() for name, value in network.state_dict().items()}
    with pytest.raises(ValueError, match=r"class indices|hold 0 or 1 in each channel"):
        attack(volume, label + 1, network)
    torch.testing.assert_close(network.state_dict(), state, rtol=0, atol=0)
    assert all(parameter.requires_grad for parameter in network.parameters())


@every_attack
def test_arguments_are_left_as_they_were(attack, volume, label, tiny_network):
    inputs, targets = volume.clone().requires_grad_(), label.clone()
    adv = attack(inputs, targets, tiny_network)
    adv.add_(1)  # no view of the inputs
    assert torch.equal(inputs.detach(), volume)
    assert torch.equal(targets, label)
    assert inputs.requires_grad
    assert inputs.grad is None


class Scale(torch.autograd.Function):
    """``volume * weight``; the backward notes which of the two gradients are wanted."""

    wanted: list[tuple[bool, ...]] = []  # noqa: RUF012

    @staticmethod
    def forward(ctx, volume: Tensor, weight: Tensor) -> Tensor:
        ctx.save_for_backward(volume, weight)
        return volume * weight

    @staticmethod
    def backward(ctx, gradient: Tensor) -> tuple[Tensor, Tensor]:
        Scale.wanted.append(ctx.needs_input_grad)
        volume, weight = ctx.saved_tensors
        return gradient * weight, (gradient * volume).sum()


class ScaleNetwork(nn.Module):
    """A network of one weight."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.tensor(2.0))

    def forward(self, inputs: Tensor) -> Tensor:
        scaled = Scale.apply(inputs, self.weight)
        return torch.cat([scaled, 1 - scaled, scaled**2], dim=1)


@pytest.fixture
def wanted_gradients() -> Iterator[list[tuple[bool, ...]]]:
    Scale.wanted.clear()
    yield Scale.wanted
    Scale.wanted.clear()


@every_gradient_attack
def test_no_gradient_of_a_weight_is_computed(attack, volume, label, wanted_gradients):
    attack(volume, label, ScaleNetwork())
    assert wanted_gradients
    assert set(wanted_gradients) == {(True, False)}


@table("square", "square_targeted", "square_of_sigmoids")
def test_black_box_asks_for_no_gradient(attack, volume, label, wanted_gradients):
    attack(volume, label, ScaleNetwork())
    assert wanted_gradients == []


@table("gaussian_noise", "identity", "identity_stretched", "uniform_quantization", "random_quantization")
def test_controls_do_not_ask_the_network(attack, volume, label, tiny_network):
    assert torch.equal(attack(volume, label, None), attack(volume, label, tiny_network))


# What it is good for


def loss_of(network: nn.Module, inputs: Tensor, label: Tensor, output: str = "softmax") -> float:
    with torch.no_grad():
        return dice_ce(output)(network(inputs), label).item()


def losses_of_noise(
    network: nn.Module, inputs: Tensor, label: Tensor, rms: Tensor, output: str = "softmax"
) -> list[float]:
    """Losses of the inputs under ten Gaussian noises of the root mean square ``rms``."""
    noises = torch.randn(10, *inputs.shape, generator=torch.Generator().manual_seed(0))
    scaled = [rms * noise / noise.square().mean().sqrt() for noise in noises]
    return [loss_of(network, inputs + noise, label, output) for noise in scaled]


HARMFUL = ["vafa_audit", "pgd", "pgd_random_start", "pgd_best", "pgd_l2", "bim", "fgsm"]
HARMFUL += ["apgd", "apgd_l2", "apgd_restarts", "seg_pgd", "cos_pgd", "transfer_pgd", "n_fgsm"]
HARMFUL += ["frequency_pgd", "frequency_pgd_band"]
HARMFUL += [f"{name}_of_sigmoids" for name in OF_SIGMOIDS if name not in ("pgd_targeted", "square", "ensemble")]


@table(*HARMFUL)
def test_loss_rises_more_than_under_noise_of_the_same_size(attack, volume, label, tiny_network):
    inputs = 0.2 + 0.6 * volume  # nothing is clipped, so both changes keep their size
    adv = attack(inputs, label, tiny_network)
    noise = losses_of_noise(tiny_network, inputs, label, (adv - inputs).square().mean().sqrt(), attack.output)
    assert loss_of(tiny_network, adv, label, attack.output) > np.mean(noise) + 3 * np.std(noise)


@table("vafa_targeted", "pgd_targeted", "seg_pgd_targeted", "cos_pgd_targeted", "square_targeted")
def test_targeted_loss_falls_more_than_under_noise_of_the_same_size(attack, volume, label, tiny_network):
    inputs, goal = 0.2 + 0.6 * volume, 2 - label
    adv = dataclasses.replace(attack, **({"ssim_weight": 0} if isinstance(attack, VAFA) else {}))(
        inputs, goal, tiny_network
    )
    noise = losses_of_noise(tiny_network, inputs, goal, (adv - inputs).square().mean().sqrt())
    assert loss_of(tiny_network, adv, goal) < np.mean(noise) - 3 * np.std(noise)


# How it is set up


def settings_of(attack: Attack) -> dict:
    return {f.name: getattr(attack, f.name) for f in dataclasses.fields(attack) if f.init and f.name != "loss_function"}


@every_attack
def test_attack_from_json_equals_the_one_from_python(attack, expected, volume, label, tiny_network):
    config = {"_target_": f"vafa_monai.attacks.{type(attack).__name__}", **settings_of(attack)}
    rebuilt = ConfigParser({"attack": json.loads(json.dumps(config))}).get_parsed_content("attack")
    assert type(rebuilt) is type(attack)
    assert settings_of(rebuilt) == settings_of(attack)
    assert torch.equal(rebuilt(volume, label, tiny_network), expected)


@pytest.mark.parametrize("name", ["authors", "paper", "audit"])
def test_preset_from_json_equals_the_one_from_python(name):
    config = {"_target_": "vafa_monai.attacks.VAFA.preset", "name": name, "block_size": list(BLOCK), "steps": 3}
    attack = ConfigParser({"attack": json.loads(json.dumps(config))}).get_parsed_content("attack")
    assert settings_of(attack) == settings_of(ATTACKS[f"vafa_{name}"])


def test_loss_function_can_be_built_from_json(volume, label, tiny_network):
    loss = {"_target_": "monai.losses.DiceLoss", "to_onehot_y": True, "softmax": True}
    parser = ConfigParser({"attack": {"_target_": "vafa_monai.attacks.FGSM", "loss_function": loss}})
    expected = FGSM(loss_function=parser.get_parsed_content("attack#loss_function"))(volume, label, tiny_network)
    adv = parser.get_parsed_content("attack")(volume, label, tiny_network)
    assert torch.equal(adv, expected)
    assert not torch.equal(adv, FGSM()(volume, label, tiny_network))


def test_settings_have_names_and_cannot_be_changed(not_refused):
    frozen, match = dataclasses.FrozenInstanceError, "cannot assign to field 'value_range'"
    assert not_refused(frozen, match, lambda attack: setattr(attack, "value_range", (0.0, 2.0)), ATTACKS) == {}
    assert not_refused(TypeError, "positional argument", lambda attack: type(attack)((0.0, 1.0)), ATTACKS) == {}


ENDS = {
    "rho 0": lambda: APGD(steps=2, rho=0),
    "rho 1": lambda: APGD(steps=2, rho=1),
    "broken_at 0": lambda: AttackEnsemble(block_size=BLOCK, steps=1, queries=1, broken_at=0),
    "broken_at 1": lambda: AttackEnsemble(block_size=BLOCK, steps=1, queries=1, broken_at=1),
    "first_share 1": lambda: SquareAttack(queries=2, first_share=1),
    "all of transfer 1": lambda: TransferPGD(steps=2, momentum=1, diversity=1, least_share=1),
}


@pytest.mark.parametrize("build", ENDS.values(), ids=ENDS)
def test_ends_of_a_range_belong_to_it(build, volume, label, tiny_network):
    assert build()(volume, label, tiny_network).isfinite().all()


@pytest.mark.parametrize("value_range", [(1.0, 0.0), (0.0, 0.0), (0.0, 1.0, 2.0), (float("nan"), 1.0)], ids=str)
def test_an_empty_value_range_is_refused(value_range, not_refused):
    match = r"value_range must be two finite numbers, the lower first, got \("
    assert not_refused(ValueError, match, lambda attack: type(attack)(value_range=value_range), ATTACKS) == {}


NOTHING = {
    "vafa_authors": VAFA.preset("authors", steps=0),
    "vafa_audit": VAFA(steps=0),
    "pgd": PGD(steps=0),
    "pgd_best": PGD(steps=0, iterate="best"),
    "bim": BIM(steps=0),
    "apgd": APGD(steps=0),
    "apgd_l2": APGD(steps=0, norm="l2"),
    "seg_pgd": SegPGD(steps=0),
    "cos_pgd": CosPGD(steps=0),
    "transfer_pgd": TransferPGD(steps=0),
    "frequency_pgd": FrequencyPGD(steps=0),
    "frequency_pgd_of_no_width": FrequencyPGD(q_max=0, steps=2),
    "square": SquareAttack(queries=0),
    "gaussian_noise": GaussianNoise(std=0),
    "identity": Identity(),
}


@pytest.mark.parametrize("attack", NOTHING.values(), ids=NOTHING.keys())
def test_without_strength_it_is_the_identity(attack, volume, label, tiny_network):
    before = volume.clone()
    adv = attack(volume, label, tiny_network)
    assert torch.equal(adv, before)
    assert not torch.equal(adv.add_(1), volume)  # no view of the inputs


@pytest.mark.parametrize("attack", [PGD, BIM, FGSM, APGD, SegPGD, CosPGD, TransferPGD, SquareAttack])
def test_eps_zero_is_the_identity_and_warns_the_caller(attack, volume, label, tiny_network):
    with pytest.warns(UserWarning, match=f"eps is 0, so {attack.__name__} changes nothing") as caught:
        nothing = attack(eps=0, **({"queries": 3} if attack is SquareAttack else {}))
    assert torch.equal(nothing(volume, label, tiny_network), volume)
    assert [warning.filename for warning in caught] == [__file__]


# What it refuses

INPUTS_MUST_FIT = r"inputs must be finite and lie in value_range \(0\.0, 1\.0\), got "
BAD_ARGUMENTS: dict[str, tuple[Callable[[Tensor, Tensor], tuple[Tensor, Tensor]], str]] = {
    "nan": (lambda v, t: (v.masked_fill(v > 0.9, float("nan")), t), INPUTS_MUST_FIT + "nan to nan"),
    "infinite": (lambda v, t: (v.masked_fill(v > 0.9, float("inf")), t), INPUTS_MUST_FIT + "0 to inf"),
    "too bright": (lambda v, t: (1.01 * v, t), INPUTS_MUST_FIT + r"0 to 1\.01"),
    "too dark": (lambda v, t: (v - 0.01, t), INPUTS_MUST_FIT + r"-0\.01 to 0\.99"),
    "integers": (lambda v, t: ((255 * v).int(), t), r"inputs must be floating-point .*, got torch\.int32"),
    "4D": (lambda v, t: (v[0], t), r"inputs must be .* of shape \(B, C, H, W, D\), got .* \(1, 11, 9, 6\)"),
    "label of another size": (lambda v, t: (v, t[..., 1:]), r"targets must have .*, got \(2, 1, 11, 9, 5\) for inputs"),
    "label of another batch": (lambda v, t: (v, t[:1]), r"targets must have the batch .*, got \(1, 1, 11, 9, 6\)"),
    "label without channel": (lambda v, t: (v, t[:, 0]), r"targets must have .* shape of inputs, got \(2, 11, 9, 6\)"),
    "negative label": (lambda v, t: (v, t - 1), r"targets must hold class indices from 0 on, got -1"),
    "label just below its class": (
        lambda v, t: (v, t * 0.999999),
        r"targets must hold whole numbers .*, got [01]\.99999",
    ),
    "label between classes": (lambda v, t: (v, t / 2), r"targets must hold whole numbers .*, got 0\.5; round labels"),
    "nan label": (lambda v, t: (v, t / t), r"targets must hold whole numbers as class indices, got nan"),
    "infinite label": (lambda v, t: (v, t / 0), r"targets must hold whole numbers as class indices, got"),
}


@pytest.mark.parametrize(("spoil", "match"), BAD_ARGUMENTS.values(), ids=BAD_ARGUMENTS.keys())
def test_bad_arguments_are_refused(spoil, match, not_refused, volume, label, tiny_network):
    arguments = (*spoil(volume, label), tiny_network)
    assert not_refused(ValueError, match, lambda attack: attack(*arguments), SOFTMAX) == {}


@every_attack
def test_labels_of_any_dtype_give_the_attack_of_int64(attack, expected, volume, label, tiny_network):
    for dtype in (torch.uint16, torch.int8):
        assert torch.equal(attack(volume, label.to(dtype), tiny_network), expected), dtype


@every_attack
def test_boolean_labels_are_classes_0_and_1(attack, volume, label, tiny_network):
    two = label > 0
    assert torch.equal(attack(volume, two, tiny_network), attack(volume, two.float(), tiny_network))


@every_attack
def test_rounding_beyond_value_range_is_allowed_and_cut(attack, volume, label, tiny_network):
    adv = attack(volume * (1 + 5e-5), label, tiny_network)  # as resampling does
    assert torch.isfinite(adv).all()


def test_a_label_without_a_logit_is_refused(not_refused, volume, label, tiny_network):
    match = r"targets must hold class indices from 0 to 2, got 3"
    assert not_refused(ValueError, match, lambda attack: attack(volume, label + 1, tiny_network), SOFTMAX_ASKING) == {}


UNFIT_REGIONS: dict[str, tuple[Callable[[Tensor], Tensor], str]] = {
    "class indices": (lambda t: 2 * t, r"targets must hold 0 or 1 in each channel of a sigmoid, got 2"),
    "probabilities": (lambda t: t / 2, r"targets must hold 0 or 1 in each channel of a sigmoid, got 0\.5"),
    "nan": (lambda t: t / 0, r"targets must hold 0 or 1 in each channel of a sigmoid, got (nan|inf)"),
    "another number of channels": (
        lambda t: t[:, :2],
        r"targets must have the .* of input|have the 3 channels .* got 2",
    ),
}


@pytest.mark.parametrize(("spoil", "match"), UNFIT_REGIONS.values(), ids=UNFIT_REGIONS)
def test_labels_that_are_no_regions_are_refused(spoil, match, not_refused, volume, label, tiny_network):
    def call(attack: Attack) -> Tensor:
        return attack(volume, spoil(labels_of(attack, label)), tiny_network)

    assert not_refused(ValueError, match, call, SIGMOID) == {}


def test_labels_of_several_channels_and_logits_of_one_are_no_softmax(not_refused, volume, label, tiny_network):
    attacks = SOFTMAX_ASKING | {"ensemble": ATTACKS["ensemble"]}
    regions = labels_of(SIGMOID["ensemble_of_sigmoids"], label)
    match = r'targets must have one channel .*, got 3; .*are output="sigmoid"'
    assert not_refused(ValueError, match, lambda attack: attack(volume, regions, tiny_network), attacks) == {}
    two, one_channel = label.clamp_max(1), lambda inputs: tiny_network(inputs)[:, :1]
    match = r'(one channel for each class|softmax of 1 channel).*output="sigmoid"'
    assert not_refused(ValueError, match, lambda attack: attack(volume, two, one_channel), attacks) == {}


UNFIT_LOGITS: dict[str, tuple[Callable[[Tensor], object], type[Exception], str]] = {
    "a list": (
        lambda logits: [logits],
        TypeError,
        r"network must return one tensor of logits, got list of tensor \(\d, 3, .*\); .*OutputAdapter",
    ),
    "not finite": (lambda logits: logits * float("nan"), RuntimeError, r"(?i)finite.*\bnan\b"),
}


@pytest.mark.parametrize(("spoil", "kind", "match"), UNFIT_LOGITS.values(), ids=UNFIT_LOGITS)
def test_unfit_logits_never_look_like_a_robust_network(spoil, kind, match, not_refused, volume, label, tiny_network):
    def call(attack: Attack) -> Tensor:
        return attack(volume, labels_of(attack, label), lambda inputs: spoil(tiny_network(inputs)))

    assert not_refused(kind, match, call, ASKING) == {}
