"""Cells of scores in the site's tables. A page has thousands of them, so they are no templates."""

from markupsafe import Markup

from evaluator.season.site import charts


def task_cell(score: float | None, number: int, hidden: bool, best: float, threshold: float = 0.0) -> Markup:
    """A task's score with its bar, which reaches to `best`, and a mark where it is below the threshold of the prize;
    empty for None.
    """
    if score is None:
        return Markup('<td class="number task"></td>')
    under = score < threshold
    kind = " is-hidden" if hidden else ""
    shown = f"{_marked(score, under)}{charts.bar(score / best, number, under)}"  # numbers alone
    return Markup(f'<td class="number task{kind}" data-v="{score!r}">{shown}</td>')


def plain_cell(score: float | None, threshold: float = 0.0) -> Markup:
    """The same without a bar."""
    if score is None:
        return Markup("<td></td>")
    shown = _marked(score, score < threshold)
    return Markup(f'<td class="number" data-v="{score!r}">{shown}</td>')


def total_cell(score: float | None, best: float) -> Markup:
    """A submission's score with its bar, which reaches to `best`."""
    if score is None:
        return Markup('<td class="number score"></td>')
    shown = f"<b>{score:.4f}</b>{charts.bar(score / best, 't', False)}"
    return Markup(f'<td class="number score" data-v="{score!r}">{shown}</td>')


def _marked(score: float, under: bool) -> str:
    return f'<span class="under">▾&nbsp;{score:.3f}</span>' if under else f"{score:.3f}"
