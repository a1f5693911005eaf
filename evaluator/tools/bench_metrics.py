"""How fast the text metrics are, beside a straightforward version that works word by word.

    python -m evaluator.tools.bench_metrics --predictions 10000 --sample 300

Makes Russian texts out of the words of pymorphy's dictionary, with three references for each prediction, scores them
with every text metric in this one process, and scores a sample of the same predictions with the straightforward
version below: no memory of words, stems or parses, RuWordNet asked by SQL for each word, every pair of words compared,
edit distance in Python. Both must give the same numbers; the ratio is of their CPU seconds for one prediction. The last
line is one JSON object.
"""

import argparse
import contextlib
import itertools
import json
import random
import sqlite3
import string
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import pymorphy3
import razdel
from nltk.stem.porter import PorterStemmer
from nltk.stem.snowball import SnowballStemmer
from nltk.tokenize import NLTKWordTokenizer

from evaluator.metrics import meteor, text
from evaluator.metrics.assets import FOLDER
from evaluator.metrics.base import Resources, Sample
from evaluator.metrics.meteor import RUWORDNET, RuWordNet
from evaluator.metrics.registry import METRICS

REFERENCES = 3
LETTERS = set("абвгдежзийклмнопрстуфхцчшщъыьэюяё")
DRAWN_OF_PREFIX = 400  # inflected forms, about 20 000 in all; drawn with probability 1 / rank, as in a language
SECONDS_ALLOWED, SECONDS_ALLOWED_FOR = 20.0, 10_000  # for all text metrics together, and for so many predictions
TOLERANCE = 1e-12

SCHEMA = """
CREATE TABLE synset (id TEXT PRIMARY KEY, title TEXT);
CREATE TABLE sense (id TEXT PRIMARY KEY, name TEXT, lemma TEXT, synset_id TEXT);
CREATE TABLE hypernym_relation (hyponym_id TEXT, hypernym_id TEXT);
CREATE TABLE derivation_relation (source_id TEXT, derivative_id TEXT);
CREATE INDEX sense_lemma ON sense (lemma);
CREATE INDEX hyponym ON hypernym_relation (hyponym_id);
CREATE INDEX source ON derivation_relation (source_id);
"""


@dataclass(frozen=True)
class Case:
    prediction: str
    references: list[str]


class Words:
    """Draws inflected Russian words and texts of them; the same ones for the same seed."""

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)
        words = pymorphy3.MorphAnalyzer(lang="ru").dictionary.words
        forms: set[str] = set()
        for prefix in itertools.product("бвгдкмнпрст", "аеиоу"):
            forms.update(itertools.islice(words.iterkeys("".join(prefix)), 0, 12 * DRAWN_OF_PREFIX, 12))
        self.forms = sorted(form for form in forms if set(form) <= LETTERS and len(form) <= 12)
        self.random.shuffle(self.forms)
        self.weights = list(itertools.accumulate(1 / rank for rank in range(1, len(self.forms) + 1)))

    def draw(self, low: int, high: int) -> list[str]:
        count = self.random.randint(low, high)
        return self.random.choices(self.forms, cum_weights=self.weights, k=count)

    def alike(self, words: Sequence[str]) -> list[str]:
        """`words` with about a third of them replaced, and two swapped."""
        changed = [self.draw(1, 1)[0] if self.random.random() < 0.3 else word for word in words]
        i, j = self.random.randrange(len(words)), self.random.randrange(len(words))
        changed[i], changed[j] = changed[j], changed[i]
        return changed

    def cases(self, count: int, low: int, high: int, finish: Callable[[list[str]], str]) -> list[Case]:
        """Texts of `low`..`high` words with `REFERENCES` texts like each."""
        drawn = [self.draw(low, high) for _ in range(count)]
        return [Case(finish(words), [finish(self.alike(words)) for _ in range(REFERENCES)]) for words in drawn]

    def caption(self, words: list[str]) -> str:
        """With a capital and a full stop, every fourth with a comma or quotation marks."""
        if self.random.random() < 0.25:
            words = [*words[:-1], f"«{words[-1]}»"] if self.random.random() < 0.5 else [words[0] + ",", *words[1:]]
        return " ".join(words).capitalize() + "."

    def answer(self, words: list[str]) -> str:
        """Every fifth a number."""
        return str(self.random.randint(0, 20)) if self.random.random() < 0.2 else " ".join(words)

    def option(self, _: list[str]) -> str:
        return f"{self.random.choice('abcd')}) {self.random.randint(-999, 999)}"


def write_ruwordnet(path: Path, words: Words) -> None:
    """A database in RuWordNet's schema: for every tenth form a synset, two hypernyms, a derivation."""
    with contextlib.closing(sqlite3.connect(path)) as connection:
        connection.executescript(SCHEMA)
        for number, form in enumerate(words.forms[::10]):
            connection.execute("INSERT INTO synset VALUES (?, ?)", (f"S{number}", form.upper()))
            connection.execute(
                "INSERT INTO sense VALUES (?, ?, ?, ?)", (f"W{number}", form.upper(), form.upper(), f"S{number}")
            )
            for other in (number // 2, number // 3):
                connection.execute("INSERT INTO hypernym_relation VALUES (?, ?)", (f"S{number}", f"S{other}"))
            connection.execute("INSERT INTO derivation_relation VALUES (?, ?)", (f"W{number}", f"W{number // 5}"))
        connection.commit()


class Straightforward:
    """The metrics by their definitions: every pair of texts from the start, every word anew."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection
        self._analyzer = pymorphy3.MorphAnalyzer(lang="ru")
        self._russian, self._porter = SnowballStemmer("russian"), PorterStemmer()
        self._tokenizer = NLTKWordTokenizer()

    def f1_lemmas(self, prediction: str, reference: str) -> float:
        a, b = self._lemmas(prediction, string.punctuation), self._lemmas(reference, string.punctuation)
        if not a or not b:
            return float(a == b)
        common = (Counter(a) & Counter(b)).total()
        return 0.0 if not common else 2 * common / (len(a) + len(b))

    def exact_match(self, prediction: str, reference: str) -> float:
        removed = string.punctuation.replace("-", "")
        return float(self._lemmas(prediction, removed) == self._lemmas(reference, removed))

    def one_minus_ned(self, prediction: str, reference: str) -> float:
        row = list(range(len(reference) + 1))
        for i, x in enumerate(prediction, 1):
            previous, row = row, [i]
            for j, y in enumerate(reference, 1):
                row.append(min(previous[j] + 1, row[-1] + 1, previous[j - 1] + (x != y)))
        return 1 - row[-1] / max(len(prediction), len(reference))

    def caption_meteor(self, prediction: str, reference: str) -> float:
        def words(caption: str) -> str:
            kept = "".join(letter for letter in caption.strip() if letter not in meteor.CAPTION_PUNCTUATION)
            return " ".join(token.text for token in razdel.tokenize(kept)).lower()

        hypothesis = self._tokenizer.tokenize(meteor.english_numbers_to_digits(words(prediction)))
        return self._meteor(
            hypothesis, self._tokenizer.tokenize(words(reference)), self._russian.stem, meteor.CAPTION_GAMMA
        )

    def vqa_meteor(self, prediction: str, reference: str) -> float:
        hypothesis = self._tokenizer.tokenize(
            meteor.english_numbers_to_digits(self._lemma(text.strip_punctuation(prediction)))
        )
        true = self._tokenizer.tokenize(self._lemma(text.strip_punctuation(reference)))
        if len(true) == 1 and true[0].isnumeric():
            numbers = [float(token) for token in hypothesis if token.isnumeric()]
            if not numbers:
                return 0.0
            low, high = sorted((numbers[0], float(true[0])))
            return 1.0 if low == high else low / high
        return self._meteor(hypothesis, true, self._porter.stem, meteor.VQA_GAMMA)

    def best(self, name: str, case: Case) -> float:
        score = getattr(self, name)
        value = max(score(case.prediction, reference) for reference in case.references)
        letter = next((character for character in case.prediction if character in "abcde"), None)
        if name in ("f1_lemmas", "exact_match") and value <= text.OPTION_LETTER_LIMIT and letter:
            value = max(score(letter, reference) for reference in case.references)
        return value

    def _lemma(self, word: str) -> str:
        normal_form = self._analyzer.parse(word)[0].normal_form
        return text.NUMBER_WORDS.get(normal_form, normal_form)

    def _lemmas(self, answer: str, removed: str) -> list[str]:
        kept = "".join(character for character in answer.lower() if character not in removed)
        return [self._lemma(word) for word in kept.split()]

    def _related(self, word: str) -> set[str]:
        found = {word} if self._names("SELECT lemma FROM sense WHERE lemma = ?", word) else set()
        found |= self._names(
            "SELECT title FROM sense JOIN hypernym_relation ON hyponym_id = synset_id"
            " JOIN synset ON synset.id = hypernym_id WHERE lemma = ?",
            word,
        )
        return found | self._names(
            "SELECT derived.name FROM sense JOIN derivation_relation ON source_id = sense.id"
            " JOIN sense AS derived ON derived.id = derivative_id WHERE sense.lemma = ?",
            word,
        )

    def _names(self, query: str, word: str) -> set[str]:
        return {name.lower() for (name,) in self._connection.execute(query, (word.upper(),))}

    def _meteor(self, hypothesis: list[str], reference: list[str], stem: Callable[[str], str], gamma: float) -> float:
        left, right = list(enumerate(hypothesis)), list(enumerate(reference))
        matches: list[tuple[int, int]] = []

        def stage(candidates: Callable[[str], Iterable[str]]) -> None:
            for i in reversed(range(len(left))):
                wanted = candidates(left[i][1])
                for j in reversed(range(len(right))):
                    if right[j][1] in wanted:
                        matches.append((left.pop(i)[0], right.pop(j)[0]))
                        break

        stage(lambda word: {word})
        left, right = [(i, stem(word)) for i, word in left], [(j, stem(word)) for j, word in right]
        stage(lambda word: {word})
        stage(self._related)
        if not matches:
            return 0.0
        matches.sort()
        chunks = 1 + sum((i + 1, j + 1) != after for (i, j), after in itertools.pairwise(matches))
        precision, recall = len(matches) / len(hypothesis), len(matches) / len(reference)
        mean = precision * recall / (meteor.ALPHA * precision + (1 - meteor.ALPHA) * recall)
        return mean * (1 - gamma * (chunks / len(matches)) ** meteor.BETA)


def main(arguments: Sequence[str] | None = None) -> int:
    """Prints the table and the JSON line; returns 1 where the two versions differ, or the limit is missed."""
    parser = argparse.ArgumentParser("python -m evaluator.tools.bench_metrics", description="Speed of text metrics.")
    parser.add_argument("--predictions", type=int, default=10_000, help="of each metric (default: %(default)s)")
    parser.add_argument("--sample", type=int, default=200, help="of them for the word-by-word version")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args(arguments)
    if not 1 <= options.sample <= options.predictions:
        parser.error(f"--sample must be in 1..{options.predictions}, not {options.sample}")
    with tempfile.TemporaryDirectory() as folder:
        return _run(options.predictions, options.sample, options.seed, Path(folder) / "ruwordnet.db")


def _run(count: int, sample: int, seed: int, database: Path) -> int:
    words = Words(seed)
    write_ruwordnet(database, words)
    cases = {
        "f1_lemmas": words.cases(count, 1, 6, " ".join),
        "exact_match": words.cases(count, 1, 1, words.option),
        "caption_meteor": words.cases(count, 6, 12, words.caption),
        "vqa_meteor": words.cases(count, 1, 2, words.answer),
        "one_minus_ned": words.cases(count, 1, 5, " ".join),
    }
    seconds: dict[str, float] = {}
    slow: dict[str, float] = {}
    scores: dict[str, list[float]] = {}
    started = time.process_time()
    ruwordnet = RuWordNet.from_file(database)
    seconds["ruwordnet"] = time.process_time() - started
    for name, group in cases.items():
        samples = [Sample("", prediction=case.prediction, answers=tuple(case.references)) for case in group]
        started = time.process_time()
        scores[name] = METRICS[name].evaluate(samples, Resources(FOLDER, {RUWORDNET: ruwordnet})).values.tolist()
        seconds[name] = time.process_time() - started

    worst = 0.0
    with contextlib.closing(sqlite3.connect(database)) as connection:
        straightforward = Straightforward(connection)
        for name, group in cases.items():
            started = time.process_time()
            expected = [straightforward.best(name, case) for case in group[:sample]]
            slow[name] = (time.process_time() - started) * count / sample
            pairs = zip(scores[name][:sample], expected, strict=True)
            worst = max(worst, *(abs(score - value) for score, value in pairs))

    total, slow_total = sum(seconds.values()), sum(slow.values())
    print(f"{count} predictions with {REFERENCES} references for each metric; CPU seconds on one core")
    print(f"{'metric':<16}{'seconds':>9}{'word by word':>14}{'ratio':>7}")
    for name, value in slow.items():
        print(f"{name:<16}{seconds[name]:>9.2f}{value:>14.1f}{value / seconds[name]:>7.1f}")
    print(f"{'all':<16}{total:>9.2f}{slow_total:>14.1f}{slow_total / total:>7.1f}")
    print(f"word by word: measured on {sample} of them, times {count / sample:g}; largest difference {worst:.1e}")
    allowed = SECONDS_ALLOWED * count / SECONDS_ALLOWED_FOR
    fast, same = total <= allowed, worst <= TOLERANCE
    if not fast:
        print(f"too slow: {total:.1f} s, and {allowed:.1f} s are allowed")
    if not same:
        print(f"the two versions differ by {worst:.1e}, and {TOLERANCE:.0e} is allowed")
    document = {
        "predictions": count,
        "references": REFERENCES,
        "seconds": {name: round(value, 3) for name, value in seconds.items()},
        "total_seconds": round(total, 3),
        "ratio": round(slow_total / total, 2),
        "largest_difference": worst,
    }
    print(json.dumps(document))
    return 0 if fast and same else 1


if __name__ == "__main__":
    sys.exit(main())
