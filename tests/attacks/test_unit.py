"""Strengths in all units."""

from __future__ import annotations

import pytest

from vafa_monai.attacks import (
    APGD,
    PGD,
    VAFA,
    AttackEnsemble,
    FrequencyPGD,
    GaussianNoise,
    Identity,
    RangeAdapter,
    TiledAttack,
    UniformQuantization,
)
from vafa_monai.attacks.range_adapter import physical_width, strengths

FOUR = {"fraction": 0.015686, "grey_levels": 4.0, "HU": 6.666667}
TWENTY = {"fraction": 0.078431, "grey_levels": 20.0, "HU": 33.333333}
ONE = {"fraction": 0.003922, "grey_levels": 1.0, "HU": 1.666667}

CASES = {
    "radius": (APGD(eps=4 / 255), {"eps": FOUR}),
    "step of voxels": (PGD(eps=4 / 255, step_size=1 / 255), {"eps": FOUR, "step_size": ONE}),
    "other intensities": (PGD(eps=4 / 255, value_range=(-3, 7)), {"eps": FOUR}),
    "noise": (GaussianNoise(std=4 / 255), {"std": FOUR}),
    "step of coefficients": (VAFA(step_size=1, q_min=1), {"step_size": ONE, "q_min": ONE, "q_max": TWENTY}),
    "box of coefficients": (FrequencyPGD(q_max=20), {"q_max": TWENTY}),
    "one quantization step": (UniformQuantization(q=20), {"q": TWENTY}),
    "ensemble": (AttackEnsemble(), {"eps": FOUR, "q_max": TWENTY}),
    "tiles": (TiledAttack(attack=APGD(eps=4 / 255), roi_size=(4, 4, 4)), {"eps": FOUR}),
    "adapter": (RangeAdapter(attack=APGD(eps=4 / 255)), {"eps": FOUR}),
    "nothing": (Identity(), {}),
    "function": (lambda inputs, targets, network: inputs, {}),
}


@pytest.mark.parametrize(("attack", "expected"), CASES.values(), ids=CASES)
def test_strengths_of_a_ct_window(attack, expected):
    found = strengths(attack, (-175, 250), "HU")
    assert {name: found[name] for name in expected} == expected
    assert set(found) - {"step_size"} == set(expected) - {"step_size"}


def test_there_is_no_physical_unit_without_a_range():
    assert strengths(APGD(eps=4 / 255)) == {"eps": {name: FOUR[name] for name in ("fraction", "grey_levels")}}


@pytest.mark.parametrize(
    ("physical_range", "unit", "message"),
    [
        ((-175, 250), None, r"physical_unit must come with physical_range, got None and \(-175, 250\)"),
        (None, "HU", "physical_unit must come with physical_range, got 'HU' and None"),
        ((250, -175), "HU", r"physical_range must be two numbers, the lower first, got \(250, -175\)"),
    ],
)
def test_half_a_unit_is_refused(physical_range, unit, message):
    with pytest.raises(ValueError, match=message):
        physical_width(physical_range, unit)
