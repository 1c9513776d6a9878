"""Runs that are tracked: the figures are where the programs look for them."""

import sqlite3

import pytest


@pytest.fixture
def evaluate(copy_trained, small, run_chain):
    """Evaluate the standard model under noise with an overlay of ``configs/tracking``; return its output folder."""

    def run(overlay):
        settings = {**small, "num_cases": 2, "val_batch_size": 1, "device": "cpu"}
        chain = ["train", "evaluate", "attacks/gaussian_noise", f"tracking/{overlay}"]
        code, output = run_chain(chain, settings, copy_trained)
        assert code == 0, output[-3000:]
        return copy_trained / "eval"

    return run


def test_tensorboard_has_the_robustness_figures(evaluate):
    pytest.importorskip("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    folder = evaluate("evaluate_tensorboard") / "tensorboard" / "model" / "gaussian_noise"
    events = EventAccumulator(str(folder)).Reload()
    figures = {tag: events.Scalars(tag)[-1].value for tag in events.Tags()["scalars"]}
    assert 0 <= figures["val_mean_dice"] <= 1
    assert figures["rms_grey"] > 1
    assert "lost_organs" in figures


def test_mlflow_has_the_robustness_figures(evaluate):
    pytest.importorskip("mlflow")
    folder = evaluate("evaluate_mlflow")
    with sqlite3.connect(folder / "mlflow.db") as base:
        runs = [name for (name,) in base.execute("select name from runs")]
        figures = dict(base.execute("select key, value from metrics"))
    assert runs == ["model under gaussian_noise"]
    assert 0 <= figures["val_mean_dice"] <= 1
    assert figures["rms_grey"] > 1
