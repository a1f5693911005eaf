"""The rules of a season, read from season.toml: days, attempts, test sets, limits, formula, thresholds.

`season.example.toml` has every key with what it means. Paths in it are relative to the folder that it lies in, the
season's folder, where submissions and runs are kept too.
"""

import tomllib
from collections.abc import Mapping
from datetime import UTC, date, datetime
from fractions import Fraction
from functools import cached_property
from math import fsum
from pathlib import Path
from typing import Annotated, Any, Literal
from zoneinfo import ZoneInfo

from pydantic import AfterValidator, AliasPath, BeforeValidator, ConfigDict, Field, ValidationInfo, field_validator

from evaluator.competition.tasks import HIDDEN_NUMBERS, HIDDEN_WEIGHT, OPEN_NUMBERS, OPEN_TASKS, OPEN_WEIGHT
from evaluator.core.errors import DataError, meant, show, unknown_key
from evaluator.core.limits import RUN, Limits
from evaluator.core.validation import Fault, StrictModel, allowed, number, parse, wrong
from evaluator.season import TEST_SETS

# The baseline's row in the challenge's slides; that of the open tasks stands with them.
HIDDEN_BASELINE = dict(zip(HIDDEN_NUMBERS, (0.20, 0.20, 0.27, 0.17, 0.30, 0.11), strict=True))
BASELINE = {task.number: task.baseline for task in OPEN_TASKS if task.baseline is not None} | HIDDEN_BASELINE
TASK_KEYS = [str(number) for number in (*OPEN_NUMBERS, *HIDDEN_NUMBERS)]
ONE_LINE = "a text of one line that is not empty"


def _is_line(value: object) -> bool:
    return isinstance(value, str) and bool(value.strip()) and value.isprintable()


def _path(value: object, info: ValidationInfo) -> Path:
    """A path that is relative to the season's folder."""
    if not isinstance(value, str) or not _is_line(value):
        raise ValueError
    return info.data["path"].parent / value


def _storage(value: str, info: ValidationInfo) -> str:
    return value if "://" in value else str(info.data["path"].parent / value)


def _zone(name: Any) -> ZoneInfo:
    try:
        return ZoneInfo(name)
    except (OSError, LookupError, TypeError, AttributeError):
        raise ValueError from None


def _fraction(value: object) -> object:
    try:
        return float(Fraction(value)) if isinstance(value, str) else value
    except ArithmeticError:
        raise ValueError from None


Line = Annotated[str, allowed(ONE_LINE, _is_line)]
FilePath = Annotated[Path, BeforeValidator(_path), allowed(ONE_LINE)]
Storage = Annotated[Line, AfterValidator(_storage)]
Zone = Annotated[ZoneInfo, BeforeValidator(_zone), allowed("a time zone such as 'Europe/Moscow'")]
Day = Annotated[date, allowed("a day such as 2022-11-13, without quotes")]
Runner = Annotated[Literal["auto", "docker", "local"], allowed("one of auto, docker, local")]
Country = Annotated[
    str,
    allowed("two capital letters such as 'RU'", lambda c: len(c) == 2 and c.isascii() and c.isalpha() and c.isupper()),
]
Count = Annotated[int, number(1, 1000, "whole number")]
TaskNumber = Annotated[int, BeforeValidator(int)]
Share = Annotated[float, number(0, 1)]
Weight = Annotated[
    float,
    BeforeValidator(_fraction),
    allowed("a number in 0..1, or a fraction such as '1/15'", lambda weight: 0 <= weight <= 1),
]


def _at(table: str, key: str, default: Any = ...) -> Any:
    """A field that is read from `key` of `[table]`; without a default it must be there."""
    return Field(default, validation_alias=AliasPath(table, key))


def _table(table: str) -> Any:
    """A field that is a whole table."""
    return Field(default={}, validation_alias=table, validate_default=True)


class Season(StrictModel):
    """The rules. Days are those of `zone`, first and last included; times in seconds; `baseline` and `thresholds` by
    task number, 0..1.
    """

    model_config = ConfigDict(extra="ignore")  # `_known_keys` names what is unknown

    path: Path
    name: Line = _at("season", "name")
    zone: Zone = _at("season", "time_zone")
    start: Day = _at("season", "start")
    end: Day = _at("season", "end")
    choose_until: Day = Field(
        default_factory=lambda season: season["end"], validation_alias=AliasPath("season", "choose_until")
    )
    valid_a_day: Count = _at("attempts", "valid_a_day", 3)
    invalid_a_day: Count = _at("attempts", "invalid_a_day", 10)
    chosen: Count = _at("attempts", "chosen", 3)
    public: FilePath = _at("data", "public")
    private: FilePath = _at("data", "private")
    assets: FilePath | None = _at("data", "assets", None)
    ruwordnet: FilePath | None = _at("data", "ruwordnet", None)
    runner: Runner = _at("runs", "runner", "docker")
    country: Country = _at("runs", "country", "RU")
    tries: Count = _at("runs", "tries", 3)
    lease_seconds: Annotated[float, number(1, 3600)] = _at("runs", "lease_seconds", 60.0)
    retry_seconds: Annotated[float, number(0, 24 * 3600)] = _at("runs", "retry_seconds", 300.0)
    key_file: FilePath | None = _at("runs", "key_file", None)
    limit_settings: tuple[str, ...]
    limits: Limits
    formula: dict[str, Weight] = _table("formula")
    baseline: dict[TaskNumber, Share] = _table("baseline")
    thresholds: dict[TaskNumber, Share] = _table("thresholds")
    url: Line = _at("database", "url", "sqlite:///season.sqlite3")
    storage: Storage | None = _at("storage", "url", None)  # fsspec's URL, or a folder's path

    @field_validator("end")
    @classmethod
    def _end_after_start(cls, end: date, info: ValidationInfo) -> date:
        return _not_before(end, "start", info)

    @field_validator("choose_until")
    @classmethod
    def _choose_after_end(cls, choose_until: date, info: ValidationInfo) -> date:
        return _not_before(choose_until, "end", info)

    @field_validator("formula")
    @classmethod
    def _has_weights(cls, stated: dict[str, float]) -> dict[str, float]:
        formula = {"open": OPEN_WEIGHT, "hidden": HIDDEN_WEIGHT} | stated
        if not _weights(formula):
            raise wrong("gives no task a weight")
        return formula

    @field_validator("baseline")
    @classmethod
    def _with_slides(cls, stated: dict[int, float]) -> dict[int, float]:
        return BASELINE | stated

    @field_validator("thresholds")
    @classmethod
    def _with_weight(cls, stated: dict[int, float], info: ValidationInfo) -> dict[int, float]:
        """Nobody has a score of a task without weight, so it can have no threshold."""
        if "formula" not in info.data:  # at fault itself
            return stated
        weights = _weights(info.data["formula"])
        if without := stated.keys() - weights.keys():
            raise wrong(f"{', '.join(map(str, sorted(without)))}: no weight in [formula]; remove one of the two")
        slides = {task.number: task.threshold for task in OPEN_TASKS if task.threshold is not None}
        return {task: least for task, least in slides.items() if task in weights} | stated

    @property
    def folder(self) -> Path:
        """Where season.toml lies, and the season's files beside it."""
        return self.path.parent

    @property
    def data(self) -> dict[str, Path]:
        """The data folders by test set."""
        return {name: getattr(self, name) for name in TEST_SETS}

    @cached_property
    def weights(self) -> dict[int, float]:
        """The weights in the total by task number; only tasks that have one."""
        return _weights(self.formula)

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
    known, lines = _known_keys(document)
    settings = tuple(f"{name}={value}" for name, value in known.get("limits", {}).items())
    limits = RUN
    try:
        limits = RUN.override(settings, "[limits] ")
    except DataError as error:
        lines += error.reasons
    season, faults = parse(Season, known | {"path": path, "limits": limits, "limit_settings": settings})
    lines += map(_line, faults)
    if season is None or lines:
        raise DataError([f"season {path}: {line}" for line in lines])
    return season


def utc_now() -> datetime:
    """The clock of this machine."""
    return datetime.now(UTC)


def _keys() -> dict[str, list[str]]:
    """The keys of each table; those of [limits] are `evaluator.core.limits`'s."""
    keys: dict[str, list[str]] = {}
    for field in Season.model_fields.values():
        if isinstance(field.validation_alias, AliasPath):
            table, key = map(str, field.validation_alias.path)
            keys.setdefault(table, []).append(key)
    return keys | {
        "limits": [],
        "formula": ["open", "hidden", *TASK_KEYS],
        "baseline": TASK_KEYS,
        "thresholds": TASK_KEYS,
    }


def _known_keys(document: dict[str, Any]) -> tuple[dict[str, dict[str, Any]], list[str]]:
    """The tables with the keys that are known, and a line for each that is not."""
    keys, known, lines = _keys(), {}, []
    for name, table in document.items():
        if name not in keys:
            lines.append(f"[{name}] is unknown; allowed are {', '.join(keys)}{meant(name, keys)}")
        elif not isinstance(table, dict):
            lines.append(f"{name} must be a table, not {show(table)}")
        else:
            unknown = [] if name == "limits" else [key for key in table if key not in keys[name]]
            lines += [f"[{name}] {unknown_key(key, keys[name])}" for key in unknown]
            known[name] = {key: value for key, value in table.items() if key not in unknown}
    return known, lines


def _line(fault: Fault) -> str:
    table, *key = fault.place
    return f"[{table}] {key[0]}: {fault.text}" if key else f"[{table}] {fault.text}"


def _not_before(day: date, first: str, info: ValidationInfo) -> date:
    """`day`, where it is not before that of the field `first`."""
    if first in info.data and day < info.data[first]:
        raise wrong(f"must be a day not before {first}, {info.data[first]}, not {day}")
    return day


def _weights(formula: Mapping[str, float]) -> dict[int, float]:
    """Those of the open and of the hidden tasks, then those of single ones; without the tasks of weight 0."""
    numbers = {"open": OPEN_NUMBERS, "hidden": HIDDEN_NUMBERS}
    weights: dict[int, float] = {}
    for key, weight in formula.items():
        weights.update(dict.fromkeys(numbers.get(key) or (int(key),), weight))
    return {task: weight for task, weight in weights.items() if weight}
