"""UNETR++: a U-shaped network for volumes whose blocks pair spatial and channel attention."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from types import MappingProxyType
from typing import Any

import torch
from monai.networks.blocks.dynunet_block import UnetOutBlock, UnetResBlock
from torch import Tensor, nn

from vafa_monai.networks.unetrpp_block import (
    NETWORK_AXES,
    STAGES,
    PairedAttentionBlock,
    UNETRPPEncoder,
    UNETRPPUpBlock,
    VolumeLayout,
    downsampling,
    require_axes,
    require_count,
    require_counts,
)

__all__ = ["UNETRPP", "load_official_unetrpp"]

HALVE = (2, 2, 2)
PRESETS: Mapping[str, Mapping[str, Any]] = MappingProxyType(
    {  # sizes in the published axis order (z, y, x)
        "synapse": {
            "out_channels": 9,
            "img_size": (64, 128, 128),
            "stem_stride": (2, 4, 4),
            "shared_projection": True,
            "second_residual_block": False,
            "attention_dropout": 0.15,
        },
        "acdc": {
            "out_channels": 4,
            "img_size": (16, 160, 160),
            "stem_stride": (1, 4, 4),
            "shared_projection": False,
            "second_residual_block": True,
            "attention_dropout": 0.1,
        },
    }
)


class UNETRPP(nn.Module):
    """Segment volumes of one size by UNETR++ (Shaker et al., IEEE TMI 2024, https://arxiv.org/abs/2212.04497).

    Four stages of paired attention, each with half the edges of the one before, and a decoder of the same blocks. In
    training it returns the logits of three scales, finest first, for :class:`monai.losses.DeepSupervisionLoss`; in eval
    mode one tensor. Position embeddings and attention bind the weights to ``img_size``: larger volumes need a sliding
    window.

    Weights have the published names and the published axis order (z, y, x) whatever the order of the volumes, which are
    transposed on their way in and out: one state dict serves every order.

    Args:
        in_channels: channels of a volume.
        out_channels: number of classes.
        img_size: size of a volume in voxels, in the order ``axes``; a multiple of ``8 * stem_stride``.
        stem_stride: edges of the patches that the first stage sees as voxels, in the order ``axes``.
        feature_size: channels at full resolution.
        dims: channels of each stage; multiples of ``num_heads`` and of 2.
        depths: number of blocks of each stage; the decoder's stages have as many.
        num_heads: number of attention heads.
        projection_sizes: number of mixtures of tokens that the spatial attention of each stage attends to.
        shared_projection: mix keys and values of the spatial attention by the same weights.
        second_residual_block: convolve by two residual blocks after an attention instead of one.
        attention_dropout: probability that an attention weight is dropped in training.
        feature_dropout: probability that a channel of a block is dropped in training.
        deep_supervision: whether there are logits of coarser scales.
        axes: order of the spatial axes of volumes: MONAI's (H, W, D) is ``"xyz"``, the published order ``"zyx"``.

    Raises:
        ValueError: if a setting is impossible or settings do not fit each other.

    Example:
        >>> import torch
        >>> network = UNETRPP(1, 3, (16, 8, 8), stem_stride=(2, 1, 1), dims=(4, 4, 8, 8), depths=(1, 1, 1, 1))
        >>> [tuple(logits.shape) for logits in network(torch.zeros(2, 1, 16, 8, 8))]
        [(2, 3, 16, 8, 8), (2, 3, 8, 8, 8), (2, 3, 4, 4, 4)]
        >>> network.eval()(torch.zeros(2, 1, 16, 8, 8)).shape
        torch.Size([2, 3, 16, 8, 8])
    """

    __constants__ = ("deep_supervision",)

    def __init__(  # noqa: PLR0913 - what a network is made of
        self,
        in_channels: int,
        out_channels: int,
        img_size: Sequence[int],
        *,
        stem_stride: Sequence[int] = (4, 4, 2),
        feature_size: int = 16,
        dims: Sequence[int] = (32, 64, 128, 256),
        depths: Sequence[int] = (3, 3, 3, 3),
        num_heads: int = 4,
        projection_sizes: Sequence[int] = (64, 64, 64, 32),
        shared_projection: bool = True,
        second_residual_block: bool = False,
        attention_dropout: float = 0.15,
        feature_dropout: float = 0.1,
        deep_supervision: bool = True,
        axes: str = "xyz",
    ) -> None:
        super().__init__()
        layout = VolumeLayout(img_size, stem_stride, axes)
        single = {"in_channels": in_channels, "out_channels": out_channels}
        single |= {"feature_size": feature_size, "num_heads": num_heads}
        for name, value in single.items():
            require_count(name, value)
        for name, values in {"dims": dims, "depths": depths, "projection_sizes": projection_sizes}.items():
            require_counts(name, values, STAGES)
        self.in_channels, self.img_size, self.deep_supervision = in_channels, layout.img_size, deep_supervision
        self._inward, self._outward = layout.inward, layout.outward

        def stage(level: int) -> nn.Sequential:
            block = partial(PairedAttentionBlock, layout.tokens[level], dims[level], projection_sizes[level])
            block = partial(block, num_heads, shared_projection, second_residual_block)
            return nn.Sequential(*(block(attention_dropout, feature_dropout) for _ in range(depths[level])))

        convolve = partial(UnetResBlock, 3, out_channels=feature_size, kernel_size=3, stride=1, norm_name="instance")
        steps = zip((in_channels, *dims[:-1]), dims, (layout.stem, *[HALVE] * (STAGES - 1)), strict=True)
        self.unetr_pp_encoder = UNETRPPEncoder(
            [downsampling(*step) for step in steps], [stage(level) for level in range(STAGES)]
        )
        self.encoder1 = convolve(in_channels=in_channels)
        self.decoder5 = UNETRPPUpBlock(dims[3], dims[2], HALVE, stage(2))
        self.decoder4 = UNETRPPUpBlock(dims[2], dims[1], HALVE, stage(1))
        self.decoder3 = UNETRPPUpBlock(dims[1], dims[0], HALVE, stage(0))
        self.decoder2 = UNETRPPUpBlock(dims[0], feature_size, layout.stem, convolve(in_channels=feature_size))
        self.out1 = UnetOutBlock(3, feature_size, out_channels)
        if deep_supervision:
            self.out2 = UnetOutBlock(3, dims[0], out_channels)
            self.out3 = UnetOutBlock(3, dims[1], out_channels)

    @classmethod
    def preset(cls, name: str, axes: str = "xyz", **overrides: Any) -> UNETRPP:
        """Build the network that was published for a dataset, with new weights.

        ``"synapse"`` has 9 classes, volumes of 64 x 128 x 128 voxels (z, y, x) and 42,952,275 parameters; ``"acdc"`` 4
        classes, 16 x 160 x 160 voxels and 66,796,404 parameters. ``overrides`` replace any setting; their sizes are in
        the order ``axes``.

        Raises:
            ValueError: if ``name`` is unknown.
        """
        if name not in PRESETS:
            raise ValueError(f"name must be one of {', '.join(map(repr, PRESETS))}, got {name!r}.")
        order = [NETWORK_AXES.index(axis) for axis in require_axes(axes)]
        sizes = {key: [PRESETS[name][key][axis] for axis in order] for key in ("img_size", "stem_stride")}
        return cls(**{"in_channels": 1, "axes": axes, **PRESETS[name], **sizes, **overrides})

    def forward(self, volume: Tensor) -> Tensor | list[Tensor]:
        """Map volumes ``(B, in_channels, *img_size)`` to logits ``(B, out_channels, *img_size)``.

        Returns:
            The logits; in training, if there is deep supervision, what :meth:`deep_outputs` returns.

        Raises:
            ValueError: if the volumes have another shape.
        """
        if self.training and self.deep_supervision:
            return self.deep_outputs(volume)
        return self.out1(self._decode(volume)[0]).permute(self._outward).contiguous()

    def deep_outputs(self, volume: Tensor) -> list[Tensor]:
        """Return the logits of every scale, finest first, whatever the mode.

        The second scale has the size of the first stage, ``img_size / stem_stride``, the third half of that.
        """
        volumes = self._decode(volume)
        logits = [self.out1(volumes[0])]
        if self.deep_supervision:
            logits += [self.out2(volumes[1]), self.out3(volumes[2])]
        return [scale.permute(self._outward).contiguous() for scale in logits]

    def _decode(self, volume: Tensor) -> list[Tensor]:
        """Return the decoder's three finest volumes, finest first, in the network's axis order."""
        if not torch.jit.is_scripting():
            self._require_shape(volume)
        volume = volume.permute(self._inward).contiguous()
        first, second, third, last = self.unetr_pp_encoder(volume)
        second = self.decoder4(self.decoder5(last, third), second)
        first = self.decoder3(second, first)
        return [self.decoder2(first, self.encoder1(volume)), first, second]

    def _require_shape(self, volume: Tensor) -> None:
        """Refuse volumes of another size; a traced graph holds no such question."""
        expected = (self.in_channels, *self.img_size)
        if not torch.jit.is_tracing() and tuple(volume.shape[1:]) != expected:
            shape = ", ".join(map(str, expected))
            raise ValueError(f"volume must have the shape (B, {shape}), got {tuple(volume.shape)}.")


PREFIX = "module."  # of a network that was trained on several GPUs


def load_official_unetrpp(state_dict: Mapping[str, Tensor], axes: str = "zyx") -> UNETRPP:
    """Build the published UNETR++ of a state dict, with its weights, in eval mode.

    The published networks are those for Synapse and ACDC of https://github.com/Amshaker/unetr_plus_plus; names and
    shapes of the tensors say which. Names are the same here. Where keys and values share a projection it is stored
    twice, and ``F`` is what counts.

    Args:
        state_dict: every published tensor and no other; names may begin with ``module.``.
        axes: order of the spatial axes of the volumes that the network shall take: the published ``"zyx"``, or
            ``"xyz"``, MONAI's (H, W, D), for the same function of volumes with reversed axes.

    Returns:
        The network, on the CPU in float32; it shares no memory with ``state_dict``.

    Raises:
        ValueError: if a tensor is missing, unknown, of another shape, or not real and finite.
    """
    tensors = {name.removeprefix(PREFIX): tensor for name, tensor in state_dict.items()}
    with torch.device("meta"):  # shapes alone: nothing is drawn at random
        networks = {variant: UNETRPP.preset(variant, axes) for variant in PRESETS}
    differences = {variant: _differences(tensors, network.state_dict()) for variant, network in networks.items()}
    nearest = min(differences, key=lambda variant: len(differences[variant]))
    if differences[nearest]:
        count, first = len(differences[nearest]), differences[nearest][0]
        raise ValueError(
            f"state_dict must hold the published tensors, got {count} that differ from {nearest!r}, first {first}."
        )
    network = networks[nearest].to_empty(device="cpu")
    network.load_state_dict(tensors)
    return network.eval()


def _differences(tensors: Mapping[str, Tensor], expected: Mapping[str, Tensor]) -> list[str]:
    """Describe the tensors that are missing, of another shape or unknown."""
    missing = [f"{name!r}, which is missing" for name in expected if name not in tensors]
    shapes = {name: tuple(getattr(tensor, "shape", ())) for name, tensor in tensors.items()}
    other = [
        f"{name!r} of shape {shapes[name]} instead of {tuple(tensor.shape)}"
        for name, tensor in expected.items()
        if name in shapes and shapes[name] != tuple(tensor.shape)
    ]
    other += [
        f"{name!r}, which is not real and finite"
        for name, tensor in tensors.items()
        if name in expected and not _is_usable(tensor, expected[name])
    ]
    return missing + other + [f"{name!r}, which is unknown" for name in tensors if name not in expected]


def _is_usable(tensor: Tensor, expected: Tensor) -> bool:
    """Tell whether a tensor has finite real numbers where such are wanted."""
    if tensor.is_complex() or (expected.is_floating_point() and not tensor.is_floating_point()):
        return False
    return tensor.is_meta or bool(torch.isfinite(tensor).all())
