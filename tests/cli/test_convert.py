"""``vafa-monai convert`` as a user types it."""

import os
import pickle
import shutil
import subprocess
import sys
from pathlib import Path

import torch

from vafa_monai.runs import shipped_bundle
from vafa_monai.sharing import build_bundle_network


class Payload:
    def __reduce__(self):
        return os.system, ("touch ran",)


def run(*arguments, cwd):
    import vafa_monai

    root = str(Path(vafa_monai.__file__).parents[1])
    command = [sys.executable, "-m", "vafa_monai.cli", *map(str, arguments)]
    environment = os.environ | {"PYTHONPATH": root, "OMP_NUM_THREADS": "1"}
    return subprocess.run(command, cwd=cwd, env=environment, capture_output=True, text=True, check=False, timeout=300)


def test_old_weights_become_the_model_of_a_bundle_and_malicious_ones_do_nothing(tmp_path):
    bundle = Path(shutil.copytree(shipped_bundle("mni152_unetr_segmentation"), tmp_path / "bundle"))
    shutil.rmtree(bundle / "models")
    weights = build_bundle_network(bundle).state_dict()
    torch.save({"state_dict": {f"module.{name}": weight for name, weight in weights.items()}}, tmp_path / "old.pt")
    finished = run("convert", "old.pt", "--bundle", "bundle", cwd=tmp_path)
    assert finished.returncode == 0, finished.stderr[-2000:]
    found = torch.load(bundle / "models" / "model.pt", weights_only=True)
    assert all(torch.equal(found[name], weights[name]) for name in weights)
    (tmp_path / "evil.pt").write_bytes(pickle.dumps(Payload()))
    finished = run("convert", "evil.pt", "--bundle", "bundle", "--model_file", "evil.pt", cwd=tmp_path)
    assert finished.returncode == 1
    assert "system" in finished.stderr.splitlines()[-1]
    assert "Traceback" not in finished.stderr
    assert not (tmp_path / "ran").exists()
    assert not (bundle / "models" / "evil.pt").exists()
