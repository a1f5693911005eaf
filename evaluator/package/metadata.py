"""metadata.json of a submission: the image it runs in and the entrypoint, from untrusted bytes."""

import os
import posixpath
import re
import shlex
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from evaluator.core.errors import Findings, RuleBroken, SubmissionError, near_name, show
from evaluator.core.files import read_regular
from evaluator.core.strict_json import parse as parse_json
from evaluator.core.verdict import BAD_METADATA
from evaluator.package import rules

NAME = "metadata.json"

# The grammar of https://github.com/distribution/reference, without its lengths.
_DOMAIN = r"[a-zA-Z0-9]+(?:[.-][a-zA-Z0-9]+)*(?::[0-9]+)?/"
_PART = r"[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*"
_IMAGE = re.compile(rf"(?:{_DOMAIN})?{_PART}(?:/{_PART})*(?::\w[\w.-]{{0,127}})?(?:@sha256:[0-9a-f]{{64}})?", re.ASCII)
_PYTHON = re.compile(r"python(?:3(?:\.\d+)?)?", re.ASCII)
_SHELLS = frozenset({"sh", "bash", "dash"})
_PYTHON_OPTIONS_WITH_VALUE = ("-W", "-X", "--check-hash-based-pycs")
_KEYS = ("image", "entrypoint")
_SHOWN_KEYS = 10  # of those that are unknown

# What only a shell understands: what is quoted comes first, so that nothing in it is found. `*` alone of the patterns:
# `?` and `[` are more often meant as they are.
_EXPANDED = r"\$(?:[A-Za-z_]\w*|[({@])|`"  # within double quotes, too; there "$5" is more often a price
# Each of them takes a time that is linear in the text: no part of it can give up a character to the next.
_BRACES = r"\{[^\s{},'\"\\]*,[^\s{}'\"\\]*\}|\{-?\w+\.\.-?\w+\}"
_SHELL = re.compile(
    rf"""\\. | '[^']*' | "(?:\\.|[^"\\])*"
      | (?P<shell> {_EXPANDED} | \$[0-9?$!\#*-] | {_BRACES} | &&? | \|\|? | ; | [<>]+ | [()] | \* | \n
      | (?<![^\s=])~(?=[/\s]|$) | (?<!\S)\# )""",
    re.VERBOSE | re.DOTALL,
)
_SHELL_IN_QUOTES = re.compile(rf"\\.|(?P<shell>{_EXPANDED})", re.DOTALL)
_ASSIGNMENT = re.compile(r"[A-Za-z_]\w*=", re.ASCII)
_CODE_OPTION = re.compile(r"-[A-Za-z]*[ce]", re.ASCII)  # sh -c, bash -lc, python3 -c, perl -e
_BUILTINS = frozenset(
    "! . alias builtin case cd command declare do eval exec export for function if let local popd pushd read return set"
    " shopt source then time trap ulimit umask unset until wait while {".split()
)


@dataclass(frozen=True)
class Metadata:
    """`arguments` is the entrypoint, split as a shell would; it runs without one. `unknown` are further keys."""

    image: str
    entrypoint: str
    arguments: tuple[str, ...]
    unknown: tuple[str, ...] = ()

    @property
    def notes(self) -> list[str]:
        """What is no fault, and worth knowing: a line for each key that means nothing."""
        allowed = f"not used; known are {' and '.join(_KEYS)}"
        return [f"note: {NAME}: the key {show(key)} is unknown and {allowed}" for key in self.unknown[:_SHOWN_KEYS]]


def parse(content: bytes) -> Metadata:
    """The metadata in these bytes. Raises `SubmissionError` (BAD_METADATA) with all findings."""
    findings = Findings()
    try:
        document = parse_json(content, NAME, findings)
    except RuleBroken as broken:
        findings.add_broken(NAME, broken)
        raise SubmissionError(BAD_METADATA, findings) from None
    arguments: list[str] = []
    if not isinstance(document, dict):
        findings.add(rules.METADATA_SHAPE, NAME, f"must be an object like the one allowed, not {show(document)}")
        raise SubmissionError(BAD_METADATA, findings)
    unknown = tuple(key for key in document if key not in _KEYS)
    for key in _KEYS:
        value = document.get(key)
        if not isinstance(value, str) or not value.strip():
            found = f"{key} must be a text that is not empty, not {show(value)}"
            if key not in document and unknown:  # one of them may be meant
                found += f"; unknown keys are {', '.join(map(show, unknown[:_SHOWN_KEYS]))}"
            findings.add(rules.METADATA_SHAPE, NAME, found)
        elif key == "image" and (len(value) > rules.MAX_IMAGE_CHARACTERS or not _IMAGE.fullmatch(value)):
            findings.add(rules.METADATA_IMAGE, NAME, f"image {show(value)} is no image's name")
        elif key == "entrypoint" and (size := len(_encoded(value))) > rules.MAX_ENTRYPOINT_BYTES:
            findings.add(rules.ENTRYPOINT_LENGTH, NAME, f"entrypoint {show(value)} has {size} bytes")
        elif key == "entrypoint":
            try:
                arguments = shlex.split(value)
            except ValueError as error:
                findings.add(rules.ENTRYPOINT_SYNTAX, NAME, f"entrypoint {show(value)}: {error}")
            if "\0" in value:
                findings.add(rules.ENTRYPOINT_SYNTAX, NAME, f"entrypoint {show(value)} has a NUL")
            _check_program_length(arguments, findings)
    if findings:
        raise SubmissionError(BAD_METADATA, findings)
    return Metadata(document["image"], document["entrypoint"], tuple(arguments), unknown)


def _check_program_length(arguments: list[str], findings: Findings) -> None:
    """No kernel looks for a longer name, so that it is no engine's affair, either."""
    program = _encoded(arguments[0]) if arguments else b""
    longest = max(map(len, program.split(b"/")))
    if longest > rules.MAX_PART_BYTES or len(program) > rules.MAX_PROGRAM_BYTES:
        found = f"the program {show(arguments[0])} has {len(program)} bytes, {longest} in a name"
        findings.add(rules.ENTRYPOINT_LENGTH, NAME, found)


def _encoded(text: str) -> bytes:
    return text.encode(errors="surrogatepass")  # half of a pair, which is a finding of its own


def read(submission: Path) -> Metadata:
    """The metadata of an unpacked submission. Raises `SubmissionError` (BAD_METADATA) with all findings."""
    if not os.path.lexists(submission / NAME):
        names = [path.relative_to(submission).as_posix() for path in submission.glob("*")]
        raise missing(names + [path.relative_to(submission).as_posix() for path in submission.glob("*/*")])
    try:
        content = read_regular(submission, NAME, rules.MAX_METADATA_BYTES)
    except RuleBroken as broken:
        raise SubmissionError(BAD_METADATA, broken.rule.finding(NAME, broken.found)) from None
    return parse(content)


def missing(paths: Iterable[str]) -> SubmissionError:
    """The error for a submission of these paths, none of which is metadata.json; it names the file that was meant."""
    meant = [path for path in paths if posixpath.basename(path).lower() == NAME]
    found = "metadata.json is missing at the root of the submission"
    if meant:
        best = min(meant, key=lambda path: (path.count("/"), path))
        hint = "pack the folder's content, not the folder" if "/" in best else "case matters"
        found += f"; found {show(best)}: {hint}"
    return SubmissionError(BAD_METADATA, rules.METADATA_MISSING.finding("", found))


def check_script(metadata: Metadata, files: Mapping[str, bool], findings: Findings) -> None:
    """Add a finding where the entrypoint names a script that is not there, or needs a shell; `files` maps each path to
    whether it is executable.

    Looked at are scripts and modules of python and sh, and programs named by a relative path. What is absolute or on
    PATH is the image's affair.
    """
    program, *arguments = metadata.arguments
    if _PYTHON.fullmatch(program):
        found = _python_script_fault(arguments, files)
    elif program in _SHELLS:
        script = arguments[0] if arguments and not arguments[0].startswith("-") else None
        found = _missing(script, files) if script is not None else ""
    elif not program:
        found = "the program's name is empty"
    elif "/" not in program:
        is_here = program in files
        found = f"{show(program)} is looked for on PATH, not in the archive; write ./{program}" if is_here else ""
    else:
        found = _missing(program, files)
        if not found and not program.startswith("/") and not files.get(posixpath.normpath(program), True):
            found = f"{show(program)} is not executable in the archive"
    if found:
        findings.add(rules.ENTRYPOINT_SCRIPT, NAME, f"entrypoint {show(metadata.entrypoint)}: {found}")
    piece = _shell_syntax(metadata)
    if piece:
        found = f"{show(piece)} is for a shell, and no shell runs"
        findings.add(rules.ENTRYPOINT_SHELL, NAME, f"entrypoint {show(metadata.entrypoint)}: {found}")


def _shell_syntax(metadata: Metadata) -> str:
    """The first piece of the entrypoint that only a shell understands, empty without one.

    Where an option brings code, as in sh -c "...", what stands in quotes is for the program that reads it.
    """
    program = metadata.arguments[0]
    if program in _BUILTINS or _ASSIGNMENT.match(program):
        return program
    has_code = any(map(_CODE_OPTION.fullmatch, metadata.arguments))
    for part in _SHELL.finditer(metadata.entrypoint.strip()):
        if part["shell"]:
            return part["shell"].replace("\n", "line break")
        if part[0].startswith('"') and not has_code:
            for inner in _SHELL_IN_QUOTES.finditer(part[0][1:-1]):
                if inner["shell"]:
                    return inner["shell"]
    return ""


def _python_script_fault(arguments: list[str], files: Mapping[str, bool]) -> str:
    rest = iter(arguments)
    for argument in rest:
        if argument in _PYTHON_OPTIONS_WITH_VALUE:
            next(rest, None)
        elif argument.startswith(("--", *_PYTHON_OPTIONS_WITH_VALUE)):
            continue
        elif argument.startswith("-"):
            if "c" in argument or "m" in argument or argument == "-":
                return ""  # -c has its code here, and a module of -m may be one of the image's
        else:
            # Python runs a folder with __main__.py, too.
            return "" if posixpath.normpath(f"{argument}/__main__.py") in files else _missing(argument, files)
    return "names no script: python3 would wait for one on its input"


def _missing(script: str, files: Mapping[str, bool]) -> str:
    path = posixpath.normpath(script)
    if path.startswith(("/", "../")) or path in files:
        return ""
    near = near_name(path, files)
    return f"{show(script)} is not in the archive" + (f"; {show(near)} is" if near else "")
