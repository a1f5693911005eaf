"""What a person sees: the table of scores for a terminal or a CI log."""

from evaluator.carbon.meter import CarbonReading
from evaluator.core.text import LABEL_MARKS, aligned
from evaluator.scoring.score import Scores, TaskScore


def table(scores: Scores, carbon: CarbonReading | None = None, seconds: float | None = None) -> str:
    """The scores as aligned plain text, without colours."""
    marks = dict(zip(scores.labels, LABEL_MARKS, strict=False))
    rows = [("task", "metric", "score", "interval", "baseline", "threshold", "n")]
    rows += [_row(score, marks) for score in scores.tasks]
    lines = aligned(rows, left=(0, 1), rules=(1, len(rows)))
    lines += [f"{mark} {label}" for label, mark in marks.items()]
    lines += [f"! {error}" for error in scores.errors]
    lines += [f"note: {note}" for note in scores.notes]
    star = f" {''.join(marks.values())}" if marks else ""
    if scores.integral is not None:
        star += f" [{_interval(scores.interval, 4)}]"
        baseline = scores.competition.definition.integral.baseline
        shown = "" if baseline is None else f" (baseline: {baseline})"
        lines.append(f"Integral score: {scores.integral:.4f}{star}{shown}")
    elif scores.open_part is not None:
        star += f" [{_interval(scores.open_part_interval, 4)}]"
        lines.append(f"Open part of the integral score: {scores.open_part:.4f}{star} (not all hidden tasks are here)")
    else:
        lines.append("Integral score: none, as not all tasks have a score")
    if published := scores.competition.definition.published:
        tasks = [score.task.name for score in scores.tasks]
        known = [
            (result.name, f"{result.total:.4f}", *(_score(result.tasks.get(name)) for name in tasks))
            for result in published
        ]
        lines += [
            "",
            *aligned([("published, on the competition's own data", "total", *tasks), *known], left=(0,), rules=(1,)),
            "",
        ]
    if seconds is not None:
        lines.append(f"Time of the run: {seconds:.1f} s")
    if carbon is not None:
        lines += carbon.lines()
    return "\n".join(lines)


def _row(score: TaskScore, marks: dict[str, str]) -> tuple[str, str, str, str, str, str, str]:
    task = score.task
    mark = "".join(marks.get(label, "") for label in score.labels).ljust(len(marks))
    value = "error" if score.score is None else f"{score.score:.4f} {mark}"
    if task.threshold is None:
        threshold = "-"
    else:
        verdict = "    " if score.score is None else "met " if score.score >= task.threshold else "miss"
        threshold = f"{task.threshold:.2f} {verdict}"
    baseline = "-" if task.baseline is None else f"{task.baseline:.2f}"
    return task.name, task.metric_title, value, _interval(score.interval), baseline, threshold, str(score.n)


def _score(value: float | None) -> str:
    return "-" if value is None else f"{value:.2f}"


def _interval(interval: tuple[float, float] | None, digits: int = 2) -> str:
    """A 95 % bootstrap interval in a few characters."""
    return "-" if interval is None else f"{interval[0]:.{digits}f}..{interval[1]:.{digits}f}"
