"""Attention over the tokens and over the channels of a sequence, from one set of queries and keys."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

__all__ = ["PairedAttention"]


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
