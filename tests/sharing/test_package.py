"""Bundles that are to be shared: every fault found at once, and two packages the same bytes."""

from __future__ import annotations

import json
import shutil
import tempfile
import zipfile
from pathlib import Path

import pytest
import torch

from vafa_monai.cli import package
from vafa_monai.data.files import sha256
from vafa_monai.sharing import Package
from vafa_monai.sharing.archive import MANIFEST, manifest_faults
from vafa_monai.sharing.package import smoke_voxels
from vafa_monai.sharing.package_check import LARGE_FILE, bundle_faults, metadata_faults

ROOT = Path(__file__).parents[2] / "bundles"
BUNDLES = sorted(path.name for path in ROOT.glob("*_segmentation"))


def edit(path, change):
    content = json.loads(path.read_text())
    change(content)
    path.write_text(json.dumps(content))


FAULTS = {  # what is planted, and what is said of it: file, problem, remedy
    "no license": (lambda b: (b / "LICENSE").unlink(), "LICENSE: is missing; add the license"),
    "empty readme": (lambda b: (b / "docs" / "README.md").write_text(""), "docs/README.md: is empty; say what"),
    "personal path": (
        lambda b: (b / "docs" / "data_license.txt").write_text("see /home/eve/data/ct"),
        "docs/data_license.txt: has the path '/home/eve/data/ct' of one machine; make it relative",
    ),
    "token": (
        lambda b: (b / "docs" / "notes.md").write_text("hf_" + "a" * 34),
        "docs/notes.md: has what looks like a key or a token; take it out",
    ),
    "junk": (
        lambda b: (b / "docs" / "old.pyc").write_bytes(b"x"),
        "docs/old.pyc: does not belong in a bundle; delete",
    ),
    "patient": (
        lambda b: (b / "docs" / "scan.nii.gz").write_bytes(b"x"),
        "docs/scan.nii.gz: is an image, of a patient perhaps; keep data out",
    ),
    "pickle": (
        lambda b: (b / "models" / "extra.pkl").write_bytes(b"x"),
        "models/extra.pkl: may execute code when it is loaded; save weights",
    ),
    "schema": (
        lambda b: edit(b / "configs" / "metadata.json", lambda c: c.update(authors=["a"])),
        "configs/metadata.json: does not fit the schema, authors: ['a'] is not of type 'string'; see",
    ),
    "required key": (
        lambda b: edit(b / "configs" / "metadata.json", lambda c: c.pop("task")),
        "configs/metadata.json: does not fit the schema, it: 'task' is a required property; see",
    ),
    "version": (
        lambda b: edit(b / "configs" / "metadata.json", lambda c: c.update(version="two")),
        "configs/metadata.json: has the version 'two'; write three numbers",
    ),
    "changelog": (
        lambda b: edit(b / "configs" / "metadata.json", lambda c: c.update(changelog={})),
        "in its changelog; say what is new in it",
    ),
    "inexact package": (
        lambda b: edit(b / "configs" / "metadata.json", lambda c: c["required_packages_version"].update(scipy=">=1")),
        "asks for scipy '>=1', which is no exact version; name the version",
    ),
    "large file outside": (
        lambda b: (b / "large_files.yml").write_text(
            "large_files:\n- {path: ../model.pt}\n- {path: models/model.pt}\n"
        ),
        "large_files.yml: lists '../model.pt', which is not inside the bundle; name a file",
    ),
    "large file without hash": (lambda b: None, "large_files.yml: has no sha256 for 'models/model.pt'; add hash_type"),
    "unknown target": (
        lambda b: edit(b / "configs" / "inference.json", lambda c: c["network_def"].update(_target_="UNETTER")),
        "configs/inference.json: names 'UNETTER', which cannot be found; correct the name",
    ),
    "no json": (
        lambda b: (b / "configs" / "attacks" / "pgd.json").write_text("{"),
        "configs/attacks/pgd.json: is no JSON",
    ),
}


def test_real_bundle_has_no_faults(small_bundle):
    assert bundle_faults(small_bundle) == []


def test_every_planted_fault_is_found_in_one_run_with_its_remedy(bundle):
    assert len(FAULTS) >= 15
    for plant, _ in FAULTS.values():
        plant(bundle)
    told = "\n".join(map(str, bundle_faults(bundle)))
    for name, (_, sentence) in FAULTS.items():
        assert sentence in told, name


NETWORK_FAULTS = {  # found where all files are as they must be
    "channels": (
        lambda b: edit(b / "configs" / "inference.json", lambda c: c.update(num_classes=5)),
        "has a network that gives (1, 5, 16, 16, 16), and metadata.json says (1, 3, 16, 16, 16)",
    ),
    "shape": (
        lambda b: edit(b / "configs" / "inference.json", lambda c: c.update(roi_size=[32, 32, 32])),
        "configs/inference.json: has a network that does not take what metadata.json says",
    ),
    "weights of another network": (
        lambda b: torch.save({"a": torch.zeros(1)}, b / "models" / "model_other.pt"),
        "models/model_other.pt: checkpoint must",
    ),
    "no trainer": (
        lambda b: edit(b / "configs" / "train.json", lambda c: c["train"].pop("trainer")),
        "configs/train.json: has no 'train#trainer'; add it",
    ),
    "no inferer": (
        lambda b: edit(b / "configs" / "inference.json", lambda c: c.pop("inferer")),
        "configs/inference.json: has no 'inferer'; add it",
    ),
}


@pytest.mark.parametrize(("plant", "sentence"), NETWORK_FAULTS.values(), ids=NETWORK_FAULTS)
def test_fault_of_configs_that_can_be_parsed_is_found(plant, sentence, bundle):
    plant(bundle)
    told = "\n".join(map(str, bundle_faults(bundle))).replace("::", "#")
    assert sentence in told


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
@pytest.mark.parametrize("trust", [False, True])
def test_weights_that_are_not_finite_are_a_fault_with_and_without_the_network(value, trust, bundle):
    weights = torch.load(bundle / "models" / "model.pt", weights_only=True)
    next(iter(weights.values())).view(-1)[0] = value
    torch.save(weights, bundle / "models" / "model.pt")
    (fault,) = bundle_faults(bundle, trust=trust)
    assert str(fault).startswith("models/model.pt: ")
    assert "not finite in torch.float32" in str(fault)


def test_link_is_a_fault_of_its_own(bundle, tmp_path):
    (bundle / "docs" / "link.md").symlink_to(tmp_path)
    (fault,) = bundle_faults(bundle)
    assert "got 'docs/link.md', which is a link" in str(fault)


def test_network_without_export_needs_a_sentence(bundle, monkeypatch):
    def refuse(*_, **__):
        raise RuntimeError

    for way in ("script", "trace"):
        monkeypatch.setattr(torch.jit, way, refuse)
    (fault,) = bundle_faults(bundle)
    assert str(fault).startswith("docs/README.md: says nothing of TorchScript")
    with (bundle / "docs" / "README.md").open("a") as readme:
        readme.write("\nTorchScript: not yet.\n")
    assert bundle_faults(bundle) == []


def test_schema_is_that_of_the_bundles():
    for name in BUNDLES:
        assert metadata_faults(json.loads((ROOT / name / "configs" / "metadata.json").read_text())) == []


def test_two_packages_are_the_same_bytes_and_the_bundle_is_as_it_was(small_bundle, tmp_path):
    before = {path: path.read_bytes() for path in small_bundle.rglob("*") if path.is_file()}
    paths = [Package(bundle=small_bundle, output=tmp_path / name).write() for name in ("one.zip", "two.zip")]
    assert paths[0].read_bytes() == paths[1].read_bytes()
    assert {path: path.read_bytes() for path in small_bundle.rglob("*") if path.is_file()} == before


def test_package_holds_what_its_manifest_says_and_what_the_smoke_run_gave(small_bundle, tmp_path):
    path = Package(bundle=small_bundle, output=tmp_path / "one.zip").write()
    with zipfile.ZipFile(path) as archive:
        archive.extractall(tmp_path)
    folder = tmp_path / small_bundle.name
    assert manifest_faults(folder) == []
    manifest = json.loads((folder / MANIFEST).read_text())
    assert manifest["smoke"] == {"models/model.pt": smoke_voxels(folder)}
    assert sum(manifest["smoke"]["models/model.pt"].values()) == 20**3


def result(attack, dice, role, sha256="0123"):
    """A result of one case, as small as one can be."""
    quality = dict.fromkeys(("ssim", "psnr_db", "rms_grey", "linf_grey", "lpips"))
    figures = quality | {"lost": 0, "invented": 0}
    case = {"case": "one", "dice": [0.9, dice], "hd95_mm": [None, 1.0], "nsd": [None, 1.0]} | figures
    return {
        "schema": "vafa_monai.result/1",
        "model": "model",
        "checkpoint": {"path": "model.pt", "sha256": sha256},
        "attack": {"name": attack, "role": role, "settings": {}},
        "classes": ["background", "organ"],
        "seed": 0,
        "versions": {},
        "device": "cpu",
        "seconds": 1,
        "cases": [case],
        "summary": {"dice": dice, "dice_with_background": dice, "hd95_mm": 1, "nsd": 1} | figures,
        "notes": [],
        "slices": None,
    }


def write_results(folder, model, sha256):
    """Write a clean run and an attack; return their folder."""
    (folder / "results" / model).mkdir(parents=True)
    for attack, dice, role in (("identity", 0.9, "control"), ("pgd", 0.5, "attack")):
        document = {**result(attack, dice, role, sha256), "model": model}
        (folder / "results" / model / f"{attack}.json").write_text(json.dumps(document))
    return folder / "results"


def test_model_card_and_figures_are_those_of_the_results(small_bundle, tmp_path):
    results = write_results(tmp_path, "model", sha256(small_bundle / "models" / "model.pt"))
    path = Package(bundle=small_bundle, output=tmp_path / "one.zip", results=results, smoke=False).write()
    with zipfile.ZipFile(path) as archive:
        readme = archive.read(f"{small_bundle.name}/docs/README.md").decode()
        metadata = json.loads(archive.read(f"{small_bundle.name}/configs/metadata.json"))
    assert readme.count("## Adversarial robustness") == 1
    assert "**model: NOT AUDITED.**" in readme
    assert metadata["robustness"]["model"]["dice_clean"] == pytest.approx(0.9)
    assert metadata["robustness"]["model"]["verdict"] == "NOT AUDITED"


@pytest.mark.parametrize("what", ["other weights", "retrained", "one of two models", "no weights", "not told"])
def test_results_of_weights_that_are_not_packaged_are_refused(what, bundle, tmp_path):
    weights = bundle / "models" / "model.pt"
    told = {"other weights": "0" * 64, "not told": None}.get(what, sha256(weights))
    results = write_results(tmp_path, "model", told)
    if what == "retrained":
        torch.save({name: value + 1 for name, value in torch.load(weights, weights_only=True).items()}, weights)
    elif what == "one of two models":
        write_results(tmp_path / "second", "hardened", "1" * 64)
        shutil.copytree(tmp_path / "second" / "results", results, dirs_exist_ok=True)
    elif what == "no weights":
        weights.unlink()
    with pytest.raises(ValueError, match="results must be of the weights that are packaged, got those of '"):
        Package(bundle=bundle, output=tmp_path / "one.zip", results=results, smoke=False).write()
    assert not (tmp_path / "one.zip").exists()


def test_figures_in_metadata_that_are_of_other_weights_are_a_fault(bundle, tmp_path):
    results = write_results(tmp_path, "model", sha256(bundle / "models" / "model.pt"))
    packed = Package(bundle=bundle, output=tmp_path / "one.zip", results=results, smoke=False).write()
    with zipfile.ZipFile(packed) as archive:
        archive.extractall(tmp_path / "again")
    folder = tmp_path / "again" / bundle.name
    (folder / MANIFEST).unlink()
    assert not [fault for fault in bundle_faults(folder, trust=False) if "robustness" in str(fault)]
    torch.save({"a": torch.zeros(1)}, folder / "models" / "model.pt")
    told = [str(fault) for fault in bundle_faults(folder, trust=False) if "robustness" in str(fault)]
    assert len(told) == 1
    assert told[0].startswith("configs/metadata.json: has figures of robustness of 'model' that are of none of its wei")


def test_large_files_are_listed(small_bundle, tmp_path, monkeypatch):
    monkeypatch.setattr("vafa_monai.sharing.package.LARGE_FILE", 1000)
    address = "https://example.org/models"
    path = Package(bundle=small_bundle, output=tmp_path / "one.zip", base_url=address, smoke=False).write()
    with zipfile.ZipFile(path) as archive:
        text = archive.read(f"{small_bundle.name}/large_files.yml").decode()
    assert f"url: {address}/models/model.pt" in text
    assert "hash_type: sha256" in text


def test_large_is_what_has_more_than_25_million_bytes(small_bundle, tmp_path, monkeypatch):
    size = (small_bundle / "models" / "model.pt").stat().st_size
    others = max(path.stat().st_size for path in small_bundle.rglob("*") if path.is_file() and path.suffix != ".pt")
    assert LARGE_FILE == 25 * 10**6
    assert others < size - 1
    for limit, listed in ((size, False), (size - 1, True)):
        monkeypatch.setattr("vafa_monai.sharing.package.LARGE_FILE", limit)
        path = Package(bundle=small_bundle, output=tmp_path / f"{limit}.zip", smoke=False).write()
        with zipfile.ZipFile(path) as archive:
            assert (f"{small_bundle.name}/large_files.yml" in archive.namelist()) == listed


@pytest.mark.parametrize("address", ["https://eva:secret@host/a", "https://secret@host", "https://host/a?key=secret"])
def test_password_in_an_address_is_not_published(address, small_bundle):
    with pytest.raises(ValueError, match="base_url must be an address without a password or a query") as error:
        Package(bundle=small_bundle, base_url=address)
    assert "secret" not in str(error.value)


TRAPS = {
    "network": lambda trap: {"_target_": "UNETR", "a": f"$open({trap!r}, 'w')"},
    "target of its own": lambda trap: {"_target_": "trapped.Network"},
    "target that is a program": lambda trap: {"_target_": "vafa_monai.cli.__main__.main"},
}


@pytest.mark.parametrize("network", TRAPS.values(), ids=TRAPS)
def test_check_without_trust_executes_nothing(network, bundle, tmp_path, monkeypatch):
    trap = tmp_path / "executed"
    (tmp_path / "trapped.py").write_text(f"open({str(trap)!r}, 'w')")
    monkeypatch.syspath_prepend(tmp_path)
    edit(bundle / "configs" / "inference.json", lambda c: c.update(network_def=network(str(trap))))
    Package(bundle=bundle).faults(trust=False)
    assert not trap.exists()


def test_check_without_trust_reads_weights_as_data_and_says_what_was_not_tried(bundle, capsys, monkeypatch):
    monkeypatch.setattr("vafa_monai.sharing.package_check.network_faults", lambda *_: [])  # half a minute
    package(str(bundle), check=True)
    assert "not tried: the network, its weights in it and its export" in capsys.readouterr().out
    package(str(bundle), check=True, trust=True)
    assert "not tried" not in capsys.readouterr().out
    (bundle / "models" / "model.pt").write_bytes(b"none")
    (fault,) = bundle_faults(bundle, trust=False)
    assert str(fault).startswith("models/model.pt: checkpoint must be")


@pytest.mark.parametrize("name", ["docs/notes.txt", "models/old.PT", "docs/a.npz"])
def test_pickle_under_another_name_is_a_fault(name, bundle):
    (bundle / name).write_bytes(b"cos\nsystem\n(S'true'\ntR.")
    assert f"{name}: may execute code when it is loaded" in "\n".join(map(str, bundle_faults(bundle, trust=False)))


def test_output_that_cannot_be_written_is_found_before_anything_is_tried(small_bundle, tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    monkeypatch.setattr("vafa_monai.sharing.package.smoke_voxels", lambda *_: pytest.fail("tried"))
    job = Package(bundle=small_bundle, output=tmp_path / "file" / "one.zip")
    for call in (job.faults, job.write):
        with pytest.raises(ValueError, match="output must be a place that can be written to, got"):
            call()


def test_link_under_the_name_of_the_package_is_not_followed(small_bundle, tmp_path):
    (tmp_path / "one.zip").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(ValueError, match="output must be a new file, got"):
        Package(bundle=small_bundle, output=tmp_path / "one.zip", smoke=False).write()
    assert not (tmp_path / "elsewhere").exists()


@pytest.mark.parametrize("version", ["../x", "", None, "1"])
def test_version_that_would_lead_elsewhere_is_refused(version, bundle):
    edit(bundle / "configs" / "metadata.json", lambda c: c.update(version=version))
    with pytest.raises(ValueError, match=r"version must be three numbers in configs/metadata\.json, got"):
        Package(bundle=bundle, smoke=False).write()


@pytest.mark.parametrize("moments", [[0.1, 0.5], pytest.param([n / 10 for n in range(20)], marks=pytest.mark.slow)])
def test_killed_package_is_not_there_and_the_next_is_the_same(moments, small_bundle, tmp_path, monkeypatch, kill):
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(scratch))
    expected = Package(bundle=small_bundle, output=tmp_path / "expected.zip", smoke=False).write().read_bytes()
    for number, seconds in enumerate(moments):
        output = tmp_path / str(number) / "one.zip"
        job = Package(bundle=small_bundle, output=output, smoke=False)
        kill(job.write, seconds=seconds)
        if output.exists():
            assert output.read_bytes() == expected
            output.unlink()
        assert job.write().read_bytes() == expected
        assert list(scratch.iterdir()) == []


def test_killed_package_is_not_mixed_with_one_of_other_settings(small_bundle, bundle, tmp_path, kill):
    edit(bundle / "configs" / "metadata.json", lambda c: c.update(task="another"))
    for number in range(2):  # right before and right after the archive gets its name
        killed, whole = (tmp_path / f"{name}_{number}.zip" for name in ("killed", "whole"))
        assert kill(Package(bundle=small_bundle, output=killed, smoke=False).write, rename=number, of="*.zip") == -9
        if number:
            with pytest.raises(ValueError, match="output must be a new file, got"):
                Package(bundle=bundle, output=killed, smoke=False).write()
            killed.unlink()
        for output in (killed, whole):
            Package(bundle=bundle, output=output, smoke=False).write()
        assert killed.read_bytes() == whole.read_bytes()
        assert {path.name for path in tmp_path.glob(".*.zip")} == set()


def test_recipe_without_weights_is_packaged_and_says_so(bundle, tmp_path):
    (bundle / "models" / "model.pt").unlink()
    lines = []
    Package(bundle=bundle, output=tmp_path / "one.zip", say=lines.append).write()
    assert lines == ["no weights in models: the recipe alone is packaged, and no smoke run is possible"]


def test_existing_package_is_not_overwritten(small_bundle, tmp_path):
    (tmp_path / "one.zip").write_text("mine")
    with pytest.raises(ValueError, match="output must be a new file, got"):
        Package(bundle=small_bundle, output=tmp_path / "one.zip").write()
    assert (tmp_path / "one.zip").read_text() == "mine"
    with pytest.raises(ValueError, match="bundle must be a folder, got"):
        Package(bundle=tmp_path / "none").faults()


@pytest.mark.slow
@pytest.mark.parametrize("name", BUNDLES)
def test_bundle_of_this_project_has_no_faults(name, tmp_path):
    folder = shutil.copytree(ROOT / name, tmp_path / name, ignore=shutil.ignore_patterns("eval", "*.pt"))
    assert bundle_faults(Path(folder)) == []
