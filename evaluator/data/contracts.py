"""How data and predictions are written: the standard contract, and those of competitions that were before it."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from evaluator.competition import definition
from evaluator.competition.definition import Competition
from evaluator.data import dataset, fbc1, predictions
from evaluator.data.dataset import Data
from evaluator.data.predictions import Predictions


@dataclass(frozen=True)
class Contract:
    """Reads a data folder, and an output folder of its submissions."""

    read_data: Callable[[Path | str, Competition], Data]
    read_predictions: Callable[[Path | str, Data], Predictions]


CONTRACTS: Mapping[str, Contract] = {
    "standard": Contract(dataset.read_data, predictions.read_predictions),
    "fbc1": Contract(fbc1.read_data, fbc1.read_predictions),
}


def read_data(folder: Path | str, competition: Competition | None = None) -> Data:
    """Read and check a data folder as its competition (default: the usual one) has it. Raises `DataError` with all
    faults.
    """
    competition = competition or definition.default()
    return CONTRACTS[competition.definition.contract].read_data(folder, competition)


def read_predictions(folder: Path | str, data: Data) -> Predictions:
    """Read and check an output folder for this data. Raises `SubmissionError` (BAD_OUTPUT) with all faults."""
    return CONTRACTS[data.competition.definition.contract].read_predictions(folder, data)
