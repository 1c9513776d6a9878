"""Files by their content: a pickle is found whatever its name and wherever it hides, and what is none is let in."""

from __future__ import annotations

import bz2
import gzip
import io
import json
import lzma
import os
import pickle
import tarfile
import zipfile
import zlib

import numpy as np
import pytest
import torch

from vafa_monai.sharing.file_content import require_data

TRAP = "touch executed"


class Payload:
    """What a malicious pickle would do when it is loaded."""

    def __reduce__(self):
        return (os.system, (TRAP,))


class Built(Payload):
    """The same by ``__setstate__``, in the oldest protocols by ``copyreg``."""

    def __reduce__(self):
        return (object, (), {"a": 1})


def of(write, *values, **options):
    """The bytes that a function writes to a file."""
    file = io.BytesIO()
    write(*(file if value is ... else value for value in values), **options)
    return file.getvalue()


def tar(content):
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w") as archive:
        entry = tarfile.TarInfo("inside")
        entry.size = len(content)
        archive.addfile(entry, io.BytesIO(content))
    return file.getvalue()


def zipped(content, name="inside"):
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr(name, content)
    return file.getvalue()


def safetensors(size, rest=4):
    header = json.dumps({"a": {"dtype": "F32", "shape": [1], "data_offsets": [0, size]}}).encode()
    return len(header).to_bytes(8, "little") + header + bytes(rest)


RAW = pickle.dumps(Payload(), 0)
SAVED = of(torch.save, Payload(), ...)
LEGACY = of(torch.save, Payload(), ..., _use_new_zipfile_serialization=False)
OBJECTS = of(np.save, ..., np.array([Payload()], dtype=object))
HOSTILE = {
    **{f"docs/protocol_{number}.dat": pickle.dumps(Payload(), number) for number in range(6)},
    "docs/built.dat": pickle.dumps(Built(), 1),
    "docs/then_garbage.txt": RAW[:-1] + b"garbage",
    "docs/global_alone.md": b"cos\nsystem\n(S'touch executed'\ntR",
    "docs/instance.md": b"(S'touch executed'\nios\nsystem\n.",
    "models/model.PT": SAVED,
    "models/model.pth.tar": SAVED,
    "models/model.Pth.Tar": LEGACY,
    "models/model.onnx": SAVED,
    "models/model.dat": LEGACY,
    "models/model.ts": SAVED,
    "models/model.zip": SAVED,
    "models/model.safetensors": SAVED,
    "models/cut.safetensors": safetensors(4, rest=3),
    "models/text.safetensors": b"not at all",
    "docs/a.pkl.gz": gzip.compress(RAW),
    "docs/a.gz": gzip.compress(tar(zipped(RAW))),
    "docs/a.csv": bz2.compress(RAW),
    "docs/a.xz": lzma.compress(RAW),
    "docs/a.lzma": lzma.compress(RAW, format=lzma.FORMAT_ALONE),
    "docs/a.joblib": zlib.compress(RAW),
    "docs/cut.gz": gzip.compress(RAW * 50)[:-9],
    "docs/a.tar": tar(RAW),
    "docs/a.tgz": gzip.compress(tar(SAVED)),
    "docs/a.npy": OBJECTS,
    "docs/a.npz": of(np.savez, ..., a=np.array([Payload()], dtype=object)),
    "docs/other_name": zipped(OBJECTS),
    "docs/behind_a_start.zip": b"a start" + zipped(RAW),
    "docs/a.zst": b"\x28\xb5\x2f\xfd rest",
    "docs/a.txt": b"\x04\x22\x4d\x18 rest",
    "docs/many.gz": gzip.compress(gzip.compress(gzip.compress(gzip.compress(gzip.compress(b"a"))))),
    "models/none.pt": b"no weights",
}


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_content_is_refused_and_not_executed(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "file").write_bytes(HOSTILE[name])
    with pytest.raises(ValueError, match=r"bundle must hold|checkpoint must be"):
        require_data(name, tmp_path / "file")
    assert not (tmp_path / "executed").exists()


GOOD = {
    "models/model.PT": of(torch.save, {"a": torch.ones(2)}, ...),
    "models/model.pth.tar": of(torch.save, {"a": torch.ones(2)}, ..., _use_new_zipfile_serialization=False),
    "models/weights": of(torch.save, {"a": torch.ones(2)}, ...),
    "models/a.safetensors": safetensors(4),
    "docs/a.npz": of(np.savez_compressed, ..., a=np.ones(3), b=np.array(["text"])),
    "docs/a.npy": of(np.save, ..., np.ones((2, 3), np.uint8)),
    "docs/a.gz": gzip.compress(b"text"),
    "docs/a.zip": zipped(b"text"),
    "docs/classes.txt": b"cerebellum\nbrainstem\n(thalamus)\n",
    "docs/words.txt": b"cat\ndog\nobjects, and more\n",
    "docs/README.md": b"(c) them\n",
    "docs/empty": b"",
    "docs/bytes": bytes(range(256)),
    "docs/a.png": b"\x89PNG\r\n\x1a\n",
}


@pytest.mark.parametrize("name", GOOD)
def test_content_that_is_data_is_let_in(name, tmp_path):
    (tmp_path / "file").write_bytes(GOOD[name])
    require_data(name, tmp_path / "file")


@pytest.mark.parametrize("pack", [gzip.compress, bz2.compress, lzma.compress, zlib.compress, zipped])
def test_what_is_unpacked_to_be_seen_has_a_limit_that_is_exact(pack, tmp_path):
    (tmp_path / "file").write_bytes(pack(bytes(1000)))
    require_data("a.bin.x", tmp_path / "file", most_bytes=1000)
    with pytest.raises(ValueError, match="must become at most 999 bytes, got"):
        require_data("a.bin.x", tmp_path / "file", most_bytes=999)
