"""What trainings share: state kept in one file, progress in the log, half precision where it pays."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from rudolph.files import replacing

log = logging.getLogger(__name__)

REPORT_EVERY = 25  # steps
SAVE_EVERY = 100  # steps


def fast_autocast() -> torch.autocast:
    """bfloat16 on a CPU that computes with it; others emulate it, tens of times slower than float32."""
    return torch.autocast("cpu", torch.bfloat16, enabled=torch.cpu._is_avx512_bf16_supported())


class Checkpoint:
    """Saves and restores everything with a `state_dict` under `folder`/checkpoint.pt, atomically.

    `saved` is called after each time.
    """

    def __init__(
        self, folder: Path, parts: dict[str, Any], save: bool = True, saved: Callable[[], None] | None = None
    ) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.path, self.parts, self.save, self.saved = folder / "checkpoint.pt", parts, save, saved
        self.started = time.monotonic()
        self.first = 0

    def restore(self) -> int:
        """Loads the saved state, if there is one, and returns the step to go on with."""
        if self.path.exists():
            saved = torch.load(self.path, weights_only=True)
            for name, part in self.parts.items():
                part.load_state_dict(saved[name])
            self.first = saved["step"]
            log.info("%s: goes on at step %d", self.path, self.first)
        return self.first

    def report(self, step: int, steps: int, **figures: Tensor | float) -> None:
        """Called after every step, with how many are done: logs and saves when it is time."""
        if step % REPORT_EVERY == 0 or step == steps:
            pace = (time.monotonic() - self.started) / max(1, step - self.first)
            shown = "  ".join(f"{name} {float(value):.4f}" for name, value in figures.items())
            to_go = pace * (steps - step) / 60
            log.info("step %d of %d  %s  %.2f s a step, %.0f min to go", step, steps, shown, pace, to_go)
        if self.save and (step % SAVE_EVERY == 0 or step == steps):
            state = {name: part.state_dict() for name, part in self.parts.items()}
            with replacing(self.path) as temporary:
                torch.save(state | {"step": step}, temporary)
            if self.saved is not None:
                self.saved()
