"""The promises of UNETR++ on tiny networks; ``test_unetrpp_weights.py`` has the published ones."""

from __future__ import annotations

import json
import re
from itertools import permutations

import pytest
import torch
from monai.bundle import ConfigParser, verify_net_in_out
from monai.losses import DeepSupervisionLoss, DiceCELoss
from torch import Tensor, nn

from vafa_monai.attacks import PGD
from vafa_monai.networks import UNETRPP

EDGES = {"x": 16, "y": 8, "z": 24}
STEM = {"x": 2, "y": 1, "z": 1}
SETTINGS = {
    "in_channels": 2,
    "out_channels": 3,
    "img_size": [16, 8, 24],
    "stem_stride": [2, 1, 1],
    "feature_size": 4,
    "dims": [4, 6, 8, 10],
    "depths": [1, 2, 1, 1],
    "num_heads": 2,
    "projection_sizes": [5, 4, 3, 2],
}
SIZES = [(16, 8, 24), (8, 8, 24), (4, 4, 12)]
quiet_jit = pytest.mark.filterwarnings("ignore::FutureWarning", "ignore::torch.jit.TracerWarning")
every_kind = pytest.mark.parametrize(
    "kind", [{}, {"shared_projection": False, "second_residual_block": True}], ids=["synapse", "acdc"]
)


def build(**overrides: object) -> UNETRPP:
    """A network whose attention matters, in eval mode."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        network = UNETRPP(**{**SETTINGS, **overrides}).eval()
        for name, tensor in network.state_dict().items():
            if name.endswith(("gamma", "pos_embed", "running_mean", "running_var")):
                nn.init.uniform_(tensor, 0.5, 1.5)
    return network


def volumes_of(batch: int) -> Tensor:
    return torch.rand(batch, 2, *SIZES[0], generator=torch.Generator().manual_seed(batch))


def test_eval_mode_gives_one_tensor_the_finest_scale():
    network, volumes = build(), volumes_of(2)
    logits, scales = network(volumes), network.deep_outputs(volumes)
    assert [tuple(scale.shape) for scale in scales] == [(2, 3, *size) for size in SIZES]
    torch.testing.assert_close(logits, scales[0], rtol=0, atol=0)
    assert logits.is_contiguous()


def test_train_mode_gives_every_scale_and_its_loss_reaches_every_parameter():
    network = build(attention_dropout=0.0, feature_dropout=0.0).train()
    scales = network(volumes_of(2))
    assert [tuple(scale.shape) for scale in scales] == [(2, 3, *size) for size in SIZES]
    label = torch.randint(0, 3, (2, 1, *SIZES[0]), generator=torch.Generator().manual_seed(0)).float()
    DeepSupervisionLoss(DiceCELoss(to_onehot_y=True, softmax=True))(scales, label).backward()
    unreached = [name for name, weight in network.named_parameters() if weight.grad is None or not weight.grad.any()]
    assert unreached == []


def test_without_deep_supervision_train_mode_gives_one_tensor_too():
    network = build(deep_supervision=False)
    assert not [name for name in network.state_dict() if name.startswith(("out2", "out3"))]
    assert network.train()(volumes_of(2)).shape == (2, 3, *SIZES[0])
    assert len(network.deep_outputs(volumes_of(2))) == 1


@every_kind
def test_batch_of_two_is_two_batches_of_one(kind):
    network, volumes = build(**kind), volumes_of(2)
    halves = torch.cat([network(volumes[:1]), network(volumes[1:])])
    torch.testing.assert_close(network(volumes), halves, rtol=0, atol=1e-4)


@pytest.mark.parametrize("axes", ["".join(order) for order in permutations("xyz")])
def test_every_axis_order_is_the_same_function_of_the_same_weights(axes):
    sizes = {"img_size": [EDGES[axis] for axis in axes], "stem_stride": [STEM[axis] for axis in axes]}
    network, volumes = build(), volumes_of(1)
    other = build(axes=axes, **sizes)
    other.load_state_dict(network.state_dict())
    order = [0, 1, *(2 + "xyz".index(axis) for axis in axes)]
    actual = other.deep_outputs(volumes.permute(order))
    for scale, expected in zip(actual, network.deep_outputs(volumes), strict=True):
        torch.testing.assert_close(scale, expected.permute(order), rtol=0, atol=1e-5)


@pytest.mark.parametrize("rates", [(0.5, 0.0), (0.0, 0.5)], ids=["attention", "features"])
def test_dropout_acts_in_training_only(rates):
    network, volumes = build(attention_dropout=rates[0], feature_dropout=rates[1]), volumes_of(2)
    torch.testing.assert_close(network(volumes), network(volumes), rtol=0, atol=0)
    drawn = [network.train()(volumes)[0] for _ in range(2)]
    assert not torch.allclose(*drawn)


def test_training_without_dropout_is_repeatable():
    network, volumes = build(attention_dropout=0.0, feature_dropout=0.0).train(), volumes_of(2)
    torch.testing.assert_close(network(volumes)[0], network(volumes)[0], rtol=0, atol=0)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_dtype_and_device_follow(dtype, device):
    network, volumes = build().to(device, dtype), volumes_of(1).to(device, dtype)
    logits = network(volumes)
    assert (logits.dtype, logits.device.type) == (dtype, device.type)
    torch.testing.assert_close(logits.cpu().float(), build()(volumes_of(1)), rtol=0, atol=1e-3)


def test_autocast_changes_logits_little():
    network, volumes = build(), volumes_of(1)
    with torch.autocast("cpu", torch.bfloat16):
        logits = network(volumes)
    assert (logits - network(volumes)).abs().mean() < 0.05 * network(volumes).std()


def test_gradient_to_the_volume_is_that_of_finite_differences():
    network, volumes = build().double(), volumes_of(1).double().requires_grad_()
    direction = torch.randn(volumes.shape, dtype=torch.float64, generator=torch.Generator().manual_seed(0))

    def along(step: Tensor) -> Tensor:
        return network(volumes.detach() + step * direction).square().mean()

    torch.autograd.gradcheck(along, torch.zeros((), dtype=torch.float64, requires_grad=True))


def test_an_attack_raises_the_loss():
    network, volumes = build(), volumes_of(1)
    label = network(volumes).argmax(1, keepdim=True)
    adv = PGD(steps=3)(volumes, label, network)
    loss = DiceCELoss(to_onehot_y=True, softmax=True)
    assert loss(network(adv), label) > loss(network(volumes), label)


@quiet_jit
@every_kind
def test_traced_network_is_the_network(kind):
    network = build(**kind)
    traced = torch.jit.trace(network, volumes_of(2))
    torch.testing.assert_close(traced(volumes_of(3)), network(volumes_of(3)), rtol=0, atol=1e-4)


@quiet_jit
@pytest.mark.parametrize("settings", [{}, {"deep_supervision": False}, {"second_residual_block": True}])
def test_scripted_network_is_the_network(settings, tmp_path):
    network = build(**settings)
    torch.jit.script(network).save(tmp_path / "network.ts")
    scripted = torch.jit.load(tmp_path / "network.ts")
    torch.testing.assert_close(scripted(volumes_of(2)), network(volumes_of(2)), rtol=0, atol=1e-5)


# Construction


def shapes_of(network: UNETRPP) -> dict[str, tuple[int, ...]]:
    return {name: tuple(tensor.shape) for name, tensor in network.state_dict().items()}


def test_network_is_built_from_json():
    config = json.loads(json.dumps({"network_def": {"_target_": "vafa_monai.networks.UNETRPP", **SETTINGS}}))
    network = ConfigParser(config).get_parsed_content("network_def")
    assert shapes_of(network) == shapes_of(build())
    assert network.eval()(volumes_of(1)).shape == (1, 3, *SIZES[0])


@pytest.mark.parametrize(
    ("name", "settings"),
    [
        ("synapse", {"out_channels": 9, "img_size": [128, 128, 64], "stem_stride": [4, 4, 2]}),
        (
            "acdc",
            {
                "out_channels": 4,
                "img_size": [160, 160, 16],
                "stem_stride": [4, 4, 1],
                "shared_projection": False,
                "second_residual_block": True,
                "attention_dropout": 0.1,
            },
        ),
    ],
)
def test_preset_is_what_its_arguments_spell(name, settings):
    with torch.device("meta"):
        preset, spelled = UNETRPP.preset(name), UNETRPP(in_channels=1, **settings)
    assert preset.img_size == spelled.img_size == tuple(settings["img_size"])
    assert str(preset) == str(spelled)
    assert shapes_of(preset) == shapes_of(spelled)


def test_preset_takes_overrides_in_its_axis_order():
    with torch.device("meta"):
        network = UNETRPP.preset("acdc", "yxz", in_channels=2, img_size=(64, 32, 8))
    assert (network.in_channels, network.img_size) == (2, (64, 32, 8))


def test_network_passes_the_check_of_a_bundle(tmp_path):
    image = {"type": "image", "num_channels": 2, "spatial_shape": list(SIZES[0]), "dtype": "float32"}
    pred = {**image, "num_channels": 3}
    meta = {"network_data_format": {"inputs": {"image": image}, "outputs": {"pred": pred}}}
    config = {"network_def": {"_target_": "vafa_monai.networks.UNETRPP", **SETTINGS}}
    for name, content in (("metadata", meta), ("inference", config)):
        (tmp_path / f"{name}.json").write_text(json.dumps(content))
    verify_net_in_out("network_def", str(tmp_path / "metadata.json"), str(tmp_path / "inference.json"), device="cpu")


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"in_channels": 0}, "in_channels must be a positive whole number, got 0."),
        ({"out_channels": 2.0}, "out_channels must be a positive whole number, got 2.0."),
        ({"num_heads": "2"}, "num_heads must be a positive whole number, got '2'."),
        ({"dims": [4, 6, 8]}, "dims must be 4 positive whole numbers, got [4, 6, 8]."),
        ({"dims": [4, 6, 8, 9]}, "channels (dims of a network) must be a multiple of 2 and of num_heads 2, got 9."),
        ({"depths": [1, 0, 1, 1]}, "every entry of depths must be a positive whole number, got 0."),
        ({"projection_sizes": 64}, "projection_sizes must be 4 positive whole numbers, got 64."),
        ({"img_size": [24, 8, 24]}, "img_size must be a multiple of (16, 8, 8) (8 * stem_stride), got (24, 8, 24)."),
        ({"axes": "zy"}, "axes must hold each letter of 'xyz' once, got 'zy'."),
        ({"attention_dropout": 2}, "dropout probability has to be between 0 and 1, but got 2"),
        ({"feature_dropout": -1}, "dropout probability has to be between 0 and 1, but got -1"),
    ],
)
def test_an_impossible_setting_is_refused(settings, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        build(**settings)


@pytest.mark.parametrize("shape", [(1, 2, 16, 8, 32), (1, 1, 16, 8, 24), (2, 16, 8, 24), (1, 2, 24, 8, 16)])
def test_a_volume_of_another_shape_is_refused(shape):
    message = f"volume must have the shape (B, 2, 16, 8, 24), got {shape}."
    with pytest.raises(ValueError, match=re.escape(message)):
        build()(torch.zeros(shape))


def test_an_unknown_preset_is_refused():
    with pytest.raises(ValueError, match="name must be one of 'synapse', 'acdc', got 'brats'"):
        UNETRPP.preset("brats")


def test_an_unknown_axis_order_of_a_preset_is_refused():
    with pytest.raises(ValueError, match="axes must hold each letter of 'xyz' once, got 'hwd'"):
        UNETRPP.preset("acdc", axes="hwd")
