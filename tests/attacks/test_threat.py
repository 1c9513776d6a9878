"""The threat model of an attack: its name, and which of two allows what the other allows."""

from dataclasses import dataclass

import pytest

from vafa_monai.attacks import (
    APGD,
    BIM,
    FGSM,
    NFGSM,
    PGD,
    VAFA,
    AttackEnsemble,
    CosPGD,
    EraseOrgan,
    FrequencyPGD,
    GaussianNoise,
    GoalAttack,
    Identity,
    RandomQuantization,
    SegPGD,
    SquareAttack,
    TiledAttack,
    TransferPGD,
    UniformQuantization,
    describe,
)
from vafa_monai.attacks.threat import threat_of

BLOCKS = {"block_size": (4, 4, 4)}
NAMES = {
    "no change": Identity(),
    "slice stretch alone": Identity(output_norm="slice_minmax"),
    "voxels within 4/255 (L-inf)": PGD(eps=4 / 255),
    "voxels within 4.5/255 (L-inf)": SquareAttack(eps=4.5 / 255),
    "voxels within 2/255 root mean square (L2)": APGD(eps=2 / 255, norm="l2"),
    "voxels within 1/255 (L-inf)": TiledAttack(attack=PGD(eps=1 / 255), roi_size=(4, 4, 4)),
    "box of DCT coefficients, q_max 20": FrequencyPGD(**BLOCKS),
    "quantization up to q 20, no stretch": VAFA(**BLOCKS),
    "quantization up to q 7, no stretch": UniformQuantization(q=7, **BLOCKS),
    "quantization up to q 9, no stretch": RandomQuantization(q_max=9, **BLOCKS),
    "quantization up to q 30, then slice stretch": VAFA.preset("authors", q_max=30),
    "noise of standard deviation 3/255, blind to the network": GaussianNoise(std=3 / 255),
    "targeted, voxels within 6/255 (L-inf)": PGD(eps=6 / 255, targeted=True),
    "targeted, voxels within 8/255 (L-inf)": GoalAttack(
        attack=PGD(eps=8 / 255, targeted=True), goal=EraseOrgan(organ=1)
    ),
    "voxels within 4/255 (L-inf), or box of DCT coefficients, q_max 20, or quantization up to q 20, no stretch": (
        AttackEnsemble()
    ),
}


@pytest.mark.parametrize(("name", "attack"), NAMES.items(), ids=list(NAMES))
def test_name_says_what_may_be_changed_and_by_how_much(name, attack):
    assert str(threat_of(describe(attack))) == name


@pytest.mark.parametrize("attack", [FGSM(), BIM(), PGD(), APGD(), SegPGD(), CosPGD(), TransferPGD(), SquareAttack()])
def test_attacks_on_voxels_have_one_threat(attack):
    assert threat_of(describe(attack)) == threat_of(describe(PGD()))


def test_an_attack_with_a_budget_of_its_own_is_not_within_eps():
    assert str(threat_of(describe(NFGSM()))) == "NFGSM"


@dataclass(frozen=True, kw_only=True)
class FurtherPGD(PGD):
    """PGD of somebody else."""


def test_an_attack_of_somebody_else_stands_for_itself_whether_it_is_imported_or_not():
    assert str(threat_of(describe(FurtherPGD()))) == "FurtherPGD"


def test_unknown_attack_stands_for_itself():
    threat = threat_of({"_target_": "mine.Twist", "eps": 1})
    assert str(threat) == "Twist"
    assert threat.covers(threat)
    assert not threat.covers(threat_of({"_target_": "mine.Turn"}))
    assert str(threat_of({})) == "unknown"


@pytest.mark.parametrize(
    ("attack", "covered", "exceeded"),
    [
        (PGD(eps=4 / 255), True, False),
        (PGD(eps=0.0156863), True, False),  # 4/255 as a document holds it
        (PGD(eps=1 / 255, targeted=True), True, False),
        (FrequencyPGD(q_max=20, **BLOCKS), True, False),
        (VAFA(q_max=5, **BLOCKS), True, False),
        (PGD(eps=5 / 255), False, True),
        (FrequencyPGD(q_max=21, **BLOCKS), False, True),
        (PGD(eps=1 / 255, norm="l2"), False, False),
        (VAFA.preset("authors", q_max=5), False, False),
        (GaussianNoise(std=0.1), False, False),
        (AttackEnsemble(), True, False),
    ],
    ids=lambda one: f"{one.__class__.__name__}",
)
def test_ensemble_covers_smaller_changes_of_its_kinds_alone(attack, covered, exceeded):
    ensemble, threat = threat_of(describe(AttackEnsemble())), threat_of(describe(attack))
    assert ensemble.covers(threat) is covered
    assert ensemble.exceeded_by(threat) is exceeded
