"""The parts of UNETR++: a block of paired attention and convolutions, and the encoder and decoder made of it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from monai.networks.blocks.dynunet_block import UnetResBlock, get_conv_layer
from torch import Tensor, nn

__all__ = [
    "NETWORK_AXES",
    "STAGES",
    "PairedAttentionBlock",
    "UNETRPPEncoder",
    "UNETRPPUpBlock",
    "VolumeLayout",
    "downsampling",
    "require_axes",
    "require_count",
    "require_counts",
]

NETWORK_AXES = "zyx"  # the published order
STAGES = 4
COARSEST = 2 ** (STAGES - 1)  # edge of the last stage's voxel, in voxels of the first stage


@dataclass(frozen=True)
class VolumeLayout:
    """Size and axis order of the volumes that a network takes, and the patches that its first stage sees as voxels.

    Args:
        img_size: size of a volume in voxels, in the order ``axes``; a multiple of ``8 * stem_stride``.
        stem_stride: edges of a patch in voxels, in the order ``axes``.
        axes: order of the spatial axes, such as ``"xyz"``.

    Raises:
        ValueError: if the settings are impossible or do not fit each other.

    Example:
        >>> layout = VolumeLayout((128, 128, 64), (4, 4, 2), "xyz")
        >>> layout.stem, layout.tokens
        ((2, 4, 4), (32768, 4096, 512, 64))
    """

    img_size: Sequence[int]
    stem_stride: Sequence[int]
    axes: str

    def __post_init__(self) -> None:
        """Refuse impossible settings."""
        for name in ("img_size", "stem_stride"):
            object.__setattr__(self, name, require_counts(name, getattr(self, name), len(NETWORK_AXES)))
        require_axes(self.axes)
        unit = tuple(COARSEST * edge for edge in self.stem_stride)
        if any(size % edge for size, edge in zip(self.img_size, unit, strict=True)):
            raise ValueError(f"img_size must be a multiple of {unit} ({COARSEST} * stem_stride), got {self.img_size}.")

    @property
    def inward(self) -> list[int]:
        """The transposition of a batch ``(B, C, *img_size)`` to the network's axis order."""
        return [0, 1, *(2 + self.axes.index(axis) for axis in NETWORK_AXES)]

    @property
    def outward(self) -> list[int]:
        """The transposition back."""
        return [0, 1, *(2 + NETWORK_AXES.index(axis) for axis in self.axes)]

    @property
    def stem(self) -> tuple[int, ...]:
        """The edges of a patch in the network's axis order."""
        return tuple(self.stem_stride[self.axes.index(axis)] for axis in NETWORK_AXES)

    @property
    def tokens(self) -> tuple[int, ...]:
        """The number of voxels of each stage."""
        first = math.prod(self.img_size) // math.prod(self.stem_stride)
        return tuple(first // 8**stage for stage in range(STAGES))


def require_axes(axes: str) -> str:
    """Return ``axes`` if they are an order of x, y and z.

    Raises:
        ValueError: if they are not.
    """
    if not isinstance(axes, str) or sorted(axes) != sorted(NETWORK_AXES):
        raise ValueError(f"axes must hold each letter of 'xyz' once, got {axes!r}.")
    return axes


def require_count(name: str, value: int) -> int:
    """Return ``value`` if it is a positive whole number.

    Raises:
        ValueError: if it is something else.
    """
    if type(value) is not int or value < 1:
        raise ValueError(f"{name} must be a positive whole number, got {value!r}.")
    return value


def require_counts(name: str, values: Sequence[int], length: int) -> tuple[int, ...]:
    """Return ``length`` positive whole numbers.

    Raises:
        ValueError: if ``values`` is something else.
    """
    if not isinstance(values, Sequence) or isinstance(values, str) or len(values) != length:
        raise ValueError(f"{name} must be {length} positive whole numbers, got {values!r}.")
    return tuple(require_count(f"every entry of {name}", value) for value in values)


class PairedAttention(nn.Module):
    """Attend to projected tokens (spatial branch) and to channels (channel branch), and concatenate both.

    The efficient paired attention of UNETR++ (Shaker et al., IEEE TMI 2024, https://arxiv.org/abs/2212.04497). Queries
    and keys serve both branches and have unit L2 norm along the *token* axis. The spatial branch attends to
    ``projection_size`` mixtures of the tokens, so its cost grows linearly with their number; its result is listed
    channel by channel and that list cut anew into tokens, as in the published code. Tensors have the published names.

    Args:
        tokens: length of the sequences.
        channels: channels of a token, a multiple of ``num_heads`` and of 2: half of the output comes from each branch.
        projection_size: number of mixtures that the spatial branch attends to.
        num_heads: number of attention heads.
        shared_projection: mix keys and values of the spatial branch by the same weights.
        dropout: probability that an attention weight is dropped in training.

    Raises:
        ValueError: if ``channels`` has no such parts or ``dropout`` is no probability.

    Example:
        >>> PairedAttention(27, 8, projection_size=4, num_heads=2)(torch.zeros(1, 27, 8)).shape
        torch.Size([1, 27, 8])
    """

    def __init__(
        self,
        tokens: int,
        channels: int,
        projection_size: int,
        num_heads: int,
        shared_projection: bool = True,
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        if num_heads < 1 or channels % math.lcm(2, num_heads):
            rule = f"a multiple of 2 and of num_heads {num_heads!r}"
            raise ValueError(f"channels (dims of a network) must be {rule}, got {channels!r}.")
        self.num_heads = num_heads
        self.dropout = nn.Dropout(dropout)
        self.temperature = nn.Parameter(torch.ones(num_heads, 1, 1))
        self.temperature2 = nn.Parameter(torch.ones(num_heads, 1, 1))
        self.qkvv = nn.Linear(channels, 4 * channels, bias=False)
        self.E = nn.Linear(tokens, projection_size)
        self.F = self.E if shared_projection else nn.Linear(tokens, projection_size)
        self.out_proj = nn.Linear(channels, channels // 2)
        self.out_proj2 = nn.Linear(channels, channels // 2)
        for layer in (self.qkvv, self.E, self.F, self.out_proj, self.out_proj2):
            nn.init.trunc_normal_(layer.weight, std=0.02)
            if layer.bias is not None:
                nn.init.zeros_(layer.bias)

    def forward(self, tokens: Tensor) -> Tensor:
        """Map tokens ``(B, N, C)`` to tokens of the same shape."""
        query, key, channel_value, spatial_value = self.qkvv(tokens).chunk(4, dim=-1)
        mixed_key = self._split_heads(self.E.weight @ key + self.E.bias[:, None])
        mixed_value = self._split_heads(self.F.weight @ spatial_value + self.F.bias[:, None])
        # the norm of the query divides what is small: its products, not the query
        norm = query.norm(2, dim=1, keepdim=True).clamp_min(1e-12)
        norm = self._split_heads(norm).transpose(-2, -1)  # -> (B, heads, C/heads, 1)
        query, key = self._split_heads(query), self._split_heads(F.normalize(key, dim=1))

        by_channel = self._mix_channels(query.transpose(-2, -1) @ key / norm, channel_value)
        by_token = self._attend(query, mixed_key * (self.temperature2 / norm).transpose(-2, -1), mixed_value)
        by_token = by_token.permute(0, 3, 1, 2).reshape(tokens.shape)  # the published order, not that of the heads
        return torch.cat((self.out_proj(by_token), by_channel), dim=-1)

    def _split_heads(self, tokens: Tensor) -> Tensor:
        """Split ``(B, N, C)`` into ``(B, heads, N, C/heads)``."""
        return tokens.unflatten(2, (self.num_heads, -1)).transpose(1, 2)

    def _attend(self, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        """Mix ``value`` ``(B, heads, M, c)`` by the softmax of products of ``query`` and ``key``."""
        dropout = self.dropout.p if self.training else 0.0
        if dropout > 0 and not query.is_cuda:  # a CPU has no fused kernel with dropout
            return self.dropout((query @ key.transpose(-2, -1)).softmax(-1)) @ value
        return F.scaled_dot_product_attention(query, key, value, dropout_p=dropout, scale=1.0)

    def _mix_channels(self, similarity: Tensor, value: Tensor) -> Tensor:
        """Weight the channels of ``value`` ``(B, N, C)`` in each head and project them, ``-> (B, N, C/2)``.

        The product of weights and projection is small, so that values are read once.
        """
        weights = self.dropout((similarity * self.temperature).softmax(-1))
        projection = self.out_proj2.weight.unflatten(1, (self.num_heads, -1)).permute(1, 2, 0)
        return value @ (weights.transpose(-2, -1) @ projection).flatten(1, 2) + self.out_proj2.bias


INITIAL_SCALE = 1e-6  # of the attention: a block starts as its convolutions


class PairedAttentionBlock(nn.Module):
    """Add paired attention to a volume of tokens, then a residual block of convolutions.

    Args:
        tokens: number of voxels of the volume, each one a token.
        channels: channels of the volume.
        projection_size: see :class:`PairedAttention`, as are the two settings that follow.
        num_heads: number of attention heads.
        shared_projection: whether keys and values share a projection.
        second_residual_block: convolve by two residual blocks instead of one.
        attention_dropout: probability that an attention weight is dropped in training.
        feature_dropout: probability that a channel is dropped before the last convolution in training.
    """

    def __init__(
        self,
        tokens: int,
        channels: int,
        projection_size: int,
        num_heads: int,
        shared_projection: bool,
        second_residual_block: bool,
        attention_dropout: float,
        feature_dropout: float,
    ) -> None:
        super().__init__()
        self.gamma = nn.Parameter(torch.full((channels,), INITIAL_SCALE))
        self.pos_embed = nn.Parameter(torch.zeros(1, tokens, channels))
        self.norm = nn.LayerNorm(channels)
        self.epa_block = PairedAttention(
            tokens, channels, projection_size, num_heads, shared_projection, attention_dropout
        )
        self.conv51 = UnetResBlock(3, channels, channels, kernel_size=3, stride=1, norm_name="batch")
        second = UnetResBlock(3, channels, channels, kernel_size=3, stride=1, norm_name="batch")
        self.conv52 = second if second_residual_block else nn.Identity()
        self.conv8 = nn.Sequential(nn.Dropout3d(feature_dropout), nn.Conv3d(channels, channels, kernel_size=1))

    def forward(self, volume: Tensor) -> Tensor:
        """Map a volume ``(B, C, *spatial)`` to one of the same shape."""
        tokens = volume.flatten(2).transpose(1, 2) + self.pos_embed
        tokens = torch.addcmul(tokens, self.gamma, self.epa_block(self.norm(tokens)))
        attended = tokens.transpose(1, 2).reshape(volume.shape)
        return attended + self.conv8(self.conv52(self.conv51(attended)))


def downsampling(in_channels: int, out_channels: int, stride: Sequence[int]) -> nn.Sequential:
    """Build a convolution of disjoint patches and a group norm with as many groups as input channels if possible."""
    convolution = get_conv_layer(3, in_channels, out_channels, stride, stride, act=None, norm=None)
    return nn.Sequential(convolution, nn.GroupNorm(math.gcd(in_channels, out_channels), out_channels))


class UNETRPPEncoder(nn.Module):
    """Downsample a volume and refine it, stage by stage.

    Args:
        downsample_layers: what makes a stage's volume from that of the stage before.
        stages: what refines it.
    """

    def __init__(self, downsample_layers: Sequence[nn.Module], stages: Sequence[nn.Module]) -> None:
        super().__init__()
        self.downsample_layers = nn.ModuleList(downsample_layers)
        self.stages = nn.ModuleList(stages)

    def forward(self, volume: Tensor) -> list[Tensor]:
        """Return the volume of every stage, finest first."""
        volumes = []
        for downsample, stage in zip(self.downsample_layers, self.stages):  # noqa: B905 - TorchScript knows no strict
            volume = stage(downsample(volume))
            volumes.append(volume)
        return volumes


class UNETRPPUpBlock(nn.Module):
    """Upsample a volume, add the encoder's volume of that size and refine the sum.

    Args:
        in_channels: channels of the coarse volume.
        out_channels: channels of the fine one.
        stride: how many voxels a coarse voxel becomes along each axis.
        refine: what refines the sum.
    """

    def __init__(self, in_channels: int, out_channels: int, stride: Sequence[int], refine: nn.Module) -> None:
        super().__init__()
        self.transp_conv = get_conv_layer(
            3, in_channels, out_channels, stride, stride, act=None, norm=None, is_transposed=True
        )
        self.decoder_block = nn.ModuleList([refine])

    def forward(self, volume: Tensor, skip: Tensor) -> Tensor:
        """Map a coarse volume and a fine one ``skip`` to a volume of the shape of ``skip``."""
        return self.decoder_block[0](self.transp_conv(volume) + skip)
