"""What the runners have in common: the folders of a run, how it ended, its log, and what may leave it as output."""

import codecs
import contextlib
import os
import shutil
import stat
import tarfile
import threading
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Protocol, TextIO

from evaluator.core import verdict
from evaluator.core.errors import EvaluatorError, Findings, Rule, SubmissionError, show
from evaluator.core.files import FILE_PATH, FILE_UNREADABLE, OUTPUT_FOLDER
from evaluator.core.limits import Limits
from evaluator.core.verdict import Verdict
from evaluator.data.contracts import CONTRACTS, Layout

LOG_CUT = "\n[{} of what the submission printed are left out here, as the log has a limit; the end follows]\n"
LOG_LONG = "\n[the log's limit is near; of what follows the end alone is kept, and shown when the run is over]\n"
LOG_ERRORS = "\n[the end of what the submission wrote to stderr, which the engine keeps apart from stdout]\n"
LOG_TAIL_BYTES = 2**20  # of a long log's end; a quarter of the limit where that is less
#: Of a submission's environment: the time limit of its run, in seconds, for it to plan by.
BUDGET_VARIABLE = "FUSIONBRAIN_BUDGET"
STANDARD = CONTRACTS["standard"].layout
TMP_FILES = 10**6  # files and folders in /tmp
_SIGNALS = 64  # of Linux
FILE, FOLDER, HARD_LINK = "a file", "a folder", "a hard link"
_KINDS = {
    stat.S_IFREG: FILE,
    stat.S_IFDIR: FOLDER,
    stat.S_IFLNK: "a symbolic link",
    stat.S_IFIFO: "a FIFO",
    stat.S_IFSOCK: "a socket",
    stat.S_IFCHR: "a character device",
    stat.S_IFBLK: "a block device",
}
_TAR_KINDS = {
    tarfile.REGTYPE: FILE,
    tarfile.AREGTYPE: FILE,
    tarfile.GNUTYPE_SPARSE: FILE,
    tarfile.DIRTYPE: FOLDER,
    tarfile.LNKTYPE: HARD_LINK,
    tarfile.SYMTYPE: "a symbolic link",
    tarfile.FIFOTYPE: "a FIFO",
    tarfile.CHRTYPE: "a character device",
    tarfile.BLKTYPE: "a block device",
}


@dataclass(frozen=True)
class Workspace:
    """Folders of one run, below `base`, which a container has where `layout` says. The submission sees `work` alone:
    `input` and its own folder, in which it may write to `output`. Out of its reach are `log`, `emission` and
    `collected`, where its output lies after the run, as regular files; and `data`, the folder with the truth, which
    only a container or a mount namespace hides for sure.
    """

    base: Path
    aside: Path
    data: Path
    layout: Layout = STANDARD

    @property
    def work(self) -> Path:
        """The folder that the run sees: `input` and `submission`, side by side or one in the other."""
        return self.base / "work"

    @property
    def input(self) -> Path:
        """What is asked: input.json and the images that it names, or as the contract has it."""
        return (self.submission if self.layout.nested else self.work) / "input"

    @property
    def submission(self) -> Path:
        """The submission's copy, where the entrypoint starts."""
        return self.work / "submission"

    @property
    def output(self) -> Path:
        """Where the submission writes."""
        return self.submission / "output"

    @property
    def collected(self) -> Path:
        """What was taken of its output, after the run."""
        return self.aside / "output"

    @property
    def log(self) -> Path:
        """What it printed."""
        return self.aside / "log.txt"

    @property
    def emission(self) -> Path:
        """What eco2AI's tracker wrote of the run."""
        return self.aside / "emission.csv"


@dataclass(frozen=True)
class Execution:
    """How a run ended.

    `exit_code` is as of subprocess, negative for a signal. `expired`: the time limit was reached. `oom`: a process was
    killed for want of memory. `full` names a place that was filled. `peak_memory` in bytes, of all processes together,
    and `cpu_seconds` are None where they could not be read. `image` is the digest of the image that it ran in.
    """

    exit_code: int
    seconds: float
    expired: bool = False
    oom: bool = False
    full: str = ""
    too_many_processes: bool = False
    peak_memory: int | None = None
    cpu_seconds: float | None = None
    image: str | None = None

    @property
    def ending(self) -> Verdict:
        """OK, OOM, TIMEOUT, DISK or EXIT. A program that ends well has coped with whatever happened; of what goes wrong
        together, the cause goes before the consequence: a main process can wait for a killed one until the time is up.
        """
        if self.exit_code == 0 and not self.expired:
            return verdict.OK
        if self.oom:
            return verdict.OOM
        if self.expired:
            return verdict.TIMEOUT
        return verdict.DISK if self.full else verdict.EXIT


class Runner(Protocol):
    """Where a submission runs. `name` is what --runner calls it."""

    name: str

    def preflight(self, image: str, limits: Limits) -> list[str]:
        """Look whether a run can start; returns what a person should know, a line each.

        Raises `SubmissionError` (BAD_IMAGE) for the submission's image, `EvaluatorError` where this machine cannot
        run it.
        """
        ...

    def run(self, space: Workspace, arguments: list[str], image: str, limits: Limits, terminal: TextIO) -> Execution:
        """Run to the end. When it returns or raises, nothing that the run started is left. After a run that ended well
        `space.collected` has what it wrote.

        Raises `SubmissionError` (BAD_METADATA where the program cannot be started, BAD_IMAGE, BAD_OUTPUT for output of
        a kind or size that is not taken), `EvaluatorError`.
        """
        ...


def exit_code(status: int) -> int:
    """As of subprocess, negative for a signal, of a shell's or an init process's status, which is 128 + signal."""
    return 128 - status if 128 < status <= 128 + _SIGNALS else status


class LogCopier(threading.Thread):
    """Copies what the submission prints to its log and to the terminal, `limit` bytes of it: the beginning as it comes,
    and with `finish` the end, where a program that fails says why. What is left out between them is marked.

    A log that cannot be written is the evaluator's failure: `finish` says so, and until then the submission, which must
    not wait for us, goes on printing.
    """

    def __init__(self, chunks: Iterable[bytes], log: Path, terminal: TextIO, limit: int) -> None:
        super().__init__(daemon=True)
        self._chunks, self._log, self._terminal = iter(chunks), log, terminal
        self.tail_bytes = min(limit // 4, LOG_TAIL_BYTES)
        self._left = limit - self.tail_bytes  # of the beginning
        self._beyond = 0  # bytes that came after it
        self._last = bytearray()  # of all that came, at least the end
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")
        self._lock = threading.Lock()  # of these and of the file, as `finish` does not wait for ever
        self._over = False
        self._failure: OSError | None = None

    def run(self) -> None:
        """Copy until the stream ends. An error is kept for `finish`."""
        try:
            self._copy()
        except OSError as error:
            self._failure = error
            with contextlib.suppress(OSError):
                for _ in self._chunks:
                    pass

    def finish(self, seconds: float, end: bytes = b"", errors: bytes = b"") -> None:
        """Wait until all is copied, at most so long, and write the end. `end` is the end as others know it, at most
        `tail_bytes` of it: an engine's stream can leave something out, or be slower than we wait. `errors` come last.

        Raises `EvaluatorError` where the log could not be written.
        """
        self.join(seconds)
        with self._lock:
            self._over = True
            text = self._end(end) + (LOG_ERRORS + errors.decode("utf-8", "replace") if errors else "")
            text = _harmless(text)
            try:
                if self._failure is None and text:
                    with open(self._log, "a", encoding="utf-8", newline="") as file:
                        file.write(text)
            except OSError as error:
                self._failure = error
        self._show(text)
        if self._failure is not None:
            reason = self._failure.strerror or self._failure
            raise EvaluatorError(f"what the submission prints cannot be written to {self._log}: {reason}")

    def _copy(self) -> None:
        with open(self._log, "w", encoding="utf-8", newline="") as file:
            for chunk in self._chunks:  # to its end, so that the submission does not wait for us
                with self._lock:
                    if self._over:
                        return
                    self._last += chunk
                    if len(self._last) > 4 * self.tail_bytes:  # seldom, as it moves all of it
                        del self._last[: len(self._last) - self.tail_bytes]
                    beginning = chunk[: self._left]
                    self._left -= len(beginning)
                    rest = len(chunk) - len(beginning)
                    self._beyond += rest
                    text = _harmless(self._decoder.decode(beginning))
                    file.write(text)
                    file.flush()
                self._show(text + LOG_LONG if rest and self._beyond == rest else text)

    def _end(self, end: bytes) -> str:
        """What comes after the beginning."""
        if not self._last.endswith(end):  # not all of it came
            if end.startswith(bytes(self._last)):
                return self._decoder.decode(end[len(self._last) :], final=True)
            return LOG_CUT.format("some bytes") + _whole_lines(end).decode("utf-8", "replace")
        if self._beyond <= self.tail_bytes:
            return self._decoder.decode(self._last[len(self._last) - self._beyond :], final=True)
        lines = _whole_lines(bytes(self._last[len(self._last) - self.tail_bytes :]))
        return LOG_CUT.format(f"{self._beyond - len(lines)} bytes") + lines.decode("utf-8", "replace")

    def _show(self, text: str) -> None:
        with contextlib.suppress(OSError, ValueError):  # a closed terminal must not stop the run
            self._terminal.write(text)
            self._terminal.flush()


def _whole_lines(end: bytes) -> bytes:
    """Without the first line, which is cut, unless it is all there is."""
    start = end.find(b"\n") + 1
    return end[start:] if start < len(end) else end


def _harmless(text: str) -> str:
    """Without control characters, which could rewrite what the evaluator has printed."""
    return "".join(c if c.isprintable() or c in "\n\r\t" else "\N{REPLACEMENT CHARACTER}" for c in text)


def read_chunks(stream: IO[bytes]) -> Iterable[bytes]:
    """What a pipe gives, as soon as it is there."""
    while chunk := stream.read1(65536):  # type: ignore[attr-defined]
        yield chunk


_KIND_RULE = Rule("output-kind", "regular files and folders", "copy the file in place of the link; write nothing else")


class _Caps:
    """Counts what leaves as output against the limits, and notes what is not taken."""

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._entries = self._bytes = 0
        self.findings = Findings()
        self._bytes_rule = Rule(
            "output-bytes", f"at most {limits.output} bytes in output/", "write less, and no sparse files"
        )
        self._files_rule = Rule("output-files", f"at most {limits.output_files} files and folders", "write fewer files")
        self._depth_rule = Rule(
            "output-depth", f"at most {limits.output_depth} folders within folders", "write into output/images/"
        )

    def take(self, path: str, kind: str, size: int) -> bool:
        """Whether a file or folder is taken. Raises `SubmissionError` (BAD_OUTPUT) where it is no use to go on."""
        where = f"output: {show(path)}"
        self._entries += 1
        if self._entries > self._limits.output_files:
            self._end(self._files_rule, "output", f"more than {self._limits.output_files} files and folders")
        if path.count("/") >= self._limits.output_depth:
            self._end(self._depth_rule, where, f"lies {path.count('/')} folders deep")
        if not path.isprintable():
            self.findings.add(FILE_PATH, where, "the path has a character that is not allowed")
            return False
        if kind not in (FILE, FOLDER):
            self.findings.add(_KIND_RULE, where, f"is {kind}")
            return False
        self._bytes += size if kind == FILE else 0
        if self._bytes > self._limits.output:
            self._end(self._bytes_rule, where, f"with it there are {self._bytes} bytes")
        return True

    def _end(self, rule: Rule, where: str, found: str) -> None:
        self.findings.add(rule, where, found)
        raise SubmissionError(verdict.BAD_OUTPUT, self.findings)


def collect_folder(source: Path, target: Path, limits: Limits) -> None:
    """Copy the regular files below `source`, which nobody writes to any more, to the new folder `target`.

    No link is followed, no FIFO or device opened. Raises `SubmissionError` (BAD_OUTPUT) naming all that is not taken.
    """
    target.mkdir()
    if not os.path.lexists(source):
        return
    caps = _Caps(limits)
    if source.is_symlink() or not source.is_dir():
        caps.findings.add(OUTPUT_FOLDER, "output", "is not a folder")
        raise SubmissionError(verdict.BAD_OUTPUT, caps.findings)
    try:
        for folder, folders, files, descriptor in os.fwalk(source, onerror=_raise):
            for name in folders + files:
                path = os.path.relpath(os.path.join(folder, name), source)
                found = os.stat(name, dir_fd=descriptor, follow_symlinks=False)
                kind = _KINDS.get(stat.S_IFMT(found.st_mode), "of an unknown kind")
                if kind == FILE and found.st_nlink > 1:
                    kind = HARD_LINK
                if not caps.take(path, kind, found.st_size):
                    continue
                if kind == FOLDER:
                    (target / path).mkdir()
                    continue
                flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
                with open(os.open(name, flags, dir_fd=descriptor), "rb") as file, open(target / path, "xb") as sink:
                    shutil.copyfileobj(file, sink)
    except PermissionError as error:
        caps.findings.add(FILE_UNREADABLE, "output", f"{show(str(error.filename))}: {error.strerror}")
    if caps.findings:
        raise SubmissionError(verdict.BAD_OUTPUT, caps.findings)


def collect_tar(chunks: Iterable[bytes], target: Path, limits: Limits) -> None:
    """As `collect_folder`, from the tar stream of a folder that an engine gives, itself its first entry."""
    target.mkdir()
    caps = _Caps(limits)
    try:
        with tarfile.open(fileobj=_Stream(chunks), mode="r|", bufsize=1 << 20) as archive:  # type: ignore[call-overload]
            for entry in archive:
                path = os.path.normpath(entry.name).partition("/")[2]
                if not path:
                    continue
                kind = _TAR_KINDS.get(entry.type, "of an unknown kind")
                if not caps.take(path, kind, entry.size):
                    continue
                if kind == FOLDER:
                    (target / path).mkdir()
                    continue
                file = archive.extractfile(entry)
                assert file is not None
                with open(target / path, "xb") as sink:
                    shutil.copyfileobj(file, sink)
    except (tarfile.TarError, OSError) as error:
        raise EvaluatorError("the output cannot be copied out of the container", quoting=error) from error
    if caps.findings:
        raise SubmissionError(verdict.BAD_OUTPUT, caps.findings)


class _Stream:
    """A file object that reads chunks one after another."""

    def __init__(self, chunks: Iterable[bytes]) -> None:
        self._chunks, self._rest = iter(chunks), b""

    def read(self, size: int) -> bytes:
        while len(self._rest) < size and (chunk := next(self._chunks, None)) is not None:
            self._rest += chunk
        data, self._rest = self._rest[:size], self._rest[size:]
        return data


def _raise(error: OSError) -> None:
    raise error
