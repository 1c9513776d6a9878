"""Robust models are trained once, resumed, taken as they are, and never written over; what a run is made of."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch

from vafa_monai.paper.run import ModelRecord, ModelState, PaperRuns, PaperTraining, ReproductionSettings
from vafa_monai.runs import BundleRun
from vafa_monai.runs.bundle_run import digest, run_facts
from vafa_monai.runs.run_log import RunLog
from vafa_monai.runs.work import Work

SHORT = {"epochs": 1, "windows_per_epoch": 2, "windows_per_volume": 1, "batch_size": 1, "val_interval": 1}
SHORT |= {"num_workers": 0, "attack_steps": 1, "resume_interval": 1, "warmup_iterations": 1}


# Robust models


@pytest.fixture
def provide(paper_bundle, synapse_dir, small, tmp_path):
    """Return a function that provides a robust model of Table 6 with full settings, and what was told."""

    def run(key, **overrides):
        overrides = {**small, **SHORT, **overrides}
        settings = ReproductionSettings(
            table="table6", bundle=paper_bundle, dataset_dir=synapse_dir, overrides=overrides
        )
        runs = PaperRuns(settings)
        told: list[str] = []
        with RunLog(tmp_path / "log", told.append) as log:
            training = PaperTraining(runs=runs, datalist=synapse_dir / "dataset.json", log=log)
            item = training.item(next(one for one in runs.models() if one.name == f"robust_{key}"))
            work = Work([item], log)
            origin = work.do(item)
        for sentence in work.failures.values():
            raise ValueError(sentence)
        return origin, told

    return run


@pytest.fixture
def standard(paper_bundle, synapse_dir, small):
    """Train the standard model of the bundle for a moment."""
    overrides = {"dataset_dir": str(synapse_dir), **small, **SHORT}
    del overrides["attack_steps"]  # which a plain training does not have
    BundleRun(bundle=paper_bundle, overrides=overrides).run(progress="train#trainer")
    return paper_bundle / "models" / "model.pt"


def test_robust_model_is_trained_once_and_never_written_over(provide, standard, paper_bundle):
    origin, told = provide("vafa_fr")
    model, record = (paper_bundle / "models" / f"paper_vafa_fr.{ending}" for ending in ("pt", "json"))
    assert origin.words == "trained by this command"
    assert "configs/hardening/vaft_authors.json" in told[0]
    assert any(
        not torch.equal(first, second)
        for first, second in zip(
            *(torch.load(path, weights_only=True).values() for path in (standard, model)), strict=True
        )
    )
    content, made = json.loads(record.read_text()), model.stat().st_mtime_ns
    assert content["settings"]["overrides"]["consistency_weight"] == 1

    assert provide("vafa_fr")[1][-1] == "  done before"
    record.write_text(json.dumps({**content, "finished": False}))  # killed: goes on, and finds that nothing is left
    assert "2 iterations" in provide("vafa_fr")[1][-1]
    assert json.loads(record.read_text())["sha256"] == content["sha256"]
    assert model.stat().st_mtime_ns == made

    sentence = r"model must be one with the settings of this call, or be moved away, got '.*', recorded with other over"
    with pytest.raises(ValueError, match=sentence):
        provide("vafa_fr", learning_rate=0.5)
    record.unlink()
    origin, told = provide("vafa_fr", learning_rate=0.5)
    assert (origin.words, origin.seconds) == ("found, with no record of its training", None)
    assert model.stat().st_mtime_ns == made


def test_robust_model_of_another_attack_is_trained_on_it(provide, standard, paper_bundle):
    _, told = provide("gn")
    assert "configs/hardening/vaft_authors.json','configs/attacks/gaussian_noise.json" in told[0]
    assert "--clean_weight 0 --adversarial_weight 1 --consistency_weight 0" in told[0]
    log = paper_bundle / "models" / "paper_gn.json"
    assert json.loads(log.read_text())["settings"]["configs"].keys() == {
        "configs/train.json",
        "configs/harden.json",
        "configs/hardening/vaft_authors.json",
        "configs/attacks/gaussian_noise.json",
    }


def test_robust_model_without_a_standard_one_is_refused(provide):
    with pytest.raises(ValueError, match=r"pretrained_file must be a file, got '.*model\.pt', not trained"):
        provide("pgd")


# Records


@pytest.fixture
def record(tmp_path):
    return ModelRecord(file=tmp_path / "model_pgd.pt", settings={"seed": 0, "overrides": {"eps": 1}})


def test_record_tells_what_is_to_be_done(record):
    assert record.state() == ModelState.OPEN
    record.begin()
    record.file.write_bytes(b"half")  # saved by a validation before the end
    assert record.state() == ModelState.OPEN
    record.finish(3.0)
    assert record.state() == ModelState.READY
    assert record.read()["seconds"] == 3.0
    record.file.write_bytes(b"another")
    assert record.state() == ModelState.FOREIGN
    record.path.unlink()
    assert record.state() == ModelState.FOREIGN
    record.file.unlink()
    assert record.state() == ModelState.OPEN


def test_record_of_other_settings_names_them(record):
    record.file.write_bytes(b"model")
    record.finish(1.0)
    other = ModelRecord(file=record.file, settings={"seed": 1, "overrides": {"eps": 1}, "datalist": "x"})
    assert other.state() == ModelState.OTHER
    assert other.differing() == ["datalist", "seed"]


def test_training_that_left_no_model_has_not_finished(record):
    record.begin()
    with pytest.raises(FileNotFoundError):
        record.finish(1.0)
    assert record.read()["finished"] is False


# What a run is made of


def test_facts_of_a_run_do_not_change_with_its_place_but_with_all_else(paper_bundle, synapse_dir, tmp_path):
    def facts(bundle=paper_bundle, datalist=synapse_dir / "dataset.json", overlays=("evaluate",), **overrides):
        return digest(run_facts(BundleRun(bundle=bundle, overlays=overlays, overrides=overrides), datalist))

    moved = Path(shutil.copytree(paper_bundle, tmp_path / "moved"))
    config = moved / "configs" / "evaluate.json"
    config.write_text(json.dumps(json.loads(config.read_text())))  # another layout, the same content
    assert facts() == facts(bundle=moved) == facts(dataset_dir="elsewhere", num_workers=9, device="meta")
    config.write_text(config.read_text().replace("bilinear", "nearest"))
    datalist = tmp_path / "dataset.json"
    datalist.write_text("{}")
    variants = [
        facts(bundle=moved),
        facts(datalist=datalist),
        facts(overlays=("evaluate", "tiles")),
        facts(overlap=0.1),
    ]
    assert len({facts(), *variants}) == 5
