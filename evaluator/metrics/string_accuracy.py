"""String accuracy (HTR), as FusionBrain Challenge 1.0 published it: the share of pictures whose text is right to the
last character.

Nothing is normalised: case, ё, composed and decomposed letters, spaces, look-alike letters all count. A picture without
a prediction counts as the empty text, and is right where the truth is empty. What is no text is compared all the same,
as Python compares it: 5 is not "5", 1 is 1.0.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from evaluator.metrics.base import Metric, Resources, Result, Sample

MISSING = ""  # the prediction for a picture that has none


def string_accuracy(predictions: Mapping[str, object], truth: Mapping[str, object]) -> NDArray[np.float64]:
    """1.0 or 0.0 for each picture of the truth, [N], in its order; their mean is the score. Predictions for other
    pictures are ignored. Raises ValueError for a truth without pictures, which has no score.
    """
    if not truth:
        raise ValueError("truth: has no pictures, need at least one")
    return np.array([float(predictions.get(picture, MISSING) == text) for picture, text in truth.items()])


def _evaluate(samples: Sequence[Sample], resources: Resources) -> Result:
    predictions = {sample.id: sample.predicted_json for sample in samples}
    return Result.mean(string_accuracy(predictions, {sample.id: sample.reference_json for sample in samples}))


METRICS = (Metric("string_accuracy", "equal strings", "json", _evaluate, schema=Any, missing=MISSING),)
