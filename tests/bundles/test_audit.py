"""The audit of a bundle's checkpoints, as a user types it."""

import json
import shutil
import sys
from ast import literal_eval
from contextlib import nullcontext
from pathlib import Path

import pytest

from vafa_monai.audit import CHECKS
from vafa_monai.cli import main
from vafa_monai.data import sha256
from vafa_monai.reports import build_report
from vafa_monai.runs import BundleAudit, BundleModel
from vafa_monai.runs.audit import audit_settings

FEW = {"steps": 2, "queries": 2, "restarts": 2, "eps_curve": (0, 4 / 255, 1), "steps_curve": (1, 2)}
FEW |= {"stated_dice": 1.0}


BOTH = ("models/model.pt", "models/model_vaft.pt")


@pytest.fixture(scope="module")
def overrides(small):
    """The small network, as the command line gives it to a function; one case."""
    values = {name: small[name] for name in small if name.startswith(("network_def", "roi_size"))}
    return {name: literal_eval(str(value)) for name, value in values.items()} | {"num_cases": 1, "device": "cpu"}


@pytest.fixture(scope="module")
def audited(trained, window_dir, overrides, tmp_path_factory):
    """Both models of a bundle, audited; what was told meanwhile."""
    folder, lines = tmp_path_factory.mktemp("audited") / trained.name, []
    shutil.copytree(trained, folder)
    about = {"dataset_dir": window_dir, "settings": FEW, "overrides": overrides}
    BundleAudit(bundle=folder, checkpoints=BOTH, say=lines.append, **about).run()
    return folder, lines


@pytest.fixture
def audit(copy_trained, dataset_dir, overrides):
    def build(**changes):
        about = {"bundle": copy_trained, "dataset_dir": dataset_dir, "settings": FEW, "overrides": overrides}
        return BundleAudit(**about | changes)

    return build


def test_every_model_has_a_document_where_the_report_looks(audited):
    folder, lines = audited
    for model in ("model", "model_vaft"):
        document = json.loads((folder / "eval" / "results" / model / "audit.json").read_text())
        assert document["checkpoint"]["path"].endswith(f"models/{model}.pt")
        assert document["verdict"] == "FAIL"  # hardly trained: far from the DSC that is stated
        assert [check["id"] for check in document["checks"]] == [check.id for check in CHECKS]
        assert len(document["curves"]) == 3
    assert len([line for line in lines if line.startswith("  ")]) == 2 * len(CHECKS)
    assert sum("transfer from" in line for line in lines) == 2


def test_command_does_not_repeat_it_and_ends_by_the_verdict(audited, window_dir, overrides, monkeypatch, capsys):
    folder, _ = audited
    before = {path: path.read_bytes() for path in folder.rglob("audit.json")}
    settings = [f"--{name}={value}" for name, value in {**FEW, **overrides}.items()]
    words = [
        "audit",
        "--bundle",
        str(folder),
        "--dataset_dir",
        str(window_dir),
        "--checkpoint",
        ",".join(BOTH),
        *settings,
    ]
    monkeypatch.setattr(sys, "argv", ["vafa-monai", *words])
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == 3
    told = capsys.readouterr().out
    assert told.count("audited already") == 2
    assert told.endswith("verdict: FAIL\n")
    assert {path: path.read_bytes() for path in folder.rglob("audit.json")} == before


def test_report_shows_the_audit_of_its_results(audited, small, window_dir, run_chain, tmp_path):
    folder = shutil.copytree(audited[0], tmp_path / audited[0].name)
    code, output = run_chain(["train", "evaluate"], {**small, "num_cases": 1, "dataset_dir": str(window_dir)}, folder)
    assert code == 0, output[-3000:]
    page = build_report(folder / "eval" / "results", folder / "eval", title="Audited")["html"].read_text()
    assert "Without a bound nothing is left" in page
    assert "Do not use the numbers under attack" in page


@pytest.mark.parametrize(
    "changes",
    [{"overrides": {"num_cases": 2}}, {"checkpoints": BOTH[:1]}, {"settings": {"steps": 3}}],
    ids=["other cases", "no second model", "other steps"],
)
def test_audit_made_of_something_else_is_not_taken_for_it(changes, audited, window_dir, overrides, monkeypatch):
    """The second checkpoint is what perturbations are transferred from."""

    def begin(*_, **__):
        raise InterruptedError

    monkeypatch.setattr("vafa_monai.runs.audit.run_audit", begin)
    about = {"bundle": audited[0], "dataset_dir": window_dir, "checkpoints": BOTH, "settings": FEW}
    about["overrides"] = overrides
    BundleAudit(**about).run()  # as it was: nothing begins
    merged = {name: {**about[name], **value} if isinstance(value, dict) else value for name, value in changes.items()}
    with pytest.raises(InterruptedError):
        BundleAudit(**about | merged).run()


@pytest.mark.parametrize(("of", "again"), [("model.pt", True), ("model_vaft.pt", False)])
def test_result_that_came_later_belongs_to_the_audit_of_its_weights(
    of, again, audited, window_dir, overrides, monkeypatch, tmp_path
):
    folder = shutil.copytree(audited[0], tmp_path / audited[0].name)
    case = {"case": "case_03", "dice": [1, 0.5, 0.5], "hd95_mm": [None] * 3, "nsd": [None] * 3}
    counts = dict.fromkeys(("ssim", "psnr_db", "rms_grey", "linf_grey", "lpips")) | {"lost": 0, "invented": 0}
    document = {
        "schema": "vafa_monai.result/1",
        "model": "model",
        "checkpoint": {"path": of, "sha256": sha256(folder / "models" / of)},
        "attack": {"name": "pgd", "role": "attack", "settings": {"_target_": "x.PGD", "eps": 4 / 255}},
        "classes": ["background", "gray matter", "white matter"],
        "seed": 0,
        "versions": {},
        "device": "cpu",
        "seconds": 1,
        "cases": [case | counts],
        "summary": {"dice": 0.5, "dice_with_background": 0.6, "hd95_mm": None, "nsd": None, **counts},
        "notes": [],
        "slices": None,
    }
    (folder / "eval" / "results" / "model" / "pgd.json").write_text(json.dumps(document))
    (folder / "eval" / "results" / "model" / "torn.json").write_text("{")
    found = []

    def begin(subject, **_):
        found.extend(subject.measured)
        raise InterruptedError

    monkeypatch.setattr("vafa_monai.runs.audit.run_audit", begin)
    about = {"bundle": folder, "dataset_dir": window_dir, "settings": FEW, "overrides": overrides, "checkpoints": BOTH}
    with pytest.raises(InterruptedError) if again else nullcontext():
        BundleAudit(**about).run()
    assert [(one.name, str(one.threat), one.dice) for one in found] == (
        [("pgd", "voxels within 4/255 (L-inf)", {"case_03": 0.5})] if again else []
    )


@pytest.mark.parametrize(
    ("changes", "stated"),
    [
        ({}, None),
        ({"eval_metrics": {"mean_dice": 0.9}}, 0.9),
        ({"eval_metrics": {"val_mean_dice": 0.8, "hd95": 3.1}}, 0.8),
        ({"eval_metrics": {"mean_dice": 90.1}}, None),
        ({"robustness": {"a": {"sha256": "other", "dice_clean": 0.7}}, "eval_metrics": {"mean_dice": 0.6}}, 0.6),
        ({"robustness": {"a": {"sha256": "own", "dice_clean": 0.7}}, "eval_metrics": {"mean_dice": 0.6}}, 0.7),
    ],
    ids=["nothing", "zoo", "validation", "no fraction", "of others", "packaged"],
)
def test_stated_dice_is_that_of_the_metadata(changes, stated, copy_trained, dataset_dir, overrides):
    path, weights = copy_trained / "configs" / "metadata.json", copy_trained / "models" / "model.pt"
    text = json.dumps(json.loads(path.read_text()) | changes).replace('"own"', json.dumps(sha256(weights)))
    path.write_text(text)
    overrides = {**overrides, "dataset_dir": str(dataset_dir)}
    model = BundleModel(bundle=copy_trained, checkpoint=weights, overrides=overrides)
    assert audit_settings(model, {}).stated_dice == stated
    assert audit_settings(model, {"stated_dice": 0.5}).stated_dice == 0.5


@pytest.mark.slow
def test_other_settings_are_another_audit(audit):
    path = audit().run()["model"]
    audit(settings={**FEW, "steps": 3}).run()
    assert json.loads(path.read_text())["settings"]["steps"] == 3


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"checkpoints": []}, "checkpoint must be at least one file"),
        ({"checkpoints": ["models/none.pt"]}, "checkpoint must be an existing file, got .*none.pt"),
        ({"surrogate": "models/none.pt"}, "checkpoint must be an existing file, got .*none.pt"),
    ],
    ids=["none", "missing", "missing surrogate"],
)
def test_missing_checkpoint_is_refused(audit, changes, message):
    with pytest.raises(ValueError, match=message):
        audit(**changes)


def test_foreign_file_is_not_overwritten(audit, copy_trained):
    path = copy_trained / "eval" / "results" / "model" / "audit.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text('{"schema": "other"}')
    with pytest.raises(ValueError, match=r"output must hold no other audit\.json"):
        audit().run()
    assert path.read_text() == '{"schema": "other"}'


def test_settings_that_are_none_of_an_audit_are_refused(audit):
    with pytest.raises(ValueError, match=r"settings must be those of an audit, got \['speed'\]"):
        audit(settings={"speed": 1}).run()


@pytest.mark.parametrize(
    "labels", [{BOTH[0]: "a", BOTH[1]: "A"}, {BOTH[0]: "../a"}, {BOTH[0]: ".."}], ids=["case", "path", "parent"]
)
def test_labels_that_are_no_folders_of_their_own_are_refused(audit, labels):
    with pytest.raises(ValueError, match="labels must be names of folders that differ, got"):
        audit(checkpoints=BOTH, labels=labels)


def test_document_that_could_not_be_written_is_refused_before_the_work(audit, tmp_path):
    (tmp_path / "out").write_text("in the way")
    with pytest.raises(ValueError, match=r"output must be a place that can be written to, got .*audit\.json"):
        audit(output=tmp_path / "out")


@pytest.mark.parametrize("text", ["", "{}", '{"schema": "vafa_monai.audit/1", "verdict": "PASS"', '{"schema": null}'])
def test_damaged_document_is_set_aside_and_the_audit_made_again(audit, text, tmp_path, monkeypatch):
    def begin(*_, **__):
        raise InterruptedError

    monkeypatch.setattr("vafa_monai.runs.audit.run_audit", begin)
    path, lines = tmp_path / "out" / "model" / "audit.json", []
    path.parent.mkdir(parents=True)
    path.write_text(text)
    with pytest.raises(InterruptedError):
        audit(output=tmp_path / "out", say=lines.append).run()
    assert lines[0].startswith(f"set aside: {path}.damaged, to be made again (")
    assert Path(f"{path}.damaged").read_text() == text
