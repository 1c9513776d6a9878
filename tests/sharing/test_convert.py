"""Published checkpoints become state dicts that a network loads, whole or not at all, with a note of what was done."""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from monai.networks.nets import UNETR
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel

from vafa_monai.data import check_checkpoint
from vafa_monai.networks import UNETRPP, load_official_unetrpp
from vafa_monai.results.document import parse
from vafa_monai.results.record import WeightsOrigin
from vafa_monai.runs import shipped_bundle
from vafa_monai.sharing import build_bundle_network, convert_checkpoint

SIZE = (32, 16, 16)
SHORTCUTS = {f"encoder{name}.1.conv3.conv.weight" for name in ("2.blocks.0", "2.blocks.1", "3.blocks.0")}
ADDED = {f"vit.blocks.{block}.norm_cross_attn.{kind}" for block in range(12) for kind in ("weight", "bias")}


def unetr(seed: int = 0, classes: int = 3) -> UNETR:
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        settings = {"feature_size": 4, "hidden_size": 24, "mlp_dim": 48, "num_heads": 2, "proj_type": "perceptron"}
        return UNETR(1, classes, SIZE, **settings).eval()


def unetrpp(seed: int = 0, **settings) -> UNETRPP:
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return UNETRPP(
            1, 3, SIZE, stem_stride=(2, 2, 1), dims=(4, 4, 8, 8), depths=(1,) * 4, feature_size=4, **settings
        )


def as_monai_0_7(network: UNETR) -> dict[str, Tensor]:
    """The state dict that the network of MONAI 0.7 with these weights has."""
    weights = {name: tensor for name, tensor in network.state_dict().items() if "norm_cross_attn" not in name}
    weights["vit.patch_embedding.cls_token"] = torch.ones(1, 1, 24)
    widths = {name: 8 if "encoder2" in name else 16 for name in SHORTCUTS}
    return weights | {name: torch.ones(width, width, 1, 1, 1) for name, width in widths.items()}


def as_nnunet(weights: dict[str, Tensor]) -> dict[str, Any]:
    """What nnU-Net's first version saves of a training."""
    losses = [float(value) for value in np.linspace(1, 0, 5)], [np.float32(0.5)] * 5, [], [np.float64(0.7)] * 5
    best = (3, np.float64(-0.5), np.float64(0.7))
    record = {"epoch": 5, "optimizer_state_dict": None, "lr_scheduler_state_dict": None}
    return {
        "state_dict": weights,
        **record,
        "plot_stuff": losses,
        "best_stuff": best,
        "amp_grad_scaler": {"scale": 2.0},
    }


def prefixed(weights: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {prefix + name: tensor for name, tensor in weights.items()}


@pytest.fixture
def save(tmp_path: Path) -> Callable[..., Path]:
    def write(content: object, zipped: bool = True) -> Path:
        torch.save(content, tmp_path / "source.model", _use_new_zipfile_serialization=zipped)
        return tmp_path / "source.model"

    return write


@pytest.fixture
def output(tmp_path: Path) -> Path:
    return tmp_path / "models" / "model.pt"


def read_note(output: Path) -> dict[str, Any]:
    found = json.loads(output.with_name("model.pt.json").read_text(encoding="utf-8"))
    parse(WeightsOrigin, found, "model.pt.json")
    return found


# Conversions


@pytest.mark.parametrize("zipped", [True, False], ids=["zip format", "format before torch 1.6"])
@pytest.mark.parametrize("prefix", ["", "module."], ids=["one GPU", "several GPUs"])
@torch.no_grad()
def test_unetr_of_monai_0_7_gives_the_same_logits(save, output, zipped, prefix):
    published, network = unetr(), unetr(seed=1)
    content = {"state_dict": prefixed(as_monai_0_7(published), prefix), "epoch": 5, "best_acc": np.float32(0.5)}
    done = convert_checkpoint(save(content, zipped), output, network=network)
    network.load_state_dict(torch.load(done.output, weights_only=True))
    volume = torch.rand(1, 1, *SIZE, generator=torch.Generator().manual_seed(0))
    assert torch.equal(network(volume), published(volume))

    note = read_note(output)
    assert note["recognized"] == {"form": "unetr_old", "description": "UNETR of an older MONAI"}
    assert set(note["dropped"]) == {prefix + name for name in (*SHORTCUTS, "vit.patch_embedding.cls_token")}
    assert set(note["added"]) == ADDED
    kept = published.state_dict().keys() - ADDED
    assert note["renamed"] == ({prefix + name: name for name in kept} if prefix else {})


@pytest.mark.parametrize("zipped", [True, False], ids=["zip format", "format before torch 1.6"])
@torch.no_grad()
def test_unetrpp_of_nnunet_gives_the_same_logits_in_the_axis_order_of_monai(save, output, zipped):
    published = unetrpp(axes="xyz").eval()
    weights = prefixed(published.state_dict(), "module.")
    network = unetrpp(seed=1, axes="xyz").eval()
    convert_checkpoint(save(as_nnunet(weights), zipped), output, network=network)
    network.load_state_dict(torch.load(output, weights_only=True))
    volume = torch.rand(1, 1, *SIZE, generator=torch.Generator().manual_seed(0))
    assert torch.equal(network(volume), published(volume))
    assert read_note(output)["renamed"] == {name: name.removeprefix("module.") for name in weights}


def test_published_unetrpp_is_what_its_own_import_makes_of_it_and_says_what_it_expects(save, output, caplog):
    with torch.device("meta"):
        network = UNETRPP.preset("synapse", axes="xyz")
    values = {  # one value a tensor, so that the source is small; shared projections have one name with another
        name: torch.tensor(float(len(name))).to(tensor.dtype).expand(tensor.shape)
        for name, tensor in network.state_dict().items()
    }
    with caplog.at_level(logging.INFO, logger="vafa_monai.sharing.convert"):
        done = convert_checkpoint(save(as_nnunet(values)), output, network=network)
    expected = load_official_unetrpp(values, axes="xyz").state_dict()
    found = torch.load(output, weights_only=True, mmap=True)
    assert found.keys() == expected.keys()
    assert all(torch.equal(found[name], expected[name]) for name in expected)
    output.unlink()  # 172 MB

    note = read_note(output)
    assert note["recognized"]["form"] == "unetrpp_synapse"
    assert note["expects"]["input"] == done.expects
    assert note["expects"]["classes"][5:] == ["liver", "stomach", "aorta", "pancreas"]
    warned = [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING]
    assert warned == [f"input that the weights expect: {done.expects}"]
    assert "z-scored by nnU-Net, not scaled to [0, 1]" in done.expects
    assert "the output channels are background, spleen" in caplog.text


@pytest.mark.parametrize("wrap", [dict, lambda weights: {"model": weights, "epoch": 1}], ids=["bare", "under model"])
@pytest.mark.parametrize(
    ("network", "form"),
    [(unetr(), "unetr"), (unetrpp(), "unetrpp"), (nn.Sequential(nn.Conv3d(1, 2, 3), nn.BatchNorm3d(2)), "other")],
    ids=["UNETR", "UNETR++", "any network"],
)
def test_weights_that_fit_already_are_written_as_they_are(save, output, network, form, wrap):
    convert_checkpoint(save(wrap(network.state_dict())), output, network=network)
    torch.testing.assert_close(torch.load(output, weights_only=True), dict(network.state_dict()), rtol=0, atol=0)
    note = read_note(output)
    assert note["recognized"]["form"] == form
    assert (note["dropped"], note["added"], note["renamed"]) == ([], [], {})
    assert note["expects"] == {
        "input": "what the weights were trained on; the file does not record it",
        "classes": None,
    }


# What is written


def test_result_is_accepted_by_the_check_of_checkpoints_and_the_network_is_left_as_it_was(save, output):
    network = unetr(seed=1)
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    done = convert_checkpoint(str(save(as_monai_0_7(unetr()))), str(output), network=network)
    assert (done.output, done.sidecar, done.recognized) == (
        output,
        output.with_name("model.pt.json"),
        "UNETR of an older MONAI",
    )
    check_checkpoint(output, network)
    torch.testing.assert_close(dict(network.state_dict()), before, rtol=0, atol=0)
    assert sorted(path.name for path in output.parent.iterdir()) == ["model.pt", "model.pt.json"]


def test_note_holds_both_hashes_and_versions(save, output):
    source = save(as_monai_0_7(unetr()))
    convert_checkpoint(source, output, network=unetr())
    note = read_note(output)
    assert note["source"] == {"file": "source.model", "sha256": hashlib.sha256(source.read_bytes()).hexdigest()}
    assert note["result"] == {"file": "model.pt", "sha256": hashlib.sha256(output.read_bytes()).hexdigest()}
    assert note["versions"]["torch"] == version("torch")
    assert {"vafa_monai", "monai", "numpy", "python"} <= note["versions"].keys()


def test_second_conversion_gives_the_same_bytes(save, tmp_path):
    source = save(as_monai_0_7(unetr()))
    files = [convert_checkpoint(source, tmp_path / name, network=unetr()).output for name in ("a.pt", "b.pt")]
    assert files[0].read_bytes() == files[1].read_bytes()


def test_weights_take_the_type_of_the_network_and_no_more_room_than_they_need(save, output):
    network = nn.Linear(8, 8, bias=False)
    wide = torch.arange(80_000.0).reshape(10_000, 8)
    convert_checkpoint(save({"weight": wide[:8].double()}), output, network=network)
    assert torch.load(output, weights_only=True)["weight"].dtype == torch.float32
    convert_checkpoint(save({"weight": wide[:8]}), output, network=network, overwrite=True)
    assert torch.equal(torch.load(output, weights_only=True)["weight"], wide[:8])
    assert output.stat().st_size < 5_000 < wide.nbytes


def test_shared_weights_stay_shared(save, output):
    network = nn.ModuleList([nn.Linear(64, 64, bias=False)] * 2)
    convert_checkpoint(save(network.state_dict()), output, network=network)
    found = torch.load(output, weights_only=True)
    assert found["0.weight"].data_ptr() == found["1.weight"].data_ptr()


# What is refused


def test_existing_file_is_not_overwritten_unless_asked(save, output):
    source = save(as_monai_0_7(unetr()))
    output.parent.mkdir()
    output.write_text("mine")
    with pytest.raises(
        ValueError, match=r"output must be a new file unless overwrite is set, got '.*model\.pt', which"
    ):
        convert_checkpoint(source, output, network=unetr())
    assert [path.read_text() for path in output.parent.iterdir()] == ["mine"]
    convert_checkpoint(source, output, network=unetr(), overwrite=True)
    check_checkpoint(output, unetr())


def test_existing_sidecar_is_not_overwritten_unless_asked(save, output):
    output.parent.mkdir()
    output.with_name("model.pt.json").write_text("mine")
    with pytest.raises(ValueError, match=r"unless overwrite is set, got '.*model\.pt\.json', which exists\."):
        convert_checkpoint(save(as_monai_0_7(unetr())), output, network=unetr())
    assert not output.exists()


def test_source_and_folder_are_never_written_to(save, tmp_path):
    source = save(unetr().state_dict())
    before = source.read_bytes()
    with pytest.raises(ValueError, match=r"output must be another file than the source, got '.*source\.model'\."):
        convert_checkpoint(source, source, network=unetr(), overwrite=True)
    assert source.read_bytes() == before
    with pytest.raises(ValueError, match="output must be a file, got the folder"):
        convert_checkpoint(source, tmp_path, network=unetr(), overwrite=True)


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (
            as_monai_0_7(unetr(classes=14)),
            (
                r"this UNETR, got '.*' \(UNETR of an older MONAI\), in which 2 tensors differ, first "
                r"'out\.conv\.conv\.weight' with shape \(14, 4, 1, 1, 1\) where \(3, 4, 1, 1, 1\) is wanted \(2 of "
                r"another shape\); the file has 14 classes, so build the network with as many\.$"
            ),
        ),
        (
            {name: tensor for name, tensor in unetr().state_dict().items() if name != "vit.norm.bias"},
            r"\(UNETR of this MONAI\), in which 1 tensors differ, first 'vit\.norm\.bias' with shape None where",
        ),
        (
            {**unetr().state_dict(), "more": torch.ones(2)},
            r"1 tensors differ, first 'more' with shape \(2,\) where None is wanted \(1 unknown\)\.$",
        ),
        (unetrpp().state_dict(), r"\(UNETR\+\+ of an unknown training\), in which \d+ tensors differ, first 'vit\."),
        ({"0.weight": torch.ones(1)}, r"\(weights that the network takes as they are\), in which \d+ tensors differ"),
    ],
    ids=["classes", "one missing", "one too many", "UNETR++", "another network"],
)
def test_weights_of_another_network_are_refused_and_nothing_is_written(save, output, content, sentence):
    with pytest.raises(ValueError, match=rf"^source must hold the weights of .*{sentence}"):
        convert_checkpoint(save(content), output, network=unetr())
    assert not output.parent.exists()


@pytest.mark.parametrize("value", [float("nan"), float("inf")], ids=["NaN", "infinite"])
def test_weights_that_are_not_finite_are_refused(save, output, value):
    weights = as_monai_0_7(unetr())
    weights["vit.norm.bias"] = torch.full((24,), value)
    sentence = r"must hold real and finite weights, got .*, in which 1 .* first 'vit\.norm\.bias', which is not f"
    with pytest.raises(ValueError, match=sentence):
        convert_checkpoint(save(weights), output, network=unetr())
    assert not output.parent.exists()


class Payload:
    """A pickle that makes a file when it is loaded."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple:
        return exec, (f"open({str(self.path)!r}, 'w').close()",)


@pytest.mark.parametrize("zipped", [True, False], ids=["zip format", "format before torch 1.6"])
def test_payload_is_refused_by_name_and_does_not_run(save, output, tmp_path, zipped):
    proof = tmp_path / "proof"
    source = save(as_nnunet(as_monai_0_7(unetr())) | {"plot_stuff": Payload(proof)}, zipped)
    with pytest.raises(ValueError, match=r"checkpoint must be data only, got '.*', which asks for builtins\.exec;"):
        convert_checkpoint(source, output, network=unetr())
    assert not proof.exists()
    assert not output.parent.exists()
    torch.load(source, weights_only=False)  # the payload works
    assert proof.exists()


@pytest.mark.parametrize("broken", ["torch.save", "vafa_monai.sharing.convert.write_json"])
@pytest.mark.parametrize("before", [False, True], ids=["new", "replaced"])
def test_writer_that_fails_leaves_everything_as_it_was(save, output, monkeypatch, broken, before):
    source = save(as_monai_0_7(unetr()))
    if before:
        convert_checkpoint(source, output, network=unetr())
    files = {path.name: path.read_bytes() for path in output.parent.glob("*")}

    def write_half(_, file):
        if hasattr(file, "write"):
            file.write(b"half")
        raise OSError("no space left")

    monkeypatch.setattr(broken, write_half)  # of the model, or of the note once the model is written
    with pytest.raises(OSError, match="no space left"):
        convert_checkpoint(source, output, network=unetr(), overwrite=True)
    assert {path.name: path.read_bytes() for path in output.parent.glob("*")} == files


# The network of a bundle


def test_network_of_a_shipped_bundle_is_built_and_overridden():
    bundle = shipped_bundle("mni152_unetr_segmentation")
    assert build_bundle_network(bundle).state_dict()["out.conv.conv.bias"].shape == (3,)
    changed = build_bundle_network(str(bundle), {"num_classes": 5, "network_def#feature_size": 4})
    assert changed.state_dict()["out.conv.conv.weight"].shape == (5, 4, 1, 1, 1)


def test_bundle_network_takes_the_weights_of_monai_0_7(save, output):
    bundle = shipped_bundle("synapse_unetr_segmentation")
    small = {"feature_size": 4, "hidden_size": 24, "mlp_dim": 48, "num_heads": 2, "img_size": list(SIZE)}
    overrides = {"num_classes": 3} | {f"network_def#{name}": value for name, value in small.items()}
    network = build_bundle_network(bundle, overrides)
    convert_checkpoint(save(as_monai_0_7(unetr())), output, network=network)
    check_checkpoint(output, network)


def test_folder_without_an_inference_config_is_refused(tmp_path):
    with pytest.raises(ValueError, match=r"bundle must be a folder with configs/inference\.json, got"):
        build_bundle_network(tmp_path)


@pytest.mark.parametrize(
    ("config", "found"), [({}, "NoneType"), ({"network_def": [1]}, "list")], ids=["no network_def", "a list"]
)
def test_bundle_without_a_network_is_refused(tmp_path, config, found):
    (tmp_path / "configs").mkdir()
    (tmp_path / "configs" / "inference.json").write_text(json.dumps(config))
    with pytest.raises(ValueError, match=rf"network_def must be a network in '.*inference\.json', got {found}\."):
        build_bundle_network(tmp_path)


# What wrappers leave


@pytest.mark.parametrize(
    ("wrap", "entry", "told"),
    [
        (lambda weights: AveragedModel(unetr()).state_dict() | as_averaged(weights), None, "without 'n_averaged'"),
        (lambda weights: {"state_dict": as_lightning(weights)}, None, "begin with 'net.', without 'loss.weight'"),
        (
            lambda weights: {"state_dict": unetr().state_dict(), "state_dict_ema": weights},
            "state_dict_ema",
            "not those",
        ),
        (lambda weights: {"student": dict.fromkeys("ab", torch.ones(1)), "ema": weights}, None, "under 'ema', not th"),
    ],
    ids=["averaged", "Lightning", "EMA that is asked for", "EMA of another student"],
)
def test_weights_behind_wrappers_are_converted_and_where_they_were_is_told(save, output, caplog, wrap, entry, told):
    weights = {name: tensor + 0.5 for name, tensor in unetr().state_dict().items()}
    with caplog.at_level(logging.INFO, logger="vafa_monai.sharing.convert"):
        done = convert_checkpoint(save(wrap(weights)), output, network=unetr(), entry=entry)
    assert told in done.recognized
    assert told in caplog.text
    found = torch.load(output, weights_only=True)
    torch.testing.assert_close(found, weights, rtol=0, atol=0)


def as_averaged(weights):
    return {f"module.{name}": tensor for name, tensor in weights.items()}


def as_lightning(weights):
    return {f"net.{name}": tensor for name, tensor in weights.items()} | {"loss.weight": torch.ones(3)}


def test_note_names_what_was_left_behind(save, output):
    content = {"state_dict": as_lightning(unetr().state_dict()), "ema": {"a": torch.ones(1)}}
    convert_checkpoint(save(content), output, network=unetr())
    note = read_note(output)
    assert (note["entry"], note["entries not taken"], note["dropped"]) == ("state_dict", ["ema"], ["loss.weight"])
    assert note["renamed"]["net.vit.norm.bias"] == "vit.norm.bias"
