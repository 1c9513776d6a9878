"""The bundles of the paper at full size: one real step of training and of hardening, on synthetic volumes."""

import shutil
from pathlib import Path

import pytest
import torch
from monai.bundle import ConfigParser

from vafa_monai.data import write_phantom

pytestmark = [pytest.mark.bundle, pytest.mark.slow]

ROOT = Path(__file__).parents[2] / "bundles"
BUNDLES = [f"{dataset}_{network}_segmentation" for dataset in ("synapse", "acdc") for network in ("unetr", "unetrpp")]
ONE_STEP = {"epochs": 1, "windows_per_epoch": 1, "windows_per_volume": 1, "batch_size": 1, "val_interval": 2}
ONE_STEP |= {"num_workers": 0, "resume_interval": 1, "warmup_iterations": 0, "attack_steps": 1}


@pytest.fixture(scope="module", params=BUNDLES)
def bundle(request, tmp_path_factory):
    """A copy of a bundle with a standard model of random weights, and its data."""
    dataset, network = request.param.split("_")[:2]
    data = tmp_path_factory.mktemp("data") / "prepared"
    classes = 9 if network == "unetrpp" else 14
    write_phantom(dataset, data, cases=3, layout="prepared", size=0.5, classes=classes if dataset == "synapse" else 14)
    folder = Path(shutil.copytree(ROOT / request.param, tmp_path_factory.mktemp("bundle") / request.param))
    parser = ConfigParser()
    parser.read_config(str(folder / "configs" / "train.json"))
    torch.save(parser.get_parsed_content("network_def").state_dict(), folder / "models" / "model.pt")
    yield folder, {"dataset_dir": str(data), **ONE_STEP}
    shutil.rmtree(folder)  # a checkpoint has a gigabyte


@pytest.mark.parametrize("chain", [["train"], ["train", "harden", "hardening/vaft"]], ids="+".join)
def test_one_real_step_moves_the_weights(bundle, run_chain, chain):
    folder, settings = bundle
    if chain == ["train"]:
        settings = {key: value for key, value in settings.items() if key != "attack_steps"}
    code, output = run_chain(chain, settings, folder)
    assert code == 0, output[-4000:]
    before = torch.load(folder / "models" / "model.pt", weights_only=True)
    name = "model_vaft" if "harden" in chain else "model"
    after = torch.load(folder / "eval" / "resume" / name / "checkpoint_epoch=1.pt", weights_only=True)
    assert after["trainer"]["iteration"] == 1
    assert any(not torch.equal(before[key], after["network"][key]) for key in before)
