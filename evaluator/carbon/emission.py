"""Reads and checks the emission.csv by which a team takes part in the prize for the most sustainable solution.

eco2AI's tracker writes it while a model is trained: a row for each epoch (`start_training`, `new_epoch`), or one for
each `start` to `stop`. By the rules the last row whose experiment_description contains `TargetValue` counts, and the
encoded file lies beside: the same rows, each character replaced by the fifth that follows in eco2AI's alphabet.

    read_archive(archive: Path) -> Emission | None       of a submission's ZIP, at its root
    read_folder(folder: Path) -> Emission | None
    parse(plain: bytes, encoded: bytes | None) -> Emission

What is wrong is a fault of the file and never an exception: a submission is run and scored without it. An honest
machine makes no faults; `notes` are what organizers should know of a file without them. None of it proves that a row
is true: whoever invents numbers that are plausible encodes them as easily.

eco2AI 0.3.12, as it was seen to write: `new_epoch` encodes its row twice, once and then once more over, so the encoded
file has two rows an epoch. All rows are read and written by pandas whenever one is added, which changes the last digits
of numbers, and makes empty cells of texts such as N/A. The alphabet's last five characters stand for themselves and for
the five before them, so what is encoded cannot be decoded; the plain row is encoded to compare it, and numbers, whose
characters are not among these, are decoded.
"""

import csv
import hashlib
import io
import math
import re
import string
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from evaluator.carbon import rules
from evaluator.carbon.hardware import CPU_NAME, GPU_NAME, most_watts, tdp_watts
from evaluator.carbon.meter import JOULES_PER_KWH, KWH_PER_MWH, WHOLE_COUNTRY, WORLD, emission_levels
from evaluator.core import limits
from evaluator.core.errors import Finding, Findings, RuleBroken, show
from evaluator.core.files import CONTROL_CHARACTER, FILE_MISSING, read_regular
from evaluator.package import archive

NAME, ENCODED_NAME = "emission.csv", "encoded_emission.csv"  # as eco2AI names them; at the root of a ZIP
MAX_LOOKED_AT = 20  # CSVs under other names
MAX_HEADER_BYTES = 1000
TARGET = "TargetValue"
COLUMNS = (
    "id",
    "project_name",
    "experiment_description",
    "epoch",
    "start_time",
    "duration(s)",
    "power_consumption(kWh)",
    "CO2_emissions(kg)",
    "CPU_name",
    "GPU_name",
    "OS",
    "region/country",
    "cost",
)
_TEXTS = ("project_name", "experiment_description", "epoch", "CPU_name", "GPU_name", "OS", "region/country")

# What a row may name.
MAX_CPUS, MAX_CPU_WATTS = 64, 1000.0  # eco2AI's table ends at 500 W
MAX_GPUS = 64
LOW_WATTS = 5.0  # no machine that trains draws less, with eco2AI's CPU alone or with a GPU
COEFFICIENT_FACTOR = 2.0  # tables differ from year to year
COEFFICIENT_TOLERANCE = 1e-3  # within which a coefficient is that of eco2AI's table
PARTIAL = 0.99  # share of the CO2 of all rows with TargetValue, below which the row that counts is called a part

EARLIEST = datetime(2020, 1, 1)
CLOCK_TOLERANCE = timedelta(days=1)  # start_time is local time of an unknown zone
OVERLAP_SECONDS = 2.0  # start_time has whole seconds
DAYLIGHT_SECONDS = 3600.0  # by which local time goes back in autumn
GAP_SECONDS = 60.0

_NUMBER = re.compile(r"\d{1,30}(\.\d{0,40})?([eE][+-]?\d{1,3})?", re.ASCII)
_UUID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", re.ASCII)
_TIME = re.compile(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d", re.ASCII)
_CONTROL = re.compile(rb"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f]")
_FORMULA = tuple("=+-@＝＋－＠")

# --- eco2AI's encoding ---

_SHIFT = 5
_CYRILLIC = "йцукенгшщзхъфывапролджэячсмитьбюёЁЙЦУКЕНГШЩЗХЪФЫВАПРОЛДЖЭЯЧСМИТЬБЮ"


def _alphabet() -> str:
    kept = "".join(character for character in string.printable[:95] + _CYRILLIC if character not in ",\"'")
    half = len(kept) // 2
    return "".join(a + b for a, b in zip(kept[:half], kept[half:], strict=True))


_ALPHABET = _alphabet()
_ENCODE = str.maketrans(_ALPHABET[:-_SHIFT], _ALPHABET[_SHIFT:])
_DECODE = str.maketrans(_ALPHABET[_SHIFT:], _ALPHABET[:-_SHIFT])
_LEVELS = (1, 2)  # how often a row of the encoded file can have been encoded


def encode(text: str, times: int = 1) -> str:
    """`text` as eco2AI encodes it. Characters that its alphabet lacks, and the alphabet's last five, stay."""
    for _ in range(times):
        text = text.translate(_ENCODE)
    return text


def _decode(text: str, times: int) -> str:
    """Right for digits and letters alone: five characters have two origins."""
    for _ in range(times):
        text = text.translate(_DECODE)
    return text


# What pandas reads as missing, and writes as an empty cell.
_MISSING = frozenset(
    ("", "#N/A", "#N/A N/A", "#NA", "-1.#IND", "-1.#QNAN", "-NaN", "-nan", "1.#IND", "1.#QNAN", "<NA>", "N/A", "NA")
    + ("NULL", "NaN", "None", "n/a", "nan", "null")
)
_ENCODED_MISSING = {level: frozenset(encode(text, level) for text in _MISSING) for level in _LEVELS}


# --- what a file says ---


@dataclass(frozen=True)
class Row:
    """A row of emission.csv; `number` is its place in the file, where the header is 1. Energy in kWh, CO2 in kg."""

    number: int
    id: str
    project: str
    description: str
    epoch: str
    start: datetime  # local time of the machine, without a zone
    seconds: float
    kwh: float
    kg: float
    cpu: str
    gpu: str
    country: str

    @property
    def watts(self) -> float:
        """Mean power."""
        return self.kwh * JOULES_PER_KWH / self.seconds

    @property
    def end(self) -> datetime:
        """Local time of the machine at the row's end."""
        return self.start + timedelta(seconds=self.seconds)

    @property
    def is_target(self) -> bool:
        """Whether the row is one of those of which the last counts."""
        return TARGET in self.description

    def to_json(self) -> dict[str, Any]:
        """What a page or scores.json says of the row: seconds, kWh, kg, W."""
        return {
            "row": self.number,
            "id": self.id,
            "description": self.description,
            "epoch": self.epoch,
            "start": self.start.isoformat(sep=" "),
            "seconds": self.seconds,
            "kwh": self.kwh,
            "kg": self.kg,
            "watts": self.watts,
            "country": self.country,
        }


@dataclass(frozen=True)
class Emission:
    """What an emission.csv says. `counting` is the row that counts, None where there is none; with any of `faults` the
    file is out of the prize. `rows` are those that could be read, and can be.
    """

    rows: tuple[Row, ...]
    counting: Row | None
    faults: tuple[Finding, ...]
    faults_total: int
    notes: tuple[Finding, ...]
    digest: str = ""  # SHA-256 of emission.csv, where it could be read

    @property
    def ok(self) -> bool:
        """Whether the file can take part in the prize."""
        return self.counting is not None and not self.faults_total

    @property
    def misnamed(self) -> bool:
        """Whether there is no emission.csv, but one of eco2AI's files under another name."""
        return any(fault.rule == rules.EMISSION_NAME.name for fault in self.faults)

    @property
    def kg(self) -> float:
        """CO2 of all rows."""
        return math.fsum(row.kg for row in self.rows)

    @property
    def target_kg(self) -> float:
        """CO2 of all rows with TargetValue, of which the last counts."""
        return math.fsum(row.kg for row in self.rows if row.is_target)

    def lines(self) -> list[str]:
        """What `check` prints."""
        if self.misnamed:
            return [f"warning: {line}" for line in by_rule(self.faults)]
        lines = [f"{NAME}: {len(self.rows)} rows, {self.kg:.4g} kg of CO2 in all"]
        if self.counting is not None:
            row = self.counting
            lines[0] += (
                f"; row {row.number} counts: {row.kg:.4g} kg, {row.kwh:.4g} kWh in {row.seconds:.4g} s,"
                f" {row.watts:.3g} W"
            )
        lines += [f"warning: {line}" for line in by_rule(self.faults)]
        lines += [f"note: {line}" for line in by_rule(self.notes)]
        effect = "can take part in" if self.ok else "is out of"
        lines.append(
            f"With this file the submission {effect} the prize for the most sustainable solution; nothing else depends"
            " on it, and the verdict does not"
        )
        return lines

    def to_json(self) -> dict[str, Any]:
        """What `check --json` says of the file; the keys of CO2 are in kg."""
        return {
            "ok": self.ok,
            "rows": len(self.rows),
            "kg": self.kg,
            "target_kg": self.target_kg,
            "counting": self.counting and self.counting.to_json(),
            "faults": [fault.to_json() for fault in self.faults],
            "faults_total": self.faults_total,
            "notes": [note.to_json() for note in self.notes],
        }


def by_rule(findings: Iterable[Finding]) -> list[str]:
    """The first finding of each rule as a line, and how many more there are: a run has hundreds of epochs alike."""
    by_rule: dict[str, list[Finding]] = {}
    for finding in findings:
        by_rule.setdefault(finding.rule, []).append(finding)
    return [
        str(found[0]) + (f" (and {len(found) - 1} more of this kind)" if len(found) > 1 else "")
        for found in by_rule.values()
    ]


def read_archive(
    path: Path, max_packed: int = limits.MAX_ARCHIVE_BYTES, max_unpacked: int = limits.MAX_UNPACKED_BYTES
) -> Emission | None:
    """The emission.csv at the root of a ZIP; None where there is none, nor another file of eco2AI's.

    Raises what `archive.read_files` raises.
    """
    faults = Findings()

    def read(names: Collection[str], faults: Findings) -> dict[str, bytes]:
        return archive.read_files(path, names, limits.MAX_EMISSION_BYTES, faults, max_packed, max_unpacked)

    contents = read((NAME, ENCODED_NAME), faults)
    if not contents and not faults:
        sizes = archive.list_files(path, max_packed, max_unpacked)
        return _misnamed(read(_may_be_emissions(sizes), Findings()))
    return _read(contents, faults)


def read_folder(folder: Path) -> Emission | None:
    """The emission.csv in a folder; None where there is none, nor another file of eco2AI's."""
    faults = Findings()

    def read(names: Collection[str], faults: Findings) -> dict[str, bytes]:
        contents = {}
        for name in names:
            try:
                contents[name] = read_regular(folder, name, limits.MAX_EMISSION_BYTES)
            except RuleBroken as broken:
                if broken.rule is not FILE_MISSING:
                    faults.add_broken(name, broken)
        return contents

    contents = read((NAME, ENCODED_NAME), faults)
    if not contents and not faults:
        sizes = {path.name: path.lstat().st_size for path in folder.glob("*") if path.is_file()}
        return _misnamed(read(_may_be_emissions(sizes), Findings()))
    return _read(contents, faults)


def _may_be_emissions(sizes: Mapping[str, int]) -> list[str]:
    """Those of the paths that are worth a look: the first CSVs, of the size of an emission.csv, top folders first."""
    names = [
        name for name, size in sizes.items() if name.lower().endswith(".csv") and size <= limits.MAX_EMISSION_BYTES
    ]
    return sorted(names, key=lambda name: (name.count("/"), name))[:MAX_LOOKED_AT]


def _misnamed(contents: Mapping[str, bytes]) -> Emission | None:
    """What is said where there is no emission.csv, but a file with eco2AI's columns; None where there is none."""
    faults = Findings()
    for name, content in contents.items():
        header = content[:MAX_HEADER_BYTES].decode("utf-8-sig", "replace").splitlines()[:1]
        encoded = name.rpartition("/")[2].startswith("encoded_")
        if not encoded and header and sorted(header[0].strip().split(",")) == sorted(COLUMNS):
            faults.add(rules.EMISSION_NAME, NAME, f"the file does not exist, but {show(name)} is one of eco2AI's")
    return Emission((), None, tuple(faults.kept), faults.total, ()) if faults else None


def _read(contents: Mapping[str, bytes], faults: Findings) -> Emission | None:
    if not contents and not faults:
        return None
    if faults or NAME not in contents:
        if NAME not in contents and not faults:
            faults.add(FILE_MISSING, NAME, f"there is {ENCODED_NAME} alone")
        return Emission((), None, tuple(faults.kept), faults.total, ())
    return parse(contents[NAME], contents.get(ENCODED_NAME))


def parse(plain: bytes, encoded: bytes | None, now: datetime | None = None) -> Emission:
    """Check the content of an emission.csv and of its encoded copy, None where there is none. `now` has a time zone."""
    faults, notes = Findings(), Findings()
    digest = hashlib.sha256(plain).hexdigest()
    now = (now or datetime.now(UTC)).astimezone(UTC).replace(tzinfo=None)
    try:
        table = _cells(plain, NAME, limits.MAX_EMISSION_ROWS, faults)
    except RuleBroken as broken:
        faults.add_broken(NAME, broken)
        return Emission((), None, tuple(faults.kept), faults.total, (), digest)
    rows = []
    for number, cells in table:
        row = _row(number, cells, now, faults, notes)
        if row is not None and _check_power(row, faults, notes):
            rows.append(row)
            _check_coefficient(row, faults, notes)
    _check_sequence(rows, faults, notes)
    # Of the texts, and not of the rows: a faulty last row must not make the one before it count.
    targets = [number for number, cells in table if TARGET in cells["experiment_description"]]
    counting = next((row for row in rows if targets and row.number == targets[-1]), None)
    if not targets:
        faults.add(rules.EMISSION_TARGET, NAME, f"none of {len(table)} rows has {TARGET}")
    if counting is not None:
        _check_counting(counting, rows, faults, notes)
    if encoded is None:
        faults.add(rules.EMISSION_ENCODED_MISSING, ENCODED_NAME, "the file does not exist")
    else:
        _check_encoded(table, encoded, targets[-1] if targets else None, faults, notes)
    return Emission(tuple(rows), counting, tuple(faults.kept), faults.total, tuple(notes.kept), digest)


def shared(emissions: Mapping[str, Emission]) -> dict[str, list[Finding]]:
    """What files of different teams have in common that eco2AI gives to one training alone, by team: the whole file, an
    id, or a row's start, duration and energy.
    """
    owners: dict[tuple[str, ...], dict[str, str]] = {}  # what it is: its first place in the file of each team
    for team, found in emissions.items():
        if found.digest:
            owners.setdefault(("the whole file", found.digest), {})[team] = NAME
        for row in found.rows:
            where = f"{NAME}: row {row.number}"
            owners.setdefault(("its id", row.id), {}).setdefault(team, where)
            if row.kwh:  # without the last digits, which pandas changes
                measured = str(row.start), f"{row.seconds:.9g}", f"{row.kwh:.9g}"
                owners.setdefault(("its measurement", *measured), {}).setdefault(team, where)
    notes: dict[str, list[Finding]] = {team: [] for team in emissions}
    said: set[tuple[str, str, str]] = set()
    for (what, *_), teams in owners.items():
        for team, where in teams.items() if len(teams) > 1 else ():
            others = ", ".join(show(other) for other in sorted(teams) if other != team)
            if (team, what, others) not in said:  # a copy has hundreds of rows alike
                said.add((team, what, others))
                notes[team].append(rules.EMISSION_SHARED.finding(where, f"{what} is in the ZIP of {others}, too"))
    return notes


# --- cells ---


def _cells(content: bytes, name: str, max_rows: int, faults: Findings) -> list[tuple[int, dict[str, str]]]:
    """The cells of each row by column, with the row's number. A row of another width is a fault and left out. Raises
    `RuleBroken` for a file that cannot be read as eco2AI's at all.
    """
    if control := _CONTROL.search(content):
        found = f"control character U+{content[control.start()]:04X} at byte {control.start()}"
        raise RuleBroken(CONTROL_CHARACTER, found)
    try:
        text = content.decode("utf-8")
    except UnicodeDecodeError as error:
        raise RuleBroken(rules.EMISSION_ENCODING, f"not UTF-8 at byte {error.start}") from None
    reader = csv.reader(io.StringIO(text, newline=""), strict=True)
    table: list[tuple[int, dict[str, str]]] = []
    number = 1
    try:
        header = next(reader, [])
        if sorted(header) != sorted(COLUMNS):
            raise RuleBroken(rules.EMISSION_COLUMNS, _columns(header))
        for number, cells in enumerate(reader, 2):
            if number > max_rows + 1:
                raise RuleBroken(rules.EMISSION_CSV, f"more than {max_rows} rows")
            if len(cells) == len(header):
                table.append((number, dict(zip(header, cells, strict=True))))
            else:
                faults.add(rules.EMISSION_CSV, f"{name}: row {number}", f"{len(cells)} cells, not {len(header)}")
    except csv.Error as error:
        raise RuleBroken(rules.EMISSION_CSV, f"row {number + 1}: {error}") from None
    return table


def _columns(header: list[str]) -> str:
    """What is wrong with a header."""
    if not header:
        return "the file is empty"
    for column in COLUMNS:
        if header.count(column) != 1:
            return f"column {show(column)} " + ("occurs twice" if column in header else "is missing")
    return f"column {show(next(column for column in header if column not in COLUMNS))} is none of them"


def _number(text: str) -> float | None:
    """A number of 0 to `MAX_EMISSION_NUMBER`; None for anything else."""
    value = float(text) if _NUMBER.fullmatch(text) else math.nan
    return value if value <= limits.MAX_EMISSION_NUMBER else None


def _row(number: int, cells: dict[str, str], now: datetime, faults: Findings, notes: Findings) -> Row | None:
    """The row, or None where a cell is faulty."""
    where, before = f"{NAME}: row {number}", faults.total
    for column in _TEXTS:
        # Russian spreadsheets separate by semicolon, heed no quotes of a comma's file, and begin a cell there, too.
        parts = re.split("[;\t\r\n]", cells[column])
        formula = next((part for part in parts if part.lstrip().lstrip('" ').startswith(_FORMULA)), None)
        if formula is not None or cells[column].startswith(("\t", "\r", "\n")):
            notes.add(rules.EMISSION_FORMULA, f"{where}, {column}", show(cells[column]))
    if not _UUID.fullmatch(cells["id"]):
        faults.add(rules.EMISSION_ID, f"{where}, id", show(cells["id"]))
    numbers: dict[str, float] = {}
    for column in ("duration(s)", "power_consumption(kWh)", "CO2_emissions(kg)", "cost"):
        value = _number(cells[column])
        if value is None:
            faults.add(rules.EMISSION_NUMBER, f"{where}, {column}", show(cells[column]))
        else:
            numbers[column] = value
    seconds = numbers.get("duration(s)")
    if seconds is not None and not limits.MIN_EMISSION_SECONDS <= seconds <= limits.MAX_EMISSION_SECONDS:
        faults.add(rules.EMISSION_DURATION, f"{where}, duration(s)", f"{seconds:g} s")
    start = _time(cells["start_time"])
    if start is None or not EARLIEST <= start <= now + CLOCK_TOLERANCE:
        faults.add(rules.EMISSION_TIME, f"{where}, start_time", show(cells["start_time"]))
    if faults.total > before or start is None or seconds is None:
        return None
    row = Row(
        number,
        cells["id"],
        cells["project_name"],
        cells["experiment_description"],
        cells["epoch"],
        start,
        seconds,
        numbers["power_consumption(kWh)"],
        numbers["CO2_emissions(kg)"],
        cells["CPU_name"],
        cells["GPU_name"],
        cells["region/country"],
    )
    if row.end > now + CLOCK_TOLERANCE:
        faults.add(rules.EMISSION_TIME, where, f"ends at {row.end:%Y-%m-%d %H:%M:%S}, in the future")
        return None
    return row


def _time(text: str) -> datetime | None:
    try:
        return datetime.strptime(text, "%Y-%m-%d %H:%M:%S") if _TIME.fullmatch(text) else None
    except ValueError:
        return None


# --- physics ---


def _check_power(row: Row, faults: Findings, notes: Findings) -> bool:
    """Whether the machine that the row names can have drawn so much."""
    where = f"{NAME}: row {row.number}"
    cpu, gpu = CPU_NAME.fullmatch(row.cpu), GPU_NAME.fullmatch(row.gpu)
    if cpu is None or not 1 <= int(cpu[1]) <= MAX_CPUS:
        faults.add(rules.EMISSION_HARDWARE, f"{where}, CPU_name", show(row.cpu))
    if gpu is None or int(gpu[2]) > MAX_GPUS:
        faults.add(rules.EMISSION_HARDWARE, f"{where}, GPU_name", show(row.gpu))
    if cpu is not None and gpu is not None:
        tdp = tdp_watts(cpu[2])
        if tdp is None:
            notes.add(rules.EMISSION_UNKNOWN_CPU, f"{where}, CPU_name", f"TDP:{cpu[2]}")
        elif tdp > MAX_CPU_WATTS:
            faults.add(rules.EMISSION_HARDWARE, f"{where}, CPU_name", f"a TDP of {tdp:g} W")
    most = most_watts(row.cpu, row.gpu)
    if row.watts > most:
        faults.add(rules.EMISSION_POWER, where, f"{row.watts:.4g} W, of a machine of at most {most:.4g} W")
        return False
    if row.watts < LOW_WATTS and row.kwh:
        notes.add(rules.EMISSION_LOW_POWER, where, f"{row.watts:.3g} W")
    return True


def _check_coefficient(row: Row, faults: Findings, notes: Findings) -> None:
    where = f"{NAME}: row {row.number}"
    wanted = emission_level(row.country)
    if not row.kwh:
        if row.kg:
            faults.add(rules.EMISSION_COEFFICIENT, where, f"{row.kg:g} kg of 0 kWh")
        return
    found = row.kg / row.kwh * KWH_PER_MWH
    said = f"{found:.6g} kg/MWh; eco2AI's table has {wanted:g} for {show(row.country)}"
    if not wanted / COEFFICIENT_FACTOR <= found <= wanted * COEFFICIENT_FACTOR:
        faults.add(rules.EMISSION_COEFFICIENT, where, said)
    elif abs(found - wanted) > COEFFICIENT_TOLERANCE * wanted:
        notes.add(rules.EMISSION_OTHER_COEFFICIENT, where, said)


def emission_level(country: str) -> float:
    """eco2AI's coefficient, kg/MWh, of a `region/country` such as RU, RU/Moscow, or (RU), which it writes where the
    user gave a coefficient. As there, an unknown region has that of its country, and an unknown country the world's.
    """
    if country.startswith("(") and country.endswith(")"):
        country = country[1:-1]
    code, _, region = country.partition("/")
    levels = emission_levels()
    regions = levels.get(code, levels[WORLD])
    return regions.get(region, regions.get(region.lower(), regions[WHOLE_COUNTRY]))


def _check_sequence(rows: Iterable[Row], faults: Findings, notes: Findings) -> None:
    """Epochs of one id must follow each other in time, and occur once."""
    last: dict[str, Row] = {}
    epochs: set[tuple[str, str]] = set()
    for row in rows:
        where = f"{NAME}: row {row.number}"
        if (row.id, row.epoch) in epochs:
            faults.add(rules.EMISSION_ID, where, f"id and epoch of an earlier row: {row.id}, {show(row.epoch)}")
        epochs.add((row.id, row.epoch))
        if row.id in last:
            gap = (row.start - last[row.id].end).total_seconds()
            if gap < -OVERLAP_SECONDS and abs(gap + DAYLIGHT_SECONDS) > OVERLAP_SECONDS:
                found = f"starts {-gap:.1f} s before row {last[row.id].number} of its id has ended"
                faults.add(rules.EMISSION_DURATION, where, found)
            elif gap > GAP_SECONDS:
                notes.add(rules.EMISSION_GAP, where, f"{gap:.0f} s after the end of row {last[row.id].number}")
        last[row.id] = row


def _check_counting(counting: Row, rows: Sequence[Row], faults: Findings, notes: Findings) -> None:
    where = f"{NAME}: row {counting.number}"
    if not (counting.kwh > 0 and counting.kg > 0):
        faults.add(rules.EMISSION_ZERO, where, f"{counting.kwh:g} kWh and {counting.kg:g} kg")
    for row in rows:
        if row.is_target and row.seconds < limits.MIN_TRAINING_SECONDS:
            notes.add(rules.EMISSION_SHORT, f"{NAME}: row {row.number}", f"{row.seconds:.3g} s")
    targets = [row.kg for row in rows if row.is_target]
    total = math.fsum(targets)
    if counting.kg < PARTIAL * total:
        found = f"{counting.kg:.4g} kg of the {total:.4g} kg of {len(targets)} rows with {TARGET}"
        notes.add(rules.EMISSION_PART, where, found)


# --- the encoded file ---


def _check_encoded(
    table: list[tuple[int, dict[str, str]]], content: bytes, target: int | None, faults: Findings, notes: Findings
) -> None:
    """Each encoded row must be a row of the table; the row that counts must be among them."""
    max_rows = len(_LEVELS) * (limits.MAX_EMISSION_ROWS + 1)
    try:
        encoded = _cells(content, ENCODED_NAME, max_rows, faults)
    except RuleBroken as broken:
        faults.add_broken(ENCODED_NAME, broken)
        return
    # An id occurs once with each epoch.
    index: dict[tuple[int, str, str], tuple[int, dict[str, str]]] = {}
    for number, cells in table:
        epoch = "" if cells["epoch"] in _MISSING else cells["epoch"]
        for level in _LEVELS:
            index[level, cells["id"], encode(epoch, level)] = number, cells
    seen: set[int] = set()
    for number, cells in encoded:
        where = f"{ENCODED_NAME}: row {number}"
        levels = [level for level in _LEVELS if _UUID.fullmatch(_decode(cells["id"], level))]
        if not levels:
            faults.add(rules.EMISSION_ENCODED_ROWS, f"{where}, id", f"{show(cells['id'])}, which decodes to no id")
            continue
        level = levels[0]
        id = _decode(cells["id"], level)
        epoch = "" if cells["epoch"] in _ENCODED_MISSING[level] else cells["epoch"]
        found = index.get((level, id, epoch))
        if found is None:
            faults.add(rules.EMISSION_ENCODED_ROWS, where, f"its id and epoch are those of no row of {NAME}: {id}")
            continue
        seen.add(found[0])
        for column in COLUMNS:
            if not _same(found[1][column], cells[column], level):
                other = show(found[1][column])
                faults.add(
                    rules.EMISSION_ENCODED_ROWS, f"{where}, {column}", f"another than in row {found[0]}, {other}"
                )
    for number, _ in table:
        if number not in seen:
            where, found_there = f"{NAME}: row {number}", f"{ENCODED_NAME} does not have it"
            if number == target:
                faults.add(rules.EMISSION_ENCODED_ROWS, where, found_there)
            else:
                notes.add(rules.EMISSION_LONE_ROW, where, found_there)


def _same(plain: str, encoded: str, level: int) -> bool:
    """Is a cell of the encoded file that of the plain one, whatever pandas did to both?"""
    if encode(plain, level) == encoded or (plain in _MISSING and encoded in _ENCODED_MISSING[level]):
        return True
    a, b = _number(plain), _number(_decode(encoded, level))
    return a is not None and b is not None and math.isclose(a, b, rel_tol=1e-9)
