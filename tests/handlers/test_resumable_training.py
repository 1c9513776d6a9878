"""Going on with a training, in this process; kills and real bundles are in ``tests/bundles/test_training.py``."""

from __future__ import annotations

import pytest
import torch
from ignite.engine import Events
from monai.handlers import MeanDice, ValidationHandler, from_engine
from torch import nn

from vafa_monai.handlers.resumable_training import ResumableTraining
from vafa_monai.losses import dice_ce


@pytest.fixture
def train(trainer, evaluator, tmp_path):
    """Return a function that trains, with dropout and momentum, and returns trainer and network."""

    def call(folder, epochs, *, prepare=lambda engine: None, **settings):
        with torch.random.fork_rng():
            torch.manual_seed(0)
            network = nn.Sequential(nn.Conv3d(1, 4, 1), nn.Dropout3d(0.5), nn.Conv3d(4, 3, 1))
            optimizer = torch.optim.SGD(network.parameters(), lr=0.1, momentum=0.9)
            dice = {"val_mean_dice": MeanDice(output_transform=from_engine(["pred", "label"]))}
            judge = evaluator(network, [], key_val_metric=dice)
            handlers = [ValidationHandler(interval=1, validator=judge)]
            engine = trainer(network, handlers, dice_ce(), optimizer=optimizer, max_epochs=epochs)
            prepare(engine)
            places = {"model_path": tmp_path / folder / "model.pt", "resume_dir": tmp_path / folder / "resume"}
            training = ResumableTraining(**places, train_data=["a"], val_data=["b"], epochs=epochs, **settings)
            training.check()
            training.run(engine, judge, {"network": network, "optimizer": optimizer})
        return engine, network

    return call


def test_training_in_three_parts_is_one_training(train, tmp_path):
    _, unbroken = train("unbroken", 5)
    for epochs in (1, 3, 5):
        engine, network = train("parts", epochs)
    assert engine.state.epoch == 5
    torch.testing.assert_close(network.state_dict(), unbroken.state_dict(), rtol=0, atol=0)
    first, second = ((tmp_path / name / "model.pt").read_bytes() for name in ("unbroken", "parts"))
    assert first == second


@pytest.mark.parametrize(
    ("interval", "kept"), [(1, [4, 5]), (2, [4, 5]), (3, [3, 5]), (9, [5])], ids=lambda value: str(value)
)
def test_every_so_many_epochs_and_the_last_leave_a_state(interval, kept, train, tmp_path):
    train("one", 5, resume_interval=interval)
    states = (tmp_path / "one" / "resume").glob("*.pt")
    assert sorted(torch.load(path, weights_only=True)["epoch"] for path in states) == kept


def scaled_by(scale):
    """Give a trainer a scaler of gradients as mixed precision has one, which this CPU does not use."""

    def set_scaler(engine):
        engine.scaler = None if scale is None else torch.amp.GradScaler("cpu", init_scale=scale)

    return lambda engine: engine.add_event_handler(Events.STARTED, set_scaler)


@pytest.mark.parametrize(("before", "after", "scale"), [(4.0, 32.0, 4.0), (None, 32.0, 32.0), (4.0, None, None)])
def test_scale_of_gradients_goes_on_where_there_is_one(before, after, scale, train):
    train("one", 1, prepare=scaled_by(before))
    engine, _ = train("one", 2, prepare=scaled_by(after))
    assert (None if engine.scaler is None else engine.scaler.get_scale()) == scale


@pytest.mark.parametrize(
    ("own_start", "words"), [(False, "; the same command goes on after epoch 1."), (True, ".")], ids=["state", "none"]
)
def test_interruption_is_one_line(own_start, words, train, capfd):
    def interrupt(engine):
        def raise_it():
            raise KeyboardInterrupt

        engine.add_event_handler(Events.ITERATION_COMPLETED(once=3), raise_it)

    with pytest.raises(SystemExit) as end:
        train("one", 3, prepare=interrupt, own_start=own_start)
    assert end.value.code == 130
    assert capfd.readouterr().err.strip().splitlines()[-1] == f"interrupted in epoch 2 of 3{words}"


def test_fewer_epochs_than_it_has_had_are_refused(train):
    train("one", 2)
    with pytest.raises(ValueError, match="epochs must be at least the 2 that this training has had, got 1; name"):
        train("one", 1)


def test_run_comes_after_check(tmp_path):
    places = {"model_path": tmp_path / "model.pt", "resume_dir": tmp_path}
    with pytest.raises(RuntimeError, match="check must be called before run"):
        ResumableTraining(**places, train_data=["a"], val_data=["b"], epochs=1).run(None, None, {})
