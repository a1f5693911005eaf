"""The rules of a season, read from season.toml: days, attempts, test sets, limits, formula, thresholds.

`season.example.toml` has every key with what it means. Paths in it are relative to the folder that it lies in, the
season's folder, where submissions and runs are kept too.
"""

import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime
from fractions import Fraction
from math import fsum, isfinite
from pathlib import Path
from typing import Any, TypeVar
from zoneinfo import ZoneInfo

from evaluator.competition.tasks import HIDDEN_NUMBERS, HIDDEN_WEIGHT, OPEN_NUMBERS, OPEN_TASKS, OPEN_WEIGHT
from evaluator.core.errors import DataError, show
from evaluator.core.limits import RUN, Limits
from evaluator.sandbox.launch import RunnerName
from evaluator.season import TEST_SETS

RUNNERS: tuple[RunnerName, ...] = ("auto", "docker", "local")

# The baseline's row in the challenge's slides; that of the open tasks stands with them.
HIDDEN_BASELINE = dict(zip(HIDDEN_NUMBERS, (0.20, 0.20, 0.27, 0.17, 0.30, 0.11), strict=True))

_KEYS: dict[str, tuple[str, ...] | None] = {
    "season": ("name", "time_zone", "start", "end", "choose_until"),
    "attempts": ("valid_a_day", "invalid_a_day", "chosen"),
    "data": (*TEST_SETS, "assets", "ruwordnet"),
    "runs": ("runner", "country", "tries", "lease_seconds", "retry_seconds", "key_file"),
    "limits": None,  # evaluator.core.limits knows them
    "formula": ("open", "hidden", *(str(number) for number in (*OPEN_NUMBERS, *HIDDEN_NUMBERS))),
    "baseline": None,  # task numbers
    "thresholds": None,
    "database": ("url",),
    "storage": ("url",),
}
_Value = TypeVar("_Value")


@dataclass(frozen=True)
class Season:
    """The rules. Days are those of `zone`, first and last included; times in seconds; `weights`, `baseline` and
    `thresholds` by task number.
    """

    path: Path
    name: str
    zone: ZoneInfo
    start: date
    end: date
    choose_until: date
    valid_a_day: int
    invalid_a_day: int
    chosen: int
    data: Mapping[str, Path]
    assets: Path | None
    ruwordnet: Path | None
    runner: RunnerName
    country: str
    tries: int
    lease_seconds: float
    retry_seconds: float
    key_file: Path | None
    limit_settings: tuple[str, ...]
    limits: Limits
    weights: Mapping[int, float]
    baseline: Mapping[int, float]
    thresholds: Mapping[int, float]
    url: str
    storage: str | None = None  # fsspec's URL, or a folder's path

    @property
    def folder(self) -> Path:
        return self.path.parent

    def day(self, moment: datetime) -> date:
        """The season's day that a moment (with a time zone) falls on."""
        return moment.astimezone(self.zone).date()

    def total(self, scores: Mapping[int, float]) -> float | None:
        """The formula's total of scores by task number; None where a task that has weight has no score."""
        if not self.weights.keys() <= scores.keys():
            return None
        return fsum(weight * scores[number] for number, weight in self.weights.items())


def read_season(path: Path) -> Season:
    """Read a season.toml. Raises `DataError` with all its faults."""
    try:
        document = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise DataError(f"season {path} cannot be read: {error.strerror}; start with season.example.toml") from None
    except ValueError as error:
        raise DataError(f"season {path}: {error}") from None
    path = path.resolve()
    reader = _Reader(path, document)
    text, number, folder = reader.text, reader.number, path.parent
    start = reader.day("season", "start")
    end = reader.day("season", "end")
    if start > end:
        reader.wrong("season", "end", end, f"a day not before start, {start}")
    choose_until = reader.day("season", "choose_until", end)
    if choose_until < end:
        reader.wrong("season", "choose_until", choose_until, f"a day not before end, {end}")
    weights = reader.weights()
    settings = tuple(f"{name}={value}" for name, value in reader.table("limits").items())
    season = Season(
        path=path,
        name=text("season", "name"),
        zone=reader.zone("season", "time_zone"),
        start=start,
        end=end,
        choose_until=choose_until,
        valid_a_day=int(number("attempts", "valid_a_day", 3, 1, 1000, whole=True)),
        invalid_a_day=int(number("attempts", "invalid_a_day", 10, 1, 1000, whole=True)),
        chosen=int(number("attempts", "chosen", 3, 1, 1000, whole=True)),
        data={name: folder / text("data", name) for name in TEST_SETS},
        assets=reader.optional_path("data", "assets"),
        ruwordnet=reader.optional_path("data", "ruwordnet"),
        runner=reader.runner("runs", "runner"),
        country=reader.country("runs", "country"),
        tries=int(number("runs", "tries", 3, 1, 1000, whole=True)),
        lease_seconds=number("runs", "lease_seconds", 60, 1, 3600),
        retry_seconds=number("runs", "retry_seconds", 300, 0, 24 * 3600),
        key_file=reader.optional_path("runs", "key_file"),
        limit_settings=settings,
        limits=reader.limits(settings),
        weights=weights,
        baseline=reader.by_task("baseline", {task.number: task.baseline for task in OPEN_TASKS} | HIDDEN_BASELINE),
        thresholds=reader.thresholds(weights),
        url=text("database", "url", "sqlite:///season.sqlite3"),
        storage=reader.storage("storage", "url"),
    )
    reader.end()
    return season


def utc_now() -> datetime:
    return datetime.now(UTC)


class _Reader:
    """Takes values out of a document and collects what is wrong with them; a faulty value is replaced by one that lets
    the reading go on, and `end` raises.
    """

    def __init__(self, path: Path, document: dict[str, Any]) -> None:
        self._path, self._document = path, document
        self._faults: list[str] = []
        for name, table in document.items():
            if name not in _KEYS:
                self._faults.append(f"[{name}] is unknown; allowed are {', '.join(_KEYS)}")
            elif not isinstance(table, dict):
                self._faults.append(f"{name} must be a table, not {show(table)}")
            else:
                allowed = _KEYS[name]
                for key in table:
                    if allowed is not None and key not in allowed:
                        self._faults.append(f"[{name}] {show(key)} is unknown; allowed are {', '.join(allowed)}")

    def end(self) -> None:
        if self._faults:
            raise DataError([f"season {self._path}: {fault}" for fault in self._faults])

    def wrong(self, table: str, key: str, value: object, allowed: str) -> None:
        found = "missing" if value is None else f"must be {allowed}, not {show(value)}"
        self._faults.append(f"[{table}] {key}: {found}")

    def table(self, name: str) -> dict[str, Any]:
        table = self._document.get(name, {})
        return table if isinstance(table, dict) else {}

    def _get(self, table: str, key: str, default: _Value | None = None) -> Any:
        return self.table(table).get(key, default)

    def text(self, table: str, key: str, default: str | None = None) -> str:
        value = self._get(table, key, default)
        if not isinstance(value, str) or not value.strip() or not value.isprintable():
            self.wrong(table, key, value, "a text of one line that is not empty")
            return ""
        return value

    def optional_path(self, table: str, key: str) -> Path | None:
        return None if self._get(table, key) is None else self._path.parent / self.text(table, key)

    def storage(self, table: str, key: str) -> str | None:
        if self._get(table, key) is None:
            return None
        value = self.text(table, key)
        return value if "://" in value else str(self._path.parent / value)

    def number(
        self, table: str, key: str, default: float, lowest: float, highest: float, whole: bool = False
    ) -> float:
        value = self._get(table, key, default)
        kinds = int if whole else int | float
        if isinstance(value, bool) or not isinstance(value, kinds) or not lowest <= value <= highest:
            self.wrong(table, key, value, f"a {'whole ' if whole else ''}number in {lowest:g}..{highest:g}")
            return default
        return float(value)

    def day(self, table: str, key: str, default: date | None = None) -> date:
        value = self._get(table, key, default)
        if isinstance(value, datetime) or not isinstance(value, date):
            self.wrong(table, key, value, "a day such as 2022-11-13, without quotes")
            return default or date.min
        return value

    def zone(self, table: str, key: str) -> ZoneInfo:
        name = self._get(table, key)
        try:
            return ZoneInfo(name)
        except (ValueError, TypeError, AttributeError, OSError, LookupError):
            self.wrong(table, key, name, "a time zone such as 'Europe/Moscow'")
            return ZoneInfo("UTC")

    def runner(self, table: str, key: str) -> RunnerName:
        value = self._get(table, key, "docker")
        for runner in RUNNERS:
            if value == runner:
                return runner
        self.wrong(table, key, value, f"one of {', '.join(RUNNERS)}")
        return "docker"

    def country(self, table: str, key: str) -> str:
        value = self._get(table, key, "RU")
        if not (isinstance(value, str) and len(value) == 2 and value.isascii() and value.isalpha() and value.isupper()):
            self.wrong(table, key, value, "two capital letters such as 'RU'")
            return "RU"
        return value

    def limits(self, settings: tuple[str, ...]) -> Limits:
        try:
            return RUN.override(settings)
        except DataError as error:
            self._faults += [f"[limits] {reason}" for reason in error.reasons]
            return RUN

    def weights(self) -> dict[int, float]:
        """Those of the open and of the hidden tasks, then those of single ones."""
        numbers: dict[str, Iterable[int]] = {"open": OPEN_NUMBERS, "hidden": HIDDEN_NUMBERS}
        formula = {"open": OPEN_WEIGHT, "hidden": HIDDEN_WEIGHT} | self.table("formula")
        weights = {}
        for key, value in formula.items():
            if key not in (_KEYS["formula"] or ()):  # reported before
                continue
            try:
                weight = float(Fraction(value)) if isinstance(value, str) else float(value)
                if isinstance(value, bool) or not (isfinite(weight) and 0 <= weight <= 1):
                    raise ValueError
            except (ValueError, TypeError, ZeroDivisionError, OverflowError):
                self.wrong("formula", key, value, "a number in 0..1, or a fraction such as '1/15'")
                continue
            weights.update(dict.fromkeys(numbers[key] if key in numbers else (int(key),), weight))
        weights = {number: weight for number, weight in weights.items() if weight}
        if not weights:
            self._faults.append("[formula] gives no task a weight")
        return weights

    def by_task(self, table: str, defaults: Mapping[int, float | None]) -> dict[int, float]:
        """Numbers in 0..1 by task; a table that is there replaces `defaults` task by task."""
        values = {number: value for number, value in defaults.items() if value is not None}
        known = {str(number): number for number in (*OPEN_NUMBERS, *HIDDEN_NUMBERS)}
        for key in self.table(table):
            if key not in known:
                self._faults.append(f"[{table}] {show(key)} is unknown; allowed are {', '.join(known)}")
            else:
                values[known[key]] = self.number(table, key, 0.0, 0, 1)
        return values

    def thresholds(self, weights: Mapping[int, float]) -> dict[int, float]:
        """The least scores by task; nobody has a score of a task without weight, so it can have none."""
        defaults = {task.number: task.threshold for task in OPEN_TASKS if task.number in weights}
        values = self.by_task("thresholds", defaults)
        for number in values.keys() - weights.keys():
            self._faults.append(f"[thresholds] {number}: the task has no weight in [formula]; remove one of the two")
        return values
