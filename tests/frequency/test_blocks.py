"""Cutting, merging and padding of blocks against plain indexing; contraction against numpy."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from vafa_monai.frequency import block_matrices, contract, merge_blocks, pad_to_blocks, split_blocks


def counted(*size: int) -> Tensor:
    """Every voxel another number."""
    return torch.arange(np.prod(size), dtype=torch.float32).view(size)


def test_every_block_is_a_piece_of_the_volume():
    volume = counted(2, 2, 4, 6, 3)
    blocks = split_blocks(volume, (2, 3, 1))
    assert blocks.shape == (2, 2, 2, 2, 3, 2, 3, 1)
    for i, j, k in np.ndindex(2, 2, 3):
        piece = volume[:, :, 2 * i : 2 * i + 2, 3 * j : 3 * j + 3, k : k + 1]
        assert torch.equal(blocks[:, :, i, j, k], piece)


@pytest.mark.parametrize("block_size", [(2, 3, 1), (4, 6, 3), (1, 1, 1), (4, 1, 3)], ids=str)
def test_merging_gives_the_volume_back(block_size):
    volume = counted(2, 2, 4, 6, 3)
    assert torch.equal(merge_blocks(split_blocks(volume, block_size)), volume)


def test_blocks_of_integers_stay_integers():
    assert split_blocks(torch.ones(1, 1, 4, 6, 3, dtype=torch.uint8), (2, 3, 1)).dtype == torch.uint8


@pytest.mark.parametrize("block_size", [(3, 3, 3), (4, 6), (4, -6, 3)], ids=str)
def test_blocks_that_do_not_fit_are_refused(block_size):
    with pytest.raises(ValueError, match=r"block_size must divide .* for \(2, 2, 4, 6, 3\)"):
        split_blocks(counted(2, 2, 4, 6, 3), block_size)


def test_padding_repeats_the_last_voxels_at_the_far_end():
    volume = counted(2, 1, 5, 4, 3)
    padded = pad_to_blocks(volume, (4, 4, 2))
    expected = np.pad(volume.numpy(), [(0, 0), (0, 0), (0, 3), (0, 0), (0, 1)], mode="edge")
    torch.testing.assert_close(padded, torch.from_numpy(expected))


def test_a_volume_of_whole_blocks_is_not_padded():
    volume = counted(2, 1, 4, 6, 3)
    torch.testing.assert_close(pad_to_blocks(volume, (2, 3, 1)), volume)


def test_a_block_may_be_larger_than_the_volume():
    assert pad_to_blocks(counted(1, 1, 3, 5, 2), (8, 16, 4)).shape == (1, 1, 8, 16, 4)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
def test_padding_and_cutting_keep_the_dtype(dtype, device):
    blocks = split_blocks(pad_to_blocks(counted(1, 1, 5, 4, 3).to(device, dtype), (4, 4, 2)), (4, 4, 2))
    assert (blocks.dtype, blocks.device.type) == (dtype, device.type)


def test_contraction_applies_one_matrix_to_each_axis():
    generator = np.random.default_rng(0)
    blocks, (first, second, third) = generator.random((2, 4, 3, 2)), map(generator.random, [(5, 4), (2, 3), (1, 2)])
    expected = np.einsum("nhwd,ih,jw,kd->nijk", blocks, first, second, third)
    got = contract(torch.from_numpy(blocks), [torch.from_numpy(matrix) for matrix in (first, second, third)])
    torch.testing.assert_close(got, torch.from_numpy(expected))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16], ids=str)
def test_contraction_of_half_precision_is_computed_in_single_precision(dtype, device):
    generator = torch.Generator().manual_seed(0)
    blocks = torch.rand(2, 4, 3, 5, generator=generator).to(device, dtype)
    matrices = [torch.rand(6, edge, generator=generator, dtype=torch.float64) for edge in (4, 3, 5)]
    contracted = contract(blocks, matrices)
    assert contracted.dtype == dtype
    assert torch.equal(contracted, contract(blocks.float(), matrices).to(dtype))


def test_contraction_in_autocast_keeps_single_precision(device):
    blocks = torch.full((1, 2, 2, 2), 1 / 3, device=device)
    with torch.autocast(device.type, dtype=torch.bfloat16):
        total = contract(blocks, [torch.ones(1, 2)] * 3)
    torch.testing.assert_close(total, torch.full_like(total, 8 / 3), rtol=1e-6, atol=0)


def test_contraction_works_block_by_block_on_the_whole_volume():
    generator = torch.Generator().manual_seed(0)
    volume = torch.rand(2, 1, 4, 6, 6, generator=generator, dtype=torch.float64)
    matrices = [torch.rand(size, generator=generator, dtype=torch.float64) for size in ((3, 2), (2, 3), (1, 6))]
    blocks = contract(split_blocks(volume, (2, 3, 6)), matrices)
    torch.testing.assert_close(contract(volume, matrices), merge_blocks(blocks))


def test_matrices_that_were_built_in_inference_mode_serve_gradients():
    def build(edge):
        return torch.ones(1, edge)

    volume = torch.ones(2, 2, 2, requires_grad=True)
    with torch.inference_mode():
        matrices = block_matrices(build, (2, 2, 2), volume)
    (gradient,) = torch.autograd.grad(contract(volume, matrices).square().sum(), volume)
    assert torch.equal(gradient, torch.full_like(volume, 16))
    assert matrices[0] is block_matrices(build, (2, 2, 2), volume)[1]


@pytest.mark.parametrize("block_size", [(1000, 1000, 1000), (8, 8, 10**7), (2**13, 2**13, 1)], ids=str)
def test_blocks_that_would_fill_the_memory_are_refused(block_size):
    with pytest.raises(ValueError, match=r"block_size must pad a volume to 64 times its voxels at most, .* got \("):
        pad_to_blocks(torch.zeros(1, 2, 8, 9, 10), block_size)
