"""What the site says in two languages: verdicts and what to do about them, months, amounts with their units."""

import functools

from markupsafe import Markup, escape

from evaluator.core.text import ENERGY, MASS, Units, unit
from evaluator.reports.rendering import russian_label

# What a verdict, or a state, is called, and what a team is to do about it.
NAMES = {
    "OK": ("засчитано", "scored"),
    "BAD_ZIP": ("плохой ZIP", "bad ZIP"),
    "BAD_METADATA": ("плохой metadata.json", "bad metadata.json"),
    "BAD_WEIGHTS": ("плохие веса", "bad weights"),
    "BAD_IMAGE": ("нет образа", "bad image"),
    "OOM": ("не хватило памяти", "out of memory"),
    "TIMEOUT": ("не уложилось во время", "timeout"),
    "EXIT": ("завершилось с ошибкой", "exit code"),
    "DISK": ("не хватило диска", "disk full"),
    "BAD_OUTPUT": ("плохой ответ", "bad output"),
    "METRIC_ERROR": ("сбой метрики", "metric error"),
    "INFRA": ("сбой инфраструктуры", "infrastructure failure"),
    "queued": ("в очереди", "queued"),
    "running": ("идёт", "running"),
    "lost": ("потерян", "lost"),
    "interrupted": ("прерван", "interrupted"),
    "cancelled": ("отменён", "cancelled"),
}
RUSSIAN_FIXES = {
    "BAD_ZIP": "соберите папку через `make pack-submission` и проверьте: `make check-submission`",
    "BAD_METADATA": 'запишите в metadata.json {"image": "имя:тег", "entrypoint": "python3 run.py"}',
    "BAD_WEIGHTS": "сохраните веса через safetensors или torch.save; что для какой задачи, говорит models.json",
    "BAD_IMAGE": "назовите образ, который есть на сервере, или опубликуйте свой и попросите его загрузить",
    "OOM": "занимайте меньше памяти: /tmp, /dev/shm и output/ тоже лежат в ней",
    "TIMEOUT": "отвечайте быстрее и запишите predictions.json до конца отведённого времени",
    "EXIT": "программа должна завершаться с кодом 0; её вывод покажет `make test-submission`",
    "DISK": "пишите меньше в output/ и /tmp",
    "BAD_OUTPUT": "запишите output/ так, как требует контракт; ниже названо всё, что не так",
}
NOTHING_TO_DO = (
    "делать ничего не нужно: это сбой инфраструктуры, попытка не потрачена",
    "nothing to do: this is an infrastructure failure, and costs no attempt",
)
QUEUED_AGAIN = (
    "сбой инфраструктуры; прогон поставлен в очередь снова, попытка не потрачена",
    "an infrastructure failure; the run is queued again, and costs no attempt",
)
MONTHS = {
    "ru": ("янв", "фев", "мар", "апр", "мая", "июн", "июл", "авг", "сен", "окт", "ноя", "дек"),
    "en": ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"),
}
UNITS = {"kg": "кг", "g": "г", "mg": "мг", "µg": "мкг", "kWh": "кВт·ч", "Wh": "Вт·ч", "J": "Дж"}


@functools.lru_cache(4096, typed=True)  # typed: a text and a Markup of the same characters are equal
def bilingual(ru: str, en: str) -> Markup:
    """A text in both languages, of which the page shows one."""
    return Markup(f'<span class="ru" lang="ru">{escape(ru)}</span><span class="en" lang="en">{escape(en)}</span>')


def name_of(verdict: str) -> Markup:
    """What a verdict, or the state of a run without one, is called."""
    return bilingual(*NAMES.get(verdict, (verdict, verdict)))


def label(text: str) -> Markup:
    """Why a score is not the leaderboard's."""
    return bilingual(russian_label(text), text)


def duration(seconds: float) -> Markup:
    """A time in seconds, with days where there are any. Where clocks differ it may seem negative, and counts as 0."""
    seconds = max(0.0, seconds)
    whole = round(seconds)
    days, hours, minutes = whole // 86400, whole // 3600 % 24, whole // 60 % 60
    if days:
        return bilingual(f"{days} д {hours}:{minutes:02}", f"{days} d {hours}:{minutes:02}")
    if whole >= 60:
        return Markup(f"{hours}:{minutes:02}:{whole % 60:02}")
    shown = f"{seconds:.1f}" if seconds < 10 else str(whole)
    return bilingual(f"{shown} с", f"{shown} s")


def size(value: float) -> Markup:
    """Bytes, in units of 10**9."""
    return bilingual(f"{value / 10**9:.1f} ГБ", f"{value / 10**9:.1f} GB")


def mass(kg: float) -> Markup:
    """A mass in kg, of four digits whatever they are, so that equal ones look equal."""
    return _amount(kg, MASS, "#")


def energy(kwh: float) -> Markup:
    """An energy in kWh, of four digits."""
    return _amount(kwh, ENERGY)


def _amount(value: float, units: Units, alternate: str = "") -> Markup:
    name, factor = unit(value, units)
    shown = format(value * factor, f"{alternate}.4g").rstrip("." if alternate else "")
    return bilingual(f"{shown} {UNITS[name]}", f"{shown} {name}")


def parts(name: str) -> list[str]:
    """`SomeLongName` as Some, Long and Name, where a line may break."""
    parts = [name[:1]]
    for before, letter in zip(name, name[1:], strict=False):
        if before.islower() and letter.isupper() and len(name) > 9:
            parts.append("")
        parts[-1] += letter
    return parts
