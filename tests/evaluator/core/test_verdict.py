import pickle
import re
from pathlib import Path

import pytest

from evaluator.core import errors, results, verdict
from evaluator.core.errors import MAX_FINDINGS, DataError, EvaluatorError, Finding, Findings, Rule, SubmissionError
from evaluator.core.files import sha256_of
from evaluator.core.limits import FILE, RUN, read_limits


def test_the_table_is_closed():
    assert list(verdict.TABLE) == [
        *("OK", "BAD_ZIP", "BAD_METADATA", "BAD_WEIGHTS", "BAD_IMAGE", "OOM", "TIMEOUT", "EXIT", "DISK"),
        *("BAD_OUTPUT", "METRIC_ERROR", "INFRA"),
    ]
    for name, row in verdict.TABLE.items():
        assert row.name == name and row.counts == (name == "OK")
        assert row.fault == (None if name == "OK" else "infra" if name in ("METRIC_ERROR", "INFRA") else "team")
        assert "\n" not in row.fix and bool(row.fix) == (name != "OK")
        assert row.to_json() == {"verdict": name, "fault": row.fault, "counts": row.counts, "fix": row.fix}


def test_every_error_has_a_verdict_a_fault_and_an_exit_code():
    codes = {"team": 1, "organizer": 2, "infra": 3}
    teams = [row for row in verdict.TABLE.values() if row.fault == "team"]
    failures = [
        *(SubmissionError(row, "причина «ё»") for row in teams),
        EvaluatorError("причина «ё»"),
        EvaluatorError("причина «ё»", verdict=verdict.METRIC_ERROR),
        EvaluatorError("причина «ё»", verdict=verdict.METRIC_DATA_ERROR),
        DataError("причина «ё»"),
    ]
    assert {failure.verdict.name for failure in failures} == set(verdict.TABLE) - {"OK"}
    for failure in failures:
        document = failure.to_json()
        assert codes[document["fault"]] == failure.exit_code and document["counts"] is False
        assert document["findings"] == [
            {"rule": failure.verdict.rule, "where": "", "found": "причина «ё»", "allowed": "", "fix": ""}
        ]
        assert document["fix"].startswith("nothing for the team to do") == (document["fault"] != "team")
        assert ("organizers correct" in document["fix"]) == (document["fault"] == "organizer")


@pytest.mark.parametrize(
    "failure", [SubmissionError(verdict.BAD_ZIP, ["a", "b"], 5), DataError("a"), EvaluatorError("a")]
)
def test_an_error_can_be_sent_to_another_process(failure):
    sent = pickle.loads(pickle.dumps(failure))
    assert type(sent) is type(failure) and sent.to_json() == failure.to_json() and str(sent) == str(failure)


def test_contents_can_be_left_out():
    findings = [Finding("unknown-id", f"id 'секрет {i}'", "секрет", "the ids", "drop it") for i in range(3)]
    bare = SubmissionError(
        verdict.BAD_OUTPUT, [*findings, Finding("json-syntax", "p", "секрет", "JSON", "json.dump")]
    ).without_contents()
    assert bare.verdict is verdict.BAD_OUTPUT and "секрет" not in str(bare) + str(bare.to_json())
    assert [(f.rule, f.where, f.found, f.allowed) for f in bare.findings] == [
        ("unknown-id", "", "3 of this kind", "the ids"),
        ("json-syntax", "", "1 of this kind", "JSON"),
    ]


def test_our_own_words_stay_when_contents_are_left_out():
    bare = EvaluatorError("no Docker engine answers").without_contents()
    assert bare.reasons == ["no Docker engine answers"] and bare.without_contents().to_json() == bare.to_json()
    error = EvaluatorError("the output cannot be copied", quoting=ValueError("секрет"))
    assert str(error) == "the output cannot be copied: секрет"
    assert str(pickle.loads(pickle.dumps(error)).without_contents()) == "the output cannot be copied"

    findings = Findings()
    findings.add(Rule("file-missing", "an existing file", "write it"), "input.json", "no; there is 'секрет'", bare="no")
    for number in range(3):
        findings.add(Rule("file-missing", "an existing file", "write it"), f"id 'секрет {number}'", "секрет")
    bare = DataError(findings).without_contents()
    assert "секрет" not in str(bare.to_json()) and bare.total == 4
    assert [(one.where, one.found) for one in bare.findings] == [("input.json", "no"), ("", "3 of this kind")]
    # What a submission is at fault for it has written itself, whatever the place.
    bare = SubmissionError(verdict.BAD_OUTPUT, findings).without_contents()
    assert [(one.where, one.found) for one in bare.findings] == [("", "4 of this kind")]


def test_of_any_other_error_the_system_s_words_and_the_place_stay():
    with pytest.raises(OSError) as caught, open("/dev/full", "w") as file:
        file.write("секрет")
    assert results.shown(caught.value, private=True).reasons == ["OSError: No space left on device"]
    with pytest.raises(FileNotFoundError) as caught:
        sha256_of(Path("/секрет"))
    (reason,) = results.shown(caught.value, private=True).reasons
    assert re.fullmatch(r"FileNotFoundError: No such file or directory, in evaluator/core/files.py, line \d+", reason)
    assert results.shown(ValueError("секрет"), private=True).reasons == ["ValueError"]
    assert results.shown(OSError("секрет"), private=True).reasons == ["OSError"]


def test_counts_survive_when_contents_are_left_out():
    """More findings than are kept, and a rule that is broken after them alone."""
    findings = Findings()
    for number in range(5000):
        findings.add(Rule("missing-id", "all ids", "answer all"), f"id {number}", "секрет")
    for _ in range(2):
        findings.add(Rule("late-rule", "a number", "write one"), "p", "секрет")
    assert len(findings.kept) == MAX_FINDINGS and findings.kept[-1].rule == "late-rule"
    full = SubmissionError(verdict.BAD_OUTPUT, findings)
    bare = full.without_contents()
    assert bare.total == bare.to_json()["findings_total"] == full.total == 5002
    assert [finding.found for finding in bare.findings] == ["5000 of this kind", "2 of this kind"]
    assert len(str(bare).splitlines()) == 2 and "more" not in str(bare) and "секрет" not in str(bare)
    assert bare.without_contents().to_json() == bare.to_json()


def test_each_rule_is_kept_as_long_as_there_is_room():
    findings = Findings()
    for number in range(MAX_FINDINGS):
        findings.add(Rule(f"rule-{number // 2}", "", ""), "", "x")
    for number in range(MAX_FINDINGS):
        findings.add(Rule(f"later-{number}", "", ""), "", "x")
    assert len(findings.kept) == MAX_FINDINGS and findings.total == 2 * MAX_FINDINGS
    assert {f"rule-{number}" for number in range(MAX_FINDINGS // 2)} <= {finding.rule for finding in findings.kept}


# --- limits ---


def test_the_published_limits():
    assert (RUN.memory, RUN.cpus, RUN.gpus, RUN.time) == (100 * 10**9, 3, 1, 5 * 60 * 60)
    assert (RUN.archive, RUN.unpacked, RUN.image) == (15 * 10**9, 15 * 10**9, 25 * 10**9)
    assert read_limits() == RUN and RUN.grace <= 20


@pytest.mark.parametrize(
    ("setting", "name", "value"),
    [
        ("memory=2GB", "memory", 2 * 10**9),
        ("memory=1.5 GiB", "memory", 1610612736),
        ("cpus=0.5", "cpus", 0.5),
        ("gpus=0", "gpus", 0),
        ("time=90min", "time", 5400.0),
        ("time=1.5", "time", 1.5),
        ("output=4096", "output", 4096),
    ],
)
def test_an_override(setting, name, value):
    changed = RUN.override([setting])
    assert getattr(changed, name) == value
    assert [line.partition(" ")[0] for line in changed.differences(RUN)] == [name]


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ("memory", "must be name=value"),
        ("Memory=2GB", "'Memory' is no limit; there are memory, cpus"),
        ("memory=2 ГБ", "must be a number of bytes"),
        ("memory=-1", "must be a number of bytes"),
        ("memory=1e9", "must be a number of bytes"),
        ("memory=0", "must be more than 0"),
        ("time=inf", "must be a number of seconds"),
        ("pids=5GB", "must be a number of count (no unit)"),
        ("grace=1h", "must be at most 20 s"),
    ],
)
def test_a_wrong_override(setting, message):
    with pytest.raises(errors.DataError) as caught:
        RUN.override([setting])
    assert message in str(caught.value)


def test_all_faults_of_limits_are_named_at_once(tmp_path):
    with pytest.raises(errors.DataError) as caught:
        RUN.override(["memry=2GB", "pids=0", "time"])
    first, second, third = caught.value.reasons
    assert first == "--limit 'time': must be name=value, such as memory=2GB"
    assert second.startswith("--limit 'memry' is no limit; there are memory,") and second.endswith("is 'memory' meant?")
    assert third == "--limit pids: must be more than 0"
    other = tmp_path / "limits.toml"
    other.write_text(FILE.read_text(encoding="utf-8").replace("pids = 4096", "pids = true\nram = 1"), encoding="utf-8")
    with pytest.raises(errors.DataError) as caught:
        read_limits(other)
    pids, ram = caught.value.reasons
    assert pids == f"limits {other}: pids: must be a number of count (no unit), not True"
    assert ram.startswith(f"limits {other}: 'ram' is no limit")


def test_limits_from_another_file(tmp_path):
    other = tmp_path / "limits.toml"
    other.write_text(FILE.read_text(encoding="utf-8").replace("100GB", "16GB"), encoding="utf-8")
    assert read_limits(other).differences(RUN) == ["memory = 16000000000 instead of 100000000000"]
    for text, message in (("memory = 1", "cpus, "), ("memory = ", "cannot be read")):
        other.write_text(text)
        with pytest.raises(errors.DataError, match=message):
            read_limits(other)
    with pytest.raises(errors.DataError, match="cannot be read"):
        read_limits(tmp_path / "none.toml")
