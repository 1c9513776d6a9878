"""Weights of older UNETRs fit the UNETR of MONAI 1.6 and mean the same.

That the outputs stay the same was checked once with the networks of the older MONAIs themselves; see the docstring of
``convert_unetr_weights``. Here the published names and shapes are written down as formulas.
"""

from __future__ import annotations

import math

import pytest
import torch
from monai.networks.nets import UNETR
from torch import Tensor

from vafa_monai.networks import convert_unetr_weights

SMALL = {"size": (32, 16, 48), "classes": 3, "feature": 4, "hidden": 24, "mlp": 48}
EXTRAS = {  # of the published weights
    "vit.patch_embedding.cls_token",
    "encoder2.blocks.0.1.conv3.conv.weight",
    "encoder2.blocks.1.1.conv3.conv.weight",
    "encoder3.blocks.0.1.conv3.conv.weight",
}
ADDED = {f"vit.blocks.{block}.norm_cross_attn.{kind}" for block in range(12) for kind in ("weight", "bias")}

Shapes = dict[str, tuple[int, ...]]


def vit_shapes(embedding: tuple[str, tuple[int, ...]], tokens: int, hidden: int, mlp: int) -> Shapes:
    """Shapes of the encoder by the names of MONAI 0.7."""
    name, weight = embedding
    shapes: Shapes = {
        "vit.patch_embedding.position_embeddings": (1, tokens, hidden),
        "vit.patch_embedding.cls_token": (1, 1, hidden),
        f"vit.patch_embedding.{name}.weight": weight,
        f"vit.patch_embedding.{name}.bias": (hidden,),
    }
    for block in range(12):
        linear = {"mlp.linear1": (mlp, hidden), "mlp.linear2": (hidden, mlp), "attn.out_proj": (hidden, hidden)}
        for layer, shape in linear.items():
            shapes |= {f"vit.blocks.{block}.{layer}.weight": shape, f"vit.blocks.{block}.{layer}.bias": shape[:1]}
        shapes[f"vit.blocks.{block}.attn.qkv.weight"] = (3 * hidden, hidden)
        for norm in ("norm1", "norm2"):
            shapes |= {f"vit.blocks.{block}.{norm}.{kind}": (hidden,) for kind in ("weight", "bias")}
    return shapes | {"vit.norm.weight": (hidden,), "vit.norm.bias": (hidden,)}


def residual(name: str, inward: int, outward: int, batch_norm: bool) -> Shapes:
    """Shapes of a residual block, whose shortcut MONAI 0.7 always has."""
    edges = {"conv1": (inward, 3), "conv2": (outward, 3), "conv3": (inward, 1)}
    shapes = {f"{name}.{conv}.conv.weight": (outward, n, *[edge] * 3) for conv, (n, edge) in edges.items()}
    for norm in ("norm1", "norm2", "norm3") if batch_norm else ():
        shapes |= {f"{name}.{norm}.{kind}": (outward,) for kind in ("weight", "bias", "running_mean", "running_var")}
        shapes[f"{name}.{norm}.num_batches_tracked"] = ()
    return shapes


def old_shapes(
    channels=1, size=(96, 96, 96), classes=14, feature=16, hidden=768, mlp=3072, perceptron=True, batch_norm=False
) -> Shapes:
    """Shapes of a UNETR by the names of MONAI 0.7; by default those of the published weights for Synapse."""
    linear, convolution = ("patch_embeddings.1", (hidden, channels * 16**3)), (hidden, channels, 16, 16, 16)
    embedding = linear if perceptron else ("patch_embeddings", convolution)
    shapes = vit_shapes(embedding, math.prod(edge // 16 for edge in size), hidden, mlp)
    shapes |= residual("encoder1.layer", channels, feature, batch_norm)
    for level, (width, blocks) in {2: (2, 2), 3: (4, 1), 4: (8, 0)}.items():
        shapes[f"encoder{level}.transp_conv_init.conv.weight"] = (hidden, width * feature, 2, 2, 2)
        for block in range(blocks):
            name = f"encoder{level}.blocks.{block}"
            shapes[f"{name}.0.conv.weight"] = (width * feature, width * feature, 2, 2, 2)
            shapes |= residual(f"{name}.1", width * feature, width * feature, batch_norm)
    for level, (inward, width) in {
        5: (hidden, 8),
        4: (8 * feature, 4),
        3: (4 * feature, 2),
        2: (2 * feature, 1),
    }.items():
        shapes[f"decoder{level}.transp_conv.conv.weight"] = (inward, width * feature, 2, 2, 2)
        shapes |= residual(f"decoder{level}.conv_block", 2 * width * feature, width * feature, batch_norm)
    return shapes | {"out.conv.conv.weight": (classes, feature, 1, 1, 1), "out.conv.conv.bias": (classes,)}


def fill(shapes: Shapes) -> dict[str, Tensor]:
    """Make seeded tensors; variances and scales are positive."""
    generator = torch.Generator().manual_seed(0)
    return {name: torch.rand(shape, generator=generator) / 4 + 0.1 for name, shape in shapes.items()}


def network_of(shapes: Shapes, **settings) -> UNETR:
    """Build the UNETR of today that has the settings of :data:`SMALL`."""
    arguments = {"in_channels": 1, "out_channels": 3, "img_size": SMALL["size"], "feature_size": 4, "hidden_size": 24}
    arguments |= {"mlp_dim": 48, "num_heads": 2, "proj_type": "perceptron", **settings}
    with torch.random.fork_rng():
        torch.manual_seed(1)
        network = UNETR(**arguments).eval()
    network.load_state_dict(convert_unetr_weights(fill(shapes)))
    return network


def test_published_weights_fit_the_network_of_today_name_by_name_and_shape_by_shape():
    with torch.device("meta"):
        published = {name: torch.empty(shape) for name, shape in old_shapes().items()}
        network = UNETR(1, 14, (96, 96, 96), proj_type="perceptron")
    assert len(published) == 174
    converted = convert_unetr_weights(published)
    network.load_state_dict(converted, strict=True, assign=True)
    assert published.keys() - converted.keys() == EXTRAS
    assert converted.keys() - published.keys() == ADDED


@pytest.mark.parametrize(
    ("old", "today"),
    [
        ({}, {}),
        ({"perceptron": False}, {"proj_type": "conv"}),
        ({"batch_norm": True}, {"norm_name": "batch"}),
        ({"channels": 4}, {"in_channels": 4}),
    ],
    ids=["published kind", "convolutional embedding", "batch norm", "as many channels as features"],
)
def test_old_weights_fit_strictly_and_keep_their_values(old, today):
    shapes = old_shapes(**SMALL, **old)
    weights = fill(shapes)
    network = network_of(shapes, **today)
    kept = {name: tensor for name, tensor in network.state_dict().items() if name not in ADDED}
    assert kept.keys() == {name for name in weights if name in kept}
    for name, tensor in kept.items():
        torch.testing.assert_close(tensor.float(), weights[name].to(tensor.dtype).float(), rtol=0, atol=0, msg=name)


def test_shortcut_goes_with_its_norm_only_where_the_channels_stay():
    weights = fill(old_shapes(**SMALL, channels=4, batch_norm=True))
    gone = weights.keys() - convert_unetr_weights(weights).keys() - {"vit.patch_embedding.cls_token"}
    blocks = {name.partition(".conv3.")[0].partition(".norm3.")[0] for name in gone}
    assert blocks == {"encoder1.layer", "encoder2.blocks.0.1", "encoder2.blocks.1.1", "encoder3.blocks.0.1"}
    assert len(gone) == len(blocks) * 6  # a convolution and the five tensors of a batch norm


def test_cross_attention_of_monai_1_4_and_1_5_is_left_out_and_its_norm_is_kept():
    weights = convert_unetr_weights(fill(old_shapes(**SMALL)))
    weights["vit.blocks.3.norm_cross_attn.bias"] = torch.full((24,), 5.0)
    stale = {f"vit.blocks.3.cross_attn.{layer}.weight": torch.ones(24, 24) for layer in ("to_q", "out_proj")}
    converted = convert_unetr_weights(weights | stale)
    assert converted.keys() == weights.keys()
    assert converted["vit.blocks.3.norm_cross_attn.bias"][0] == 5


@torch.no_grad()
def test_added_layers_do_not_change_the_output():
    network = network_of(old_shapes(**SMALL))
    volume = torch.rand(1, 1, *SMALL["size"], generator=torch.Generator().manual_seed(0))
    before = network(volume)
    for name, tensor in network.state_dict().items():
        if name in ADDED:
            tensor.fill_(7.0)
    assert torch.equal(network(volume), before)
    network.state_dict()["vit.blocks.0.norm1.bias"].add_(1.0)
    assert not torch.allclose(network(volume), before)


def test_added_layers_scale_by_one_and_shift_by_zero_in_the_dtype_of_the_file():
    weights = {name: tensor.half() for name, tensor in fill(old_shapes(**SMALL)).items()}
    converted = convert_unetr_weights(weights)
    for name in ADDED:
        assert torch.equal(converted[name], torch.full((24,), float(name.endswith("weight")), dtype=torch.float16))


def test_weights_of_today_stay_as_they_are():
    with torch.device("meta"):
        weights = UNETR(1, 3, (32, 32, 32), feature_size=4, hidden_size=24, mlp_dim=48, num_heads=2).state_dict()
    converted = convert_unetr_weights(weights)
    assert list(converted) == list(weights)
    assert all(converted[name] is weights[name] for name in weights)


def test_argument_is_not_changed():
    weights = fill(old_shapes(**SMALL))
    names = list(weights)
    convert_unetr_weights(weights)
    assert list(weights) == names


@pytest.mark.parametrize(
    ("weights", "found"),
    [({}, "0 tensors, first None"), ({"model.0.weight": torch.ones(1)}, "1 tensors, first 'model.0.weight'")],
    ids=["nothing", "another network"],
)
def test_what_is_no_unetr_is_refused(weights, found):
    with pytest.raises(ValueError, match=rf"state_dict must hold 'vit\.patch.*' of a UNETR, got {found}\."):
        convert_unetr_weights(weights)
