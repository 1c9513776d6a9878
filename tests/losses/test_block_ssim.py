"""Block SSIM against a written-out window sum, closed forms and its laws."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from vafa_monai.losses import BlockSSIMLoss, block_ssim, block_statistics, ssim_to_blocks

SIZE = (2, 2, 8, 5, 6)
LOW, HIGH = 0.01**2, 0.03**2


def pair(*size: int, dtype: torch.dtype = torch.float64) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    volume = torch.rand(size or SIZE, generator=generator, dtype=torch.float64)
    noise = torch.randn(size or SIZE, generator=generator, dtype=torch.float64)
    return volume.to(dtype), (volume + 0.1 * noise).clamp(0, 1).to(dtype)


def ssim_of_block(first: np.ndarray, second: np.ndarray) -> float:
    """Mean SSIM of two blocks ``(h, w, d)``, one window after the other."""
    bells = [np.exp(-np.array([1, 0, 1]) / (2 * 1.5**2)) if size >= 3 else np.ones(1) for size in first.shape]
    weights = np.einsum("i,j,k->ijk", *bells) / np.prod([bell.sum() for bell in bells])
    values = []
    for corner in np.ndindex(*(size - edge + 1 for size, edge in zip(first.shape, weights.shape, strict=True))):
        window = tuple(slice(c, c + e) for c, e in zip(corner, weights.shape, strict=True))
        a, b = first[window], second[window]
        mean_a, mean_b = (weights * a).sum(), (weights * b).sum()
        variance_a, variance_b = (weights * (a - mean_a) ** 2).sum(), (weights * (b - mean_b) ** 2).sum()
        covariance = (weights * (a - mean_a) * (b - mean_b)).sum()
        luminance = (2 * mean_a * mean_b + LOW) / (mean_a**2 + mean_b**2 + LOW)
        values.append(luminance * (2 * covariance + HIGH) / (variance_a + variance_b + HIGH))
    return float(np.mean(values))


def cut(batch: Tensor, block_size: tuple[int, int, int]) -> list[list[np.ndarray]]:
    """List the blocks of every sample."""
    grid = list(np.ndindex(*(size // edge for size, edge in zip(batch.shape[2:], block_size, strict=True))))
    places = [tuple(slice(i * e, (i + 1) * e) for i, e in zip(index, block_size, strict=True)) for index in grid]
    return [[channel[place] for channel in sample for place in places] for sample in batch.numpy()]


@pytest.mark.parametrize("block_size", [(4, 5, 3), (8, 5, 6), (4, 5, 1), (4, 5, 2), (1, 1, 1)], ids=str)
def test_value_is_the_mean_over_blocks_of_a_written_out_ssim(block_size):
    first, second = pair()
    expected = []
    for a, b in zip(cut(first, block_size), cut(second, block_size), strict=True):
        expected.append(np.mean([max(ssim_of_block(*blocks), 0) for blocks in zip(a, b, strict=True)]))
    torch.testing.assert_close(block_ssim(first, second, block_size), torch.tensor(expected, dtype=torch.float64))


@pytest.mark.parametrize("first", [0.0, 0.3, 1.0])
@pytest.mark.parametrize("second", [0.0, 0.7])
def test_constant_volumes_differ_by_their_luminance(first, second):
    value = block_ssim(torch.full(SIZE, first).double(), torch.full(SIZE, second).double(), (4, 5, 3))
    expected = (2 * first * second + LOW) / (first**2 + second**2 + LOW)
    torch.testing.assert_close(value, torch.full_like(value, expected), rtol=1e-6, atol=0)


def test_a_negative_block_counts_zero():
    stripes = (torch.arange(8) % 2).double().view(1, 1, 8, 1, 1).expand(1, 1, 8, 4, 4)
    assert ssim_of_block(stripes[0, 0].numpy(), 1 - stripes[0, 0].numpy()) < -0.5
    half = torch.cat([stripes[:, :, :4], 1 - stripes[:, :, 4:]], dim=2)
    assert block_ssim(stripes, 1 - stripes, (4, 4, 4)).item() == 0
    assert block_ssim(stripes, half, (4, 4, 4)).item() == pytest.approx(0.5)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
def test_equal_volumes_are_similar_by_one(dtype, device):
    volume = pair(dtype=dtype)[0].to(device)
    value = block_ssim(volume, volume, (4, 5, 3))
    assert (value.dtype, value.device.type) == (dtype, device.type)
    torch.testing.assert_close(value, torch.ones_like(value), rtol=0, atol=1e-5)


def test_it_is_symmetric_and_falls_with_noise():
    first, second = pair()
    torch.testing.assert_close(block_ssim(first, second, (4, 5, 3)), block_ssim(second, first, (4, 5, 3)))
    weaker = block_ssim(first, 0.5 * (first + second), (4, 5, 3))
    assert (block_ssim(first, second, (4, 5, 3)) < weaker).all()
    assert (weaker < 1).all()


def test_axes_are_not_swapped():
    first, second = pair()
    swapped = block_ssim(first.transpose(2, 4), second.transpose(2, 4), (3, 5, 4))
    torch.testing.assert_close(swapped, block_ssim(first, second, (4, 5, 3)))
    assert not torch.allclose(block_ssim(first, second, (3, 5, 4)), swapped, rtol=1e-3)


def test_a_batch_equals_its_samples():
    first, second = pair()
    single = [block_ssim(first[i : i + 1], second[i : i + 1], (4, 5, 3)) for i in range(2)]
    torch.testing.assert_close(block_ssim(first, second, (4, 5, 3)), torch.cat(single))


def test_blocks_that_do_not_fit_see_repeated_voxels():
    first, second = pair(1, 1, 7, 5, 4)
    padded = [F.pad(volume, (0, 2, 0, 0, 0, 1), mode="replicate") for volume in (first, second)]
    torch.testing.assert_close(block_ssim(first, second, (4, 5, 3)), block_ssim(*padded, (4, 5, 3)))


def test_known_statistics_give_the_same_similarity():
    first, second = pair()
    value = ssim_to_blocks(first, block_statistics(second, (4, 5, 3)))
    torch.testing.assert_close(value, block_ssim(first, second, (4, 5, 3)))


def test_gradient_equals_finite_differences():
    first, second = pair(1, 1, 4, 3, 3)
    assert torch.autograd.gradcheck(lambda volume: block_ssim(volume, second, (4, 3, 3)), first.requires_grad_())


def test_autocast_does_not_lower_the_precision(device):
    first, second = (volume.to(device) for volume in pair(dtype=torch.float32))
    expected = block_ssim(first, second, (4, 5, 3))
    with torch.autocast(device.type, dtype=torch.bfloat16):
        torch.testing.assert_close(block_ssim(first, second, (4, 5, 3)), expected, rtol=0, atol=0)


@pytest.mark.parametrize(
    ("reduction", "reduce"),
    [("mean", torch.mean), ("sum", torch.sum), ("none", torch.clone)],
    ids=["mean", "sum", "none"],
)
def test_loss_is_the_reduced_dissimilarity(reduction, reduce):
    first, second = pair()
    loss = BlockSSIMLoss(block_size=[4, 5, 3], reduction=reduction)
    torch.testing.assert_close(loss(first, second), reduce(1 - block_ssim(first, second, (4, 5, 3))))


def test_volumes_of_different_shapes_are_refused():
    with pytest.raises(ValueError, match=r"target must .* of input \(2, 2, 8, 5, 6\), got \(2, 2, 8, 5, 5\)"):
        block_ssim(pair()[0], pair()[0][..., 1:])
