"""The model before any attack: what is stated or measured beside it, and mistakes that explain a low DSC."""

from __future__ import annotations

import copy
import dataclasses
import re

import pytest
import torch
from torch import nn

from vafa_monai.attacks import Identity, describe
from vafa_monai.attacks.ensemble import class_dice
from vafa_monai.attacks.threat import threat_of
from vafa_monai.audit import AuditCase, AuditSettings, Measured, mean_dice
from vafa_monai.audit.clean_checks import check_clean


class Read(nn.Module):
    """The trained network, given or read otherwise."""

    def __init__(self, network, before=lambda volume: volume, after=lambda logits: logits):
        super().__init__()
        self.network, self.before, self.after = copy.deepcopy(network), before, after

    def forward(self, volume):
        return self.after(self.network(self.before(volume)))


MISTAKES = {
    "classes swapped": ({"after": lambda logits: logits[:, [0, 2, 1]]}, "the classes are swapped"),
    "background and organ swapped": ({"after": lambda logits: logits[:, [1, 0, 2]]}, "the classes are swapped"),
    "all classes shifted": ({"after": lambda logits: logits.roll(1, 1)}, "the classes are swapped"),
    "intensities inverted": ({"before": lambda volume: 1 - volume}, "the classes are swapped|inverting intensities"),
    "trained on [-1, 1]": ({"before": lambda volume: (volume + 1) / 2}, r"scaling intensities to \[-1, 1\]"),
    "trained on gray levels": ({"before": lambda volume: volume / 255}, r"scaling intensities to \[0, 255\]"),
    "trained on volumes/255": ({"before": lambda volume: volume * 255}, r"scaling intensities from \[0, 255\]"),
    "one class everywhere": ({"after": lambda logits: logits * 0 + torch.arange(3.0).view(1, 3, 1, 1, 1)}, "better"),
}


@pytest.mark.parametrize(("way", "words"), MISTAKES.values(), ids=MISTAKES)
def test_mistake_that_explains_a_low_dice_is_caught(way, words, build_subject, trained_network):
    finding = check_clean(build_subject(Read(trained_network, **way), surrogate=None))
    assert finding.status.value == "FAIL", finding.sentence
    assert re.search(words, finding.sentence), finding.sentence


def test_one_class_everywhere_is_the_best_of_all_classes(build_subject, plain):
    few = [
        dataclasses.replace(plain.cases[0], label=plain.cases[0].label.clamp_max(1)),
        *plain.cases[1:3],
    ]  # no organ 2
    subject = build_subject(cases=few, inferer=None)
    everywhere = torch.eye(3).view(3, 3, 1, 1, 1)
    dice = [
        torch.stack([class_dice(one.expand(1, 3, *case.label.shape[2:]), case.label)[0, 1:].nanmean() for case in few])
        for one in everywhere.split(1)
    ]
    best = max(one.mean().item() for one in dice)
    assert check_clean(subject).details["constant"] == pytest.approx(0.05 + best - mean_dice(subject.clean), abs=1e-4)


def test_mirrored_labels_are_caught(build_subject, plain):
    cases = [dataclasses.replace(case, label=case.label.flip(2)) for case in plain.cases]
    finding = check_clean(build_subject(cases=cases))
    assert finding.status.value == "FAIL", finding.sentence
    assert "mirroring axes (2,) of the label alone does better" in finding.sentence


@pytest.mark.parametrize(
    ("more", "status"), [(-0.3, "PASS"), (0.0, "PASS"), (0.04, "PASS"), (0.07, "WARN"), (0.11, "FAIL")]
)
def test_stated_dice_decides(more, status, build_subject, plain):
    stated = round(mean_dice(plain.clean) + more, 4)
    finding = check_clean(build_subject(settings=dataclasses.replace(plain.settings, stated_dice=stated)))
    assert finding.status.value == status, finding.sentence
    assert "No DSC is stated" not in finding.sentence


@pytest.mark.parametrize(("more", "status"), [(-0.2, "FAIL"), (-0.07, "WARN"), (0.02, "PASS"), (0.15, "FAIL")])
def test_clean_result_of_the_same_cases_beside_the_audit_decides(more, status, build_subject, plain):
    dice = {one.case: one.foreground + more for one in plain.clean[1:]} | {"another": 0.0}
    beside = [Measured(name="identity", threat=threat_of(describe(Identity())), dice=dice)]
    finding = check_clean(build_subject(measured=beside))
    assert finding.status.value == status, finding.sentence
    assert "No DSC is stated" not in finding.sentence


def test_clean_result_of_other_cases_tells_nothing(build_subject):
    beside = [Measured(name="identity", threat=threat_of(describe(Identity())), dice={"another": 0.0})]
    finding = check_clean(build_subject(measured=beside))
    assert finding.status.value == "PASS"
    assert finding.sentence.endswith(" No DSC is stated to compare with.")


def test_case_out_of_its_context_is_caught_by_what_is_stated(build_subject, trained_network, plain):
    def standardized(volume):
        low, high = volume.amin((2, 3, 4), keepdim=True), volume.amax((2, 3, 4), keepdim=True)
        return (volume - low) / (high - low)

    network = Read(trained_network, before=standardized)  # right on a whole volume, wrong on a part of it
    whole = build_subject(network, inferer=None)
    stated = dataclasses.replace(plain.settings, stated_dice=round(mean_dice(whole.clean), 4))
    part = (..., slice(4), slice(4), slice(3))
    cases = [AuditCase(name=case.name, image=case.image[part], label=case.label[part]) for case in plain.cases]
    finding = check_clean(build_subject(network, inferer=None, cases=cases, settings=stated))
    assert finding.status.value == "FAIL", finding.sentence
    assert "is stated, by 0." in finding.sentence


def test_impossible_stated_dice_is_refused():
    with pytest.raises(ValueError, match=r"stated_dice must be at most 1, got 90"):
        AuditSettings(stated_dice=90)
    with pytest.raises(ValueError, match=r"stated_dice must be at least 0 and finite, got -1"):
        AuditSettings(stated_dice=-1)
