"""How data and predictions are written: the standard contract, and those of competitions that were before it."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from evaluator.competition import definition
from evaluator.competition.definition import Competition
from evaluator.data import dataset, fbc1, predictions
from evaluator.data.dataset import Data
from evaluator.data.predictions import Predictions

Documents = dict[str, dict[str, Any]]  # JSON files by name


@dataclass(frozen=True)
class Contract:
    """Reads a data folder, and an output folder of its submissions; and says what their JSON files would be."""

    read_data: Callable[[Path | str, Competition], Data]
    read_predictions: Callable[[Path | str, Data], Predictions]
    documents: Callable[[Data], Documents]
    prediction_documents: Callable[[Predictions, Data], Documents]


CONTRACTS: Mapping[str, Contract] = {
    "standard": Contract(
        dataset.read_data, predictions.read_predictions, dataset.documents, predictions.prediction_documents
    ),
    "fbc1": Contract(fbc1.read_data, fbc1.read_predictions, fbc1.documents, fbc1.prediction_documents),
}


def read_data(folder: Path | str, competition: Competition | None = None) -> Data:
    """Read and check a data folder as its competition (default: the usual one) has it; one that has the layout of
    FusionBrain Challenge 1.0 may be in the standard contract as well. Raises `DataError` with all faults.
    """
    competition = competition or definition.default()
    if competition.definition.contract == "fbc1":
        return read_either(folder, competition)
    return CONTRACTS[competition.definition.contract].read_data(folder, competition)


def read_either(folder: Path | str, competition: Competition) -> Data:
    """Read and check a data folder of FusionBrain Challenge 1.0's tasks, in its own layout or the standard contract,
    whatever the competition says of the contract. Results are by the keys of that layout. Raises `DataError`.
    """
    fbc1.check_tasks(competition)
    return fbc1.keyed(CONTRACTS[fbc1.contract_of(folder)].read_data(folder, competition))


def read_predictions(folder: Path | str, data: Data) -> Predictions:
    """Read and check an output folder for this data. Raises `SubmissionError` (BAD_OUTPUT) with all faults."""
    return CONTRACTS[data.contract].read_predictions(folder, data)
