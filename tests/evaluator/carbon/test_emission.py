"""The check of a team's emission.csv, on files that eco2AI itself wrote, as they are and changed."""

import csv
import io
import json
import re
import zipfile
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import pytest

from evaluator.carbon import emission, rules
from evaluator.carbon.emission import ENCODED_NAME, NAME, TARGET, Emission, encode, parse
from evaluator.carbon.meter import emission_levels
from evaluator.cli.app import main
from evaluator.core import limits
from evaluator.package.archive import check
from tests.support.emission import made, written
from tests.support.rules import rules_of

LATER = datetime(2100, 1, 1, tzinfo=UTC)


@pytest.fixture
def files(tracked: Path) -> tuple[bytes, bytes]:
    return (tracked / NAME).read_bytes(), (tracked / ENCODED_NAME).read_bytes()


def cells(content: bytes) -> list[list[str]]:
    return list(csv.reader(io.StringIO(content.decode("utf-8"), newline="")))


def changed(content: bytes, row: int, **columns: str) -> bytes:
    """`content` with cells of one row (the header is 1) replaced; columns by the beginning of their names."""
    rows = cells(content)
    for name, value in columns.items():
        (column,) = (i for i, full in enumerate(rows[0]) if full.startswith(name))
        rows[row - 1][column] = value
    return written(rows)


def judged(*rows: dict[str, str]) -> Emission:
    return parse(*made(*rows))


def fault_rules(found: Emission) -> set[str]:
    return {fault.rule for fault in found.faults}


def note_rules(found: Emission) -> set[str]:
    return {note.rule for note in found.notes}


# What eco2AI writes


def test_training_by_epoch_as_eco2ai_writes_it(files):
    found = parse(*files)
    assert found.faults == () and found.ok and [row.number for row in found.rows] == [2, 3, 4]
    assert found.counting is found.rows[2] and found.counting.description == "fine-tuning TargetValue"
    assert found.rows[0].project == 'Проект «Ёж», "1,5"' and found.rows[0].epoch.startswith("epoch: 1, loss: 1.5")
    assert found.kg == pytest.approx(sum(row.kwh for row in found.rows) * 0.347451, rel=1e-6)
    assert found.target_kg == found.counting.kg and "emission-part" not in note_rules(found)
    assert {row.id for row in found.rows[:2]} != {found.counting.id}


def test_a_run_from_start_to_stop_as_eco2ai_writes_it(tracked):
    plain, encoded = (tracked / "run.csv").read_bytes(), (tracked / "encoded_run.csv").read_bytes()
    found = parse(plain, encoded)
    assert found.faults == () and found.ok and found.counting and found.counting.epoch == "N/A"
    assert 0 < found.counting.seconds < 60 and found.counting.kwh > 0


def test_na_that_pandas_lost_and_last_digits_that_it_changed_are_no_faults(tracked, files):
    plain, encoded = (tracked / "run.csv").read_bytes(), (tracked / "encoded_run.csv").read_bytes()
    seconds = parse(plain, encoded).rows[0].seconds
    assert parse(changed(plain, 2, epoch="", duration=repr(seconds * (1 + 1e-15))), encoded).ok
    assert fault_rules(parse(changed(plain, 2, duration=repr(seconds * (1 + 1e-6))), encoded)) == {"emission-twin"}


def test_the_encoding_is_eco2ais():
    from eco2ai.utils import encode as original

    every = "".join(map(chr, [*range(32, 127), *range(0x400, 0x460), 0xE9, 0x1F408]))
    assert encode(every) == original(every) and encode(every, 2) == original(original(every))
    for level in (1, 2):
        digits = "0123456789abcdefABCDEFeE.+-"
        assert emission._decode(encode(digits, level), level) == digits


@pytest.mark.filterwarnings("ignore::UserWarning")
def test_coefficients_are_eco2ais():
    from eco2ai.utils import define_carbon_index

    regions = ["Moscow", "татарстан", "Атлантида", "Zabaykal'skiy (Transbaikal) Kray", "Stavropol", "Krasnoyarsk Krai"]
    places = [("RU", None), ("DE", None), ("XX", None), ("US", "new albion"), *(("RU", region) for region in regions)]
    for country, region in [*places, ("AU", "Australian Capital Territory (Canberra)"), ("DE", "Bayern")]:
        level, shown = define_carbon_index(None, country, region)
        assert emission.emission_level(shown) == level, shown
        assert emission.emission_level(define_carbon_index(5.0, country, region)[1]) == level, shown


# Which row counts


def test_the_last_row_with_target_value_counts():
    ids = [f"{n}2345678-9abc-4def-8123-456789abcdef" for n in range(4)]
    descriptions = [TARGET, f"stage 2 {TARGET} (final)", "stage 3", "targetvalue"]
    starts = [f"2022-11-1{n} 09:30:00" for n in range(4)]
    found = judged(
        *(
            {"id": i, "experiment_description": d, "start_time": s}
            for i, d, s in zip(ids, descriptions, starts, strict=True)
        )
    )
    assert found.ok and found.counting and found.counting.number == 3
    (part,) = (note for note in found.notes if note.rule == "emission-part")
    assert part.found == "0.03475 kg of the 0.06949 kg of 2 rows with TargetValue"
    assert found.target_kg == pytest.approx(0.0694902) and found.kg == pytest.approx(0.1389804)


def test_a_faulty_last_row_does_not_make_another_count():
    second = {"epoch": "epoch: 2, ", "start_time": "2022-11-13 10:30:02"}
    assert judged({}, second).counting.number == 3
    found = judged({}, second | {"duration(s)": "-1"})
    assert found.counting is None and not found.ok and fault_rules(found) == {"emission-number"}


def test_without_target_value_nothing_counts():
    found = judged({"experiment_description": "training"})
    assert found.counting is None and fault_rules(found) == {"emission-target"} and len(found.rows) == 1


# Each rule


@pytest.mark.parametrize(
    ("cells", "rule"),
    [
        ({"id": "1"}, "emission-id"),
        ({"duration(s)": "0"}, "emission-duration"),
        ({"duration(s)": "1e9"}, "emission-duration"),
        ({"duration(s)": "NaN"}, "emission-number"),
        ({"duration(s)": ""}, "emission-number"),
        ({"power_consumption(kWh)": "-0.1"}, "emission-number"),
        ({"power_consumption(kWh)": "inf"}, "emission-number"),
        ({"power_consumption(kWh)": "1e999"}, "emission-number"),
        ({"power_consumption(kWh)": "1_0"}, "emission-number"),
        ({"power_consumption(kWh)": "٣"}, "emission-number"),
        ({"CO2_emissions(kg)": '=HYPERLINK("http://x")'}, "emission-number"),
        ({"cost": "free"}, "emission-number"),
        ({"start_time": "13.11.2022 09:30"}, "emission-time"),
        ({"start_time": "2022-02-30 09:30:00"}, "emission-time"),
        ({"start_time": "1970-01-01 00:00:00"}, "emission-time"),
        ({"start_time": "9999-12-31 23:59:59"}, "emission-time"),
        ({"CPU_name": "AMD EPYC"}, "emission-hardware"),
        ({"CPU_name": "AMD EPYC/1 device(s), TDP:5000.0"}, "emission-hardware"),
        ({"CPU_name": "AMD EPYC/0 device(s), TDP:200.0"}, "emission-hardware"),
        ({"GPU_name": "NVIDIA A100 9999 device(s)"}, "emission-hardware"),
        ({"power_consumption(kWh)": "5", "CO2_emissions(kg)": "1.737255"}, "emission-power"),
        ({"CO2_emissions(kg)": "0.01"}, "emission-coefficient"),
        ({"CO2_emissions(kg)": "0.1"}, "emission-coefficient"),
        ({"region/country": "DE/Neverland", "CO2_emissions(kg)": "0.0001"}, "emission-coefficient"),
        ({"power_consumption(kWh)": "0.0", "CO2_emissions(kg)": "0.0"}, "emission-zero"),
        ({"power_consumption(kWh)": "0.0"}, "emission-coefficient"),
    ],
)
def test_a_fault_of_a_cell(cells, rule):
    found = judged(cells)
    assert rule in fault_rules(found) and not found.ok and rule in rules_of(rules)
    assert all("\n" not in line for line in found.lines())
    json.dumps(found.to_json(), allow_nan=False)


def test_a_fault_names_place_value_and_what_is_allowed():
    found = judged({"power_consumption(kWh)": "-0.1"})
    assert str(found.faults[0]) == (
        "emission.csv: row 2, power_consumption(kWh): '-0.1'; allowed: a decimal number of 0 to 1e+12, such as 0.25 or"
        " 1.5e-07; fix: send the file as eco2AI 0.3.12 wrote it, without opening and saving it elsewhere"
        " [emission-number]"
    )


def test_power_is_bounded_by_the_named_hardware():
    def watts(each: float, **cells: str) -> set[str]:
        kwh = each * 3600.5 / 3.6e6
        energy = {"power_consumption(kWh)": repr(kwh), "CO2_emissions(kg)": repr(kwh * 0.347451)}
        return fault_rules(judged(energy | cells))

    # 2.2 x (1 x 200 W + 768 W of memory), and with 8 A100 of at most 500 W.
    assert watts(2129) == set() and watts(2130) == {"emission-power"}
    gpus = {"GPU_name": "NVIDIA A100-SXM4-80GB 8 device(s)"}
    assert watts(10929, **gpus) == set() and watts(10930, **gpus) == {"emission-power"}
    unknown = {"GPU_name": "Ускоритель 1 device(s)"}
    assert watts(5429, **unknown) == set() and watts(5430, **unknown) == {"emission-power"}
    assert watts(99_999, GPU_name="X 64 device(s)") == set() and watts(100_001, GPU_name="X 64 device(s)") != set()


@pytest.mark.parametrize(
    ("cells", "rule"),
    [
        ({"project_name": "=1+1"}, "emission-formula"),
        ({"experiment_description": " @SUM(A1) TargetValue"}, "emission-formula"),
        ({"experiment_description": "TargetValue; =1+1"}, "emission-formula"),
        ({"project_name": "проект\n@SUM(A1)"}, "emission-formula"),
        ({"power_consumption(kWh)": "0.004", "CO2_emissions(kg)": "0.001389804"}, "emission-low-power"),
        ({"CPU_name": "Новый процессор/1 device(s), TDP:True"}, "emission-unknown-cpu"),
        ({"region/country": "(RU)", "CO2_emissions(kg)": "0.03"}, "emission-other-coefficient"),
    ],
)
def test_what_organizers_should_know_is_no_fault(cells, rule):
    found = judged(cells)
    assert found.ok and rule in note_rules(found)


def test_a_row_that_cannot_be_is_no_figure():
    """Neither in the total nor as the row that counts."""
    impossible = {"power_consumption(kWh)": "1000", "CO2_emissions(kg)": "347.451"}
    found = judged({}, {"epoch": "epoch: 2, loss: 0.5, ", "start_time": "2022-11-13 10:30:01"} | impossible)
    assert fault_rules(found) == {"emission-power"} and not found.ok
    assert found.counting is None and found.kg == found.target_kg == 0.0347451
    for seconds in ("-7188.0", "nan", "-1e9"):
        found = judged({}, {"epoch": "epoch: 2, loss: 0.5, ", "duration(s)": seconds})
        assert found.counting is None and found.kg == 0.0347451 and "emission-number" in fault_rules(found)


def test_epochs_of_one_id_follow_each_other():
    first, second = {"experiment_description": "разогрев"}, {"epoch": "epoch: 2, loss: 0.4, "}
    assert judged(first, second | {"start_time": "2022-11-13 10:30:01"}).notes == ()
    overlap = judged(first, second | {"start_time": "2022-11-13 10:29:00"})
    assert fault_rules(overlap) == {"emission-duration"} and "starts 60.5 s before row 2" in overlap.faults[0].found
    assert judged(first, second | {"start_time": "2022-11-13 09:30:01"}).ok  # clocks went back an hour
    assert note_rules(judged(first, second | {"start_time": "2022-11-13 10:40:00"})) == {"emission-gap"}
    again = judged(first, {"start_time": "2022-11-13 10:30:02"})
    assert "emission-id" in fault_rules(again)


def test_the_end_must_have_come():
    plain, twin = made({})
    assert parse(plain, twin, datetime(2022, 11, 13, 12, tzinfo=UTC)).ok
    assert parse(plain, twin, datetime(2022, 11, 12, 12, tzinfo=UTC)).ok  # somewhere it is a day later
    found = parse(plain, twin, datetime(2022, 11, 12, 10, tzinfo=UTC))
    assert fault_rules(found) == {"emission-time"} and "in the future" in found.faults[0].found


# The encoded twin


def test_the_twin_is_needed_and_must_say_the_same(files):
    plain, encoded = files
    assert fault_rules(parse(plain, None)) == {"emission-twin-missing"}
    counting = parse(plain, encoded).counting
    less = {"power": repr(counting.kwh / 10), "CO2": repr(counting.kg / 10)}
    found = parse(changed(plain, 4, **less), encoded)
    assert fault_rules(found) == {"emission-twin"} and found.faults_total == 4  # two columns, encoded once and twice
    assert found.faults[0].where == f"{ENCODED_NAME}: row 6, power_consumption(kWh)"
    assert fault_rules(parse(changed(plain, 2, experiment_description="другое"), encoded)) == {"emission-twin"}
    assert fault_rules(parse(changed(plain, 4, start_time="2022-11-13 09:30:00"), encoded)) == {"emission-twin"}
    assert fault_rules(parse(written(cells(plain)[:1] + cells(plain)[3:]), encoded)) == {"emission-twin"}
    assert fault_rules(parse(plain, plain)) == {"emission-twin"}


def test_a_row_that_was_killed_while_it_was_written(files):
    """new_epoch writes the row, then its encoded twins. Only the row that counts must have one."""
    plain, encoded = files
    rows = cells(encoded)
    found = parse(plain, written(rows[:1] + rows[3:]))
    assert found.ok and [note.where for note in found.notes if note.rule == "emission-lone-row"] == [f"{NAME}: row 2"]
    assert parse(plain, written(rows[:-1])).ok
    assert fault_rules(parse(plain, written(rows[:-2]))) == {"emission-twin"}


# Hostile files


@pytest.mark.parametrize(
    ("change", "rule"),
    [
        (lambda c: c.replace(b"epoch", "эпоха".encode("cp1251"), 1), "emission-encoding"),
        (lambda c: c.decode().encode("utf-16"), "control-character"),
        (lambda c: c + b"\0", "control-character"),
        (lambda c: c.replace(b"epoch", b"\x1b[2Jepoch", 1), "control-character"),
        (lambda c: b"\xef\xbb\xbf" + c, "emission-columns"),
        (lambda c: b"", "emission-columns"),
        (lambda c: b"\n", "emission-columns"),
        (lambda c: c.replace(b",cost", b",OS"), "emission-columns"),
        (lambda c: c.replace(b",cost", b",cost,cost"), "emission-columns"),
        (lambda c: c.replace(b",cost", b",cost,extra"), "emission-columns"),
        (lambda c: c.replace(b",", b";"), "emission-columns"),
        (lambda c: c + b"a,b\n", "emission-csv"),
        (lambda c: c + b'"open', "emission-csv"),
        (lambda c: c + b'"a"b,\n', "emission-csv"),
        (lambda c: c + b"x" * 200_000, "emission-csv"),
        (lambda c: c + c.split(b"\n", 1)[1] * 5_001, "emission-csv"),
    ],
)
def test_hostile_bytes(change, rule):
    plain, twin = made({})
    for found in (parse(change(plain), twin), parse(plain, change(twin))):
        assert rule in fault_rules(found) and not found.ok
        json.dumps(found.to_json(), allow_nan=False)


def test_many_hostile_rows_take_seconds_and_keep_few_findings():
    faulty = {"id": "x", "duration(s)": "nan", "cost": "?"}
    rows = [faulty | {"epoch": f"epoch: {number}, "} for number in range(limits.MAX_EMISSION_ROWS)]
    before = datetime.now()
    found = judged(*rows)
    assert (datetime.now() - before).total_seconds() < 300
    assert found.faults_total > 3 * limits.MAX_EMISSION_ROWS and len(found.faults) == 1000 and len(found.lines()) < 10


def test_random_changes_never_raise(files):
    import random

    generator = random.Random(7)
    for _ in range(300):
        content = bytearray(files[0])
        for _ in range(generator.randint(1, 4)):
            at = generator.randrange(len(content))
            content[at : at + generator.randint(0, 3)] = generator.choice(
                (b"", b"9", b"-", b'"', b",", b"\n", b"e308", b"\xff", "ё".encode(), b"nan", b"0" * 50)
            )
        found = parse(bytes(content), files[1], LATER)
        assert found.ok or found.faults_total
        json.dumps(found.to_json(), allow_nan=False)
        found.lines()


# In a ZIP, and on the command line


@pytest.fixture
def pack(tmp_path: Path) -> Callable[..., Path]:
    def make(**contents: bytes) -> Path:
        path = tmp_path / "submission.zip"
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as file:
            file.writestr("metadata.json", json.dumps({"image": "a/b:1", "entrypoint": "python3 run.py"}))
            file.writestr("run.py", "")
            for name, content in contents.items():
                file.writestr(name.replace("__", "/") + ".csv", content)
        return path

    return make


def test_check_reads_the_zips_emission_and_keeps_the_verdict(files, pack, tmp_path, capsys):
    good = pack(emission=files[0], encoded_emission=files[1])
    assert main(["check", str(good), "--json", str(tmp_path / "check.json")]) == 0
    document = json.loads((tmp_path / "check.json").read_text(encoding="utf-8"))
    assert document["verdict"] == "OK" and document["emission"]["ok"] and document["emission"]["counting"]["row"] == 4
    out = capsys.readouterr().out
    assert re.search(r"^emission.csv: 3 rows, \S+ kg of CO2 in all; row 4 counts: ", out, re.MULTILINE)
    assert "the submission can take part in the prize" in out and "warning" not in out

    bad = pack(emission=files[0])
    assert main(["check", str(bad), "--json", str(tmp_path / "check.json")]) == 0
    document = json.loads((tmp_path / "check.json").read_text(encoding="utf-8"))
    assert (document["verdict"], document["findings"], document["emission"]["ok"]) == ("OK", [], False)
    assert document["emission"]["faults"][0]["rule"] == "emission-twin-missing"
    out = capsys.readouterr().out
    assert "warning: encoded_emission.csv: the file does not exist" in out
    assert "is out of the prize for the most sustainable solution; nothing else depends on it" in out

    none = pack(results__other=b"id,loss\n1,2\n")
    assert main(["check", str(none), "--json", str(tmp_path / "check.json")]) == 0
    assert json.loads((tmp_path / "check.json").read_text(encoding="utf-8"))["emission"] is None
    assert "emission" not in capsys.readouterr().out


@pytest.mark.parametrize("name", ["my_run", "results__emission", "Emission", "a__b__co2 2022"])
def test_an_emission_under_a_name_of_its_own_is_named(files, pack, tmp_path, capsys, name):
    """eco2AI's tracker writes to any file_name; only emission.csv at the root takes part."""
    folder, _, stem = name.rpartition("__")
    path = pack(**{name: files[0], f"{folder}__encoded_{stem}".lstrip("_"): files[1]})
    assert main(["check", str(path), "--json", str(tmp_path / "check.json")]) == 0
    document = json.loads((tmp_path / "check.json").read_text(encoding="utf-8"))
    assert (document["verdict"], document["emission"]["ok"]) == ("OK", False)
    assert [fault["rule"] for fault in document["emission"]["faults"]] == ["emission-name"]
    file = name.replace("__", "/") + ".csv"
    out = capsys.readouterr().out
    assert f"warning: emission.csv: the file does not exist, but {file!r} is one of eco2AI's; allowed: " in out
    assert "0 rows" not in out


def test_a_folders_emission_under_a_name_of_its_own(tmp_path, files):
    (tmp_path / "run.csv").write_bytes(files[0])
    (tmp_path / "other.csv").write_bytes(b"id,loss\n")
    (tmp_path / "folder.csv").mkdir()
    found = emission.read_folder(tmp_path)
    assert found and found.misnamed and not found.ok and fault_rules(found) == {"emission-name"}
    assert "'run.csv'" in found.faults[0].found
    (tmp_path / NAME).write_bytes(files[0])
    (tmp_path / ENCODED_NAME).write_bytes(files[1])
    found = emission.read_folder(tmp_path)
    assert found and found.ok


def test_a_zip_with_a_huge_emission_is_not_unpacked(pack, files, monkeypatch):
    monkeypatch.setattr(limits, "MAX_EMISSION_BYTES", len(files[0]))
    path = pack(emission=files[0] + b" ", encoded_emission=b"")
    found = emission.read_archive(path)
    assert found and not found.ok and fault_rules(found) == {"file-size"} and check(path).files == 4


def test_gigabytes_in_a_zip_are_refused_by_their_stated_size(tmp_path):
    path = tmp_path / "submission.zip"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as file:
        with file.open(zipfile.ZipInfo(NAME), "w", force_zip64=True) as sink:
            for _ in range(limits.MAX_EMISSION_BYTES // 10**6 + 1):
                sink.write(b"," * 10**6)
    found = emission.read_archive(path)
    assert found and fault_rules(found) == {"file-size"} and f"{9 * 10**6} bytes" in found.faults[0].found


def test_a_folders_emission(tmp_path, files):
    assert emission.read_folder(tmp_path) is None
    (tmp_path / ENCODED_NAME).write_bytes(files[1])
    assert fault_rules(emission.read_folder(tmp_path)) == {"file-missing"}
    (tmp_path / "elsewhere").write_bytes(files[0])
    (tmp_path / NAME).symlink_to(tmp_path / "elsewhere")
    assert fault_rules(emission.read_folder(tmp_path)) == {"file-link"}
    (tmp_path / NAME).unlink()
    (tmp_path / NAME).write_bytes(files[0])
    assert emission.read_folder(tmp_path).ok


def test_coefficients_of_all_countries_are_known():
    levels = emission_levels()
    assert levels["RU"]["Whole country"] == 347.451 and levels["RU"]["белгородская область"] == 240.56
    assert all("Whole country" in regions for regions in levels.values()) and levels["WORLD"]
