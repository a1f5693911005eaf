"""String accuracy (HTR), as FusionBrain Challenge 1.0 published it: the share of pictures whose text is right to the
last character.

Nothing is normalised: case, ё, composed and decomposed letters, spaces, look-alike letters all count. A picture without
a prediction counts as the empty text, and is right where the truth is empty. What is no text is compared all the same,
as Python compares it: 5 is not "5", 1 is 1.0.
"""

from collections.abc import Sequence

from evaluator.metrics.base import Metric, Resources, Result, Sample


def _evaluate(samples: Sequence[Sample], resources: Resources) -> Result:
    return Result.mean([float(sample.predicted_json == sample.reference_json) for sample in samples])


METRICS = (Metric("string_accuracy", "equal strings", "json", _evaluate, missing=""),)
