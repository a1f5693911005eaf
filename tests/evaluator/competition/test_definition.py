"""Definitions of competitions: what they say, and what is said of those that say it wrongly."""

import json
import re
import textwrap
from pathlib import Path

import pytest

import evaluator
from evaluator.cli.app import main
from evaluator.competition import definition
from evaluator.competition.definition import BUILT_IN, Definition, default, find, schema
from evaluator.core.errors import DataError
from evaluator.core.limits import RUN
from evaluator.data.dataset import Data, Example
from evaluator.data.predictions import Predictions
from evaluator.metrics.assets import FOLDER
from evaluator.metrics.base import Resources, Sample
from evaluator.scoring.score import score

EVALUATOR = Path(evaluator.__file__).parent
SMALL = """
name = "small"
image = "small/image:1"
title = { en = "A small one" }

[[tasks]]
number = 0
name = "Words"
answer = "text"
metric = "exact_match"
weight = "1/2"
baseline = 0.1

[[tasks]]
number = 7
name = "Secret"
hidden = true
from_data = true
weight = 0.5
"""


@pytest.fixture
def write(tmp_path):
    def write(text, name="competition.toml"):
        (tmp_path / name).write_text(textwrap.dedent(text), encoding="utf-8")
        return str(tmp_path)

    return write


def faults(folder):
    with pytest.raises(DataError) as caught:
        find(folder)
    return [reason.removeprefix(f"{folder}/competition.toml: ") for reason in caught.value.reasons]


def test_fbc2_is_the_slides():
    fbc2 = default()
    names = ["TextQA", "MathQA", "ImageGeneration", "ImageCaptioning", "VisualQA", "TRitW"]
    assert [task.name for task in fbc2.tasks.values()] == names
    assert [fbc2.names[number] for number in fbc2.hidden_numbers] == [f"Hidden{number}" for number in range(1, 7)]
    assert list(fbc2.thresholds.values()) == [0.20, 0.25, 0.21, 0.15, 0.24, 0.13]
    assert fbc2.open_numbers == list(range(6)) and fbc2.hidden_numbers == list(range(6, 12))
    assert set(fbc2.weights.values()) == {1 / 15, 1 / 10} and fbc2.best_total == pytest.approx(1)
    assert round(fbc2.baseline_of(fbc2.numbers), 3) == fbc2.definition.integral.baseline == 0.243
    assert fbc2.limits == RUN and fbc2.title == "FusionBrain Challenge 2.0" and fbc2.definition.country == "RU"


def test_every_definition_of_the_package_can_be_read():
    assert "fbc2" in BUILT_IN
    for name in BUILT_IN:
        assert find(name).name == name


def test_a_folder_is_a_competition(write):
    folder = write(SMALL)
    small = find(folder)
    assert (small.name, small.title, small.source) == ("small", "A small one", folder)
    assert small.weights == {0: 0.5, 7: 0.5} and list(small.tasks) == [0] and small.hidden_numbers == [7]
    assert small.tasks[0].title == "Words" and small.baseline_of([0]) == 0.05 and small.baseline_of([0, 7]) is None
    assert small.to_json()["open"] == [0]


def test_the_digest_is_of_what_decides_a_score(write):
    digests = {find(write(SMALL)).digest}
    for same in ('{ en = "Another title" }', "baseline = 0.2"):
        old = '{ en = "A small one" }' if "title" in same else "baseline = 0.1"
        digests.add(find(write(SMALL.replace(old, same))).digest)
    assert len(digests) == 1
    for change in (
        ("number = 7", "number = 8"),
        ("exact_match", "f1_lemmas"),
        ('"1/2"', '"1/3"'),
        ('"exact_match"', '"exact_match"\nparameters = { option_letters = false }'),
        ("[[tasks]]\nnumber = 0", "[integral]\nround_parts = 3\n\n[[tasks]]\nnumber = 0"),
    ):
        assert change[0] in SMALL
        digests.add(find(write(SMALL.replace(*change))).digest)
    assert len(digests) == 6


OWN_METRIC = """
from evaluator.metrics.base import text_metric

def same_length(prediction, answers):
    return float(any(len(prediction) == len(answer) for answer in answers))

METRICS = (text_metric("same_length", "answers of the right length", same_length),)
"""


def test_a_metric_of_its_own(write):
    write(OWN_METRIC, "lengths.py")
    text = 'metrics = ["lengths.py"]\n' + SMALL.replace("exact_match", "same_length")
    small = find(write(text))
    sample = Sample("0", prediction="кот", answers=("пёс",))
    assert small.tasks[0].metric.evaluate([sample], Resources(FOLDER)).total == 1.0
    write(OWN_METRIC.replace("==", ">="), "lengths.py")
    assert find(write(text)).digest != small.digest
    sample = Sample("0", prediction="котёл", answers=("пёс",))
    assert find(write(text)).tasks[0].metric.evaluate([sample], Resources(FOLDER)).total == 1.0
    assert small.tasks[0].metric.evaluate([sample], Resources(FOLDER)).total == 0.0


OWN_RESOURCE = """
from pathlib import Path

from evaluator.metrics.base import Resource, text_metric

WORDS = Path(__file__).with_name("words.txt")
LEXICON = Resource(
    "lexicon",
    lambda assets: frozenset(WORDS.read_text(encoding="utf-8").split()),
    lambda words: None if len(words) > 2 else f"lexicon: {len(words)} words, not comparable",
)

def known(prediction, answers, *, lexicon):
    return float(prediction in lexicon)

METRICS = (text_metric("known", "words of the lexicon", known, requires=(LEXICON,)),)
"""


def test_a_metric_names_a_resource_of_its_own(write):
    """It is loaded from beside the metric, its label marks the score, and its file is part of the digest."""
    write(OWN_RESOURCE, "known.py")
    write("ёлка кот", "words.txt")
    text = 'metrics = ["known.py"]\nfiles = ["words.txt"]\n' + SMALL.replace("exact_match", "known")
    small = find(write(text))
    examples = [Example(str(i), small.tasks[0], (), ("кот",), task_id=str(i)) for i in range(2)]
    predictions = Predictions(FOLDER, texts={"0": "ёлка", "1": "елка"})
    scored = score(predictions, Data(FOLDER, small, tuple(examples), frozenset(), {})).tasks[0]
    assert (scored.score, scored.labels) == (0.5, ("lexicon: 2 words, not comparable",))
    write("ёлка елка кот", "words.txt")
    again = find(write(text))
    assert again.digest != small.digest and again.name == small.name
    scored = score(predictions, Data(FOLDER, again, tuple(examples), frozenset(), {})).tasks[0]
    assert (scored.score, scored.labels) == (1.0, ())
    with pytest.raises(DataError, match="files: none.txt cannot be read: No such file"):
        find(write(text.replace("words.txt", "none.txt")))


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (None, "metrics: lengths.py cannot be read: No such file or directory"),
        ("METRICS = (1 / 0,)", "metrics: lengths.py cannot be used: ZeroDivisionError: division by zero"),
        ("x = 1", "metrics: lengths.py cannot be used: AttributeError: module"),
        (OWN_METRIC.replace("same_length", "exact_match"), "the metric 'exact_match' is already defined"),
    ],
)
def test_a_metric_that_cannot_be_used(write, content, said):
    if content is not None:
        write(content, "lengths.py")
    [fault] = faults(write('metrics = ["lengths.py"]\n' + SMALL))
    assert said in fault


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ('name = "small"', 'name = "Small one"', "name: must be small letters, digits and '-', not 'Small one'"),
        ('name = "small"', "", "name: is missing"),
        (
            'title = { en = "A small one" }',
            'title = { de = "Ein kleiner" }',
            "title: unknown key 'de'; allowed are ru, en",
        ),
        (
            "[[tasks]]\nnumber = 0",
            "[limits]\ntime = 'soon'\n\n[[tasks]]\nnumber = 0",
            "[limits] time: must be a number of seconds",
        ),
        ("number = 0", "number = -1", "tasks[0].number: must be a whole number in 0..999, not -1"),
        ("number = 0", "number = 7", "tasks: two have the number 7"),
        ('"Words"', '"Secret"', "tasks: two have the name 'Secret'"),
        ('"exact_match"', '"exact_mach"', "tasks[0].metric: 'exact_mach' is unknown; known are f1_lemmas"),
        (
            '"exact_match"',
            '"image_generation"',
            "tasks[0].metric: image_generation scores image answers, but answer is 'text'",
        ),
        ('"1/2"', "'1/0'", "tasks[0].weight: must be a number in 0..1, or a fraction such as '1/15', not '1/0'"),
        ("weight = 0.5", "", "tasks[1].weight: is missing"),
        ("baseline = 0.1", "baseline = 1.1", "tasks[0].baseline: must be a number in 0..1, not 1.1"),
        ('answer = "text"', "", "tasks[0].weight: stands in a task without answer and metric"),
        (
            "from_data = true",
            'from_data = true\nanswer = "text"\nmetric = "exact_match"',
            "a task whose answer and metric the data define",
        ),
        (
            "[[tasks]]\nnumber = 0",
            "[[published]]\nname = 'others'\ntotal = -1\n\n[[tasks]]\nnumber = 0",
            "published[0].total: must be ",
        ),
        (
            "[[tasks]]\nnumber = 0",
            "[[published]]\nname = 'others'\ntotal = 1\ntasks = { Word = 0.5 }\n\n[[tasks]]\nnumber = 0",
            "published: 'Word' is no task; there are Words, Secret; is 'Words' meant?",
        ),
        ("hidden = true", "hiden = true", "tasks[1]: unknown key 'hiden'; allowed are number, name"),
        (
            '"exact_match"',
            '"exact_match"\nparameters = { gamma = 1 }',
            "parameters: unknown key 'gamma'; metric exact_match allows",
        ),
        (
            'name = "small"',
            'name = "small"\nmetrics = ["../x.py"]',
            "metrics[0]: must be the name of a .py file beside",
        ),
        ('name = "small"', "name = ", "Invalid value"),
        (
            "[[tasks]]\nnumber = 0",
            "[prizes]\nfull_at = 1\n\n[[tasks]]\nnumber = 0",
            "full_at: and places need each other",
        ),
        (
            "[[tasks]]\nnumber = 0",
            "[prizes]\nplaces = [{ least = 1, most = 2 }]\nfull_at = 0\n\n[[tasks]]\nnumber = 0",
            "prizes.full_at must be above the sum of the thresholds, 0",
        ),
    ],
)
def test_what_is_wrong_is_named(write, old, new, said):
    assert old in SMALL
    found = faults(write(SMALL.replace(old, new)))
    assert any(said in fault for fault in found), found


def test_all_faults_at_once(write):
    text = SMALL.replace('"1/2"', "2").replace("from_data = true", "from_data = 1").replace('name = "small"', "")
    found = faults(write('[limits]\ntime = "soon"\n[title]\nen = ""\n[[tasks]]\nnumber = 1\n'))
    assert len(found) >= 5, found
    assert len(faults(write(text))) == 3


def test_no_competition(tmp_path):
    said = r"'fbc3' is neither one of fbc.* nor a folder with competition.toml; is 'fbc2' meant"
    with pytest.raises(DataError, match=said):
        find("fbc3")
    with pytest.raises(DataError, match="competition.toml cannot be read: No such file"):
        find(str(tmp_path))


def test_the_schema_has_every_key():
    assert set(schema()["properties"]) == set(Definition.model_fields)
    json.dumps(schema())


def test_tasks_are_named_in_their_definitions_alone():
    """Those of FusionBrain Challenge 1.0 are names of its contract's files, too."""
    names = "|".join(default().names.values())
    word = re.compile(rf"\b({names})\b")
    told = {
        str(path.relative_to(EVALUATOR))
        for path in EVALUATOR.rglob("*")
        if path.suffix in (".py", ".js", ".html", ".toml") and word.search(path.read_text(encoding="utf-8"))
    }
    # The example is a data folder's own: it gives a hidden task the name that it would have anyhow.
    assert told == {f"competition/{default().name}/{definition.FILE}", "competition/tasks_json.py"}


def test_the_prizes_of_2021_are_those_of_its_pages():
    """α is printed there as 1.379, 0.689 and 0.413, cut; what is meant is a line from 0.85 to 2.3."""
    fbc1 = find("fbc1")
    rules, minimum = fbc1.definition.prizes, sum(fbc1.thresholds.values())
    assert minimum == pytest.approx(0.85)
    for place, (least, most, alpha) in enumerate(((1, 3, 1.379), (0.5, 1.5, 0.689), (0.2, 0.8, 0.413))):
        assert rules.amount(place, 0.85, minimum) == pytest.approx(least)
        assert rules.amount(place, 1.85, minimum) - least == pytest.approx(alpha, abs=1e-3)
        assert rules.amount(place, 2.3, minimum) == rules.amount(place, 4.0, minimum) == most
    assert rules.amount(3, 2.0, minimum) is None and default().definition.prizes.amount(0, 0.5, 0.1) is None


def test_hidden_tasks_alone_have_no_open_part(write, data_folder, output_folder, tmp_path, capsys):
    (tmp_path / "secret").mkdir()
    hidden = """
[[tasks]]
number = 0
name = "Secret"
hidden = true
answer = "text"
metric = "exact_match"
weight = 1
"""
    head = SMALL.partition("[[tasks]]")[0]
    (tmp_path / "secret" / definition.FILE).write_text(head + hidden, encoding="utf-8")
    example = Example("0", find(str(tmp_path / "secret")).tasks[0], (), ("кот",))
    secret = find(str(tmp_path / "secret"))
    found = score(Predictions(FOLDER, texts={"0": "кот"}), Data(FOLDER, secret, (example,), frozenset(), {}))
    assert (found.integral, found.open_part, found.open_part_interval) == (1.0, None, None)


def test_a_task_more_is_an_entry_of_the_definition(tmp_path, data_folder, output_folder, edit_json, capsys):
    """FusionBrain Challenge 2.0 with a thirteenth task: data, scores, table and page need nothing else."""
    folder, scores = tmp_path / "thirteen", tmp_path / "scores.json"
    folder.mkdir()
    stated = (EVALUATOR / "competition" / "fbc2" / "competition.toml").read_text(encoding="utf-8")
    task = """
[[tasks]]
number = 12
name = "Colours"
title = { ru = "Цвета", en = "Colours" }
answer = "text"
metric = "exact_match"
weight = 0.5
threshold = 0.9
"""
    (folder / "competition.toml").write_text(stated.replace('"fbc2"', '"thirteen"', 1) + task, encoding="utf-8")
    edit_json(data_folder / "input.json", lambda ids: ids.update(ёж=[{"type": "text", "content": "Какого цвета ёж?"}]))
    edit_json(data_folder / "ground_truth.json", lambda ids: ids.update(ёж=[{"type": "text", "content": ["серый"]}]))
    edit_json(data_folder / "sample_ids.json", lambda ids: ids.update(ёж=12))
    edit_json(output_folder / "predictions.json", lambda ids: ids.update(ёж=[{"type": "text", "content": "Серый"}]))
    words = ("score", output_folder, "--data", data_folder, "--competition", folder, "--json", scores)
    assert main([str(word) for word in words]) == 0
    document = json.loads(scores.read_text(encoding="utf-8"))
    assert [task["name"] for task in document["tasks"].values()][-2:] == ["Hidden6", "Colours"]
    assert document["tasks"]["12"]["score"] == 1 and document["competition"]["open"] == [*range(6), 12]
    parts = (task["weight"] * task["score"] for task in document["tasks"].values())
    assert document["integral"] == pytest.approx(sum(parts)) and "Colours" in capsys.readouterr().out
    assert "Colours" in scores.with_name("report.html").read_text(encoding="utf-8")
