"""What organizers change in a simulated season: a corrected truth, teams, submissions, days, a frozen board.

It happens to teams of its own and is drawn by a generator of its own, so that all else in a season stays what its seed
makes it; only choices and finals come a day later, as the last day is moved.
"""

import random
from collections.abc import Sequence
from datetime import date, datetime, timedelta
from typing import Any

from evaluator.tools.simulated_season.events import PlannedEvent, Program, moment

# Teams by what happens to them.
TEAMS = {
    "disqualified": "Списавшие 📝",
    "reinstated": "Зря обвинённые",
    "guest": "Вне зачёта ☂",
    "merged": "Левая половина",
    "into": "Правая часть",
    "renamed": "Рабочее название",
    "withdrawn": "Черновик",
    "extended": "Больничный 🏥",
}
NEW_NAME = "Ёлка, гори!"
# Kinds of ZIPs that are scored: one that has all answers of the public test set in it, and one that is right on both
# most often.
KNOWING, ABLE = "knowing", "able"
WEIGHT = "9=0.3"  # that a task gets by mistake
CORRECTED = "corrected"  # what is put after the name of a test set's folder

_PUBLIC, _PRIVATE = "public", "private"


class Changes:
    """Plans it, for a season of these days. Boards are looked at before and after what changes them."""

    def __init__(self, seed: int, days: Sequence[date]) -> None:
        self._chance = random.Random(f"changes {seed}")
        self.teams = tuple(TEAMS.values())
        self.programs: dict[str, Program] = {}
        self.events: list[PlannedEvent] = []
        self._first, self._early, self._middle, self._last = days[0], days[1], days[max(2, len(days) // 2)], days[-1]
        self._added, self.choose_until = self._last + timedelta(days=1), self._last + timedelta(days=2)
        self._begin()
        self._merge()
        self._withdraw()
        self._count_anew()
        self._rename()
        self._correct_the_truth()
        self._reweigh()
        self._freeze()
        self._move_the_end()
        self._choose()
        self._correct_the_private_truth()

    # --- pieces ---

    def _add(self, at: datetime, do: str, role: str = "", *programs: str, **more: Any) -> None:
        self.events.append(PlannedEvent(at, do, TEAMS[role] if role else "", programs, **more))

    def _organize(self, day: date, clock: str, how: str, role: str = "", *programs: str, **more: Any) -> None:
        self._add(moment(day, clock), "organize", role, *programs, how=how, **more)

    def _program(self, role: str, kind: str = "quick") -> str:
        key = f"{role}-{sum(key.startswith(role) for key in self.programs) + 1}"
        kg = round(self._chance.uniform(0.5, 30), 3)
        self.programs[key] = Program(key, kind, self._chance.randrange(10**6), "good", kg)
        return key

    def _send(self, day: date, clock: str, role: str, kind: str = "quick", case: str = "") -> str:
        """Sent within the minute."""
        at = moment(day, clock) + timedelta(seconds=self._chance.randrange(60))
        key = self._program(role, kind)
        self._add(at, "send", role, key, case=case)
        return key

    def _look(self, day: date, clock: str, how: str = "", test_set: str = _PUBLIC) -> None:
        self._add(moment(day, clock), "look", how=how, to=test_set)

    def _rescore(self, day: date, clock: str, how: str, to: str = _PUBLIC) -> None:
        self._add(moment(day, clock), "rescore", how=how, to=to, case=f"scored again: {how}")

    # --- cases ---

    def _begin(self) -> None:
        """All have a result on the first day. That to be withdrawn is its team's best by far. Of those who win the
        private board by far one is disqualified by mistake, and one is out of competition.
        """
        kinds = {"disqualified": KNOWING, "withdrawn": KNOWING, "reinstated": ABLE, "guest": ABLE}
        self._begun = {
            role: self._send(self._first, f"09:{10 + number}", role, kinds.get(role, "quick"))
            for number, role in enumerate(TEAMS)
        }

    def _merge(self) -> None:
        """Attempts of the day are those of both."""
        for minute in (10, 11):
            self._send(self._early, f"09:{minute}", "merged")
        self._send(self._early, "09:12", "into")
        self._organize(self._early, "14:20", "merge", "merged", to=TEAMS["into"], case="merged")
        self._send(self._early, "14:21", "into", case="merged: a fourth of the day")
        self._send(self._early, "14:22", "merged", case="merged: by the old name")

    def _withdraw(self) -> None:
        """The best one, which is chosen; one that comes back when all is scored again; one that waits for its run."""
        self._second = self._send(self._first, "16:00", "withdrawn")
        chosen = (self._begun["withdrawn"], self._second)
        self._add(moment(self._early, "14:30"), "choose", "withdrawn", *chosen, case="withdrawn: chosen before")
        self._look(self._early, "14:31")
        self._organize(self._early, "14:32", "withdraw", "withdrawn", chosen[0], case="withdrawn: the best one")
        self._look(self._early, "14:33")
        again = moment(self._early, "14:34")
        self._add(again, "choose", "withdrawn", chosen[0], case="withdrawn: chosen after")

    def _count_anew(self) -> None:
        """A day corrected, and an attempt more: both make room for a fourth of the day."""
        sent = [self._send(self._middle, f"09:{minute}", "renamed") for minute in (20, 21, 22)]
        self._send(self._middle, "14:10", "renamed", case="day corrected: before")
        to = str(self._early)
        self._organize(self._middle, "14:11", "set_day", "renamed", sent[0], to=to, case="day corrected")
        self._send(self._middle, "14:12", "renamed", case="day corrected: after")
        for minute in (23, 24, 25):
            self._send(self._middle, f"09:{minute}", "extended")
        self._send(self._middle, "14:13", "extended", case="an attempt more: before")
        self._organize(self._middle, "14:14", "extend", "extended", to="1", case="an attempt more")
        self._send(self._middle, "14:15", "extended", case="an attempt more: after")

    def _rename(self) -> None:
        self._organize(self._middle, "14:16", "rename", "renamed", to=NEW_NAME, case="renamed")
        self._send(self._last, "09:10", "renamed", case="renamed: by the old name")
        key = self._program("renamed")
        self.events.append(
            PlannedEvent(moment(self._last, "09:11"), "send", NEW_NAME, (key,), case="renamed: by the new name")
        )

    def _correct_the_truth(self) -> None:
        """While teams and submissions are out: what comes back stands on the board when all is scored once more."""
        day = self._middle
        waiting = {
            role: self._send(day, f"14:{20 + number}", role)
            for number, role in enumerate(("disqualified", "reinstated", "withdrawn"))
        }
        self._organize(day, "14:24", "take_out_of_competition", "guest", case="out of competition")
        self._organize(day, "14:25", "disqualify", "disqualified", case="disqualified")
        self._send(day, "14:26", "disqualified", case="disqualified: sends")
        self._organize(day, "14:27", "disqualify", "reinstated", case="disqualified by mistake")
        self._organize(day, "14:28", "withdraw", "withdrawn", waiting["withdrawn"], case="withdrawn: waiting")
        self._organize(day, "14:29", "withdraw", "withdrawn", self._second, case="withdrawn by mistake")
        self._look(day, "14:30")
        self._rescore(day, "14:31", "killed")
        self._rescore(day, "14:32", "dry run")
        self._rescore(day, "14:33", CORRECTED)
        self._look(day, "14:34")
        self._organize(day, "14:35", "reinstate", "reinstated", case="reinstated")
        self._organize(day, "14:36", "restore", "withdrawn", waiting["withdrawn"], case="restored: waiting")
        self._organize(day, "14:37", "restore", "withdrawn", self._second, case="restored")
        self._look(day, "14:38")
        self._rescore(day, "14:39", "once more")
        self._look(day, "14:40")

    def _reweigh(self) -> None:
        """Weights changed by mistake, for a working time; what was scored by them is scored again."""
        self._send(self._last, "09:12", "into")
        self._rescore(self._last, "13:00", "weights", WEIGHT)
        self._look(self._last, "14:20")
        self._organize(self._last, "14:21", "undo", case="scored again: undone")
        self._look(self._last, "14:22")
        self._rescore(self._last, "14:23", "once more")
        self._look(self._last, "14:24")

    def _freeze(self) -> None:
        """Until choices are made. What comes then is the best."""
        self._organize(self._last, "14:25", "freeze", case="frozen")
        self._send(self._last, "14:26", "into", KNOWING)
        self._look(self._added, "07:05")
        self._look(self._added, "07:06", "live")
        self._look(self.choose_until, "09:40")
        self._organize(self.choose_until, "09:41", "unfreeze", case="unfrozen")
        self._look(self.choose_until, "09:42")

    def _move_the_end(self) -> None:
        """By a day; for one team by two."""
        to = f"{self._added} {self.choose_until}"
        self._organize(self._added, "06:30", "set_rules", to=to, case="the last day moved")
        for number, role in enumerate(("guest", "reinstated", "extended")):
            self._send(self._added, f"09:{10 + number}", role, case="on the added day")
        to = str(self.choose_until)
        self._organize(self._added, "10:00", "extend", "extended", to=to, case="the last day of a team")
        self._add(moment(self._added, "14:00"), "work")
        self._send(self.choose_until, "09:00", "reinstated", case="after the added day")
        self._send(self.choose_until, "09:01", "extended", case="on a team's own last day")
        self._add(moment(self.choose_until, "09:30"), "work")

    def _choose(self) -> None:
        at = moment(self.choose_until, "09:50")
        self._add(at, "choose", "into", self._begun["merged"], self._begun["into"], case="choice: of a merged team's")
        self._add(at, "choose", "disqualified", self._begun["disqualified"], case="choice: of a disqualified team")

    def _correct_the_private_truth(self) -> None:
        day = self.choose_until + timedelta(days=1)
        self._look(day, "12:00", test_set=_PRIVATE)
        self._rescore(day, "12:01", CORRECTED, _PRIVATE)
        self._look(day, "12:02", test_set=_PRIVATE)
