"""What a plan of a simulated season is made of."""

from dataclasses import asdict, dataclass
from datetime import UTC, date, datetime, time
from typing import Any, Literal
from zoneinfo import ZoneInfo

ZONE = "Europe/Moscow"
START = date(2022, 10, 1)
Mode = Literal["nano", "quick"]


@dataclass(frozen=True)
class Program:
    """A ZIP, as it is made. `kg` is the CO2 of its emission.csv, where it has one."""

    key: str
    kind: str
    seed: int
    emission: str = ""
    kg: float = 0.0


@dataclass(frozen=True)
class PlannedEvent:
    """`do` is one of send, kill-sending, choose, cancel, work, spoil, restore, retry, finals, and of an organizer's
    organize, rescore and look. `how` is a variant of it, `to` what it is done with or changed to; `team` is what the
    team is called then, `programs` are keys, `delay` is in real seconds.
    """

    at: datetime
    do: str
    team: str = ""
    programs: tuple[str, ...] = ()
    how: str = ""
    to: str = ""
    case: str = ""
    delay: float = 0.0


@dataclass(frozen=True)
class Plan:
    seed: int
    mode: Mode
    rate: float
    start: date
    end: date
    choose_until: date
    teams: tuple[str, ...]
    programs: dict[str, Program]
    events: tuple[PlannedEvent, ...]

    def to_json(self) -> dict[str, Any]:
        events = [
            asdict(event) | {"at": event.at.isoformat(), "programs": list(event.programs)} for event in self.events
        ]
        days = {name: str(getattr(self, name)) for name in ("start", "end", "choose_until")}
        programs = {key: asdict(program) for key, program in self.programs.items()}
        return {
            "seed": self.seed,
            "mode": self.mode,
            "rate": self.rate,
            **days,
            "teams": list(self.teams),
            "programs": programs,
            "events": events,
        }


def moment(day: date, clock: str) -> datetime:
    """A moment of a day of the season."""
    return datetime.combine(day, time.fromisoformat(clock), ZoneInfo(ZONE)).astimezone(UTC)
