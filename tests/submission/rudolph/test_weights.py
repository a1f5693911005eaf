"""Fetching published weights: huggingface_hub's real client against a hub stand-in served over loopback."""

import hashlib
import json
import os
import shutil
import socket
import struct
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Event, Thread

import pytest
from huggingface_hub import constants

from rudolph import weights
from rudolph.config import SIZES
from rudolph.modeling import RudolphModel
from rudolph.tokenizer import Tokenizer
from rudolph.vqgan import SBER_GUMBEL_F8, VQGAN, VQGANConfig
from rudolph.weights import WeightsError, fetch
from tests.support import forked

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[3]
DATA = ROOT / "tests" / "data"
MODEL = "2.7B-FBC2"
REPO, UTILS = "sberbank-ai/RUDOLPH-2.7B-FBC2", "sberbank-ai/rudalle-utils"
MOVED = "ai-forever/RUDOLPH-2.7B-FBC2"
CKPT = "vqgan.gumbelf8-sber.model.ckpt"
BIN = (REPO, "pytorch_model.bin")
CHUNK = constants.DOWNLOAD_CHUNK_SIZE  # the client writes in pieces of this size, so a cut loses at most one
LARGE = os.urandom(2 * CHUNK + 5000)


@dataclass
class Hub:
    """What the stand-in serves, how it fails, and what it was asked."""

    files: dict[tuple[str, str], bytes]
    endpoint: str = ""
    content: str = ""  # another host to the client, as the hub's content servers are
    requests: list[tuple[str, str, str | None]] = field(default_factory=list)  # method, file, Range
    cut: dict[tuple[str, str], list[int]] = field(default_factory=dict)  # bytes after which each GET loses the line
    reset: Callable[[], int] | None = None  # lose the line by a reset, when the client has kept more bytes than it had
    stall: dict[tuple[str, str], int] = field(default_factory=dict)  # bytes after which a GET hangs until released
    corrupt: set[tuple[str, str]] = field(default_factory=set)
    refuse: int = 0  # an HTTP status for everything
    released: Event = field(default_factory=Event)

    def gets(self, filename: str) -> list[str | None]:
        return [ranges for method, name, ranges in self.requests if method == "GET" and name == filename]


class Handler(BaseHTTPRequestHandler):
    """The hub's layout: resolve URLs, a renamed repository, large files behind a redirect to a content server."""

    hub: Hub
    protocol_version = "HTTP/1.1"

    def log_message(self, *_: object) -> None: ...

    def answer(self, status: int, headers: dict[str, str]) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        if "Content-Length" not in headers:
            self.send_header("Content-Length", "0")
        self.end_headers()

    def do_HEAD(self) -> None:
        hub = self.hub
        if hub.refuse:
            return self.answer(hub.refuse, {})
        _, kind, *rest = self.path.split("/")
        if kind != "cdn":
            if len(rest) != 4:  # the client's own questions, none of which a download depends on
                return self.answer(404, {})
            owner, name, _, revision, filename = kind, *rest
            assert revision == "main"
            repo = f"{owner}/{name}"
            if repo == REPO:  # the hub answers an old name with a relative redirect
                return self.answer(307, {"Location": f"/{MOVED}/resolve/main/{filename}"})
            repo = REPO if repo == MOVED else repo
            if (repo, filename) not in hub.files:
                return self.answer(404, {"X-Error-Code": "EntryNotFound", "X-Repo-Commit": "c" * 40})
            data = hub.files[repo, filename]
            headers = {"X-Repo-Commit": "c" * 40, "Accept-Ranges": "bytes"}
            digest = hashlib.sha256(data).hexdigest()
            if not filename.endswith((".json", ".model")):
                headers |= {"X-Linked-Etag": f'"{digest}"', "X-Linked-Size": str(len(data)), "ETag": '"git"'}
                return self.answer(302, headers | {"Location": f"{hub.content}/cdn/{repo}/{filename}"})
            headers["ETag"] = f'"{digest[:40]}"'
        else:
            owner, name, filename = rest
            repo, headers = f"{owner}/{name}", {"Accept-Ranges": "bytes"}
            data = hub.files[repo, filename]
        wanted = self.headers.get("Range")
        hub.requests.append((self.command, filename, wanted))
        first = int(wanted.removeprefix("bytes=").removesuffix("-")) if wanted else 0
        if wanted:
            headers["Content-Range"] = f"bytes {first}-{len(data) - 1}/{len(data)}"
        self.answer(206 if wanted else 200, headers | {"Content-Length": str(len(data) - first)})
        if self.command == "GET":
            self.send(data[first:], (repo, filename))

    do_GET = do_HEAD

    def send(self, data: bytes, key: tuple[str, str]) -> None:
        hub = self.hub
        if key in hub.corrupt:
            data = bytes(len(data))
        if hub.cut.get(key):
            kept = hub.reset() if hub.reset else 0
            self.wfile.write(data[: hub.cut[key].pop(0)])
            self.wfile.flush()
            self.close_connection = True
            if hub.reset:  # RST instead of FIN; the client gets what it has read up to here, then an error
                while hub.reset() <= kept:
                    time.sleep(0.01)
                self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                self.connection.close()
            else:
                self.connection.shutdown(socket.SHUT_RDWR)
        elif key in hub.stall:
            self.wfile.write(data[: hub.stall.pop(key)])
            self.wfile.flush()
            hub.released.wait(60)
        else:
            self.wfile.write(data)


@pytest.fixture
def hub(monkeypatch):
    """A hub with small real files under the published names; `HF_ENDPOINT` points to it."""
    source = DATA / "rudolph" / "a"
    files = {
        BIN: (source / "pytorch_model.bin").read_bytes(),
        (REPO, "config.json"): (source / "config.json").read_bytes(),
        (UTILS, "bpe.model"): (DATA / "ruclip" / "bpe.model").read_bytes(),
        (UTILS, CKPT): (DATA / "vqgan" / "vqgan.ckpt").read_bytes(),
    }
    hub = Hub(files)
    handler = type("HubHandler", (Handler,), {"hub": hub})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    hub.endpoint = f"http://127.0.0.1:{server.server_port}"
    hub.content = f"http://localhost:{server.server_port}"
    thread = Thread(target=server.serve_forever, daemon=True)
    thread.start()
    monkeypatch.setenv("HF_ENDPOINT", hub.endpoint + "/")
    yield hub
    hub.released.set()
    server.shutdown()
    server.server_close()


@pytest.fixture
def no_network(monkeypatch):
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    monkeypatch.setenv("HF_ENDPOINT", f"http://127.0.0.1:{port}")


def tree(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


COMPLETE = ["bpe.model", "config.json", "pytorch_model.bin", "vqgan/config.json", "vqgan/vqgan.ckpt"]


def test_fetch_makes_a_folder_that_loads(hub, tmp_path):
    (tmp_path / MODEL / "vqgan").mkdir(parents=True)
    shutil.copy(DATA / "vqgan" / "config.json", tmp_path / MODEL / "vqgan")  # the served VQGAN is no full-sized one
    folder = fetch(MODEL, tmp_path)
    assert folder == tmp_path / MODEL and tree(folder) == COMPLETE
    assert not (folder / ".partial").exists()
    for (_, filename), data in hub.files.items():
        name = "vqgan/vqgan.ckpt" if filename == CKPT else filename
        if name != "config.json":
            assert (folder / name).read_bytes() == data
    model = RudolphModel.from_pretrained(folder)
    stated = json.loads(hub.files[REPO, "config.json"])
    assert model.config.num_layers == stated["num_layers"] != SIZES[MODEL]["num_layers"]
    assert VQGAN.from_pretrained(folder / "vqgan").config.n_embed == 64
    assert Tokenizer.from_file(folder / "bpe.model").vocab_size == 173


def test_second_call_asks_nothing(hub, tmp_path):
    fetch(MODEL, tmp_path)
    hub.requests.clear()
    hub.refuse = 500
    fetch(MODEL, tmp_path)
    assert hub.requests == []


def test_repository_without_config(hub, tmp_path):
    del hub.files[REPO, "config.json"]
    folder = fetch(MODEL, tmp_path)
    assert json.loads((folder / "config.json").read_text()) == SIZES[MODEL]
    assert VQGANConfig.from_dict(json.loads((folder / "vqgan" / "config.json").read_text())) == SBER_GUMBEL_F8


def test_config_with_missing_fields_is_completed(hub, tmp_path):
    hub.files[REPO, "config.json"] = b'{"num_layers": 3, "note": "kept"}'
    config = json.loads((fetch(MODEL, tmp_path) / "config.json").read_text())
    assert config == SIZES[MODEL] | {"num_layers": 3, "note": "kept"}


def test_first_release_of_350m_has_no_special_tokens(hub, tmp_path):
    repo = "sberbank-ai/RUDOLPH-350M"
    hub.files |= {(repo, "pytorch_model.bin"): b"weights", (repo, "config.json"): b'{"num_layers": 24}'}
    config = json.loads((fetch("350M", tmp_path) / "config.json").read_text())
    assert config == SIZES["350M-v1"]


@pytest.mark.parametrize("reset", [False, True])
def test_lost_connections_are_resumed_within_one_call(hub, tmp_path, reset):
    if reset:
        hub.reset = lambda: sum(path.stat().st_size for path in (tmp_path / MODEL / ".partial").glob("*.bin"))
    hub.files[BIN] = LARGE
    hub.cut[BIN] = [CHUNK + 1000, CHUNK + 2000]
    folder = fetch(MODEL, tmp_path)
    assert (folder / "pytorch_model.bin").read_bytes() == LARGE
    assert hub.gets("pytorch_model.bin") == [None, f"bytes={CHUNK}-", f"bytes={2 * CHUNK}-"]


def fetch_patiently(cache: Path) -> int:
    constants.HF_HUB_DOWNLOAD_TIMEOUT = 120  # a busy machine may stand still
    return weights.main(["--model", MODEL, "--cache", str(cache)])


@pytest.mark.slow
def test_killed_process_is_resumed_by_the_next(hub, tmp_path, capsys):
    hub.files[BIN] = LARGE
    hub.stall[BIN] = CHUNK + 1000
    log = tmp_path / "log"
    first = forked.start(fetch_patiently, tmp_path, folder=tmp_path, log=log)
    partial = tmp_path / MODEL / ".partial"
    try:
        limit = time.monotonic() + 300
        while sum(p.stat().st_size for p in partial.glob("*.bin")) < CHUNK:
            assert time.monotonic() < limit and first.is_alive(), log.read_text(encoding="utf-8")
            time.sleep(0.05)
        with pytest.raises(WeightsError, match="another process"):
            fetch(MODEL, tmp_path)
    finally:
        first.kill()
        forked.ended(first)
    assert not (tmp_path / MODEL / "pytorch_model.bin").exists()
    assert [p.stat().st_size for p in partial.glob("*.bin")] == [CHUNK]
    hub.requests.clear()
    assert weights.main(["--model", MODEL, "--cache", str(tmp_path)]) == 0
    assert capsys.readouterr().out == f"{tmp_path / MODEL}\n"
    assert hub.gets("pytorch_model.bin") == [f"bytes={CHUNK}-"]
    assert (tmp_path / MODEL / "pytorch_model.bin").read_bytes() == LARGE
    assert tree(tmp_path / MODEL) == COMPLETE


def test_new_upload_is_not_glued_to_an_old_partial_file(hub, tmp_path, monkeypatch):
    def drop(*_: object, **__: object) -> None:
        raise ConnectionResetError("line dropped")

    with monkeypatch.context() as patch:  # stop between the partial file and the retry
        patch.setattr(weights, "http_get", drop)
        with pytest.raises(WeightsError, match="line dropped"):
            fetch(MODEL, tmp_path)
    (partial,) = (tmp_path / MODEL / ".partial").glob("*.bin")
    partial.write_bytes(hub.files[BIN][:1000])
    hub.files[BIN] = bytes(reversed(hub.files[BIN]))
    assert (fetch(MODEL, tmp_path) / "pytorch_model.bin").read_bytes() == hub.files[BIN]
    assert hub.gets("pytorch_model.bin") == [None]


def test_damaged_transfer_is_noticed_and_started_afresh(hub, tmp_path):
    hub.corrupt.add(BIN)
    with pytest.raises(WeightsError, match="pytorch_model.bin: damaged on the way: SHA-256"):
        fetch(MODEL, tmp_path)
    assert not (tmp_path / MODEL / "pytorch_model.bin").exists()
    hub.corrupt.clear()
    assert (fetch(MODEL, tmp_path) / "pytorch_model.bin").read_bytes() == hub.files[BIN]


@pytest.mark.parametrize("status", [401, 403, 404, 503])
def test_refusals_name_the_files(hub, tmp_path, status):
    hub.refuse = status
    with pytest.raises(WeightsError, match=str(status)) as raised:
        fetch(MODEL, tmp_path)
    assert REPO in str(raised.value)


def test_missing_weights_file_is_an_error(hub, tmp_path):
    del hub.files[UTILS, CKPT]
    with pytest.raises(WeightsError, match=CKPT) as raised:
        fetch(MODEL, tmp_path)
    assert str(tmp_path / MODEL / "vqgan" / "vqgan.ckpt") in str(raised.value)
    assert "file pytorch_model.bin" not in str(raised.value)  # that one has come


def test_without_a_network_the_message_says_what_goes_where(no_network, tmp_path):
    with pytest.raises(WeightsError) as raised:
        fetch(MODEL, tmp_path)
    message = str(raised.value)
    for repo, filename, target in [
        (REPO, "pytorch_model.bin", "pytorch_model.bin"),
        (REPO, "config.json", "config.json"),
        (UTILS, "bpe.model", "bpe.model"),
        (UTILS, CKPT, "vqgan/vqgan.ckpt"),
    ]:
        assert f"file {filename} of {repo}" in message and str(tmp_path / MODEL / target) in message
    assert f"{repo}/resolve/main/{filename}" in message


@pytest.mark.slow
def test_offline_switch_of_the_hub_client(tmp_path):
    environment = os.environ | {"PYTHONPATH": str(ROOT / "submission"), "HF_HUB_OFFLINE": "1"}
    command = [sys.executable, "-m", "rudolph.weights", "--model", MODEL, "--cache", str(tmp_path)]
    result = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300)
    assert result.returncode == 1 and result.stdout == ""
    assert "by hand" in result.stderr and "Traceback" not in result.stderr


@pytest.mark.parametrize("checkpoint", ["vqgan.ckpt", CKPT])
def test_folder_filled_by_hand_needs_no_network(no_network, tmp_path, checkpoint):
    folder = tmp_path / MODEL
    (folder / "vqgan").mkdir(parents=True)
    shutil.copy(DATA / "rudolph" / "a" / "pytorch_model.bin", folder)
    shutil.copy(DATA / "ruclip" / "bpe.model", folder)
    shutil.copy(DATA / "vqgan" / "vqgan.ckpt", folder / "vqgan" / checkpoint)
    assert fetch(MODEL, tmp_path) == folder
    assert json.loads((folder / "config.json").read_text()) == SIZES[MODEL]
    assert tree(folder) == sorted([*COMPLETE[:-1], f"vqgan/{checkpoint}"])


def test_our_own_layout_is_accepted(no_network, tmp_path):
    folder = tmp_path / MODEL
    (folder / "vqgan").mkdir(parents=True)
    for name in ("config.json", "model.safetensors", "bpe.model", "vqgan/config.json", "vqgan/model.safetensors"):
        (folder / name).write_text(json.dumps(SIZES[MODEL]))
    before = {name: (folder / name).read_bytes() for name in tree(folder)}
    assert fetch(MODEL, tmp_path) == folder
    assert {name: (folder / name).read_bytes() for name in tree(folder)} == before


def test_pointer_and_empty_files_are_noticed(no_network, tmp_path):
    folder = tmp_path / MODEL
    folder.mkdir()
    (folder / "pytorch_model.bin").write_text("version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n")
    with pytest.raises(WeightsError, match="pytorch_model.bin: is a Git LFS pointer"):
        fetch(MODEL, tmp_path)
    (folder / "pytorch_model.bin").write_bytes(b"")
    with pytest.raises(WeightsError, match="pytorch_model.bin: is empty"):
        fetch(MODEL, tmp_path)


def test_unknown_model_and_bad_arguments(tmp_path, capsys):
    with pytest.raises(ValueError, match="'13B'; published are 2.7B-FBC2, 2.7B, 1.3B, 350M"):
        fetch("13B", tmp_path)
    with pytest.raises(SystemExit) as raised:
        weights.main(["--model", "13B", "--cache", str(tmp_path)])
    assert raised.value.code == 2


def test_every_published_model_has_sizes():
    assert set(weights.REPOS) <= set(SIZES)
