"""What to do about the crashes that submissions have most, told from the last lines of their log."""

import re
from collections.abc import Sequence

_EXCEPTION = re.compile(
    r"(?P<name>[A-Za-z_][\w.]*(?:Error|Exception|gaierror|[tT]imeout|DistributionNotFound))(?::|$)"
    r"|terminate called after throwing",  # C++
    re.ASCII | re.MULTILINE,
)
# Their text is a key, a name or a value of the program, whatever it says.
_QUOTING = frozenset({"AssertionError", "AttributeError", "IndexError", "KeyError", "NameError", "TypeError"})
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
# Advice, the exceptions it is for, and words of a log that it is for, whatever the exception. The first that fits
# decides: a failed download ends as a missing file, too.
_KINDS = (
    (NETWORK, r"ConnectionError|ConnectionRefusedError|Connect(?:Error|Timeout(?:Error)?)|ReadTimeout(?:Error)?"
     r"|SSL(?:CertVerification)?Error|ProxyError|URLError|gaierror|LocalEntryNotFoundError|MaxRetryError"
     r"|NewConnectionError|NameResolutionError|ClientConnector\w*Error",
     r"name resolution|Name or service not known|Network is unreachable|No route to host|\[Errno 11[03]\]"
     r"|Connection timed out|Max retries exceeded|urlopen error|Could(?: not|n't) (?:resolve|connect)"
     r"|couldn't connect to|Cannot connect to host|unable to resolve host|No address associated|offline mode"
     r"|Connection refused|Can't load tokenizer for|https://huggingface\.co/models"
     r"|Connection error, and we cannot find the requested files|No matching distribution found"),
    (DEVICE_MEMORY, r"OutOfMemoryError|ResourceExhaustedError",
     r"CUDA out of memory|CUDA error: out of memory|(?:CUBLAS|CUDNN)_STATUS_ALLOC_FAILED|RESOURCE_EXHAUSTED"
     r"|cudaErrorMemoryAllocation"),
    (MEMORY, r"\w*MemoryError",
     r"Cannot allocate memory|can't allocate memory|std::bad_alloc|DefaultCPUAllocator: not enough memory"),
    (READ_ONLY, r"PermissionError", r"Read-only file system|Permission denied|attempt to write a readonly database"),
    (MISSING_MODULE, r"ModuleNotFoundError|ImportError|PackageNotFoundError|DistributionNotFound",
     r"No module named|cannot open shared object file"),
    (MISSING_FILE, r"FileNotFoundError|NotADirectoryError|IsADirectoryError",
     r"\bNo such file\b|Parent directory .{1,500} does not exist"),
)  # fmt: skip


def fix(lines: Sequence[str]) -> str:
    """The fix for the crash that these last lines of a log tell of; empty where they tell of none that is known.

    Of them count the last that names an exception and what follows it: earlier ones may have been coped with.
    """
    last = max((i for i, line in enumerate(lines) if _EXCEPTION.match(line)), default=len(lines) - 1)
    said = "\n".join(lines[max(0, last) :])
    named = _EXCEPTION.match(said)
    name = (named["name"] or "").rpartition(".")[2] if named else ""
    for advice, kinds, words in _KINDS:
        if re.fullmatch(kinds, name) or (name not in _QUOTING and re.search(words, said)):
            module = _MODULE.search(said) if advice is MISSING_MODULE else None
            return advice.replace("a module", f"the module {module[1]}", 1) if module else advice
    return ""
