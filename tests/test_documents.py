"""Every JSON document that is read again, cut off and altered often: it is read, or refused in one sentence."""

from __future__ import annotations

import json
import random
import shutil
from collections.abc import Callable, Iterator
from copy import deepcopy
from dataclasses import asdict
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

import vafa_monai
from vafa_monai.data import prepare_synapse, write_phantom
from vafa_monai.data.split import read_datalist, read_split
from vafa_monai.handlers.training_record import TrainingRecord
from vafa_monai.paper.run import ModelRecord
from vafa_monai.reports.build import build_report
from vafa_monai.reports.compare import leaderboard_rows, write_leaderboard
from vafa_monai.reports.evidence import load_report
from vafa_monai.results.audit import load_audits
from vafa_monai.results.result import load_results
from vafa_monai.runs import BundleRun, Demo, DemoSettings, shipped_bundle
from vafa_monai.runs.benchmark_plan import BenchmarkRecords
from vafa_monai.sharing.archive import MANIFEST, build_manifest, manifest_faults
from vafa_monai.sharing.package_check import bundle_faults

EXAMPLE = json.loads((Path(__file__).parents[1] / "docs" / "example" / "report.json").read_text())
ODD = [None, True, False, 0, -1, 3.5, 1e300, 2**63, "", "x", "a\nb", "../x", "\ud800", [], {}, [None], {"a": 1}, [[]]]
HARDER = ["NaN", "1e999", "9" * 400, "[" * 3000, '{"a": 1, "a": 2}']  # texts in place of a value
COUNT = 25


def places(value: Any, above: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Yield the path of everything in a document."""
    for key in value if isinstance(value, dict) else range(len(value)) if isinstance(value, list) else ():
        yield (*above, key)
        yield from places(value[key], (*above, key))


def altered(document: Any, draw: random.Random) -> Any:
    """Return a document in which one thing is gone, twice, of another name, or something odd."""
    changed = deepcopy(document)
    *above, key = draw.choice([path for path in places(document) if len(path) <= draw.randint(1, 8)])
    parent = changed
    for one in above:
        parent = parent[one]
    way = draw.randrange(6)
    if way == 0:
        del parent[key]
    elif way == 1 and isinstance(parent, list):
        parent.append(deepcopy(parent[key]))
    elif way == 1:
        parent[f"{key}s"] = parent.pop(key)
    elif way == 2:
        parent[key] = "MARK"
    else:
        parent[key] = draw.choice(ODD)
    return changed


def mutants(document: Any, seed: int = 0, count: int = COUNT) -> Iterator[bytes]:
    """Yield texts that are not what was written: altered in one or two places, cut off, with one other byte."""
    draw, whole = random.Random(seed), json.dumps(document).encode()
    for number in range(count):
        if number % 5 == 0:
            cut = draw.randrange(len(whole))
            yield whole[:cut] if number % 2 else whole[:cut] + bytes([draw.randrange(256)]) + whole[cut + 1 :]
            continue
        changed = altered(altered(document, draw) if number % 3 == 0 else document, draw)
        yield json.dumps(changed).replace('"MARK"', draw.choice(HARDER)).encode()


def result(name: str) -> dict[str, Any]:
    (found,) = (one for one in EXAMPLE["results"] if (one["model"], one["attack"]["name"]) == ("standard", name))
    return {**found, "slices": None}


def read_or_refuse(read: Callable[[], Any], text: bytes) -> bool:
    """Tell whether a document was read; if not, the error is one sentence."""
    try:
        read()
    except ValueError as error:
        sentence = str(error)
        assert sentence, text
        assert "\n" not in sentence, sentence
        assert "Traceback" not in sentence
        return False
    return True


@pytest.fixture
def try_all(tmp_path) -> Callable[..., None]:
    """Return a function that reads every mutant of a document from a file; some are read, and some refused."""

    def run(path: Path, document: Any, read: Callable[[], Any], both: bool = True, count: int = COUNT) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(document))
        read()
        outcomes = []
        for text in mutants(document, count=count):
            path.write_bytes(text)
            outcomes.append(read_or_refuse(read, text))
        assert not both or (any(outcomes) and not all(outcomes))
        path.unlink(missing_ok=True)

    return run


def test_results(try_all, tmp_path):
    for name in ("vafa_audit", "identity"):
        try_all(tmp_path / "standard" / f"{name}.json", result(name), lambda: load_results(tmp_path))


def test_pages_of_results_and_audits(try_all, tmp_path):
    """What a reader lets pass does not break the page either."""
    folder = tmp_path / "results" / "standard"
    folder.mkdir(parents=True)
    (folder / "identity.json").write_text(json.dumps(result("identity")))

    def read() -> None:
        build_report(tmp_path / "results", tmp_path / "out", title="altered")

    try_all(folder / "pgd.json", result("pgd"), read, count=8)
    (folder / "pgd.json").write_text(json.dumps(result("pgd")))
    try_all(folder / "audit.json", EXAMPLE["audits"][0], read, count=8)


def test_audits(try_all, tmp_path):
    try_all(tmp_path / "standard" / "audit.json", EXAMPLE["audits"][0], lambda: load_audits(tmp_path))


def test_reports(try_all, tmp_path):
    document = {**EXAMPLE, "results": [result("identity"), result("pgd")]}
    document |= {"rows": EXAMPLE["rows"][:2], "findings": EXAMPLE["findings"][:2], "paired": {}}

    def read() -> None:
        load_report(tmp_path)
        write_leaderboard(leaderboard_rows(tmp_path), tmp_path / "leaderboard.html")

    try_all(tmp_path / "report.json", document, read)


def test_records_of_a_benchmark(try_all, tmp_path):
    one = {**result("pgd"), "made_of": "key", "slices": "key.npz"}
    one["cases"] = one["cases"][:1]
    failed = {"model": "a", "attack": "pgd", "case": "b", "error": "c"}
    item = SimpleNamespace(key="key", name=one["cases"][0]["case"], about=lambda _: failed)
    records = BenchmarkRecords(tmp_path)
    (tmp_path / "records").mkdir()
    failure = tmp_path / "failures" / "key.json"

    def refuse(sentence: str) -> None:
        raise ValueError(sentence)

    def sweep() -> None:
        np.savez(tmp_path / "records" / "key.npz", a=np.zeros(1))
        records.sweep([item], refuse)

    try_all(tmp_path / "records" / "key.json", one, sweep)
    try_all(failure, failed, sweep, both=False)


def test_records_of_models(try_all, tmp_path):
    file = tmp_path / "model_pgd.pt"
    file.write_bytes(b"weights")
    record = ModelRecord(file=file, settings={"seed": 0, "overrides": {"eps": 1}})
    record.finish(1.0)
    try_all(record.path, record.read(), lambda: (record.state(), record.differing()))


def test_records_of_trainings(try_all, tmp_path):
    record = TrainingRecord(folder=tmp_path, model=tmp_path / "model.pt", facts={"seed": 0, "cases": "abc"})
    record.begin()
    try_all(record.path, json.loads(record.path.read_text()), record.find, count=100)


def test_manifests_and_metadata(try_all, tmp_path):
    name = "mni152_unetr_segmentation"
    folder = shutil.copytree(shipped_bundle(name), tmp_path / name, ignore=shutil.ignore_patterns("eval", "*.pt"))
    manifest = build_manifest(folder, {"name": folder.name, "version": "0.1.0", "smoke": {}})
    try_all(folder / MANIFEST, manifest, lambda: manifest_faults(folder))
    path = folder / "configs" / "metadata.json"
    metadata = json.loads(path.read_text())
    metadata["robustness"] = {"model": {"sha256": "0", "dice_clean": 0.5}}
    for text in mutants(metadata):
        path.write_bytes(text)
        assert all(str(fault) for fault in bundle_faults(folder, trust=False))


def test_configs(try_all, tmp_path):
    name = "mni152_unetr_segmentation"
    folder = shutil.copytree(shipped_bundle(name), tmp_path / name, ignore=shutil.ignore_patterns("eval", "*.pt"))
    path = folder / "configs" / "evaluate.json"
    try_all(path, json.loads(path.read_text()), lambda: BundleRun(bundle=folder, overlays=["evaluate"]))


def test_lists_of_cases(try_all, tmp_path):
    cases = [{"image": f"images/{n}.nii.gz", "label": f"labels/{n}.nii.gz"} for n in range(3)]
    content = {"training": cases, "validation": cases[:1], "test": cases, "labels": {"0": "background"}}
    try_all(tmp_path / "dataset.json", content, lambda: read_datalist(tmp_path / "dataset.json", "test"))
    split = {"training": ["a", "b"], "test": ["c"]}
    try_all(tmp_path / "split.json", split, lambda: read_split(tmp_path / "split.json"))


def test_lists_of_prepared_cases(tmp_path):
    source = write_phantom("synapse", tmp_path / "raw", cases=3, size=0.4)
    path = prepare_synapse(source, tmp_path / "out", allow_missing=True)
    document = json.loads(path.read_text())
    for text in mutants(document):
        path.write_bytes(text)
        read_or_refuse(lambda: prepare_synapse(source, tmp_path / "out", allow_missing=True), text)


def test_state_of_a_demo(try_all, tmp_path):
    told: list[str] = []

    def claim() -> None:
        Demo(tmp_path, DemoSettings(quick=True), say=told.append)
        if told:
            raise ValueError(told.pop())

    settings = {**asdict(DemoSettings(quick=True)), "vafa_monai": vafa_monai.__version__}
    try_all(tmp_path / "demo.json", {"settings": settings, "done": {"standard": "abc"}}, claim)
