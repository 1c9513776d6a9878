"""Where a check turns: on both sides of every limit, and by the case or run that decides, wherever it stands."""

from __future__ import annotations

import dataclasses
import math

import pytest
import torch

from vafa_monai.attacks import PGD, VAFA, FrequencyPGD
from vafa_monai.audit import AttackOutcome, AuditCase, AuditSettings
from vafa_monai.audit import clean_checks as control_checks
from vafa_monai.audit import data_checks as file_checks
from vafa_monai.audit.clean_checks import check_black_box, check_controls, check_transfer
from vafa_monai.audit.data_checks import check_statistics
from vafa_monai.audit.network_checks import check_determinism
from vafa_monai.audit.strength_checks import (
    check_budget,
    check_budget_curve,
    check_restarts,
    check_single_step,
    check_steps,
    check_unbounded,
    check_zero_budget,
)
from vafa_monai.audit.unseen_checks import check_unseen
from vafa_monai.losses import Output

EPS = 4 / 255
SETTINGS = AuditSettings(eps=EPS, restarts=3, eps_curve=(0, 0.2, 0.5, 1), steps_curve=(1, 2, 4), block_size=(4, 4, 4))


class Given:
    """A subject whose attacks leave what is given, case by case; any other attack leaves ``clean``."""

    surrogate, measured, value_range, width = "another", (), (0.0, 1.0), 1.0
    common, output = {"value_range": (0.0, 1.0)}, Output()

    def __init__(self, *left, clean=(0.9, 0.9, 0.9), losses=None, settings=SETTINGS, sizes=(), shape=(8, 8, 8)):
        self.left, self.losses, self.settings, self.sizes = left, losses or {}, settings, sizes
        self.clean_dice, volume = clean, torch.rand(1, 1, *shape)
        self.cases = [AuditCase(name=str(number), image=volume, label=volume) for number in range(len(clean))]

    def outcomes(self, attack, keep=False):
        known = [dice for one, dice in self.left if one is attack or (isinstance(one, (int, float)) and one == attack)]
        dice = known[0] if known else self.clean_dice
        sizes = self.sizes or [(0.0, 0.0)] * len(dice)
        rows = zip(dice, sizes, strict=False)
        loss = self.losses.get(attack if isinstance(attack, int) else None, 1.0)
        return tuple(outcome(number, left, loss, *size) for number, (left, size) in enumerate(rows))

    def attacked(self, attack, cases):
        return list(self.outcomes(attack))[: len(cases)]

    @property
    def clean(self):
        return self.outcomes(None)


def outcome(number, dice, loss=1.0, linf=0.0, rms=0.0):
    both = torch.tensor([0.5, dice, dice], dtype=torch.float64)
    return AttackOutcome(case=str(number), dice=both, loss=loss, linf=linf, rms=rms, sound=not math.isnan(linf))


def same(value):
    return value


def all_of(dice):
    return (dice, dice, dice)


def one_of(dice, other=0.5):
    """The case that decides is the last."""
    return (other, other, dice)


STRONG, WEAK = PGD(eps=EPS), PGD(eps=EPS, steps=1)
CURVE = {"build": same}
MANY = {"iterative": STRONG, "single": WEAK}
BLACK = {"white": STRONG, "black": WEAK}
NOISE = {"attack": STRONG, "controls": {"n": WEAK}}
TURNS = [
    (check_budget_curve, CURVE, [(0.2, all_of(0.5)), (0.5, all_of(0.502)), (1, all_of(0.504))], "PASS"),
    (check_budget_curve, CURVE, [(0.2, all_of(0.5)), (0.5, all_of(0.503)), (1, all_of(0.506))], "WARN"),
    (check_budget_curve, CURVE, [(0.2, all_of(0.5)), (0.5, all_of(0.519)), (1, all_of(0.1))], "WARN"),
    (check_budget_curve, CURVE, [(0.2, all_of(0.5)), (0.5, all_of(0.521)), (1, all_of(0.1))], "FAIL"),
    (check_unbounded, {"attack": STRONG}, [(STRONG, all_of(0.019))], "PASS"),
    (check_unbounded, {"attack": STRONG}, [(STRONG, all_of(0.021))], "FAIL"),
    (check_unbounded, {"attack": STRONG}, [(STRONG, one_of(0.1, 0.0))], "FAIL"),
    (check_single_step, MANY, [(STRONG, one_of(0.504)), (WEAK, all_of(0.5))], "PASS"),
    (check_single_step, MANY, [(STRONG, one_of(0.506)), (WEAK, all_of(0.5))], "WARN"),
    (check_single_step, MANY, [(STRONG, one_of(0.519)), (WEAK, all_of(0.5))], "WARN"),
    (check_single_step, MANY, [(STRONG, one_of(0.521)), (WEAK, all_of(0.5))], "FAIL"),
    (check_restarts, CURVE, [(1, all_of(0.5)), (2, all_of(0.509)), (3, all_of(0.504))], "PASS"),
    (check_restarts, CURVE, [(1, all_of(0.505)), (2, all_of(0.5)), (3, all_of(0.511))], "WARN"),
    (check_restarts, CURVE, [(1, all_of(0.5)), (2, all_of(0.52)), (3, all_of(0.549))], "WARN"),
    (check_restarts, CURVE, [(1, all_of(0.5)), (2, all_of(0.52)), (3, all_of(0.551))], "FAIL"),
    (check_black_box, BLACK, [(STRONG, all_of(0.5)), (WEAK, one_of(0.496))], "PASS"),
    (check_black_box, BLACK, [(STRONG, all_of(0.5)), (WEAK, one_of(0.494))], "FAIL"),
    (
        check_controls,
        NOISE,
        [(STRONG, all_of(0.5)), (WEAK, all_of(0.71))],
        "PASS",
    ),
    (
        check_controls,
        NOISE,
        [(STRONG, all_of(0.5)), (WEAK, all_of(0.69))],
        "WARN",
    ),
    (
        check_controls,
        NOISE,
        [(STRONG, all_of(0.5)), (WEAK, all_of(0.61))],
        "WARN",
    ),
    (
        check_controls,
        NOISE,
        [(STRONG, all_of(0.5)), (WEAK, all_of(0.59))],
        "FAIL",
    ),
    (check_controls, NOISE, [(STRONG, all_of(0.892))], "SKIP"),
    (check_controls, NOISE, [(STRONG, all_of(0.888))], "PASS"),
    (check_unseen, {"attacks": {"n": WEAK}}, [(WEAK, all_of(0.851))], "PASS"),
    (check_unseen, {"attacks": {"n": WEAK}}, [(WEAK, all_of(0.849))], "WARN"),
    (check_unseen, {"attacks": {"m": STRONG, "n": WEAK}}, [(WEAK, all_of(0.849))], "WARN"),
]


@pytest.mark.parametrize(("check", "parts", "left", "status"), TURNS, ids=[f"{n}-{t[3]}" for n, t in enumerate(TURNS)])
def test_check_turns_at_its_limit(check, parts, left, status):
    finding = check(Given(*left), **parts)
    assert finding.status.value == status, finding.sentence


@pytest.mark.parametrize(("left", "status"), [(0.019, "PASS"), (0.021, "WARN"), (0.124, "WARN"), (0.126, "FAIL")])
def test_what_chance_overlaps_is_no_masked_gradient(left, status):
    """Two organs of an eighth of the volume each."""
    subject, label = Given((STRONG, all_of(left))), torch.zeros(1, 1, 8, 8, 8)
    label[..., 0], label[..., 1] = 1, 2
    subject.cases = [dataclasses.replace(case, label=label) for case in subject.cases]
    assert check_unbounded(subject, attack=STRONG).status.value == status


@pytest.mark.parametrize(
    ("losses", "dice", "status"),
    [
        ((1.1, 1.2, 1.3), (0.6, 0.509, 0.5), "PASS"),
        ((1.1, 1.2, 1.3), (0.6, 0.511, 0.5), "WARN"),
        ((1.0, 1.0, 1.0009), (0.5, 0.5, 0.5), "FAIL"),
        ((1.0, 1.0, 1.0011), (0.5, 0.5, 0.5), "PASS"),
        ((1.2, 1.1989, 1.3), (0.5, 0.5, 0.5), "FAIL"),
        ((1.2, 1.1995, 1.1989), (0.5, 0.5, 0.5), "FAIL"),
    ],
    ids=["converged", "not converged", "flat", "rises", "falls between", "falls in two"],
)
def test_steps_turn_at_their_limits(losses, dice, status):
    rows = [(number, all_of(left)) for number, left in zip((1, 2, 4), dice, strict=True)]
    finding = check_steps(Given(*rows, losses=dict(zip((1, 2, 4), losses, strict=True))), build=same)
    assert finding.status.value == status, finding.sentence


@pytest.mark.parametrize(("left", "status"), [(0.496, "PASS"), (0.494, "FAIL")])
def test_transfer_turns_at_its_limit_in_whichever_case(left, status, monkeypatch):
    rows = [outcome(number, dice) for number, dice in enumerate(one_of(left, 0.6))]
    monkeypatch.setattr(control_checks, "_transferred", lambda subject, surrogate: rows)
    assert check_transfer(Given((STRONG, all_of(0.5))), white=STRONG).status.value == status


@pytest.mark.parametrize(("cases", "status"), [(4, "WARN"), (5, "PASS")])
def test_five_cases_are_enough(cases, status):
    assert check_statistics(Given(clean=(0.5,) * cases)).status.value == status


@pytest.mark.parametrize(("linf", "status"), [(0.9e-5, "PASS"), (1.1e-5, "FAIL")])
def test_no_budget_is_judged_by_the_largest_change_of_all_cases(linf, status):
    subject = Given(sizes=[(0.0, 0.0), (0.0, 0.0), (linf, 0.0)])
    assert check_zero_budget(subject, attacks={"one": STRONG}).status.value == status


BOX = FrequencyPGD(q_max=20, block_size=(4, 4, 4))
USED = {  # attack, linf and rms of one case, share of the budget
    "voxels": (STRONG, EPS * 1.02, 0.0, 1.02),
    "voxels, by the largest": (STRONG, EPS * 0.9, EPS * 2, 0.9),
    "l2": (PGD(eps=EPS, norm="l2"), 1.0, EPS * 1.02, 1.02),
    "coefficients": (BOX, 1.0, 10.2 / 255, 1.02),
    "quantization": (VAFA(q_max=20, block_size=(4, 4, 4)), 1.0, 9 / 255, 0.9),
    "no volume": (STRONG, math.nan, 0.0, math.inf),
}


@pytest.mark.parametrize(("attack", "linf", "rms", "share"), USED.values(), ids=USED)
@pytest.mark.parametrize("case", [0, 1, 2])
def test_budget_is_judged_by_whichever_case_uses_most(attack, linf, rms, share, case):
    sizes = [(0.0, 0.0)] * 3
    sizes[case] = (linf, rms)
    finding = check_budget(Given(sizes=sizes), attacks={"one": attack})
    assert finding.value == pytest.approx(share, abs=2e-3)
    assert finding.status.value == ("PASS" if share <= 1 else "FAIL")


def test_padding_to_whole_blocks_may_be_used():
    """Of six voxels an edge, eight are in blocks: the root mean square may be larger by ``(8 / 6) ** 1.5``."""
    subject = Given(sizes=[(0.0, 10 / 255 * (8 / 6) ** 1.5 * 0.99)] * 3, shape=(6, 6, 6))
    assert check_budget(subject, attacks={"one": BOX}).value == pytest.approx(0.99, abs=1e-3)


@pytest.mark.parametrize("edges", [(8, 6), (6, 8)])
def test_padding_counts_in_the_case_that_has_it(edges):
    subject = Given(clean=all_of(0.9)[1:], sizes=[(0.0, 0.0), (0.0, 10 / 255)])
    subject.attacked = lambda attack, cases: [outcome(number, 0.9) for number in range(2)]
    subject.cases = [
        dataclasses.replace(case, image=torch.rand(1, 1, edge, edge, edge))
        for case, edge in zip(subject.cases, edges, strict=True)
    ]
    finding = check_budget(subject, attacks={"one": BOX})
    assert finding.value == pytest.approx((edges[1] / 8) ** 1.5, abs=1e-3)


@pytest.mark.parametrize("which", [0, 1], ids=["empty", "constant"])
def test_budget_on_flat_volumes_counts(which):
    subject = Given()
    flat = [outcome(number, 0.9, linf=2 * EPS * (number == which)) for number in range(2)]
    subject.attacked = lambda attack, cases: flat
    finding = check_budget(subject, attacks={"one": STRONG})
    assert finding.value == pytest.approx(2, abs=2e-3)


@pytest.mark.parametrize(
    ("gaps", "status"),
    [
        ({"float32": 0.0009, "int16": 0.019, "uint8": -0.019}, "PASS"),
        ({"float32": -0.0011, "int16": 0.0, "uint8": 0.0}, "FAIL"),
        ({"float32": 0.0, "int16": 0.0, "uint8": -0.021}, "WARN"),
        ({"float32": 0.0, "int16": 0.021, "uint8": 0.0}, "WARN"),
    ],
    ids=["little", "lossless", "uint8", "int16"],
)
def test_files_turn_at_their_limits(gaps, status, monkeypatch):
    def reloaded(subject, found, kind, writer):
        return [outcome(number, 0.9 + gaps[kind]) for number in range(3)]

    monkeypatch.setattr(file_checks, "_reloaded", reloaded)
    assert file_checks.check_survival(Given()).status.value == status


@pytest.mark.parametrize(("noise", "status"), [(0.9e-4, "PASS"), (1.1e-4, "FAIL")])
@pytest.mark.parametrize("turn", [1, 2])
def test_logits_may_differ_by_a_part_of_their_spread(noise, status, turn):
    logits, turns, subject = torch.randn(1, 3, 8, 8, 8, dtype=torch.float64), iter(range(3)), Given()
    changed = logits.clone()
    changed[0, 0, 0, 0, 0] += noise * logits.std()
    subject.logits = lambda volume: changed if next(turns) == turn else logits
    assert check_determinism(subject).status.value == status


@pytest.mark.parametrize(
    ("block", "edge"), [((4, 4, 4), None), ((9, 5, 9), 4), ((8, 9, 9), 4), ((32, 16, 32), 8), ((32, 32, 32), 16)]
)
def test_smaller_blocks_are_the_largest_below_those_of_the_ensemble(block, edge):
    finding = check_unseen(Given(settings=dataclasses.replace(SETTINGS, block_size=block, q_max=30)))
    smaller = [f"coefficients, blocks of {edge}"] if edge else []
    assert [name for name in finding.details if name.startswith("coeff")] == smaller
    for name in smaller:
        assert f"{name!r} (box of DCT coefficients, q_max 30)" in finding.sentence
