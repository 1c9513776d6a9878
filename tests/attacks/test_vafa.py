"""What only VAFA does: its table, its presets, its similarity term, its iterate."""

from __future__ import annotations

import pytest
import scipy.fft
import torch

from vafa_monai.attacks import VAFA, UniformQuantization
from vafa_monai.frequency import block_dct, block_idct, quantize
from vafa_monai.losses import block_ssim, dice_ce

BLOCK = (4, 3, 2)


@pytest.fixture
def volume(volume):
    """Whole blocks, so that the table says everything about the image."""
    return volume[:, :, :8].double()


@pytest.fixture
def label(label):
    return label[:, :, :8]


@pytest.fixture
def tiny_network(tiny_network):
    return tiny_network.double()


def objective(attack, network, inputs, adv, targets):
    """Eq. 2 of the paper for every sample."""
    with torch.no_grad():
        loss = torch.stack([dice_ce()(network(a[None]), t[None]) for a, t in zip(adv, targets, strict=True)])
    return loss - attack.ssim_weight * (1 - block_ssim(inputs, adv, attack.block_size))


def image_of(inputs, table, alpha):
    """Quantize the blocks of ``inputs`` by ``table``."""
    levels = block_idct(quantize(block_dct(255 * inputs - 128, BLOCK), table, alpha))
    return ((levels + 128) / 255).clamp(0, 1)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("authors", (5, "max", "soft", "slice_minmax", "last_evaluated", 1)),
        ("paper", (1, "min", "soft", "clip", "last_evaluated", 1)),
        ("audit", (1, "max", "straight_through", "clip", "best", None)),
    ],
    ids=["authors", "paper", "audit"],
)
def test_preset_has_the_settings_of_its_source(name, expected):
    attack = VAFA.preset(name)
    names = ("q_min", "q_init", "rounding", "output_norm", "iterate", "step_size")
    assert tuple(getattr(attack, name) for name in names) == expected
    assert (attack.block_size, attack.q_max, attack.steps) == ((32, 32, 32), 20, 20)
    assert (attack.restarts, attack.shared_table) == (1, False)


def test_overrides_replace_settings_of_a_preset():
    attack = VAFA.preset("authors", q_max=40, q_min=2, iterate="best")
    assert (attack.q_max, attack.q_min, attack.iterate, attack.rounding) == (40, 2, "best", "soft")


@pytest.mark.parametrize("steps", [1, 4])
@pytest.mark.parametrize("q_init", ["max", "min", 7.5])
def test_table_has_a_step_for_every_coefficient_within_its_bounds(q_init, steps, volume, label, tiny_network):
    attack = VAFA(block_size=BLOCK, q_min=5, q_max=9, q_init=q_init, steps=steps, step_size=3, iterate="last")
    table = attack.run(volume, label, tiny_network).variable
    assert table.shape == (2, 1, 2, 3, 3, *BLOCK)
    assert table.min() >= 5
    assert table.max() <= 9
    assert table.unique().numel() > 1


@pytest.mark.parametrize(("q_init", "expected"), [("max", 20), ("min", 1), (7.5, 7.5)])
def test_first_table_holds_one_value(q_init, expected, volume, label, tiny_network):
    attack = VAFA(block_size=BLOCK, q_init=q_init, steps=1, iterate="last_evaluated")
    assert (attack.run(volume, label, tiny_network).variable == expected).all()


def test_a_step_moves_every_entry_by_step_size(volume, label, tiny_network):
    attack = VAFA(block_size=BLOCK, q_init=10, steps=1, step_size=2.5, iterate="last")
    moved = attack.run(volume, label, tiny_network).variable - 10
    torch.testing.assert_close(moved.abs(), torch.full_like(moved, 2.5))


def test_scaled_step_just_crosses_the_whole_range(volume, label, tiny_network):
    settings = {"block_size": BLOCK, "q_min": 4, "q_max": 20, "steps": 5, "iterate": "last"}
    free, fixed = VAFA(step_size=None, **settings), VAFA(step_size=16 / 5, **settings)
    assert torch.equal(free(volume, label, tiny_network), fixed(volume, label, tiny_network))


def test_restart_begins_at_a_random_table_that_the_seed_decides(volume, label):
    """A loss that falls with the change prefers the finer steps of a random table to ``q_max`` everywhere."""
    inputs, targets = volume[:1], label[:1] * 0
    settings = {"block_size": BLOCK, "q_min": 5, "steps": 1, "step_size": 0, "ssim_weight": 0, "restarts": 2}

    def table(seed):
        attack = VAFA(seed=seed, loss_function=lambda logits, _: -(logits - inputs).square().mean(), **settings)
        return attack.run(inputs, targets, lambda adv: adv).variable

    assert table(seed=1).min() < 6
    assert table(seed=1).max() > 19
    assert table(seed=1).mean() == pytest.approx(12.5, abs=0.8)  # uniform; 432 entries
    assert torch.equal(table(seed=1), table(seed=1))
    assert not torch.equal(table(seed=1), table(seed=2))


def test_best_of_the_restarts_counts_sample_by_sample(cases, trained_network):
    settings = {"block_size": BLOCK, "q_init": "min", "steps": 2, "ssim_weight": 0}
    objectives = [VAFA(restarts=n, **settings).run(*cases, trained_network).objective for n in (1, 2, 4)]
    assert (objectives[0] <= objectives[1]).all()
    assert (objectives[1] <= objectives[2]).all()
    assert (objectives[0] < objectives[2]).any()


def test_shared_table_has_one_step_for_a_coefficient_of_all_blocks(volume, label, tiny_network):
    found = VAFA(block_size=BLOCK, steps=4, shared_table=True).run(volume, label, tiny_network)
    assert found.variable.shape == (2, 1, 1, 1, 1, *BLOCK)
    assert found.variable.unique().numel() > 1
    torch.testing.assert_close(found.adv, image_of(volume, found.variable, alpha=0))


def test_image_is_the_volume_truly_quantized_by_the_table(volume, label, tiny_network):
    found = VAFA(block_size=BLOCK, steps=4).run(volume, label, tiny_network)
    torch.testing.assert_close(found.adv, image_of(volume, found.variable, alpha=0))


@pytest.mark.parametrize("iterate", ["last_evaluated", "last"])
def test_soft_rounding_ends_at_a_softness_of_a_tenth_of_a_step(iterate, volume, label, tiny_network):
    attack = VAFA(block_size=BLOCK, steps=4, rounding="soft", iterate=iterate)
    found = attack.run(volume, label, tiny_network)
    torch.testing.assert_close(found.adv, image_of(volume, found.variable, alpha=0.1 / 4))
    assert not torch.allclose(found.adv, image_of(volume, found.variable, alpha=0))


@pytest.mark.parametrize("ssim_weight", [0, 1, 3])
def test_objective_is_the_loss_minus_the_weighted_dissimilarity(ssim_weight, volume, label, tiny_network):
    attack = VAFA(block_size=BLOCK, steps=3, ssim_weight=ssim_weight)
    found = attack.run(volume, label, tiny_network)
    torch.testing.assert_close(found.objective, objective(attack, tiny_network, volume, found.adv, label))


def test_every_preset_raises_its_objective_above_its_starting_table(volume, label, tiny_network):
    for name in ("authors", "paper", "audit"):
        attacks = [VAFA.preset(name, block_size=BLOCK, steps=steps, iterate="best") for steps in (1, 8)]
        start = UniformQuantization(block_size=BLOCK, q=attacks[0].first_step, output_norm=attacks[0].output_norm)
        before = objective(attacks[0], tiny_network, volume, start(volume, label, None), label)
        assert (attacks[1].run(volume, label, tiny_network).objective > before).all(), name


def test_similarity_term_keeps_the_image_similar(volume, label, tiny_network):
    near, far = (
        VAFA(block_size=BLOCK, ssim_weight=weight, steps=10)(volume, label, tiny_network) for weight in (10, 0)
    )
    assert (block_ssim(near, volume, BLOCK) > block_ssim(far, volume, BLOCK)).all()


def test_paper_preset_changes_the_volume_by_less_than_a_gray_level(volume, label, tiny_network):
    """Its table starts at 1, the finest quantization, and can only reach ``1 + steps``."""
    adv = VAFA.preset("paper", block_size=BLOCK, steps=5)(volume, label, tiny_network)
    assert 0 < (adv - volume).square().mean().sqrt() < 1 / 255


def test_authors_preset_stretches_every_slice_to_full_contrast(volume, label, tiny_network):
    adv = VAFA.preset("authors", block_size=BLOCK, steps=3)(0.3 + 0.4 * volume, label, tiny_network)
    low, high = adv.amin((2, 3)), adv.amax((2, 3))
    torch.testing.assert_close(low, torch.zeros_like(low))
    torch.testing.assert_close(high, torch.ones_like(high))


def test_authors_preset_does_not_stretch_the_ripples_of_air(volume, label, tiny_network):
    volume[..., 2] = 0.0  # shares its blocks with a slice of tissue
    adv = VAFA.preset("authors", block_size=BLOCK, steps=3)(volume, label, tiny_network)
    assert 0 < adv[..., 2].max() < 0.5
    assert (adv[..., 3].amax((1, 2, 3)) == 1).all()


def test_rounding_of_a_flat_slice_is_not_stretched_in_any_unit(volume, label, tiny_network):
    hounsfield = (2000 * volume - 1000).float()
    hounsfield[..., 2] = 500 + 6e-5 * label[..., 2]  # the spacing of float32 at 500
    attack = VAFA.preset("authors", block_size=BLOCK, steps=3, value_range=(-1000, 1000))
    assert attack(hounsfield, label, tiny_network.float())[..., 2].min() > 0


def test_2d_form_transforms_every_slice_by_itself(volume, label, tiny_network):
    found = VAFA(block_size=(8, 9, 1), steps=3).run(volume, label, tiny_network)
    spectrum = scipy.fft.dctn((255 * found.adv - 128).numpy(), axes=(2, 3), norm="ortho")
    table = found.variable[:, :, 0, 0, :, :, :, 0].permute(0, 1, 3, 4, 2)  # -> (B, C, h, w, D)
    inside = ((found.adv > 0) & (found.adv < 1)).all(dim=3).all(dim=2)  # (B, C, D): slices that were not clipped
    quotient = (torch.from_numpy(spectrum) / table).permute(0, 1, 4, 2, 3)[inside]
    assert len(quotient) > 0
    torch.testing.assert_close(quotient, quotient.round(), rtol=0, atol=1e-9)


def test_targeted_attack_is_the_untargeted_one_of_the_negative_loss(volume, label, tiny_network):
    settings = {"block_size": BLOCK, "steps": 3}
    loss = dice_ce()
    negative = VAFA(loss_function=lambda logits, targets: -loss(logits, targets), **settings)
    targeted = VAFA(targeted=True, **settings)
    assert torch.equal(targeted(volume, label, tiny_network), negative(volume, label, tiny_network))


@pytest.mark.parametrize(
    ("setting", "error", "match"),
    [
        ({"q_min": 0}, ValueError, "q_min must be positive and at most q_max=20, got 0"),
        ({"q_min": 21}, ValueError, "q_min must be positive and at most q_max=20, got 21"),
        ({"q_max": float("nan")}, ValueError, "q_max must be at least 0 and finite, got nan"),
        ({"q_max": "20"}, TypeError, "q_max must be a number, got '20'"),
        ({"q_init": "middle"}, ValueError, "q_init must be .*max.* or a number, got 'middle'"),
        ({"q_init": 21}, ValueError, r"q_init must lie in \[1, 20\], got 21"),
        ({"steps": -1}, ValueError, "steps must be at least 0, got -1"),
        ({"steps": 2.5}, TypeError, r"steps must be a whole number, got 2\.5"),
        ({"step_size": -1}, ValueError, "step_size must be at least 0 and finite, got -1"),
        ({"ssim_weight": -1}, ValueError, "ssim_weight must be at least 0 and finite, got -1"),
        ({"block_size": (8, 8)}, ValueError, r"block_size must be three edges .*, got \(8, 8\)"),
        ({"block_size": 8}, ValueError, "block_size must be three edges .*, got 8"),
        ({"block_size": (8, 8, 0)}, ValueError, r"block_size must be .* of at least 1 voxel, got \(8, 8, 0\)"),
        ({"rounding": "hard"}, ValueError, "'hard'"),
        ({"output_norm": "slice"}, ValueError, "'slice'"),
        ({"iterate": "first"}, ValueError, "'first'"),
        ({"restarts": 0}, ValueError, "restarts must be at least 1, got 0"),
        ({"restarts": 2, "iterate": "last"}, ValueError, "iterate must be .best. with several restarts, got 'last'"),
    ],
    ids=str,
)
def test_impossible_settings_are_refused(setting, error, match):
    with pytest.raises(error, match=match):
        VAFA(**setting)


def test_unknown_preset_is_refused():
    with pytest.raises(ValueError, match="did you mean 'authors'"):
        VAFA.preset("author")
