"""Every check passes a plain model, and catches a twin of it that is broken in one way."""

from __future__ import annotations

import copy
import dataclasses
import re
from dataclasses import dataclass

import nibabel as nib
import numpy as np
import pytest
import torch
from monai.metrics import compute_hausdorff_distance
from torch import nn

from vafa_monai.attacks import PGD, GaussianNoise, Identity, SquareAttack
from vafa_monai.attacks.threat import threat_of
from vafa_monai.audit import CHECKS, Measured, Status
from vafa_monai.audit import network_checks as gradient_checks
from vafa_monai.audit.audit_attacks import headline, longer_attack
from vafa_monai.audit.clean_checks import check_black_box, check_clean, check_controls, check_transfer
from vafa_monai.audit.data_checks import check_metrics, check_splits, check_statistics, check_survival
from vafa_monai.audit.network_checks import (
    check_determinism,
    check_gradient,
    check_logits,
    check_sliding_window,
    check_untouched,
)
from vafa_monai.audit.strength_checks import (
    check_budget,
    check_budget_curve,
    check_losses,
    check_restarts,
    check_single_step,
    check_steps,
    check_unbounded,
    check_zero_budget,
)
from vafa_monai.audit.unseen_checks import check_unseen
from vafa_monai.inferers import SlidingWindowNetwork
from vafa_monai.metrics import compute_hausdorff_distance_95

EPS = 12 / 255


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: f"{check.id}-{check.name}")
def test_plain_model_passes(check, plain):
    finding = check.run(plain)
    assert finding.status == Status.PASS, finding.sentence


# Broken networks


class Changed(nn.Module):
    """The trained network with something wrong before or after it."""

    def __init__(self, network, before=None, after=None):
        super().__init__()
        self.network, self.before, self.after = network, before, after

    def forward(self, volume):
        logits = self.network(volume if self.before is None else self.before(volume))
        return logits if self.after is None else self.after(logits)


class KillGradient(torch.autograd.Function):
    """A layer whose derivative says 0."""

    @staticmethod
    def forward(ctx, logits):
        return logits.clone()

    @staticmethod
    def backward(ctx, gradient):
        return torch.zeros_like(gradient)


@pytest.fixture(scope="session")
def broken(trained_network, build_subject):
    """Return the subject of a network that is broken in a way."""
    ways = {
        "gradient killed": {"after": KillGradient.apply},
        "hard rounding": {"before": lambda volume: torch.round(volume * 16) / 16},
        "logits x 1e4": {"after": lambda logits: 1e4 * logits},
        "dropout left on": {"before": lambda volume: nn.functional.dropout(volume, 0.2, training=True)},
        "softmax": {"after": lambda logits: logits.softmax(1)},
        "sigmoid": {"after": torch.sigmoid},
        "argmax": {"after": lambda logits: nn.functional.one_hot(logits.argmax(1), 3).movedim(-1, 1).float()},
        "nan": {"after": lambda logits: logits * float("nan")},
    }
    alone = {"argmax": {"inferer": None}}
    built = {
        name: build_subject(Changed(copy.deepcopy(trained_network), **way), **alone.get(name, {}))
        for name, way in ways.items()
    }
    return built.__getitem__


BROKEN_NETWORKS = [
    ("gradient killed", check_unbounded, "FAIL", "Without a bound a DSC of 0.8"),
    ("gradient killed", check_gradient, "FAIL", "100.0% of the gradient is zero"),
    ("gradient killed", check_steps, "FAIL", "24 steps raise the loss by 0;"),
    ("gradient killed", check_black_box, "FAIL", "The black box leaves at most [+]0"),
    ("gradient killed", check_transfer, "FAIL", "Transfer leaves 0.* at most [+]0"),
    ("hard rounding", check_unbounded, "FAIL", "Without a bound a DSC of 0"),
    ("hard rounding", check_gradient, "FAIL", "100.0% of the gradient is zero"),
    ("hard rounding", check_black_box, "FAIL", "The black box leaves at most [+]0"),
    ("logits x 1e4", check_gradient, "FAIL", "the median logit margin is .*e[+]0"),
    ("logits x 1e4", check_losses, "WARN", "Losses agree to 0"),
    ("dropout left on", check_determinism, "FAIL", "Logits of one volume differ by"),
    ("softmax", check_logits, "FAIL", "probabilities that add up to 1"),
    ("sigmoid", check_logits, "FAIL", "numbers from 0 to 1, as a sigmoid gives them"),
    ("argmax", check_logits, "FAIL", "there is no gradient to the volume"),
]


@pytest.mark.parametrize(
    ("way", "check", "status", "sentence"),
    BROKEN_NETWORKS,
    ids=[f"{check.__name__}-{way}" for way, check, *_ in BROKEN_NETWORKS],
)
def test_broken_network_is_caught(way, check, status, sentence, broken):
    finding = check(broken(way))
    assert finding.status.value == status, finding.sentence
    assert re.search(sentence, finding.sentence), finding.sentence


# Broken attacks, metrics, files and data


class Unmeasured(PGD):
    """PGD whose results are not measured: the audit measures them by itself."""

    def _require_kept(self, clean, adv):
        pass


@dataclass(frozen=True, kw_only=True)
class TwiceAsFar(Unmeasured):
    """PGD whose projection lets twice the radius through."""

    def search(self, inputs, targets, network):
        found = super().search(inputs, targets, network)
        return dataclasses.replace(found, adv=self.clip(inputs + 2 * (found.adv - inputs)))


@dataclass(frozen=True, kw_only=True)
class OutOfRange(Unmeasured):
    """PGD that forgets the lowest intensity."""

    def search(self, inputs, targets, network):
        found = super().search(inputs, targets, network)
        return dataclasses.replace(found, adv=found.adv - 0.1)


def fills_gradients(inputs, targets, network):
    """An attack by ``.backward()``, as many are written."""
    volume = inputs.clone().requires_grad_()
    network(volume).square().sum().backward()
    return inputs + 0.01 * volume.grad.sign()


def hd95_of_what_is_left(y_pred, y, spacing):
    """MONAI's HD95, in which a lost organ is NaN and drops out."""
    y_pred = y_pred.clone()
    distances = compute_hausdorff_distance(y_pred, y, percentile=95, spacing=list(spacing))
    return distances.masked_fill(y_pred[:, 1:].flatten(2).sum(2) == 0, float("nan"))


def truncating(path, volume, affine):
    """A writer that stores whole numbers below 256, whatever it is given."""
    nib.save(nib.Nifti1Image(volume.astype(np.uint8), affine), path)


def misaligned(network, inferer):
    """A sliding window whose gradient is that of the volume one voxel further."""
    whole = SlidingWindowNetwork.from_inferer(network, inferer)
    return Changed(whole, before=lambda volume: volume.roll(1, dims=2))


def weak(eps):
    """PGD with a radius of its own, and less of it for more."""
    return Identity() if eps == 0 else PGD(eps=EPS * (1 - eps) + 0.001, steps=6, iterate="best")


BROKEN_PARTS = {
    "budget that is not asked": (
        check_zero_budget,
        {"attacks": {"noise": GaussianNoise(std=0.01)}},
        "FAIL",
        "Without budget 'noise' changes a voxel by",
    ),
    "stretch under the identity": (
        check_zero_budget,
        {"attacks": {"stretch": Identity(output_norm="slice_minmax")}},
        "FAIL",
        "Without budget 'stretch' changes a voxel by",
    ),
    "projection lets twice the radius through": (
        check_budget,
        {"attacks": {"pgd": TwiceAsFar(eps=EPS, steps=3)}},
        "FAIL",
        "'pgd' uses [12][.].* of its budget",
    ),
    "intensities out of range": (check_budget, {"attacks": {"pgd": OutOfRange(eps=EPS, steps=3)}}, "FAIL", "uses inf"),
    "less radius for more budget": (check_budget_curve, {"build": weak}, "FAIL", "The DSC rises by at most [+]0"),
    "an attack that knows its bound": (check_unbounded, {"attack": PGD(eps=EPS)}, "FAIL", "a DSC of 0"),
    "zero step": (
        check_steps,
        {"build": lambda steps: PGD(eps=EPS, steps=steps, step_size=0)},
        "FAIL",
        "24 steps raise the loss by 0;",
    ),
    "steps that go too far": (
        check_steps,
        {"build": lambda steps: PGD(eps=EPS / steps, steps=steps)},
        "FAIL",
        "more steps lower it by up to 0[.]",
    ),
    "many small steps": (
        check_single_step,
        {"iterative": PGD(eps=EPS, steps=5, step_size=EPS / 100), "single": PGD(eps=EPS, steps=1)},
        "FAIL",
        "more than a single one",
    ),
    "seeds of unlike strength": (
        check_restarts,
        {"build": lambda seed: PGD(eps=EPS * seed, steps=3)},
        "FAIL",
        "What 2 random starts leave differs by",
    ),
    "noise in place of an attack": (
        check_controls,
        {"attack": GaussianNoise(std=0.1), "controls": {"other noise": GaussianNoise(std=0.1, seed=3)}},
        "FAIL",
        "% of the harm is adversarial",
    ),
    "white box that hardly tries": (
        check_black_box,
        {"white": PGD(eps=EPS / 50, steps=1), "black": SquareAttack(eps=EPS, queries=100)},
        "FAIL",
        "The black box leaves at most [+]0",
    ),
    "direct attack that hardly tries": (check_transfer, {"white": PGD(eps=EPS / 50, steps=1)}, "FAIL", "at most [+]0"),
    "an unseen attack that is far worse": (
        check_unseen,
        {"attacks": {"eight times": PGD(eps=8 * EPS)}},
        "WARN",
        r"outside it leave: 'eight times' \(voxels within 96/255 \(L-inf\)\) 0",
    ),
    "windows out of place": (check_sliding_window, {"build": misaligned}, "FAIL", "differs from autograd through"),
    "lost organs drop out": (
        check_metrics,
        {"metrics": {"HD95": (hd95_of_what_is_left, False)}},
        "FAIL",
        "HD95 improves or stays where an organ is lost",
    ),
    "spacing is ignored": (
        check_metrics,
        {"metrics": {"HD95": (lambda y_pred, y, _: compute_hausdorff_distance_95(y_pred, y), False)}},
        "FAIL",
        "HD95 does not scale with the spacing",
    ),
    "writer that truncates": (check_survival, {"writer": truncating}, "FAIL", "float32 [+-]0"),
}


@pytest.mark.parametrize(("check", "parts", "status", "sentence"), BROKEN_PARTS.values(), ids=BROKEN_PARTS)
def test_broken_part_is_caught(check, parts, status, sentence, plain):
    finding = check(plain, **parts)
    assert finding.status.value == status, finding.sentence
    assert re.search(sentence, finding.sentence), finding.sentence


def beside(name, settings, lower, plain, cases=None):
    """A result beside the audit that leaves so much less than the ensemble."""
    dice = {one.case: one.foreground - lower for one in headline(plain)}
    return Measured(name=name, threat=threat_of(settings), dice=cases or dice)


STRETCH = {"_target_": "x.VAFA", "q_max": 20, "output_norm": "slice_minmax"}


@pytest.mark.parametrize(
    ("settings", "lower", "status", "words"),
    [
        (STRETCH, 0.06, "WARN", r"'other' \(quantization up to q 20, then slice stretch\) 0"),
        (STRETCH, 0.04, "PASS", "VolAA 1 .*, voxels within 12/255 .* leaves 0"),
        ({"_target_": "x.PGD", "eps": EPS}, 0.06, "WARN", r"outside it leave: 'other' \(voxels within 12/255"),
        ({"_target_": "x.PGD", "eps": EPS, "norm": "l2"}, 0.06, "WARN", r"within 12/255 root mean square \(L2\)\) 0"),
        ({"_target_": "x.PGD", "eps": 2 * EPS}, 0.3, "PASS", r"'other' \(voxels within 24/255 \(L-inf\)\) 0"),
        ({"_target_": "x.FrequencyPGD", "q_max": 80}, 0.3, "PASS", r"'other' \(box of DCT coefficients, q_max 80\)"),
        ({"_target_": "mine.Twist"}, 0.06, "WARN", r"'other' \(Twist\)"),
    ],
    ids=["stretch", "little", "same budget", "l2", "more eps", "more q_max", "unknown"],
)
def test_result_beside_the_audit_is_taken_in(settings, lower, status, words, plain, build_subject):
    subject = build_subject(measured=[beside("other", settings, lower, plain)])
    subject._outcomes = plain._outcomes
    finding = check_unseen(subject)
    assert finding.status.value == status, finding.sentence
    assert re.search(words, finding.sentence), finding.sentence
    assert finding.details["other"] == pytest.approx(
        finding.details["VolAA 1 (steps 12, queries 40)"] - lower, abs=1e-4
    )


def test_results_of_other_cases_are_not_compared(plain, build_subject):
    subject = build_subject(measured=[beside("other", STRETCH, 0, plain, cases={"elsewhere": 0.0})])
    subject._outcomes = plain._outcomes
    assert "other" not in check_unseen(subject).details


def test_own_unseen_attacks_keep_within_half_the_radius_and_the_width_of_the_ensemble(plain):
    sentence = check_unseen(plain).sentence
    assert "'voxels, l2' (voxels within 6/255 root mean square (L2))" in sentence
    assert "'VAFA (paper)' (quantization up to q 40, no stretch)" in sentence


def rectified(near):
    """A network with a kink at ``near`` beside every intensity of a constant volume, and what it is asked on."""

    def before(volume):
        return volume + 40 * nn.functional.relu(volume - 0.5 - near)

    return before


@pytest.mark.parametrize("near", [1e-6, 1e-7])
def test_kink_inside_the_largest_step_is_no_wrong_gradient(near, trained_network, build_subject, plain, monkeypatch):
    cases = [dataclasses.replace(case, image=torch.full_like(case.image, 0.5)) for case in plain.cases]
    subject = build_subject(Changed(copy.deepcopy(trained_network), before=rectified(near)), cases=cases)
    finding = check_gradient(subject)
    assert finding.status == Status.PASS, finding.sentence
    monkeypatch.setattr(gradient_checks, "STEPS", gradient_checks.STEPS[:1])
    assert check_gradient(subject).status == Status.FAIL


class Scaled(torch.autograd.Function):
    """A layer whose derivative is wrong by a factor."""

    @staticmethod
    def forward(ctx, logits, factor):
        ctx.factor = factor
        return logits.clone()

    @staticmethod
    def backward(ctx, gradient):
        return ctx.factor * gradient, None


def straight_through(volume):
    """Rounding whose derivative says 1."""
    return volume + (torch.round(volume * 16) / 16 - volume).detach()


@pytest.mark.parametrize(
    "way",
    [
        {"after": lambda logits: Scaled.apply(logits, 1.03)},
        {"after": lambda logits: Scaled.apply(logits, -1)},
        {"after": lambda logits: Scaled.apply(logits, float("nan"))},
        {"before": straight_through},
    ],
    ids=["3 % too long", "other sign", "nan", "straight through"],
)
def test_wrong_gradient_is_caught_at_every_step(way, trained_network, build_subject):
    finding = check_gradient(build_subject(Changed(copy.deepcopy(trained_network), **way)))
    assert finding.status == Status.FAIL, finding.sentence


def test_gradient_that_is_wrong_in_the_second_case_alone_is_caught(trained_network, build_subject, plain):
    second = plain.cases[1].image.double().mean()

    def before(volume):
        return straight_through(volume) if abs(volume.mean() - second) < 1e-3 else volume

    subject = build_subject(Changed(copy.deepcopy(trained_network), before=before), inferer=None)
    assert check_gradient(subject).status == Status.FAIL


def test_steps_differ_by_their_number_alone(plain):
    attacks = [longer_attack(plain, steps) for steps in (1, 12, 24)]
    assert [attack.step_size for attack in attacks] == pytest.approx([2.5 * EPS / 12, None, 2.5 * EPS / 12])
    assert attacks[1]._absolute_step_size == pytest.approx(attacks[0]._absolute_step_size)
    assert [attack.steps for attack in attacks] == [1, 12, 24]
    losses = check_steps(plain).details["loss"]
    assert losses == sorted(losses)  # one run is a part of the other, and the best iterate counts


def test_gradients_left_behind_are_caught(build_subject, trained_network):
    finding = check_untouched(build_subject(copy.deepcopy(trained_network)), attack=fills_gradients)
    assert finding.status == Status.FAIL
    assert finding.sentence.startswith("The attack changes gradient of")


LEFT_BEHIND = {
    "nothing": (lambda network: None, "nothing of the network."),
    "a weight": (lambda network: network[0].bias.data.add_(1e-6), "state 0.bias."),
    "a buffer": (lambda network: network[1].running_var.mul_(1.01), "state 1.running_var."),
    "a frozen weight": (lambda network: network[4].weight.requires_grad_(False), "requires_grad of 4.weight."),
    "the mode": (lambda network: network.train(), "mode of the network, mode of 0, mode of 1."),
    "the mode of a layer": (lambda network: network[3].train(), "mode of 3."),
}


@pytest.mark.parametrize(("change", "what"), LEFT_BEHIND.values(), ids=LEFT_BEHIND)
def test_whatever_an_attack_leaves_behind_is_named(change, what, build_subject, normalized_network):
    subject = build_subject(normalized_network)
    finding = check_untouched(subject, attack=lambda inputs, targets, network: change(network))
    assert finding.sentence == f"The attack changes {what}"
    assert (finding.status == Status.PASS) == (what == "nothing of the network.")


def test_overlapping_splits_are_caught(build_subject):
    finding = check_splits(build_subject(splits={"training": ["a", "b"], "validation": ["c"], "test": ["b"]}))
    assert (finding.status, finding.value) == (Status.FAIL, 1)
    assert finding.sentence == "Images by content: training 2, validation 1, test 1; 1 in both training and test."


def test_few_cases_are_a_warning(plain, build_subject):
    finding = check_statistics(build_subject(cases=plain.cases[:2]))
    assert (finding.status, finding.value) == (Status.WARN, 2)


def test_network_that_gives_nan_is_no_pass(broken):
    with pytest.raises(RuntimeError, match="finite losses, got"):
        check_budget(broken("nan"))


@pytest.mark.parametrize(
    ("check", "changes", "sentence"),
    [
        (check_transfer, {"surrogate": None}, "There is no second model to transfer from."),
        (check_splits, {"splits": None}, "The parts of the data are not known."),
        (check_sliding_window, {"inferer": None}, "The model is not deployed with MONAI's sliding window."),
    ],
    ids=["no surrogate", "no splits", "no sliding window"],
)
def test_question_that_cannot_be_asked_is_skipped(check, changes, sentence, build_subject):
    finding = check(build_subject(**changes))
    assert (finding.status, finding.sentence) == (Status.SKIP, sentence)


# Overlapping regions under a sigmoid


class Regions(nn.Module):
    """The trained network, asked of two regions that overlap: any organ, and the bright one."""

    def __init__(self, network, after=lambda logits: logits):
        super().__init__()
        self.network, self.after = network, after

    def forward(self, volume):
        none, gray, bright = self.network(volume).split(1, dim=1)
        organ = torch.logsumexp(torch.cat([gray, bright], 1), 1, keepdim=True) - none
        alone = bright - torch.logsumexp(torch.cat([none, gray], 1), 1, keepdim=True)
        return self.after(torch.cat([organ, alone], 1))


@pytest.fixture(scope="session")
def build_regions(build_subject, trained_network, other_network):
    """Return what makes a subject of a network of regions."""

    def build(**changes):
        given = build_subject().cases
        cases = [dataclasses.replace(one, label=torch.cat([one.label > 0, one.label > 1], 1).long()) for one in given]
        about = {"cases": cases, "classes": ("organ", "bright"), "output": "sigmoid"}
        return build_subject(Regions(trained_network, **changes), surrogate=Regions(other_network), **about)

    return build


@pytest.fixture(scope="session")
def regions(build_regions):
    """Regions of the model that passes."""
    return build_regions()


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: f"{check.id}-{check.name}")
def test_regions_that_overlap_pass(check, regions):
    finding = check.run(regions)
    assert finding.status == Status.PASS, finding.sentence


def test_regions_are_measured_each_by_itself(regions):
    dice = [[one.dice[1].item(), one.dice[2].item()] for one in regions.clean]
    assert regions.classes == ("background", "organ", "bright")
    for case, found in zip(regions.cases, dice, strict=True):
        yes = regions.logits(case.image) > 0
        both = (yes & (case.label > 0)).sum((0, 2, 3, 4))
        sizes = yes.sum((0, 2, 3, 4)) + case.label.sum((0, 2, 3, 4))
        assert found == pytest.approx((2 * both / sizes).tolist())


REGIONS = torch.tensor([-1.0, 1.0]).view(1, 2, 1, 1, 1)
BROKEN_REGIONS = {
    "probabilities": (check_logits, torch.sigmoid, "numbers from 0 to 1, as a sigmoid gives them"),
    "no gradient": (check_gradient, KillGradient.apply, "100.0% of the gradient is zero"),
    "regions swapped": (check_clean, lambda logits: logits.flip(1), "the classes are swapped"),
    "bright everywhere": (check_clean, lambda logits: logits * 0 + REGIONS, "one class everywhere does better"),
    "large logits": (check_gradient, lambda logits: 1000 * logits, "median logit margin"),
}


@pytest.mark.parametrize(("check", "after", "words"), BROKEN_REGIONS.values(), ids=BROKEN_REGIONS)
def test_broken_twin_of_regions_is_caught(check, after, words, build_regions):
    finding = check(build_regions(after=after))
    assert finding.status == Status.FAIL, finding.sentence
    assert words in finding.sentence
