"""Every limit of the challenge and of the evaluator, in one place: those of a run are read from `limits.toml` beside
this file, which participants and organizers share, and what the evaluator is willing to read stands here.

Not a pydantic model: nearly every process imports this module, that of the image decoder among them, and pydantic would
make its import several times as long.
"""

import re
import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any

from evaluator.core.errors import DataError, meant, show
from evaluator.core.regular import read_whole

FILE = Path(__file__).with_name("limits.toml")
_UNITS = {
    "bytes": {"": 1, "B": 1, "KB": 10**3, "MB": 10**6, "GB": 10**9, "KiB": 2**10, "MiB": 2**20, "GiB": 2**30},
    "seconds": {"": 1, "s": 1, "min": 60, "h": 3600},
    "count": {"": 1},
}
_KINDS = {
    "cpus": "count",
    "gpus": "count",
    "pids": "count",
    "output_files": "count",
    "output_depth": "count",
    "time": "seconds",
    "grace": "seconds",
}  # all others are sizes in bytes
_MAY_BE_ZERO = ("gpus",)
_MAX_FILE_BYTES = 10**6  # of a file of limits
_MAX_GRACE_SECONDS = 20  # the whole tree is gone within 30 s of the time limit


@dataclass(frozen=True)
class Limits:
    """The limits of a run: sizes in bytes, times in seconds. limits.toml says what each is for."""

    memory: int
    cpus: float
    gpus: int
    time: float
    archive: int
    unpacked: int
    image: int
    pids: int
    shm: int
    tmp: int
    output: int
    output_files: int
    output_depth: int
    log: int
    grace: float

    def override(self, settings: Iterable[str], where: str = "--limit ") -> "Limits":
        """These limits with some replaced, each by a `name=value` such as `memory=2GB`. `where` begins each fault's
        line. Raises `DataError` with all faults.
        """
        changes, faults = {}, []
        for setting in settings:
            name, equals, value = setting.partition("=")
            if equals:
                changes[name] = value
            else:
                faults.append(f"{where}{show(setting)}: must be name=value, such as memory=2GB")
        return replace(self, **_values(changes, where, faults))

    def differences(self, other: "Limits") -> list[str]:
        """What differs from `other`, a line each."""
        mine, others = asdict(self), asdict(other)
        return [f"{name} = {mine[name]} instead of {others[name]}" for name in mine if mine[name] != others[name]]


_NAMES = tuple(field.name for field in fields(Limits))


def read_limits(path: Path = FILE) -> Limits:
    """The limits in a TOML file; all of them must be there. Raises `DataError` with all faults."""
    try:
        document = tomllib.loads(read_whole(path, _MAX_FILE_BYTES).decode("utf-8"))
    except OSError as error:
        raise DataError(f"limits {path} cannot be read: {error.strerror}") from None
    except (ValueError, RecursionError) as error:
        raise DataError(f"limits {path} cannot be read: {error}") from None
    missing = [name for name in _NAMES if name not in document]
    faults = [f"limits {path}: {', '.join(missing)} missing"] if missing else []
    return Limits(**_values(document, f"limits {path}: ", faults))


def _values(stated: Mapping[str, object], where: str, faults: list[str]) -> dict[str, Any]:
    """The limits by name, in bytes and seconds. Raises `DataError` with these `faults` and all others."""
    values: dict[str, float] = {}
    for name, value in stated.items():
        try:
            values[name] = _value(name, value)
        except ValueError as fault:
            faults.append(f"{where}{fault}")
    if faults:
        raise DataError(faults)
    return values


def _value(name: str, value: object) -> float:
    if name not in _NAMES:
        raise ValueError(f"{show(name)} is no limit; there are {', '.join(_NAMES)}{meant(name, _NAMES)}")
    kind = _KINDS.get(name, "bytes")
    match = re.fullmatch(r"(\d{1,18}(?:\.\d{1,9})?) ?([A-Za-z]*)", str(value), re.ASCII)
    if isinstance(value, bool) or not match or match[2] not in _UNITS[kind]:
        units = ", ".join(filter(None, _UNITS[kind])) or "no unit"
        raise ValueError(f"{name}: must be a number of {kind} ({units}), not {show(value)}")
    number = float(match[1]) * _UNITS[kind][match[2]]
    if not number and name not in _MAY_BE_ZERO:
        raise ValueError(f"{name}: must be more than 0")
    if name == "grace" and number > _MAX_GRACE_SECONDS:
        raise ValueError(f"grace: must be at most {_MAX_GRACE_SECONDS} s, not {show(value)}")
    return number if name in ("cpus", "time", "grace") else int(number)


RUN = read_limits()
MAX_ARCHIVE_BYTES = RUN.archive
MAX_UNPACKED_BYTES = RUN.unpacked

# Not published: what the evaluator is willing to read from an untrusted folder.
MAX_ARCHIVE_ENTRIES = 100_000
MAX_JSON_BYTES = 100 * 10**6
MAX_JSON_DEPTH = 32  # of nested lists and objects; the contract needs 3
MAX_JSON_VALUES = 8 * 10**6  # lists, objects and commas: bounds the memory of parsing, with room for the entries below
MAX_JSON_DIGITS = 100  # characters of one number; Python's own limit of 4300 digits raises
MAX_JSON_ENTRIES = 10**6  # examples in one file, and entries of all examples together
MAX_TEXT_CHARACTERS = 20_000  # one predicted text; the metrics' time grows with its length
MAX_PATH_CHARACTERS = 1024
MAX_IMAGE_BYTES = 32 * 10**6
MAX_IMAGE_PIXELS = 4096 * 4096
MAX_IMAGE_RATIO = 100  # longer to shorter side; a metric that resizes the shorter side would grow such an image
MAX_JPEG_SCANS = 100  # a progressive JPEG has about 10, but each further one costs time for all pixels
IMAGE_FORMATS = ("JPEG", "PNG", "WEBP", "BMP")
MAX_FOLDER_IMAGE_BYTES = 15 * 10**9  # all scored images together
MAX_FOLDER_PIXELS = 5 * 10**9  # all scored images together, 15 GB decoded; 10 000 of 256 x 256 are 0.66 * 10^9

#: Names that are unknown or missing for which a near one is looked for, which costs time; of one folder.
NEAR_FAULTS = 20

# Not published: how long decoding an untrusted image may take, and in how much memory. It happens in a process of its
# own.
DECODE_SECONDS = 20.0  # one image, by the clock; a JPEG of 4096 x 4096 with 99 scans takes two
FOLDER_DECODE_SECONDS = 30 * 60.0  # all images together
DECODER_MEMORY_BYTES = 2 * 2**30  # address space of the process

# Not published: of eco2AI's emission.csv and its encoded copy, and of the loss.csv and energy.csv of a training run.
MAX_EMISSION_BYTES = 8 * 10**6  # each file; a row has about 300 bytes, an encoded one 600, and is written twice
MAX_EMISSION_ROWS = 5_000  # of emission.csv: a row is an epoch
MAX_EMISSION_WATTS = 100_000.0  # mean power, whatever the hardware: some hundred GPUs
MIN_EMISSION_SECONDS, MAX_EMISSION_SECONDS = 0.001, 366 * 24 * 3600.0  # of one row
MIN_TRAINING_SECONDS = 60.0  # of one row; fewer are noted, and no fault
MAX_EMISSION_NUMBER = 1e12  # of any kind
MAX_LOSS_BYTES = 200 * 10**6  # a line a step, of about 80 bytes

# Not published: of checkpoints, whose parameters are counted.
MAX_CHECKPOINTS = 1000  # in a submission
MAX_TENSORS = 200_000  # in all checkpoints together; large models have a few thousand
MAX_TENSOR_DIMENSIONS = 32
MAX_TENSOR_NAME_CHARACTERS = 500
MAX_CHECKPOINT_HEADER_BYTES = 32 * 10**6  # a safetensors header, data.pkl, an index of shards
MAX_MODELS_BYTES = 10**6  # models.json
MAX_MODEL_TASKS = 1000  # that it names; no competition has more
MAX_MODEL_PATHS = MAX_CHECKPOINTS  # that the model of one task is made of
PICKLE_SECONDS = 30.0  # to read one data.pkl, in a process of its own; 200 000 tensors take 2
ALL_PICKLES_SECONDS = 600.0  # of a submission; to start 1000 such processes takes 150, on a busy machine more
PICKLE_MEMORY_BYTES = 2**30  # address space of that process

# Not published: of the look at a ZIP that was sent over the web, in a process of its own.
PREFLIGHT_SECONDS = 600.0  # by the clock, as the machine may be busy; the largest take some ten
PREFLIGHT_CPU_SECONDS = 300
PREFLIGHT_MEMORY_BYTES = 2**30  # address space of that process

# Not published: what per-id results are written as, by the file's name.
TABLE_FORMATS = (".csv", ".parquet")
