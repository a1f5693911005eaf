"""What the pages on the rules and on sending say, out of season.toml, the competition and the table of verdicts."""

import re
from dataclasses import dataclass
from datetime import datetime
from fractions import Fraction

from markupsafe import Markup

from evaluator.core.verdict import OK, TABLE, Verdict
from evaluator.reports.rendering import visible
from evaluator.season.config import Season, is_web_address
from evaluator.season.site import words

_MAIL = re.compile(r"[\w.+-]+@[\w-]+(\.[\w-]+)+", re.ASCII)


def deadlines(season: Season) -> list[tuple[Markup, datetime]]:
    """What begins or ends, and when: the first second of it or the last."""
    found = [
        (words.bilingual("Первое решение можно отправить с", "Submissions are taken from"), season.start, True),
        (words.bilingual("Последнее решение можно отправить до", "Submissions are taken until"), season.end, False),
        (
            words.bilingual("Выбрать решения для приватной таблицы до", "Choose for the private board until"),
            season.choose_until,
            False,
        ),
    ]
    return [(what, season.first_moment(day) if is_first else season.last_moment(day)) for what, day, is_first in found]


@dataclass(frozen=True)
class TaskRule:
    """How a task counts. `title` and `metric` are None of one that is hidden, or that the data define."""

    number: int
    name: str
    title: Markup | None
    metric: str | None
    weight: str
    best: float
    baseline: float | None
    threshold: float | None


def tasks(season: Season) -> list[TaskRule]:
    """The tasks that have weight."""
    competition = season.competition
    found = []
    for task in competition.definition.tasks:
        if task.number not in season.weights:
            continue
        title = None
        if not task.hidden and (task.title.ru or task.title.en):
            title = words.bilingual(task.title.shown(["ru"]) or "", task.title.shown(["en"]) or "")
        found.append(
            TaskRule(
                task.number,
                task.name,
                title,
                None if task.hidden or task.metric is None else competition.metrics[task.metric].title,
                str(Fraction(season.weights[task.number]).limit_denominator(1000)),
                competition.best(task.number),
                season.baseline.get(task.number),
                season.thresholds.get(task.number),
            )
        )
    return found


def limits(season: Season) -> list[tuple[Markup, Markup | str]]:
    """What a run may use."""
    given = season.limits
    size, t = words.size, words.bilingual
    return [
        (t("время", "time"), words.duration(given.time)),
        (t("память, вместе с /tmp, /dev/shm и output/", "memory, with /tmp, /dev/shm and output/"), size(given.memory)),
        (t("ядер CPU", "CPU cores"), f"{given.cpus:g}"),
        (t("GPU", "GPUs"), str(given.gpus)),
        (t("ZIP", "the ZIP"), size(given.archive)),
        (t("ZIP в распакованном виде", "the ZIP, unpacked"), size(given.unpacked)),
        (t("образ", "the image"), size(given.image)),
        (t("output/", "output/"), size(given.output)),
        (t("сеть", "network"), t("нет", "none")),
        (t("образ по умолчанию", "the default image"), season.competition.definition.image),
    ]


def verdicts() -> list[tuple[Verdict, Markup | None]]:
    """All verdicts, with what a team does about one that is its fault."""
    return [
        (
            verdict,
            words.bilingual(words.RUSSIAN_FIXES.get(name, verdict.fix), verdict.fix)
            if verdict.fault == "team"
            else None,
        )
        for name, verdict in sorted(TABLE.items(), key=lambda item: item[0] != OK.name)
    ]


def contact(text: str) -> Markup:
    """Whom to ask: a link where the line is a web or a mail address, else as it is."""
    if is_web_address(text) or _MAIL.fullmatch(text):
        address = text if is_web_address(text) else f"mailto:{text}"
        return Markup('<a href="{}">{}</a>').format(address, visible(text))
    return Markup("<bdi>{}</bdi>").format(visible(text))
