"""Bundles from elsewhere: what is refused, and that a good one is what was packaged."""

from __future__ import annotations

import base64
import contextlib
import functools
import http.server
import io
import json
import os
import pickle
import shutil
import stat
import subprocess
import threading
import urllib.request
import zipfile
from pathlib import Path

import monai.bundle
import pytest
import torch

from vafa_monai.sharing import Package, fetch_bundle
from vafa_monai.sharing.archive import MANIFEST, build_manifest, folder_sha256, locked, require_room, unpack_archive
from vafa_monai.sharing.fetch import _Redirects, download, masked
from vafa_monai.sharing.package import smoke_voxels


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
    "manifest of nothing": (
        lambda f: (f / MANIFEST).write_text("{}"),
        r"manifest\.json must have the value 'schema', got \[\]",
    ),
    "manifest that is no json": (lambda f: (f / MANIFEST).write_text("{"), r"manifest\.json must be readable as JSON"),
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


def repacked(folder):
    """Let the manifest say what is there, as a sender who means harm would."""
    about = {key: value for key, value in json.loads((folder / MANIFEST).read_text()).items() if key != "files"}
    (folder / MANIFEST).write_text(json.dumps(build_manifest(folder, about)))
    return folder


def test_pickle_under_another_name_is_refused_by_content(unpacked, tmp_path):
    (unpacked / "models" / "model.PTH").write_bytes(pickle.dumps(Payload(tmp_path / "executed"), 0))
    with pytest.raises(ValueError, match="checkpoint must be"):
        fetch_bundle(str(repacked(unpacked)), tmp_path / "out")
    assert not (tmp_path / "executed").exists()


def test_code_is_told_by_its_text_and_commands_for_a_terminal_are_not(unpacked, tmp_path):
    evil = {"run": [{"_target_": "torch.os.system", "command": "true"}, "$print('\x1b[2J')"]}
    (unpacked / "docs" / "more.JSON").write_text(json.dumps(evil))
    lines = []
    fetch_bundle(str(repacked(unpacked)), tmp_path / "out", say=lines.append)
    assert "  docs/more.JSON run#0#_target_: calls torch.os.system" in lines
    assert "  docs/more.JSON run#1: evaluates $print('\\x1b[2J')" in lines
    assert "values and files of it are not known to be harmless" in lines[2]


@pytest.mark.parametrize("source", ["", "  ", 5, None])
def test_source_that_is_no_text_is_refused_before_anything_is_written(source, tmp_path):
    with pytest.raises(ValueError, match="source must be a zip file, a folder, an address"):
        fetch_bundle(source, tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("output", [".", "x", "models/x/y"])
def test_output_inside_of_the_source_is_refused(output, unpacked):
    before = sorted(unpacked.rglob("*"))
    with pytest.raises(ValueError, match="output must be outside of the source"):
        fetch_bundle(str(unpacked), unpacked / output)
    assert sorted(unpacked.rglob("*")) == before


def test_hash_of_a_folder_is_that_of_its_hashes(unpacked, tmp_path):
    pipe = "find . -type f -printf '%P\\n' | LC_ALL=C sort | xargs -d '\\n' sha256sum | sha256sum"
    expected = subprocess.run(pipe, shell=True, cwd=unpacked, capture_output=True, text=True, check=True).stdout[:64]
    assert folder_sha256(unpacked) == expected
    fetch_bundle(str(unpacked), tmp_path / "out", sha256=expected.upper())
    (unpacked / "LICENSE").write_text("another")
    with pytest.raises(ValueError, match=f"source must have the sha256 {expected}, got"):
        fetch_bundle(str(repacked(unpacked)), tmp_path / "other", sha256=expected)
    with pytest.raises(ValueError, match="sha256 must be 64 hexadecimal digits, got 'abc'"):
        fetch_bundle(str(unpacked), tmp_path / "other", sha256="abc")


def test_size_limits_are_exact(unpacked, tmp_path):
    size = sum(path.stat().st_size for path in unpacked.rglob("*") if path.is_file())
    with pytest.raises(ValueError, match=f"source must become at most {size - 1} bytes, got {size}"):
        fetch_bundle(str(unpacked), tmp_path / "less", most_bytes=size - 1)
    assert fetch_bundle(str(unpacked), tmp_path / "all", most_bytes=size).is_dir()
    path = zip_of([("bundle/a", b"0123456789")], tmp_path / "a.zip")
    (tmp_path / "a").mkdir()
    assert unpack_archive(path, tmp_path / "a", most_bytes=10).name == "bundle"
    with pytest.raises(ValueError, match="archive must become at most 9 bytes, got 10"):
        unpack_archive(path, tmp_path / "b", most_bytes=9)


def test_number_of_files_and_ratio_are_exact(tmp_path, monkeypatch):
    path = zip_of([("bundle/a", bytes(5000)), ("bundle/b", b"")], tmp_path / "a.zip")
    monkeypatch.setattr("vafa_monai.sharing.archive.MOST_FILES", 2)
    monkeypatch.setattr("vafa_monai.sharing.archive.MOST_RATIO", 5000 / path.stat().st_size)
    (tmp_path / "a").mkdir()
    unpack_archive(path, tmp_path / "a")
    monkeypatch.setattr("vafa_monai.sharing.archive.MOST_FILES", 1)
    with pytest.raises(ValueError, match="archive must have at most 1 files, got 2"):
        unpack_archive(path, tmp_path / "b")
    monkeypatch.setattr("vafa_monai.sharing.archive.MOST_FILES", 2)
    monkeypatch.setattr("vafa_monai.sharing.archive.MOST_RATIO", 4999 / path.stat().st_size)
    with pytest.raises(ValueError, match=r"archive must become at most .* times its"):
        unpack_archive(path, tmp_path / "b")


def test_disk_that_is_too_small_is_found_first(packaged, tmp_path, monkeypatch):
    monkeypatch.setattr("shutil.disk_usage", lambda _: type("Usage", (), {"free": 7}))
    with pytest.raises(ValueError, match=r"output must have room for \d+ bytes, got 7 free"):
        fetch_bundle(str(packaged), tmp_path / "out")
    assert list((tmp_path / "out").iterdir()) == []


def test_room_is_enough_to_the_byte(tmp_path, monkeypatch):
    monkeypatch.setattr("shutil.disk_usage", lambda _: type("Usage", (), {"free": 10}))
    require_room(tmp_path, 10)
    with pytest.raises(ValueError, match="output must have room for 11 bytes, got 10 free"):
        require_room(tmp_path, 11)


def test_output_that_cannot_be_written_to_is_found_first(packaged, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(ValueError, match="output must be a folder that can be written to, got"):
        fetch_bundle(str(packaged), tmp_path / "file" / "out")


MANIFESTS = {
    "deep": "[" * 10**5 + "]" * 10**5,
    "digits": '{"schema": 1' + "0" * 400 + "}",
    "list": "[]",
    "files of a list": json.dumps({"schema": "vafa_monai.manifest/1", "name": "a", "version": "1", "files": []}),
    "no name": json.dumps({"schema": "vafa_monai.manifest/1", "version": "1", "files": {}}),
    "size of a text": json.dumps(
        {"schema": "vafa_monai.manifest/1", "name": "a", "version": "1", "files": {"a": {"size": "1", "sha256": ""}}}
    ),
}


@pytest.mark.parametrize("text", MANIFESTS.values(), ids=MANIFESTS)
def test_manifest_of_a_stranger_is_refused_in_one_sentence(text, unpacked, tmp_path):
    (unpacked / MANIFEST).write_text(text)
    with pytest.raises(ValueError, match=r"manifest\.json must ") as error:
        fetch_bundle(str(unpacked), tmp_path / "out")
    assert "\n" not in str(error.value)


def test_name_with_commands_for_a_terminal_is_refused(unpacked, tmp_path):
    (unpacked / "docs" / "a\x1b[2Jb.md").write_text("")
    with pytest.raises(ValueError, match=r"bundle must have names that can be printed, got 'docs/a\\x1b\[2Jb\.md'"):
        fetch_bundle(str(unpacked), tmp_path / "out")


def test_what_killed_processes_left_is_deleted_and_what_others_use_is_not(packaged, tmp_path):
    for name in (".fetch-left", ".fetch-used", "mine"):
        (tmp_path / name / "models").mkdir(parents=True)
    (tmp_path / ".fetch-link").symlink_to(tmp_path / "mine")
    used = os.open(tmp_path / ".fetch-used", os.O_RDONLY)
    assert locked(used)
    folder = fetch_bundle(str(packaged), tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == {folder.name, ".fetch-used", ".fetch-link", "mine"}
    assert (tmp_path / "mine" / "models").is_dir()
    os.close(used)


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
    with pytest.raises(ValueError, match=r"download of .* broke off after 1000 of \d+ bytes; the next call goes on"):
        fetch_bundle(address, tmp_path)
    folder = fetch_bundle(address, tmp_path)
    assert folder.is_dir()
    assert handler.ranges == (0, 1000)
    assert [path.name for path in tmp_path.iterdir()] == [folder.name]


class Endless(http.server.BaseHTTPRequestHandler):
    """A body without an end; ``/declared`` says how much it would be, ``/to/…`` leads to the rest of the address."""

    asked: tuple = ()

    def do_GET(self):
        type(self).asked = (*self.asked, self.headers.get("Authorization"))
        if self.path.startswith("/to/"):
            self.send_response(302)
            self.send_header("Location", self.path.removeprefix("/to/"))
            self.end_headers()
            return
        self.send_response(404 if self.path == "/none" else 200)
        if self.path == "/declared":
            self.send_header("Content-Length", str(10**15))
        self.end_headers()
        with contextlib.suppress(OSError):
            while self.path != "/none":
                self.wfile.write(bytes(2**16))

    def log_message(self, *_):
        """Say nothing."""


@pytest.fixture
def endless():
    """The host of a server that never ends."""
    handler = type("Handler", (Endless,), {})
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"127.0.0.1:{server.server_port}", handler
    server.shutdown()


def test_body_without_an_end_is_refused_at_the_limit(endless, tmp_path):
    with pytest.raises(ValueError, match="download must become at most 100000 bytes, got more"):
        fetch_bundle(f"http://{endless[0]}/a.zip", tmp_path, most_bytes=10**5)
    with pytest.raises(ValueError, match="download must be of at most 100000 bytes, got 1000000000000000 of"):
        fetch_bundle(f"http://{endless[0]}/declared", tmp_path, most_bytes=10**5)
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []


@pytest.mark.parametrize("target", ["ftp://127.0.0.1/a", "file:///etc/passwd", "//127.0.0.1:1/a"])
def test_redirect_to_what_is_no_web_is_refused(target, endless, tmp_path):
    with pytest.raises(ValueError, match="cannot download"):
        download(f"http://{endless[0]}/to/{target}", tmp_path / "a")
    assert not (tmp_path / "a").exists()


@pytest.mark.parametrize("target", ["http://127.0.0.1/a", "ftp://127.0.0.1/a", "file:///etc/passwd"])
def test_redirect_from_an_encrypted_address_to_another_kind_is_refused(target):
    request = urllib.request.Request("https://example.org/a")
    with pytest.raises(ValueError, match=r"cannot download: a redirect leads to .*, which is less safe"):
        _Redirects().redirect_request(request, None, 302, "", {}, target)
    found = _Redirects().redirect_request(request, None, 302, "", {}, "https://example.org/b")
    assert found.full_url == "https://example.org/b"


def test_password_is_sent_to_its_host_alone_and_shown_nowhere(endless, tmp_path):
    host, handler = endless
    with pytest.raises(ValueError, match=r"cannot download .*: 404") as error:
        download(f"http://eva:sec%20ret@{host}/to/http://{host}/none", tmp_path / "a")
    assert handler.asked == ("Basic " + base64.b64encode(b"eva:sec ret").decode(), None)
    assert "sec" not in str(error.value)
    for bad in (
        "https://eva:secret@[::1",
        "https://eva:secret@host:port/a?key=secret",
        "http://eva:secret@127.0.0.1:9/",
    ):
        with pytest.raises(ValueError, match=r"source must|cannot download|Invalid") as error:
            fetch_bundle(bad, tmp_path)
        assert "secret" not in str(error.value)
    assert masked("a http://u:p@s@h/b?c=d#e f") == "a http://***@h/b?*** f"


def test_link_that_was_planted_under_the_name_of_the_download_is_not_followed(served, tmp_path):
    address, handler = served
    handler.cut = 1000
    with pytest.raises(ValueError, match="the next call goes on"):
        fetch_bundle(address, tmp_path)
    (part,) = tmp_path.glob(".fetch-*.part")
    victim = tmp_path / "victim"
    victim.write_text("precious")
    part.unlink()
    part.symlink_to(victim)
    with pytest.raises(ValueError, match="output must be a folder that can be written to, got"):
        fetch_bundle(address, tmp_path)
    part.unlink()
    part.hardlink_to(victim)
    with pytest.raises(ValueError, match="output must hold no link under the name of the download"):
        fetch_bundle(address, tmp_path)
    assert victim.read_text() == "precious"


def test_two_downloads_of_one_address_do_not_mix(served, tmp_path):
    address, handler = served
    handler.cut = 1000
    with pytest.raises(ValueError, match="the next call goes on"):
        fetch_bundle(address, tmp_path)
    (part,) = tmp_path.glob(".fetch-*.part")
    with part.open("rb") as file:
        assert locked(file.fileno())
        with pytest.raises(ValueError, match=r"cannot download to .*: another process downloads the same file now"):
            fetch_bundle(address, tmp_path)


@pytest.mark.parametrize("moments", [[0.02, 0.2], pytest.param([n / 20 for n in range(20)], marks=pytest.mark.slow)])
def test_killed_fetch_leaves_nothing_half_and_the_next_gives_the_same(moments, packaged, tmp_path, kill):
    expected = folder_sha256(fetch_bundle(str(packaged), tmp_path / "expected"))
    for number, seconds in enumerate(moments):
        output = tmp_path / str(number)
        kill(functools.partial(fetch_bundle, str(packaged), output), seconds=seconds)
        for there in output.glob("[!.]*"):
            assert folder_sha256(there) == expected
            shutil.rmtree(there)
        folder = fetch_bundle(str(packaged), output)
        assert folder_sha256(folder) == expected
        assert [path.name for path in output.iterdir()] == [folder.name]


def test_killed_fetch_is_not_mixed_with_one_of_another_bundle(packaged, unpacked, tmp_path, kill):
    (unpacked / "docs" / "README.md").write_text("another")
    about = {name: json.loads((unpacked / MANIFEST).read_text())[name] for name in ("name", "version", "smoke")}
    (unpacked / MANIFEST).write_text(json.dumps(build_manifest(unpacked, about)))
    for number in range(2):  # right before and right after the folder gets its name
        output = tmp_path / f"output_{number}"
        fetch = functools.partial(fetch_bundle, str(packaged), output)
        assert kill(fetch, rename=number, of=unpacked.name) == -9
        if number:
            with pytest.raises(ValueError, match="output must"):
                fetch_bundle(str(unpacked), output)
            shutil.rmtree(output / unpacked.name)
        folder = fetch_bundle(str(unpacked), output)
        assert folder_sha256(folder) == folder_sha256(unpacked)
        assert [path.name for path in output.iterdir()] == [folder.name]


def test_download_of_what_is_not_there_is_refused(tmp_path):
    with pytest.raises(ValueError, match=r"cannot download .*; the next call goes on"):
        download("http://127.0.0.1:9/none.zip", tmp_path / "a.zip")
    with pytest.raises(ValueError, match="source must be an address of http, https or file"):
        download("ftp://127.0.0.1/none.zip", tmp_path / "a.zip")
