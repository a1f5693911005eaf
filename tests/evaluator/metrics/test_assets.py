"""Fetching, recording and verifying the leaderboard's assets: real clients against a hub and a release page served
over loopback; and which encoders are used."""

import hashlib
import json
import logging
import os
import shutil
import socket
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import numpy as np
import pytest
import torch
from huggingface_hub.constants import DOWNLOAD_CHUNK_SIZE as CHUNK  # what a cut loses at most
from PIL import Image

from evaluator.core.errors import DataError
from evaluator.metrics import assets
from evaluator.metrics.assets import (
    ENCODERS,
    GRAMMAR,
    INCEPTION,
    LOCK_FILE,
    RUCLIP,
    RUWORDNET,
    Asset,
    AssetState,
    fetch,
    inspect,
    load_encoders,
    read_lock,
    ruwordnet_path,
)
from evaluator.metrics.fid import fid_inception
from evaluator.metrics.nano import NanoEncoders

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[3]
DATA = ROOT / "tests" / "data"
LARGE = os.urandom(CHUNK + 5000)


@dataclass
class Servers:
    """A hub and a release page: what they serve by the file's name, how they fail, what they were asked."""

    files: dict[str, bytes]
    assets: tuple[Asset, ...] = ()
    requests: list[tuple[str, str, dict[str, str]]] = field(default_factory=list)  # method, path, headers
    cut: dict[str, list[int]] = field(default_factory=dict)  # bytes after which each transfer loses the line
    refuse: dict[str, int] = field(default_factory=dict)  # HTTP status by file
    damaged: set[str] = field(default_factory=set)

    def ranges(self, name: str) -> list[str | None]:
        """The ranges asked for in transfers of a file, in order."""
        asked = [headers for method, path, headers in self.requests if method == "GET" and path.endswith(name)]
        return [headers.get("Range") for headers in asked if headers.get("Range") != "bytes=0-0"]


class Handler(BaseHTTPRequestHandler):
    """`/owner/name/resolve/main/file` of a hub, `/release/file` of a page; both send on to `/storage/file`."""

    servers: Servers
    protocol_version = "HTTP/1.1"

    def log_message(self, *_: object) -> None: ...

    def answer(self, status: int, headers: dict[str, str]) -> None:
        self.send_response(status)
        for name, value in ({"Content-Length": "0"} | headers).items():
            self.send_header(name, value)
        self.end_headers()

    def do_GET(self) -> None:
        servers, name = self.servers, self.path.rpartition("/")[2]
        servers.requests.append((self.command, self.path, dict(self.headers)))
        if name in servers.refuse:
            return self.answer(servers.refuse[name], {})
        if name not in servers.files:
            return self.answer(404, {"X-Error-Code": "EntryNotFound"})
        data = servers.files[name]
        digest = hashlib.sha256(data).hexdigest()
        storage = f"http://localhost:{self.server.server_port}/storage/{name}"  # another host than 127.0.0.1
        if "/resolve/" in self.path and not name.endswith((".json", ".model")):
            linked = {"X-Linked-Etag": f'"{digest}"', "X-Linked-Size": str(len(data))}
            return self.answer(302, linked | {"Location": storage, "X-Repo-Commit": "c" * 40, "ETag": '"git"'})
        if self.path.startswith("/release/"):
            return self.answer(302, {"Location": storage, "ETag": '"page"'})
        if self.command == "HEAD" and self.path.startswith("/storage/"):
            return self.answer(403, {})  # as an address that is signed for GET
        wanted = self.headers.get("Range")
        first, last = 0, len(data) - 1
        if wanted:
            start, _, end = wanted.removeprefix("bytes=").partition("-")
            first, last = int(start), int(end) if end else last
        headers = {"ETag": f'"{digest[:40]}"', "Content-Length": str(last + 1 - first), "X-Repo-Commit": "c" * 40}
        if wanted:
            headers["Content-Range"] = f"bytes {first}-{last}/{len(data)}"
        self.answer(206 if wanted else 200, headers)
        if self.command == "GET":
            self.send(name, data[first : last + 1])

    do_HEAD = do_GET

    def send(self, name: str, data: bytes) -> None:
        if name in self.servers.damaged:
            data = bytes(len(data))
        if self.servers.cut.get(name) and len(data) > 1:
            data = data[: self.servers.cut[name].pop(0)]
            self.close_connection = True
        self.wfile.write(data)
        if self.close_connection:
            self.wfile.flush()
            self.connection.shutdown(socket.SHUT_RDWR)


@pytest.fixture
def servers(monkeypatch: pytest.MonkeyPatch) -> Iterator[Servers]:
    """Small files under names like the published ones."""
    files = {name: (DATA / "ruclip" / name).read_bytes() for name in ("bpe.model", "config.json", "pytorch_model.bin")}
    files |= {"inception.pth": b"inception", "ruwordnet.db": (DATA / "metrics" / "ruwordnet.db").read_bytes()}
    servers = Servers(files)
    server = ThreadingHTTPServer(("127.0.0.1", 0), type("BoundHandler", (Handler,), {"servers": servers}))
    address = f"http://127.0.0.1:{server.server_port}"
    servers.assets = (
        *(Asset(f"ruclip/{name}", f"hub:owner/ruclip/{name}") for name in list(files)[:3]),
        Asset("inception.pth", f"{address}/release/inception.pth", hashlib.sha256(b"inception").hexdigest()[:8]),
        Asset("ruwordnet.db", f"{address}/release/ruwordnet.db"),
    )
    Thread(target=server.serve_forever, daemon=True).start()
    monkeypatch.setenv("HF_ENDPOINT", address + "/")
    yield servers
    server.shutdown()
    server.server_close()


def tree(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*"))


def test_fetch_places_and_records_every_asset(servers: Servers, tmp_path: Path) -> None:
    fetch(tmp_path, servers.assets)
    assert tree(tmp_path) == sorted([LOCK_FILE, "ruclip", *(asset.path for asset in servers.assets)])
    lock = json.loads((tmp_path / LOCK_FILE).read_text(encoding="utf-8"))
    for asset in servers.assets:
        content = servers.files[Path(asset.path).name]
        assert (tmp_path / asset.path).read_bytes() == content
        digest = hashlib.sha256(content).hexdigest()
        assert lock[asset.path] == {"source": asset.source, "size": len(content), "sha256": digest}
    assert {finding.state for finding in inspect(tmp_path, servers.assets)} == {AssetState.VERIFIED}


def test_second_fetch_and_check_ask_nothing(servers: Servers, tmp_path: Path) -> None:
    fetch(tmp_path, servers.assets)
    before = (tmp_path / LOCK_FILE).read_bytes()
    servers.requests.clear()
    fetch(tmp_path, servers.assets)
    inspect(tmp_path, servers.assets)
    assert servers.requests == [] and (tmp_path / LOCK_FILE).read_bytes() == before


def test_the_token_goes_to_the_hub_only(servers: Servers, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_TOKEN", "hf_secret")
    fetch(tmp_path, servers.assets)
    told = {path for _, path, headers in servers.requests if "authorization" in {name.lower() for name in headers}}
    assert told and all(path.startswith("/owner/") for path in told)


@pytest.mark.parametrize("name", ["pytorch_model.bin", "ruwordnet.db"])
def test_a_lost_connection_is_resumed(servers: Servers, tmp_path: Path, name: str) -> None:
    servers.files[name] = LARGE
    servers.cut[name] = [CHUNK + 1000]
    fetch(tmp_path, servers.assets)
    (asset,) = (asset for asset in servers.assets if asset.path.endswith(name))
    assert (tmp_path / asset.path).read_bytes() == LARGE
    assert servers.ranges(f"/storage/{name}") == [None, f"bytes={CHUNK}-"]


def test_a_stopped_fetch_is_resumed_by_the_next(
    servers: Servers, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    name = "ruwordnet.db"
    servers.files[name] = LARGE
    from huggingface_hub import file_download

    def stop(url: str, file, **_: object) -> None:
        file.write(LARGE[:CHUNK])
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(file_download, "http_get", stop)
        with pytest.raises(KeyboardInterrupt):
            fetch(tmp_path, servers.assets[-1:])
    assert not (tmp_path / name).exists()
    fetch(tmp_path, servers.assets)
    assert (tmp_path / name).read_bytes() == LARGE
    assert servers.ranges(f"/storage/{name}") == [f"bytes={CHUNK}-"]
    assert not (tmp_path / ".partial").exists()


def test_a_new_upload_is_not_glued_to_an_old_partial_file(servers: Servers, tmp_path: Path) -> None:
    asset = servers.assets[-1]
    etag = hashlib.sha256(b"an earlier content").hexdigest()[:40]
    tag = hashlib.sha256(f"{asset.url} {etag}".encode()).hexdigest()[:16]
    (tmp_path / ".partial").mkdir()
    (tmp_path / ".partial" / f"{tag}.{asset.path}").write_bytes(b"an earl")
    fetch(tmp_path, servers.assets)
    assert (tmp_path / asset.path).read_bytes() == servers.files[asset.path]


@pytest.mark.parametrize("content", [b"other", b"inceptioN"])
def test_a_changed_file_is_an_error_everywhere(servers: Servers, tmp_path: Path, content: bytes) -> None:
    fetch(tmp_path, servers.assets)
    (tmp_path / "inception.pth").write_bytes(content)
    states = {finding.asset.path: finding.state for finding in inspect(tmp_path, servers.assets)}
    assert states.pop("inception.pth") is AssetState.CHANGED and set(states.values()) == {AssetState.VERIFIED}
    with pytest.raises(DataError, match=r"inception.pth: has .*assets.lock.json records .*Delete the file") as raised:
        fetch(tmp_path, servers.assets)
    assert raised.value.exit_code == 2 and len(raised.value.reasons) == 1
    assert (tmp_path / "inception.pth").read_bytes() == content


def test_another_machines_lock_file_is_obeyed(servers: Servers, tmp_path: Path) -> None:
    fetch(tmp_path / "first", servers.assets)
    (tmp_path / "second").mkdir()
    shutil.copy(tmp_path / "first" / LOCK_FILE, tmp_path / "second")
    servers.files["ruwordnet.db"] = b"a later release"
    with pytest.raises(DataError, match=r"/release/ruwordnet.db: what came has SHA-256 .* the publisher has changed"):
        fetch(tmp_path / "second", servers.assets)
    assert not (tmp_path / "second" / "ruwordnet.db").exists()
    assert (tmp_path / "second" / "inception.pth").exists()  # the others were fetched all the same


def test_content_that_its_publisher_does_not_promise_is_refused(servers: Servers, tmp_path: Path) -> None:
    servers.files["inception.pth"] = b"<html>sign in to this network</html>"
    with pytest.raises(DataError, match="inception.pth: what came has SHA-256"):
        fetch(tmp_path, servers.assets)
    assert "inception.pth" not in tree(tmp_path) and "inception.pth" not in read_lock(tmp_path)


def test_damage_on_the_way_from_the_hub_is_noticed(servers: Servers, tmp_path: Path) -> None:
    servers.damaged.add("pytorch_model.bin")
    with pytest.raises(DataError, match=r"pytorch_model.bin: cannot be fetched .*damaged on the way"):
        fetch(tmp_path, servers.assets)
    servers.damaged.clear()
    fetch(tmp_path, servers.assets)
    assert (tmp_path / "ruclip" / "pytorch_model.bin").read_bytes() == servers.files["pytorch_model.bin"]


@pytest.mark.parametrize("status", [401, 403, 404, 503])
def test_refusals_name_the_file_and_do_not_hold_up_the_others(servers: Servers, tmp_path: Path, status: int) -> None:
    servers.refuse = {"pytorch_model.bin": status, "ruwordnet.db": status}
    with pytest.raises(DataError) as raised:
        fetch(tmp_path, servers.assets)
    first, second = raised.value.reasons
    assert "pytorch_model.bin: cannot be fetched" in first and str(status) in first
    assert "ruwordnet.db: cannot be fetched" in second and str(status) in second
    assert sorted(read_lock(tmp_path)) == ["inception.pth", "ruclip/bpe.model", "ruclip/config.json"]


def test_files_put_in_place_by_hand_are_recorded_without_a_network(servers: Servers, tmp_path: Path) -> None:
    (tmp_path / "ruclip").mkdir()
    for asset in servers.assets:
        (tmp_path / asset.path).write_bytes(servers.files[Path(asset.path).name])
    assert {finding.state for finding in inspect(tmp_path, servers.assets)} == {AssetState.UNRECORDED}
    fetch(tmp_path, servers.assets)
    assert servers.requests == []
    assert {finding.state for finding in inspect(tmp_path, servers.assets)} == {AssetState.VERIFIED}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "inception.pth: is empty"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n", "inception.pth: is a Git LFS pointer"),
        (b"weights of something else", "inception.pth: has SHA-256 .* begins with"),
    ],
)
def test_what_is_put_there_by_hand_is_looked_at(servers: Servers, tmp_path: Path, content: bytes, message: str) -> None:
    (tmp_path / "inception.pth").write_bytes(content)
    with pytest.raises(DataError, match=message):
        fetch(tmp_path, servers.assets)
    assert "inception.pth" not in read_lock(tmp_path)


@pytest.mark.parametrize(
    "content",
    ["", "[]", '{"a": 1}', '{"a": {"source": "x", "size": 1}}', '{"a": {"source": "x", "size": "1", "sha256": "0"}}'],
)
def test_a_damaged_lock_file_is_named(tmp_path: Path, content: str) -> None:
    (tmp_path / LOCK_FILE).write_text(content, encoding="utf-8")
    with pytest.raises(DataError, match=LOCK_FILE):
        read_lock(tmp_path)


def test_two_fetches_do_not_mix(servers: Servers, tmp_path: Path) -> None:
    with assets._locked(tmp_path), pytest.raises(DataError, match="another process is fetching"):
        fetch(tmp_path, servers.assets)


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    environment = os.environ | {"HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-m", "evaluator.metrics.assets", *arguments]
    return subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=300)


def test_without_a_network_the_message_says_what_goes_where(tmp_path: Path) -> None:
    result = run("fetch", "--folder", str(tmp_path))
    assert result.returncode == 2 and result.stdout == "" and "Traceback" not in result.stderr
    for asset in assets.ASSETS:
        assert f"{tmp_path / asset.path}: cannot be fetched" in result.stderr
        assert f"by hand from {asset.url} " in result.stderr


def test_check_tells_missing_from_verified(servers: Servers, tmp_path: Path) -> None:
    result = run("check", "--folder", str(tmp_path))
    assert result.returncode == 2 and result.stderr.count("is missing; `make assets` fetches it") == len(assets.ASSETS)
    write_all(tmp_path)
    result = run("check", "--folder", str(tmp_path))
    assert result.returncode == 0, result.stderr
    lines = result.stdout.splitlines()
    assert len(lines) == len(assets.ASSETS) and all(line.startswith("verified  ") for line in lines)
    assert hashlib.sha256((tmp_path / RUWORDNET.path).read_bytes()).hexdigest() in result.stdout


def write_all(folder: Path) -> None:
    """The published assets' places, with small networks' files, recorded."""
    for asset in RUCLIP:
        (folder / asset.path).parent.mkdir(exist_ok=True)
        shutil.copy(DATA / "ruclip" / Path(asset.path).name, folder / asset.path)
    with torch.device("meta"):
        shapes = fid_inception().state_dict()
    torch.save({key: torch.zeros(value.shape) for key, value in shapes.items()}, folder / INCEPTION.path)
    shutil.copy(DATA / "metrics" / "ruwordnet.db", folder / RUWORDNET.path)
    for asset in GRAMMAR:
        (folder / asset.path).parent.mkdir(parents=True, exist_ok=True)
        (folder / asset.path).write_text("no grammar, but recorded", encoding="utf-8")
    fetch(folder, [replace(asset, digest="") for asset in assets.ASSETS])


def test_without_assets_the_nano_encoders_stand_in(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        encoders = load_encoders(tmp_path)
    assert encoders.label == NanoEncoders.label and caplog.text == ""
    assert load_encoders(tmp_path / "none").label == NanoEncoders.label
    assert ruwordnet_path(tmp_path) is None


def test_the_leaderboards_encoders_are_used_where_all_assets_are(tmp_path: Path) -> None:
    write_all(tmp_path)
    assert ruwordnet_path(tmp_path) == tmp_path / RUWORDNET.path
    encoders = load_encoders(tmp_path)
    assert encoders.label is None
    reference = np.load(DATA / "ruclip" / "reference.npz")
    image = Image.open(DATA / "ruclip" / "image_1.png")
    texts = json.loads((DATA / "ruclip" / "texts.json").read_text(encoding="utf-8"))
    atol = 5e-3 if torch.cuda.is_available() else 1e-4
    np.testing.assert_allclose(encoders.text_latents(texts), reference["text_latents"], rtol=0, atol=atol)
    np.testing.assert_allclose(encoders.image_latents([image])[0], reference["image_latents"][1], rtol=0, atol=atol)
    assert encoders.image_features([image]).shape == (1, 2048)


def test_an_incomplete_or_changed_set_is_not_used(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    write_all(tmp_path)
    vocabulary, inception = tmp_path / RUCLIP[0].path, tmp_path / INCEPTION.path

    inception.rename(tmp_path / "aside")
    with caplog.at_level(logging.WARNING):
        assert load_encoders(tmp_path).label == NanoEncoders.label
    assert f"the nano encoders stand in: {inception}: is missing" in caplog.text
    (tmp_path / "aside").rename(inception)

    original = vocabulary.read_bytes()
    vocabulary.write_bytes(original + b"\n")
    with pytest.raises(DataError, match=r"bpe.model: has 1557 bytes; assets.lock.json records 1556 bytes"):
        load_encoders(tmp_path)
    vocabulary.write_bytes(original)

    (tmp_path / RUWORDNET.path).write_bytes(b"changed")
    with pytest.raises(DataError, match="ruwordnet-2021.db: has 7 bytes"):
        ruwordnet_path(tmp_path)

    lock = json.loads((tmp_path / LOCK_FILE).read_text(encoding="utf-8"))
    (tmp_path / LOCK_FILE).unlink()
    caplog.clear()
    with caplog.at_level(logging.WARNING):
        assert load_encoders(tmp_path).label == NanoEncoders.label and ruwordnet_path(tmp_path) is None
    assert f"{vocabulary}: is not in {LOCK_FILE}; `make assets` records it" in caplog.text

    inception.write_bytes(b"recorded, but no weights")
    lock[INCEPTION.path] |= {"size": 24, "sha256": hashlib.sha256(b"recorded, but no weights").hexdigest()}
    (tmp_path / LOCK_FILE).write_text(json.dumps(lock), encoding="utf-8")
    with pytest.raises(DataError, match="the leaderboard's encoders cannot be loaded: .*cannot be read"):
        load_encoders(tmp_path)


def test_published_sources() -> None:
    repository = "hub:ai-forever/ruclip-vit-large-patch14-336"
    assert {asset.source.rpartition("/")[0] for asset in ENCODERS[:3]} == {repository}
    assert [asset.source.startswith("https://github.com/") for asset in (INCEPTION, RUWORDNET)] == [True, True]
    assert len({asset.path for asset in assets.ASSETS}) == 9
