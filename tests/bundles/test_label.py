"""A real MONAI Label server with its stock app, in an environment of its own, against ``monai.bundle run``."""

import ast
import json
import os
import shutil
import socket
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import torch

from vafa_monai.attacks import PGD
from vafa_monai.label import Fragility
from vafa_monai.sharing import build_bundle_network

pytestmark = [pytest.mark.label, pytest.mark.slow]

PROJECT = Path(__file__).parents[2]
ROOT = PROJECT / "bundles"
NAME = "mni152_unetr_segmentation"
BUNDLES = sorted(path.name for path in ROOT.glob("*_segmentation"))
UNLABELED = ("case_03", "case_04")
CHECKPOINTS = ("model.pt", "model_vaft.pt")
PATIENCE = 180  # seconds until the server answers


def call(*words, cwd, env=None, timeout=1500):
    finished = subprocess.run(
        [str(word) for word in words], cwd=cwd, env=env, capture_output=True, text=True, timeout=timeout
    )
    assert finished.returncode == 0, (finished.stdout + finished.stderr)[-3000:]
    return finished.stdout


@pytest.fixture(scope="module")
def label_python(tmp_path_factory):
    """The Python of an environment with MONAI Label: a given one, or one built as docs/monai_label.md says."""
    if given := os.environ.get("LABEL_PYTHON"):
        return Path(given)
    folder = tmp_path_factory.mktemp("label") / "label"
    call(sys.executable, "-m", "venv", folder, cwd=PROJECT)
    constraint = ("--constraint", "constraints/monailabel.txt")
    call(folder / "bin" / "pip", "install", "--quiet", *constraint, "monailabel", ".", cwd=PROJECT)
    return folder / "bin" / "python"


def shrink(folder, overrides):
    """Write overrides into the configs that MONAI Label reads, because it takes none."""
    for name in ("train", "inference"):
        path = folder / "configs" / f"{name}.json"
        content = json.loads(path.read_text())
        for key, value in overrides.items():
            place, _, last = key.rpartition("#")
            target = content[place] if place else content
            if last in target:
                target[last] = ast.literal_eval(str(value)) if isinstance(value, str) else value
        path.write_text(json.dumps(content))


def write_random_weights(folder):
    """Write two checkpoints of the bundle's network with different weights."""
    for seed, name in enumerate(CHECKPOINTS):
        torch.manual_seed(seed)
        torch.save(build_bundle_network(folder).state_dict(), folder / "models" / name)


@pytest.fixture(scope="module")
def models(trained, small, tiny, tmp_path_factory):
    """The bundles with small networks: one trained and hardened, the others with random weights."""
    place = tmp_path_factory.mktemp("models")
    for name in BUNDLES:
        folder = Path(shutil.copytree(trained if name == NAME else ROOT / name, place / name))
        own = {key: value for key, value in small.items() if key != "dataset_dir"}
        shrink(folder, own if name == NAME else tiny[name.split("_")[1]])
        if name != NAME:
            write_random_weights(folder)
    return place


@pytest.fixture(scope="module")
def server(label_python, models, dataset_dir, tmp_path_factory):
    """Serve the bundles on loopback; return the address, and the folder of what is served."""
    place = tmp_path_factory.mktemp("server")
    env = os.environ | {
        "PATH": os.pathsep.join([str(label_python.parent), os.environ["PATH"]]),
        "MONAI_ZOO_SOURCE": "local",
        "MONAI_LABEL_AUTO_UPDATE_SCORING": "false",
        "CUDA_VISIBLE_DEVICES": "",
        "PYTHONPATH": str(PROJECT),
    }
    call("monailabel", "apps", "--download", "--name", "monaibundle", "--output", "apps", cwd=place, env=env)
    app = place / "apps" / "monaibundle"
    call("vafa-monai", "label_app", app, cwd=place, env=env)
    shutil.copytree(models, app / "model", dirs_exist_ok=True)
    (place / "studies" / "labels" / "final").mkdir(parents=True)
    for number, kind in ((0, "Tr"), (1, "Val")):
        name = f"case_{number:02d}.nii.gz"
        shutil.copy(dataset_dir / f"images{kind}" / name, place / "studies" / name)
        shutil.copy(dataset_dir / f"labels{kind}" / name, place / "studies" / "labels" / "final" / name)
    for name in UNLABELED:
        shutil.copy(dataset_dir / "imagesTs" / f"{name}.nii.gz", place / "studies")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = ["monailabel", "start_server", "--app", app, "--studies", place / "studies"]
    command += ["--conf", "models", ",".join(BUNDLES), "--conf", "sam2", "false", "--host", "127.0.0.1", "--port", port]
    with (place / "server.log").open("w") as log:
        process = subprocess.Popen(
            [str(word) for word in command], cwd=place, env=env, stdout=log, stderr=log, start_new_session=True
        )
        address = f"http://127.0.0.1:{port}"
        try:
            _await(address, process, place / "server.log")
            yield address, app / "model"
        finally:
            os.killpg(process.pid, 15)
            process.wait(30)


def _await(address, process, log):
    end = time.monotonic() + PATIENCE
    while time.monotonic() < end:
        try:
            with urllib.request.urlopen(f"{address}/info/", timeout=10) as answer:
                assert set(BUNDLES) <= set(json.load(answer)["models"])
                return
        except OSError:
            assert process.poll() is None, log.read_text()[-3000:]
            time.sleep(1)
    pytest.fail(f"no answer within {PATIENCE} s: {log.read_text()[-3000:]}")


def post(url, body, cwd):
    """Post JSON."""
    words = ["-H", "Content-Type: application/json", "-d", json.dumps(body)]
    return call("curl", "-fsS", "-X", "POST", url, *words, cwd=cwd)


@pytest.mark.parametrize("checkpoint", CHECKPOINTS)
@pytest.mark.parametrize("name", BUNDLES)
def test_server_answers_what_the_bundle_says(name, checkpoint, server, dataset_dir, tmp_path):
    address, folder = server
    image = dataset_dir / "imagesTs" / "case_05.nii.gz"  # stored in LPS
    params = json.dumps({"device": "cpu", "model_filename": checkpoint})
    url = f"{address}/infer/{name}?output=image"
    label = tmp_path / "label.nii.gz"
    call("curl", "-fsS", "-X", "POST", url, "-F", f"file=@{image}", "-F", f"params={params}", "-o", label, cwd=tmp_path)
    words = ["--config_file", "configs/inference.json", "--ckpt_path", f"models/{checkpoint}", "--output_dir", tmp_path]
    env = os.environ | {"PYTHONPATH": str(PROJECT)}
    run = [sys.executable, "-m", "monai.bundle", "run", *words, "--datalist", str([str(image)])]
    call(*run, cwd=folder / name, env=env)
    answer, pred = nib.load(label), nib.load(tmp_path / "case_05_pred.nii.gz")
    np.testing.assert_array_equal(np.asarray(answer.dataobj), np.asarray(pred.dataobj))
    np.testing.assert_allclose(answer.affine, pred.affine, atol=1e-5)
    assert len(np.unique(pred.dataobj)) > 1


def test_each_request_trains_from_the_model_that_is_there(server, tmp_path):
    address, folder = server
    model = folder / NAME / "models" / "model.pt"
    resume = sorted((folder / NAME / "eval" / "resume" / "model").iterdir())
    body = {"device": "cpu", "max_epochs": 1, "multi_gpu": False, "pretrained": True, "val_split": 0.5}
    url = f"{address}/train/{NAME}?run_sync=true"
    for _ in range(2):
        before = model.stat().st_mtime_ns
        post(url, body, tmp_path)
        assert model.stat().st_mtime_ns > before
    assert sorted((folder / NAME / "eval" / "resume" / "model").iterdir()) == resume  # of the command line's run


def test_server_ranks_unlabeled_volumes_by_how_far_an_attack_moves_them(server, dataset_dir, tmp_path):
    address, folder = server
    attack, body = PGD(eps=8 / 255, steps=2), {"device": "cpu", "steps": 2, "eps": 8 / 255}
    measure = Fragility(bundle=folder / NAME, attack=attack)
    expected = {name: measure(dataset_dir / "imagesTs" / f"{name}.nii.gz") for name in UNLABELED}
    assert 0 < max(expected.values()) <= 1
    scoring = f"{address}/scoring/robustness_{NAME}?run_sync=true"
    answers = [json.loads(post(scoring, body, tmp_path)) for _ in range(2)]
    assert [(answer["executed"], answer["skipped"], answer["failed"]) for answer in answers] == [(2, 0, {}), (0, 2, {})]
    chosen = json.loads(post(f"{address}/activelearning/most_fragile", {}, tmp_path))
    assert chosen["id"] == max(expected, key=expected.get)
    assert chosen["weight"] == pytest.approx(expected[chosen["id"]], abs=1e-3)
