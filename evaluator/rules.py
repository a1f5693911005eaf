"""The rules that an output folder (and, where they apply, the organizer's data) is checked against.

One line of meaning each: the name that programs may rely on, what is allowed, how to fix a fault. Limits come from
`evaluator.limits`.
"""

from evaluator import limits
from evaluator.errors import Rule

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
TRUTH_PLACE = Rule("truth-place", "reference images below gt_images/", "move the image there and name it so")
INPUT_PLACE = Rule(
    "input-place", "input images outside of gt_images/, which teams never see", "move the image, or name another"
)
INPUT_ENTRY = Rule(
    "input-entry", "an entry of the type that the task's metric compares with", "complete the input, or choose a metric"
)
TASKS_SHAPE = Rule(
    "tasks-shape",
    "an object of task numbers 0 to 11, each with an object of the keys that evaluator/tasks.py explains",
    "write tasks.json as evaluator/tasks.py shows",
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

BY_NAME = {rule.name: rule for rule in list(globals().values()) if isinstance(rule, Rule)}
