"""CodeBLEU of Python programs, as FusionBrain Challenge 1.0 published it: the mean of four parts, each of a corpus.

`Statistics` of single texts add up to those of a corpus, so that a total of any of them, or of many resamples, is a sum
and a few divisions.

The published code decides the number, not its description, and the paper least (Ren et al. 2020, arXiv 2009.10297):
texts are scored as they stand, with the words NEW_LINE, INDENT and DEDENT for their layout, with comments; tokens are
what `str.split` gives; nothing is rounded.

* `ngram`: BLEU-4, as NLTK's `corpus_bleu` with its smoothing method 1 (a count of 0 becomes 0.1).
* `weighted_ngram`: recall instead of precision, a keyword of Python counting 1, another word 0.2. Its brevity penalty
  takes 2 for the length of each reference, as the published code measures a pair instead of the text.
* `syntax`: share of the reference's subtrees that occur anywhere in the prediction, however often.
* `dataflow`: share of the reference's edges (`dataflow.py`); 0 where no reference has any.
"""

import math
from collections import Counter
from collections.abc import Iterable, Sequence

import numpy as np
from numpy.typing import NDArray

from evaluator.metrics import assets, dataflow
from evaluator.metrics.base import Metric, Resource, Resources, Result, Sample
from evaluator.metrics.syntax_trees import Grammar

PARTS = ("ngram", "weighted_ngram", "syntax", "dataflow")
ORDERS = (1, 2, 3, 4)  # of n-grams
SMOOTHING = 0.1  # instead of a count of 0
KEYWORD_WEIGHT, WORD_WEIGHT = 1.0, 0.2
WEIGHTED_REFERENCE_LENGTH = 2
KEYWORDS = frozenset(
    "False None True and as assert async await break class continue def del elif else except finally for from global if"
    " import in is lambda nonlocal not or pass raise return try while with yield".split()
)

GRAMMAR: Resource[Grammar] = Resource("grammar", assets.load_grammar, lambda grammar: grammar.label)

#: Of one pair of texts or the sum over many, along the last axis: matches and counts of n-grams of each order, the same
#: weighted, then these.
_MATCHES, _COUNTS = slice(0, 4), slice(4, 8)
_WEIGHTED_MATCHES, _WEIGHTED_COUNTS = slice(8, 12), slice(12, 16)
_LENGTH, _REFERENCE_LENGTH, _TEXTS = 16, 17, 18
_SUBTREES_MATCHED, _SUBTREES, _EDGES_MATCHED, _EDGES = 19, 20, 21, 22
STATISTICS = 23

Ngrams = Counter[tuple[str, ...]]


def statistics(prediction: str, references: Sequence[str], grammar: Grammar) -> NDArray[np.float64]:
    """[STATISTICS] of one text, for `scores`. Several references: `ngram` clips at the largest count and takes the
    nearest length, the other parts add up.

    The time is linear in the texts' lengths, but for the parser's repairs. Raises ValueError if there is no reference.
    """
    if not references:
        raise ValueError("references: got an empty list, need at least one")
    values = np.zeros(STATISTICS)
    words = prediction.split()
    accepted = [reference.split() for reference in references]
    for i, order in enumerate(ORDERS):
        predicted, true = _ngrams(words, order), [_ngrams(reference, order) for reference in accepted]
        largest: Ngrams = Counter()
        for counts in true:
            largest |= counts
        values[_MATCHES][i] = (predicted & largest).total()
        values[_COUNTS][i] = max(1, predicted.total())
        values[_WEIGHTED_MATCHES][i] = sum(_weight(predicted & counts, order) for counts in true)
        values[_WEIGHTED_COUNTS][i] = sum(max(1.0, _weight(counts, order)) for counts in true)
    values[_LENGTH] = len(words)
    values[_REFERENCE_LENGTH] = min(map(len, accepted), key=lambda length: (abs(length - len(words)), length))
    values[_TEXTS] = 1
    tree = grammar.parse(prediction)
    subtrees, edges = frozenset(tree.expressions), dataflow.edges(tree, prediction)
    for reference in references:
        true_tree = grammar.parse(reference)
        values[_SUBTREES_MATCHED] += sum(expression in subtrees for expression in true_tree.expressions)
        values[_SUBTREES] += len(true_tree.expressions)
        values[_EDGES_MATCHED : _EDGES + 1] += dataflow.matches(dataflow.edges(true_tree, reference), edges)
    return values


def scores(statistics: NDArray[np.float64]) -> tuple[NDArray[np.float64], dict[str, NDArray[np.float64]]]:
    """CodeBLEU and its `PARTS` from sums of statistics, [..., STATISTICS] -> [...], each in 0..1: of one text, of a
    corpus, or of each of many resamples of it. Raises ValueError for a corpus without texts.
    """
    if not np.all(statistics[..., _TEXTS] > 0):
        raise ValueError("CodeBLEU needs at least one text")
    lengths, texts = statistics[..., _LENGTH], statistics[..., _TEXTS]
    parts = {
        "ngram": _bleu(
            statistics[..., _MATCHES], statistics[..., _COUNTS], lengths, statistics[..., _REFERENCE_LENGTH]
        ),
        "weighted_ngram": _bleu(
            statistics[..., _WEIGHTED_MATCHES],
            statistics[..., _WEIGHTED_COUNTS],
            lengths,
            WEIGHTED_REFERENCE_LENGTH * texts,
        ),
        "syntax": statistics[..., _SUBTREES_MATCHED] / statistics[..., _SUBTREES],  # the root always counts
        "dataflow": statistics[..., _EDGES_MATCHED] / np.maximum(1, statistics[..., _EDGES]),
    }
    return np.mean(list(parts.values()), axis=0), parts


def resampled(statistics: NDArray[np.float64], resamples: Iterable[NDArray[np.intp]]) -> NDArray[np.float64]:
    """CodeBLEU of each resample, [R], from the statistics of single texts [N, STATISTICS] and arrays of positions."""
    return scores(np.array([statistics[rows].sum(axis=0) for rows in resamples]))[0]


def _bleu(
    matches: NDArray[np.float64],
    counts: NDArray[np.float64],
    lengths: NDArray[np.float64],
    reference_lengths: NDArray[np.float64],
) -> NDArray[np.float64]:
    """[..., orders] twice and [...] twice -> [...]."""
    shares = np.where(matches == 0, SMOOTHING, matches) / counts
    brevity = np.exp(np.minimum(0, 1 - reference_lengths / np.maximum(1, lengths)))
    return np.where(matches[..., 0] == 0, 0.0, brevity * np.exp(np.log(shares).mean(axis=-1)))


def _ngrams(words: Sequence[str], order: int) -> Ngrams:
    return Counter(zip(*(words[start:] for start in range(order)), strict=False))


def _weight(counts: Ngrams, order: int) -> float:
    if order > 1:
        return counts.total()
    return math.fsum(count * (KEYWORD_WEIGHT if word in KEYWORDS else WORD_WEIGHT) for (word,), count in counts.items())


def _evaluate(samples: Sequence[Sample], resources: Resources) -> Result:
    table = np.array([statistics(each.prediction, each.answers, resources[GRAMMAR]) for each in samples])
    values, _ = scores(table)
    total, parts = scores(table.sum(axis=0))
    return Result(
        values,
        float(total),
        {name: float(value) for name, value in parts.items()},
        lambda resamples: resampled(table, resamples),
        "programs resampled, CodeBLEU of each resample as a corpus",
    )


METRICS = (Metric("codebleu", "CodeBLEU", "text", _evaluate, requires=(GRAMMAR,), shows="code"),)
