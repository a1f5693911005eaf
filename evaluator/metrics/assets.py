"""The leaderboard's assets: fetched once, recorded, verified before every use, and needed offline ever after.

    python -m evaluator.metrics.assets fetch [--folder DIR]
    python -m evaluator.metrics.assets check [--folder DIR]

They are ruCLIP and FID-Inception, which together are the leaderboard's encoders, RuWordNet, for METEOR, and the source
of CodeBLEU's grammar of Python, which `fetch` also compiles. The lock file in their folder records each one's source,
size and SHA-256 when it is first fetched (or found, put there by hand); from then on another content is an error, on
every machine that has the lock file. Without the assets the nano encoders, which travel in the same folder, and PyPI's
grammar stand in.

This module is the code, `evaluator/assets/` beside it the default folder.
"""

from __future__ import annotations

import argparse
import fcntl
import hashlib
import json
import logging
import os
import re
import shutil
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING

from evaluator.core.errors import DataError, EvaluatorError, show
from evaluator.core.files import sha256_of, write_text

if TYPE_CHECKING:
    import numpy as np
    from PIL import Image

    from evaluator.metrics.clip import RuCLIP
    from evaluator.metrics.inception import InceptionFeatures
    from evaluator.metrics.nano import NanoEncoders
    from evaluator.metrics.syntax_trees import Grammar

logger = logging.getLogger(__name__)

FOLDER = Path(__file__).parents[1] / "assets"
LOCK_FILE = "assets.lock.json"
PARTIAL_FOLDER = ".partial"
LFS_POINTER = b"version https://git-lfs"
EXIT_INTERRUPTED = 130


@dataclass(frozen=True)
class Asset:
    """One file: `path` is its place in the assets folder, `source` a URL, or `hub:owner/name/file` on the hub.

    `digest` is what the publisher says of its SHA-256, which may be the start of it only.
    """

    path: str
    source: str
    digest: str = ""

    @property
    def on_hub(self) -> bool:
        """Whether the source is a file on the hub."""
        return self.source.startswith("hub:")

    @property
    def url(self) -> str:
        """`HF_ENDPOINT` names another hub; it is read at every call, while huggingface_hub reads it once."""
        if not self.on_hub:
            return self.source
        from huggingface_hub import hf_hub_url

        repo, _, filename = self.source.removeprefix("hub:").rpartition("/")
        return hf_hub_url(repo, filename, endpoint=os.environ.get("HF_ENDPOINT", "").rstrip("/") or None)


RUCLIP = tuple(
    Asset(f"ruclip-vit-large-patch14-336/{name}", f"hub:ai-forever/ruclip-vit-large-patch14-336/{name}")
    for name in ("bpe.model", "config.json", "pytorch_model.bin")
)
# The start of the SHA-256 is in the file's name, as torch.hub has it.
INCEPTION = Asset(
    "pt_inception-2015-12-05-6726825d.pth",
    "https://github.com/mseitzer/pytorch-fid/releases/download/fid_weights/pt_inception-2015-12-05-6726825d.pth",
    digest="6726825d",
)
RUWORDNET = Asset(
    "ruwordnet-2021.db",
    "https://github.com/avidale/python-ruwordnet/releases/download/0.0.4/ruwordnet-2021.db",
)
#: One commit after release 0.16.1, of 27 May 2020.
GRAMMAR_SOURCES = tuple(
    Asset(f"tree-sitter-python/{name}", f"https://github.com/tree-sitter/tree-sitter-python/raw/f45949f/{name}")
    for name in ("src/parser.c", "src/scanner.cc", "src/tree_sitter/parser.h")
)
GRAMMAR_RUNTIME = Asset(
    "tree-sitter-python/tree_sitter-0.2.2.tar.gz",
    "https://files.pythonhosted.org/packages/cd/c2/7816b62138532028ea760268aef746dae78c542f55f4751bb5f0ef7d28e4/"
    "tree_sitter-0.2.2.tar.gz",
    digest="2618b781b065d419237dcd234f7a7cd68920c4f15c6809a99ed2c2dfd6d15d01",
)
GRAMMAR_LIBRARY = "tree-sitter-python/python.so"  # compiled from these on each machine, so not the same on all
ENCODERS = (*RUCLIP, INCEPTION)
GRAMMAR = (*GRAMMAR_SOURCES, GRAMMAR_RUNTIME)
ASSETS = (*ENCODERS, RUWORDNET, *GRAMMAR)


class AssetState(Enum):
    """How an asset's file compares with the lock file."""

    VERIFIED = "verified"
    MISSING = "missing"
    UNRECORDED = "not in the lock file"
    CHANGED = "changed"


@dataclass(frozen=True)
class AssetCheck:
    """What is known of one asset; `reason` says what is wrong and how to mend it, and is empty where it is verified."""

    asset: Asset
    state: AssetState
    reason: str = ""


def load_encoders(folder: str | os.PathLike[str] = FOLDER) -> LeaderboardEncoders | NanoEncoders:
    """The leaderboard's encoders where all of their assets are there and verified, else the nano encoders.

    The `label` of the encoders tells which: None for the leaderboard's. Raises `DataError` where an asset differs from
    what the lock file records, or cannot be loaded.
    """
    if not _have(folder, ENCODERS, "the nano encoders stand in"):
        from evaluator.metrics.nano import NanoEncoders

        return NanoEncoders.load()
    from evaluator.metrics.clip import RuCLIP
    from evaluator.metrics.inception import InceptionFeatures

    try:
        ruclip = RuCLIP.from_pretrained((Path(folder) / RUCLIP[0].path).parent)
        return LeaderboardEncoders(ruclip, InceptionFeatures(Path(folder) / INCEPTION.path))
    except (OSError, ValueError) as error:
        raise DataError(f"the leaderboard's encoders cannot be loaded: {error}") from error


def ruwordnet_path(folder: str | os.PathLike[str] = FOLDER) -> Path | None:
    """RuWordNet's database, verified; None where it is not there. Raises `DataError` where it has changed."""
    return Path(folder) / RUWORDNET.path if _have(folder, (RUWORDNET,), "RuWordNet is not used") else None


def load_grammar(folder: str | os.PathLike[str] = FOLDER) -> Grammar:
    """The published grammar of Python where all of its assets are there and verified, else PyPI's.

    The `label` of the grammar tells which: None for the published one. It is compiled anew, for this process, where
    `build_grammar` has not been called. Raises `DataError` where an asset differs from what the lock file records, or
    the grammar can be neither compiled nor loaded.
    """
    from evaluator.metrics.python_grammar import PublishedGrammar, compile_library
    from evaluator.metrics.syntax_trees import CurrentGrammar

    folder = Path(folder)
    if not _have(folder, GRAMMAR, "the current grammar stands in"):
        return CurrentGrammar()
    library, lock = folder / GRAMMAR_LIBRARY, read_lock(folder)
    built = lock.get(GRAMMAR_LIBRARY)
    try:
        if built and library.is_file() and built == _built(library, lock):
            return PublishedGrammar(library)
        with tempfile.TemporaryDirectory() as temporary:
            library = Path(temporary) / library.name
            compile_library(folder / GRAMMAR_SOURCES[0].path, folder / GRAMMAR_RUNTIME.path, library)
            return PublishedGrammar(library)
    except OSError as error:
        raise DataError(f"the published grammar cannot be loaded: {error}") from error


def build_grammar(folder: str | os.PathLike[str] = FOLDER) -> None:
    """Compile the published grammar from its assets, which must be there, and record the library. Takes about 10 s;
    nothing is done where it is there. Raises `DataError`.
    """
    from evaluator.metrics.python_grammar import compile_library

    folder = Path(folder)
    with _locked(folder):
        library, lock = folder / GRAMMAR_LIBRARY, read_lock(folder)
        if not library.is_file() or lock.get(GRAMMAR_LIBRARY) != _built(library, lock):
            compile_library(folder / GRAMMAR_SOURCES[0].path, folder / GRAMMAR_RUNTIME.path, library)
            lock[GRAMMAR_LIBRARY] = _built(library, lock)
            _write_lock(folder, lock)


def _built(library: Path, lock: dict[str, LockEntry]) -> LockEntry:
    """What the lock file says of the grammar's library, compiled from what it says of the grammar's source."""
    from evaluator.metrics.python_grammar import GLUE

    sources = [*(lock[asset.path].sha256 for asset in GRAMMAR), sha256_of(GLUE)]
    source = f"compiled from {hashlib.sha256(' '.join(sources).encode()).hexdigest()}"
    return LockEntry(source, library.stat().st_size, sha256_of(library))


class LeaderboardEncoders:
    """ruCLIP L/14-336 and FID-Inception as `evaluator.metrics.encoders.Encoders`."""

    label: str | None = None

    def __init__(self, ruclip: RuCLIP, inception: InceptionFeatures) -> None:
        self._ruclip = ruclip
        self._inception = inception

    def text_latents(self, texts: list[str]) -> np.ndarray:
        """[N, D] unit rows of ruCLIP."""
        return self._ruclip.text_latents(texts)

    def image_latents(self, images: list[Image.Image]) -> np.ndarray:
        """[N, D] unit rows of ruCLIP."""
        return self._ruclip.image_latents(images)

    def image_features(self, images: list[Image.Image]) -> np.ndarray:
        """[N, 2048]: pool3 of FID-Inception."""
        return self._inception(images)


@dataclass(frozen=True)
class LockEntry:
    """What the lock file says of one asset. `size` in bytes."""

    source: str
    size: int
    sha256: str


def read_lock(folder: str | os.PathLike[str] = FOLDER) -> dict[str, LockEntry]:
    """The lock file of a folder by asset path; empty where there is none. Raises `DataError` where it is damaged."""
    path = Path(folder) / LOCK_FILE
    if not path.exists():
        return {}
    try:
        entries = json.loads(path.read_text(encoding="utf-8"))
        lock = {name: LockEntry(**entry) for name, entry in entries.items()}
    except (OSError, ValueError, TypeError, AttributeError) as error:
        raise DataError(f"{path}: not a lock file of assets: {error}") from error
    for name, record in lock.items():
        if type(record.size) is not int or not re.fullmatch("[0-9a-f]{64}", str(record.sha256)):
            raise DataError(f"{path}: {show(name)} has {show(record)}; needed are a size in bytes and a SHA-256")
    return lock


def inspect(folder: str | os.PathLike[str] = FOLDER, assets: Sequence[Asset] = ASSETS) -> list[AssetCheck]:
    """Compare each asset's content with the lock file. Reads every byte: seconds for the leaderboard's 2 GB."""
    folder = Path(folder)
    lock = read_lock(folder)
    return [_inspect(folder, asset, lock.get(asset.path)) for asset in assets]


def recorded(folder: str | os.PathLike[str] = FOLDER) -> dict[str, str]:
    """The SHA-256 that the lock file has of each asset that is there, in its size. Reads no content, as `inspect` does:
    two machines with the same have the same assets, unless loading them says otherwise.
    """
    lock, found = read_lock(folder), {}
    for asset in ASSETS:
        path, record = Path(folder) / asset.path, lock.get(asset.path)
        if record is not None and path.is_file() and path.stat().st_size == record.size:
            found[asset.path] = record.sha256
    return found


def fetch(folder: str | os.PathLike[str] = FOLDER, assets: Sequence[Asset] = ASSETS) -> None:
    """Make every asset be there and recorded; what is there already is kept, and recorded if it was not.

    Goes on from unfinished downloads of earlier calls and shows a progress bar on a terminal. Needs no network where
    every file is there. `HF_ENDPOINT` names another hub, `HF_TOKEN` a token for it. Raises `DataError` with every
    asset that could not be had and where to put it by hand, after having tried all.
    """
    folder = Path(folder)
    reasons: list[str] = []
    with _locked(folder):
        lock = read_lock(folder)
        for asset in assets:
            finding = _inspect(folder, asset, lock.get(asset.path))
            if finding.state is AssetState.VERIFIED:
                continue
            try:
                if finding.state is AssetState.CHANGED:
                    raise DataError(finding.reason)
                if finding.state is AssetState.MISSING:
                    _download(folder, asset, lock.get(asset.path))
                lock[asset.path] = _record(folder / asset.path, asset)
            except DataError as error:
                reasons += error.reasons
                continue
            _write_lock(folder, lock)
        if not reasons:
            shutil.rmtree(folder / PARTIAL_FOLDER, ignore_errors=True)
    if reasons:
        raise DataError(reasons)


def _have(folder: str | os.PathLike[str], assets: Sequence[Asset], instead: str) -> bool:
    """Whether all of the assets are there and verified. Where some are there, and not all, a warning says what is done
    `instead` and why. Raises `DataError` where one has changed.
    """
    findings = inspect(folder, assets)
    if changed := [finding.reason for finding in findings if finding.state is AssetState.CHANGED]:
        raise DataError(changed)
    lacking = [finding for finding in findings if finding.state is not AssetState.VERIFIED]
    if lacking and any(finding.state is not AssetState.MISSING for finding in findings):
        logger.warning("%s: %s", instead, "; ".join(finding.reason for finding in lacking))
    return not lacking


def _inspect(folder: Path, asset: Asset, record: LockEntry | None) -> AssetCheck:
    path = folder / asset.path
    if not path.is_file():
        return AssetCheck(asset, AssetState.MISSING, f"{path}: is missing; `make assets` fetches it")
    if record is None:
        return AssetCheck(asset, AssetState.UNRECORDED, f"{path}: is not in {LOCK_FILE}; `make assets` records it")
    size = path.stat().st_size
    found = f"SHA-256 {sha256_of(path)}" if size == record.size else f"{size} bytes"
    expected = f"SHA-256 {record.sha256}" if size == record.size else f"{record.size} bytes"
    if found == expected:
        return AssetCheck(asset, AssetState.VERIFIED)
    return AssetCheck(
        asset,
        AssetState.CHANGED,
        f"{path}: has {found}; {LOCK_FILE} records {expected}. Delete the file and run `make assets`;"
        " where the new content is meant, delete its entry there instead",
    )


def _record(path: Path, asset: Asset) -> LockEntry:
    """What the lock file is to say of a file. Raises `DataError` where it is not what it is named."""
    with path.open("rb") as file:
        start = file.read(len(LFS_POINTER))
    if not start or start == LFS_POINTER:
        what = "a Git LFS pointer, not the file it stands for (`git lfs pull` gets it)" if start else "empty"
        raise DataError(f"{path}: is {what}")
    digest = sha256_of(path)
    if not digest.startswith(asset.digest):
        raise DataError(f"{path}: has SHA-256 {digest}; that of {asset.source} begins with {asset.digest}")
    return LockEntry(asset.source, path.stat().st_size, digest)


def _write_lock(folder: Path, lock: dict[str, LockEntry]) -> None:
    entries = {name: vars(lock[name]) for name in sorted(lock)}
    write_text(folder / LOCK_FILE, json.dumps(entries, indent=1) + "\n")


def _download(folder: Path, asset: Asset, record: LockEntry | None) -> None:
    """Fetch one file into its place. Raises `DataError` that says where to put it by hand."""
    import httpx2

    try:
        partial = _download_partial(folder, asset)
    except (httpx2.HTTPError, OSError) as error:  # huggingface_hub's own are of both kinds
        reason = " ".join(f"{type(error).__name__}: {error}".split())
        raise DataError(
            f"{folder / asset.path}: cannot be fetched ({reason}). Run `make assets` again where there is a network,"
            f" or put the file there by hand from {asset.url} and run it to have it recorded"
        ) from error
    digest = sha256_of(partial)
    expected = record.sha256 if record else asset.digest
    if not digest.startswith(expected):
        partial.unlink()
        raise DataError(
            f"{asset.url}: what came has SHA-256 {digest}, expected is {expected}; run `make assets` again, and if it"
            f" stays so, the publisher has changed the file"
        )
    target = folder / asset.path
    target.parent.mkdir(parents=True, exist_ok=True)
    os.replace(partial, target)


def _download_partial(folder: Path, asset: Asset) -> Path:
    """Fetch the content into a partial file named by its ETag, so that a later call goes on from the file's end.

    huggingface_hub transfers; its own `hf_hub_download` would begin at zero after every stopped run.
    """
    import httpx2
    from huggingface_hub.file_download import http_get
    from huggingface_hub.utils import build_hf_headers

    url = asset.url
    etag, size = _remote(asset, url)
    tag = hashlib.sha256(f"{url} {etag}".encode()).hexdigest()[:16]
    partial = folder / PARTIAL_FOLDER / f"{tag}.{Path(asset.path).name}"
    if not etag or (partial.exists() and size is not None and partial.stat().st_size > size):
        partial.unlink(missing_ok=True)  # without an ETag nothing says that the rest belongs to the same content
    headers = {"Accept-Encoding": "identity"} | (build_hf_headers() if asset.on_hub else {})  # the token is the hub's
    while True:
        with partial.open("ab") as file:
            start = file.tell()
            logger.info("fetching %s from byte %d", url, start)
            try:
                http_get(
                    url, file, resume_size=start, headers=headers, expected_size=size, displayed_filename=asset.path
                )
                break
            except (httpx2.TransportError, OSError) as error:
                file.flush()
                if file.tell() <= start:  # try again for as long as bytes arrive
                    raise
                logger.warning("%s: connection lost at byte %d: %s", url, file.tell(), error)
    if re.fullmatch("[0-9a-f]{64}", etag) and sha256_of(partial) != etag:  # a large file's ETag on the hub
        partial.unlink()
        raise ConnectionError(f"the content was damaged on the way: its SHA-256 is not {etag}")
    return partial


def _remote(asset: Asset, url: str) -> tuple[str, int | None]:
    """ETag ("" where there is none) and size of the content, without fetching it."""
    from huggingface_hub import get_hf_file_metadata
    from huggingface_hub.constants import HF_HUB_ETAG_TIMEOUT
    from huggingface_hub.utils import get_session, hf_raise_for_status

    if asset.on_hub:
        metadata = get_hf_file_metadata(url)
        return metadata.etag or "", metadata.size
    # Not HEAD: release pages redirect to storage whose signed addresses are good for GET alone.
    headers = {"Accept-Encoding": "identity", "Range": "bytes=0-0"}
    with get_session().stream("GET", url, headers=headers, timeout=HF_HUB_ETAG_TIMEOUT) as response:
        hf_raise_for_status(response)
        ranged = response.headers.get("Content-Range", "").rpartition("/")[2]
        size = ranged or response.headers.get("Content-Length", "")
        return response.headers.get("ETag", "").removeprefix("W/").strip('"'), int(size) if size.isdigit() else None


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """Keep a second fetch from appending to the same partial files."""
    try:
        (folder / PARTIAL_FOLDER).mkdir(parents=True, exist_ok=True)
        lock = (folder / PARTIAL_FOLDER / "lock").open("w")
    except OSError as error:
        raise DataError(f"{folder}: cannot be written to: {error}") from error
    with lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise DataError(f"{folder}: another process is fetching into it") from error
        yield


def main(arguments: list[str] | None = None) -> int:
    """Command line: fetch or check, then a line an asset. Exit codes: 0 all verified, 2 not so, 130 interrupted."""
    parser = argparse.ArgumentParser(prog="python -m evaluator.metrics.assets", description="The leaderboard's assets.")
    parser.add_argument("command", choices=("fetch", "check"))
    parser.add_argument("--folder", type=Path, default=FOLDER, help="default: %(default)s")
    options = parser.parse_args(arguments)
    logging.basicConfig(level=logging.WARNING, format="%(message)s")
    logger.setLevel(logging.INFO)
    try:
        if options.command == "fetch":
            fetch(options.folder)
            build_grammar(options.folder)
        findings = inspect(options.folder)
        if reasons := [finding.reason for finding in findings if finding.reason]:
            raise DataError(reasons)
    except EvaluatorError as error:
        logger.error("%s", error)
        return error.exit_code
    except KeyboardInterrupt:
        logger.error("interrupted; the next run goes on from here")
        return EXIT_INTERRUPTED
    for name, record in read_lock(options.folder).items():
        sys.stdout.write(f"{AssetState.VERIFIED.value}  {record.sha256}  {record.size:>13,}  {name}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
