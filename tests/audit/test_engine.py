"""The verdict, what an error becomes, and that runs are shared."""

from __future__ import annotations

import math
import re
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest
import torch
from torch import nn

from vafa_monai.attacks import FrequencyPGD
from vafa_monai.audit import (
    CHECKS,
    AuditCase,
    AuditedModel,
    AuditRun,
    AuditSettings,
    Check,
    CheckResult,
    Status,
    mean_dice,
    run_audit,
)
from vafa_monai.audit.audit_attacks import voxel_attack
from vafa_monai.audit.audited_model import scored
from vafa_monai.audit.clean_checks import check_clean, check_transfer
from vafa_monai.audit.strength_checks import check_single_step, check_unbounded
from vafa_monai.audit.unseen_checks import audit_curves

AUDIT_PAGE = Path(__file__).parents[2] / "docs" / "audit.md"


def check_of(result):
    """A check that finds ``result``, or breaks off with it."""

    def run(subject):
        if isinstance(result, Exception):
            raise result
        return CheckResult(status=result, sentence="Found.")

    return Check(id="S0", name="one", title="One", meaning="Nothing.", run=run)


def test_every_check_is_on_the_page_once():
    listed = re.findall(r"^\| (S\d+) `(\w+)` \|", AUDIT_PAGE.read_text(encoding="utf-8"), re.MULTILINE)
    assert [(check.id, check.name) for check in CHECKS] == listed
    assert len({check.name for check in CHECKS}) == len(CHECKS)


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.id)
def test_texts_of_a_check_are_sentences(check):
    assert check.meaning.endswith(".")
    assert not check.title.endswith(".")


@pytest.mark.parametrize(
    ("found", "verdict"),
    [
        (["PASS", "PASS"], "PASS"),
        (["PASS", "SKIP"], "PASS"),
        (["WARN", "PASS"], "WARN"),
        (["PASS", "WARN", "FAIL", "SKIP"], "FAIL"),
    ],
    ids="+".join,
)
def test_verdict_is_the_worst_that_was_found(found, verdict, plain):
    run = run_audit(plain, [check_of(Status(status)) for status in found], curves=False)
    assert run.verdict.value == verdict


def test_check_that_breaks_off_is_a_failure_and_the_others_are_asked(plain):
    told = []
    checks = [check_of(ValueError("eps must be at least 0, got -1.\nmore")), check_of(Status.PASS)]
    run = run_audit(plain, checks, curves=False, told=lambda check, finding: told.append(finding.status))
    assert told == [Status.FAIL, Status.PASS]
    assert run.findings[0][1].sentence == "The check broke off: eps must be at least 0, got -1."


def test_fault_of_the_program_is_no_finding(plain):
    with pytest.raises(AttributeError):
        run_audit(plain, [check_of(AttributeError("no such thing"))], curves=False)


def test_attack_runs_once_for_all_that_ask(build_subject):
    lines = []
    subject = build_subject(progress=lines.append)
    first = audit_curves(subject)
    asked, cost = len(lines), dict(subject.cost)
    assert audit_curves(subject) == first
    assert (len(lines), subject.cost) == (asked, cost)
    assert cost["forward"] > cost["backward"] > 0


def test_curves_begin_with_the_clean_volumes_and_fall(plain):
    voxels, coefficients, steps = audit_curves(plain)
    clean = sum(outcome.foreground for outcome in plain.clean) / len(plain.clean)
    for curve in (voxels, coefficients):
        assert curve["x"][0] == 0
        assert curve["dice"][0] == pytest.approx(clean, abs=1e-6)
    for curve in (voxels, coefficients, steps):
        assert curve["dice"][-1] < curve["dice"][0]
        assert [len(row) for row in curve["dice_per_class"]] == [3] * len(curve["x"])
    assert voxels["x"] == pytest.approx([0, 4, 12, 36, 255])


def test_network_is_left_as_it_was(plain, trained_network):
    state = {name: value.clone() for name, value in trained_network.state_dict().items()}
    trained_network.train()
    try:
        run_audit(plain, [check for check in CHECKS if check.name in ("logits", "gradient", "untouched")], curves=False)
        assert trained_network.training
    finally:
        trained_network.eval()
    assert all(state[name].equal(value) for name, value in trained_network.state_dict().items())
    assert all(weight.grad is None and weight.requires_grad for weight in trained_network.parameters())


def test_empty_run_passes_nothing_but_itself():
    assert AuditRun(()).verdict == Status.PASS


REFUSED = [
    ({"steps": 0}, "steps must be at least 1 and finite, got 0"),
    ({"restarts": 1}, "restarts must be at least 2 and finite, got 1"),
    ({"eps": -1}, "eps must be at least 0 and finite, got -1"),
    ({"q_max": 0.5}, "q_max must be at least 1 and finite, got 0.5"),
    ({"eps_curve": (0, 0.5)}, r"eps_curve must end with 1, no budget at all, got \(0, 0.5\)"),
    ({"steps_curve": (5, 1)}, r"steps_curve must be at least two rising numbers from 0 on, got \(5, 1\)"),
    ({"block_size": (4, 4)}, r"block_size must be three edges"),
]


@pytest.mark.parametrize(("setting", "message"), REFUSED, ids=[message for _, message in REFUSED])
def test_impossible_settings_are_refused(setting, message):
    with pytest.raises(ValueError, match=message):
        AuditSettings(**setting)


@pytest.mark.parametrize("setting", [{"stated_dice": 0}, {"stated_dice": 1}, {"q_max": 1}, {"restarts": 2}])
def test_ends_of_a_range_belong_to_it(setting):
    (name,) = setting
    assert getattr(AuditSettings(**setting), name) == setting[name]


def test_cases_must_be_there_and_have_names_of_their_own(plain, trained_network):
    for cases in ([], [plain.cases[0], plain.cases[0]]):
        with pytest.raises(ValueError, match="cases must be at least one, of different names"):
            AuditedModel(trained_network, cases, plain.classes)


def test_labels_of_background_alone_are_refused(plain, trained_network):
    case = replace(plain.cases[0], label=torch.zeros_like(plain.cases[0].label))
    with pytest.raises(ValueError, match="cases must show a class beside the background, got labels of background alo"):
        AuditedModel(trained_network, [case], plain.classes)


def test_a_case_of_background_alone_has_no_dice_and_decides_no_check(plain, build_subject):
    """As in the results; what an attack invents there is for other metrics to tell."""
    healthy = replace(plain.cases[0], name="healthy", label=torch.zeros_like(plain.cases[0].label))
    subject = build_subject(cases=[healthy, *plain.cases])
    assert math.isnan(subject.clean[0].foreground)
    assert mean_dice(subject.clean) == pytest.approx(mean_dice(plain.clean), abs=1e-6)
    assert [one.case for one in scored(subject.clean)] == [case.name for case in plain.cases]
    attack = voxel_attack(plain, steps=3)
    weaker = voxel_attack(plain, steps=1)
    for check in (check_clean, partial(check_single_step, iterative=attack, single=weaker)):
        found, before = check(subject), check(plain)
        assert (found.status, found.sentence) == (before.status, before.sentence)
        assert found.value == pytest.approx(before.value, abs=1e-4)
    assert check_unbounded(subject, attack).details.keys() == {"healthy", *(case.name for case in plain.cases)}
    assert check_transfer(subject, attack).value == pytest.approx(check_transfer(plain, attack).value, abs=1e-4)


def test_batches_give_what_single_cases_give(plain, build_subject):
    attack = FrequencyPGD(block_size=(4, 3, 5), steps=3)
    smaller = AuditCase(name="smaller", image=plain.cases[0].image[..., :5], label=plain.cases[0].label[..., :5])
    cases = [*plain.cases[:3], smaller, *plain.cases[3:]]
    together, single = (build_subject(cases=cases, batch_size=size).outcomes(attack, keep=True) for size in (4, 1))
    assert [one.case for one in together] == [one.case for one in single] == [case.name for case in cases]
    for one, other in zip(together, single, strict=True):
        assert one.loss == pytest.approx(other.loss, abs=1e-4)
        assert one.foreground == pytest.approx(other.foreground, abs=5e-3)
        torch.testing.assert_close(one.adv, other.adv, rtol=0, atol=0.02)


@pytest.mark.parametrize("channels", [1, 2, 4])
def test_network_whose_channels_are_not_the_classes_is_refused_before_any_check(build_subject, channels):
    asked = []
    never = Check(id="S1", name="never", title="", meaning="", run=asked.append)
    with pytest.raises(ValueError, match=rf"one channel for each of 3 classes, .*, got {channels}; one channel, or"):
        run_audit(build_subject(nn.Conv3d(1, channels, 1)), [never], curves=False)
    assert asked == []


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_logits_that_are_not_finite_are_no_prediction(build_subject, bad):
    network = nn.Conv3d(1, 3, 1)
    with torch.no_grad():
        network.bias[1] = bad
    with pytest.raises(ValueError, match="network must return finite logits, got NaN or infinite ones"):
        _ = build_subject(network).clean


UNFIT = {
    "one-hot": (lambda label: torch.cat([label == 0, label == 1, label == 2], 1), r"label of case_0 must have shape"),
    "smaller": (lambda label: label[..., 1:], r"label of case_0 must have shape \(1, 1, 11, 9, 6\), got"),
    "scaled": (
        lambda label: label * 0.999999,
        r"label of case_0 must hold whole numbers as class indices, got 1\.99999",
    ),
    "another class": (lambda label: label + 1, r"label of case_0 must hold class indices from 0 to 2, got 3"),
    "negative": (lambda label: label - 1, r"label of case_0 must hold class indices from 0 to 2, got -1"),
}


@pytest.mark.parametrize(("spoil", "match"), UNFIT.values(), ids=UNFIT.keys())
def test_labels_that_are_no_classes_are_refused(plain, build_subject, spoil, match):
    case = replace(plain.cases[0], label=spoil(plain.cases[0].label))
    with pytest.raises(ValueError, match=match):
        build_subject(cases=[case])


def test_batch_of_nothing_is_refused(build_subject):
    with pytest.raises(ValueError, match="batch_size must be at least 1 and finite, got 0"):
        build_subject(batch_size=0)
