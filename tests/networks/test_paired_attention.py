"""The attention against its definition, written index by index."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from vafa_monai.networks.unetrpp_block import PairedAttention

TOKENS, CHANNELS, MIXTURES, HEADS = 10, 8, 3, 2  # tokens are no multiple of channels


def build(shared_projection: bool = True, dropout: float = 0.0) -> PairedAttention:
    """An attention in float64 none of whose weights is 0 or 1."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        attention = PairedAttention(TOKENS, CHANNELS, MIXTURES, HEADS, shared_projection, dropout).double().eval()
        for parameter in attention.parameters():
            nn.init.normal_(parameter, mean=0.5)
    return attention


def tokens_of(batch: int) -> Tensor:
    generator = torch.Generator().manual_seed(batch)
    return torch.randn(batch, TOKENS, CHANNELS, dtype=torch.float64, generator=generator)


def softmax(rows: np.ndarray) -> np.ndarray:
    return np.exp(rows) / np.exp(rows).sum(-1, keepdims=True)


def attend_by_definition(attention: PairedAttention, tokens: np.ndarray) -> np.ndarray:
    """Map one sequence ``(N, C)``, head by head."""
    weight = {
        name: parameter.detach().numpy() for name, parameter in attention.named_parameters(remove_duplicate=False)
    }
    query, key, channel_value, spatial_value = np.split(tokens @ weight["qkvv.weight"].T, 4, axis=1)
    by_token, by_channel = np.empty((CHANNELS // HEADS, HEADS, TOKENS)), np.empty((TOKENS, CHANNELS))
    for head in range(HEADS):
        own = slice(head * CHANNELS // HEADS, (head + 1) * CHANNELS // HEADS)
        mixed_key = weight["E.weight"] @ key[:, own] + weight["E.bias"][:, None]
        mixed_value = weight["F.weight"] @ spatial_value[:, own] + weight["F.bias"][:, None]
        unit_query = query[:, own] / np.linalg.norm(query[:, own], axis=0)
        unit_key = key[:, own] / np.linalg.norm(key[:, own], axis=0)
        channel_weights = softmax(unit_query.T @ unit_key * weight["temperature"][head])
        token_weights = softmax(unit_query @ mixed_key.T * weight["temperature2"][head])
        by_channel[:, own] = channel_value[:, own] @ channel_weights.T
        by_token[:, head] = (token_weights @ mixed_value).T
    halves = [
        by_token.reshape(TOKENS, CHANNELS) @ weight["out_proj.weight"].T + weight["out_proj.bias"],
        by_channel @ weight["out_proj2.weight"].T + weight["out_proj2.bias"],
    ]
    return np.concatenate(halves, axis=1)


@pytest.mark.parametrize("shared_projection", [True, False])
def test_attention_is_that_of_its_definition(shared_projection):
    attention, tokens = build(shared_projection), tokens_of(2)
    expected = np.stack([attend_by_definition(attention, sequence) for sequence in tokens.numpy()])
    np.testing.assert_allclose(attention(tokens).detach().numpy(), expected, rtol=1e-10)


@pytest.mark.parametrize("shared_projection", [True, False])
def test_gradients(shared_projection):
    attention, tokens = build(shared_projection), tokens_of(1).requires_grad_()
    names, parameters = zip(*attention.named_parameters(), strict=True)
    assert ("F.weight" in names) is not shared_projection

    def call(tokens: Tensor, *values: Tensor) -> Tensor:
        return torch.func.functional_call(attention, dict(zip(names, values, strict=True)), tokens)

    assert torch.autograd.gradcheck(call, (tokens, *parameters))


def test_scale_of_queries_and_keys_of_the_channel_branch_does_not_matter():
    attention, tokens = build(), tokens_of(1)
    before = attention(tokens)
    with torch.no_grad():
        attention.qkvv.weight[:CHANNELS] *= 7.0
    torch.testing.assert_close(attention(tokens), before)


def test_silent_queries_and_keys_give_finite_tokens():
    attention = build()
    assert attention(torch.zeros(1, TOKENS, CHANNELS, dtype=torch.float64)).isfinite().all()


@pytest.mark.parametrize("half", [slice(0, CHANNELS // 2), slice(CHANNELS // 2, None)], ids=["spatial", "channel"])
def test_dropout_changes_each_branch_in_training_and_keeps_its_mean(half):
    attention, tokens = build(dropout=0.2), tokens_of(1)
    expected = attention(tokens)[..., half]
    torch.testing.assert_close(attention(tokens)[..., half], expected, rtol=0, atol=0)
    with torch.random.fork_rng(), torch.no_grad():
        torch.manual_seed(0)
        drawn = attention.train()(tokens.expand(4000, -1, -1))[..., half]
    assert drawn.std(0).amin() > 0
    standard_error = drawn.std(0) / 4000**0.5
    assert ((drawn.mean(0) - expected[0]).abs() < 5 * standard_error).all()


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_long_sequences_stay_finite_under_autocast(dtype):
    """A sum over tokens of products of queries and keys does not fit into float16."""
    generator = torch.Generator().manual_seed(0)
    attention = PairedAttention(8192, CHANNELS, MIXTURES, HEADS)
    with torch.no_grad():
        attention.qkvv.weight.mul_(1000)
        tokens = torch.randn(1, 8192, CHANNELS, generator=generator)
        expected = attention(tokens)
        with torch.autocast("cpu", dtype):
            actual = attention(tokens)
    assert actual.isfinite().all()
    assert (actual - expected).abs().mean() < 0.05 * expected.abs().mean()


@pytest.mark.parametrize(("channels", "num_heads"), [(9, 3), (8, 3), (8, 0)])
def test_channels_without_equal_parts_are_refused(channels, num_heads):
    with pytest.raises(ValueError, match=f"must be a multiple of 2 and of num_heads {num_heads}, got {channels}"):
        PairedAttention(TOKENS, channels, MIXTURES, num_heads)


def test_a_dropout_that_is_no_probability_is_refused():
    with pytest.raises(ValueError, match=r"dropout probability has to be between 0 and 1, but got 1\.5"):
        PairedAttention(TOKENS, CHANNELS, MIXTURES, HEADS, dropout=1.5)
