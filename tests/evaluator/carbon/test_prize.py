"""The prize for the most sustainable solution, on cases computed by hand."""

import json
import math
import statistics
import zipfile
from pathlib import Path

import pytest

from evaluator.carbon import emission, prize
from evaluator.carbon.prize import Candidate, award
from evaluator.cli.app import main
from evaluator.competition.definition import default, find
from evaluator.core.errors import DataError
from tests.support.emission import emission_files, made


def emitted(kg: float, **cells: str) -> emission.Emission:
    return emission.parse(*emission_files(kg, **cells))


def team(name: str, score: float | None, kg: float | None = 1.0, problem: str | None = None) -> Candidate:
    return Candidate(name, score, None if kg is None else emitted(kg), problem)


def outcome(awarded: prize.Prize) -> dict[str, int | None]:
    return {place.team: place.rank for place in awarded.places}


def test_by_hand():
    """Above 0.2 are 0.3, 0.3, 0.4, 0.6: mean 0.4, squares 0.01 + 0.01 + 0 + 0.04 = 0.06, over 4 is 0.015."""
    awarded = award(
        [team("a", 0.3), team("b", 0.3), team("c", 0.4), team("d", 0.6, 5.0), team("e", 0.2, 0.1), team("f", 0.1)], 0.2
    )
    assert awarded.beating == 4 and awarded.mean == pytest.approx(0.4)
    assert awarded.deviation == pytest.approx(math.sqrt(0.015)) and awarded.threshold == pytest.approx(0.52247449)
    assert outcome(awarded) == {"d": 1, "c": None, "a": None, "b": None, "e": None, "f": None}
    assert awarded.winners == ("d",)
    reasons = {place.team: place.reason for place in awarded.places}
    assert reasons["c"] == "below mean + std, 0.5225"
    assert reasons["e"] == reasons["f"] == "does not beat the baseline, 0.2"  # 0.2 equals it


def test_mean_and_deviation_are_those_of_the_population():
    scores = [0.25, 0.31, 0.28, 0.44, 0.61, 0.33, 0.62]
    awarded = award([team(str(i), score) for i, score in enumerate(scores)], 0.243)
    assert prize.DELTA_DEGREES_OF_FREEDOM == 0
    assert awarded.mean == statistics.mean(scores) and awarded.deviation == pytest.approx(statistics.pstdev(scores))
    assert {place.team for place in awarded.places if place.rank} == {"4", "6"}


def test_the_least_co2_wins_and_not_the_best_score():
    scores = {"a": (0.9, 3.0), "b": (0.91, 2.0), "c": (0.92, 4.0)}
    low = [team(f"low {i}", 0.3) for i in range(20)]
    awarded = award([*low, *(team(name, score, kg) for name, (score, kg) in scores.items())], 0.243)
    assert [place.team for place in awarded.places[:3]] == ["b", "a", "c"] and awarded.winners == ("b",)
    assert [place.rank for place in awarded.places[:3]] == [1, 2, 3]


def test_of_two_teams_the_better_one_lies_right_on_the_threshold():
    """mean + std of two scores is the larger one; in floats it is often a bit more."""
    above = 0
    for i in range(1, 200):
        a, b = 0.25 + i / 997, 0.25 + i / 991 + 0.01
        awarded = award([team("a", a, 0.1), team("b", b, 9.0)], 0.243)
        assert outcome(awarded) == {"b": 1, "a": None}
        above += statistics.mean((a, b)) + statistics.pstdev((a, b)) > b
    assert above > 10  # so that the test says something


def test_one_team_above_the_baseline_is_in_and_equal_ones_are():
    assert outcome(award([team("a", 0.5), team("b", 0.1)], 0.243)) == {"a": 1, "b": None}
    equal = [team(name, 0.1 + 0.2, kg) for name, kg in (("a", 1.0), ("b", 2.0), ("c", 3.0))]
    assert outcome(award(equal, 0.243)) == {"a": 1, "b": 2, "c": 3}


def test_nobody_above_the_baseline():
    awarded = award([team("a", 0.243), team("b", None)], 0.243)
    assert awarded.threshold is None and awarded.winners == () and awarded.beating == 0
    assert "nobody can win" in awarded.lines()[0] and awarded.lines()[-1].endswith("none")
    assert award([], 0.243).places == ()


def test_a_tie_is_shared_and_said():
    low = [team(f"low {i}", 0.3) for i in range(20)]
    awarded = award([*low, team("b", 0.9, 2.0), team("c", 0.9, 3.0), team("a", 0.9, 2.0)], 0.243)
    assert [(place.team, place.rank) for place in awarded.places[:3]] == [("a", 1), ("b", 1), ("c", 3)]
    assert awarded.winners == ("a", "b") and awarded.ties == (("a", "b"),)
    assert "! tie: a, b have the same CO2 and share a rank" in awarded.lines()


OTHER_ID = "87654321-9abc-4def-8123-456789abcdef"


def shared_notes(*emissions: emission.Emission) -> list[list[str]]:
    """What is noted of a, b, c, ..., in the order of ranks, of what they have in common."""
    awarded = award([Candidate(name, 0.5, found) for name, found in zip("abc", emissions, strict=False)], 0.2)
    notes = {p.team: [note for note in p.emission.notes if note.rule == "emission-shared"] for p in awarded.places}
    return [[f"{note.where}: {note.found}" for note in notes[name]] for name in sorted(notes)]


def test_what_two_teams_have_in_common_is_noted():
    same = emitted(1.0)
    whole = "emission.csv: the whole file is in the ZIP of {}, too"
    id = "emission.csv: row 2: its id is in the ZIP of {}, too"
    row = "emission.csv: row 2: its measurement is in the ZIP of {}, too"
    others = ("'b'", "'a'")
    assert shared_notes(same, emitted(1.0)) == [[text.format(other) for text in (whole, id, row)] for other in others]
    # Edited: another amount, but the tracker's id; another id, but the rest of the row.
    assert shared_notes(same, emitted(0.9)) == [[id.format(other)] for other in others]
    assert shared_notes(same, emitted(1.0, id=OTHER_ID)) == [[row.format(other)] for other in others]
    assert shared_notes(same, emitted(0.9, id=OTHER_ID)) == [[], []]
    # Three: each is told of both others, and the one with nothing in common of none.
    assert shared_notes(same, emitted(0.9), emitted(0.8))[0] == [id.format("'b', 'c'")]
    assert shared_notes(same, emitted(0.9, id=OTHER_ID), emitted(0.8)) == [[id.format("'c'")], [], [id.format("'a'")]]


def test_a_file_that_two_teams_sent_is_noted_though_it_is_faulty():
    plain, _ = emission_files(1.0)
    found = [emission.parse(plain + b"x", None), emission.parse(plain + b"x", None)]
    assert [len(notes) for notes in shared_notes(*found)] == [3, 3]
    bad = emission.parse(b"nothing", None)
    assert shared_notes(bad, emission.parse(b"nothing", None))[0] == [
        "emission.csv: the whole file is in the ZIP of 'b', too"
    ]


@pytest.mark.parametrize(("seconds", "is_noted"), [("1", True), ("59.9", True), ("60", False), ("36000", False)])
def test_a_training_of_a_second_is_noted(seconds, is_noted):
    found = emitted(0.0001, **{"duration(s)": seconds, "GPU_name": "NVIDIA A100 8 device(s)"})
    assert found.ok  # no fault: it stays in
    lines = award([Candidate("a", 0.5, found)], 0.2).lines()
    assert any(line.startswith("! a: emission.csv: row 2: ") and "60 s at least" in line for line in lines) == is_noted


def test_only_rows_that_can_count_are_noted_as_short():
    plain, twin = made(
        {"duration(s)": "1", "experiment_description": "проба", "power_consumption(kWh)": "1e-6"}
        | {"CO2_emissions(kg)": "3.47451e-7"},
        {"epoch": "epoch: 2, loss: 0.5, ", "start_time": "2022-11-13 09:30:01"},
    )
    assert "emission-short" not in {note.rule for note in emission.parse(plain, twin).notes}


def test_every_team_that_drops_out_has_a_reason():
    bad = Candidate("bad", 0.9, emission.parse(emission_files(1.0)[0], None))
    awarded = award(
        [team("none", 0.9, None), bad, team("sick", 0.9, 1.0, "its run ended with the verdict OOM"), team("new", None)]
        + [team("fine", 0.9, 7.0)],
        0.243,
    )
    reasons = {place.team: place.reason for place in awarded.places}
    assert reasons["fine"] is None and awarded.winners == ("fine",)
    assert reasons["none"] == "sent no emission.csv"
    assert reasons["bad"].startswith("encoded_emission.csv: the file does not exist; allowed: ")
    assert reasons["sick"] == "its run ended with the verdict OOM" and reasons["new"] == "has no score"
    assert awarded.beating == 4  # their scores count for the mean all the same
    document = json.loads(json.dumps(awarded.to_json(), allow_nan=False))
    assert document["winners"] == ["fine"] and [place["team"] for place in document["places"]][0] == "fine"
    table = "\n".join(awarded.lines())
    assert all(name in table for name in reasons) and "out: sent no emission.csv" in table


def test_what_organizers_should_look_at_stands_below_the_table():
    low = emitted(1.0, **{"CPU_name": "Новый/1 device(s), TDP:True"})
    lines = award([Candidate("a", 0.9, low)], 0.243).lines()
    assert any(line.startswith("! a: emission.csv: row 2, CPU_name: TDP:True; ") for line in lines)


def test_a_team_twice_is_refused():
    with pytest.raises(DataError, match="team 'a' occurs more than once"):
        award([team("a", 0.9), team("a", 0.8)], 0.243)


# From files


def scores(integral: float | None, verdict: str = "OK", digest: str = "0" * 64) -> str:
    document = {"verdict": verdict, "data_digest": digest, "open_part": 0.1, "tasks": {}}
    return json.dumps(document | ({} if integral is None else {"integral": integral}))


@pytest.fixture
def runs(tmp_path: Path) -> Path:
    """A folder of teams: ёж with a ZIP, b with files beside, c with a record; d without CO2, e failed, f empty."""
    root = tmp_path / "runs"
    for name in ("ёж", "b", "c", "d", "e", "f", ".hidden"):
        (root / name).mkdir(parents=True)
    for name, score in (("ёж", 0.61), ("b", 0.62), ("d", 0.63)):
        (root / name / "scores.json").write_text(scores(score), encoding="utf-8")
    record = {"version": 1, "verdict": "OK", "scores": {"integral": 0.3, "open_part": 0.1}}
    (root / "c" / "record.json").write_text(json.dumps(record), encoding="utf-8")
    (root / "e" / "scores.json").write_text(scores(None, "TIMEOUT"), encoding="utf-8")
    plain, encoded = emission_files(2.0)
    with zipfile.ZipFile(root / "ёж" / "sent.zip", "w") as file:
        file.writestr(emission.NAME, plain)
        file.writestr(emission.ENCODED_NAME, encoded)
    for name, kg in (("b", 3.0), ("c", 0.5), ("ёж", 9.0)):  # what lies beside a ZIP that has its own is not read
        plain, encoded = emission_files(kg)
        (root / name / emission.NAME).write_bytes(plain)
        (root / name / emission.ENCODED_NAME).write_bytes(encoded)
    return root


def test_candidates_of_a_folder(runs):
    found = {candidate.team: candidate for candidate in prize.read_candidates([runs], default())}
    assert [found[name].score for name in ("ёж", "b", "c", "d", "e", "f")] == [0.61, 0.62, 0.3, 0.63, None, None]
    assert [found[name].emission.counting.kg for name in ("ёж", "b", "c")] == [2.0, 3.0, 0.5]
    assert found["d"].emission is None and len(found) == 6
    assert found["e"].problem == "its run ended with the verdict TIMEOUT"
    assert found["f"].problem == "its folder has neither scores.json nor record.json"
    again = prize.read_candidates([runs / "ёж", runs / "b" / "scores.json", runs / "c" / "record.json"], default())
    assert again == [found["ёж"], found["b"], found["c"]]


def test_a_zip_that_cannot_be_read_is_the_teams_problem(runs):
    (runs / "b" / "b.zip").write_bytes(b"PK")
    problem = {c.team: c.problem for c in prize.read_candidates([runs], default())}["b"]
    assert problem.startswith("emission.csv cannot be read: b.zip: not a ZIP")
    (runs / "ёж" / "other.zip").write_bytes(b"")
    assert "has 2 ZIPs" in {c.team: c.problem for c in prize.read_candidates([runs], default())}["ёж"]


def test_paths_and_scores_that_cannot_be_used(runs, tmp_path):
    with pytest.raises(DataError, match="neither a folder of runs nor a scores.json"):
        prize.read_candidates([tmp_path / "none"], default())
    with pytest.raises(DataError, match="no folders of teams"):
        prize.read_candidates([runs / "f"], default())
    (runs / "b" / "scores.json").write_text(scores(0.62, digest="1" * 64), encoding="utf-8")
    with pytest.raises(DataError, match="different data"):
        prize.read_candidates([runs], default())
    (runs / "b" / "scores.json").write_text(scores(0.62), encoding="utf-8")
    with pytest.raises(DataError, match="of the competition 'fbc2', not of fbc1"):  # which name none, as old ones do
        prize.read_candidates([runs], find("fbc1"))
    (runs / "b" / "scores.json").write_text("[]", encoding="utf-8")
    with pytest.raises(DataError, match="no scores.json and no record"):
        prize.read_candidates([runs], default())
    (runs / "b" / "scores.json").write_text('{"verdict": "OK", "integral": NaN}', encoding="utf-8")
    with pytest.raises(DataError, match="json-number"):
        prize.read_candidates([runs], default())


def test_the_command(runs, tmp_path, capsys):
    target = tmp_path / "prize.json"
    assert main(["prize", "--runs", str(runs), "--json", str(target)]) == 0
    lines = capsys.readouterr().out.splitlines()
    # Above 0.243 are 0.61, 0.62, 0.3, 0.63: mean 0.54, deviation 0.13874.
    assert lines[0].startswith("In with a score of 0.6787 = 0.5400 + 0.1387") and lines[-1].endswith("none")
    assert json.loads(target.read_text(encoding="utf-8"))["beating"] == 4
    assert main(["prize", "--baseline", "0.61", "--runs", str(runs / "ёж"), str(runs / "b")]) == 0
    assert capsys.readouterr().out.splitlines()[-1] == "The most sustainable solution: b"
    baseline = tmp_path / "baseline.json"
    baseline.write_text(scores(0.5), encoding="utf-8")
    assert main(["prize", "--runs", str(runs / "ёж"), "--baseline", str(baseline)]) == 0
    assert "above the baseline, 0.5" in capsys.readouterr().out
    for wrong in ("nan", "none.json"):
        assert main(["prize", "--runs", str(runs), "--baseline", wrong, "--json", str(target)]) == 2
    assert json.loads(target.read_text(encoding="utf-8"))["verdict"] == "INFRA"
