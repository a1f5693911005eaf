"""A season in one file, and back."""

import contextlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Annotated

import typer

from evaluator.cli import shared
from evaluator.cli.season import options
from evaluator.core import files

app = typer.Typer()


@app.command("backup")
def back_up(
    archive: Annotated[Path, shared.path_argument("where to; what is there is replaced", "FILE")],
    json: options.Json = None,
    season: options.Rules = options.DEFAULT_RULES,
) -> None:
    """Pack database, rules, keys, ZIPs, runs and test sets into one file, while the queue works on."""
    from evaluator.season import backup

    files.check_writable("FILE", archive)
    options.check_outputs(json)
    with _bar() as progress:
        found = backup.back_up(season, archive, progress)
    for digest in found.missing:
        shared.note(f"submissions/{digest}.zip is missing, and so it is from the backup")
    for digest in found.damaged:
        shared.note(f"submissions/{digest}.zip is not the ZIP that was sent any more; it is in the backup as it is")
    text = (
        f"{archive}: {found.teams} teams, {found.submissions} submissions, {found.runs} runs that have ended;"
        f" {found.files} files, {found.bytes / 1e6:.1f} MB"
    )
    document = {
        "teams": found.teams,
        "submissions": found.submissions,
        "runs": found.runs,
        "files": found.files,
        "bytes": found.bytes,
        "missing": found.missing,
        "damaged": found.damaged,
    }
    options.give(text, document, json)


@app.command("restore")
def restore(
    archive: Annotated[Path, shared.path_argument("of `season backup`", "FILE")],
    folder: Annotated[
        Path, shared.path_option("--folder", help="a new one, which becomes the season's", metavar="FOLDER")
    ],
    url: Annotated[
        str | None,
        typer.Option("--url", metavar="URL", help="an empty database (default: the one that season.toml names)"),
    ] = None,
    json: options.Json = None,
) -> None:
    """Unpack a backup into a new folder and an empty database, when every byte of it was checked."""
    from evaluator.season import backup

    options.check_outputs(json)
    with _bar() as progress:
        found = backup.restore(archive, folder, url, progress)
    for digest in found.missing:
        shared.note(f"submissions/{digest}.zip is not in the backup")
    if found.storage is not None:
        shared.note("[storage] url is taken out of season.toml: before it is set, copy submissions/ and runs/ there")
    lines = [f"{found.folder}: restored, database {found.database}"]
    if found.running:
        lines += [f"{found.running} runs were under way; `queue run` queues them anew when their leases have run out"]
    lines += [f"now: python -m evaluator season check --season {found.folder / backup.RULES}"]
    document = {
        "folder": str(found.folder),
        "database": found.database,
        "running": found.running,
        "missing": found.missing,
        "storage": found.storage,
    }
    options.give("\n".join(lines), document, json)


@contextlib.contextmanager
def _bar() -> Iterator[Callable[[int, int], None]]:
    """A bar of bytes, for a terminal."""
    from tqdm import tqdm

    with tqdm(unit="B", unit_scale=True, disable=None, leave=False) as bar:

        def progress(done: int, size: int) -> None:
            bar.total = size
            bar.update(done - bar.n)

        yield progress
