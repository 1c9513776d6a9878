"""Publish a bundle with MONAI's function and fetch it, through a stand-in of the Hugging Face hub on loopback."""

from __future__ import annotations

import base64
import hashlib
import http.server
import json
import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from vafa_monai.sharing import Package, fetch_bundle
from vafa_monai.sharing.archive import MANIFEST

pytest.importorskip("huggingface_hub")
COMMIT = "0123456789abcdef0123456789abcdef01234567"
REPOSITORY = "lab/hardened"
PUSH = "from monai.bundle import push_to_hf_hub; push_to_hf_hub(**{})"


class Hub(http.server.BaseHTTPRequestHandler):
    """As much of the hub as creates a repository, takes one commit and its tags, and gives the files back."""

    protocol_version = "HTTP/1.1"

    def do_POST(self):
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        self.server.calls.append(self.path)
        if self.path.endswith("/preupload/main"):
            files = [{"path": each["path"], "uploadMode": "regular", "shouldIgnore": False} for each in _files(body)]
            self.reply({"files": files})
        elif self.path.endswith("/commit/main"):
            for line in map(json.loads, body.splitlines()):
                if line["key"] == "file":
                    self.server.files[line["value"]["path"]] = base64.b64decode(line["value"]["content"])
            url = f"{self.server.address}/{REPOSITORY}/commit/{COMMIT}"
            self.reply({"success": True, "commitOid": COMMIT, "commitUrl": url})
        else:
            self.reply({"url": f"{self.server.address}/{REPOSITORY}", "id": REPOSITORY, "warnings": [], "errors": []})

    def do_GET(self):
        if "/tree/" in self.path:
            sizes = {name: len(content) for name, content in sorted(self.server.files.items())}
            self.reply([{"type": "file", "path": name, "size": sizes[name], "oid": COMMIT} for name in sizes])
            return
        if self.path.startswith("/api/"):
            names = [{"rfilename": name} for name in sorted(self.server.files)]
            self.reply({"id": REPOSITORY, "sha": COMMIT, "siblings": names, "private": True, "tags": []})
            return
        name = self.path.partition(f"/{REPOSITORY}/resolve/{COMMIT}/")[2]
        self.reply(self.server.files[name])

    do_HEAD = do_GET  # noqa: N815

    def reply(self, content):
        payload = content if isinstance(content, bytes) else json.dumps(content).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/octet-stream" if payload is content else "application/json")
        self.send_header("Content-Length", str(len(payload)))
        self.send_header("ETag", f'"{hashlib.sha256(payload).hexdigest()}"')
        self.send_header("X-Repo-Commit", COMMIT)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(payload)

    def log_message(self, *_):
        """Keep the output of the tests short."""


def _files(body):
    return json.loads(body)["files"]


@pytest.fixture(scope="module")
def hub():
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Hub)
    server.address, server.files, server.calls = f"http://127.0.0.1:{server.server_port}", {}, []
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield server
    server.shutdown()
    server.server_close()


@pytest.fixture(scope="module")
def run(hub, tmp_path_factory):
    """Return a function that runs Python with this hub as its hub."""
    import vafa_monai

    home = tmp_path_factory.mktemp("home")
    settings = {"HF_ENDPOINT": hub.address, "HF_TOKEN": "hf_not_a_token", "HF_HOME": str(home)}
    settings |= {"HF_HUB_DISABLE_XET": "1", "HF_HUB_DISABLE_TELEMETRY": "1", "NO_PROXY": "*", "no_proxy": "*"}
    settings["PYTHONPATH"] = str(Path(vafa_monai.__file__).parents[1])

    def call(*words):
        command = [sys.executable, *map(str, words)]
        return subprocess.run(command, env=os.environ | settings, capture_output=True, text=True, timeout=300)

    return call


@pytest.fixture(scope="module")
def published(small_bundle, hub, run, tmp_path_factory):
    """Package, unpack and push a bundle; return the folder that was pushed."""
    place = tmp_path_factory.mktemp("published")
    package = Package(bundle=small_bundle, output=place / "bundle.zip").write()
    folder = fetch_bundle(str(package), place / "folder", say=str)
    values = {"repo": REPOSITORY, "name": folder.name, "bundle_dir": str(folder.parent), "version": "0.1.0"}
    finished = run("-c", PUSH.format(values | {"tag_as_latest_version": True}))
    assert finished.returncode == 0, finished.stderr[-3000:]
    return folder


def test_push_uploads_what_was_packaged_and_tags_it(published, hub):
    listed = json.loads((published / MANIFEST).read_text())["files"]
    assert set(hub.files) == {*listed, MANIFEST, "README.md"}  # MONAI puts the model card at the top
    assert all(hub.files[name] == (published / name).read_bytes() for name in listed)
    assert b"license: apache-2.0" in hub.files["README.md"]
    assert [call.rpartition("/")[2] for call in hub.calls if "/tag/" in call]


def test_bundle_is_fetched_from_the_hub_and_verified(published, run, tmp_path):
    finished = run("-m", "vafa_monai.cli", "fetch", f"hub:{REPOSITORY}@0.1.0", "--output", tmp_path)
    assert finished.returncode == 0, finished.stderr[-3000:]
    assert "verified:" in finished.stdout
    (folder,) = tmp_path.iterdir()
    names = json.loads((published / MANIFEST).read_text())["files"]
    assert all((folder / name).read_bytes() == (published / name).read_bytes() for name in names)


def test_file_changed_on_the_hub_is_refused(published, hub, run, tmp_path, monkeypatch):
    monkeypatch.setitem(hub.files, "models/model.pt", hub.files["models/model.pt"] + b"1")
    finished = run("-m", "vafa_monai.cli", "fetch", f"hub:{REPOSITORY}", "--output", tmp_path)
    assert finished.returncode != 0
    assert "bundle must be what its manifest says, got:" in finished.stderr + finished.stdout
    assert not list(tmp_path.iterdir())
