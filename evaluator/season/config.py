"""The rules of a season, read from season.toml: days, attempts, test sets, limits, formula, thresholds.

`season.example.toml` has every key with what it means. Paths in it are relative to the folder that it lies in, the
season's folder, where submissions and runs are kept too.
"""

import tomllib
from collections.abc import Iterable, Mapping
from datetime import UTC, date, datetime, time, timedelta
from functools import cached_property
from math import fsum
from pathlib import Path
from typing import Annotated, Any, Literal
from urllib.parse import urlsplit
from zoneinfo import ZoneInfo

from pydantic import (
    AfterValidator,
    AliasPath,
    BeforeValidator,
    ConfigDict,
    Field,
    InstanceOf,
    ValidationInfo,
    field_validator,
)

from evaluator.competition import DEFAULT
from evaluator.competition.definition import BUILT_IN, Competition, find
from evaluator.core.errors import DataError, meant, show, unknown_key
from evaluator.core.limits import Limits
from evaluator.core.validation import (
    ONE_LINE,
    Country,
    Fault,
    Line,
    StrictModel,
    Weight,
    allowed,
    is_line,
    number,
    parse,
    wrong,
)
from evaluator.season import TEST_SETS


def is_web_address(text: str) -> bool:
    """Whether a page may link to it: nothing but a web address, so no script."""
    return text.startswith(("https://", "http://")) and not any(character.isspace() for character in text)


def _is_site(text: str) -> bool:
    """Whether it is the address of a whole host, as cookies are."""
    try:
        url = urlsplit(text)
        is_host = bool(url.hostname) and url.username is None and url.port != 0  # raises ValueError for no port
    except ValueError:
        return False
    origin = f"{url.scheme}://{url.netloc}"
    return is_host and is_web_address(text) and text in (origin, f"{origin}/")


def _path(value: object, info: ValidationInfo) -> Path:
    """A path that is relative to the season's folder."""
    if not isinstance(value, str) or not is_line(value):
        raise ValueError
    return info.data["path"].parent / value


def _storage(value: str, info: ValidationInfo) -> str:
    return value if "://" in value else str(info.data["path"].parent / value)


def _zone(name: Any) -> ZoneInfo:
    try:
        return ZoneInfo(name)
    except (OSError, LookupError, TypeError, AttributeError):
        raise ValueError from None


FilePath = Annotated[Path, BeforeValidator(_path), allowed(ONE_LINE)]
Storage = Annotated[Line, AfterValidator(_storage)]
Zone = Annotated[ZoneInfo, BeforeValidator(_zone), allowed("a time zone such as 'Europe/Moscow'")]
Day = Annotated[date, allowed("a day such as 2022-11-13, without quotes")]
Url = Annotated[Line, allowed("an address that begins with https:// or http://", is_web_address)]
Site = Annotated[
    Line,
    allowed("the address of a host such as https://fbc.example.org, without a path", _is_site),
    AfterValidator(lambda url: url.rstrip("/")),
]
Logs = Annotated[Literal["public", "none"], allowed("one of public, none")]
Runner = Annotated[Literal["auto", "docker", "local"], allowed("one of auto, docker, local")]
Days = Annotated[int, number(0, 36500, "whole number")]
Count = Annotated[int, number(1, 1000, "whole number")]
TaskNumber = Annotated[int, BeforeValidator(int)]
Score = Annotated[float, number(0)]


def _at(table: str, key: str, default: Any = ...) -> Any:
    """A field that is read from `key` of `[table]`; without a default it must be there."""
    return Field(default, validation_alias=AliasPath(table, key))


def _table(table: str) -> Any:
    """A field that is a whole table."""
    return Field(default={}, validation_alias=table, validate_default=True)


class Season(StrictModel):
    """The rules. Days are those of `zone`, first and last included; times in seconds; `baseline` and `thresholds` by
    task number.
    """

    model_config = ConfigDict(extra="ignore")  # `_known_keys` names what is unknown

    path: Path
    competition: InstanceOf[Competition]
    name: Line = _at("season", "name")
    zone: Zone = _at("season", "time_zone")
    start: Day = _at("season", "start")
    end: Day = _at("season", "end")
    choose_until: Day = Field(
        default_factory=lambda season: season["end"], validation_alias=AliasPath("season", "choose_until")
    )
    contact: Line | None = _at("season", "contact", None)
    rules_url: Url | None = _at("season", "rules_url", None)
    board_url: Url | None = _at("season", "board_url", None)
    valid_a_day: Count = _at("attempts", "valid_a_day", 3)
    invalid_a_day: Count = _at("attempts", "invalid_a_day", 10)
    chosen: Count = _at("attempts", "chosen", 3)
    public: FilePath = _at("data", "public")
    private: FilePath = _at("data", "private")
    assets: FilePath | None = _at("data", "assets", None)
    ruwordnet: FilePath | None = _at("data", "ruwordnet", None)
    runner: Runner = _at("runs", "runner", "docker")
    country: Country = Field(
        default_factory=lambda season: season["competition"].definition.country,
        validation_alias=AliasPath("runs", "country"),
    )
    tries: Count = _at("runs", "tries", 3)
    lease_seconds: Annotated[float, number(1, 3600)] = _at("runs", "lease_seconds", 60.0)
    retry_seconds: Annotated[float, number(0, 24 * 3600)] = _at("runs", "retry_seconds", 300.0)
    key_file: FilePath | None = _at("runs", "key_file", None)
    keep_outputs_days: Days | None = _at("runs", "keep_outputs_days", None)  # None: for good; 0: none are kept
    limit_settings: tuple[str, ...]
    limits: Limits
    added: dict[str, Path] = {}  # test sets beside these two; not from season.toml
    formula: dict[str, Weight] = _table("formula")
    baseline: dict[TaskNumber, Score] = _table("baseline")
    thresholds: dict[TaskNumber, Score] = _table("thresholds")
    url: Line = _at("database", "url", "sqlite:///season.sqlite3")
    storage: Storage | None = _at("storage", "url", None)  # fsspec's URL, or a folder's path
    web_url: Site | None = _at("web", "url", None)  # without a slash at its end
    web_logs: Logs = _at("web", "logs", "public")  # which runs' log.txt a team sees
    upload_hours: Count = _at("web", "upload_hours", 24)
    keep_free_gb: Annotated[float, number(0, 1e6)] = _at("web", "keep_free_gb", 20.0)

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
    def _has_weights(cls, stated: dict[str, float], info: ValidationInfo) -> dict[str, float]:
        if not _weights(info.data["competition"], stated):
            raise wrong("gives no task a weight")
        return stated

    @field_validator("baseline")
    @classmethod
    def _with_competitions(cls, stated: dict[int, float], info: ValidationInfo) -> dict[int, float]:
        return info.data["competition"].baselines | _possible(stated, info)

    @field_validator("thresholds")
    @classmethod
    def _with_weight(cls, stated: dict[int, float], info: ValidationInfo) -> dict[int, float]:
        """Nobody has a score of a task without weight, so it can have no threshold."""
        _possible(stated, info)
        if "formula" not in info.data:  # at fault itself
            return stated
        competition = info.data["competition"]
        weights = _weights(competition, info.data["formula"])
        if without := stated.keys() - weights.keys():
            raise wrong(f"{', '.join(map(str, sorted(without)))}: no weight in [formula]; remove one of the two")
        return {task: least for task, least in competition.thresholds.items() if task in weights} | stated

    @property
    def folder(self) -> Path:
        """Where season.toml lies, and the season's files beside it."""
        return self.path.parent

    @property
    def data(self) -> dict[str, Path]:
        """The data folders by test set: public, private, and those that were added."""
        return {name: getattr(self, name) for name in TEST_SETS} | self.added

    @cached_property
    def weights(self) -> dict[int, float]:
        """The weights in the total by task number; only tasks that have one."""
        return _weights(self.competition, self.formula)

    def changed(
        self, values: Mapping[str, Any], data: Mapping[str, Path], weights: Mapping[int, float] | None
    ) -> "Season":
        """The same rules with other values of some fields, other test sets, and where they are given other weights of
        all tasks.
        """
        folders = {name: data[name] for name in TEST_SETS}
        changed: dict[str, Any] = dict(values) | folders | {"added": dict(data.items() - folders.items())}
        if weights is not None:
            changed["formula"] = {str(task): weights.get(task, 0.0) for task in self.competition.numbers}
            stated = self.competition.thresholds | self.thresholds
            changed["thresholds"] = {task: least for task, least in stated.items() if weights.get(task)}
        season = self.model_copy(update=changed)
        season.__dict__.pop("weights", None)  # a cached property, which the copy has of the original
        return season

    def first_moment(self, day: date) -> datetime:
        """Midnight, with which a day begins."""
        return datetime.combine(day, time(), self.zone)

    def last_moment(self, day: date) -> datetime:
        """The last second of a day."""
        after = self.first_moment(day + timedelta(days=1)).astimezone(UTC)  # the clock may be changed at midnight
        return (after - timedelta(seconds=1)).astimezone(self.zone)

    def moment(self, at: datetime | None) -> str | None:
        """A moment as all that is written for programs has it: ISO 8601, of the season's time zone."""
        return None if at is None else at.astimezone(self.zone).isoformat()

    def day(self, moment: datetime) -> date:
        """The season's day that a moment (with a time zone) falls on."""
        return moment.astimezone(self.zone).date()

    def total(self, scores: Mapping[int, float]) -> float | None:
        """The formula's total of scores by task number; None where a task that has weight has no score."""
        if not self.weights.keys() <= scores.keys():
            return None
        return fsum(weight * self.competition.part(scores[number]) for number, weight in self.weights.items())


def read_season(path: Path) -> Season:
    """Read a season.toml. Raises `DataError` with all its faults."""
    try:
        document = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise DataError(f"season {path} cannot be read: {error.strerror}; start with season.example.toml") from None
    except ValueError as error:
        raise DataError(f"season {path}: {error}") from None
    path = path.resolve()
    competition = _competition(document, path)
    known, lines = _known_keys(document, competition)
    known.get("season", {}).pop("competition", None)
    settings = tuple(f"{name}={value}" for name, value in known.get("limits", {}).items())
    limits = competition.limits
    try:
        limits = limits.override(settings, "[limits] ")
    except DataError as error:
        lines += error.reasons
    given = {"path": path, "competition": competition, "limits": limits, "limit_settings": settings}
    season, faults = parse(Season, known | given)
    lines += _lines(faults)
    if season is None or lines:
        raise DataError([f"season {path}: {line}" for line in lines])
    return season


def utc_now() -> datetime:
    """The clock of this machine."""
    return datetime.now(UTC)


def _competition(document: dict[str, Any], path: Path) -> Competition:
    """The one that [season] names, whose tasks are keys of other tables. A folder is relative to the season's."""
    table = document.get("season")
    name = table.get("competition", DEFAULT) if isinstance(table, dict) else DEFAULT
    if not is_line(name):
        raise DataError(f"season {path}: [season] competition must be {ONE_LINE}, not {show(name)}")
    try:
        return find(name if name in BUILT_IN else str(path.parent / name))
    except DataError as error:
        raise DataError([f"season {path}: {reason}" for reason in error.reasons]) from None


def _keys(competition: Competition) -> dict[str, list[str]]:
    """The keys of each table; those of [limits] are `evaluator.core.limits`'s."""
    keys: dict[str, list[str]] = {"season": ["competition"]}
    tasks = [str(number) for number in competition.numbers]
    for field in Season.model_fields.values():
        if isinstance(field.validation_alias, AliasPath):
            table, key = map(str, field.validation_alias.path)
            keys.setdefault(table, []).append(key)
    return keys | {"limits": [], "formula": ["open", "hidden", *tasks], "baseline": tasks, "thresholds": tasks}


def _known_keys(document: dict[str, Any], competition: Competition) -> tuple[dict[str, dict[str, Any]], list[str]]:
    """The tables with the keys that are known, and a line for each table that has others, or is unknown itself."""
    keys, known, lines = _keys(competition), {}, []
    for name, table in document.items():
        if name not in keys:
            lines.append(f"[{name}] is unknown; allowed are {', '.join(keys)}{meant(name, keys)}")
        elif not isinstance(table, dict):
            lines.append(f"{name} must be a table, not {show(table)}")
        else:
            unknown = [] if name == "limits" else [key for key in table if key not in keys[name]]
            if len(unknown) == 1:
                lines.append(f"[{name}] {unknown_key(unknown[0], keys[name])}")
            elif unknown:
                named = ", ".join(map(show, unknown))
                lines.append(f"[{name}] unknown keys {named}; allowed are {', '.join(keys[name])}")
            known[name] = {key: value for key, value in table.items() if key not in unknown}
    return known, lines


def _lines(faults: Iterable[Fault]) -> list[str]:
    """The same fault of several keys of a table is one line."""
    same: dict[tuple[str, str], list[str]] = {}
    for fault in faults:
        table, *key = fault.place
        same.setdefault((table, fault.text), []).extend(key[:1])
    lines = []
    for (table, text), keys in same.items():
        said = "are missing" if text == "is missing" and len(keys) > 1 else text
        lines.append(f"[{table}] {', '.join(keys)}: {said}" if keys else f"[{table}] {said}")
    return lines


def _not_before(day: date, first: str, info: ValidationInfo) -> date:
    """`day`, where it is not before that of the field `first`."""
    if first in info.data and day < info.data[first]:
        raise wrong(f"must be a day not before {first}, {info.data[first]}, not {day}")
    return day


def _possible(stated: dict[int, float], info: ValidationInfo) -> dict[int, float]:
    """Raises pydantic's error for a number that no score of its task can be."""
    for task, score in stated.items():
        best = info.data["competition"].best(task)
        if not 0 <= score <= best:
            raise wrong(f"{task}: must be a number in 0..{best:g}, not {score:g}")
    return stated


def _weights(competition: Competition, formula: Mapping[str, float]) -> dict[int, float]:
    """The competition's, changed for the open and for the hidden tasks, then for single ones; without the tasks of
    weight 0.
    """
    weights = dict(competition.weights)
    groups = {"open": competition.open_numbers, "hidden": competition.hidden_numbers}
    for key, weight in sorted(formula.items(), key=lambda item: item[0] not in groups):
        weights.update(dict.fromkeys(groups[key] if key in groups else [int(key)], weight))
    return {task: weight for task, weight in weights.items() if weight}
