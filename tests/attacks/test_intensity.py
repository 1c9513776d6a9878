"""Gray levels and the slice stretch."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from vafa_monai.attacks.intensity import GrayScale, constant_slices, stretch_slices

RANGES = [(0.0, 1.0), (-1000.0, 1000.0), (-3.0, 3.0)]


@pytest.mark.parametrize("value_range", RANGES, ids=str)
def test_ends_of_the_range_are_the_ends_of_a_centered_byte(value_range):
    low, high = value_range
    levels = GrayScale(value_range).to_levels(torch.tensor([low, (low + high) / 2, high]))
    assert levels.tolist() == [-128.0, -0.5, 127.0]


@pytest.mark.parametrize("value_range", RANGES, ids=str)
def test_levels_and_units_give_the_volume_back(value_range, volume):
    scale, (low, high) = GrayScale(value_range), value_range
    inputs = low + (high - low) * volume.double()
    torch.testing.assert_close(scale.from_unit(scale.to_unit(inputs)), inputs)
    torch.testing.assert_close(scale.levels_to_unit(scale.to_levels(inputs)), volume.double())


@pytest.fixture
def with_flat_slices(volume) -> Tensor:
    volume[0, :, :, :, 1], volume[1, :, :, :, 4] = 0.0, 0.3
    return volume


def test_slices_of_one_value_are_told_from_the_others(with_flat_slices):
    flat = constant_slices(with_flat_slices)
    assert flat.shape == (2, 1, 1, 1, 6)
    assert flat.nonzero()[:, [0, 4]].tolist() == [[0, 1], [1, 4]]


def test_rounding_does_not_make_texture(volume):
    flat = torch.full_like(volume, 0.3) + torch.finfo(volume.dtype).eps * volume.round()
    assert constant_slices(flat).all()
    assert not constant_slices(torch.full_like(volume, 0.3) + 1e-4 * volume).any()


def test_stretched_slices_fill_the_unit_interval_in_their_order(volume):
    stretched = stretch_slices(0.2 + 0.1 * volume)
    low, high = stretched.amin((2, 3)), stretched.amax((2, 3))
    torch.testing.assert_close(low, torch.zeros_like(low))
    torch.testing.assert_close(high, torch.ones_like(high))
    assert torch.equal(stretched.flatten(2, 3).argmax(2), volume.flatten(2, 3).argmax(2))


def test_flat_slices_are_only_clipped(with_flat_slices):
    with_flat_slices[0, :, :, :, 1] = 1.5
    stretched = stretch_slices(with_flat_slices)
    assert (stretched[0, ..., 1] == 1).all()
    assert torch.equal(stretched[1, ..., 4], with_flat_slices[1, ..., 4])


def test_kept_slices_are_only_clipped(volume):
    keep = torch.zeros(2, 1, 1, 1, 6, dtype=torch.bool)
    keep[0, ..., 3] = True
    stretched = stretch_slices(1.2 * volume, keep)
    assert torch.equal(stretched[0, ..., 3], (1.2 * volume).clamp(0, 1)[0, ..., 3])
    assert torch.equal(stretched[1], stretch_slices(1.2 * volume)[1])


def test_stretching_twice_changes_nothing(volume):
    once = stretch_slices(volume.double())
    torch.testing.assert_close(stretch_slices(once), once)


def test_gradient_of_a_flat_slice_is_finite(with_flat_slices):
    with_flat_slices.requires_grad_()
    (gradient,) = torch.autograd.grad(stretch_slices(with_flat_slices).square().sum(), with_flat_slices)
    assert torch.isfinite(gradient).all()


def plain_stretch(volume: Tensor) -> Tensor:
    """The same by autograd; slices that vary only."""
    low, high = volume.amin((2, 3), keepdim=True), volume.amax((2, 3), keepdim=True)
    return (volume - low) / (high - low)


def test_gradient_of_the_stretch_is_that_of_autograd_ties_included(volume):
    volume = volume.double()
    volume[0, 0, 0, 0, 2], volume[0, 0, 3, 1, 2] = volume[0, 0, ..., 2].max(), volume[0, 0, ..., 2].max()
    weight = torch.rand(volume.shape, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    gradients = []
    for stretch in (stretch_slices, plain_stretch):
        inputs = volume.clone().requires_grad_()
        gradients.append(torch.autograd.grad((stretch(inputs) * weight).sum(), inputs)[0])
    torch.testing.assert_close(*gradients)


def test_gradient_in_slices_that_are_only_clipped_is_that_of_the_clip(with_flat_slices):
    with_flat_slices[0, :, :, :, 1] = 1.5
    inputs = with_flat_slices.requires_grad_()
    (gradient,) = torch.autograd.grad(stretch_slices(inputs).sum(), inputs)
    assert (gradient[0, ..., 1] == 0).all()
    assert (gradient[1, ..., 4] == 1).all()
