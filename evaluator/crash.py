"""What to do about the crashes that submissions have most, told from the last lines of their log."""

import re
from collections.abc import Sequence

_EXCEPTION = re.compile(r"[A-Za-z_][\w.]*(?:Error|Exception|gaierror|timeout)(?::|$)", re.ASCII)
_MODULE = re.compile(r"No module named '([\w.]{1,60})'", re.ASCII)

NETWORK = (
    "there is no network in a run: pack weights and data into the ZIP, or build them into the image, and load them by"
    " their path"
)
DEVICE_MEMORY = (
    "the device's memory is full: take a smaller batch, half precision or torch.inference_mode(), and let go of what"
    " is not needed"
)
MEMORY = "use less memory: load weights once, and answer in smaller batches"
READ_ONLY = "write into output/ or /tmp alone; everything else is read-only"
MISSING_FILE = (
    "paths count from the submission's folder: the input is ../input/input.json with ../input/images/, answers go to"
    " output/predictions.json, whose own paths count from output/; and the file must be in the ZIP, its case included"
)
MISSING_MODULE = (
    "the image lacks a module: build an image that has it (docker/README.md says how), or pack its files beside the"
    " entrypoint's script"
)
# The first that fits decides: a failed download ends as a missing file, too.
_KINDS = (
    (NETWORK, r"name resolution|Name or service not known|Network is unreachable|Max retries exceeded|urlopen error"
     r"|Could(?: not|n't) (?:resolve|connect)|couldn't connect to|No address associated|offline mode|ConnectionError"
     r"|ConnectionRefusedError|ConnectTimeout|URLError|gaierror|LocalEntryNotFoundError|Connection refused"),
    (DEVICE_MEMORY, r"CUDA out of memory|OutOfMemoryError|CUBLAS_STATUS_ALLOC_FAILED|CUDA error: out of memory"),
    (MEMORY, r"MemoryError|Cannot allocate memory|can't allocate memory"),
    (READ_ONLY, r"Read-only file system|PermissionError|Permission denied"),
    (MISSING_MODULE, r"ModuleNotFoundError|No module named|ImportError|cannot open shared object file"),
    (MISSING_FILE, r"FileNotFoundError|No such file or directory|NotADirectoryError"),
)  # fmt: skip


def fix(lines: Sequence[str]) -> str:
    """The fix for the crash that these last lines of a log tell of; empty where they tell of none that is known.

    Of them count the last that names an exception and what follows it: earlier ones may have been coped with.
    """
    last = max((i for i, line in enumerate(lines) if _EXCEPTION.match(line)), default=len(lines) - 1)
    said = "\n".join(lines[max(0, last) :])
    for advice, pattern in _KINDS:
        if re.search(pattern, said):
            module = _MODULE.search(said) if advice is MISSING_MODULE else None
            return advice.replace("a module", f"the module {module[1]}", 1) if module else advice
    return ""
