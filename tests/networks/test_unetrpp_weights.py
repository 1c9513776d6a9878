"""Published UNETR++ networks: names, shapes and outputs; see ``published/README.md`` for what the numbers are."""

from __future__ import annotations

import math
from functools import cache, lru_cache
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from vafa_monai.networks import UNETRPP, load_official_unetrpp

FOLDER = Path(__file__).with_name("published")
VARIANTS = {"synapse": (42_952_275, (64, 128, 128)), "acdc": (66_796_404, (16, 160, 160))}
REVERSED = (0, 1, 4, 3, 2)
every_variant = pytest.mark.parametrize("variant", VARIANTS)


@cache
def published_shapes(variant: str) -> dict[str, tuple[int, ...]]:
    lines = (FOLDER / f"unetrpp_{variant}.txt").read_text().splitlines()
    parts = (line.partition(" ") for line in lines)
    return {name: tuple(int(edge) for edge in shape.split(",") if edge) for name, _, shape in parts}


def value_by_formula(name: str, shape: tuple[int, ...], number: int) -> Tensor:
    """The weights that the published outputs belong to."""
    if name.endswith("num_batches_tracked"):
        return torch.tensor(0)
    wave = torch.cos(0.618 * torch.arange(math.prod(shape), dtype=torch.float64) + number).reshape(shape)
    if name.endswith("running_var"):
        return 1 + 0.5 * wave.abs()
    if name.endswith("gamma"):
        return 0.5 + 0.1 * wave
    if name.endswith("pos_embed"):
        return 0.02 * wave
    if len(shape) in (2, 4, 5):
        return wave * math.sqrt(2 * shape[0] / wave.numel())
    return 1 + 0.1 * wave if len(shape) == 3 or name.endswith("weight") else 0.1 * wave


@lru_cache(maxsize=1)  # a quarter of a gigabyte
def state_dict(variant: str) -> dict[str, Tensor]:
    shapes = published_shapes(variant)
    values = {name: value_by_formula(name, shapes[name], number) for number, name in enumerate(sorted(shapes))}
    return {name: value.float() if value.is_floating_point() else value for name, value in values.items()}


def volume_by_formula(size: tuple[int, ...]) -> Tensor:
    """The volume ``(1, 1, z, y, x)`` that the published outputs belong to."""
    z, y, x = torch.meshgrid(*(torch.arange(edge, dtype=torch.float64) for edge in size), indexing="ij")
    wave = torch.sin(0.11 * z + 0.07 * y**1.1 + 0.05 * x) * torch.cos(0.013 * z * y.sqrt())
    return (0.5 + 0.5 * wave).float()[None, None]


@pytest.fixture(scope="module", params=VARIANTS)
def loaded(request: pytest.FixtureRequest) -> tuple[str, UNETRPP]:
    return request.param, load_official_unetrpp(state_dict(request.param))


@every_variant
def test_published_network_has_the_published_number_of_parameters(variant):
    with torch.device("meta"):
        parameters = UNETRPP.preset(variant).parameters()
    assert sum(parameter.numel() for parameter in parameters) == VARIANTS[variant][0]


@every_variant
@pytest.mark.parametrize("axes", ["zyx", "xyz"])
def test_published_network_has_the_published_names_and_shapes(variant, axes):
    with torch.device("meta"):
        tensors = UNETRPP.preset(variant, axes).state_dict()
    assert {name: tuple(tensor.shape) for name, tensor in tensors.items()} == published_shapes(variant)


def test_loaded_network_holds_the_tensors_and_is_in_eval_mode(loaded):
    variant, network = loaded
    assert not network.training
    assert network.img_size == VARIANTS[variant][1]
    shared = {name for name in network.state_dict() if name.endswith((".E.weight", ".E.bias"))}
    for name, tensor in network.state_dict().items():
        source = name.replace(".E.", ".F.") if variant == "synapse" and name in shared else name
        torch.testing.assert_close(tensor, state_dict(variant)[source], rtol=0, atol=0)


def test_loaded_network_shares_no_memory(loaded):
    variant, network = loaded
    own = {tensor.data_ptr() for tensor in network.state_dict().values()}
    assert own.isdisjoint(tensor.data_ptr() for tensor in state_dict(variant).values())


@pytest.mark.parametrize(
    ("variant", "axes"),
    [
        ("synapse", "zyx"),
        ("acdc", "xyz"),
        pytest.param("synapse", "xyz", marks=pytest.mark.slow),
        pytest.param("acdc", "zyx", marks=pytest.mark.slow),
    ],
)
def test_outputs_are_the_published_ones_in_either_axis_order(variant, axes):
    order = (0, 1, 2, 3, 4) if axes == "zyx" else REVERSED
    network = load_official_unetrpp(state_dict(variant), axes=axes)
    with torch.no_grad():
        outputs = network.deep_outputs(volume_by_formula(VARIANTS[variant][1]).permute(order))
    assert_published([output.permute(order) for output in outputs], variant)


def assert_published(outputs: list[Tensor], variant: str) -> None:
    published = np.load(FOLDER / "unetrpp_outputs.npz")
    for scale, output in enumerate(outputs):
        shape, stats, index, value = (
            published[f"{variant}_out{scale}_{key}"] for key in ("shape", "stats", "index", "value")
        )
        tolerance = 1e-3 * stats[1]
        assert output.shape == tuple(shape)
        np.testing.assert_allclose(output.flatten()[index.astype(int)].numpy(), value, rtol=0, atol=tolerance)
        measured = (output.double().mean().item(), output.double().std().item(), output.abs().max().item())
        np.testing.assert_allclose(measured, stats, rtol=0, atol=tolerance)


def zeros_of(variant: str) -> dict[str, Tensor]:
    """All published tensors, of one zero each in memory."""
    return {name: torch.zeros(()).expand(shape) for name, shape in published_shapes(variant).items()}


@every_variant
def test_names_may_have_the_prefix_of_a_parallel_network(variant):
    network = load_official_unetrpp({f"module.{name}": tensor for name, tensor in zeros_of(variant).items()})
    assert all(not tensor.any() for tensor in network.state_dict().values())


@every_variant
def test_a_missing_tensor_is_refused(variant):
    tensors = zeros_of(variant)
    del tensors["out3.conv.conv.bias"]
    with pytest.raises(
        ValueError, match=f"got 1 that differ from '{variant}', first 'out3.conv.conv.bias', which is m"
    ):
        load_official_unetrpp(tensors)


@every_variant
def test_a_tensor_of_another_shape_is_refused(variant):
    tensors = zeros_of(variant) | {"encoder1.conv3.conv.weight": torch.zeros(16, 1, 1, 1, 3)}
    with pytest.raises(ValueError, match=r"first 'encoder1.conv3.conv.weight' of shape \(16, 1, 1, 1, 3\) instead of"):
        load_official_unetrpp(tensors)


@every_variant
def test_an_unknown_tensor_is_refused(variant):
    with pytest.raises(ValueError, match=f"got 1 that differ from '{variant}', first 'extra', which is unknown"):
        load_official_unetrpp(zeros_of(variant) | {"extra": torch.zeros(1)})


@pytest.mark.parametrize(
    "spoil",
    [lambda tensor: tensor * math.nan, lambda tensor: tensor.long(), lambda tensor: tensor.to(torch.complex64)],
    ids=["NaN", "whole numbers", "complex"],
)
def test_weights_that_are_not_real_and_finite_are_refused(spoil):
    tensors = zeros_of("acdc")
    tensors["out1.conv.conv.bias"] = spoil(tensors["out1.conv.conv.bias"])
    with pytest.raises(ValueError, match=r"got 1 that .* first 'out1.conv.conv.bias', which is not real and finite"):
        load_official_unetrpp(tensors)


def test_a_whole_checkpoint_is_refused():
    with pytest.raises(ValueError, match="state_dict must hold the published tensors, got"):
        load_official_unetrpp({"epoch": 3, "state_dict": zeros_of("acdc")})


def test_an_unknown_axis_order_is_refused():
    with pytest.raises(ValueError, match="axes must hold each letter of 'xyz' once, got 'zyz'"):
        load_official_unetrpp(zeros_of("acdc"), axes="zyz")
