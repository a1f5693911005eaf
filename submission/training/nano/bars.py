"""The bars that `nano` has to reach, on fresh held-out examples: export, answer, score, one table.

    python -m training.nano.bars --seed 7 --n 500

The submission's own `run.py` answers and the evaluator scores, each as a process of its own, as on the leaderboard;
nothing of the evaluator is imported. Captions are scored a second time, under a hidden task's number: the challenge's
metric mixes METEOR, which the bar is about, with ruCLIP.
"""

from __future__ import annotations

import argparse
import json
import logging
import math
import shutil
import sys
import tempfile
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import yaml

from training.nano.heldout import check_pictures, check_routes, export
from training.processes import StepError, run_python
from training.worlds import IMAGE_SIZE, TASKS

log = logging.getLogger("bars")

SUBMISSION = Path(__file__).resolve().parents[2]
REPOSITORY = SUBMISSION.parent
SEED_STEP = 1_000_000  # examples that a seed has to itself, so that two seeds never share one
CAPTION_TASK = 6


@dataclass(frozen=True)
class Bar:
    """One line of the table. `score` None: nothing to measure it on; `bar` None: shown beside, with nothing asked."""

    task: str
    metric: str
    n: int
    score: float | None
    interval: tuple[float, float] | None
    bar: float | None = None
    labels: tuple[str, ...] = ()

    @property
    def met(self) -> bool | None:
        """Whether the score reaches the bar; None without a bar."""
        return None if self.bar is None else self.score is not None and self.score >= self.bar


CAPTIONS = "ImageCaptioning, METEOR"
#: Rows by the name of a task in scores.json: the task and metric to show, the bar.
SCORED: dict[str, tuple[str, str, float | None]] = {
    "TextQA": ("TextQA", "F1 over lemmas", 0.80),
    "MathQA": ("MathQA", "exact match", 0.75),
    "VisualQA": ("VisualQA", "METEOR", 0.80),
    CAPTIONS: ("ImageCaptioning", "METEOR", 0.70),
    "TRitW": ("TRitW", "1 - NED", 0.70),
    "ImageCaptioning": ("ImageCaptioning", "1/2 (METEOR + ruCLIP)", None),
    "ImageGeneration": ("ImageGeneration", "1/2 (ruCLIP + (200 - FID)/200)", None),
}
PICTURE_FACT, PICTURE_BAR, ROUTE_BAR = "colour and shape", 0.80, 0.99


class BarsError(ValueError):
    """What cannot be measured as it is asked; the message says why."""


def bars(out: Path, seed: int, n: int, model: Path | None = None) -> dict[str, Any]:
    """Exports `n` examples of each task into `out`, answers and scores them. Returns what `--json` writes.

    Raises BarsError for an evaluator that is not beside the submission, for a bad `n` and a folder that is not empty;
    StepError for a step that failed.
    """
    if not (REPOSITORY / "evaluator" / "__main__.py").is_file():
        raise BarsError(
            f"{REPOSITORY} has no evaluator/: the bars need the whole repository, and its packages installed (make)"
        )
    if not 2 <= n <= SEED_STEP:
        raise BarsError(f"n is {n}; it must be 2 (FID needs two pictures) to {SEED_STEP}")
    if out.exists() and any(out.iterdir()):
        raise BarsError(f"{out} is there already, and not empty; name another folder or remove it")
    first = seed * SEED_STEP
    log.info("writing %d held-out examples a task, numbers %d to %d", n, first, first + n - 1)
    export(out, n, first, IMAGE_SIZE, opponents=False)
    # The routes are to be the model's own: the form of a question, where it has one, would leave nothing to measure.
    settings = yaml.safe_load((SUBMISSION / "config.yaml").read_text(encoding="utf-8")) | {"route_by_form": False}
    (out / "config.yaml").write_text(yaml.safe_dump(settings, allow_unicode=True), encoding="utf-8")
    named = () if model is None else ("--model", model)
    folders = ("--input", out / "data", "--output", out / "output")
    run_python("run.py", ["run.py", "--config", out / "config.yaml", *folders, *named], SUBMISSION)
    scores = _score(out / "data", out / "output", out / "scores.json")
    captions = _score(*_captions_alone(out), out / "captions" / "scores.json")
    pictures, routes = check_pictures(out, out / "output"), check_routes(out, out / "output")
    kinds = json.loads((out / "kinds.json").read_text(encoding="utf-8"))
    tasks = {task["name"]: task for task in (*scores["tasks"].values(), *captions["tasks"].values())}
    rows = [_scored(tasks[name], *shown) for name, shown in SCORED.items()]
    rows += [
        _share("pictures", fact, *found, PICTURE_BAR if fact == PICTURE_FACT else None)
        for fact, found in pictures.items()
    ]
    rows += [_share("routes", task, *found, ROUTE_BAR) for task, found in routes.items()]
    by_kind = {name: _by_kind(tasks[name]["ids"], kinds) for name in SCORED if name != "ImageCaptioning"}
    return {
        "seed": seed, "n": n, "first_example": first, "model": str(model or "as in config.yaml"),
        "bars": [asdict(row) | {"met": row.met} for row in rows], "kinds": by_kind,
    }  # fmt: skip


def table(document: dict[str, Any]) -> str:
    """The bars, and then the score of each kind, as text."""
    lines = [f"{'task':<16} {'metric':<31} {'n':>5} {'score':>7}  {'95 % interval':<14}  bar"]
    marks: dict[str, str] = {}
    for row in document["bars"]:
        score = "-" if row["score"] is None else f"{row['score']:.3f}"
        interval = "" if row["interval"] is None else "{:.3f}..{:.3f}".format(*row["interval"])
        bar = "" if row["bar"] is None else f"{row['bar']:.2f} {'met' if row['met'] else 'not met'}"
        mark = "".join(marks.setdefault(label, "*#"[len(marks) % 2]) for label in row["labels"])
        lines.append(
            f"{row['task']:<16} {row['metric']:<31} {row['n']:>5} {score:>7}  {interval:<14}  {bar:<13}{mark}".rstrip()
        )
    lines += [f"{mark} {label}" for label, mark in marks.items()]
    for name, kinds in document["kinds"].items():
        task, metric, _ = SCORED[name]
        lines += ["", f"{task} by kind: {'ruCLIP alone' if task == 'ImageGeneration' else metric}"]  # FID has no ids
        lines += [f"  {kind:<44} {found['n']:>6} {found['score']:>7.3f}" for kind, found in kinds.items()]
    return "\n".join(lines)


def _captions_alone(out: Path) -> tuple[Path, Path]:
    """The captioning examples as a data folder whose metric is METEOR alone, and their predictions."""
    data, output = out / "captions" / "data", out / "captions" / "output"
    (output / "images").mkdir(parents=True)
    (data / "images").mkdir(parents=True)
    tasks = _read(out / "data" / "sample_ids.json")
    keys = [key for key, number in tasks.items() if TASKS[number] == "ImageCaptioning"]
    for source, target in (
        (out / "data" / "input.json", data / "input.json"),
        (out / "data" / "ground_truth.json", data / "ground_truth.json"),
        (out / "output" / "predictions.json", output / "predictions.json"),
    ):
        whole = _read(source)
        _write(target, {key: whole[key] for key in keys})
    _write(data / "sample_ids.json", dict.fromkeys(keys, CAPTION_TASK))
    _write(data / "tasks.json", {str(CAPTION_TASK): {"name": CAPTIONS, "output": "text", "metric": "caption_meteor"}})
    for key in keys:
        shutil.copy(out / "data" / "images" / f"{key}.png", data / "images")
    return data, output


def _score(data: Path, output: Path, scores: Path) -> dict[str, Any]:
    command: list[str | Path] = ["-m", "evaluator", "score", output, "--data", data, "--json", scores, "--no-report"]
    run_python("evaluator", command, REPOSITORY)
    return _read(scores)


def _scored(found: dict[str, Any], task: str, metric: str, bar: float | None) -> Bar:
    interval = found["interval"]
    return Bar(task, metric, found["n"], found["score"], tuple(interval) if interval else None, bar,
               tuple(found["labels"]))  # fmt: skip


def _share(task: str, metric: str, share: float, n: int, bar: float | None) -> Bar:
    return Bar(task, metric, n, share if n else None, wilson(share, n) if n else None, bar)


def wilson(share: float, n: int, z: float = 1.96) -> tuple[float, float]:
    """The 95 % interval of a share of `n` that are drawn independently."""
    middle, spread = share + z * z / (2 * n), z * math.sqrt(share * (1 - share) / n + z * z / (4 * n * n))
    return max(0.0, (middle - spread) / (1 + z * z / n)), min(1.0, (middle + spread) / (1 + z * z / n))


def _by_kind(ids: dict[str, float], kinds: dict[str, dict[str, Any]]) -> dict[str, dict[str, float]]:
    found: dict[str, list[float]] = {}
    for key, value in ids.items():
        found.setdefault(kinds[key]["kind"], []).append(value)
    return {kind: {"n": len(found[kind]), "score": sum(found[kind]) / len(found[kind])} for kind in sorted(found)}


def _read(path: Path) -> Any:
    return json.loads(path.read_text(encoding="utf-8"))


def _write(path: Path, document: Any) -> None:
    path.write_text(json.dumps(document, ensure_ascii=False, indent=1), encoding="utf-8")


def main() -> None:
    """Command line. Exit codes: 0 measured, 1 a step failed, 2 bad arguments."""
    parser = argparse.ArgumentParser(
        prog="python -m training.nano.bars", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seed", type=int, required=True, help="any whole number; no two share an example")
    parser.add_argument("--n", type=int, default=500, help="examples of each task (default: %(default)s)")
    parser.add_argument("--model", type=Path, help="model folder (default: the one in config.yaml)")
    parser.add_argument("--out", type=Path, help="keep data, answers and scores in this new folder")
    parser.add_argument("--json", type=Path, help="write the table to this file too")
    arguments = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stdout)
    for library in ("pymorphy3", "PIL"):
        logging.getLogger(library).setLevel(logging.WARNING)
    with tempfile.TemporaryDirectory() as temporary:
        out = (arguments.out or Path(temporary)).resolve()
        try:
            document = bars(out, arguments.seed, arguments.n, arguments.model and arguments.model.resolve())
        except (BarsError, StepError) as error:
            sys.exit(f"bars: {error}")
    if arguments.json:
        _write(arguments.json, document)
    log.info("%s", table(document))


if __name__ == "__main__":
    main()
