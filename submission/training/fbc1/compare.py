"""Single-task models against one for all tasks of FusionBrain Challenge 1.0: the table of its slides, measured here.

    python -m training.fbc1.compare --out FOLDER                     # trains what is not yet, answers, scores, prints
    python -m training.fbc1.compare --out FOLDER --runs other.yaml   # at another budget than that of runs.yaml

The held-out examples are of the generator, never trained on. The submission's own
`run.py` answers and the evaluator scores, each as a process of its own; nothing of the evaluator is imported.
"""

from __future__ import annotations

import argparse
import json
import logging
import math
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safetensors import safe_open

from training.carbon import ENERGY, read_rows
from training.fbc1.constant import write_constants
from training.fbc1.example import TASKS
from training.fbc1.export import export
from training.fbc1.runs import DEFAULT, Runs, read_runs
from training.fbc1.train import SHIPPED_RUN, run_stage, ship, stages
from training.processes import exit_now, locked

log = logging.getLogger("compare_fbc1")

SUBMISSION = Path(__file__).resolve().parents[2]
REPOSITORY = SUBMISSION.parent
#: Rows of the table: what is trained for it, by task.
MODELS: dict[str, dict[str, str]] = {
    "constant answers": {},
    "single-task models": {task: task for task in TASKS},
    "one model": dict.fromkeys(TASKS, SHIPPED_RUN),
}
EXAMPLES, FIRST_SEED = 200, 20_000


class CompareError(RuntimeError):
    """A step that failed; the message names it."""


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
    """Trains, answers and scores what is not done yet in `out`. Raises CompareError for a step that failed."""
    for stage in stages(runs):
        run_stage(stage, runs, out, country)
    data = out / "data"
    if not data.exists():
        export(data, examples, FIRST_SEED)
    lines = []
    for name, trained in MODELS.items():
        folder = out / "answers" / name.replace(" ", "-")
        if not trained:
            write_constants(data, folder)
        for run in dict.fromkeys(trained.values()):
            _answer(out, data, run, [task for task in TASKS if trained[task] == run], folder)
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
    """Predictions of a trained model for some tasks."""
    if all((folder / f"prediction_{task}.json").exists() for task in tasks):
        return
    model, asked = out / "models" / run, out / "asked" / run
    ship(out, run, model)
    shutil.rmtree(asked, ignore_errors=True)
    for task in tasks:
        shutil.copytree(data / task, asked / task)
    _run("run.py", ["run.py", "--input", asked, "--output", folder, "--model", model], SUBMISSION)


def _score(data: Path, folder: Path) -> dict[str, Any]:
    scores = folder.with_suffix(".json")
    _run(
        "evaluator",
        ["-m", "evaluator", "score", folder, "--data", data, "--competition", "fbc1", "--json", scores, "--no-report"],
        REPOSITORY,
    )
    document: dict[str, Any] = json.loads(scores.read_text(encoding="utf-8"))
    return document


def _run(name: str, arguments: Sequence[str | Path], folder: Path) -> None:
    log.info("%s …", name)
    done = subprocess.run(
        [sys.executable, *map(str, arguments)], cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        text=True, encoding="utf-8", errors="replace",
    )  # fmt: skip
    if done.returncode:
        raise CompareError(f"{name} ended with {done.returncode}:\n{done.stdout[-3000:]}")


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
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    out: Path = arguments.out.resolve()
    out.mkdir(parents=True, exist_ok=True)
    with locked(out):
        print(table(compare(out, read_runs(arguments.runs), arguments.examples, arguments.country)))


if __name__ == "__main__":
    main()
    exit_now(0)
