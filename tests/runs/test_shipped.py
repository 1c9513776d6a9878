"""Bundles that come with the package: overlays stand once, copies hold real files."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from vafa_monai.data.files import sha256
from vafa_monai.runs import copy_bundle, shipped_bundle
from vafa_monai.runs.shipped import OVERLAYS, copy_tree, shipped_names

CHECKOUT = Path(__file__).parents[2] / "bundles"
OWN = {"train.json", "inference.json", "metadata.json"}  # configs that a bundle does not share


@pytest.mark.parametrize("name", shipped_names())
def test_copy_holds_real_files_with_the_content_of_the_shipped_ones(name, tmp_path):
    copy, source = copy_bundle(name, tmp_path), shipped_bundle(name)
    assert copy == tmp_path / name
    assert [path for path in copy.rglob("*") if path.is_symlink()] == []
    for config in (
        "evaluate.json",
        "harden.json",
        "hardening/pgd.json",
        "attacks/pgd.json",
        "tracking/train_mlflow.json",
        "train.json",
    ):
        assert (copy / "configs" / config).read_bytes() == (source / "configs" / config).read_bytes()


@pytest.mark.parametrize("name", shipped_names())
def test_every_overlay_of_a_bundle_is_a_link_to_the_one_that_all_share(name):
    found = {path.name: path for path in (CHECKOUT / name / "configs").iterdir()}
    assert {name for name, path in found.items() if not path.is_symlink()} == OWN
    shared = {path.name: path.resolve() for path in (CHECKOUT / OVERLAYS).iterdir()}
    assert {name: path.resolve() for name, path in found.items() if path.is_symlink()} == shared


@pytest.mark.parametrize("name", shipped_names())
def test_installed_bundle_has_every_config_of_the_checkout(name):
    assert contents(shipped_bundle(name) / "configs") == contents(CHECKOUT / name / "configs")


def contents(folder):
    found = [Path(root, file) for root, _, files in os.walk(folder, followlinks=True) for file in files]
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in found}


def test_copy_leaves_out_weights_and_results(tmp_path, monkeypatch):
    source = copy_bundle("mni152_unetr_segmentation", tmp_path / "bundles")
    (source / "models" / "model.pt").write_bytes(b"weights")
    (source / "eval").mkdir()
    monkeypatch.setattr("vafa_monai.runs.shipped._roots", lambda: [tmp_path / "bundles"])
    copy = copy_bundle("mni152_unetr_segmentation", tmp_path / "mine")
    assert not (copy / "models" / "model.pt").exists()
    assert not (copy / "eval").exists()
    assert (copy / "models").is_dir()


def test_copy_has_the_weights_whose_figures_the_metadata_state(tmp_path, monkeypatch):
    source = copy_bundle("mni152_unetr_segmentation", tmp_path / "bundles")
    for name in ("model.pt", "model_robust.pt", "model_mine.pt", "model.training.json", "model_mine.training.json"):
        (source / "models" / name).write_text(name)
    metadata = source / "configs" / "metadata.json"
    shipped = {name: {"sha256": sha256(source / "models" / f"{name}.pt")} for name in ("model", "model_robust")}
    metadata.write_text(json.dumps({**json.loads(metadata.read_text()), "robustness": shipped}))
    monkeypatch.setattr("vafa_monai.runs.shipped._roots", lambda: [tmp_path / "bundles"])
    copy = copy_bundle("mni152_unetr_segmentation", tmp_path / "mine")
    held = {path.name: path.read_text() for path in (copy / "models").iterdir() if path.name != ".gitkeep"}
    assert held == {name: name for name in ("model.pt", "model_robust.pt", "model.training.json")}


def test_folder_that_holds_the_bundle_already_is_left_as_it_is(tmp_path):
    copy_bundle("mni152_unetr_segmentation", tmp_path)
    before = (tmp_path / "mni152_unetr_segmentation" / "configs").stat().st_mtime_ns
    with pytest.raises(ValueError, match="output must not hold 'mni152_unetr_segmentation' already"):
        copy_bundle("mni152_unetr_segmentation", tmp_path)
    assert (tmp_path / "mni152_unetr_segmentation" / "configs").stat().st_mtime_ns == before


def test_unknown_bundle_is_refused_with_the_names_of_all(tmp_path):
    with pytest.raises(ValueError, match=r"bundle must be one of \['acdc_unetr_segmentation', .*got 'liver'"):
        copy_bundle("liver", tmp_path / "new")
    assert not (tmp_path / "new").exists()


def test_links_to_elsewhere_stay_links(tmp_path):
    bundle = copy_bundle("mni152_unetr_segmentation", tmp_path)
    (tmp_path / "secret.txt").write_text("secret")
    (bundle / "docs" / "leak.txt").symlink_to(tmp_path / "secret.txt")
    assert (copy_tree(bundle, tmp_path / "copy") / "docs" / "leak.txt").is_symlink()
