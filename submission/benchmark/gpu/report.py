"""What a part of the check found: figures, checks that hold or fail, goals that are reached or missed.

The file is written anew after every entry, so that a part that is cut off keeps what it had.
"""

from __future__ import annotations

import json
import math
import time
from pathlib import Path
from typing import Any

from rudolph.files import replacing

DONE, CUT_OFF, FAILED, NOT_RUN = "done", "cut off", "failed", "not run"


class Report:
    """The findings of one part, in `path`, which has `seconds` to find them."""

    def __init__(self, part: str, path: Path, seconds: float) -> None:
        self.path = path
        self._started, self._seconds = time.monotonic(), seconds
        self.found: dict[str, Any] = {"part": part, "state": CUT_OFF, "figures": {}, "checks": [], "goals": []}
        self._write()

    def left(self) -> float:
        """Seconds that are left of the part's cap."""
        return self._seconds - (time.monotonic() - self._started)

    def figure(self, name: str, value: Any) -> None:
        """Keep what was measured under `name`; slashes in it open levels."""
        *levels, last = name.split("/")
        place = self.found["figures"]
        for level in levels:
            place = place.setdefault(level, {})
        place[last] = value
        self._write()

    def check(self, name: str, holds: bool, seen: str) -> None:
        """Keep whether something that must hold does, and what was seen."""
        self.found["checks"].append({"name": name, "holds": bool(holds), "seen": seen})
        self._show("ok" if holds else "WRONG", name, seen)

    def goal(self, name: str, value: float, goal: float, *, at_most: bool) -> None:
        """Keep whether a measured value reaches its goal."""
        reached = bool(value <= goal if at_most else value >= goal)
        entry = {"name": name, "value": value, "goal": goal, "at_most": at_most, "reached": reached}
        self.found["goals"].append(entry)
        bound = "at most" if at_most else "at least"
        self._show("goal" if reached else "short", name, f"{value:.4g}, {bound} {goal:g}")

    def note(self, text: str) -> None:
        """Say and keep what is neither."""
        self.found.setdefault("notes", []).append(text)
        self._show("note", text, "")

    def end(self, state: str = DONE, error: str | None = None) -> None:
        """The last entry: how the part ended."""
        self.found["state"] = state
        if error is not None:
            self.found["error"] = error
        self._write()

    def _show(self, mark: str, name: str, seen: str) -> None:
        print(f"  {mark:5}  {name}{': ' if seen else ''}{seen}", flush=True)
        self._write()

    def _write(self) -> None:
        self.found["seconds"] = time.monotonic() - self._started
        with replacing(self.path) as temporary:
            temporary.write_text(json.dumps(finite(self.found), ensure_ascii=False, indent=1) + "\n", encoding="utf-8")


def finite(value: Any) -> Any:
    """The same with null for what JSON has no number for."""
    if isinstance(value, dict):
        return {key: finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [finite(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def verdict(found: dict[str, Any]) -> str:
    """One line on a part, of what its file holds."""
    wrong = [check["name"] for check in found["checks"] if not check["holds"]]
    short = [goal["name"] for goal in found["goals"] if not goal["reached"]]
    text = f"{found['part']}: {found['state']} in {found['seconds']:.0f} s"
    if found["checks"]:
        text += f", {len(found['checks']) - len(wrong)} of {len(found['checks'])} checks hold"
    if found["goals"]:
        text += f", {len(found['goals']) - len(short)} of {len(found['goals'])} goals reached"
    if "error" in found:
        text += f"; {found['error']}"
    return text + "".join(f"; WRONG: {name}" for name in wrong)
