"""The rules that an output folder (and, where they apply, the organizer's data) is checked against.

One line of meaning each: the name that programs may rely on, what is allowed, how to fix a fault. Limits come from
`evaluator.core.limits`.
"""

from evaluator.core import limits
from evaluator.core.errors import Rule

# --- the folder and its files ---
OUTPUT_FOLDER = Rule(
    "output-folder", "a folder, reached without a symbolic link", "write output/ as a folder, with predictions.json"
)
FILE_MISSING = Rule("file-missing", "an existing file", "write the file, and name it as it is written, case included")
FILE_PATH = Rule(
    "file-path",
    f"a path below the folder with '/' between its parts: not empty, not absolute, no '..', no backslash, control or"
    f" other unprintable characters, at most {limits.MAX_PATH_CHARACTERS} characters",
    "name the file relative to the folder, such as images/image_0.jpg",
)
FILE_LINK = Rule("file-link", "files and folders that are no symbolic links", "copy the file in place of the link")
FILE_KIND = Rule("file-kind", "a regular file", "write a regular file: no folder, FIFO, socket or device")
FILE_UNREADABLE = Rule("file-unreadable", "a file that can be read", "check the file's permissions and name")


def file_size(limit: int) -> Rule:
    """The rule for a file of at most `limit` bytes."""
    return Rule("file-size", f"at most {limit} bytes", "write a smaller file")


# --- JSON ---
JSON_SYNTAX = Rule("json-syntax", "one JSON document (RFC 8259)", "write the file with json.dump, whole")
JSON_ENCODING = Rule("json-encoding", "UTF-8", "open the file for writing with encoding='utf-8'")
JSON_DEPTH = Rule(
    "json-depth",
    f"lists and objects nested at most {limits.MAX_JSON_DEPTH} deep",
    "write the shape of the contract: ids, a list of entries, type and content",
)
JSON_VALUES = Rule(
    "json-values",
    f"at most {limits.MAX_JSON_VALUES} lists, objects and commas together",
    "write one entry an output, and no ids but the input's",
)
JSON_NUMBER = Rule(
    "json-number",
    f"finite numbers of at most {limits.MAX_JSON_DIGITS} characters; no NaN or Infinity",
    "write a text as a JSON string; json.dump(..., allow_nan=False) finds such numbers",
)
DUPLICATE_KEY = Rule("duplicate-key", "each key once in an object", "write every id, type and content once")
HALF_SURROGATE = Rule(
    "half-surrogate",
    "whole Unicode characters; no half of a surrogate pair",
    "write the text with ensure_ascii=False, or drop what text.encode('utf-8', 'ignore') drops",
)
JSON_SHAPE = Rule(
    "json-shape",
    'an object of ids, each with a list of entries {"type": "text" or "image", "content": a text}',
    "write the shape of the contract",
)
ANSWERS_SHAPE = Rule(
    "answers-shape", "a list of accepted answers, at least one text", 'write {"type": "text", "content": ["answer"]}'
)
ENTRY_COUNT = Rule(
    "entry-count",
    f"at most {limits.MAX_JSON_ENTRIES} ids, and as many entries of all ids together",
    "write one entry an output",
)

# --- ids and entries ---
MISSING_ID = Rule("missing-id", "every id of input.json once", "write an entry for this id, whatever its answer")
UNKNOWN_ID = Rule("unknown-id", "the ids of input.json alone", "drop the id, or write it as input.json does")
MISSING_OUTPUT = Rule(
    "missing-output",
    "an entry of the type that the task's output has",
    "answer every id with both a text and an image where the task is in doubt",
)
TEXT_LENGTH = Rule(
    "text-length", f"at most {limits.MAX_TEXT_CHARACTERS} characters in a scored text", "cut the text or stop earlier"
)
CONTROL_CHARACTER = Rule(
    "control-character",
    "texts without ASCII control characters (U+0000 to U+001F, U+007F) other than tab, line feed and carriage return",
    "drop these characters from the text",
)

# --- images ---
IMAGE_FORMAT = Rule(
    "image-format",
    f"an image of a known format ({', '.join(limits.IMAGE_FORMATS)}), by content, whatever the name",
    "save the image as JPEG or PNG",
)
IMAGE_BROKEN = Rule("image-broken", "an image that decodes to its last pixel", "save the image whole, and open it once")
IMAGE_PIXELS = Rule(
    "image-pixels",
    f"at most {limits.MAX_IMAGE_PIXELS} pixels, the longer side at most {limits.MAX_IMAGE_RATIO} times the shorter",
    "save the image smaller; metrics look at 256 x 256 to 336 x 336 pixels",
)
IMAGE_SCANS = Rule(
    "image-scans", f"JPEGs of at most {limits.MAX_JPEG_SCANS} scans", "save the JPEG anew, as baseline or progressive"
)
IMAGE_TIME = Rule(
    "image-time", f"an image that decodes within {limits.DECODE_SECONDS:g} s", "save the image anew, as JPEG or PNG"
)
# What is said of an image without a fault in it.
IMAGE_DEPTH = Rule(
    "image-depth",
    "8 bits a channel; in grey of 16 bits every level above 255 counts as white, as in the published evaluation",
    "save the image with 8 bits: its levels divided by 256",
)
FOLDER_BYTES = Rule(
    "folder-bytes",
    f"at most {limits.MAX_FOLDER_IMAGE_BYTES} bytes in all scored images together",
    "save images smaller",
)
FOLDER_PIXELS = Rule(
    "folder-pixels", f"at most {limits.MAX_FOLDER_PIXELS} pixels in all scored images together", "save images smaller"
)
FOLDER_TIME = Rule(
    "folder-time",
    f"images that decode within {limits.FOLDER_DECODE_SECONDS:g} s together",
    "save images smaller, as JPEG or PNG",
)
REFERENCE_IMAGE = Rule(
    "reference-image",
    "images that the submission made; no file and no pixels of a reference image",
    "write the image that the model generated",
)

# --- the organizer's data alone ---
NO_EXAMPLES = Rule("no-examples", "at least one example", "write the examples into input.json")
SAMPLE_TASK = Rule(
    "sample-task",
    "an object that gives each id the number of its task: 0 to 5, or 6 to 11 where tasks.json defines it",
    "write the task's number, and define a hidden task in tasks.json",
)
TRUTH_OUTPUT = Rule(
    "truth-output", "an entry of the type that the task's output has", "write the accepted answers, or the image's path"
)
TRUTH_PLACE = Rule(
    "truth-place",
    "reference images that no input names, since teams get those; best below gt_images/",
    "move the image to gt_images/ and name it so",
)
INPUT_PLACE = Rule(
    "input-place", "input images outside of gt_images/, which teams never see", "move the image, or name another"
)
INPUT_ENTRY = Rule(
    "input-entry", "an entry of the type that the task's metric compares with", "complete the input, or choose a metric"
)
TASKS_SHAPE = Rule(
    "tasks-shape",
    "an object of task numbers 0 to 11, each with an object of the keys that evaluator/competition/tasks.py explains",
    "write tasks.json as evaluator/competition/tasks.py shows",
)
TASKS_VALUE = Rule(
    "tasks-value", "what the message says, for this key", "correct the value, or leave an optional key out"
)
TASKS_FIXED = Rule(
    "tasks-fixed",
    "open tasks scored by the challenge's rules",
    "leave the key out, or give the examples a hidden task's number",
)
TASKS_NAME = Rule("tasks-name", "a name of its own for each task", "rename one of the tasks")

# --- eco2AI's emission.csv, for the prize for the most sustainable solution alone ---
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
EMISSION_TWIN_MISSING = Rule(
    "emission-twin-missing",
    "encoded_emission.csv beside emission.csv",
    "give the tracker encode_file=True, and pack both files",
)
EMISSION_TWIN = Rule(
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

BY_NAME = {rule.name: rule for rule in list(globals().values()) if isinstance(rule, Rule)}
