"""The whole command line, and how what happens in a command becomes an exit code and a few lines on stderr.

Exit codes: 0 all is well; 1 the submission's fault; 2 the organizer's data or wrong usage; 3 the evaluator's own; 4
refused by the season's rules; 128 and a signal's number: it was interrupted.
"""

import contextlib
import io
import logging
import os
import signal
import sys
import warnings

import typer

from evaluator.cli import co2, competition, machine, run, season, send, shared, submissions
from evaluator.core import results, verdict
from evaluator.core.errors import EvaluatorError

logger = logging.getLogger("evaluator")

_PROGRAM = "python -m evaluator"
_KINDS = {  # by exit code
    1: "submission error",
    2: "data error",
    3: "evaluator error",
    verdict.REFUSED_EXIT_CODE: "refused",
}

app = typer.Typer(
    cls=shared.Group,
    help="Score submissions to FusionBrain Challenge 2.0 and to competitions of your own.",
    epilog="Exit codes: 0 all is well; 1 the submission's fault; 2 the organizer's data or wrong usage; 3 the"
    " evaluator's own; 4 refused by the season's rules; 128 and a signal's number: interrupted.",
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
for group in (run.app, submissions.app, send.app, competition.app, season.app, co2.app, machine.app):
    app.add_typer(group)


def main(arguments: list[str] | None = None) -> int:
    """Run one command, by default that of the process; returns the exit code."""
    logging.basicConfig(level=logging.WARNING, format="%(levelname)s %(name)s: %(message)s", stream=sys.stderr)
    # Of torch's import and eco2AI's rows: nothing that somebody who scores a submission could act on.
    warnings.simplefilter("ignore", FutureWarning)
    if isinstance(sys.stdout, io.TextIOWrapper):  # a name that the terminal cannot show is no failure
        sys.stdout.reconfigure(errors="backslashreplace")
    words = list(sys.argv[1:] if arguments is None else arguments)
    command = typer.main.get_command(app)
    try:
        # Not command.main(), which makes every interrupt an exit code of 130.
        with shared.packages_named(), command.make_context(_PROGRAM, words) as context:
            code: int | None = command.invoke(context)
        sys.stdout.flush()
        return code or 0
    except typer.Exit as end:  # of --help
        return end.exit_code
    except typer.TyperException as error:
        message = " ".join(error.format_message().replace("Value error, ", "").split())
        shared.note(f"usage error: {message} (--help says what there is)")
        return verdict.DATA_ERROR.exit_code
    except EvaluatorError as error:
        for line in str(error).splitlines():
            shared.note(f"{_KINDS[error.exit_code]}: {line}")
        if error.verdict.fault != "organizer":  # to whoever called wrongly no verdict matters
            shared.note(f"verdict: {error.verdict}; {error.verdict.fix}")
        _tell_notes(error)
        return error.exit_code
    except KeyboardInterrupt as interrupt:
        shared.note("interrupted")
        number: int = interrupt.args[0] if interrupt.args else signal.SIGINT
        return 128 + number
    except BrokenPipeError:  # what reads the output has ended, as `head` does
        with contextlib.suppress(OSError, ValueError):  # no descriptor where a test has taken it
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # or Python says so once more at its end
        return 128 + signal.SIGPIPE
    except Exception as error:
        logger.critical("this is a fault of the evaluator", exc_info=True)
        shared.note(f"{_KINDS[verdict.INFRA.exit_code]}: {results.shown(error)}")
        _tell_notes(error)
        return verdict.INFRA.exit_code


def _tell_notes(error: Exception) -> None:
    for line in getattr(error, "__notes__", ()):
        if isinstance(line, results.OwnNote):
            shared.note(f"{_KINDS[verdict.INFRA.exit_code]}: {line}")
