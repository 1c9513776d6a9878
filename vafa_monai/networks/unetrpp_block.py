"""The parts of UNETR++: a block of paired attention and convolutions, and the encoder and decoder made of it."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from monai.networks.blocks.dynunet_block import UnetResBlock, get_conv_layer
from torch import Tensor, nn

from vafa_monai.networks.paired_attention import PairedAttention

__all__ = ["PairedAttentionBlock", "UNETRPPEncoder", "UNETRPPUpBlock", "downsampling"]

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
