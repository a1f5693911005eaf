"""Runs a submission as a process of this machine: the same layout, limits and verdicts as in a container, for people
without Docker. It is no jail. The program runs as the user who runs the evaluator and can read what that user can, so
it is for code that one trusts.

Where the kernel allows it, the program gets namespaces of its own: no network, a read-only folder around output/, and
nothing in the data folder. Memory, processes and space are looked at a few times a second, and a run that exceeds them
is ended; in between it can overshoot.
"""

import contextlib
import ctypes
import errno
import fcntl
import functools
import os
import re
import resource
import shlex
import signal
import socket
import struct
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TextIO

from evaluator.carbon.meter import children_cpu_seconds
from evaluator.core import verdict
from evaluator.core.errors import EvaluatorError, SubmissionError, show
from evaluator.core.limits import Limits
from evaluator.sandbox.base import (
    BUDGET_VARIABLE,
    TMP_FILES,
    Execution,
    LogCopier,
    Workspace,
    collect_folder,
    read_chunks,
)

# What a submission gets of the environment: how to find programs, libraries and devices, and the language. All else
# stays here.
ENVIRONMENT_NAMES = frozenset({"PATH", "LANG", "LANGUAGE", "TZ", "LD_LIBRARY_PATH", "VIRTUAL_ENV"})
ENVIRONMENT_PREFIXES = ("LC_", "CUDA_", "NVIDIA_", "OMP_", "GOMP_", "MKL_", "OPENBLAS_")
# The evaluator that started it: by it the next run finds what a killed one left behind. Not the run's folder: in a
# mount namespace of one's own, such as a service's with a private /tmp, another's folder is not to be seen.
OWNER_VARIABLE = "FBC2_EVALUATOR_OWNER"
PYTHON_NAMES = frozenset({"python", "python3"})
POLL_SECONDS = 0.2
SIZE_POLL_SECONDS = 1.0  # walking through folders costs more than reading /proc
KILL_SECONDS = 10.0

_PR_SET_PDEATHSIG, _PR_SET_CHILD_SUBREAPER = 1, 36  # linux/prctl.h
_CLONE_NEWNS, _CLONE_NEWUSER, _CLONE_NEWNET = 0x20000, 0x10000000, 0x40000000  # linux/sched.h
_MS_RDONLY, _MS_REMOUNT, _MS_BIND, _MS_REC, _MS_PRIVATE = 0x1, 0x20, 0x1000, 0x4000, 0x40000  # linux/mount.h
_SIOCSIFFLAGS, _IFF_UP = 0x8914, 1  # linux/sockios.h, linux/if.h
# What the kernel says where this machine has too little of something. All else that it says of a program is the
# program's fault: it is not there, or is none, or is a broken one, which can be EIO.
_TOO_LITTLE = frozenset({errno.EAGAIN, errno.ENOMEM, errno.EMFILE, errno.ENFILE, errno.ENOSPC, errno.EDQUOT})
_PAGE = resource.getpagesize()
_libc = ctypes.CDLL(None, use_errno=True)


@contextlib.contextmanager
def _subreaper() -> Iterator[None]:
    """Have orphans of the run become children of this process (Linux), so that none gets away and their CPU time is
    counted. Afterwards no more: a daemon that our caller starts, such as an engine, is none of a later run's.
    """
    if sys.platform == "linux":
        _libc.prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    try:
        yield
    finally:
        if sys.platform == "linux":
            _libc.prctl(_PR_SET_CHILD_SUBREAPER, 0, 0, 0, 0)


class LocalRunner:
    """A `Runner` for trusted code."""

    name = "local"

    def preflight(self, image: str, limits: Limits) -> list[str]:
        """`image` is not looked at: the program runs with this machine's libraries."""
        notes = [
            "LOCAL RUNNER: NO JAIL, only for code that you trust. It ignores metadata.json's image, and limits neither"
            " CPUs nor GPUs"
        ]
        if not _can_unshare():
            notes.append("local runner: this kernel grants no namespaces, so the submission has the network")
        return notes

    @_subreaper()
    def run(self, space: Workspace, arguments: list[str], image: str, limits: Limits, terminal: TextIO) -> Execution:
        """`python3` is the interpreter that runs this."""
        arguments = [_placed(argument, space) for argument in arguments]
        if arguments[0] in PYTHON_NAMES:
            arguments = [sys.executable, *arguments[1:]]
        home = space.base / "home"
        home.mkdir()
        space.output.mkdir(exist_ok=True)
        before = {process.pid for process in _descendants()}
        cpu_before = children_cpu_seconds()
        start = time.monotonic()
        try:
            process = subprocess.Popen(
                arguments,
                cwd=space.submission,
                env=_environment(space, home, limits.time),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                preexec_fn=functools.partial(
                    _enter, os.getpid(), max(limits.output, limits.tmp), _can_unshare(), space
                ),
            )
        except OSError as error:
            # Only what is said of the program names it: not what fails before, such as fork.
            if error.errno in _TOO_LITTLE or error.filename != arguments[0]:
                raise EvaluatorError(f"no process can be started for the submission: {error.strerror}") from error
            started = show(shlex.join(arguments))
            raise SubmissionError(
                verdict.BAD_METADATA, f"entrypoint {started} cannot be started: {error.strerror}"
            ) from None
        except (ValueError, subprocess.SubprocessError) as error:
            raise EvaluatorError(f"no process can be prepared for the submission: {error}") from error
        assert process.stdout is not None
        copier = LogCopier(read_chunks(process.stdout), space.log, terminal, limits.log)
        copier.start()
        watch = _Watch(process, before, limits, {"output/": space.output, "/tmp": home})
        try:
            expired = watch.until(start + limits.time)
            if expired:
                _signal_group(process.pid, signal.SIGTERM)
                watch.until(time.monotonic() + limits.grace)
        finally:
            seconds = time.monotonic() - start
            _kill_all(process, before)
            copier.join(KILL_SECONDS)
        copier.finish(0)
        watch.measure()
        outcome = Execution(
            process.returncode,
            seconds,
            expired,
            watch.oom,
            watch.full,
            watch.too_many_processes,
            watch.peak_memory,
            children_cpu_seconds() - cpu_before,
        )
        if outcome.ending is verdict.OK:
            collect_folder(space.output, space.collected, limits)
        return outcome


def _placed(argument: str, space: Workspace) -> str:
    """An argument that begins with a container's path of the submission's folder, with the path that it has here."""
    if argument == space.layout.submission or argument.startswith(f"{space.layout.submission}/"):
        return f"{space.submission}{argument.removeprefix(space.layout.submission)}"
    return argument


def sweep() -> None:
    """Kill the processes of runs whose evaluator is provably dead. Those of other namespaces of process ids, which we
    cannot tell anything of, are left to whoever is in there.
    """
    place = _place()
    if not place or os.readlink("/proc/self") != str(os.getpid()):  # /proc is of another namespace than we are
        return
    entry = rf"{OWNER_VARIABLE}={re.escape(place)} ([0-9]{{1,9}}) ([0-9]+)"
    of_here = re.compile(os.fsencode(rf"(?:\A|\0){entry}(?=\0|\Z)"))
    for name in filter(str.isdigit, os.listdir("/proc")):
        with contextlib.suppress(OSError):  # it ended, or is another user's
            owners = of_here.findall(Path("/proc", name, "environ").read_bytes())
            if any(_is_dead(pid.decode(), start.decode()) for pid, start in owners):
                os.kill(int(name), signal.SIGKILL)


def _place() -> str:
    """The boot and the namespace that process ids belong to; empty where there is no /proc to know them by."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        return f"{boot} {os.readlink('/proc/self/ns/pid')}"
    except OSError:
        return ""


def _owner() -> str:
    """This process as nothing else is called: its place, its number, and its start, as numbers come back."""
    place = _place()
    return f"{place} {os.getpid()} {_state_and_start(os.getpid())[1]}" if place else ""


def _is_dead(pid: str, start: str) -> bool:
    """Whether the process of this number, here, that started then has ended: it, or whoever waits for it, is gone."""
    try:
        state, started = _state_and_start(int(pid))
    except (FileNotFoundError, ProcessLookupError):
        return True
    return state in "ZX" or started != start


def _state_and_start(pid: int) -> tuple[str, str]:
    """Of /proc; the start in ticks since the boot. Raises OSError."""
    fields = Path("/proc", str(pid), "stat").read_text(errors="replace").rpartition(")")[2].split()
    return fields[0], fields[19]


def _environment(space: Workspace, home: Path, seconds: float) -> dict[str, str]:
    environment = {
        name: value
        for name, value in os.environ.items()
        if (name in ENVIRONMENT_NAMES or name.startswith(ENVIRONMENT_PREFIXES)) and str(space.data) not in value
    }
    return environment | {
        "PATH": os.pathsep.join([str(Path(sys.executable).parent), environment.get("PATH", os.defpath)]),
        "HOME": str(home),
        "TMPDIR": str(home),
        "PYTHONUNBUFFERED": "1",
        "PYTHONIOENCODING": "utf-8",
        "PYTHONDONTWRITEBYTECODE": "1",
        "HF_HUB_OFFLINE": "1",  # the leaderboard has no network
        BUDGET_VARIABLE: f"{seconds:g}",
        OWNER_VARIABLE: _owner(),
    }


# --- in the new process, before the program ---


def _enter(parent: int, file_size: int, unshare: bool, space: Workspace | None = None) -> None:
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    hard = resource.getrlimit(resource.RLIMIT_FSIZE)[1]
    size = file_size if hard == resource.RLIM_INFINITY else min(file_size, hard)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, size))
    if unshare:
        _unshare(space)
    _libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)  # after unshare, which would reset it
    if os.getppid() != parent:
        os.kill(os.getpid(), signal.SIGKILL)


def _unshare(space: Workspace | None) -> None:
    """Namespaces for network and mounts, in a user namespace of the same ids unless we are root."""
    uid, gid = os.geteuid(), os.getegid()
    _check(_libc.unshare(_CLONE_NEWNET | _CLONE_NEWNS | (_CLONE_NEWUSER if uid else 0)))
    if uid:
        Path("/proc/self/setgroups").write_text("deny")
        Path("/proc/self/uid_map").write_text(f"{uid} {uid} 1")
        Path("/proc/self/gid_map").write_text(f"{gid} {gid} 1")
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as control:  # programs talk to themselves over loopback
        fcntl.ioctl(control, _SIOCSIFFLAGS, struct.pack("16sh14x", b"lo", _IFF_UP))
    _mount(None, "/", _MS_REC | _MS_PRIVATE)
    if space is None:
        return
    _mount(space.work, space.work, _MS_BIND)
    _mount(space.output, space.output, _MS_BIND)
    # Flags of the mount below may be locked and must be given again; statvfs has them in the same bits.
    kept = os.statvfs(space.work).f_flag & (os.ST_NOSUID | os.ST_NODEV | os.ST_NOEXEC)
    _mount(None, space.work, _MS_REMOUNT | _MS_BIND | _MS_RDONLY | kept)
    needed = (space.base, Path(sys.prefix), Path(sys.base_prefix))
    if not any(path.is_relative_to(space.data) for path in needed):
        _mount("tmpfs", space.data, _MS_RDONLY, "tmpfs")
    os.chdir(space.submission)  # the folder as it is mounted now


def _mount(source: Path | str | None, target: Path | str, flags: int, kind: str | None = None) -> None:
    encoded = [None if text is None else os.fsencode(text) for text in (source, target, kind)]
    _check(_libc.mount(encoded[0], encoded[1], encoded[2], ctypes.c_ulong(flags), None))


def _check(result: int) -> None:
    if result:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))


@functools.cache
def _can_unshare() -> bool:
    if sys.platform != "linux":
        return False
    try:
        enter = functools.partial(_enter, os.getpid(), 1, True)
        return subprocess.run(["true"], preexec_fn=enter, check=False).returncode == 0
    except (OSError, subprocess.SubprocessError):
        return False


# --- while it runs ---


@dataclass(frozen=True)
class _Process:
    pid: int
    parent: int
    session: int
    threads: int
    resident: int  # bytes, shared pages included


class _Watch:
    """Looks at the run until it ends, and ends it where it exceeds memory, processes or space."""

    def __init__(
        self, process: subprocess.Popen[bytes], before: set[int], limits: Limits, places: dict[str, Path]
    ) -> None:
        self._process, self._before, self._limits, self._places = process, before, limits, places
        self._next_measure = 0.0
        self.oom = self.too_many_processes = False
        self.full = ""
        self.peak_memory = 0

    def until(self, deadline: float) -> bool:
        """Wait for the end; True where `deadline` (monotonic) came first."""
        while (left := deadline - time.monotonic()) > 0:
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(min(left, POLL_SECONDS))
                return False
            self._look()
            if self.oom or self.too_many_processes or self.full:
                return False
        return self._process.poll() is None

    def _look(self) -> None:
        processes = _strays(self._before)
        resident = sum(process.resident for process in processes)
        if resident > self._limits.memory:  # pages that several share were counted for each
            resident = sum(_proportional(process) for process in processes)
        self.peak_memory = max(self.peak_memory, resident)
        self.oom = resident > self._limits.memory
        self.too_many_processes = sum(process.threads for process in processes) > self._limits.pids
        if time.monotonic() > self._next_measure:
            began = time.monotonic()
            self.measure()
            ended = time.monotonic()  # of many files it takes long, and memory and time must be looked at, too
            self._next_measure = ended + max(SIZE_POLL_SECONDS, 10 * (ended - began))

    def measure(self) -> None:
        """Set `full` where a place has as much as it may have."""
        caps = {"output/": (self._limits.output, self._limits.output_files), "/tmp": (self._limits.tmp, TMP_FILES)}
        for name, path in self._places.items():
            max_size, max_entries = caps[name]
            size = entries = 0
            with contextlib.suppress(OSError):  # the submission may have removed it, or closed it to itself
                for blocks in _blocks(path):
                    size += blocks * 512
                    entries += 1
                    if size >= max_size or entries > max_entries:
                        self.full = name
                        return


def _blocks(top: Path) -> Iterator[int]:
    """What each file and folder below `top` takes, in blocks of 512 bytes.

    Not os.fwalk: a program may nest folders so deep that recursion, open files and the length of paths run out. Here
    one folder is open at a time, and the way back is its `..`; if one is moved meanwhile, others are counted.
    """
    flags = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
    here = os.open(top, flags)
    waiting: list[list[str]] = []  # of each folder down to this one: those in it that are not entered yet
    try:
        while True:
            inner: list[str] = []
            with contextlib.suppress(OSError), os.scandir(here) as found:
                for entry in found:
                    with contextlib.suppress(OSError):
                        yield entry.stat(follow_symlinks=False).st_blocks
                        if entry.is_dir(follow_symlinks=False):
                            inner.append(entry.name)
            waiting.append(inner)
            there = -1
            while there < 0:
                if waiting[-1]:
                    with contextlib.suppress(OSError):  # removed, or closed to us
                        there = os.open(waiting[-1].pop(), flags, dir_fd=here)
                    continue
                waiting.pop()
                if not waiting:
                    return
                above = os.open("..", flags, dir_fd=here)
                os.close(here)
                here = above
            os.close(here)
            here = there
    finally:
        os.close(here)


def _proportional(process: _Process) -> int:
    """A process's memory in bytes, of shared pages its share."""
    try:
        for line in Path(f"/proc/{process.pid}/smaps_rollup").read_text().splitlines():
            if line.startswith("Pss:"):
                return int(line.split()[1]) * 1024
    except OSError:
        pass
    return process.resident


def _descendants() -> list[_Process]:
    """All processes below this one, from /proc; zombies included. Empty where there is no /proc."""
    children: dict[int, list[_Process]] = {}
    for name in filter(str.isdigit, os.listdir("/proc") if os.path.isdir("/proc") else []):
        with contextlib.suppress(OSError, IndexError, ValueError):  # it may end while it is read
            fields = Path("/proc", name, "stat").read_text(errors="replace").rpartition(")")[2].split()
            process = _Process(int(name), int(fields[1]), int(fields[3]), int(fields[17]), int(fields[21]) * _PAGE)
            children.setdefault(process.parent, []).append(process)
    found: list[_Process] = []
    waiting = [os.getpid()]
    while waiting:
        below = children.pop(waiting.pop(), [])
        found += below
        waiting += [process.pid for process in below]
    return found


def _strays(before: set[int]) -> list[_Process]:
    """The run's processes. It started in a session of its own and nothing can join ours, so a new descendant in another
    session is the run's.
    """
    session = os.getsid(0)
    return [process for process in _descendants() if process.session != session and process.pid not in before]


def _kill_all(process: subprocess.Popen[bytes], before: set[int]) -> None:
    """Kill what is left of the run: its group, then every descendant that left the group, however it did."""
    _signal_group(process.pid, signal.SIGKILL)
    process.wait()
    deadline = time.monotonic() + KILL_SECONDS
    while (left := _strays(before)) and time.monotonic() < deadline:
        for stray in left:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.kill(stray.pid, signal.SIGKILL)
            if stray.parent == os.getpid():
                with contextlib.suppress(ChildProcessError):
                    os.waitpid(stray.pid, os.WNOHANG)
        time.sleep(0.02)


def _signal_group(group: int, number: signal.Signals) -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(group, number)
