"""The rules of eco2AI's emission.csv, which the prize for the most sustainable solution alone asks for."""

from evaluator.core import limits
from evaluator.core.errors import Rule

_AS_WRITTEN = "send the file as eco2AI 0.3.12 wrote it, without opening and saving it elsewhere"
EMISSION_ENCODING = Rule("emission-encoding", "UTF-8", _AS_WRITTEN)
EMISSION_CSV = Rule(
    "emission-csv",
    f"comma-separated values (RFC 4180): a header, and at most {limits.MAX_EMISSION_ROWS} rows with a cell for each"
    " column",
    _AS_WRITTEN,
)
EMISSION_COLUMNS = Rule("emission-columns", "each of eco2AI's columns once, and no other", _AS_WRITTEN)
EMISSION_ID = Rule(
    "emission-id", "a UUID, as eco2AI gives to each start of a tracker, and one row for each of its epochs", _AS_WRITTEN
)
EMISSION_NUMBER = Rule(
    "emission-number",
    f"a decimal number of 0 to {limits.MAX_EMISSION_NUMBER:g}, such as 0.25 or 1.5e-07",
    _AS_WRITTEN,
)
EMISSION_TIME = Rule(
    "emission-time",
    "a start_time such as 2022-11-13 09:30:00, from 2020 on, and an end that has come to pass",
    "set the clock of the machine that trains, and track again",
)
EMISSION_DURATION = Rule(
    "emission-duration",
    f"{limits.MIN_EMISSION_SECONDS:g} to {limits.MAX_EMISSION_SECONDS:.0f} s, and over when the next epoch of the same"
    " id starts",
    _AS_WRITTEN,
)
EMISSION_HARDWARE = Rule(
    "emission-hardware",
    "a CPU_name such as 'Intel Xeon 6960P/2 device(s), TDP:500.0' and a GPU_name such as 'NVIDIA A100 8 device(s)', or"
    " ' 0 device(s)'",
    _AS_WRITTEN,
)
EMISSION_POWER = Rule(
    "emission-power",
    f"a mean power (energy over duration) that the named CPUs, GPUs and memory can draw, and at most"
    f" {limits.MAX_EMISSION_WATTS:.0f} W",
    "look at the tracker's pue and at the clock, and track again",
)
EMISSION_COEFFICIENT = Rule(
    "emission-coefficient",
    "CO2 that is the energy times the coefficient of region/country: from half to twice that of eco2AI's table",
    "give the tracker alpha_2_code, and leave emission_level out",
)
EMISSION_TARGET = Rule(
    "emission-target",
    "a row whose experiment_description contains TargetValue; the last one counts",
    "track the final stage with TargetValue in experiment_description",
)
EMISSION_ZERO = Rule(
    "emission-zero",
    "more than 0 kWh and 0 kg in the row that counts",
    "eco2AI measured nothing: it needs `top`, and a CPU of its table",
)
EMISSION_ENCODED_MISSING = Rule(
    "emission-twin-missing",
    "encoded_emission.csv beside emission.csv",
    "give the tracker encode_file=True, and pack both files",
)
EMISSION_ENCODED_ROWS = Rule(
    "emission-twin",
    "encoded rows that are the rows of emission.csv, as eco2AI encodes them, and the row that counts among them",
    _AS_WRITTEN,
)
EMISSION_NAME = Rule(
    "emission-name",
    "emission.csv and encoded_emission.csv by these names, at the root of the ZIP",
    "give the tracker file_name='emission.csv', or rename both files",
)
# What is said of a file without a fault in it.
EMISSION_FORMULA = Rule(
    "emission-formula",
    "texts that no spreadsheet takes for a formula: none begins with =, +, -, @, tab or line break, nor has one of the"
    " first four after a semicolon, tab or line break",
    "let the tracker's project_name and experiment_description begin with a letter, and leave out semicolons",
)
EMISSION_LONE_ROW = Rule(
    "emission-lone-row",
    "an encoded row for each row",
    "nothing to do: an epoch that was killed while it was written lacks one",
)
EMISSION_OTHER_COEFFICIENT = Rule(
    "emission-other-coefficient", "the coefficient of eco2AI's table", "leave the tracker's emission_level out"
)
EMISSION_LOW_POWER = Rule(
    "emission-low-power",
    "a mean power that a machine at work draws",
    "put an independent reading beside it: eco2AI looks at the CPU at single moments, and easily misses its work",
)
EMISSION_UNKNOWN_CPU = Rule(
    "emission-unknown-cpu",
    "a TDP in watts; eco2AI takes 1 W (True) or 0 W (False) for a CPU that its table lacks",
    "put an independent reading beside it",
)
EMISSION_GAP = Rule(
    "emission-gap", "epochs of one id that follow each other", "nothing to do: what was done in between is not counted"
)
EMISSION_PART = Rule(
    "emission-part",
    "a row that counts which has all CO2 of the rows with TargetValue",
    "nothing to do: by the rules the last row alone counts; with new_epoch that is the last epoch",
)
EMISSION_SHORT = Rule(
    "emission-short",
    f"rows with TargetValue of {limits.MIN_TRAINING_SECONDS:.0f} s at least: less is no training, nor an epoch of one",
    "ask the team what it tracked",
)
EMISSION_SHARED = Rule(
    "emission-shared",
    "an emission.csv, ids and rows of measurements that no other team has",
    "ask both teams whose training it was: eco2AI gives each tracker an id of its own",
)
