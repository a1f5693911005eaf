"""The rules that a submission's archive (or folder), its metadata.json and its weights are checked against, and their
limits.

What is JSON keeps the rules of `evaluator.core.strict_json`, too.
"""

from evaluator.core import limits
from evaluator.core.errors import Rule

# Not published; the published sizes are in `evaluator.core.limits`.
MAX_DIRECTORY_BYTES = 64 * 10**6  # the list of entries at a ZIP's end: 640 bytes an entry
MAX_NAME_BYTES = 2048
MAX_PART_BYTES = 255  # of a name, between two '/'; what Linux' file systems hold
MAX_DEPTH = 64
MAX_RATIO = 100  # unpacked to packed; text packs 4:1, weights hardly at all
RATIO_FREE_BYTES = 100 * 10**6  # unpacked, below which the ratio does not matter
MAX_METADATA_BYTES = 10**6
MAX_IMAGE_CHARACTERS = 512
MAX_ENTRYPOINT_BYTES = 2**17 - 1  # as Linux has it of one argument (MAX_ARG_STRLEN, without the NUL)
MAX_PROGRAM_BYTES = 4095  # of the program's path (PATH_MAX, without the NUL)
RESERVED_NAMES = ("output", "input", "tmp")  # at the root: folders of a run

_PACK = "pack with `make pack-submission`"

# --- the archive as a whole ---
ARCHIVE_FORMAT = Rule("archive-format", "a ZIP archive", _PACK)
ARCHIVE_TRUNCATED = Rule("archive-truncated", "a whole ZIP archive, to its last byte", "copy or upload the file anew")
ARCHIVE_SURPLUS = Rule(
    "archive-surplus", "entries that follow each other from the first byte, then their directory, then the end", _PACK
)
ARCHIVE_OVERLAP = Rule("archive-overlap", "entries that share no bytes", _PACK)
ARCHIVE_CONTRADICTION = Rule(
    "archive-contradiction", "an entry's header, the directory and the end record that say the same", _PACK
)
ARCHIVE_CORRUPT = Rule(
    "archive-corrupt", "data that unpack to the size and the CRC-32 that the archive states", "pack or upload anew"
)
ARCHIVE_DISKS = Rule("archive-disks", "one file, not a volume of a split archive", "pack without splitting")
ARCHIVE_ENCRYPTED = Rule("archive-encrypted", "entries without a password", "pack without a password")
ARCHIVE_METHOD = Rule(
    "archive-method",
    "entries that are stored (0) or deflated (8)",
    f"{_PACK}; Windows' own packer takes Deflate64 for files beyond 2 GB",
)
ARCHIVE_VERSION = Rule("archive-version", "entries that need version 6.3 of the ZIP format or an earlier one", _PACK)
ARCHIVE_RATIO = Rule(
    "archive-ratio",
    f"at most {MAX_RATIO} times as many bytes unpacked as packed, where it unpacks to more than {RATIO_FREE_BYTES}",
    "leave out files that hold next to nothing",
)
ARCHIVE_DIRECTORY = Rule(
    "archive-directory",
    f"a directory of at most {MAX_DIRECTORY_BYTES} bytes",
    "pack fewer files, with shorter names, without comments and extra fields",
)


def packed_size(limit: int) -> Rule:
    """The rule for a ZIP of at most `limit` bytes."""
    return Rule("archive-packed-size", f"at most {limit} bytes", "leave out what the entrypoint does not read")


def unpacked_size(limit: int) -> Rule:
    """The rule for files of at most `limit` bytes together."""
    return Rule("archive-unpacked-size", f"at most {limit} bytes", "leave out what the entrypoint does not read")


def entry_count(limit: int) -> Rule:
    """The rule for at most `limit` files and folders."""
    return Rule(
        "archive-entries",
        f"at most {limit} files and folders, counting folders that only names imply",
        "pack many small files as one, such as a .tar that run.py reads",
    )


# --- entries: also what a folder that is packed or copied must keep ---
ENTRY_ENCODING = Rule("entry-encoding", "names in UTF-8", f"rename the file, or {_PACK}, which writes UTF-8")
ENTRY_PATH = Rule(
    "entry-path",
    "relative paths with '/' between their parts: no '..', drive letter, backslash, control or other unprintable"
    " character",
    "rename the file, and pack from inside the submission's folder",
)
ENTRY_NAME_LENGTH = Rule(
    "entry-name-length",
    f"at most {MAX_PART_BYTES} bytes of UTF-8 in a file's or folder's name, {MAX_NAME_BYTES} in the whole path",
    "shorten the name",
)
ENTRY_DEPTH = Rule("entry-depth", f"at most {MAX_DEPTH} names in a path", "nest folders less deeply")
ENTRY_DUPLICATE = Rule("entry-duplicate", "every name once", _PACK)
ENTRY_COLLISION = Rule(
    "entry-collision",
    "names that differ in more than case or Unicode normalisation",
    "rename one of the two: on other systems they are one file",
)
ENTRY_CONFLICT = Rule("entry-conflict", "a name for a file or for a folder, not both", "rename one of the two")
ENTRY_RESERVED = Rule(
    "entry-reserved",
    f"at the root no file named {', '.join(RESERVED_NAMES)}, in whatever case: these are folders of a run",
    "rename the file; output/ is made for each run, and what is packed in it is left out",
)
ENTRY_KIND = Rule(
    "entry-kind",
    "only files and folders, no links or devices",
    "replace a link by a copy of its target: cp -rL LINK COPY",
)

# --- metadata.json ---
METADATA_MISSING = Rule(
    "metadata-missing",
    "metadata.json at the root of the submission, named so",
    "pack the folder's content, not the folder, and name the file metadata.json",
)
METADATA_SHAPE = Rule(
    "metadata-shape",
    'an object like {"image": "fusionbrain/fbc2:latest", "entrypoint": "python3 run.py"}, both texts not empty',
    "write both keys",
)
METADATA_IMAGE = Rule(
    "metadata-image",
    "a Docker image's name: [registry/]name[:tag][@sha256:digest], the name in lower case",
    "name the image as `docker images` shows it",
)
ENTRYPOINT_SYNTAX = Rule(
    "entrypoint-syntax",
    "a program and its arguments, quoted as for a shell (which does not run), without NUL",
    'write for example "python3 run.py"',
)
ENTRYPOINT_LENGTH = Rule(
    "entrypoint-length",
    f"at most {MAX_ENTRYPOINT_BYTES} bytes of UTF-8, {MAX_PROGRAM_BYTES} in the program's path and {MAX_PART_BYTES} in"
    " each name of it",
    "put long settings into a file of the archive, and name that file",
)
ENTRYPOINT_SHELL = Rule(
    "entrypoint-shell",
    "a program and its arguments: no shell reads them, so &&, ;, |, >, *, $NAME, NAME=value or cd do nothing",
    """put it into a script ("sh run.sh"), write "sh -c '...'", or put quotes around what is meant as it is""",
)
ENTRYPOINT_SCRIPT = Rule(
    "entrypoint-script",
    "an entrypoint whose script is in the archive, and executable where it is the program itself",
    'pack the script, and name it with its path in the archive, such as "python3 run.py"',
)

# --- a folder that is packed or copied ---
FILE_CHANGED = Rule(
    "file-changed",
    "files and folders that can be read, and stay as they are meanwhile",
    "check their permissions, and wait until nothing writes to them",
)
SUBMISSION_IGNORE = Rule(
    "submission-ignore",
    "at most 500 patterns as in .gitignore, UTF-8, at most 10 kB",
    "correct the line of .submissionignore",
)

# --- weights, whose parameters are counted ---
_SAVE = "save it anew: safetensors.torch.save_model(model, path), or torch.save(model.state_dict(), path)"

CHECKPOINT_MISSING = Rule(
    "checkpoint-missing",
    "at least one checkpoint that has parameters: *.safetensors, or of torch.save *.pt, *.pth, *.bin, *.ckpt",
    "pack the weights with the submission",
)
CHECKPOINT_FORMAT = Rule("checkpoint-format", "safetensors, or a ZIP as torch.save writes it since PyTorch 1.6", _SAVE)
CHECKPOINT_DAMAGED = Rule(
    "checkpoint-damaged", "a whole checkpoint, to its last byte", f"copy the file anew, or {_SAVE}"
)
CHECKPOINT_SIZE = Rule(
    "checkpoint-size",
    f"at most {limits.MAX_CHECKPOINTS} checkpoints, {limits.MAX_TENSORS} tensors in all of them, each with a name of at"
    f" most {limits.MAX_TENSOR_NAME_CHARACTERS} characters and at most {limits.MAX_TENSOR_DIMENSIONS} dimensions;"
    f" headers of at most {limits.MAX_CHECKPOINT_HEADER_BYTES} bytes",
    "save the state dict alone, and leave out what the entrypoint does not read",
)
CHECKPOINT_TIME = Rule(
    "checkpoint-time",
    f"a data.pkl that is read within {limits.PICKLE_SECONDS:g} s, and those of all checkpoints within"
    f" {limits.ALL_PICKLES_SECONDS:g} s",
    "save the state dict alone, or with safetensors, which needs none",
)
CHECKPOINT_TENSORS = Rule(
    "checkpoint-tensors",
    "dense tensors of plain numbers, so that all that is stored can be counted",
    "save such tensors alone; scales and zero points of quantised ones as tensors of their own",
)
CHECKPOINT_MEMORY = Rule(
    "checkpoint-memory",
    "tensors that have all of their memory in common (tied) or none of it",
    "save copies: {name: tensor.clone() for name, tensor in state.items()}",
)
CHECKPOINT_INDEX = Rule(
    "checkpoint-index",
    'an index of shards like {"weight_map": {"tensor": "model-00001-of-00002.safetensors"}}, each tensor in its file',
    "save with transformers' save_pretrained, and pack all files that it writes",
)
MODELS = Rule(
    "models",
    'an object like {"C2C": ["trunk.safetensors", "c2c.safetensors"], "VQA": "vqa"}: for each task the paths, from the'
    f" submission's root, of the checkpoints, indices or folders that its model is made of, {limits.MAX_MODEL_PATHS} at"
    f" most; {limits.MAX_MODEL_TASKS} tasks at most",
    "write models.json so, or leave it out if each checkpoint is the model of a task",
)
