"""Bundles from elsewhere: what is refused, and that a good one is what was packaged."""

from __future__ import annotations

import functools
import http.server
import io
import json
import pickle
import stat
import threading
import zipfile
from pathlib import Path

import monai.bundle
import pytest
import torch

from vafa_monai.workflows import Package, fetch_bundle
from vafa_monai.workflows.archive import unpack_archive
from vafa_monai.workflows.config_code import executables
from vafa_monai.workflows.download import download
from vafa_monai.workflows.manifest import MANIFEST, build_manifest
from vafa_monai.workflows.smoke import smoke_voxels


@pytest.fixture(scope="module")
def packaged(small_bundle, tmp_path_factory):
    """A good package, only to be read."""
    return Package(bundle=small_bundle, output=tmp_path_factory.mktemp("packaged") / "bundle.zip").write()


@pytest.fixture
def unpacked(packaged, tmp_path):
    """The folder that is in it, to be broken."""
    (tmp_path / "unpacked").mkdir()
    return unpack_archive(packaged, tmp_path / "unpacked")


def zip_of(entries, path):
    """Write a zip file of names and bytes, or of ``ZipInfo`` and bytes."""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in entries:
            archive.writestr(name, content)
    return path


def test_good_package_is_fetched_and_gives_the_packaged_figures(packaged, tmp_path):
    lines = []
    folder = fetch_bundle(str(packaged), tmp_path, say=lines.append)
    smoke = json.loads((folder / MANIFEST).read_text())["smoke"]
    assert smoke_voxels(folder) == smoke["models/model.pt"]
    assert lines[0].startswith(f"verified: {folder.name} 0.1.0,")
    assert [path.name for path in tmp_path.iterdir()] == [folder.name]


def changed_byte(folder):
    path = folder / "models" / "model.pt"
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


BROKEN = {
    "changed byte": (changed_byte, r"models/model\.pt is not what was packaged"),
    "missing file": (lambda f: (f / "LICENSE").unlink(), "LICENSE is listed and missing"),
    "unlisted file": (lambda f: (f / "extra.py").write_text("print()"), r"extra\.py is not listed"),
    "missing manifest": (lambda f: (f / MANIFEST).unlink(), r"bundle must have a manifest\.json, got none"),
    "manifest of nothing": (lambda f: (f / MANIFEST).write_text("{}"), "must be of the schema"),
    "manifest that is no json": (lambda f: (f / MANIFEST).write_text("{"), r"manifest\.json must be JSON"),
    "symbolic link": (lambda f: (f / "link").symlink_to("/etc/passwd"), "got 'link', which is a link"),
}


@pytest.mark.parametrize(("spoil", "message"), BROKEN.values(), ids=BROKEN)
def test_folder_that_is_not_what_was_packaged_is_refused(spoil, message, unpacked, tmp_path):
    spoil(unpacked)
    with pytest.raises(ValueError, match=message):
        fetch_bundle(str(unpacked), tmp_path / "out")
    assert list((tmp_path / "out").iterdir()) == []


def link_entry():
    entry = zipfile.ZipInfo("bundle/link")
    entry.external_attr = (stat.S_IFLNK | 0o777) << 16
    return entry


ARCHIVES = {
    "out of the folder": ([("bundle/../../evil", b"x")], "archive must stay inside its folder"),
    "absolute": ([("/evil", b"x")], "archive must stay inside its folder"),
    "backslash": ([("bundle\\..\\evil", b"x")], "archive must stay inside its folder"),
    "link": ([(link_entry(), b"/etc/passwd")], "archive must hold files only, got 'bundle/link'"),
    "two folders": ([("one/a", b"x"), ("two/b", b"x")], "archive must hold one folder"),
    "bomb": ([("bundle/zeros", bytes(2**22))], "archive must become at most 16 bytes, got 4194304"),
}


@pytest.mark.parametrize(("entries", "message"), ARCHIVES.values(), ids=ARCHIVES)
def test_harmful_archive_is_refused_before_anything_is_written(entries, message, tmp_path):
    path = zip_of(entries, tmp_path / "bad.zip")
    most = 16 if "16 bytes" in message else 2**30
    with pytest.raises(ValueError, match=message):
        fetch_bundle(str(path), tmp_path / "out", most_bytes=most)
    assert list((tmp_path / "out").iterdir()) == []
    assert not (tmp_path / "evil").exists()


def test_bomb_is_refused_by_its_ratio(tmp_path):
    path = zip_of([("bundle/zeros", bytes(2**26))], tmp_path / "bomb.zip")
    assert path.stat().st_size < 2**26 / 1000
    with pytest.raises(ValueError, match="archive must become at most"):
        fetch_bundle(str(path), tmp_path / "out")


def test_archive_that_lies_about_its_size_is_refused(tmp_path):
    path = zip_of([("bundle/a", b"0123456789" * 100)], tmp_path / "lie.zip")
    content = path.read_bytes()
    size = (1000).to_bytes(4, "little")
    path.write_bytes(content.replace(size, (10).to_bytes(4, "little")))
    with pytest.raises(ValueError, match=r"archive must be as large as it says|must be a whole zip file"):
        fetch_bundle(str(path), tmp_path / "out")


def test_cut_off_archive_is_refused(packaged, tmp_path):
    path = tmp_path / "cut.zip"
    path.write_bytes(packaged.read_bytes()[:-100])
    with pytest.raises(ValueError, match=r"source must be a whole zip file, got 'cut\.zip'"):
        fetch_bundle(str(path), tmp_path / "out")


class Payload:
    """What a malicious pickle would do when it is loaded."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return (Path.touch, (self.path,))


@pytest.mark.parametrize("name", ["models/model.pt", "docs/weights.dat"])
def test_pickle_with_a_payload_is_refused_and_not_executed(name, unpacked, tmp_path):
    trap = tmp_path / "executed"
    content = io.BytesIO()
    (torch.save if name.endswith(".pt") else pickle.dump)(Payload(trap), content)
    (unpacked / name).write_bytes(content.getvalue())
    about = {key: value for key, value in json.loads((unpacked / MANIFEST).read_text()).items() if key != "files"}
    (unpacked / MANIFEST).write_text(json.dumps(build_manifest(unpacked, about)))  # all is as the sender says
    with pytest.raises(ValueError, match=r"checkpoint must|bundle must hold no pickles but weights"):
        fetch_bundle(str(unpacked), tmp_path / "out")
    assert not trap.exists()


def test_existing_bundle_is_not_overwritten(packaged, tmp_path):
    folder = fetch_bundle(str(packaged), tmp_path)
    (folder / "mine").write_text("mine")
    with pytest.raises(ValueError, match=f"output must not hold '{folder.name}' already"):
        fetch_bundle(str(packaged), tmp_path)
    assert (folder / "mine").read_text() == "mine"


def test_hash_of_the_zip_file_is_checked(packaged, tmp_path):
    with pytest.raises(ValueError, match=f"source must have the sha256 {'0' * 64}, got"):
        fetch_bundle(str(packaged), tmp_path, sha256="0" * 64)


@pytest.mark.parametrize("source", ["none.zip", "ftp://example.org/a.zip"])
def test_source_that_is_none_is_refused(source, tmp_path):
    with pytest.raises(ValueError, match="source must be a zip file, a folder, an address"):
        fetch_bundle(source, tmp_path)


# Over the network


class Server(http.server.SimpleHTTPRequestHandler):
    """Files of a folder, with ranges; the first answer may break off."""

    cut = 0
    ranges: tuple = ()

    def do_GET(self):
        content = Path(self.translate_path(self.path)).read_bytes()
        asked = self.headers.get("Range")
        start = int(asked.removeprefix("bytes=").removesuffix("-")) if asked else 0
        type(self).ranges = (*self.ranges, start)
        self.send_response(206 if asked else 200)
        self.send_header("Content-Length", str(len(content) - start))
        self.end_headers()
        self.wfile.write(content[start : start + type(self).cut] if type(self).cut else content[start:])
        type(self).cut = 0

    def log_message(self, *_):
        """Say nothing."""


@pytest.fixture
def served(packaged):
    """The address of the package, and the server."""
    handler = type("Handler", (Server,), {})
    server = http.server.ThreadingHTTPServer(
        ("127.0.0.1", 0), functools.partial(handler, directory=str(packaged.parent))
    )
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}/{packaged.name}", handler
    server.shutdown()


def test_served_package_is_fetched_verified_and_loaded_by_monai(served, tmp_path):
    address, _ = served
    folder = fetch_bundle(address, tmp_path)
    network = monai.bundle.load(folder.name, bundle_dir=str(tmp_path), workflow_type="inference", source="github")
    expected = torch.load(folder / "models" / "model.pt", weights_only=True)
    loaded = network.state_dict() if isinstance(network, torch.nn.Module) else network
    assert all(torch.equal(loaded[name], value) for name, value in expected.items())


def test_monai_downloads_the_package_itself(served, packaged, tmp_path):
    address, _ = served
    monai.bundle.download(name="bundle", bundle_dir=str(tmp_path), url=address, progress=False)
    assert list(tmp_path.rglob(MANIFEST))


def test_broken_download_is_refused_and_the_next_call_goes_on(served, packaged, tmp_path):
    address, handler = served
    handler.cut = 1000
    with pytest.raises(ValueError, match=r"download must be of \d+ bytes, got 1000 of .*; the next call goes on"):
        fetch_bundle(address, tmp_path)
    folder = fetch_bundle(address, tmp_path)
    assert folder.is_dir()
    assert handler.ranges == (0, 1000)
    assert [path.name for path in tmp_path.iterdir()] == [folder.name]


def test_download_of_what_is_not_there_is_refused(tmp_path):
    with pytest.raises(ValueError, match="source must be reachable"):
        download("http://127.0.0.1:9/none.zip", tmp_path / "a.zip")
    with pytest.raises(ValueError, match="source must be an address of http, https or file"):
        download("ftp://127.0.0.1/none.zip", tmp_path / "a.zip")


# What the configs would execute


def test_code_in_configs_is_listed_and_not_executed(tmp_path):
    (tmp_path / "configs").mkdir()
    trap = tmp_path / "executed"
    content = {
        "imports": ["$import os"],
        "run": [f"$open({str(trap)!r}, 'w')"],
        "network": {"_target_": "monai.networks.nets.UNet"},
        "evil": {"_target_": "os.system", "command": "true"},
    }
    (tmp_path / "configs" / "train.json").write_text(json.dumps(content))
    (tmp_path / "script.py").write_text("")
    found = [(one.id, one.kind) for one in executables(tmp_path)]
    assert found == [("imports#0", "imports"), ("run#0", "evaluates"), ("evil#_target_", "calls"), ("", "is a program")]
    assert not trap.exists()
