"""A network without a bundle: exported files and functions of modules get one, and are measured as they are."""

from __future__ import annotations

import json
import sys

import nibabel as nib
import numpy as np
import pytest
import torch
from monai.inferers import sliding_window_inference
from monai.metrics import compute_dice
from monai.networks.nets import UNet

from vafa_monai.cli import main
from vafa_monai.networks import load_network
from vafa_monai.runs.bundle_run import BundleRun
from vafa_monai.runs.wrap import Wrapping

ROI = (16, 16, 16)
CLASSES = ["background", "left", "right"]
MODULE = """from monai.networks.nets import UNet


def build():
    return UNet(3, 1, 3, channels=(4, 8), strides=(2,))


def nothing():
    return 3
"""
quiet = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")  # of torch.jit


@pytest.fixture
def data(tmp_path):
    """Two volumes in [0, 1] with labels."""
    generator = np.random.default_rng(0)
    for kind in ("images", "labels"):
        (tmp_path / kind).mkdir()
    for number in range(2):
        label = generator.integers(0, 3, (18, 20, 17)).astype(np.uint8)
        image = (label / 2 + generator.normal(0, 0.1, label.shape)).clip(0, 1).astype(np.float32)
        for kind, volume in (("images", image), ("labels", label)):
            nib.save(nib.Nifti1Image(volume, np.eye(4)), tmp_path / kind / f"case_{number}.nii.gz")
    return tmp_path


@pytest.fixture
def network():
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return UNet(3, 1, 3, channels=(4, 8), strides=(2,)).eval()


def scripted(network, folder):
    torch.jit.trace(network, torch.zeros(1, 1, *ROI)).save(str(folder / "net.ts"))
    return str(folder / "net.ts")


def frozen(network, folder):
    torch.jit.freeze(torch.jit.trace(network, torch.zeros(1, 1, *ROI))).save(str(folder / "net.pt"))
    return str(folder / "net.pt")


def exported(network, folder):
    shapes = ({0: torch.export.Dim("batch", max=64)},)
    program = torch.export.export(network, (torch.zeros(2, 1, *ROI),), dynamic_shapes=shapes)
    torch.export.save(program, folder / "net.pt2")
    return str(folder / "net.pt2")


def of_a_module(network, folder):
    (folder / "my_networks.py").write_text(MODULE)
    torch.save(network.state_dict(), folder / "weights.pt")
    return "my_networks:build"


def own_dice(network, data):
    """The mean over cases and organs, of a sliding window and MONAI's own metric."""
    rows = []
    for number in range(2):
        image, label = (
            torch.from_numpy(nib.load(data / kind / f"case_{number}.nii.gz").get_fdata(dtype=np.float32))[None, None]
            for kind in ("images", "labels")
        )
        with torch.no_grad():
            pred = sliding_window_inference(image, ROI, 1, network, overlap=0.25).argmax(1)
        masks = [torch.nn.functional.one_hot(one.long(), 3).movedim(-1, 1) for one in (pred, label[:, 0])]
        rows.append(compute_dice(*masks)[0, 1:].mean())
    return torch.stack(rows).mean().item()


@quiet
@pytest.mark.parametrize("form", [scripted, frozen, exported, of_a_module])
def test_wrapped_network_gives_its_own_figures_and_is_attacked(form, network, data, monkeypatch):
    monkeypatch.syspath_prepend(data)
    named = form(network, data)
    weights = data / "weights.pt"
    bundle = Wrapping(
        network=named,
        output=data / "mine",
        images=str(data / "images"),
        labels=str(data / "labels"),
        classes=CLASSES,
        weights=weights if weights.is_file() else None,
        roi_size=ROI,
        value_range=[0.0, 1.0],
        say=lambda _: None,
    ).write()
    found = {}
    for attack in ("identity", "pgd"):
        run = BundleRun(bundle=bundle, overlays=["evaluate", f"attacks/{attack}"], overrides={"attack_steps": 2})
        found[attack] = run.run("validate#evaluator").metrics["val_mean_dice"]
    assert found["identity"] == pytest.approx(own_dice(network, data), abs=1e-4)
    assert found["pgd"] < found["identity"]


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"network": "model"}, "network must be a file that ends with .ts, .pt, .pt2, or package.module:function, got"),
        ({"network": "my_networks:nothing"}, "network must be a torch module, got int from 'my_networks:nothing'"),
        ({"network": "none.ts"}, "network must be a file, got 'none.ts'"),
        ({"labels": "shifted"}, "images and labels must have the same numbers in their names, got .*case_1.*case_2"),
        ({"images": "nowhere"}, "images and labels must be as many files, one at least, got 0 of 'nowhere' and 2 of"),
        ({"classes": CLASSES[:2]}, "classes must be the 3 different names of the channels of the network"),
    ],
    ids=["no network", "no module", "no file", "other labels", "no images", "classes"],
)
def test_what_cannot_be_wrapped_is_refused_in_a_sentence(changes, sentence, network, data, monkeypatch):
    monkeypatch.syspath_prepend(data)
    monkeypatch.chdir(data)
    of_a_module(network, data)
    (data / "shifted").mkdir()
    for number in (0, 2):
        (data / "shifted" / f"case_{number}.nii.gz").touch()
    given = {"network": "my_networks:build", "images": "images", "labels": "labels", "classes": CLASSES}
    with pytest.raises(ValueError, match=sentence):
        Wrapping(**{**given, **changes}, output=data / "mine", roi_size=ROI).write()
    assert not (data / "mine").exists()


def test_file_that_is_no_network_is_refused(tmp_path):
    for name, kind in (("a.ts", "torch.jit.save"), ("a.pt2", "torch.export.save")):
        (tmp_path / name).write_bytes(b"nothing")
        with pytest.raises(ValueError, match=f"network must be a file of {kind}, got "):
            load_network(tmp_path / name)
    with pytest.raises(ValueError, match="network must be a file, got"):
        load_network(tmp_path / "b.ts")


@quiet
def test_command_wraps_what_every_command_takes(network, data, monkeypatch, capsys):
    def run(*words):
        monkeypatch.setattr(sys, "argv", ["vafa-monai", *map(str, words)])
        main()

    monkeypatch.chdir(data)
    scripted(network, data)
    words = ["--images", "images", "--labels", "labels", "--classes", ",".join(CLASSES), "--roi_size", "16,16,16"]
    run("wrap", "net.ts", "mine", *words, "--value_range", "0,1")
    assert "bundle: " in capsys.readouterr().out
    run("evaluate", "mine", "--attack", "pgd", "--attack_steps", 1)
    assert json.loads((data / "mine" / "eval" / "results" / "model" / "pgd.json").read_text())["cases"]
    with pytest.raises(SystemExit) as ended:
        run("wrap", "net.ts", "other", *words[:-1], "16,16")
    assert str(ended.value).startswith("error: roi_size must be three whole numbers")
