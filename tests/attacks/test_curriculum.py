"""Which attack a batch meets: drawn by its number, from a start of its own, growing."""

from __future__ import annotations

from collections import Counter

import pytest
from monai.bundle import ConfigParser

from vafa_monai.attacks import (
    BIM,
    FGSM,
    NFGSM,
    PGD,
    VAFA,
    Curriculum,
    FrequencyPGD,
    GaussianNoise,
    RangeAdapter,
    UniformQuantization,
)

THREATS = [PGD(random_start=True), FrequencyPGD(random_start=True), VAFA()]


def test_attack_of_a_batch_depends_on_its_number_and_the_seed_alone():
    first, second = (Curriculum(attacks=THREATS, seed=5) for _ in range(2))
    forwards = [first.at(batch) for batch in range(30)]
    assert forwards == [second.at(batch) for batch in reversed(range(30))][::-1]
    assert forwards != [Curriculum(attacks=THREATS, seed=6).at(batch) for batch in range(30)]


def test_every_batch_and_every_process_has_a_start_of_its_own_and_the_same_kind_of_attack():
    curriculum = Curriculum(attacks=THREATS)
    found = [[curriculum.at(batch, rank) for rank in range(3)] for batch in range(50)]
    assert len({attack.seed for batch in found for attack in batch}) == 150
    assert all(len({type(attack) for attack in batch}) == 1 for batch in found)


def test_threats_are_drawn_as_often_as_their_weights_say():
    curriculum = Curriculum(attacks=THREATS, weights=[2, 1, 1])
    counts = Counter(type(curriculum.at(batch)).__name__ for batch in range(4000))
    assert [counts[name] / 1000 for name in ("PGD", "FrequencyPGD", "VAFA")] == pytest.approx([2, 1, 1], abs=0.1)
    assert {type(Curriculum(attacks=THREATS, weights=[0, 3, 0]).at(batch)) for batch in range(50)} == {FrequencyPGD}


@pytest.mark.parametrize(
    ("attack", "name", "half"),
    [
        (PGD(eps=0.1, step_size=0.05), "eps", 0.05),
        (PGD(eps=0.1, step_size=0.05), "step_size", 0.025),
        (PGD(eps=0.1), "step_size", None),
        (FGSM(eps=0.1), "step_size", 0.05),
        (BIM(eps=0.1, steps=2), "eps", 0.05),
        (NFGSM(eps=0.1), "reach", 0.1625),
        (FrequencyPGD(q_max=40), "q_max", 20),
        (VAFA(q_min=5, q_max=25), "q_max", 15),
        (VAFA(q_min=5, q_max=25, step_size=10), "step_size", 5),
        (GaussianNoise(std=0.1), "std", 0.05),
        (UniformQuantization(q=20), "q", 10),
    ],
    ids=lambda value: type(value).__name__,
)
def test_strength_grows_to_its_own(attack, name, half):
    curriculum = Curriculum(attacks=[attack], warmup=10)
    assert getattr(curriculum.at(4), name) == (half if half is None else pytest.approx(half))
    for batch in (9, 10, 1000):
        assert getattr(curriculum.at(batch), name) == getattr(attack, name)


def test_attack_inside_another_grows_too():
    growing = Curriculum(attacks=[RangeAdapter(attack=PGD(eps=0.1, steps=1))], warmup=10, steps=[(0, 3)])
    assert (growing.at(4).attack.eps, growing.at(4).attack.steps) == (0.05, 3)
    assert growing.at(0).attack.seed != growing.at(1).attack.seed


def test_steps_change_at_their_batches():
    curriculum = Curriculum(attacks=[PGD(steps=7)], steps=[(20, 4), (10, 2)])
    assert [curriculum.at(batch).steps for batch in (0, 9, 10, 19, 20, 500)] == [7, 7, 2, 2, 4, 4]


@pytest.mark.parametrize(
    ("settings", "error", "sentence"),
    [
        ({"attacks": []}, ValueError, r"weights must be one for each of 0 attacks, not all 0, got \[\]"),
        ({"attacks": ["pgd"]}, TypeError, "attacks must be attacks of vafa_monai.attacks, got str"),
        ({"weights": [1]}, ValueError, "weights must be one for each of 3 attacks"),
        ({"weights": [0, 0, 0]}, ValueError, "weights must be one for each of 3 attacks, not all 0"),
        ({"weights": [1, -1, 1]}, ValueError, "weights must be at least 0 and finite, got -1"),
        ({"warmup": -1}, ValueError, "warmup must be at least 0, got -1"),
        ({"warmup": 0.5}, TypeError, "warmup must be a whole number, got 0.5"),
        ({"steps": [(0, -1)]}, ValueError, "steps must be at least 0, got -1"),
        ({"attacks": [FGSM()], "steps": [(90, 2)]}, ValueError, "steps must be 1 and step_size eps for FGSM, got 2"),
    ],
    ids=str,
)
def test_impossible_settings_are_refused_before_the_first_batch(settings, error, sentence):
    with pytest.raises(error, match=sentence):
        Curriculum(**{"attacks": THREATS, **settings})


def test_it_can_be_built_from_json():
    config = {
        "_target_": "vafa_monai.attacks.Curriculum",
        "attacks": [{"_target_": "vafa_monai.attacks.PGD", "eps": 0.1, "steps": 1}],
        "steps": [[5, 3]],
        "warmup": 2,
    }
    curriculum = ConfigParser({"curriculum": config}).get_parsed_content("curriculum")
    assert curriculum == Curriculum(attacks=[PGD(eps=0.1, steps=1)], steps=[(5, 3)], warmup=2)
