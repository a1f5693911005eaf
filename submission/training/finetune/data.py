"""The examples of a task, from the files that the settings name."""

from __future__ import annotations

from pathlib import Path

from training.data_format import FOLDERS, DataError, Sample, read_samples, split_files
from training.dataset import MODE_SOURCES
from training.finetune.config import TaskSettings


def read_task(data: Path, name: str, task: TaskSettings, split: str) -> list[Sample]:
    """The examples of a task or of a mode of pre-training. Raises DataError where there are none to train on."""
    source = MODE_SOURCES.get(name, name)
    folder = data / (task.dataset_path or FOLDERS[source])
    files = [folder / path.name for path in split_files(data, source, split)]
    for i, kind in enumerate(("input", "output")):
        named = getattr(task, f"{split}_{kind}")
        files[i] = folder / named if named else files[i]
    if split == "val" and not any(file.exists() for file in files):
        return []
    samples = read_samples(source, files[0], files[1], folder)
    if not samples:
        raise DataError(f"{files[0]}: has no examples; allowed: at least one of {name}, or the task off")
    return samples
