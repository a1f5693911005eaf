"""Cells of scores in the site's tables. A page has thousands of them, so they are no templates."""

from markupsafe import Markup

from evaluator.season.board import Sharing
from evaluator.season.site import charts, words


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


def sharing_cell(sharing: Sharing | None) -> Markup:
    """The share of parameters that all tasks' models have in common, with a mark where it is too little for a prize, or
    was not counted; empty for None.
    """
    if sharing is None:
        return Markup("<td></td>")
    value = "" if sharing.share is None else repr(sharing.share)
    return Markup(f'<td class="number" data-v="{value}">{sharing_text(sharing)}</td>')


def sharing_text(sharing: Sharing) -> Markup:
    """The same without a cell."""
    share = sharing.share
    shown = words.bilingual("не посчитано", "not counted") if share is None else f"{100 * share:.1f}&nbsp;%"
    return Markup(shown if sharing.met else f'<span class="under">▾&nbsp;{shown}</span>')


def _marked(score: float, under: bool) -> str:
    return f'<span class="under">▾&nbsp;{score:.3f}</span>' if under else f"{score:.3f}"
