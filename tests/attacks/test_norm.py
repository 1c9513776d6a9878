"""Directions of steepest ascent, and the ball of the L2 norm."""

from __future__ import annotations

import pytest
import torch

from vafa_monai.attacks.norm import VoxelBall, rms, steepest


@pytest.fixture
def gradient(volume):
    return torch.randn(volume.shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_no_direction_of_size_one_rises_faster(norm, gradient):
    generator = torch.Generator().manual_seed(1)
    best = (gradient * steepest(gradient, norm)).flatten(1).sum(1)
    for _ in range(20):
        other = gradient + torch.randn(gradient.shape, generator=generator, dtype=torch.float64)
        other = other / (other.abs().amax((1, 2, 3, 4), keepdim=True) if norm == "linf" else rms(other))
        assert ((gradient * other).flatten(1).sum(1) < best).all()


def test_direction_of_l2_has_a_root_mean_square_of_one(gradient):
    torch.testing.assert_close(rms(steepest(gradient, "l2")).flatten(), torch.ones(2, dtype=torch.float64))


@pytest.mark.parametrize("scale", [1e-30, 1e30], ids=["tiny", "huge"])
def test_direction_does_not_depend_on_the_size_of_the_gradient(scale, gradient):
    """The squares of such a gradient would be 0 or infinite in float32."""
    gradient = gradient.float()
    torch.testing.assert_close(steepest(scale * gradient, "l2"), steepest(gradient, "l2"))


@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_where_the_gradient_is_zero_there_is_no_direction(norm):
    assert torch.equal(steepest(torch.zeros(1, 1, 2, 2, 2), norm), torch.zeros(1, 1, 2, 2, 2))


def test_projection_shortens_to_the_radius_and_keeps_what_is_inside(volume, gradient):
    clean = 0.3 + 0.4 * volume.double()
    ball = VoxelBall(clean, 0.05, (0.0, 1.0), norm="l2")
    change = ball.project(clean + gradient / 10) - clean
    torch.testing.assert_close(rms(change).flatten(), torch.full((2,), 0.05, dtype=torch.float64))
    torch.testing.assert_close(change / rms(change), gradient / rms(gradient))
    inside = clean + 0.01 * gradient
    torch.testing.assert_close(ball.project(inside), inside)


def test_projection_ends_inside_ball_and_range(volume, gradient):
    ball = VoxelBall(volume.double(), 0.3, (0.0, 1.0), norm="l2")
    projected = ball.project(volume + gradient)
    assert (rms(projected - volume) <= 0.3).all()
    assert projected.min() >= 0
    assert projected.max() <= 1


def test_ball_of_radius_zero_is_the_clean_volume(volume):
    ball = VoxelBall(volume, 0.0, (0.0, 1.0), norm="l2")
    assert torch.equal(ball.project(volume + 0.1), volume)
    assert torch.equal(ball.project(volume), volume)


def test_linf_ball_is_inside_the_l2_ball(volume):
    corner = volume * 0 + 0.5 + 0.1
    assert torch.allclose(VoxelBall(volume * 0 + 0.5, 0.1, (0.0, 1.0), norm="l2").project(corner), corner)
