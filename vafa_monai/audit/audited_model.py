"""The audited model, what is measured of it, and what a check says."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import groupby
from typing import Any

import torch
from monai.metrics import compute_dice
from monai.utils import StrEnum, fall_back_tuple
from torch import Tensor, nn

from vafa_monai.attacks.attack import Attack
from vafa_monai.attacks.controls import Identity
from vafa_monai.attacks.describe import describe
from vafa_monai.attacks.threat import Threat
from vafa_monai.attacks.validation import require_at_least, require_count, require_range
from vafa_monai.audit.setting import AuditSettings
from vafa_monai.inferers.inferred_network import PassCounter, evaluating
from vafa_monai.inferers.whole_network import whole_network
from vafa_monai.losses.consistency import dice_ce
from vafa_monai.losses.output import Output, class_indices, require_channels, yes_or_no

__all__ = [
    "SLACK",
    "AttackOutcome",
    "AuditCase",
    "AuditedModel",
    "Check",
    "CheckResult",
    "Measured",
    "Status",
    "largest_gap",
    "mean_dice",
    "scored",
]

SLACK = 1e-5  # of the width: float32
SOFTMAX = Output()


@dataclass(frozen=True, kw_only=True, eq=False)
class AuditCase:
    """One case in the grid and the intensities of the network.

    Args:
        name: its name.
        image: volume ``(1, C, H, W, D)``.
        label: class indices ``(1, 1, H, W, D)``, which attacks get; 0 and 1 of ``(1, channels, H, W, D)`` under a
            sigmoid.
        spacing: edges of a voxel, in mm.
        postprocessing: makes of logits ``(1, classes, H, W, D)`` the one-hot prediction and truth that are compared,
            both ``(1, classes, ...)``, such as those in the grid of the files; ``None`` compares the predicted classes
            with ``label`` in the grid of the network.
    """

    name: str
    image: Tensor
    label: Tensor
    spacing: tuple[float, ...] = (1.0, 1.0, 1.0)
    postprocessing: Callable[[Tensor], tuple[Tensor, Tensor]] | None = None

    def masks(self, logits: Tensor, output: Output = SOFTMAX) -> tuple[Tensor, Tensor]:
        """Return masks of prediction and truth ``(1, classes, ...)`` of logits ``(1, classes, H, W, D)``."""
        if self.postprocessing is not None:
            return self.postprocessing(logits)
        channels = logits.shape[1]
        return output.masks(output.predict(logits), channels), output.masks(self.label, channels)

    def dice(self, logits: Tensor, output: Output = SOFTMAX) -> Tensor:
        """Return the DSC of every class, background first: that of MONAI, NaN for a class absent from the truth."""
        found = compute_dice(*self.masks(logits, output))[0]
        return torch.stack(output.background_first(list(found), found.new_tensor(math.nan)))


@dataclass(frozen=True, kw_only=True, eq=False)
class AttackOutcome:
    """What one attack did to one case.

    Args:
        case: name of the case.
        dice: DSC of every class, ``(classes,)``, NaN for a class absent from the case.
        loss: soft Dice plus cross entropy of the attacked volume.
        linf: largest change of a voxel, as a fraction of the width of the intensities.
        rms: root mean square of the change, in the same unit.
        sound: whether the volume is finite, and has the shape, dtype and intensities of the clean one.
        adv: attacked volume ``(1, C, H, W, D)``, if it was to be kept.
        details: what the attack tells of the case, such as the members of an ensemble.
    """

    case: str
    dice: Tensor
    loss: float
    linf: float
    rms: float
    sound: bool
    adv: Tensor | None = None
    details: Mapping[str, Any] = field(default_factory=dict)

    @property
    def foreground(self) -> float:
        """Mean DSC of the classes after the first; NaN if the truth has none of them."""
        return self.dice[1:].nanmean().item()


@dataclass(frozen=True, kw_only=True)
class Measured:
    """A result of the same weights that was measured elsewhere.

    Args:
        name: name of the attack; ``"identity"`` is the clean run.
        threat: which changes the attack may make.
        dice: foreground DSC by case, NaN where it is undefined.
    """

    name: str
    threat: Threat
    dice: Mapping[str, float]


class AuditedModel:
    """A network with its inferer and cases; it runs an attack once, however many checks ask for it.

    Everything runs in eval mode, through the deployed pipeline: the blended logits of a sliding window, or the network
    itself. The mode of the network is put back.

    Args:
        network: maps windows to logits.
        cases: cases to attack, in the grid and intensities of the network.
        classes: names of the classes, under a softmax with the background first.
        name: label of the model.
        checkpoint: ``path`` and ``sha256`` of the weights, if they are of a file.
        inferer: MONAI inferer that the model is deployed with; ``None`` calls the network.
        settings: how hard the audit tries.
        value_range: lowest and highest intensity that the network's input can have.
        surrogate: another network of the same task, for transfer attacks; without it that check is skipped.
        splits: content hashes of the images of each part of the data, by name, such as ``"training"`` and ``"test"``.
        measured: results of the same weights that lie beside the audit.
        output: what the channels of logits and labels mean, see :class:`vafa_monai.losses.Output`.
        batch_size: number of cases that are attacked together, if they have one shape. A small network is far faster
            on the CPU with two than with one.
        progress: told, as one line, what is run.

    Raises:
        ValueError: if there are no cases, or two of one name, if a label does not fit its image or the classes, if no
            label has a class after the first, or if ``batch_size`` is below 1.
    """

    def __init__(  # noqa: PLR0913 - what an audit must know
        self,
        network: nn.Module,
        cases: Sequence[AuditCase],
        classes: Sequence[str],
        *,
        name: str = "model",
        checkpoint: Mapping[str, str] | None = None,
        inferer: Callable[..., Tensor] | None = None,
        settings: AuditSettings | None = None,
        value_range: Sequence[float] = (0.0, 1.0),
        surrogate: nn.Module | None = None,
        splits: Mapping[str, Sequence[str]] | None = None,
        measured: Sequence[Measured] = (),
        output: Output | str = "softmax",
        batch_size: int = 1,
        progress: Callable[[str], None] | None = None,
    ) -> None:
        require_count("batch_size", batch_size)
        require_at_least("batch_size", batch_size, 1)
        names = [case.name for case in cases]
        if not names or len(set(names)) < len(names):
            raise ValueError(f"cases must be at least one, of different names, got {names!r}.")
        self.output, self.channels = Output.of(output), len(classes)
        for case in cases:
            _require_label(case, self.channels, self.output)
        if not any(case.label.any() for case in cases):
            raise ValueError("cases must show a class beside the background, got labels of background alone.")
        self.network, self.cases, self.inferer = network, tuple(cases), inferer
        self.classes = tuple(self.output.background_first(list(classes), "background"))
        self.name, self.checkpoint = name, checkpoint
        self.settings = AuditSettings() if settings is None else settings
        self.value_range = require_range("value_range", value_range)
        self.surrogate, self.splits, self.measured = surrogate, splits, tuple(measured)
        self.batch_size, self.progress = batch_size, progress
        self.cost = {"forward": 0, "backward": 0}
        self._outcomes: dict[str, tuple[AttackOutcome, ...]] = {}

    @property
    def common(self) -> dict[str, Any]:
        """What every attack on the model is told of it."""
        return {"value_range": self.value_range, "output": self.output}

    @property
    def width(self) -> float:
        """Width of the intensity range."""
        return self.value_range[1] - self.value_range[0]

    @property
    def grid(self) -> str:
        """Where DSC are measured: ``"network"``, or ``"files"`` if the cases have a postprocessing of their own."""
        return "network" if any(case.postprocessing is None for case in self.cases) else "files"

    @property
    def clean(self) -> tuple[AttackOutcome, ...]:
        """The cases as they are."""
        return self.outcomes(Identity(**self.common))

    def pipeline(self, network: nn.Module | None = None) -> nn.Module:
        """Return what the inferer makes of a network, differentiable; by default of the audited one."""
        return whole_network(self.network if network is None else network, self.inferer)

    def window(self, case: AuditCase) -> tuple[Tensor, Tensor]:
        """Return volume and label of the first window that the inferer cuts from a case, or all of it."""
        height, width, depth = fall_back_tuple(getattr(self.inferer, "roi_size", -1), case.image.shape[2:])
        part = (..., slice(height), slice(width), slice(depth))
        return case.image[part], case.label[part]

    def logits(self, volume: Tensor) -> Tensor:
        """Return the logits of a volume, in eval mode, without gradient; NaN, a class to argmax, is refused."""
        whole = self.pipeline()
        with evaluating(whole), torch.no_grad(), PassCounter(self.network) as passes:
            logits: Tensor = whole(volume)
        self._count(passes)
        if isinstance(logits, Tensor):
            require_channels(logits.shape[1], self.channels, self.output)
            if not logits.isfinite().all():
                raise ValueError("network must return finite logits, got NaN or infinite ones; check its weights.")
        return logits

    def require_supported(self) -> None:
        """Refuse a network whose channels are not the classes, before any check is asked.

        Raises:
            ValueError: if it has one channel, or another number than there are classes.
        """
        volume, whole = self.window(self.cases[0])[0], self.pipeline()  # which pads what is smaller than a window
        try:
            with evaluating(whole), torch.no_grad():
                logits: Any = whole(volume.clone())
        except TypeError:  # no tensor, which is for a check to find
            return
        if isinstance(logits, Tensor):
            require_channels(logits.shape[1], self.channels, self.output)

    def outcomes(self, attack: Attack, keep: bool = False) -> tuple[AttackOutcome, ...]:
        """Return what ``attack`` does to every case, in their order; the second time without running it again.

        Args:
            attack: the attack.
            keep: keep the volumes, too, which takes memory.
        """
        described = describe(attack)
        key = json.dumps([described, keep], sort_keys=True, default=str)
        if key not in self._outcomes:
            if self.progress is not None:
                self.progress(f"{described['_target_'].rpartition('.')[2]} on {len(self.cases)} cases")
            found = self.attacked(attack, self.cases)
            self._outcomes[key] = tuple(one if keep else replace(one, adv=None) for one in found)
        return self._outcomes[key]

    def attacked(self, attack: Attack, cases: Sequence[AuditCase]) -> list[AttackOutcome]:
        """Attack cases, those of one shape together, and keep their volumes."""
        outcomes: list[AttackOutcome] = []
        for batch in self._batches(cases):
            whole, images, labels = self.pipeline(), *_stacked(batch)
            with evaluating(whole), PassCounter(self.network) as passes:
                found = attack.run(images, labels, whole)
            self._count(passes)
            outcomes += self._judged(batch, found.adv, found.details())
        return outcomes

    def judged(self, cases: Sequence[AuditCase], volumes: Sequence[Tensor]) -> list[AttackOutcome]:
        """Return what volumes ``(1, C, H, W, D)`` in the place of cases do to the model."""
        pairs = zip(cases, volumes, strict=True)
        return [one for case, adv in pairs for one in self._judged([case], adv, [{}])]

    def _batches(self, cases: Sequence[AuditCase]) -> Iterator[list[AuditCase]]:
        """Yield cases that follow each other and have one shape, ``batch_size`` at most."""
        for _, group in groupby(cases, key=lambda case: case.image.shape):
            rest = list(group)
            while rest:
                yield rest[: self.batch_size]
                rest = rest[self.batch_size :]

    def _judged(
        self, cases: Sequence[AuditCase], adv: Tensor, details: Sequence[Mapping[str, Any]]
    ) -> Iterator[AttackOutcome]:
        """Yield what attacked volumes of one batch do to the model."""
        rows = zip(cases, adv.split(1), self.logits(adv).split(1), details, strict=True)
        for case, volume, logits, told in rows:
            fits = volume.shape == case.image.shape
            change = ((volume - case.image).double() / self.width).abs() if fits else None
            yield AttackOutcome(
                case=case.name,
                dice=case.dice(logits, self.output),
                loss=dice_ce(self.output)(logits, case.label).item(),
                linf=math.inf if change is None else change.max().item(),
                rms=math.inf if change is None else change.square().mean().sqrt().item(),
                sound=fits and self._is_sound(volume, case.image),
                adv=volume,
                details=told,
            )

    def _is_sound(self, adv: Tensor, clean: Tensor) -> bool:
        """Tell whether an attacked volume is one that the network could be given."""
        (low, high), slack = self.value_range, SLACK * self.width
        return adv.dtype == clean.dtype and bool(((adv >= low - slack) & (adv <= high + slack)).all())  # NaN fails

    def _count(self, passes: PassCounter) -> None:
        """Add to the cost of the audit."""
        self.cost = {way: windows + getattr(passes, way) for way, windows in self.cost.items()}


def _require_label(case: AuditCase, channels: int, output: Output) -> None:
    """Refuse a label that is no single channel of class indices, or no regions, in the grid of its image."""
    expected = (len(case.image), channels if output.is_sigmoid else 1, *case.image.shape[2:])
    if case.label.shape != expected:
        raise ValueError(f"label of {case.name} must have shape {expected}, got {tuple(case.label.shape)}.")
    name = f"label of {case.name}"
    _ = yes_or_no(case.label, name) if output.is_sigmoid else class_indices(case.label, channels, name)


def _stacked(cases: Sequence[AuditCase]) -> tuple[Tensor, Tensor]:
    """Return images and labels of cases of one shape as a batch."""
    return torch.cat([case.image for case in cases]), torch.cat([case.label for case in cases])


def scored(outcomes: Sequence[AttackOutcome]) -> list[AttackOutcome]:
    """Return the outcomes that have a foreground DSC: those of cases whose truth is not background alone."""
    return [outcome for outcome in outcomes if not math.isnan(outcome.foreground)]


def largest_gap(stronger: Sequence[AttackOutcome], weaker: Sequence[AttackOutcome]) -> tuple[float, str]:
    """Return by how much at most the stronger attack leaves more foreground DSC, and in which case."""
    pairs = zip(scored(stronger), scored(weaker), strict=True)
    return max((strong.foreground - weak.foreground, strong.case) for strong, weak in pairs)


def mean_dice(outcomes: Sequence[AttackOutcome]) -> float:
    """Return the mean over cases of the foreground DSC, without those that have none."""
    return torch.tensor([outcome.foreground for outcome in outcomes]).nanmean().item()


class Status(StrEnum):
    """How a check ended; ``SKIP`` says that its question could not be asked, and is no pass."""

    PASS = "PASS"
    WARN = "WARN"
    FAIL = "FAIL"
    SKIP = "SKIP"


@dataclass(frozen=True, kw_only=True)
class CheckResult:
    """What a check found in one model.

    Args:
        status: how it ended.
        sentence: one sentence for a reader, with the figure that decided, and the case where it was found.
        value: that figure; ``None`` where there is none.
        limit: what the figure was held against.
        unit: unit of both, such as ``"DSC"``.
        details: more figures, as JSON.
    """

    status: Status
    sentence: str
    value: float | None = None
    limit: float | None = None
    unit: str = ""
    details: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Check:
    """One question that an audit asks of a model under attack.

    Args:
        id: number in the list of checks, such as ``"S0"``.
        name: one word for it, in lower case with underscores.
        title: the rule, in a few words.
        meaning: one sentence: what it means if the check does not pass.
        run: answers the question.
    """

    id: str
    name: str
    title: str
    meaning: str
    run: Callable[[AuditedModel], CheckResult] = field(repr=False)
