"""The charts of the site, as SVG.

A chart is as wide as its box. Lines and dots lie in an inner SVG of 1000 by 1000 units that is stretched with it, but
for their strokes; words stand outside of that at places in percent, so they keep their size on a phone. Colours are
the page's, by class. Each chart is hidden from screen readers: the page says the same in words, or in a table.
"""

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from typing import Any

from markupsafe import Markup, escape

from evaluator.season.site.usage import Day
from evaluator.season.site.words import MONTHS

MAX_LABEL_CHARACTERS = 22
MAX_LABELS = 8  # of dots; more lie on one another
UNIT = 1000


@dataclass(frozen=True)
class Scale:
    """Numbers from `low` to `high` as shares of a side; with `log` by their logarithms."""

    low: float
    high: float
    log: bool = False

    def __call__(self, value: float) -> float:
        low, high, value = (math.log10(x) if self.log else x for x in (self.low, self.high, value))
        return (value - low) / (high - low) if high > low else 0.5

    def ticks(self, most: int = 5) -> list[float]:
        """Round numbers on the scale."""
        if self.log:
            powers = range(math.ceil(math.log10(self.low) - 1e-9), math.floor(math.log10(self.high) + 1e-9) + 1)
            return [10.0**power for power in powers][:: max(1, -(-len(powers) // most))]
        step = _step((self.high - self.low) / most)
        first = math.ceil(self.low / step - 1e-9)
        return [step * number for number in range(first, math.floor(self.high / step + 1e-9) + 1)]


def _step(least: float) -> float:
    """The smallest of 1, 2 and 5 times a power of ten that is not below `least`."""
    if least <= 0:
        return 1.0
    power = 10.0 ** math.floor(math.log10(least))
    return next(power * factor for factor in (1, 2, 5, 10) if power * factor >= least * (1 - 1e-9))


def history(
    points: Sequence[tuple[datetime, float, str]],
    others: Sequence[tuple[datetime, float, str]],
    baseline: float | None,
    start: datetime,
    end: datetime,
    until: datetime,
) -> Markup:
    """Steps of the best score, from each of `points` (moment, score, what) on to `until`; `others` are dots alone. The
    chart goes from `start` to `end`.
    """
    values = [value for _, value, _ in (*points, *others)] + ([baseline] if baseline is not None else [])
    y = Scale(0.0, (max(values, default=0.0) or 1.0) * 1.08)
    span = max((end - start).total_seconds(), 1.0)

    def x(moment: datetime) -> float:
        return min(1.0, max(0.0, (moment - start).total_seconds() / span))

    parts = []
    if points:
        path = [f"M{_u(x(points[0][0]))} {_v(y(points[0][1]))}"]
        path += [f"H{_u(x(moment))}V{_v(y(value))}" for moment, value, _ in points[1:]]
        parts.append(_path("line", "".join(path) + f"H{_u(x(until))}"))
    parts += [_dot("dot faint", x(moment), y(value), what) for moment, value, what in others]
    parts += [_dot("dot", x(moment), y(value), what) for moment, value, what in points]
    words = _date_ticks(start, end, x)
    if baseline is not None:
        parts.insert(0, _path("baseline", f"M0 {_v(y(baseline))}H{UNIT}"))
    return _frame("tall", parts, y, lambda value: f"{value:.2f}".rstrip("0").rstrip("."), words)


def strip(
    values: Iterable[float], best: float | None, baseline: float | None, threshold: float | None, end: float = 1.0
) -> Markup:
    """A task's bar of the best score, with a tick of every team below it, over 0..`end`."""
    best, baseline, threshold = (value if value is None else value / end for value in (best, baseline, threshold))
    ticks = "".join(f"M{_u(value / end)} 700v300" for value in sorted({round(value, 3) for value in values}))
    parts = [Markup('<rect class="rail" y="0" width="1000" height="600"/>')]
    if best is not None:
        parts.append(Markup('<rect class="fill" y="0" width="{}" height="600"/>').format(_u(best)))
    if ticks:
        parts.append(_path("ticks", ticks))
    parts += [_path("halo", f"M{_u(value)} 0v600") for value in (threshold, baseline) if value is not None]
    parts += marks(baseline, threshold, -60, 720)
    svg = Markup('<svg class="strip" viewBox="0 0 1000 1000" preserveAspectRatio="none" aria-hidden="true">{}</svg>')
    return svg.format(Markup("").join(parts))


def marks(baseline: float | None, threshold: float | None, top: int, height: int) -> list[Markup]:
    """The lines of a task's baseline and threshold across its bar."""
    lines = (("threshold", threshold), ("baseline", baseline))
    return [_path(name, f"M{_u(value)} {top}v{height}") for name, value in lines if value is not None]


def task_marks(shares: Mapping[Any, tuple[float | None, float | None]]) -> Markup:
    """The marks of baseline and threshold, as shares of the bar, once in a page; `bar` refers to them by their keys."""
    groups = (
        Markup('<g id="m{}">{}</g>').format(key, Markup("").join(marks(baseline, threshold, 0, 1000)))
        for key, (baseline, threshold) in shares.items()
    )
    return Markup('<svg class="defs" aria-hidden="true"><defs>{}</defs></svg>').format(Markup("").join(groups))


def bar(value: float, number: object, under: bool) -> str:
    """A task's score, as a share of the best one, in a cell of a table."""
    return (
        '<svg class="bar" viewBox="0 0 1000 1000" preserveAspectRatio="none" aria-hidden="true">'
        f'<rect class="{"fill under" if under else "fill"}" y="250" width="{_u(value)}" height="500"/>'
        f'<use href="#m{number}"/></svg>'
    )


def scatter(
    dots: Sequence[tuple[float, float, str, str]],
    threshold: float | None,
    baseline: float | None,
) -> Markup:
    """Scores and CO2 in kg: dots of (score, kg, team, class); `threshold` is that of the scores. CO2 grows upwards, by
    its logarithm where it is not all of one size.
    """
    scores = [score for score, _, _, _ in dots] + [x for x in (threshold, baseline) if x is not None]
    low, high = min(scores), max(scores)
    margin = (high - low) * 0.06 or 0.05
    x = Scale(max(0.0, low - margin), high + margin)
    amounts = [amount for _, amount, _, _ in dots]
    if min(amounts) > 0 and max(amounts) > 8 * min(amounts):
        y = Scale(10 ** (math.floor(math.log10(min(amounts)) * 2) / 2), max(amounts) * 1.6, log=True)
    else:
        y = Scale(0.0, (max(amounts) or 1.0) * 1.12)
    parts = []
    if threshold is not None:
        left = _u(x(threshold))
        parts.append(Markup('<rect class="in" x="{}" width="{}" height="1000"/>').format(left, UNIT - left))
        parts.append(_path("threshold", f"M{left} 0V{UNIT}"))
    if baseline is not None:
        parts.append(_path("baseline", f"M{_u(x(baseline))} 0V{UNIT}"))
    parts += [_dot(f"dot {name}", x(score), y(amount), team) for score, amount, team, name in reversed(dots)]
    words = [
        Markup('<text x="{}%" y="100%" dy="19" text-anchor="middle">{:g}</text>').format(
            _percent(x(tick)), round(tick, 6)
        )
        for tick in x.ticks(4)
    ]
    named = [dot for dot in dots if dot[3] in ("won", "inside")][:MAX_LABELS]
    for score, amount, team, name in named:
        side = "end" if x(score) > 0.6 else "start"
        words.append(
            Markup('<text class="name {}" x="{}%" y="{}%" dx="{}" dy="4" text-anchor="{}">{}</text>').format(
                name, _percent(x(score)), _percent(1 - y(amount)), -10 if side == "end" else 10, side, cut(team)
            )
        )
    return _frame("tall", parts, y, lambda value: f"{value:g}", words)


def hours(days: Sequence[Day]) -> Markup:
    """Hours of runs on each day, and the longest that the queue was as a line over them."""
    y = Scale(0.0, max((day.seconds for day in days), default=0.0) / 3600 * 1.08 or 1.0)
    queue = Scale(0.0, max((day.longest for day in days), default=0) * 1.08 or 1.0)
    width = UNIT / max(1, len(days))
    parts = [
        Markup('<rect class="fill" x="{}" y="{}" width="{}" height="{}"><title>{}: {:.1f} h</title></rect>').format(
            round(width * (number + 0.12), 1),
            _v(y(day.seconds / 3600)),
            round(width * 0.76, 1),
            UNIT - _v(y(day.seconds / 3600)),
            day.day,
            day.seconds / 3600,
        )
        for number, day in enumerate(days)
    ]
    middles = [(round(width * (number + 0.5), 1), _v(queue(day.longest))) for number, day in enumerate(days)]
    if middles:
        parts.append(_path("queue", "M" + "L".join(f"{x} {v}" for x, v in middles)))
    every = max(1, -(-len(days) // 5))
    words = [
        _day(round((number + 0.5) * 100 / len(days), 2), day.day)
        for number, day in enumerate(days)
        if number % every == every // 2
    ]
    words += [
        Markup('<text class="queue" x="100%" dx="8" y="{}%" dy="4">{:g}</text>').format(_percent(1 - queue(tick)), tick)
        for tick in queue.ticks(3)
        if tick == int(tick)
    ]
    return _frame("tall right", parts, y, lambda value: f"{value:g}", words)


def cut(text: str) -> str:
    """A name as short as a chart has room for."""
    return text if len(text) <= MAX_LABEL_CHARACTERS else text[: MAX_LABEL_CHARACTERS - 1] + "…"


def _frame(
    kind: str, parts: Iterable[Markup], y: Scale, shown: Callable[[float], str], words: Iterable[Markup]
) -> Markup:
    """Grid and numbers of the vertical scale, `parts` on it, `words` around it."""
    ticks = y.ticks()
    grid = _path("grid", "".join(f"M0 {_v(y(tick))}H{UNIT}" for tick in ticks)) if ticks else Markup("")
    numbers = [
        Markup('<text x="0" dx="-8" y="{}%" dy="4" text-anchor="end">{}</text>').format(
            _percent(1 - y(tick)), shown(tick)
        )
        for tick in ticks
    ]
    return Markup(
        '<div class="plot {}"><svg aria-hidden="true">'
        '<svg viewBox="0 0 1000 1000" preserveAspectRatio="none" width="100%" height="100%">{}{}</svg>{}{}</svg></div>'
    ).format(kind, grid, Markup("").join(parts), Markup("").join(numbers), Markup("").join(words))


def _date_ticks(start: datetime, end: datetime, x: Callable[[datetime], float]) -> list[Markup]:
    """Days below the chart, at most five."""
    days = max(1, (end - start).days)
    every = next((n for n in (1, 2, 3, 7, 10, 14, 21, 28) if days / n <= 5), 1 + days // 5)
    moments = [start + timedelta(days=number) for number in range(0, days + 1, every)]
    return [_day(_percent(x(moment)), moment.date()) for moment in moments]


def _day(percent: float, day: date) -> Markup:
    """A day below the chart, in both languages."""
    return Markup("").join(
        Markup('<text class="{0}" lang="{0}" x="{1}%" y="100%" dy="19" text-anchor="middle">{2} {3}</text>').format(
            language, percent, day.day, months[day.month - 1]
        )
        for language, months in MONTHS.items()
    )


def _dot(name: str, x: float, y: float, what: str) -> Markup:
    """A line of no length, which a round cap makes a dot whatever the stretching."""
    return Markup(f'<path class="{name}" d="M{_u(x)} {_v(y)}h0"><title>{escape(what)}</title></path>')


def _path(name: str, d: str) -> Markup:
    return Markup(f'<path class="{name}" d="{d}"/>')  # of our own: hot, and `Markup.format` is slow


def _u(share: float) -> float:
    """A share of the width as units."""
    return round(min(1.0, max(0.0, share)) * UNIT, 1)


def _v(share: float) -> float:
    """A share of the height, from below, as units from above."""
    return round(UNIT - _u(share), 1)


def _percent(share: float) -> float:
    return round(min(1.0, max(0.0, share)) * 100, 2)
