"""Checkpoints are data: what trainers keep is read, what would run is refused by name, and did not run."""

from __future__ import annotations

import os
import pickle
import zipfile
from collections import Counter, OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from vafa_monai.data import checkpoint, read_checkpoint

WEIGHTS = OrderedDict(weight=torch.arange(6.0).reshape(2, 3), steps=torch.tensor(7), half=torch.ones(2).half())

zip_and_legacy = pytest.mark.parametrize("zipped", [True, False], ids=["zip format", "format before torch 1.6"])


def trained() -> dict[str, Any]:
    """What nnU-Net's first version keeps of a training."""
    layer = nn.Linear(2, 2)
    optimizer = torch.optim.SGD(layer.parameters(), lr=0.01, momentum=0.99, nesterov=True)
    layer(torch.ones(1, 2)).sum().backward()
    optimizer.step()
    scheduler = torch.optim.lr_scheduler.MultiStepLR(optimizer, [5, 9])
    return {
        "epoch": 1000,
        "state_dict": WEIGHTS,
        "optimizer_state_dict": optimizer.state_dict(),
        "lr_scheduler_state_dict": scheduler.state_dict(),
        "plot_stuff": ([np.float32(0.5), 1.5], [np.mean([1, 2])], [], [np.float64(0.25), np.int64(3), np.bool_(True)]),
        "best_stuff": (None, np.float64(-0.1), np.float16(0.5)),
        "amp_grad_scaler": {"scale": 65536.0, "_growth_tracker": 12},
    }


@pytest.fixture
def save(tmp_path: Path) -> Callable[..., Path]:
    def write(content: object, zipped: bool = True) -> Path:
        torch.save(content, tmp_path / "a.model", _use_new_zipfile_serialization=zipped)
        return tmp_path / "a.model"

    return write


# What is read


@zip_and_legacy
@pytest.mark.parametrize("kind", [str, Path], ids=["str", "Path"])
def test_record_of_a_training_is_read(save, zipped, kind):
    content = trained()
    found = read_checkpoint(kind(save(content, zipped)))
    assert found.keys() == content.keys()
    torch.testing.assert_close(found["state_dict"], content["state_dict"], rtol=0, atol=0)
    assert found["plot_stuff"] == content["plot_stuff"]
    assert [type(value) for value in found["plot_stuff"][3]] == [np.float64, np.int64, np.bool_]
    assert found["best_stuff"] == content["best_stuff"]
    assert found["lr_scheduler_state_dict"]["milestones"] == Counter([5, 9])
    buffers = found["optimizer_state_dict"]["state"][0]
    torch.testing.assert_close(buffers, content["optimizer_state_dict"]["state"][0])


@zip_and_legacy
def test_parameters_and_shared_storages_are_read(save, zipped):
    weight = nn.Parameter(torch.ones(3))
    found = read_checkpoint(save({"a": weight, "b": weight, "row": torch.eye(3)[1]}, zipped))
    assert isinstance(found["a"], nn.Parameter)
    assert found["a"].data_ptr() == found["b"].data_ptr()
    assert found["row"].tolist() == [0, 1, 0]


def test_scalar_that_numpy_1_wrote_is_read(tmp_path, save):
    path = save({"loss": np.float64(0.5)})
    with zipfile.ZipFile(path) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    old = tmp_path / "old.model"
    with zipfile.ZipFile(old, "w") as archive:
        for name, content in members.items():
            archive.writestr(name, content.replace(b"numpy._core.multiarray", b"numpy.core.multiarray"))
    assert read_checkpoint(old) == {"loss": 0.5}
    assert b"numpy.core.multiarray" in old.read_bytes()


def test_allow_list_holds_for_this_call_only(save):
    path = save({"loss": np.float64(0.5)})
    before = set(torch.serialization.get_safe_globals())
    read_checkpoint(path)
    assert set(torch.serialization.get_safe_globals()) == before
    with pytest.raises(pickle.UnpicklingError, match="scalar"):
        torch.load(path, weights_only=True)


def test_what_the_user_allowed_stays_allowed(save):
    with torch.serialization.safe_globals([np.dtype]):
        read_checkpoint(save({"loss": np.float64(0.5)}))
        assert np.dtype in torch.serialization.get_safe_globals()


# What would run


class Call:
    """A pickle that calls a function when it is loaded."""

    def __init__(self, function: Callable, *arguments: object) -> None:
        self.function, self.arguments = function, arguments

    def __reduce__(self) -> tuple:
        return self.function, self.arguments


PAYLOADS = {
    "posix.system": lambda proof: Call(os.system, f"touch '{proof}'"),
    "builtins.eval": lambda proof: Call(eval, f"open({str(proof)!r}, 'w').close()"),
    "builtins.exec": lambda proof: Call(exec, f"open({str(proof)!r}, 'w').close()"),
    "numpy.save": lambda proof: Call(np.save, str(proof), 0),
}
every_payload = pytest.mark.parametrize("name", PAYLOADS)


def refuse(path: Path, name: str, proof: Path) -> None:
    """Expect the refusal by name, and no trace of the payload."""
    with pytest.raises(ValueError, match=rf"data only, got '.*', which asks for {name}; nothing of it ran\.$"):
        read_checkpoint(path)
    assert not proof.exists()


@every_payload
@zip_and_legacy
def test_payload_of_a_checkpoint_is_refused_by_name_and_does_not_run(save, tmp_path, name, zipped):
    proof = tmp_path / "proof.npy"
    path = save({"state_dict": WEIGHTS, "plot_stuff": PAYLOADS[name](proof)}, zipped)
    refuse(path, name, proof)
    torch.load(path, weights_only=False)  # the payload works
    assert proof.exists()


@every_payload
@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_payload_of_a_plain_pickle_is_refused_by_name_and_does_not_run(tmp_path, name, protocol):
    path, proof = tmp_path / "a.pkl", tmp_path / "proof.npy"
    path.write_bytes(pickle.dumps({"first": "text", "payload": PAYLOADS[name](proof)}, protocol))
    refuse(path, name, proof)
    pickle.loads(path.read_bytes())  # the payload works
    assert proof.exists()


def test_payload_behind_the_content_of_a_file_before_torch_1_6_is_found(save, tmp_path):
    proof = tmp_path / "proof"
    path = save({}, zipped=False)
    whole = path.read_bytes()
    keys = pickle.dumps([], 2)
    assert whole.endswith(keys)
    path.write_bytes(whole.removesuffix(keys) + pickle.dumps([PAYLOADS["builtins.exec"](proof)], 2))
    refuse(path, "builtins.exec", proof)
    with pytest.raises(AssertionError, match="storage key None"):
        torch.load(path, weights_only=False)
    assert proof.exists()


@zip_and_legacy
def test_payload_that_the_search_overlooked_does_not_run_either(save, tmp_path, monkeypatch, zipped):
    monkeypatch.setattr(checkpoint, "_require_data", lambda path: None)
    proof = tmp_path / "proof"
    path = save(PAYLOADS["builtins.exec"](proof), zipped)
    with pytest.raises(ValueError, match="whose pickle is not of the kind"):
        read_checkpoint(path)
    assert not proof.exists()


def test_every_global_is_named(save):
    content = [Call(os.getpid), Call(eval, "1"), Call(eval, "2")]
    with pytest.raises(ValueError, match=r"which asks for builtins\.eval and posix\.getpid; nothing of it ran"):
        read_checkpoint(save(content))


@pytest.mark.parametrize(
    ("content", "name"),
    [
        (np.zeros(3), r"numpy\._core\.multiarray\._reconstruct and numpy\.ndarray"),
        (nn.Linear(1, 1), r"builtins\.set and torch\.nn\.modules\.linear\.Linear"),
        (Path("a"), r"pathlib\..*PosixPath"),
    ],
    ids=["array", "network", "path"],
)
def test_harmless_objects_are_refused_by_name_too(save, content, name):
    with pytest.raises(ValueError, match=rf"checkpoint must be data only, got .*, which asks for .*{name}; nothing"):
        read_checkpoint(save({"state_dict": WEIGHTS, "more": content}))


def test_tensors_that_unpickle_by_a_second_load_are_refused_by_name(tmp_path):
    path = tmp_path / "a.pkl"
    path.write_bytes(pickle.dumps({"weight": torch.ones(2)}))
    with pytest.raises(ValueError, match=r"which asks for torch\.storage\._load_from_bytes; nothing of it ran"):
        read_checkpoint(path)


# What is no checkpoint


def test_missing_file_is_refused(tmp_path):
    with pytest.raises(ValueError, match=r"^checkpoint must be a file, got '.*absent\.pt'\.$"):
        read_checkpoint(tmp_path / "absent.pt")
    with pytest.raises(ValueError, match=r"^checkpoint must be a file, got"):
        read_checkpoint(tmp_path)


@zip_and_legacy
@pytest.mark.parametrize("share", [0.02, 0.1, 0.3, 0.5, 0.7, 0.9, 0.999])
def test_cut_off_file_is_refused(save, zipped, share):
    path = save(trained(), zipped)
    whole = path.read_bytes()
    path.write_bytes(whole[: int(share * len(whole))])
    with pytest.raises(
        ValueError, match=r"must be a whole file of torch\.save, got '.*', which is cut off or damaged \("
    ):
        read_checkpoint(path)


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "which is empty"),
        (b"no checkpoint", "which begins with b'no checkpoint'"),
        (b"\x1f\x8b\x08\x00", r"which begins with b'\\x1f"),
        (pickle.dumps({"a": 1.5}), r"which begins with b'\\x80"),
    ],
    ids=["empty", "text", "gzip", "pickle without globals"],
)
def test_another_kind_of_file_is_refused(tmp_path, content, reason):
    path = tmp_path / "a.pt"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=rf"^checkpoint must be a whole file of torch\.save, got '.*a\.pt', {reason}"):
        read_checkpoint(path)


def test_archive_of_something_else_is_refused(tmp_path):
    path = tmp_path / "a.zip"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("a.txt", "text")
    with pytest.raises(ValueError, match=r"which is an archive without a pickle\.$"):
        read_checkpoint(path)


def test_torchscript_is_refused_with_advice(tmp_path):
    path = tmp_path / "a.ts"
    with zipfile.ZipFile(path, "w") as archive:  # the members of such an archive
        for name in ("data.pkl", "constants.pkl"):
            archive.writestr(f"a/{name}", pickle.dumps((), 2))
    with pytest.raises(ValueError, match=r"which is a TorchScript archive; save its state_dict\(\) instead\.$"):
        read_checkpoint(path)


def test_pickle_protocol_that_torch_does_not_read_as_data_is_refused_without_bad_advice(tmp_path):
    path = tmp_path / "a.pt"
    torch.save({"weight": 1.5}, path, pickle_protocol=4)
    with pytest.raises(ValueError, match=r"whose pickle is not of the kind that torch\.save writes for data") as caught:
        read_checkpoint(path)
    assert "weights_only" not in str(caught.value)


# What is damaged or grows


@pytest.mark.parametrize("share", [0.05, 0.3, 0.5, 0.7])
def test_one_flipped_bit_is_refused(save, share):
    path = save({"state_dict": {"weight": torch.rand(20_000)}, "epoch": 3})
    content = bytearray(path.read_bytes())
    content[int(share * len(content))] ^= 1
    path.write_bytes(bytes(content))
    with pytest.raises(ValueError, match=r"which is damaged: 'a\w*/data/0' differs from its checksum"):
        read_checkpoint(path)


def packed(path: Path, large: int) -> Path:
    """Rewrite a checkpoint so that its parts are compressed, and add one of ``large`` zeros."""
    with zipfile.ZipFile(path) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members.items():
            archive.writestr(name, content)
        if large:
            with archive.open(f"{next(iter(members)).partition('/')[0]}/data/9", "w") as member:
                for _ in range(large // 10**6):
                    member.write(bytes(10**6))
    return path


def test_archive_that_grows_beyond_the_limit_is_refused_unread(save, monkeypatch):
    path = packed(save({"weight": torch.ones(2)}), 50 * 10**6)
    assert read_checkpoint(path)["weight"].tolist() == [1, 1]
    monkeypatch.setenv("VAFA_MONAI_LARGEST_GB", "0.04")
    with pytest.raises(ValueError, match=r"which needs 0\.05 GB in memory, more than 0\.04; set VAFA_MONAI_LARGEST_GB"):
        read_checkpoint(path)


def test_file_that_is_as_large_itself_is_read_whatever_the_limit(save, monkeypatch):
    monkeypatch.setenv("VAFA_MONAI_LARGEST_GB", "1e-6")
    assert len(read_checkpoint(save({"weight": torch.ones(10_000)}))["weight"]) == 10_000


@pytest.mark.parametrize("value", ["0", "-1", "nan", "inf", "much"])
def test_limit_that_is_no_number_is_refused(save, monkeypatch, value):
    monkeypatch.setenv("VAFA_MONAI_LARGEST_GB", value)
    with pytest.raises(ValueError, match=f"VAFA_MONAI_LARGEST_GB must be a number of GB above 0, got '{value}'"):
        read_checkpoint(save({"weight": torch.ones(1)}))


@pytest.mark.parametrize(
    ("start", "kind"),
    [
        (b'\x10\0\0\0\0\0\0\0{"a":{"dtype":', "looks like safetensors"),
        (b"\x1f\x8b\x08\x08", "begins with"),
        (b"\x93NUMPY\x01\x00", "looks like a numpy array"),
    ],
    ids=["safetensors", "gzip of a pickle", "npy"],
)
def test_weights_of_other_formats_are_refused(tmp_path, start, kind):
    (tmp_path / "a.pt").write_bytes(start)
    with pytest.raises(ValueError, match=f"checkpoint must be a whole file of torch.save, got .*, which {kind}"):
        read_checkpoint(tmp_path / "a.pt")


def test_arrays_of_objects_are_refused(tmp_path):
    np.savez(tmp_path / "a.npz", a=np.array([Call(os.getpid)], dtype=object))
    with pytest.raises(ValueError, match="which is an archive without a pickle"):
        read_checkpoint(tmp_path / "a.npz")
