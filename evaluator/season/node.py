"""A run on a machine of a cluster: fetch what it needs, run the evaluator as everywhere, send what it leaves.

All of it lies below one temporary folder, at the paths that it has where the queue runs; so a record names the same
files there. The folder goes with its process, however that ends.
"""

import logging
import os
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from evaluator.core import leftovers
from evaluator.core.errors import EvaluatorError
from evaluator.core.limits import Limits
from evaluator.metrics import assets
from evaluator.sandbox import record
from evaluator.season.ledger import RunEnd
from evaluator.season.runs import Call, Evaluator, failed, read_end
from evaluator.season.store import RUN_FILES, Damaged, Shared

logger = logging.getLogger(__name__)

POLL_SECONDS = 0.2
LOG_SECONDS = 5.0  # between looks whether evaluator.log has grown
TRIES, WAIT_SECONDS = 5, 1.0  # of the storage; the wait is doubled each time
CACHE_VARIABLE = "FUSIONBRAIN_CACHE"


@dataclass(frozen=True)
class RemoteRun:
    """A run for another machine. `call` has the queue's own paths; `bundles` are digests of those that are copied."""

    run: int
    digest: str
    call: Call
    bundles: Mapping[Path, str]
    storage: str
    key: bytes | None
    code: str  # the digest of the evaluator that the queue has
    assets: Mapping[str, str] | None = None  # what is recorded of the queue's own, where a run uses this machine's own
    gpus: int = 0


def work(task: RemoteRun) -> RunEnd:
    """Run it to its end, good or bad. KeyboardInterrupt stops it, and waits until it has cleaned up."""
    try:
        _patiently(partial(Shared(task.storage).clear, task.run))
        if record.code_digest() != task.code:
            return failed("this machine has another version of the evaluator than the one that the queue runs with")
        if task.assets is not None and (own := assets.recorded()) != task.assets:
            other = sorted(name for name, _ in own.items() ^ task.assets.items())
            return failed(
                "this machine has other assets in evaluator/assets than the queue's machine, where `make assets-check`"
                f" tells: {', '.join(dict.fromkeys(other))}"
            )
        if task.call.runner != "local" and not _has_gpus(task.gpus):
            return failed(f"this machine does not have the {task.gpus} GPUs any more that Ray gives away")
        with leftovers.private_folder("node") as root:
            return _work(task, root)
    except Damaged as error:
        return RunEnd.organizers(str(error), {})
    except (OSError, EvaluatorError) as error:
        return failed(f"{type(error).__name__}: {error}")


def has_image(image: str, limits: Limits) -> bool:
    """Whether runs in containers may use the image on this machine."""
    from evaluator.sandbox import docker

    return docker.can_use(image, limits)


def _has_gpus(count: int) -> bool:
    from evaluator.sandbox import docker

    return docker.has_gpus(count)


def _work(task: RemoteRun, root: Path) -> RunEnd:
    shared, call = Shared(task.storage), _below(task.call, root)
    _patiently(partial(shared.fetch, task.digest, call.archive))
    cache = Path(os.environ.get(CACHE_VARIABLE) or "~/.cache/fusionbrain").expanduser() / "season"
    for path, digest in task.bundles.items():
        _patiently(partial(shared.unpack, digest, cache, _moved(path, root).parent))
    if call.key_file is not None and task.key is not None:
        call.key_file.parent.mkdir(parents=True, exist_ok=True)
        call.key_file.touch(mode=0o600)
        call.key_file.write_bytes(task.key)
    evaluator = Evaluator(call, {})
    log, sent, next_look = call.folder / "evaluator.log", 0, 0.0
    try:
        while (code := evaluator.returncode()) is None:
            if time.monotonic() >= next_look:
                next_look = time.monotonic() + LOG_SECONDS
                if (size := log.stat().st_size) != sent:
                    sent = size
                    _try_to_send(shared, task.run, log)
            time.sleep(POLL_SECONDS)
    except BaseException:
        evaluator.stop()
        while evaluator.returncode() is None:
            time.sleep(POLL_SECONDS)
        _try_to_send(shared, task.run, log)
        raise
    for name in RUN_FILES:
        if (call.folder / name).exists():
            _patiently(partial(shared.send, task.run, call.folder / name))
    return read_end(call.folder, code)


def _try_to_send(shared: Shared, run: int, log: Path) -> None:
    """For whoever looks; the run does not depend on it."""
    try:
        shared.send(run, log)
    except OSError as error:
        logger.warning("%s cannot be sent: %s", log, error)


def _patiently(action: Callable[[], None]) -> None:
    """Do what may fail by the storage's fault, several times if need be: hours of a run should not hang on one."""
    for number in range(TRIES - 1):
        try:
            action()
            return
        except (OSError, Damaged) as error:
            logger.warning("%s; once more", error)
            time.sleep(WAIT_SECONDS * 2**number)
    action()


def _below(call: Call, root: Path) -> Call:
    return call.with_paths(lambda path: _moved(path, root))


def _moved(path: Path, root: Path) -> Path:
    return root / path.relative_to("/")
