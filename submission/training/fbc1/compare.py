"""Single-task models against one for all tasks of FusionBrain Challenge 1.0: the table of its slides, measured here.

    python -m training.fbc1.compare --out FOLDER                     # trains what is not yet, answers, scores, prints
    python -m training.fbc1.compare --out FOLDER --runs other.yaml   # at another budget than that of runs.yaml

The held-out examples are of the generator, never trained on. The submission's own
`run.py` answers and the evaluator scores, each as a process of its own; nothing of the evaluator is imported.
"""

from __future__ import annotations

import argparse
import json
import math
import shutil
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cores

if __name__ == "__main__":
    cores.settle()  # before torch is loaded

from safetensors import safe_open

from contract_fbc1 import TASKS, prediction_file
from resume import JOURNAL_NAME
from training.carbon import ENERGY, read_rows
from training.fbc1.constant import write_constants
from training.fbc1.export import EXAMPLES, FIRST_SEED, export
from training.fbc1.runs import DEFAULT, Runs, read_runs
from training.fbc1.train import SHIPPED_RUN, run_stage, ship, stages
from training.processes import StepError, exit_now, locked, log_training, run_python

SUBMISSION = Path(__file__).resolve().parents[2]
REPOSITORY = SUBMISSION.parent
#: Rows of the table: what is trained for it, by task.
MODELS: dict[str, dict[str, str]] = {
    "constant answers": {},
    "single-task models": {task: task for task in TASKS},
    "one model": dict.fromkeys(TASKS, SHIPPED_RUN),
}


@dataclass(frozen=True)
class Line:
    """A line of the table. `hours` are of CPU time; `kg` of CO2 by the counters of the training alone, `eco2ai` by
    eco2AI, which samples the whole machine. The VQGAN is trained already, and the same for all: it counts in none.
    """

    name: str
    scores: Mapping[str, float]  # by task
    integral: float
    hours: float = 0.0
    parameters: int = 0
    kg: float = 0.0
    eco2ai: float = 0.0


def compare(out: Path, runs: Runs, examples: int, country: str) -> list[Line]:
    """Trains, answers and scores what is not done yet in `out`. Raises StepError for a step that failed."""
    for stage in stages(runs):
        run_stage(stage, runs, out, country)
    data, answers = out / f"data-{examples}", out / f"answers-{examples}"
    if not data.exists():
        begun = data.with_suffix(".begun")
        shutil.rmtree(begun, ignore_errors=True)
        export(begun, examples, FIRST_SEED)
        begun.rename(data)
    lines = []
    for name, trained in MODELS.items():
        folder = answers / name.replace(" ", "-")
        if not trained:
            write_constants(data, folder)
        folder.mkdir(parents=True, exist_ok=True)
        for run in dict.fromkeys(trained.values()):
            tasks = [task for task in TASKS if trained[task] == run]
            answered = answers / "runs" / run
            _answer(out, data, run, tasks, answered)
            for task in tasks:
                shutil.copy(answered / prediction_file(task), folder)
        scores = _score(data, folder)
        found = {task["name"].lower(): float(task["score"]) for task in scores["tasks"].values()}
        by_task = {task: found[task.lower()] for task in TASKS}
        lines.append(_line(name, by_task, float(scores["integral"]), out, list(dict.fromkeys(trained.values())), runs))
    return lines


def table(lines: Sequence[Line]) -> str:
    """The lines as a table of Markdown."""
    head = ["", *TASKS, "S", "CPU hours", "parameters", "kg CO2", "kg CO2, eco2AI"]
    rows = [head, ["---"] * len(head)]
    for line in lines:
        cost = [""] * 4
        if line.parameters:
            masses = [f"{kg:.4f}" if math.isfinite(kg) else "-" for kg in (line.kg, line.eco2ai)]
            cost = [f"{line.hours:.2f}", f"{line.parameters:_}".replace("_", " "), *masses]
        rows.append([line.name, *(f"{line.scores[task]:.3f}" for task in TASKS), f"{line.integral:.3f}", *cost])
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)


def _answer(out: Path, data: Path, run: str, tasks: Sequence[str], folder: Path) -> None:
    """Predictions of a trained model for some tasks, where a folder of its own has not all of them yet."""
    # run.py has each file from its beginning on, and the journal until its end.
    if not (folder / JOURNAL_NAME).exists() and all((folder / prediction_file(task)).exists() for task in tasks):
        return
    model, asked = out / "models" / run, out / "asked" / run
    ship(out, run, model)
    shutil.rmtree(asked, ignore_errors=True)
    for task in tasks:
        shutil.copytree(data / task, asked / task)
    run_python("run.py", ["run.py", "--input", asked, "--output", folder, "--model", model], SUBMISSION)


def _score(data: Path, folder: Path) -> dict[str, Any]:
    scores = folder.with_suffix(".json")
    run_python(
        "evaluator",
        ["-m", "evaluator", "score", folder, "--data", data, "--competition", "fbc1", "--json", scores, "--no-report"],
        REPOSITORY,
    )
    document: dict[str, Any] = json.loads(scores.read_text(encoding="utf-8"))
    return document


def _line(
    name: str, scores: Mapping[str, float], integral: float, out: Path, trained: Sequence[str], runs: Runs
) -> Line:
    if not trained:
        return Line(name, scores, integral)
    rows = [row for run in trained for part in runs.behind(run) for row in read_rows(out / part / ENERGY)]
    return Line(
        name, scores, integral, sum(float(row["cpu_seconds"]) for row in rows) / 3600,
        sum(parameters(out / run / "model.safetensors") for run in trained),
        sum(float(row["kg"] or "nan") for row in rows), sum(float(row["eco2ai_kg"] or "nan") for row in rows),
    )  # fmt: skip


def parameters(weights: Path) -> int:
    """How many numbers a file of weights holds."""
    with safe_open(weights, framework="pt") as tensors:
        return sum(math.prod(tensors.get_slice(name).get_shape()) for name in tensors.keys())  # noqa: SIM118


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m training.fbc1.compare", description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )  # fmt: skip
    parser.add_argument("--out", type=Path, default=Path("../build/fbc1"), help="where checkpoints live")
    parser.add_argument("--runs", type=Path, default=DEFAULT, help="settings (default: %(default)s)")
    parser.add_argument("--examples", type=int, default=EXAMPLES, help="held-out, of each task (default: %(default)s)")
    parser.add_argument("--country", default="RU", help="two letters, for the CO2 of its electricity")
    arguments = parser.parse_args()
    log_training()
    out: Path = arguments.out.resolve()
    out.mkdir(parents=True, exist_ok=True)
    with locked(out):
        try:
            print(table(compare(out, read_runs(arguments.runs), arguments.examples, arguments.country)))
        except StepError as error:
            sys.exit(f"compare: {error}")


if __name__ == "__main__":
    main()
    exit_now(0)
