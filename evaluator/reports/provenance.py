"""What scores were made with and of: versions of the packages, digests of all files that went in."""

import contextlib
import hashlib
import importlib.metadata
import os
import platform
import sys
import tomllib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from evaluator.core.errors import SubmissionError
from evaluator.core.files import sha256_of
from evaluator.data.dataset import Data
from evaluator.data.predictions import Predictions
from evaluator.metrics.assets import FOLDER as ASSETS
from evaluator.metrics.assets import PARTIAL_FOLDER
from evaluator.package.folder import list_folder
from evaluator.reports.rendering import visible

PACKAGES = (
    "torch",
    "transformers",
    "numpy",
    "pillow",
    "nltk",
    "pymorphy3",
    "pymorphy3-dicts-ru",
    "razdel",
    "RapidFuzz",
    "eco2ai",
)


def versions() -> list[dict[str, str]]:
    """Name and version of everything that the scores depend on: the evaluator, Python, and each of `PACKAGES` that is
    installed.
    """
    with open(Path(__file__).parents[2] / "pyproject.toml", "rb") as file:
        evaluator = tomllib.load(file)["project"]["version"]
    found = {
        "evaluator": evaluator,
        "Python": platform.python_version(),
        "system": f"{platform.system()} {platform.machine()}",
    }
    for name in PACKAGES:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return [{"name": name, "version": version} for name, version in found.items()]


def digests(
    document: Mapping[str, Any],
    data: Data,
    predictions: Predictions,
    submission: Path | str | None = None,
    ruwordnet: Path | str | None = None,
    assets: Path | str | None = None,
    private: bool = False,
) -> list[dict[str, Any]]:
    """SHA-256 digests, `{name, sha256, files}`, of all that went into the scores.

    Of several files it is that of the list which `sha256sum` prints for them, in the paths' byte order. What was read
    for the verdict has the digest of the bytes that were read. With `private` the truth's are not there: whoever knows
    all but a few answers of a file could find these out by trying.
    """
    found: list[dict[str, Any]] = []

    def add(name: str, files: Mapping[str, str]) -> None:
        if files:
            found.append({"name": visible(name), "sha256": listing_digest(files), "files": len(files)})

    def add_file(name: str, sha256: str | None) -> None:
        if sha256 is not None:
            found.append({"name": visible(name), "sha256": sha256, "files": 1})

    if submission is not None:
        source = Path(submission)
        if source.is_dir():
            with contextlib.suppress(SubmissionError, OSError):  # changed since it was copied: these are not its files
                listed = list_folder(source, sys.maxsize).sizes
                add(f"submission {source.name}/", {path: sha256_of(source / path) for path in listed})
        elif source.is_file():
            add_file(f"submission {source.name}", sha256_of(source))
    add_file(f"competition {data.competition.name}, what in it decides scores", data.competition.digest)
    add_file("predictions.json", predictions.files.get("predictions.json"))
    add("predicted images", {path: predictions.files[path] for path in predictions.images.values()})
    add_file("input.json", data.files.get("input.json"))
    add("input images", {path: data.files[path] for example in data.examples for path in example.images})
    if not private:
        for name in ("ground_truth.json", "sample_ids.json", "tasks.json"):
            add_file(name, data.files.get(name))
        truths = {example.truth_image for example in data.examples}
        add("reference images", {path: data.files[path] for path in truths if path is not None})
        add_file("data in canonical form (data_digest of scores.json)", document.get("data_digest"))
    if ruwordnet is not None:
        add_file(f"RuWordNet {Path(ruwordnet).name}", sha256_of(Path(ruwordnet)))
    folder = ASSETS if assets is None else Path(assets)
    add(f"assets in {folder.name}/", {path: sha256_of(folder / path) for path in _files(folder)})
    return found


def listing_digest(files: Mapping[str, str]) -> str:
    """SHA-256 of the lines `<sha256>  <path>` of `files`, the SHA-256 of each by its path, in the paths' byte order."""
    listing = hashlib.sha256()
    for path in sorted(files, key=os.fsencode):
        listing.update(f"{files[path]}  ".encode() + os.fsencode(path) + b"\n")
    return listing.hexdigest()


def _files(folder: Path) -> Iterator[str]:
    """Paths of the regular files below `folder`, links not followed."""
    for parent, folders, names in os.walk(folder):
        folders[:] = [name for name in folders if name not in ("__pycache__", ".git", PARTIAL_FOLDER)]
        for path in (Path(parent, name) for name in names):
            if path.is_file() and not path.is_symlink():
                yield path.relative_to(folder).as_posix()
