"""Send a ZIP to a season's service."""

import os
import stat
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from evaluator.cli import shared, submissions
from evaluator.core import files, results, verdict
from evaluator.core.errors import DataError, EvaluatorError, Finding, SubmissionError

if TYPE_CHECKING:
    from evaluator.web.client import Client, Parcel
    from evaluator.web.protocol import Upload

TOKEN_VARIABLE = "FBC_TOKEN"
_LINE_SECONDS = 10.0  # between two lines of a log
_MAX_TOKEN_BYTES = 10_000

app = typer.Typer()


@app.command("send", rich_help_panel=submissions.PANEL)
def send(
    archive: Annotated[Path, shared.path_argument("the submission", "ZIP")],
    url: Annotated[str, typer.Option("--url", metavar="URL", help="the address of the season's service")],
    wait: Annotated[
        bool, shared.flag("--wait", help="wait for the run to end; the exit code is that of its verdict")
    ] = False,
    token_file: Annotated[
        Path | None,
        shared.path_option(
            "--token-file", help=f"a file with your token, that nobody else can read (default: {TOKEN_VARIABLE})"
        ),
    ] = None,
    json: Annotated[
        Path | None, shared.path_option("--json", help="write submission, state and verdict to this file")
    ] = None,
) -> int:
    """Check a ZIP, and send it to a season; run again, it goes on where it was interrupted."""
    from evaluator.web.client import Client

    results.prepare({"--json": json})
    found: dict[str, Any] = {"submission": None, "state": None, "verdict": None}
    client = Client(url, read_token(token_file), shared.note)
    try:
        return _send(client, archive, wait, found)
    except KeyboardInterrupt:
        if found["submission"] is None:
            shared.note("what was sent stays: the same command goes on with it")
        raise
    except EvaluatorError as error:
        failed = error.to_json()
        if error.exit_code == verdict.REFUSED_EXIT_CODE:
            failed = {"reason": str(error)}
        found["state"] = found["state"] or _STATES[error.exit_code]
        found |= failed
        raise
    finally:
        client.close()
        if json is not None:
            files.write_json(json, found)


_STATES = {1: "faulty", verdict.REFUSED_EXIT_CODE: "refused", 2: "failed", 3: "failed"}  # by exit code


def _send(client: "Client", archive: Path, wait: bool, found: dict[str, Any]) -> int:
    from evaluator.web import client as clients
    from evaluator.web import preflight, protocol

    season = client.season()
    checked, emitted = preflight.examine(archive, season["max_zip"], season["max_unpacked"])
    print("\n".join(preflight.lines(archive.name, checked, emitted, season["max_zip"], season["max_unpacked"])))
    sent = clients.parcel(archive)
    with _progress(sent) as moved:
        upload = client.send(sent, moved)
    found |= upload.model_dump(mode="json", include=_TOLD)
    if upload.state != protocol.ACCEPTED:
        found["state"] = upload.state
        raise _unsuccessful(upload)
    assert upload.submission is not None
    found["submission"] = upload.submission
    print(f"submission {upload.submission}: {'taken' if upload.is_new else 'this ZIP was sent before'}")
    if attempts := client.attempts():
        found["attempts"] = attempts
        print(f"attempts left today: {attempts['left']}")
    return _follow(client, upload.submission, wait, found)


_TOLD = {"verdict", "fault", "fix", "findings", "findings_total", "notes", "digest", "is_new", "reason"}


def _unsuccessful(upload: "Upload") -> EvaluatorError:
    from evaluator.web import client, protocol

    if upload.state == protocol.REFUSED:
        return client.RefusedHere(upload.reason or "refused")
    reasons: list[Finding | str] = [Finding(**finding) for finding in upload.findings]
    if not reasons:
        reasons.append(upload.reason or "the service says no more")
    known = verdict.TABLE.get(upload.verdict or "", verdict.INFRA)
    if upload.state == protocol.FAULTY:
        return SubmissionError(known, reasons, upload.findings_total or None)
    return EvaluatorError(reasons, verdict=known)


def _follow(client: "Client", number: int, wait: bool, found: dict[str, Any]) -> int:
    """Say how a submission stands, until its run has ended where that is waited for; returns the exit code."""
    from evaluator.web.client import ASK_SECONDS

    told = None
    while True:
        seen = client.submission(number)
        failed = any(run["waits_for_organizers"] for run in seen["runs"] if run["test_set"] == "public")
        for key in ("state", "verdict", "score", "tasks", "fix", "findings"):
            found[key] = seen[key]
        if seen["state"] != told:
            told = seen["state"]
            print(f"submission {number}: {seen['verdict'] or told}", flush=True)
        if failed:
            shared.note("the run failed by no fault of yours; the organizers see to it")
            return verdict.INFRA.exit_code
        if told == "done":
            return _tell(seen)
        if told == "cancelled":
            return verdict.REFUSED_EXIT_CODE
        if not wait:
            return 0
        time.sleep(ASK_SECONDS)


def _tell(seen: dict[str, Any]) -> int:
    ended = verdict.TABLE.get(seen["verdict"], verdict.INFRA)
    if ended is verdict.OK:
        if seen["score"] is not None:
            print(f"score: {seen['score']:.4f}")
            for task, value in seen["tasks"].items():
                print(f"  {task}: {value:.4f}")
        return 0
    for finding in seen["findings"]:
        shared.note(str(Finding(*(finding.get(key, "") for key in ("rule", "where", "found", "allowed", "fix")))))
    shared.note(f"verdict: {ended}; {seen['fix'] or ended.fix}")
    return ended.exit_code


def read_token(path: Path | None) -> str:
    """The token in a file, or else of the environment. Raises `DataError` where there is none, or others can read the
    file.
    """
    if path is None:
        token, where = os.environ.get(TOKEN_VARIABLE, ""), TOKEN_VARIABLE
        if not token.strip():
            raise DataError(f"set {TOKEN_VARIABLE} to your token, or name a file that has it: --token-file FILE")
    else:
        where = f"--token-file {path}"
        try:
            with open(os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC), encoding="utf-8") as file:
                found = os.fstat(file.fileno())
                if not stat.S_ISREG(found.st_mode) or found.st_mode & 0o077:
                    raise DataError(f"{where}: others can read it; `chmod 600 {path}`")
                token = file.read(_MAX_TOKEN_BYTES)
        except OSError as error:
            raise DataError(f"{where} cannot be read: {error.strerror}") from None
        except ValueError:
            token = ""
    token = token.strip()
    if not (token.isascii() and token.isprintable() and " " not in token and token):
        raise DataError(f"{where}: what is there is no token")
    return token


@contextmanager
def _progress(sent: "Parcel") -> Iterator[Callable[[int], None]]:
    """How many bytes have been sent: a bar on a terminal, a line now and then elsewhere."""
    if sys.stderr.isatty():
        from tqdm import tqdm

        with tqdm(total=sent.size, unit="B", unit_scale=True, desc=sent.path.name) as bar:

            def show(offset: int) -> None:
                if not bar.n:
                    bar.initial = offset  # what came before says nothing of the speed
                bar.update(offset - bar.n)

            yield show
        return
    last, begun, start = 0.0, time.monotonic(), None

    def say(offset: int) -> None:
        nonlocal last, start
        start = offset if start is None else start
        now = time.monotonic()
        if now - last >= _LINE_SECONDS or offset == sent.size:
            last = now
            speed = (offset - start) / max(now - begun, 1e-3)
            shared.note(f"{offset / 1e6:.1f} of {sent.size / 1e6:.1f} MB, {speed / 1e6:.1f} MB/s")

    yield say
