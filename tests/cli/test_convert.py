"""``vafa-monai convert`` as a user types it."""

import os
import pickle
import shutil
from pathlib import Path

import pytest
import torch

from vafa_monai.runs import shipped_bundle
from vafa_monai.sharing import build_bundle_network


class Payload:
    def __reduce__(self):
        return os.system, ("touch ran",)


@pytest.fixture
def run(fork_python, tmp_path):
    """Return what calls ``vafa-monai`` and returns its exit code and what it says."""

    def call(*words):
        process = fork_python(["vafa_monai.cli", *words], tmp_path)
        told, _ = process.communicate()
        return process.returncode, told

    return call


def test_old_weights_become_the_model_of_a_bundle_and_malicious_ones_do_nothing(run, tmp_path):
    bundle = Path(shutil.copytree(shipped_bundle("mni152_unetr_segmentation"), tmp_path / "bundle"))
    shutil.rmtree(bundle / "models")
    weights = build_bundle_network(bundle).state_dict()
    torch.save({"state_dict": {f"module.{name}": weight for name, weight in weights.items()}}, tmp_path / "old.pt")
    code, told = run("convert", "old.pt", "--bundle", "bundle")
    assert code == 0, told[-2000:]
    found = torch.load(bundle / "models" / "model.pt", weights_only=True)
    assert all(torch.equal(found[name], weights[name]) for name in weights)
    (tmp_path / "evil.pt").write_bytes(pickle.dumps(Payload()))
    code, told = run("convert", "evil.pt", "--bundle", "bundle", "--model_file", "evil.pt")
    assert code == 1
    assert "system" in told.splitlines()[-1]
    assert "Traceback" not in told
    assert not (tmp_path / "ran").exists()
    assert not (bundle / "models" / "evil.pt").exists()
