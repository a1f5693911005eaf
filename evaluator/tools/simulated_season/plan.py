"""What happens in a simulated season: `plan` is a pure function of its arguments, and `simulate` carries it out.

A plan says what is done and when, never what comes of it: that is for the rules to decide, and for a check to compute.
`case` names what an event is an example of, for the table at the end.

Times of a day, in Moscow: teams send in the morning and in the afternoon, and the queue is worked through after either.
At night come the cases that need a queue of their own. What organizers change is drawn apart, in `changes`.
"""

import random
from datetime import date, datetime, timedelta
from typing import Any

from evaluator.tools.simulated_season.changes import Changes
from evaluator.tools.simulated_season.events import START, Mode, Plan, PlannedEvent, Program, moment

VALID_A_DAY, INVALID_A_DAY, CHOSEN = 3, 4, 3
NIGHT_CASE, MAX_NIGHT_CASES = timedelta(minutes=13), 13  # retries take up to five minutes of it
MIN_TEAMS, MIN_DAYS = 6, 4  # for every case to have a team and a day of its own

# What a ZIP is. The first three are scored; brittle ends on the private test set as crash does. The last three are
# turned away when they are sent. (`changes` has two more that are scored.)
SCORED = ("nano", "quick", "brittle")
FAILING = {"crash": "EXIT", "slow": "TIMEOUT", "silent": "BAD_OUTPUT"}
TURNED_AWAY = ("damaged", "bare", "outside")
# Faults of infrastructure while the queue is worked through.
WORK_FAULTS = ("kill-runner", "kill-evaluator", "stall", "stop", "two-runners", "blocked-folder")
DATA_FAULTS = ("data-changed", "data-missing", "encoders-damaged")
EMISSIONS = ("good", "without twin", "edited", "without target")  # of which the first alone is valid

_NAMES = (
    "Ёжики в тумане", "«Чёрный ящик»", "Кот учёный 🐈", "Семь ёлок", "Щи да каша", "RUDOLPH и друзья 🦌", "Йод",
    "Нейро-«Ночь»", "Подъём!", "Лаборатория №5", "Три слона", "Мёд и перец", "Большая Медведица ✨", "ёмкость",
    "Жёлтая подводная лодка", "Кофе в 3:00 ☕", "Объект 🧪", "Цапля", "«Ёлки-палки»", "Вьюга", "Град & Сыновья",
    "Тихий океан", "Эхо", "Снегирь 🐦", "Последний слой", "Градиент спускается", "Юла", "Эпоха 13", "Сто ёжиков 🦔",
    "Хлеб-соль", "Гусь, рак и щука", "Фаза",
)  # fmt: skip


def plan(seed: int, teams: int, days: int, mode: Mode = "nano", rate: float = 0.15) -> Plan:
    """A season of so many teams and days, and of the teams in `changes`. `rate` is how often a team sends on a day on
    which no case is its own.

    Raises `ValueError` for fewer teams or days than the cases need.
    """
    if teams < MIN_TEAMS or days < MIN_DAYS or not 0 <= rate <= 1:
        raise ValueError(f"a season needs {MIN_TEAMS} teams, {MIN_DAYS} days and a rate in 0..1")
    return _Planner(seed, teams, days, mode, rate).plan()


class _Planner:
    def __init__(self, seed: int, teams: int, days: int, mode: Mode, rate: float) -> None:
        self._seed, self._mode, self._rate = seed, mode, rate
        self._chance = chance = random.Random(f"season {seed}")
        names = [*_NAMES, *(f"Команда №{number}" for number in range(len(_NAMES) + 1, teams + 1))]
        self._teams = chance.sample(names, teams)
        self._days = [START + timedelta(days=day) for day in range(days)]
        self._programs: dict[str, Program] = {}
        self._made = dict.fromkeys(self._teams, 0)
        self._events: list[PlannedEvent] = []
        self._sent: dict[str, list[str]] = {team: [] for team in self._teams}  # keys that will have a score
        self._failed: dict[str, list[str]] = {team: [] for team in self._teams}
        # How many a team may still send on a day. Cases leave the first day alone, so that there is a result before
        # data are spoilt.
        self._room = {(team, day): VALID_A_DAY for team in self._teams for day in self._days}
        self._nights = dict.fromkeys(self._days, 0)

    def plan(self) -> Plan:
        choose_until = self._days[-1] + timedelta(days=1)
        changes = Changes(self._seed, self._days)
        self._cases(times=2 if len(self._room) >= 200 else 1)
        self._usual()
        for day in self._days:
            self._add(moment(day, "14:00"), "work")
            self._add(moment(day, "21:00"), "work")
        self._choices(changes.choose_until)
        self._finals(changes.choose_until + timedelta(days=1))
        events = [*self._events, *changes.events]
        return Plan(
            seed=self._seed,
            mode=self._mode,
            rate=self._rate,
            start=START,
            end=self._days[-1],
            choose_until=choose_until,
            teams=(*self._teams, *changes.teams),
            programs=self._programs | changes.programs,
            events=tuple(sorted(events, key=lambda event: event.at)),  # of one moment: as they were added
        )

    # --- pieces ---

    def _add(self, at: datetime, do: str, team: str = "", *programs: str, **more: Any) -> None:
        self._events.append(PlannedEvent(at, do, team, programs, **more))

    def _program(self, team: str, kind: str) -> str:
        """A new ZIP of the team's; its key."""
        self._made[team] += 1
        key = f"{self._teams.index(team) + 1:02d}-{self._made[team]:02d}"
        emission = ""
        if kind in SCORED and self._chance.random() < (0.7 if self._mode == "nano" else 0.9):
            emission = self._chance.choices(EMISSIONS, (7, 1, 1, 1))[0]
        kg = round(self._chance.uniform(0.5, 30), 3) if emission else 0.0
        self._programs[key] = Program(key, kind, self._chance.randrange(10**6), emission, kg)
        if kind in SCORED:
            self._sent[team].append(key)
        elif kind in FAILING:
            self._failed[team].append(key)
        return key

    def _best(self) -> str:
        """The kind of a program that runs for long, where there is one."""
        return "nano" if self._mode == "nano" else "quick"

    def _send(self, at: datetime, team: str, kind: str, case: str = "") -> str:
        key = self._program(team, kind)
        self._add(at, "send", team, key, case=case)
        return key

    def _morning(self, day: date) -> datetime:
        return moment(day, "09:00") + timedelta(seconds=self._chance.randrange(4 * 3600))

    def _afternoon(self, day: date) -> datetime:
        return moment(day, "15:00") + timedelta(seconds=self._chance.randrange(5 * 3600))

    def _take(self, number: int = 1, day: date | None = None, but: str = "") -> tuple[str, date]:
        """A team's day with room for so many more; not of the team `but`."""
        found = [
            place
            for place, room in self._room.items()
            if room >= number and place[0] != but and (place[1] == day if day else place[1] != self._days[0])
        ]
        team, of_day = self._chance.choice(found)
        self._room[team, of_day] -= number
        return team, of_day

    def _night(self, number: int = 1) -> tuple[str, datetime]:
        """A team with room for so many more, and a moment in the evening whose next minutes nothing else has."""
        while True:
            team, day = self._take(number)
            if self._nights[day] < MAX_NIGHT_CASES:
                self._nights[day] += 1
                return team, moment(day, "21:00") + NIGHT_CASE * self._nights[day]

    # --- cases ---

    def _cases(self, times: int) -> None:
        """Plan each case so many times; those that need most room come first."""
        last = self._days[-1]
        for _ in range(times):
            self._fourth(*self._take(VALID_A_DAY))
            self._failures(*self._take(VALID_A_DAY))
            self._cancelled(*self._take(VALID_A_DAY))
            self._damaged_store(*self._take(VALID_A_DAY))
        team, _ = self._take(day=last)
        self._send(moment(last, "23:59") + timedelta(seconds=30), team, "quick", "in the last minute")
        midnight = moment(last + timedelta(days=1), "00:00")
        self._add(midnight, "send", team, self._unsent(team), case="after the end")
        self._add(moment(last + timedelta(days=1), "07:00"), "work")
        for _ in range(times):
            for how in WORK_FAULTS:
                self._work_fault(how)
            for how in DATA_FAULTS:
                if how != "encoders-damaged" or self._mode == "nano":  # quick seasons have no task that needs encoders
                    self._data_fault(how)
            self._cancelled_running()
            self._same(*self._take())
            for kind in (*FAILING, *TURNED_AWAY):
                team, day = self._take(0 if kind in TURNED_AWAY else 1)
                what = "ZIP" if kind in TURNED_AWAY else "program"
                self._send(self._morning(day), team, kind, f"{what}: {kind}")
            for how in ("copying", "kept"):
                team, day = self._take()
                key, at = self._program(team, "quick"), self._morning(day)
                self._add(at, "kill-sending", team, key, how=how, case=f"sending killed: {how}")
                self._add(at + timedelta(minutes=1), "send", team, key)
        self._brittle, day = self._take()
        self._send(self._morning(day), self._brittle, "brittle", "program: brittle")
        for team in self._chance.sample(self._teams, 2):
            eve = moment(START, "00:00") - timedelta(seconds=1)
            self._add(eve, "send", team, self._unsent(team), case="before the start")
        self._add(self._morning(self._days[1]), "send", "Кто это?", self._unsent(team), case="unknown team")

    def _unsent(self, team: str) -> str:
        """A ZIP that will be refused."""
        key = self._program(team, "quick")
        self._sent[team].remove(key)
        return key

    def _same(self, team: str, day: date) -> None:
        key = self._send(self._morning(day), team, "quick")
        self._add(self._afternoon(day), "send", team, key, case="the same ZIP again")
        other, _ = self._take(day=day, but=team)
        self._add(moment(day, "20:30"), "send", other, key, case="the ZIP of another team")

    def _fourth(self, team: str, day: date) -> None:
        """Three at once, and two more: one while those wait, and one when they are done."""
        at = self._morning(day)
        for number in range(VALID_A_DAY):
            self._send(at + timedelta(minutes=number), team, "quick")
        self._add(at + timedelta(minutes=5), "send", team, self._unsent(team), case="a fourth of the day")
        self._add(self._afternoon(day), "send", team, self._unsent(team), case="a fourth of the day")

    def _failures(self, team: str, day: date) -> None:
        """So many failures of its own in a day that no more may be sent."""
        for number in range(INVALID_A_DAY):
            at = moment(day, "10:00" if number < VALID_A_DAY else "16:00") + timedelta(minutes=number)
            self._send(at, team, "silent" if number % 2 else "crash")
        self._add(moment(day, "20:00"), "send", team, self._unsent(team), case="too many failures a day")
        self._add(moment(day, "20:59"), "work")
        self._add(moment(day, "21:05"), "send", team, self._unsent(team), case="too many failures a day")

    def _cancelled(self, team: str, day: date) -> None:
        """Cancelled while it waits; the three that follow are not refused."""
        at = moment(day, "09:00")
        key = self._program(team, "quick")
        self._sent[team].remove(key)
        self._add(at, "send", team, key)
        self._add(at + timedelta(minutes=1), "cancel", team, key, how="queued", case="cancelled: queued")
        for number in range(VALID_A_DAY):
            self._send(at + timedelta(minutes=2 + number), team, "quick")

    def _cancelled_running(self) -> None:
        team, at = self._night()
        key = self._program(team, "slow")
        self._failed[team].remove(key)
        self._add(at, "send", team, key)
        at += timedelta(minutes=2)
        self._add(at, "cancel", team, key, how="running", case="cancelled: running", delay=self._delay())

    def _damaged_store(self, team: str, day: date) -> None:
        """What is retried on the next day is a fourth of the day on which it was sent, and no attempt of that day."""
        self._add(moment(day, "13:30"), "work")
        key = self._send(moment(day, "13:35"), team, "quick")
        self._add(moment(day, "13:58"), "spoil", team, key, how="store")
        self._add(moment(day, "13:59"), "work", case="stored ZIP damaged")
        for _ in range(VALID_A_DAY):
            self._send(self._afternoon(day), team, "quick")
        morning = moment(day + timedelta(days=1), "07:30")
        self._add(morning, "restore", team, key, how="store")
        self._add(morning, "retry")
        self._add(morning + timedelta(minutes=1), "work", case="stored ZIP put back")

    def _work_fault(self, how: str) -> None:
        number = 2 if how == "two-runners" else 1
        team, at = self._night(number)
        kind = self._best() if how in ("kill-runner", "stall") else "quick"
        for minute in range(number):
            self._send(at + timedelta(minutes=minute), team, kind)
        self._add(at + timedelta(minutes=2), "work", how=how, case=f"work: {how}", delay=self._delay())

    def _data_fault(self, how: str) -> None:
        team, at = self._night()
        self._send(at, team, "quick")
        self._add(at + timedelta(minutes=1), "spoil", how=how)
        self._add(at + timedelta(minutes=2), "work", case=how)
        self._add(at + timedelta(minutes=5), "restore", how=how)
        self._add(at + timedelta(minutes=5), "retry")
        self._add(at + timedelta(minutes=6), "work", case=f"{how}, put back")

    def _delay(self) -> float:
        return round(self._chance.uniform(0.0, 0.8), 2)

    # --- what teams do ---

    def _usual(self) -> None:
        """On days without cases; each team that goes on does so with what it began with, or with simple programs."""
        for team in self._teams:
            good = self._chance.random() < 0.35  # goes on with nano, not only begins with it
            begun = False
            for day in self._days:
                if self._room[team, day] < VALID_A_DAY or self._chance.random() >= self._rate:
                    continue
                for _ in range(self._chance.choice((1, 1, 1, 2, 3))):
                    at = self._morning(day) if self._chance.random() < 0.5 else self._afternoon(day)
                    kind = self._best() if not begun or (good and self._chance.random() < 0.5) else "quick"
                    begun = True
                    if self._chance.random() < 0.1:
                        kind = self._chance.choice(("crash", "silent"))
                    self._send(at, team, kind)

    def _choices(self, day: date) -> None:
        """Half of the teams choose; some do what is not allowed, and some change their mind."""
        at = moment(day, "10:00")

        def choose(team: str, keys: list[str], case: str = "") -> None:
            nonlocal at
            at += timedelta(minutes=1)
            self._add(at, "choose", team, *keys, case=case)

        ready = [team for team in self._teams if self._sent[team]]
        rich = [team for team in ready if len(self._sent[team]) > CHOSEN]
        choose(self._brittle, [key for key in self._sent[self._brittle] if self._programs[key].kind == "brittle"])
        for team in self._chance.sample(ready, len(ready) // 2):
            if team != self._brittle:
                most = min(CHOSEN, len(self._sent[team]))
                choose(team, self._chance.sample(self._sent[team], self._chance.randint(1, most)))
        for team in self._chance.sample(rich, min(2, len(rich))):
            choose(team, self._sent[team][: CHOSEN + 1], "choice: more than three")
            choose(team, [self._sent[team][-1]], "choice: changed")
        for team in self._chance.sample(ready, 2):
            other = next(name for name in ready if name != team)
            choose(team, [self._chance.choice(self._sent[other])], "choice: another team's")
        for team in [team for team in self._teams if self._failed[team]][:2]:
            choose(team, self._failed[team][:1], "choice: without a score")
        at += timedelta(minutes=1)
        self._add(at, "finals", case="finals before the last choice")
        late = moment(day + timedelta(days=1), "00:00")
        for team in self._chance.sample(ready, 2):
            self._add(late, "choose", team, self._sent[team][0], case="choice: too late")

    def _finals(self, day: date) -> None:
        at = moment(day, "09:00")
        self._add(at, "finals")
        self._add(at, "finals", case="finals twice")
        self._add(at + timedelta(minutes=1), "work", how="kill-runner", case="work: kill-runner", delay=self._delay())
