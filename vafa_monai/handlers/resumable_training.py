"""MONAI's trainer, run so that what it leaves is whole, finite, and of these settings only."""

from __future__ import annotations

import logging
import math
import signal
import sys
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from filelock import FileLock, Timeout
from ignite.engine import Events
from ignite.handlers import Checkpoint
from torch import nn

from vafa_monai.attacks.cpu import keep_freed_memory
from vafa_monai.data.checkpoint import read_checkpoint
from vafa_monai.data.files import sha256, whole_file
from vafa_monai.handlers.random_state import random_states, set_random_states
from vafa_monai.handlers.training_record import ANEW, TrainingRecord, running_config, training_facts

__all__ = ["ResumableTraining"]

logger = logging.getLogger(__name__)
INTERRUPTED = 128 + signal.SIGINT  # the exit code of a program that Ctrl-C ended


@dataclass(kw_only=True)
class ResumableTraining:
    """Train once, or go on with the same training, and keep the best model whole.

    What is kept is the network of the validation, which may be an average of the trained one's weights. After every
    ``resume_interval`` epochs all that the next one depends on is written to ``resume_dir``: weights,
    optimizer, schedule, random states, the best score so far. The same training (cases, configs, seed, weights to start
    from) goes on from there, to the same weights that an unbroken one reaches; any other is refused. A loss or weights
    that are not finite end the training before they are saved. ``model_path`` is replaced whole: it is the old model or
    the new one at any moment.

    Args:
        model_path: file of the model that is best by the validation's key metric: a state dict.
        resume_dir: folder to go on from.
        train_data: training cases.
        val_data: validation cases.
        epochs: how many epochs the training is to have in all.
        val_interval: epochs from one validation to the next.
        start_file: weights that the training starts from, if they are not random.
        resume: ``False`` starts anew, whatever ``resume_dir`` holds.
        resume_interval: epochs from one state to the next.
        patience: end the training after so many validations without a better score; ``None`` never does. Robust models
            overfit: attacked cases get worse while the loss still falls (Rice et al., ICML 2020,
            https://arxiv.org/abs/2002.11569).
        statement: what is to be told of the training beside its config, as JSON, such as the attack of its validation.
        own_start: another handler brings the weights to start from: every call is a training of its own, which neither
            reads nor writes ``resume_dir``.
        config: the config that the training is made of; by default the one that this object is being built from.
        exit_on_error: end the process with the sentence and exit code 1, as configs do, instead of raising.
    """

    model_path: Path
    resume_dir: Path
    train_data: Sequence[Any]
    val_data: Sequence[Any]
    epochs: int
    val_interval: int = 1
    start_file: str | Path | None = None
    resume: bool = True
    resume_interval: int = 1
    patience: int | None = None
    statement: Mapping[str, Any] | None = None
    own_start: bool = False
    config: Mapping[str, Any] = field(default_factory=running_config)
    exit_on_error: bool = False

    def __post_init__(self) -> None:
        """Nothing is locked or read yet."""
        self.model_path, self.resume_dir = Path(self.model_path), Path(self.resume_dir)
        self.record: TrainingRecord | None = None
        self.state: dict[str, Any] | None = None
        self._checked = False
        self._lock = FileLock(self.model_path.with_name(f".{self.model_path.name}.lock"))

    def check(self) -> None:
        """Lock the model and find what there is to go on from, once, before anything is loaded.

        Raises:
            ValueError: if the training cannot leave a model, another one is running, or other settings left the files.
        """
        if self._checked:
            return
        self._checked = True
        with self._one_sentence():
            path = _on_first_process(self._prepare)
            if path is not None and self.state is None:  # the other processes
                self.state = read_checkpoint(path)

    def run(self, trainer: Any, evaluator: Any, objects: Mapping[str, Any]) -> None:
        """Train to the end.

        Args:
            trainer: MONAI's trainer, with its validation among its handlers.
            evaluator: the engine of that validation.
            objects: what a state holds: ``network``, ``optimizer`` and whatever else has a ``state_dict``.

        Raises:
            RuntimeError: if :meth:`check` was not called before.
            ValueError: if a loss or weights are not finite, or there is no model at the end.
        """
        if not self._checked:
            raise RuntimeError("check must be called before run.")
        keep_freed_memory()
        try:
            with self._one_sentence(), _interruptible(trainer, self._hint):
                _Watch(self, trainer, evaluator, objects).run()
        finally:
            self._lock.release()

    def _prepare(self) -> str | None:
        """Do what one process does for all; return the file of the state to go on from."""
        self._require_possible()
        self.model_path.parent.mkdir(parents=True, exist_ok=True)
        try:
            self._lock.acquire(timeout=0)
        except Timeout:
            rule = "be trained by one process at a time"
            raise ValueError(f"model must {rule}, got {str(self.model_path)!r}, which another is training.") from None
        for left in self.model_path.parent.glob(f".*.{self.model_path.name}"):  # half files of killed processes
            left.unlink()
        if self.own_start:
            return None
        facts = training_facts(self.config, self.train_data, self.val_data, self.start_file, _world_size())
        self.record = TrainingRecord(folder=self.resume_dir, model=self.model_path, facts=facts)
        if not _is_true("resume", self.resume):
            self.record.begin()
            return None
        self.state = self.record.find()
        if self.state is None:
            return None
        if (had := self.state["epoch"]) > self.epochs:
            rule = f"be at least the {had} that this training has had"
            raise ValueError(f"epochs must {rule}, got {self.epochs}; {ANEW}.")
        return str(self.record.state_path(had))

    def _require_possible(self) -> None:
        """Refuse at the start what would leave no model at the end."""
        names = ["epochs", "val_interval", "resume_interval", *([] if self.patience is None else ["patience"])]
        for name in names:
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int) or value < 1:
                raise ValueError(f"{name} must be a whole number from 1 on, got {value!r}.")
        for name in ("train_data", "val_data"):
            if len(getattr(self, name)) == 0:
                raise ValueError(f"{name} must hold at least one case, got an empty list.")
        if self.val_interval > self.epochs:
            rule = f"be at most the {self.epochs} epochs, so that one of them is validated"
            raise ValueError(f"val_interval must {rule}, got {self.val_interval}.")

    def _hint(self, epoch: int) -> str:
        """Say what an interrupted training goes on from."""
        saved = 0 if self.state is None else self.state["epoch"]
        words = "" if self.own_start else f"; the same command goes on after epoch {saved}"
        return f"interrupted in epoch {epoch} of {self.epochs}{words}."

    @contextmanager
    def _one_sentence(self) -> Iterator[None]:
        """Let an error end the process with its sentence, if it is to."""
        try:
            yield
        except ValueError as error:
            self._lock.release()
            if self.exit_on_error:
                raise SystemExit(str(error)) from None
            raise


class _Watch:
    """The handlers of one run."""

    def __init__(self, training: ResumableTraining, trainer: Any, evaluator: Any, objects: Mapping[str, Any]) -> None:
        self.training, self.record = training, training.record
        self.trainer, self.evaluator = trainer, evaluator
        self.objects, self.network = dict(objects), objects["network"]
        if _bare(evaluator.network) is not _bare(self.network):  # such as an average of its weights
            self.objects["validated"] = evaluator.network
        self.best: dict[str, Any] | None = None if training.state is None else training.state["best"]
        self.history: list[dict[str, Any]] = [] if training.state is None else list(training.state.get("history", []))
        self.stopped = training.state is not None and bool(training.state.get("stopped"))
        self.fault: str | None = None

    def run(self) -> None:
        """Train, unless that was done."""
        training, found, state = self.training, self.training.state, self.trainer.state
        state.done_before = found is not None and (found["epoch"] == training.epochs or self.stopped)
        if found is not None and state.done_before:
            state.epoch, state.iteration = found["epoch"], found["trainer"]["iteration"]
            logger.info("done already: %s", self._told())
        else:
            self._attach()
            self.trainer.run()
        if self.fault is not None:
            raise ValueError(self.fault)
        if self.best is None or not training.model_path.is_file():
            got = f"none in {state.epoch} epochs, so {str(training.model_path)!r} is not its model"
            raise ValueError(f"training must have a finite score in one validation at least, got {got}.")
        self._publish()
        if not state.done_before:
            logger.info("done: %s", self._told())

    def _told(self) -> str:
        """Say what the training has led to."""
        best = self.best or {"score": math.nan, "epoch": 0}
        score = f"{self.evaluator.state.key_metric_name} {best['score']:.4f} in epoch {best['epoch']}"
        return f"{self.training.model_path}, {score}, after {self.trainer.state.epoch} of {self.training.epochs} epochs"

    def _attach(self) -> None:
        """Come behind all other handlers, so that a state is the last that happens in an epoch."""
        self.evaluator.add_event_handler(Events.EPOCH_COMPLETED, self._judge)
        self.trainer.add_event_handler(Events.ITERATION_COMPLETED, self._require_finite_loss)
        if not self.training.own_start:
            self.trainer.add_event_handler(Events.STARTED, self._restore)
            self.trainer.add_event_handler(Events.EPOCH_COMPLETED, self._save_state)

    def _restore(self) -> None:
        """Bring everything to where the last state was written."""
        state = self.training.state
        if state is None:
            return
        Checkpoint.load_objects(to_load=self.objects, checkpoint=state)
        self.trainer.load_state_dict({**state["trainer"], "max_epochs": self.trainer.state.max_epochs})
        if self.trainer.scaler is not None and state["scaler"]:
            self.trainer.scaler.load_state_dict(state["scaler"])
        if self.best is not None:  # MONAI's own, for its log
            self.evaluator.state.best_metric = self.best["score"]
            self.evaluator.state.best_metric_epoch = self.best["epoch"]
        if _rank() < len(state["random"]):
            set_random_states(state["random"][_rank()], self.trainer)
        logger.info("goes on after epoch %d with %s", state["epoch"], self.training.model_path)

    def _require_finite_loss(self) -> None:
        """End the training at the first loss that is no number."""
        output = self.trainer.state.output
        loss = torch.as_tensor((output[0] if isinstance(output, list) else output)["loss"])
        if not torch.isfinite(loss).all():
            place = f"iteration {self.trainer.state.iteration} (epoch {self.trainer.state.epoch})"
            self._stop(f"loss must be finite, got {loss.mean().item():g} in {place}; a lower learning rate may help.")

    def _stop(self, fault: str) -> None:
        """End the training before the fault is saved."""
        self.fault = fault
        self.trainer.terminate()

    def _is_sound(self) -> bool:
        """Tell whether the weights are finite; if not, the training ends."""
        networks = (self.network, self.evaluator.network)
        for name, value in [item for one in networks for item in one.state_dict().items()]:
            if value.is_floating_point() and not torch.isfinite(value).all():
                place = f"in {name!r} after epoch {self.trainer.state.epoch}"
                self._stop(f"weights must be finite, got NaN or infinity {place}; a lower learning rate may help.")
                return False
        return True

    def _judge(self) -> None:
        """Note what a validation has found, keep the model if it is the best, and end where none is any more."""
        metrics = {name: float(value) for name, value in self.evaluator.state.metrics.items()}
        finite = {name: value if math.isfinite(value) else None for name, value in metrics.items()}
        self.history.append({"epoch": self.trainer.state.epoch, **finite})
        self._keep_best()
        best = 0 if self.best is None else self.best["epoch"]
        since = sum(1 for one in self.history if one["epoch"] > best)
        if self.training.patience is not None and since >= self.training.patience and self.fault is None:
            self.stopped = True
            logger.info("no better score in %d validations: the training ends", since)
            self.trainer.terminate()

    def _publish(self) -> None:
        """Write beside the model what made and selected it."""
        if _rank() == 0 and self.record is not None:
            selection = {
                "metric": self.evaluator.state.key_metric_name,
                "best": self.best,
                "validations": self.history,
                "epochs": self.trainer.state.epoch,
                "stopped_early": self.stopped,
            }
            self.record.publish(selection, self.training.statement)

    def _keep_best(self) -> None:
        """Write the model if its score is the best so far; what is no number is never the best."""
        name = self.evaluator.state.key_metric_name
        score = float(self.evaluator.state.metrics[name])
        if not math.isfinite(score):
            logger.warning("%s is %s in epoch %d: not kept", name, score, self.trainer.state.epoch)
            return
        if (self.best is not None and score <= self.best["score"]) or not self._is_sound():
            return
        self.best = {"score": score, "epoch": self.trainer.state.epoch, "sha256": None}
        if _rank() == 0:
            with whole_file(self.training.model_path) as beside:
                _save(_bare(self.evaluator.network).state_dict(), beside)
                self.best["sha256"] = sha256(beside)
                if self.record is not None:
                    self.record.expect(self.best["sha256"])

    def _save_state(self) -> None:
        """Write all that the next epoch depends on; the state before stays for the case that this one is damaged."""
        epoch = self.trainer.state.epoch
        due = epoch % self.training.resume_interval == 0 or epoch == self.training.epochs or self.stopped
        if self.fault is not None or not due:
            return
        if not self._is_sound():
            return
        states = _of_all_processes(random_states(self.trainer))
        if self.record is not None:
            scaler = self.trainer.scaler
            state = {
                **{name: _bare(one).state_dict() for name, one in self.objects.items()},
                "trainer": dict(self.trainer.state_dict()),
                "scaler": {} if scaler is None else scaler.state_dict(),
                "best": self.best,
                "history": self.history,
                "stopped": self.stopped,
                "random": states,
                "epoch": epoch,
                "run": self.record.run,
            }
            with whole_file(self.record.state_path(epoch)) as beside:
                _save(state, beside)
            before = self.training.state
            self.record.keep([self.record.state_path(one) for one in (epoch, before["epoch"] if before else epoch)])
        self.training.state = {"epoch": epoch}


@contextmanager
def _interruptible(trainer: Any, hint: Callable[[int], str]) -> Iterator[None]:
    """Let Ctrl-C end the process with one line instead of the tracebacks that engines log of it."""

    def stop(*_: Any) -> None:
        logging.disable(logging.CRITICAL)
        raise KeyboardInterrupt

    main = threading.current_thread() is threading.main_thread()
    before, level = signal.getsignal(signal.SIGINT), logging.root.manager.disable
    if main:
        signal.signal(signal.SIGINT, stop)
    try:
        yield
    except KeyboardInterrupt:
        if sys.__stderr__ is not None:
            sys.__stderr__.write(f"\n{hint(trainer.state.epoch)}\n")
        raise SystemExit(INTERRUPTED) from None
    finally:
        logging.disable(level)
        if main:
            signal.signal(signal.SIGINT, before)


def _is_true(name: str, value: Any) -> bool:
    """Read a flag that a command line may have left as a word."""
    words = {"true": True, "false": False}
    if str(value).lower() not in words:
        raise ValueError(f"{name} must be True or False, got {value!r}.")
    return words[str(value).lower()]


def _bare(module: Any) -> Any:
    """Return a network without the wrapper of several processes."""
    wrapped = isinstance(module, (nn.DataParallel, nn.parallel.DistributedDataParallel))
    return module.module if wrapped else module


def _save(content: Any, path: Path) -> None:
    """Write a checkpoint whose bytes do not tell the name of its file, which torch puts into it otherwise."""
    with path.open("wb") as file:
        torch.save(content, file)


def _world_size() -> int:
    return dist.get_world_size() if dist.is_available() and dist.is_initialized() else 1


def _rank() -> int:
    return dist.get_rank() if _world_size() > 1 else 0


def _on_first_process(action: Callable[[], Any]) -> Any:
    """Let one process act and give all of them what it returned, or its error."""
    found: list[Any] = [None, None]
    if _rank() == 0:
        try:
            found[0] = action()
        except ValueError as error:
            found[1] = str(error)
    if _world_size() > 1:
        dist.broadcast_object_list(found)
    if found[1] is not None:
        raise ValueError(found[1])
    return found[0]


def _of_all_processes(own: Any) -> list[Any]:
    """Return what every process has."""
    found = [own] * _world_size()
    if len(found) > 1:
        dist.all_gather_object(found, own)
    return found
