"""Pack a submission, look at one and at its weights, and verify a run's record."""

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

from evaluator.cli import shared
from evaluator.competition import DEFAULT
from evaluator.core import files, limits, results, verdict
from evaluator.core.errors import DataError

PANEL = "Submissions"
app = typer.Typer()


@app.command("pack", rich_help_panel=PANEL)
def pack(
    folder: Annotated[Path, shared.path_argument("the submission's folder", "FOLDER")],
    archive: Annotated[Path, shared.path_argument("the ZIP to write", "ZIP")],
    force: Annotated[bool, shared.flag("--force", help="replace an existing ZIP")] = False,
) -> None:
    """Pack a submission's folder: the same bytes every time."""
    from evaluator.package import pack

    packed = pack.pack(folder, archive, force)
    for path in packed.left_out:
        print(f"left out: {path}")
    print(
        f"{archive}: {packed.report.packed} of {limits.RUN.archive} bytes packed, {packed.report.unpacked} of"
        f" {limits.RUN.unpacked} unpacked, {packed.report.files} files"
    )


@app.command("check", rich_help_panel=PANEL)
def check(
    archive: Annotated[Path, shared.path_argument("the submission", "ZIP")],
    competition: shared.CompetitionName = DEFAULT,
    json: Annotated[Path | None, shared.path_option("--json", help="write verdict and findings to this file")] = None,
) -> None:
    """Look at a submission's ZIP without unpacking it."""
    from evaluator.competition.definition import find
    from evaluator.web import preflight

    results.prepare({"--json": json})
    with results.explained(json):
        allowed = find(competition).limits
        found, emitted = preflight.examine(archive, allowed.archive, allowed.unpacked)
        print("\n".join(preflight.lines(archive.name, found, emitted, allowed.archive, allowed.unpacked)))
        if json is not None:
            with shared.writing("--json", json):
                files.write_json(json, preflight.to_json(found, emitted))
    print("OK")


@app.command("shared-parameters", rich_help_panel=PANEL)
def shared_parameters(
    submission: Annotated[Path, shared.path_argument("folder or ZIP with checkpoints", "SUBMISSION")],
    json: Annotated[Path | None, shared.path_option("--json", help="write the count to this file, too")] = None,
    share: Annotated[
        float | None,
        typer.Option(
            "--share", metavar="SHARE", parser=shared.share, help="the least share (default: the competition's)"
        ),
    ] = None,
    competition: Annotated[
        str | None,
        typer.Option(
            "--competition",
            metavar="NAME|FOLDER",
            help="whose rule, and whose tasks all must have a model (default: fbc1's rule, of any tasks)",
        ),
    ] = None,
    model: Annotated[
        list[str],
        typer.Option(
            "--model",
            metavar="TASK=PATH",
            help="a checkpoint, an index of shards or a folder of the task's model, in place of the submission's"
            " models.json; again for each further one",
        ),
    ] = [],  # noqa: B006  Typer hands over a list of its own
) -> int:
    """Count the parameters that the models of all tasks share."""
    from evaluator.competition.definition import find
    from evaluator.package import shared_parameters

    results.prepare({"--json": json})
    with results.explained(json):
        chosen = find(competition or "fbc1")
        required = chosen.definition.prizes.shared_parameters if share is None else share
        if required is None:
            raise DataError(f"the prizes of competition {chosen.name} state no shared_parameters: give a --share")
        tasks = chosen.names.values() if competition else ()
        counted = shared_parameters.count(submission, required, _models(model), tuple(tasks))
        print("\n".join(counted.lines()))
        if json is not None:
            with shared.writing("--json", json):
                files.write_json(json, verdict.OK.to_json() | {"findings": [], "findings_total": 0} | counted.to_json())
    return 0 if counted.met else 1


def _models(settings: Sequence[str]) -> dict[str, list[str]] | None:
    """The paths of each task's model, None where nothing is set. Raises the error of wrong usage."""
    models: dict[str, list[str]] = {}
    for setting in settings:
        task, equals, path = setting.partition("=")
        if not (task and equals and path):
            raise typer.BadParameter(f"must be TASK=PATH, such as VQA=vqa.safetensors, not {setting!r}")
        models.setdefault(task, []).append(path)
    return models or None


@app.command("verify", rich_help_panel=PANEL)
def verify(
    record: Annotated[Path, shared.path_argument("record of a run", "RECORD")],
    key_file: Annotated[Path | None, shared.path_option("--key-file", help="the key that it was signed with")] = None,
) -> int:
    """Is a run's record, and are the files it names, as they were?"""
    from evaluator.sandbox import record as records

    findings = records.verify(record, None if key_file is None else records.read_key(key_file))
    for finding in findings:
        print(finding)
    if findings:
        return 1
    print(f"{record}: as it was {'signed' if key_file else 'written'}, with all files it names")
    return 0
