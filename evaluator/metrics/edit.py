"""1 - NED (text recognition): edit distance over the raw strings, as the challenge's published evaluation has it."""

from collections.abc import Sequence

from rapidfuzz.distance import Levenshtein

from evaluator.core.validation import Flag
from evaluator.metrics.base import Parameters, text_metric
from evaluator.metrics.text import best


def one_minus_ned(prediction: str, references: Sequence[str], *, ignore_case: bool = False) -> float:
    """1 - Levenshtein distance / length of the longer string, against the best of the accepted answers, in 0..1.

    White space counts, and case unless `ignore_case`; 0 if either string is empty, even if both are. The time is the
    product of the two lengths over 64: 0.1 s or so for two texts of 100 000 characters.
    Raises ValueError if there is no accepted answer.
    """
    if ignore_case:
        prediction, references = prediction.lower(), [reference.lower() for reference in references]
    return best(_one_minus_ned, prediction, references)


def _one_minus_ned(prediction: str, reference: str) -> float:
    if not prediction or not reference:
        return 0.0
    return 1 - Levenshtein.distance(prediction, reference) / max(len(prediction), len(reference))


class EditParameters(Parameters):
    """Whether case counts; published: it does."""

    ignore_case: Flag = False


METRICS = (text_metric("one_minus_ned", "1 - NED", one_minus_ned, EditParameters),)
