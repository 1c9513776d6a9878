"""The array transforms against the frequency functions and against scipy."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.fft
import torch
from monai.bundle import ConfigParser
from monai.data import MetaTensor
from monai.transforms import Compose
from torch import Tensor

from vafa_monai.frequency import block_dct
from vafa_monai.transforms import (
    BlockDCT,
    FrequencyPerturbation,
    FrequencyPerturbationd,
    RandFrequencyPerturbation,
    RandFrequencyPerturbationd,
)

BLOCK = (4, 3, 5)  # divides the width, but neither the height nor the depth
DIVISOR = (11, 3, 2)  # divides all three


def quantized(volume: Tensor, table: np.ndarray, block_size: tuple[int, int, int]) -> Tensor:
    """Quantize the only channel block by block, with scipy, in gray levels of [0, 1]."""
    missing = [(0, -size % edge) for size, edge in zip(volume.shape[1:], block_size, strict=True)]
    levels = np.pad(volume[0].double().numpy(), missing, mode="edge") * 255 - 128
    for corner in np.ndindex(*(size // edge for size, edge in zip(levels.shape, block_size, strict=True))):
        block = tuple(slice(n * edge, (n + 1) * edge) for n, edge in zip(corner, block_size, strict=True))
        steps = np.round(scipy.fft.dctn(levels[block], norm="ortho") / table)
        levels[block] = scipy.fft.idctn(steps * table, norm="ortho")
    height, width, depth = volume.shape[1:]
    return torch.from_numpy(((levels[:height, :width, :depth] + 128) / 255).clip(0, 1)).float()[None]


# BlockDCT


def test_coefficients_are_those_of_the_function(img):
    expected = block_dct(img.as_tensor()[None], DIVISOR)[0]
    assert torch.equal(BlockDCT(DIVISOR)(img).as_tensor(), expected)


def test_inverse_gives_the_volume_and_its_metadata_back(img):
    transform = BlockDCT(DIVISOR)
    restored = transform.inverse(transform(img))
    torch.testing.assert_close(restored.as_tensor(), img.as_tensor(), rtol=0, atol=1e-6)  # float32
    assert torch.equal(restored.affine, img.affine)
    assert restored.meta["filename_or_obj"] == "case_07.nii.gz"


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
def test_every_channel_is_transformed_alone_in_its_dtype(dtype):
    channels = torch.rand(3, 4, 6, 5, generator=torch.Generator().manual_seed(0), dtype=dtype)
    coefficients = BlockDCT((4, 3, 5))(channels)
    assert coefficients.dtype == dtype
    torch.testing.assert_close(coefficients[2:], BlockDCT((4, 3, 5))(channels[2:]))


@pytest.mark.parametrize("dtype", [torch.uint8, torch.int16], ids=str)
def test_integer_volume_has_the_coefficients_of_the_same_floats(dtype):
    volume = torch.arange(24).reshape(1, 4, 3, 2)
    coefficients = BlockDCT((4, 3, 2))(volume.to(dtype))
    torch.testing.assert_close(coefficients, BlockDCT((4, 3, 2))(volume.float()))


def test_volume_that_the_blocks_do_not_divide_is_refused(img):
    with pytest.raises(ValueError, match=r"block_size must divide the \(H, W, D\).*got \(4, 3, 5\)"):
        BlockDCT(BLOCK)(img)


# FrequencyPerturbation


@pytest.mark.parametrize("block_size", [BLOCK, DIVISOR, (4, 4, 1)], ids=str)
def test_perturbed_volume_equals_scipy(img, block_size):
    adv = FrequencyPerturbation(12.0, block_size)(img)
    expected = quantized(img.as_tensor(), np.full(block_size, 12.0), block_size)
    torch.testing.assert_close(adv.as_tensor(), expected, rtol=0, atol=1e-5)  # float32 at levels of 255


def test_every_frequency_has_the_step_of_its_place_in_the_table(img):
    table = 1 + np.arange(60, dtype=np.float64).reshape(BLOCK)
    adv = FrequencyPerturbation(table.tolist(), BLOCK)(img)
    torch.testing.assert_close(adv.as_tensor(), quantized(img.as_tensor(), table, BLOCK), rtol=0, atol=1e-5)


def test_table_of_one_axis_holds_along_the_last_frequency(img):
    table = np.array([1.0, 5.0, 10.0, 20.0, 40.0])
    adv = FrequencyPerturbation(table.tolist(), BLOCK)(img)
    torch.testing.assert_close(adv.as_tensor(), quantized(img.as_tensor(), table, BLOCK), rtol=0, atol=1e-5)


def test_tiny_steps_change_nothing(img):
    adv = FrequencyPerturbation(1e-3, BLOCK)(img)
    torch.testing.assert_close(adv.as_tensor(), img.as_tensor(), rtol=0, atol=1e-5)


def test_soft_rounding_lies_between_the_volume_and_true_rounding(img):
    change = [(FrequencyPerturbation(40.0, BLOCK, alpha)(img) - img).norm().item() for alpha in (0.9, 0.5, 0.0)]
    assert 0 < change[0] < change[1] < change[2]


@pytest.mark.parametrize("value_range", [(-1000.0, 1000.0), (0.0, 255.0), (-0.7, 1.9)], ids=str)
def test_perturbation_does_not_depend_on_the_intensity_unit(img, value_range):
    low, high = value_range
    adv = FrequencyPerturbation(20.0, BLOCK, value_range=value_range)(img.double() * (high - low) + low)
    expected = FrequencyPerturbation(20.0, BLOCK)(img.double())
    torch.testing.assert_close((adv - low) / (high - low), expected, rtol=0, atol=1e-12)


def test_result_stays_inside_value_range():
    extremes = (torch.rand(1, 8, 8, 8, generator=torch.Generator().manual_seed(0)) > 0.5).float()
    adv = FrequencyPerturbation(60.0)(extremes)
    assert (adv.amin().item(), adv.amax().item()) == (0.0, 1.0)


def test_metadata_survives_and_the_argument_is_unchanged(img):
    before = img.clone()
    adv = FrequencyPerturbation(20.0, BLOCK)(img)
    assert torch.equal(adv.affine, img.affine)
    assert adv.meta["filename_or_obj"] == "case_07.nii.gz"
    assert torch.equal(img, before)
    assert not torch.equal(adv, before)


@pytest.mark.parametrize(
    ("transform", "kind"),
    [
        (BlockDCT(DIVISOR), np.float32),
        (FrequencyPerturbation(9.0, BLOCK), np.float64),
        (RandFrequencyPerturbation(prob=0.0), np.float32),
    ],
    ids=lambda part: type(part).__name__ if not isinstance(part, type) else part.__name__,
)
def test_numpy_volume_gives_a_tensor_of_its_dtype(img, transform, kind):
    array = img.numpy().astype(kind)
    result = transform(array)
    assert isinstance(result, MetaTensor)
    assert result.numpy().dtype == kind
    torch.testing.assert_close(result.as_tensor(), transform(torch.from_numpy(array)).as_tensor())


@pytest.mark.parametrize("shape", [(4, 4, 4), (1, 1, 4, 4, 4)], ids=str)
@pytest.mark.parametrize("transform", [BlockDCT((4, 4, 4)), FrequencyPerturbation(2.0, (4, 4, 4))], ids=["dct", "q"])
def test_volume_that_is_not_channel_first_3d_is_refused(transform, shape):
    with pytest.raises(ValueError, match=r"img must have shape \(C, H, W, D\), got \("):
        transform(torch.zeros(shape))


OUTSIDE = {
    "hounsfield units": (lambda img: 2000 * img - 1000, {}),
    "levels of 8 bits": (lambda img: (255 * img).to(torch.uint8), {}),
    "standardized": (lambda img: (img - img.mean()) / img.std(), {}),
    "brighter than its window": (lambda img: 600 * img - 175, {"value_range": (-175, 250)}),
    "nan": (lambda img: img.masked_fill(img == img.max(), float("nan")), {}),
    "infinite": (lambda img: img.masked_fill(img == img.max(), float("inf")), {}),
}
FACES = {
    "given": lambda **settings: FrequencyPerturbation(2.0, **settings),
    "random": lambda **settings: RandFrequencyPerturbation(1.0, **settings),
    "dictionary": lambda **settings: FrequencyPerturbationd("image", 2.0, **settings),
    "random dictionary": lambda **settings: RandFrequencyPerturbationd("image", 1.0, **settings),
}


@pytest.mark.parametrize(("spoil", "settings"), OUTSIDE.values(), ids=OUTSIDE.keys())
@pytest.mark.parametrize("face", FACES)
def test_intensities_that_would_be_clipped_in_silence_are_refused(face, spoil, settings, img):
    spoiled = spoil(img)
    with pytest.raises(ValueError, match=r"img must be finite and lie in value_range \(.*, got .* scale and clip them"):
        FACES[face](**settings)({"image": spoiled} if "dictionary" in face else spoiled)


def test_rounding_beyond_the_range_is_allowed_and_cut(img):
    adv = FrequencyPerturbation(1e-3, BLOCK)(img * (1 + 5e-5))
    assert adv.max() == 1


def test_infinite_steps_are_refused():
    with pytest.raises(ValueError, match="table must hold finite steps, got inf as its largest"):
        FrequencyPerturbation([1.0, float("inf")], (2, 2, 2))


@pytest.mark.parametrize("q_max", [float("inf"), float("nan")])
def test_random_steps_without_an_end_are_refused(q_max):
    with pytest.raises(ValueError, match=f"q_m(ax|in) must be .*{q_max}"):
        RandFrequencyPerturbation(q_max=q_max)


@pytest.mark.parametrize("table", [0.0, -1.0, [[[1.0, 0.0]]], float("nan")], ids=str)
def test_steps_that_are_not_positive_are_refused(table):
    with pytest.raises(ValueError, match="table must hold positive steps, got"):
        FrequencyPerturbation(table, (2, 2, 2))


def test_table_with_too_many_axes_is_refused():
    with pytest.raises(ValueError, match=r"table must broadcast with block_size, got \(2, 2, 2, 2\) for .*\(2, 2, 2\)"):
        FrequencyPerturbation(torch.ones(2, 2, 2, 2), (2, 2, 2))


def test_table_of_another_length_is_refused():
    with pytest.raises(ValueError, match=r"table must broadcast with block_size, got \(3,\) for .*\(8, 8, 8\)"):
        FrequencyPerturbation([1.0, 2.0, 3.0], (8, 8, 8))


def test_softness_of_one_is_refused(img):
    with pytest.raises(ValueError, match=r"alpha must .*got 1\.0"):
        FrequencyPerturbation(2.0, BLOCK, alpha=1.0)(img)


# RandFrequencyPerturbation


def test_probability_zero_leaves_the_volume_and_probability_one_never_does(img):
    never, always = (RandFrequencyPerturbation(prob=prob).set_random_state(0) for prob in (0.0, 1.0))
    assert all(torch.equal(never(img), img) for _ in range(5))
    assert not any(torch.equal(always(img), img) for _ in range(5))


def test_probability_is_the_share_of_perturbed_volumes(img):
    transform = RandFrequencyPerturbation(prob=0.3).set_random_state(0)
    share = np.mean([not torch.equal(transform(img), img) for _ in range(200)])
    assert abs(share - 0.3) < 3 * (0.3 * 0.7 / 200) ** 0.5


def test_same_seed_gives_the_same_volumes_and_another_seed_others(img):
    runs = []
    for seed in (1, 1, 2):
        transform = RandFrequencyPerturbation(prob=1.0).set_random_state(seed)
        runs.append(torch.stack([transform(img).as_tensor() for _ in range(2)]))
    assert torch.equal(runs[0], runs[1])
    assert not torch.equal(runs[0], runs[2])
    assert not torch.equal(runs[0][0], runs[0][1])


def test_steps_lie_between_q_min_and_q_max_and_fill_the_interval():
    transform = RandFrequencyPerturbation(prob=1.0, q_min=3.0, q_max=7.0).set_random_state(0)
    transform.randomize()
    assert tuple(transform.table.shape) == (8, 8, 8)
    assert 3.0 <= transform.table.min() < 3.1
    assert 6.9 < transform.table.max() <= 7.0


def test_random_perturbation_is_the_fixed_one_with_the_drawn_table(img):
    transform = RandFrequencyPerturbation(prob=1.0, block_size=BLOCK).set_random_state(0)
    adv = transform(img)
    torch.testing.assert_close(adv, FrequencyPerturbation(transform.table, BLOCK)(img))
    assert torch.equal(transform(img, randomize=False), adv)


def test_seed_of_a_chain_reaches_the_transform(img):
    first, again = (Compose([RandFrequencyPerturbation(prob=1.0)]).set_random_state(5)(img) for _ in range(2))
    assert torch.equal(first, again)


@pytest.mark.parametrize(("q_min", "q_max"), [(0.0, 5.0), (-1.0, 5.0), (6.0, 5.0)], ids=str)
def test_impossible_steps_are_refused(q_min, q_max):
    with pytest.raises(ValueError, match=rf"q_min must be positive and at most q_max=5\.0, got {q_min}"):
        RandFrequencyPerturbation(q_min=q_min, q_max=q_max)


@pytest.mark.parametrize(
    ("config", "transform"),
    [
        ({"_target_": "BlockDCT", "block_size": [11, 3, 2]}, BlockDCT(DIVISOR)),
        (
            {"_target_": "FrequencyPerturbation", "table": 9, "block_size": [4, 3, 5], "value_range": [0, 2]},
            FrequencyPerturbation(9.0, BLOCK, value_range=(0.0, 2.0)),
        ),
        (
            {"_target_": "RandFrequencyPerturbation", "prob": 1, "q_min": 2, "q_max": 5},
            RandFrequencyPerturbation(prob=1.0, q_min=2.0, q_max=5.0),
        ),
    ],
    ids=lambda part: part["_target_"] if isinstance(part, dict) else "",
)
def test_transform_from_json_equals_the_one_from_python(img, config, transform):
    parser = ConfigParser({"transform": config | {"_target_": f"vafa_monai.transforms.{config['_target_']}"}})
    results = []
    for one in (parser.get_parsed_content("transform"), transform):
        if isinstance(one, RandFrequencyPerturbation):
            one.set_random_state(4)
        results.append(one(img).as_tensor())
    assert torch.equal(*results)
