"""Settings of all attacks: units of strengths, numbers of numpy, and texts that are no truth values."""

from __future__ import annotations

import json
import warnings

import numpy as np
import pytest
import torch
from monai.bundle import ConfigParser

from vafa_monai.attacks import (
    APGD,
    BIM,
    FGSM,
    PGD,
    VAFA,
    AttackEnsemble,
    CosPGD,
    EraseOrgan,
    FrequencyPGD,
    GaussianNoise,
    RandomQuantization,
    SegPGD,
    SquareAttack,
    TiledAttack,
    TransferPGD,
    UniformQuantization,
    describe,
    strength,
)
from vafa_monai.attacks.validation import require_in_range
from vafa_monai.audit import AuditSettings

HU = ((-175, 250), "HU")
STRENGTHS = [
    (kind, "eps") for kind in (APGD, BIM, FGSM, PGD, CosPGD, SegPGD, TransferPGD, SquareAttack, AttackEnsemble)
]
STRENGTHS += [(GaussianNoise, "std"), (PGD, "step_size"), (BIM, "step_size"), (AuditSettings, "eps")]
every_strength = pytest.mark.parametrize(("kind", "name"), STRENGTHS, ids=lambda one: getattr(one, "__name__", one))

UNITS = {
    "fraction": (0.25, None, None, 0.25),
    "whole number": (1, None, None, 1),
    "gray": ("51 gray", None, None, 0.2),
    "grey": ("51 grey", *HU, 0.2),
    "gray levels": ("12.75 gray levels", *HU, 0.05),
    "grey levels": ("12.75 grey levels", *HU, 0.05),
    "one level": ("1 Grey level", None, None, 1 / 255),
    "no space": (".51e2gray", None, None, 0.2),
    "hounsfield": ("42.5 HU", *HU, 0.1),
    "spelled small": ("85hu", *HU, 0.2),
    "per mille": ("3 ‰", (0, 10), "‰", None),
    "standard deviations": ("0.5 SD", (-2.0, 3.0), "SD", 0.1),
    "numpy": (np.float32(0.25), None, None, 0.25),
}


@pytest.mark.parametrize(("value", "physical_range", "unit", "expected"), UNITS.values(), ids=UNITS.keys())
def test_strength_is_a_fraction_of_the_range_whatever_its_unit(value, physical_range, unit, expected):
    if expected is None:  # a sign is no word
        with pytest.raises(TypeError, match="value must be a number, got"):
            strength(value, physical_range, unit)
    else:
        assert strength(value, physical_range, unit) == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize(
    ("value", "about", "error", "match"),
    [
        ("4", HU, TypeError, r"value must be a number, got '4'; text needs a unit"),
        ("4/255", HU, TypeError, r"value must be a number, got '4/255'; text needs a unit"),
        ("gray", (), TypeError, r"value must be a number, got 'gray'"),
        ("nan gray", (), TypeError, r"value must be a number, got 'nan gray'"),
        (None, (), TypeError, r"value must be a number, got None"),
        (True, (), TypeError, r"value must be a number, got True"),
        ("4 HU", (), ValueError, r"fraction or in gray levels, got '4 HU'; vafa_monai.attacks.strength\('4 HU'"),
        ("4 mm", HU, ValueError, r"value must be a fraction, in gray levels or in HU, got '4 mm'"),
        ("4 HU", ((250, -175), "HU"), ValueError, r"physical_range must be two finite numbers, the lower first"),
        ("-4 gray", (), ValueError, r"value must be at least 0 and finite, got -4"),
        ("-4 HU", HU, ValueError, r"value must be at least 0 and finite, got -4"),
        (float("nan"), HU, ValueError, r"value must be at least 0 and finite, got nan"),
        ("1e400 gray", (), ValueError, r"value must be at least 0 and finite, got inf"),
    ],
    ids=str,
)
def test_a_strength_of_no_known_unit_is_refused(value, about, error, match):
    with pytest.raises(error, match=match):
        strength(value, *about)


@every_strength
def test_gray_levels_are_the_fraction_that_they_are(kind, name):
    assert getattr(kind(**{name: "2 gray"}), name) == 2 / 255
    parsed = ConfigParser({"attack": {"_target_": f"{kind.__module__}.{kind.__name__}", name: "2 gray levels"}})
    assert getattr(parsed.get_parsed_content("attack"), name) == 2 / 255


@every_strength
def test_a_physical_unit_that_nobody_explained_is_refused(kind, name):
    with pytest.raises(ValueError, match=rf"{name} must be a fraction or in gray levels, got '4 HU'"):
        kind(**{name: "4 HU"})


def test_a_config_gives_a_physical_strength_to_an_attack():
    about = {"value": "@eps", "physical_range": [-175, 250], "physical_unit": "HU"}
    config = {
        "eps": "4.25 HU",
        "radius": {"_target_": "vafa_monai.attacks.strength", **about},
        "attack": {"_target_": "vafa_monai.attacks.PGD", "eps": "@radius"},
    }
    assert ConfigParser(config).get_parsed_content("attack").eps == pytest.approx(0.01)


@pytest.mark.parametrize(("kind", "name"), [one for one in STRENGTHS if one[1] != "step_size"], ids=str)
def test_more_than_half_of_the_range_is_said_to_be_so(kind, name):
    for value, share in ((8, "800%"), (1, "100%"), (0.75, "75%"), ("200 gray", "78%")):
        with pytest.warns(UserWarning, match=rf"{name} is .*, which is {share} of the whole intensity range") as caught:
            kind(**{name: value})
        assert len([one for one in caught if "whole intensity" in str(one.message)]) == 1, value


def test_a_warning_points_at_the_line_that_gave_the_setting():
    for build in (lambda: PGD(eps=8), lambda: FGSM(eps=8), lambda: SquareAttack(eps=8), lambda: AttackEnsemble(eps=8)):
        with pytest.warns(UserWarning, match='8 gray levels are eps="8 gray"') as caught:
            build()
        assert [one.filename for one in caught] == [__file__]


def test_members_of_an_ensemble_do_not_warn_again():
    with pytest.warns(UserWarning, match="eps is 8"):
        attack = AttackEnsemble(eps=8)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert len(attack.members) == 7


LONG_STEPS = {
    "voxels": (lambda step: PGD(eps=0.1, step_size=step), 0.2, "2 \\* eps = 0.2"),
    "voxels, l2": (lambda step: BIM(eps=0.1, norm="l2", step_size=step), 0.2, "2 \\* eps = 0.2"),
    "coefficients": (lambda step: FrequencyPGD(q_max=10, step_size=step), 10, "q_max = 10"),
    "table": (lambda step: VAFA(q_min=2, q_max=10, step_size=step), 8, "q_max - q_min = 8"),
}


@pytest.mark.parametrize(("build", "longest", "words"), LONG_STEPS.values(), ids=LONG_STEPS.keys())
def test_a_step_that_is_longer_than_any_way_is_said_to_be_so(build, longest, words):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        build(longest)
        build(longest / 1.6)  # 1.25 eps: the single step from a random start
    with pytest.warns(UserWarning, match=rf"step_size is .*, but no step goes further than {words}"):
        build(1.5 * longest)


NUMPY = {
    "voxels": (PGD, {"eps": np.float32(0.25), "steps": np.int64(3), "seed": np.int32(1), "targeted": np.True_}),
    "range": (FGSM, {"value_range": np.array([-1, 3]), "eps": np.float64(0.5)}),
    "range of numbers": (GaussianNoise, {"value_range": [np.float32(-1), np.float32(3)], "std": np.float16(0.5)}),
    "blocks": (VAFA, {"block_size": np.array([4, 3, 2]), "q_max": np.int16(30), "ssim_weight": np.float32(0.5)}),
    "blocks of numbers": (RandomQuantization, {"block_size": (np.int64(4), np.int8(3), 2), "q_max": np.float32(5)}),
    "one quantization step": (UniformQuantization, {"q": np.float32(2.5), "block_size": [np.int64(2)] * 3}),
    "band": (FrequencyPGD, {"band": (np.float32(0.25), np.float32(0.5)), "steps": np.uint8(3)}),
    "schedule": (APGD, {"schedule": np.array([[2.0, 0.5], [1.0, 0.5]]), "rho": np.float32(0.5)}),
    "queries": (SquareAttack, {"queries": np.int64(9), "first_share": np.float32(0.5)}),
    "ensemble": (AttackEnsemble, {"broken_at": np.float32(0.5), "steps": np.int64(2)}),
    "momentum": (TransferPGD, {"momentum": np.float32(0.5), "diversity": np.float64(0.25)}),
}


@pytest.mark.parametrize(("kind", "settings"), NUMPY.values(), ids=NUMPY.keys())
def test_numbers_of_numpy_are_numbers(kind, settings):
    plain = {name: json.loads(json.dumps(value, default=lambda one: one.tolist())) for name, value in settings.items()}
    assert kind(**settings) == kind(**plain)
    assert describe(kind(**settings)) == describe(kind(**plain))
    json.dumps(describe(kind(**settings)))


def test_numbers_of_numpy_name_an_organ():
    labels = torch.tensor([2, 1, 1, 0]).view(1, 1, 1, 1, 4)
    assert torch.equal(EraseOrgan(organ=np.int64(1))(labels), EraseOrgan(organ=1)(labels))


FLAGS = [(PGD, "random_start"), (APGD, "targeted"), (VAFA, "shared_table"), (SquareAttack, "targeted")]


@pytest.mark.parametrize(("kind", "name"), FLAGS)
def test_what_is_no_truth_value_is_none(kind, name):
    for value in ("false", "no", "", 0, 1, None):
        with pytest.raises(TypeError, match=rf"{name} must be true or false, got {value!r}"):
            kind(**{name: value})


@pytest.mark.parametrize("kind", [PGD, VAFA, GaussianNoise, SquareAttack, AttackEnsemble, RandomQuantization])
def test_a_seed_is_a_whole_number_from_0_on(kind):
    with pytest.raises(TypeError, match=r"seed must be a whole number, got 1\.5"):
        kind(seed=1.5)
    with pytest.raises(ValueError, match=r"seed must be at least 0, got -1"):
        kind(seed=-1)


RANGES = [(0, float("nan")), (0, float("inf")), (1, 0), (0, 0), (0, 1, 2), "01", 1, None, (False, True)]


@pytest.mark.parametrize("value", RANGES, ids=str)
def test_a_range_is_two_finite_numbers(value):
    with pytest.raises(ValueError, match=r"value_range must be two finite numbers, the lower first, got"):
        PGD(value_range=value)


def test_what_wraps_an_attack_takes_its_settings_in_numpy():
    assert TiledAttack(attack=PGD(eps=0.1), roi_size=np.array([4, 4, 4])).roi_size == (4, 4, 4)


@pytest.mark.parametrize("value", [-1.0, 2.0, float("nan"), float("inf"), -float("inf")])
def test_a_volume_outside_the_range_is_refused(value):
    volume = torch.rand(1, 1, 3, 4, 5)
    require_in_range("img", volume, (0, 1))
    volume[0, 0, 1, 2, 3] = value
    with pytest.raises(ValueError, match=r"img must be finite and lie in value_range \(0, 1\), got"):
        require_in_range("img", volume, (0, 1))
