"""Of a checkpoint one dictionary of weights is taken, whatever wrapped it, and what is no weight is refused by name."""

from __future__ import annotations

import re
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import nn

from vafa_monai.data import check_checkpoint, extract_weights, read_weights
from vafa_monai.data.weights import find_weights

WEIGHTS = OrderedDict(weight=torch.arange(6.0).reshape(2, 3), steps=torch.tensor(7), half=torch.ones(2).half())


@pytest.fixture
def network() -> nn.Module:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return nn.Sequential(nn.Conv3d(1, 2, 3), nn.BatchNorm3d(2))


@pytest.fixture
def checkpoint(tmp_path: Path) -> Callable[[object], Path]:
    def save(content: object) -> Path:
        torch.save(content, tmp_path / "model.pt")
        return tmp_path / "model.pt"

    return save


@pytest.mark.parametrize("wrap", [dict, lambda weights: {"model": weights, "epoch": 3}], ids=["bare", "under model"])
@pytest.mark.parametrize("kind", [str, Path], ids=["str", "Path"])
def test_checkpoint_of_the_network_passes(network, checkpoint, wrap, kind):
    assert check_checkpoint(kind(checkpoint(wrap(network.state_dict()))), network) is None


def test_missing_checkpoint_is_refused(network, tmp_path):
    with pytest.raises(ValueError, match=r"checkpoint must be a file, got '.*model\.pt'; train the model first\."):
        check_checkpoint(tmp_path / "model.pt", network)


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (
            lambda weights: weights | {"0.weight": torch.zeros(2, 1, 3, 3, 5)},
            r"1 tensors differ, first '0\.weight' with shape \(2, 1, 3, 3, 5\) where \(2, 1, 3, 3, 3\) is wanted",
        ),
        (
            lambda weights: weights | {"2.weight": torch.zeros(4)},
            r"1 tensors differ, first '2\.weight' with shape \(4,\) where None is wanted",
        ),
        (
            lambda weights: {name: tensor for name, tensor in weights.items() if name != "1.running_mean"},
            r"1 tensors differ, first '1\.running_mean' with shape None where \(2,\) is wanted",
        ),
        (lambda weights: list(weights.values()), "checkpoint must hold one state dict, .* got a list with none"),
        (lambda weights: {}, "checkpoint must hold one state dict, .* got a dict with none"),
    ],
    ids=["another shape", "one too many", "one missing", "a list", "empty"],
)
def test_checkpoint_of_another_network_is_refused(network, checkpoint, change, sentence):
    path = checkpoint(change(dict(network.state_dict())))
    with pytest.raises(ValueError, match=rf"checkpoint must hold the weights of this Sequential, got .*{sentence}"):
        check_checkpoint(path, network)


@pytest.mark.parametrize("content", [{"model": torch.zeros(2)}, {1: torch.zeros(2)}], ids=["a tensor", "numbered"])
def test_checkpoint_without_a_state_dict_is_refused(network, checkpoint, content):
    with pytest.raises(ValueError, match="checkpoint must hold the weights of this Sequential"):
        check_checkpoint(checkpoint(content), network)


@pytest.mark.parametrize("cut", [0, 50, 500])
def test_cut_off_checkpoint_is_refused(network, checkpoint, cut):
    path = checkpoint(network.state_dict())
    path.write_bytes(path.read_bytes()[:cut])
    with pytest.raises(ValueError, match=r"checkpoint must be a whole file of torch\.save, got '.*', which is"):
        check_checkpoint(path, network)


class Payload:
    """A pickle that makes a file when it is loaded."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple:
        return Path.touch, (self.path,)


def test_payload_of_a_checkpoint_does_not_run(network, checkpoint, tmp_path):
    proof = tmp_path / "proof"
    path = checkpoint(dict(network.state_dict()) | {"more": Payload(proof)})
    with pytest.raises(ValueError, match=r"checkpoint must be data only, got '.*', which asks for .*pathlib"):
        check_checkpoint(path, network)
    assert not proof.exists()
    torch.load(path, weights_only=False)  # the payload works
    assert proof.exists()


def test_checkpoint_exit_on_error_ends_the_process_with_the_sentence(network, tmp_path):
    with pytest.raises(SystemExit, match=r"^checkpoint must be a file, got .*; train the model first\.$"):
        check_checkpoint(tmp_path / "model.pt", network, exit_on_error=True)


def test_network_is_left_as_it_was(network, checkpoint):
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    check_checkpoint(checkpoint({name: tensor + 1 for name, tensor in before.items()}), network)
    torch.testing.assert_close(network.state_dict(), before, rtol=0, atol=0)


# State dicts


@pytest.mark.parametrize(
    "checkpoint",
    [
        WEIGHTS,
        {"state_dict": WEIGHTS, "epoch": 3},
        {"model": WEIGHTS, "optimizer": {"state": {0: torch.ones(1)}, "param_groups": []}},
        {"model_state_dict": WEIGHTS},
        {"network_weights": WEIGHTS, "epoch": 3},
        {"ema": {"other": torch.ones(1)}, "model": WEIGHTS},
    ],
    ids=["bare", "state_dict", "model", "model_state_dict", "the only one", "model beside another"],
)
def test_state_dict_is_found(checkpoint):
    assert extract_weights(checkpoint) == dict(WEIGHTS)


@pytest.mark.parametrize(
    ("checkpoint", "found"),
    [
        ([1.5], "a list with none"),
        ({}, "a dict with none"),
        ({"epoch": 3, "model": torch.ones(1)}, "a dict with none; its entries are 'epoch', 'model'"),
        ({1: torch.ones(1)}, "a dict with none; its entries are '1'"),
        ({"optimizer": {"state": {0: WEIGHTS}, "param_groups": []}}, "a dict with none; its entries are 'optimizer'"),
        ({"ema": WEIGHTS, "student": WEIGHTS}, r"a dict with \['ema', 'student'\]; say which as entry"),
    ],
    ids=["list", "empty", "tensor", "numbered", "optimizer", "two"],
)
def test_checkpoint_without_one_state_dict_is_refused(checkpoint, found):
    sentence = "checkpoint must hold one state dict, a dictionary of named tensors, got"
    with pytest.raises(ValueError, match=rf"^{sentence} {found}\.$"):
        extract_weights(checkpoint)


NAMES = ("weight", "steps", "half")


def renamed(start: str, weights=WEIGHTS) -> dict[str, torch.Tensor]:
    return {start + name: tensor for name, tensor in weights.items()}


@pytest.mark.parametrize(
    ("checkpoint", "place"),
    [
        (renamed("module.") | {"n_averaged": torch.tensor(3)}, "names that begin with 'module.', without 'n_averaged'"),
        ({"state_dict": renamed("net.") | {"loss.weight": torch.ones(2)}}, "'state_dict', .*'net.', without 'loss.we"),
        ({"state_dict": renamed("student."), "epoch": 1}, "under 'state_dict', with names that begin with 'student.'"),
        (renamed("_orig_mod.module."), "names that begin with '_orig_mod.module.'"),
        (renamed("model.") | renamed("ema_model."), "begin with 'model.', without 'ema_model.weight', .*"),
        ({"state_dict": WEIGHTS, "state_dict_ema": WEIGHTS}, "under 'state_dict', not those under 'state_dict_ema'"),
        ({"model": {"x": torch.ones(1)}, "ema": renamed("module.")}, "under 'ema', not those under 'model', with"),
        ({"network_weights": WEIGHTS, "old": {"a": torch.ones(1)}}, "under 'network_weights', not those under 'old'"),
        (dict(WEIGHTS), ""),
    ],
    ids=["averaged", "Lightning", "one prefix", "compiled", "two groups", "EMA", "the fitting one", "nnU-Net", "bare"],
)
def test_weights_are_found_behind_wrappers_and_where_is_told(checkpoint, place):
    found = find_weights(checkpoint, NAMES)
    assert found.weights == dict(WEIGHTS)
    assert re.match(f".*{place}", found.place)


def test_named_entry_is_taken():
    other = {"weight": torch.zeros(2, 3)}
    checkpoint = {"state_dict": WEIGHTS, "state_dict_ema": other}
    assert extract_weights(checkpoint, "state_dict_ema") == other
    with pytest.raises(ValueError, match=r"entry must be one of \['state_dict', 'state_dict_ema'\], got 'ema'\."):
        extract_weights(checkpoint, "ema")


@pytest.mark.parametrize(
    ("weights", "found"),
    [
        (renamed("student.") | renamed("teacher."), "names that begin with 'student.', 'teacher.'"),
        (renamed("net.") | {"head.weight": torch.ones(1)}, "names that begin with 'net.' and 'head.weight' beside"),
        (renamed("model.") | {"scale": torch.ones(1)}, "names that begin with 'model.' and 'scale' beside"),
    ],
    ids=["two networks", "a layer more", "a factor"],
)
def test_more_than_one_network_is_refused(weights, found):
    with pytest.raises(ValueError, match=f"^checkpoint must hold one network, got {found}"):
        find_weights(weights, NAMES)


@pytest.mark.parametrize(
    ("wrap", "place"),
    [
        (lambda weights: {"state_dict": weights}, "under 'state_dict'"),
        (lambda weights: renamed("module.", weights) | {"n_averaged": torch.tensor(1)}, "with names .* 'module.'"),
        (lambda weights: {"model": renamed("net.", weights)}, "under 'model', with names that begin with 'net.'"),
    ],
    ids=["another entry", "averaged", "prefix"],
)
def test_check_says_what_conversion_would_do(network, checkpoint, wrap, place):
    sentence = f"bare or under 'model', got .*, which has them {place}.*; let 'vafa-monai convert' write them"
    with pytest.raises(ValueError, match=sentence):
        check_checkpoint(checkpoint(wrap(dict(network.state_dict()))), network)


@pytest.mark.parametrize(
    ("change", "hint"),
    [
        ({"0.wieght": torch.zeros(2, 1, 3, 3, 3)}, r"\(1 missing, 1 unknown\); the file has '0\.wieght'\.$"),
        ({"0.conv.weight": torch.zeros(2, 1, 3, 3, 3)}, r"the file has '0\.conv\.weight'\.$"),
        ({}, r"\(1 missing\)\.$"),
    ],
    ids=["typo", "one layer deeper", "absent"],
)
def test_missing_name_is_told_with_the_nearest_one(network, checkpoint, change, hint):
    weights = {name: tensor for name, tensor in network.state_dict().items() if name != "0.weight"}
    with pytest.raises(ValueError, match=rf"first '0\.weight' .*{hint}"):
        check_checkpoint(checkpoint(weights | change), network)


@pytest.mark.parametrize(
    ("name", "convert", "kind"),
    [
        ("0.weight", lambda tensor: tensor * float("nan"), r"not finite in torch\.float32"),
        ("1.running_var", lambda tensor: tensor / 0, r"not finite in torch\.float32"),
        ("0.bias", lambda tensor: tensor.double().fill_(1e300), r"not finite in torch\.float32"),
        ("0.weight", lambda tensor: tensor.long(), r"of type torch\.int64 where torch\.float32 is wanted"),
        ("0.weight", lambda tensor: tensor > 0, r"of type torch\.bool where torch\.float32 is wanted"),
        ("1.num_batches_tracked", lambda tensor: tensor + 0.5, r"not whole where torch\.int64 is wanted"),
        ("1.num_batches_tracked", lambda tensor: tensor * float("nan"), "not finite in"),
    ],
    ids=["NaN", "infinite variance", "too large", "whole numbers", "bool", "half a batch", "NaN batches"],
)
@pytest.mark.parametrize("under_model", [False, True], ids=["bare", "under model"])
def test_weights_that_give_nonsense_are_refused(network, checkpoint, name, convert, kind, under_model):
    weights = dict(network.state_dict())
    weights[name] = convert(weights[name])
    path = checkpoint({"model": weights} if under_model else weights)
    with pytest.raises(
        ValueError, match=rf"must hold real and finite weights, got .*, in which 1 .*{name}', which is {kind}"
    ):
        read_weights(path, network)


def test_complex_and_sparse_weights_are_refused(network, checkpoint):
    weights = dict(network.state_dict())
    for tensor in (weights["0.weight"].to(torch.complex64), weights["0.weight"].to_sparse()):
        with pytest.raises(ValueError, match=r"checkpoint must be data only, got .*, which asks for torch\."):
            check_checkpoint(checkpoint(weights | {"0.weight": tensor}), network)


@pytest.mark.parametrize("kind", [torch.float16, torch.bfloat16, torch.float64], ids=str)
def test_weights_of_another_precision_are_read(network, checkpoint, kind):
    weights = {name: tensor.to(kind) for name, tensor in network.state_dict().items()}
    network.load_state_dict(read_weights(checkpoint(weights), network))
    torch.testing.assert_close(network.state_dict()["0.weight"], weights["0.weight"].float(), rtol=0, atol=0)


def test_weights_that_the_check_reads_are_those_that_monai_loads(network, checkpoint):
    other = {name: tensor + 1 for name, tensor in network.state_dict().items()}
    path = checkpoint({"state_dict": other, "model": network.state_dict()})
    assert torch.equal(read_weights(path, network)["0.weight"], network.state_dict()["0.weight"])


def test_value_that_is_shown_a_billion_times_takes_no_memory(network, checkpoint):
    weights = network.state_dict() | {"0.weight": torch.ones(1).expand(4000, 1000, 1000)}
    with pytest.raises(ValueError, match="needs 16 GB in memory, more than 2; set VAFA_MONAI_LARGEST_GB"):
        check_checkpoint(checkpoint(weights), network)
