"""What the channels of a network mean, and with them those of labels: one class a voxel, or one yes or no a channel."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeVar

import torch
from monai.utils import StrEnum, look_up_option
from torch import Tensor, nn

__all__ = [
    "SEVERAL",
    "Output",
    "OutputKind",
    "class_indices",
    "refuse_unfit_loss",
    "require_channels",
    "require_loss_for",
    "yes_or_no",
]

T = TypeVar("T")
AUTO = "auto"
SEVERAL = 'one channel, or several classes a voxel, are output="sigmoid"'


class OutputKind(StrEnum):
    """How logits say what a voxel is."""

    SOFTMAX = "softmax"
    SIGMOID = "sigmoid"


@dataclass(frozen=True)
class Output:
    """What the channels of a network and of labels mean; every attack, loss and metric takes one, or its kind alone.

    ``"softmax"``: every voxel has one class, the one of the largest logit; labels are class indices in one channel.
    ``"sigmoid"``: every channel says yes or no of one region, yes where its logit is above 0; labels have the channels
    of the logits, each 0 or 1, and regions may overlap. A network of one channel is of this kind. Each channel is a
    segmentation into two classes by itself: wherever a formula takes the softmax of the logits of all classes, it takes
    that of ``(0, logit)`` here, which is ``(1 - sigmoid, sigmoid)``, and where it takes a mean over voxels, it takes
    one over voxels and channels.

    Args:
        kind: ``"softmax"`` or ``"sigmoid"``.
        background: the class that is left out of means over organs, ``None`` if there is none; ``"auto"`` is class 0 of
            a softmax, and none of a sigmoid.
        ignore: label of the voxels that count nowhere, neither in a loss nor in a DSC, whether the network has a
            channel for it or not; for a softmax alone.

    Raises:
        ValueError: if ``kind`` is unknown, ``background`` is no class, or ``ignore`` is given for a sigmoid.

    Example:
        >>> Output("sigmoid").background, Output("softmax").background, Output("softmax", background=None).background
        (None, 0, None)
    """

    kind: OutputKind | str = OutputKind.SOFTMAX
    background: int | str | None = AUTO
    ignore: int | None = None

    def __post_init__(self) -> None:
        """Refuse impossible settings."""
        object.__setattr__(self, "kind", look_up_option(self.kind, OutputKind))
        if self.background == AUTO:
            object.__setattr__(self, "background", None if self.is_sigmoid else 0)
        whole = type(self.background) is int and self.background >= 0
        if self.background is not None and not whole:
            raise ValueError(f'background must be a class from 0 on, None or "auto", got {self.background!r}.')
        if self.ignore is not None and (self.is_sigmoid or type(self.ignore) is not int):
            rule = "be None for a sigmoid" if self.is_sigmoid else "be a label or None"
            raise ValueError(f"ignore must {rule}, got {self.ignore!r}.")

    @classmethod
    def of(cls, value: Output | str) -> Output:
        """Return an output, given as one or by its kind."""
        return value if isinstance(value, Output) else cls(value)

    @property
    def is_sigmoid(self) -> bool:
        """Whether each channel is a yes or no by itself."""
        return self.kind == OutputKind.SIGMOID

    def scores(self, logits: Tensor) -> Tensor:
        """Return logits whose softmax over axis 1 is meant: ``(B, classes, ...)``, or ``(B, 2, channels, ...)``."""
        return torch.stack([torch.zeros_like(logits), logits], 1) if self.is_sigmoid else logits

    def indices(self, logits: Tensor, target: Tensor, name: str = "target") -> Tensor:
        """Return which of the :meth:`scores` is the true one, ``(B, ...)`` or ``(B, channels, ...)``, as int64.

        A voxel that is ignored has 0 here, and -1 in :meth:`groups`.

        Args:
            logits: of shape ``(B, channels, H, W, D)``.
            target: labels.
            name: what they are called in the sentence.

        Raises:
            ValueError: if there is one channel under a softmax, or labels do not fit the logits or hold anything else
                than class indices, or 0 and 1 under a sigmoid.
        """
        require_channels(logits.shape[1], output=self)
        self.require_shape(logits, target, name)
        if self.is_sigmoid:
            return yes_or_no(target, name)
        return class_indices(self.without_ignored(target[:, 0]), logits.shape[1], name)

    def require_shape(self, logits: Tensor, target: Tensor, name: str = "target") -> None:
        """Refuse labels that have not the shape of the logits, or that shape with one channel under a softmax."""
        channels = logits.shape[1] if self.is_sigmoid else 1
        if target.shape == (len(logits), channels, *logits.shape[2:]):
            return
        shapes = f"{tuple(target.shape)} for input of shape {tuple(logits.shape)}"
        if self.is_sigmoid:
            raise ValueError(f"{name} must have the shape of input, 0 or 1 in each channel of a sigmoid, got {shapes}.")
        remedy = f"; labels of {SEVERAL}" if target.ndim == logits.ndim and target.shape[1] != 1 else ""
        raise ValueError(f"{name} must have the shape of input with one channel, got {shapes}{remedy}.")

    def without_ignored(self, labels: Tensor) -> Tensor:
        """Return labels with class 0 where they are to be ignored."""
        return labels if self.ignore is None else torch.where(labels == self.ignore, 0, labels)

    def groups(self, target: Tensor) -> Tensor:
        """Return which voxels of which class are averaged together, ``(B, voxels)``; -1 is to be ignored.

        They are those of each class, or under a sigmoid those of each answer of each channel.
        """
        if self.is_sigmoid:
            channels = torch.arange(target.shape[1], device=target.device).view(1, -1, *[1] * (target.ndim - 2))
            return (target.long() + 2 * channels).flatten(1)
        labels = target.flatten(1).long()
        return labels if self.ignore is None else torch.where(labels == self.ignore, -1, labels)

    def predict(self, logits: Tensor) -> Tensor:
        """Return predicted labels: class indices ``(B, 1, H, W, D)``, or 0 and 1 ``(B, channels, H, W, D)``."""
        return (logits > 0).long() if self.is_sigmoid else logits.argmax(1, keepdim=True)

    def masks(self, labels: Tensor, channels: int) -> Tensor:
        """Return labels as one mask a class, bool of shape ``(B, channels, H, W, D)``."""
        if self.is_sigmoid:
            return labels > 0
        return labels == torch.arange(channels, device=labels.device).view(1, -1, *[1] * (labels.ndim - 2))

    def foreground(self, values: Tensor) -> Tensor:
        """Return values ``(..., classes)`` without the one of the background."""
        if self.background is None:
            return values
        kept = [index for index in range(values.shape[-1]) if index != self.background]
        return values[..., kept]

    def background_first(self, values: Sequence[T], absent: T) -> list[T]:
        """Return one value a class in the order of documents: first that of the background, or ``absent``.

        Example:
            >>> [one.background_first("abc", "-") for one in (Output(background=2), Output("sigmoid"))]
            [['c', 'a', 'b'], ['-', 'a', 'b', 'c']]
        """
        if not isinstance(self.background, int):
            return [absent, *values]
        return [values[self.background], *(one for index, one in enumerate(values) if index != self.background)]

    def counted(self, logits: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
        """Return logits and labels of one sample without the voxels that are ignored, ``(1, channels, voxels)`` then.

        Any loss over the voxels of a sample leaves them out in this way.

        Raises:
            ValueError: if no voxel is left.
        """
        if self.ignore is None:
            return logits, target
        kept = target[0, 0] != self.ignore
        if not kept.any():
            raise ValueError(f"target must have voxels that count, got the ignored label {self.ignore} alone.")
        return logits[:, :, kept], target[:, :, kept]


def class_indices(target: Tensor, classes: int | None = None, name: str = "target") -> Tensor:
    """Return labels as int64; refuse what is no class index, which a cast would cut to another class.

    Nothing is rounded: 1.999999 of a scaled or resampled file may be class 2, and it may be the edge of something.

    Args:
        target: labels of any shape and real dtype.
        classes: how many classes there are; ``None`` knows no highest one.
        name: what the labels are called in the sentence.

    Raises:
        ValueError: if a label is no whole number, NaN and infinity included, is negative, or has no class.

    Example:
        >>> class_indices(torch.tensor([0.0, 2.0]), classes=3)
        tensor([0, 2])
    """
    labels = target.long()
    if target.is_floating_point() and not torch.equal(back := labels.to(target.dtype), target):
        wrong = target[back != target][0].item()
        raise ValueError(f"{name} must hold whole numbers as class indices, got {wrong:.9g}; round labels beforehand.")
    if not labels.numel():
        return labels
    low, high = (int(bound) for bound in labels.aminmax())
    if low < 0 or (classes is not None and high >= classes):
        rule = "on" if classes is None else f"to {classes - 1}"
        raise ValueError(f"{name} must hold class indices from 0 {rule}, got {low if low < 0 else high}.")
    return labels


def yes_or_no(target: Tensor, name: str = "target") -> Tensor:
    """Return labels of channels that are 0 or 1 as int64; refuse anything else.

    Example:
        >>> yes_or_no(torch.tensor([0.0, 1.0]))
        tensor([0, 1])
    """
    values = target if target.is_floating_point() else target.long()
    wrong = (values != 0) & (values != 1)  # NaN is both
    if wrong.any():
        raise ValueError(f"{name} must hold 0 or 1 in each channel of a sigmoid, got {values[wrong][0].item():.9g}.")
    return values.long()


def require_channels(channels: int, classes: int | None = None, output: Output | str = "softmax") -> None:
    """Refuse a network whose channels are not the classes, or that has a single one to choose a class from.

    Args:
        channels: channels of its output.
        classes: how many classes there are; ``None`` is any number that the output may have.
        output: what the channels mean.

    Raises:
        ValueError: if there is one channel under a softmax, none at all, or another number than ``classes``.
    """
    sigmoid = Output.of(output).is_sigmoid
    if channels < (1 if sigmoid else 2) or classes not in (None, channels):
        each = "each class" if classes is None else f"each of {classes} classes"
        rest = f"got {channels}" if sigmoid else f"background first, got {channels}; {SEVERAL}"
        raise ValueError(f"network must return one channel for {each}, {rest}.")


def require_loss_for(loss_function: Callable[..., Tensor], output: Output) -> bool:
    """Refuse a loss of ours that is made for the other kind of output; tell whether it is one that says its kind."""
    own = getattr(loss_function, "output", None)
    if isinstance(own, Output) and own.kind != output.kind:
        found = f"{type(loss_function).__name__} for {str(own.kind)!r}"
        raise ValueError(f"loss_function must be made for output {str(output.kind)!r}, got a {found}.")
    return isinstance(own, Output)


def refuse_unfit_loss(loss_function: Callable[..., Tensor], channels: int, output: Output | str = "softmax") -> None:
    """Refuse a loss that takes the channels for something else than they are; no number would tell.

    The softmax of one channel is 1 whatever the network says, and that of channels which overlap is of no event.

    Args:
        loss_function: any loss; ours, and those of MONAI and torch that take a softmax, are known.
        channels: channels of the logits that it is to be given.
        output: what they mean.

    Raises:
        ValueError: if the loss takes a softmax of one channel or under a sigmoid, or is made for another output.
    """
    output, kind = Output.of(output), type(loss_function).__name__
    if require_loss_for(loss_function, output):
        return
    parts = list(loss_function.modules()) if isinstance(loss_function, nn.Module) else []
    softmax = any(vars(part).get("softmax") is True or vars(part).get("use_softmax") is True for part in parts)
    entropy = parts[:1] if channels == 1 else parts  # DiceCELoss takes the binary one for one channel
    if softmax or any(isinstance(part, nn.CrossEntropyLoss) for part in entropy):
        if channels == 1:
            remedy = 'say output="sigmoid", and take its default or another loss with sigmoid=True'
            raise ValueError(f"loss_function must not take the softmax of 1 channel, got {kind}; {remedy}.")
        if output.is_sigmoid:
            remedy = "take vafa_monai.losses.DiceBCELoss, or another with sigmoid=True"
            raise ValueError(f'loss_function must not take a softmax under output="sigmoid", got {kind}; {remedy}.')
    if output.is_sigmoid and channels > 1 and any(vars(part).get("to_onehot_y") is True for part in parts):
        raise ValueError(f'loss_function must not have to_onehot_y under output="sigmoid", got {kind}.')
