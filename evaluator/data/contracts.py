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
class Layout:
    """Where a contract has a submission's folder, its input and its output, as absolute paths in a container. The
    output is a folder of the submission's; the input is one, or lies beside it.
    """

    submission: str
    input: str
    output: str

    @property
    def nested(self) -> bool:
        """Whether the input lies in the submission's folder."""
        return self.input.startswith(f"{self.submission}/")


@dataclass(frozen=True)
class Contract:
    """Where a run has its folders; what reads a data folder, and an output folder of its submissions; and what their
    JSON files would be.
    """

    layout: Layout
    read_data: Callable[[Path | str, Competition], Data]
    read_predictions: Callable[[Path | str, Data], Predictions]
    documents: Callable[[Data], Documents]
    prediction_documents: Callable[[Predictions, Data], Documents]


#: By the names that a definition may have as its `contract`.
CONTRACTS: Mapping[str, Contract] = {
    "standard": Contract(
        Layout("/work/submission", "/work/input", "/work/submission/output"),
        dataset.read_data,
        predictions.read_predictions,
        dataset.documents,
        predictions.prediction_documents,
    ),
    "fbc1": Contract(
        Layout("/home/jovyan", "/home/jovyan/input", "/home/jovyan/output"),
        fbc1.read_data,
        fbc1.read_predictions,
        fbc1.documents,
        fbc1.prediction_documents,
    ),
}


def read_data(folder: Path | str, competition: Competition | None = None) -> Data:
    """Read and check a data folder as its competition (default: the usual one) has it; where that is the layout of
    FusionBrain Challenge 1.0, it may be in the standard contract as well. Raises `DataError` with all faults.
    """
    competition = competition or definition.default()
    return CONTRACTS[competition.definition.contract].read_data(folder, competition)


def read_predictions(folder: Path | str, data: Data) -> Predictions:
    """Read and check an output folder for this data. Raises `SubmissionError` (BAD_OUTPUT) with all faults."""
    return CONTRACTS[data.contract].read_predictions(folder, data)
