"""Published weights: fetch them from the hub, or check a folder filled by hand.

    python -m rudolph.weights --model 2.7B-FBC2 --cache DIR

A model is one folder, the same for published weights and for ours:

    config.json
    pytorch_model.bin | model.safetensors
    bpe.model
    vqgan/config.json
    vqgan/vqgan.ckpt | vqgan/model.safetensors

Metadata, redirects, authorisation and transfer are huggingface_hub's; only the name of the unfinished file is ours. Its
`hf_hub_download` gives that file a random name and deletes it on failure, so gigabytes would start again at zero after
every stopped run; here the name is derived from the ETag, and the next run goes on from the file's end.
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
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx2
from huggingface_hub import get_hf_file_metadata, hf_hub_url
from huggingface_hub.errors import EntryNotFoundError, HfHubHTTPError
from huggingface_hub.file_download import http_get
from huggingface_hub.utils import build_hf_headers

from .config import SIZES
from .files import replacing, sha256_of
from .vqgan import SBER_GUMBEL_F8

logger = logging.getLogger(__name__)

UTILS_REPO = "sberbank-ai/rudalle-utils"
REPOS = {name: f"sberbank-ai/RUDOLPH-{name}" for name in ("2.7B-FBC2", "2.7B", "1.3B", "350M")}
PARTIAL_FOLDER = ".partial"
LFS_POINTER = b"version https://git-lfs"
EXIT_OK, EXIT_UNAVAILABLE, EXIT_INTERRUPTED = 0, 1, 130  # 2 is argparse's, for bad arguments


class WeightsError(RuntimeError):
    """Weights that are missing and cannot be fetched; the message says which, why, and where to put them by hand."""


@dataclass(frozen=True)
class Part:
    """One file of a model folder. `accepted` are glob patterns of the names that may stand in its place."""

    repo: str
    filename: str
    target: str
    accepted: tuple[str, ...]


def parts(model: str) -> list[Part]:
    """The files of a published model. Raises ValueError for an unknown name."""
    if model not in REPOS:
        raise ValueError(f"model is {model!r}; published are {', '.join(REPOS)}")
    repo, vqgan = REPOS[model], "vqgan.gumbelf8-sber.model.ckpt"
    return [
        Part(repo, "pytorch_model.bin", "pytorch_model.bin", ("pytorch_model.bin", "model.safetensors")),
        Part(UTILS_REPO, "bpe.model", "bpe.model", ("bpe.model",)),
        Part(UTILS_REPO, vqgan, "vqgan/vqgan.ckpt", ("vqgan/*.ckpt", "vqgan/model.safetensors")),
        Part(repo, "config.json", "config.json", ("config.json",)),  # last: the only one that can do without a network
    ]


def find(folder: Path, part: Part) -> Path | None:
    """The file that stands for `part` in `folder`. Raises WeightsError for an empty file or a Git LFS pointer."""
    for path in (path for pattern in part.accepted for path in sorted(folder.glob(pattern))):
        if not path.is_file():
            continue
        with path.open("rb") as file:
            start = file.read(len(LFS_POINTER))
        if not start or start == LFS_POINTER:
            what = "a Git LFS pointer, not the file it stands for (`git lfs pull` gets it)" if start else "empty"
            raise WeightsError(f"{path}: is {what}")
        return path
    return None


def fetch(model: str, cache: str | os.PathLike[str]) -> Path:
    """Make `<cache>/<model>` a complete model folder and return it; files that are there already are kept.

    Resumes unfinished downloads of earlier calls and shows a progress bar on a terminal. `HF_ENDPOINT` names another
    hub, `HF_TOKEN` a token. Needs no network where every file is there. Raises WeightsError.
    """
    folder = Path(cache) / model
    lacking = [part for part in parts(model) if find(folder, part) is None]
    if lacking:
        try:
            with _locked(folder):
                for part in lacking:
                    _obtain(part, folder)
                shutil.rmtree(folder / PARTIAL_FOLDER, ignore_errors=True)
        except (HfHubHTTPError, httpx2.HTTPError, OSError) as error:
            raise WeightsError(_by_hand(model, folder, error)) from error
    _complete_config(model, folder / "config.json")
    if not (folder / "vqgan" / "config.json").exists():
        _write_json(folder / "vqgan" / "config.json", SBER_GUMBEL_F8.to_dict())
    return folder


def _url(part: Part) -> str:
    # Read at every call: huggingface_hub itself reads the variable once, when it is imported.
    return hf_hub_url(part.repo, part.filename, endpoint=os.environ.get("HF_ENDPOINT", "").rstrip("/") or None)


def _obtain(part: Part, folder: Path) -> None:
    try:
        _download(part, folder)
    except EntryNotFoundError:
        if part.target != "config.json":
            raise
        logger.info("%s has no config.json; it is written from the table of sizes", part.repo)
    except (httpx2.TransportError, ConnectionError):
        # With the weights put in by hand, the one file that can be written without a network is no reason to stop.
        if part.target != "config.json":
            raise
        logger.warning("%s cannot be reached; config.json is written from the table of sizes", part.repo)


def _download(part: Part, folder: Path) -> None:
    """Fetch one file into its place, going on from the partial file of an earlier attempt at the same content."""
    url = _url(part)
    remote = get_hf_file_metadata(url)
    etag = remote.etag or ""
    tag = hashlib.sha256(f"{url} {etag}".encode()).hexdigest()[:16]
    partial = folder / PARTIAL_FOLDER / f"{tag}.{Path(part.target).name}"
    partial.parent.mkdir(parents=True, exist_ok=True)
    if not etag or (partial.exists() and remote.size is not None and partial.stat().st_size > remote.size):
        partial.unlink(missing_ok=True)  # without an ETag nothing says that the rest belongs to the same content
    headers = build_hf_headers() | {"Accept-Encoding": "identity"}
    while True:
        with partial.open("ab") as file:
            start = file.tell()
            logger.info("fetching %s from byte %d into %s", url, start, folder / part.target)
            try:
                http_get(
                    url, file, resume_size=start, headers=headers, expected_size=remote.size,
                    displayed_filename=f"{part.repo}/{part.filename}",
                )  # fmt: skip
                break
            except (httpx2.TransportError, OSError) as error:
                file.flush()
                if file.tell() <= start:  # try again for as long as bytes arrive
                    raise
                logger.warning("%s: connection lost at byte %d: %s", url, file.tell(), error)
    _verify(partial, etag, url)
    target = folder / part.target
    target.parent.mkdir(parents=True, exist_ok=True)
    os.replace(partial, target)


def _verify(path: Path, etag: str, url: str) -> None:
    """The ETag of a large file is its SHA-256. Deletes a file that differs, so that the next run starts afresh."""
    if not re.fullmatch("[0-9a-f]{64}", etag):
        return
    found = sha256_of(path)
    if found != etag:
        path.unlink()
        raise WeightsError(f"{url}: damaged on the way: SHA-256 is {found}, expected {etag}. Start again.")


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """Keep a second fetch from appending to the same partial files."""
    (folder / PARTIAL_FOLDER).mkdir(parents=True, exist_ok=True)
    with (folder / PARTIAL_FOLDER / "lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise WeightsError(f"{folder}: another process is fetching into it") from error
        yield


def _complete_config(model: str, path: Path) -> None:
    """Write the sizes that a config.json lacks; what it states stays."""
    stated = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    sizes = SIZES[model]
    if model == "350M" and stated and "text_special_tokens" not in stated:
        sizes = SIZES["350M-v1"]  # the first release knew no special tokens, so its file does not name them
    if not sizes.keys() <= stated.keys():
        _write_json(path, sizes | stated)


def _write_json(path: Path, value: dict[str, object]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with replacing(path) as temporary:
        temporary.write_text(json.dumps(value, indent=1) + "\n", encoding="utf-8")


def _by_hand(model: str, folder: Path, error: Exception) -> str:
    lines = [f"RUDOLPH {model}: cannot fetch the weights: {type(error).__name__}: {str(error).strip()}", ""]
    lines.append("Start again where there is a network (finished parts are kept), or put these files in place by hand:")
    for part in parts(model):
        if find(folder, part) is None:
            note = " (optional: the sizes are known)" if part.target == "config.json" else ""
            lines += [f"  {folder / part.target}{note}", f"    file {part.filename} of {part.repo}: {_url(part)}"]
    return "\n".join(lines)


def main(arguments: list[str] | None = None) -> int:
    """Command line: print the folder. Exit codes: 0 complete, 1 unavailable, 2 bad arguments, 130 interrupted."""
    parser = argparse.ArgumentParser(prog="python -m rudolph.weights", description="Fetch published RUDOLPH weights.")
    parser.add_argument("--model", required=True, choices=REPOS)
    parser.add_argument("--cache", required=True, type=Path, help="the model goes into the folder CACHE/MODEL")
    options = parser.parse_args(arguments)
    logging.basicConfig(level=logging.WARNING, format="%(message)s")
    logger.setLevel(logging.INFO)
    try:
        folder = fetch(options.model, options.cache)
    except WeightsError as error:
        logger.error("%s", error)
        return EXIT_UNAVAILABLE
    except KeyboardInterrupt:
        logger.error("interrupted; the next run goes on from here")
        return EXIT_INTERRUPTED
    sys.stdout.write(f"{folder}\n")
    return EXIT_OK


if __name__ == "__main__":
    sys.exit(main())
