"""Shared parameters as FusionBrain Challenge 1.0 asks for them, of whatever tasks there are."""

from collections.abc import Collection, Mapping, Sequence
from pathlib import Path

from evaluator.package import shared_parameters
from evaluator.package.shared_parameters import SharedParameters


def count(
    root: Path,
    stated: Mapping[str, Sequence[str]] | None = None,
    required: float = 0.25,
    tasks: Collection[str] = (),
) -> SharedParameters:
    """The count of a submission; `stated` stands in place of its models.json."""
    return shared_parameters.count(root, required, stated, tasks)
