"""Runs on the nodes of a Ray cluster. Ray starts and ends processes, gives them GPUs and tells when a node is gone;
which run goes to which node is decided here, and whether one is tried again is the ledger's affair.
"""

import contextlib
import logging
import socket
import time
from collections import Counter
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

import ray
from ray.exceptions import RayError, RayTaskError, TaskCancelledError
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from evaluator.core.errors import DataError
from evaluator.core.verdict import BAD_IMAGE
from evaluator.metrics import assets
from evaluator.sandbox import record
from evaluator.season.config import Season, utc_now
from evaluator.season.ledger import Job, RunEnd
from evaluator.season.node import RemoteRun, has_image, work
from evaluator.season.runs import (
    MAX_FAILURES,
    STOP_SECONDS,
    Failures,
    Host,
    Lost,
    Run,
    call,
    failed,
    is_infrastructure_failure,
)
from evaluator.season.store import Store, open_shared

logger = logging.getLogger(__name__)

LOOK_SECONDS = 1.0  # between looks at the nodes
SILENT_SECONDS = 60.0  # of a node that lost a run: Ray knows it for dead when it has missed some health checks
MARGIN_SECONDS = 10.0  # for Ray, on top of what a run has to stop
CONNECT_SECONDS = 5.0
FETCHERS = 4  # results that are fetched at a time
FETCH_SECONDS = 120.0  # that a result waits for its files; then it counts without them
ASK_SECONDS = 60.0  # for nodes to say whether they have an image


@dataclass
class _Node:
    """A node that is up, and for how many runs at a time."""

    place: Host
    size: int


class RayRuns:
    """Runs on the cluster at `address`, at most so many at a time, or as many as there are GPUs and CPUs for.

    A node with `MAX_FAILURES` infrastructure failures in a row, as `Failures` counts them, gets nothing more; one with
    fewer rests for a while, and is the last to be taken. Where failures in a row are of as many nodes and teams, the
    cause is common, and nothing more is started.

    Raises `DataError` where there is no cluster, or data or storage cannot be used.
    """

    def __init__(self, season: Season, address: str, most: int | None, say: Callable[[str], None]) -> None:
        self._season, self._most, self._say = season, most, say
        self._store, self._shared = Store(season.folder), open_shared(season)
        self._key = record.read_key(season.key_file) if season.key_file else None
        self._code = record.code_digest()
        self._assets = assets.recorded() if season.assets is None else None
        paths = [*season.data.values(), *filter(None, [season.competition.folder, season.assets, season.ruwordnet])]
        try:
            self._bundles = {path.resolve(): self._shared.publish(path.resolve()) for path in paths}
        except OSError as error:
            raise DataError(f"[storage] url {self._shared.shown}: {error}") from None
        _check_answers(address)
        try:
            ray.init(address=address, log_to_driver=False, logging_level=logging.ERROR)
        except (ConnectionError, ValueError, RuntimeError, RayError) as error:
            raise DataError(f"--ray {address}: {' '.join(str(error).split())}") from None
        # A process for each run: what is left of one, such as an interrupt that came late, cannot meet the next.
        self._work = ray.remote(max_retries=0, max_calls=1)(work)
        self._has_image = ray.remote(max_retries=0, num_cpus=0)(has_image)
        self._fetchers, self._askers = ThreadPoolExecutor(FETCHERS), ThreadPoolExecutor(FETCHERS)
        self._nodes: dict[str, _Node] = {}
        self._runs: list[_RayRun] = []
        self._unfit: set[str] = set()  # nodes that are up and lack GPUs
        self._failures = Failures()
        self._rests_until: dict[str, tuple[float, datetime]] = {}  # monotonic, and as people have it
        # Since the last good end: nodes with a failure, and teams.
        self._suspects: set[str] = set()
        self._suspect_teams: set[str] = set()
        # A run in a container that is to have GPUs waits for them, whatever the nodes that are up have. Where code is
        # trusted and there was no GPU yet, it goes without, as on one machine.
        self._gpus = season.limits.gpus if season.runner != "local" else 0
        self._cpus = season.limits.cpus
        self._next_look = 0.0

    @property
    def broken(self) -> bool:
        """As `Runs.broken`."""
        all_bad = bool(self._nodes) and all(self._failures.is_out(id, len(self._nodes)) for id in self._nodes)
        return all_bad or min(len(self._suspects), len(self._suspect_teams)) >= MAX_FAILURES

    @property
    def set_aside(self) -> frozenset[str]:
        """As `Runs.set_aside`."""
        return self._failures.set_aside

    def room(self) -> Host | None:
        """As `Runs.room`: the node with the fewest failures of those that have room."""
        self._look()
        self._runs = [run for run in self._runs if not run.gone()]
        if self._most is not None and len(self._runs) >= self._most:
            return None
        used = Counter(run.place.id for run in self._runs)
        fit = [id for id, node in self._nodes.items() if used[id] < node.size and not self._is_out(id)]
        best = min(fit, key=lambda id: (len(self._failures.at(id)), used[id] / self._nodes[id].size), default=None)
        return None if best is None else self._nodes[best].place

    def why_no_room(self) -> str:
        """As `Runs.why_no_room`: of each node why it gets nothing."""
        if not self._nodes:
            return "no node that is up has room for a run"
        lines = []
        for id, node in self._nodes.items():
            if self._failures.is_out(id, len(self._nodes)):
                lines.append(f"node {node.place.name} gets nothing more after its failures")
            elif until := self._rests(id):
                at = f"{until.astimezone(self._season.zone):%Y-%m-%d %H:%M:%S}"
                lines.append(f"node {node.place.name} rests until {at} after a failure")
        return "; ".join(lines)

    def start(self, job: Job, place: Host) -> Run:
        """As `Runs.start`."""
        self._store.clear(job.run)
        its_call = call(self._season, self._store, job).resolved()
        if its_call.data not in self._bundles:  # of a test set that came in mid-season
            self._bundles[its_call.data] = self._shared.publish(its_call.data)
        needed = {its_call.data, *filter(None, [its_call.competition_folder, its_call.assets, its_call.ruwordnet])}
        bundles = {path: digest for path, digest in self._bundles.items() if path in needed}
        storage = self._season.storage or str(self._season.folder)
        task = RemoteRun(
            job.run, job.submission.digest, its_call, bundles, storage, self._key, self._code, self._assets, self._gpus
        )
        reference = self._work.options(
            num_cpus=self._cpus,
            num_gpus=self._gpus,
            scheduling_strategy=NodeAffinitySchedulingStrategy(place.id, soft=False),
            name=f"run {job.run}: submission {job.submission.id}",
        ).remote(task)
        image = job.submission.image
        run = _RayRun(
            reference, place, self._fetch(job.run), lambda: self._askers.submit(self._elsewhere, image, place)
        )
        self._runs.append(run)
        return run

    def entered(self, job: Job, place: Host, end: RunEnd | Lost) -> None:
        """As `Runs.entered`."""
        if not is_infrastructure_failure(end):
            self._suspects.clear()
            self._suspect_teams.clear()
            self._failures.end_row(job.submission, place.id)
            self._rests_until.pop(place.id, None)
            return
        was_broken, was_out = self.broken, self._failures.is_out(place.id, len(self._nodes))
        if line := self._failures.add(job.submission, place.id, len(self._nodes)):
            self._say(line)
        if isinstance(end, Lost) or self._failures.at(place.id):
            rest = SILENT_SECONDS if isinstance(end, Lost) else self._season.retry_seconds
            self._rests_until[place.id] = time.monotonic() + rest, utc_now() + timedelta(seconds=rest)
        if self._failures.is_out(place.id, len(self._nodes)) and not was_out and place.id in self._nodes:
            self._say(
                f"node {place.name}: infrastructure failures in a row, and not of one team's submissions: nothing more"
                " is started there until Ray is started anew on it"
            )
        if isinstance(end, RunEnd):
            self._suspects.add(place.id)
            self._suspect_teams.add(job.submission.team)
        if self.broken and not was_broken:
            self._say("only infrastructure failures, whatever the node: nothing more is started")

    def close(self) -> None:
        """Leave the cluster; runs that are still there end."""
        self._fetchers.shutdown(wait=False, cancel_futures=True)  # what is wanted has come, or its time is over
        self._askers.shutdown(wait=False, cancel_futures=True)
        ray.shutdown()

    def _is_out(self, id: str) -> bool:
        """Whether a node gets nothing, for good or for now."""
        return self._failures.is_out(id, len(self._nodes)) or self._rests(id) is not None

    def _rests(self, id: str) -> datetime | None:
        """Until when a node rests."""
        until, shown = self._rests_until.get(id, (0.0, None))
        return shown if time.monotonic() < until else None

    def _look(self) -> None:
        """See which nodes are up, and say what changed."""
        if time.monotonic() < self._next_look:
            return
        self._next_look = time.monotonic() + LOOK_SECONDS
        alive = [node for node in ray.nodes() if node["Alive"]]
        if any(node["Resources"].get("GPU") for node in alive):
            self._gpus = self._season.limits.gpus
        found, unfit = {}, {}
        for node in alive:
            resources = node["Resources"]
            size = int(resources.get("CPU", 0) // self._cpus)
            if size and "memory" in resources:  # one run may have all of it, as on one machine
                size = min(size, max(1, int(resources["memory"] // self._season.limits.memory)))
            if size and self._gpus:
                size = min(size, int(resources.get("GPU", 0) // self._gpus))
                if not size:
                    unfit[node["NodeID"]] = node["NodeName"]
            if size:
                found[node["NodeID"]] = _Node(Host(node["NodeID"], node["NodeName"]), size)
        for id in unfit.keys() - self._unfit:
            self._say(
                f"node {unfit[id]} gets nothing, as it has fewer than {self._gpus} GPUs; with `gpus = 0` in [limits]"
                " runs go without"
            )
        self._unfit = set(unfit)
        for id in self._nodes.keys() - found.keys():
            self._say(f"node {self._nodes[id].place.name} is gone")
        for id in found.keys() - self._nodes.keys():
            self._say(f"node {found[id].place.name} is up: {found[id].size} runs at a time")
        self._nodes = found

    def _fetch(self, run: int) -> "Callable[[], Future[None]] | None":
        """How a run's results come into the season's folder; None where they are there."""
        if self._season.storage is None:
            return None
        return lambda: self._fetchers.submit(self._bring, run)

    def _elsewhere(self, image: str, place: Host) -> str | None:
        """The name of another node, where runs may use the image."""
        asked = {}
        for node in self._nodes.values():
            if node.place.id != place.id:
                there = NodeAffinitySchedulingStrategy(node.place.id, soft=False)
                reference = self._has_image.options(scheduling_strategy=there).remote(image, self._season.limits)
                asked[reference] = node.place.name
        answered = ray.wait(list(asked), num_returns=len(asked), timeout=ASK_SECONDS)[0] if asked else []
        for reference in answered:
            with contextlib.suppress(RayError):  # the node is gone
                if ray.get(reference):
                    return asked[reference]
        return None

    def _bring(self, run: int) -> None:
        try:
            self._shared.bring(run, self._store.run(run))
        except OSError as error:
            self._say(f"run {run}: its files stay in {self._shared.shown}: {error}")


def _check_answers(address: str) -> None:
    """Ray itself looks for a cluster for minutes."""
    if address == "auto":
        return
    host, _, port = address.rpartition(":")
    try:
        socket.create_connection((host.strip("[]"), int(port)), CONNECT_SECONDS).close()
    except (OSError, ValueError, OverflowError) as error:
        raise DataError(f"--ray {address}: must be `auto` or a Ray head's host:port; {error}") from None


class _RayRun:
    """`elsewhere` finds another node that has the run's image."""

    def __init__(
        self,
        reference: Any,
        place: Host,
        fetch: "Callable[[], Future[None]] | None",
        elsewhere: "Callable[[], Future[str | None]]",
    ) -> None:
        self.place = place
        self._reference, self._fetch, self._elsewhere = reference, fetch, elsewhere
        self._future: Future[RunEnd] = reference.future()
        self._fetched: Future[None] | None = None
        self._fetched_by = 0.0
        self._found: Future[str | None] | None = None
        self._told = 0.0  # to stop
        self._killed = False

    def end(self) -> RunEnd | Lost | None:
        if not self._future.done():
            return None
        error = self._future.exception()
        if error is None:
            if self._fetch is not None and self._fetched is None:
                self._fetched, self._fetched_by = self._fetch(), time.monotonic() + FETCH_SECONDS
            if self._fetched is not None and not self._fetched.done():
                if time.monotonic() < self._fetched_by:
                    return None
                logger.warning("a run's files have not come from the storage in time; its end is entered without them")
            return self._checked(self._future.result())
        lines = str(error).strip().splitlines() or [""]
        if isinstance(error, RayError) and not isinstance(error, RayTaskError | TaskCancelledError):
            return Lost(f"{type(error).__name__}: {lines[0].partition('. ')[0]}")
        return failed(f"no work is done{self.place}: {lines[-1]}")  # a traceback's last line

    def _checked(self, end: RunEnd) -> RunEnd | None:
        """The run's end, but an infrastructure failure where an image is found bad that another node has; None until
        others have been asked.
        """
        if end.verdict != BAD_IMAGE.name:
            return end
        if self._found is None:
            self._found = self._elsewhere()
        if not self._found.done():
            return None
        if self._found.exception() is not None:
            return failed(f"nobody knows whether the image is{self.place} alone bad: {self._found.exception()}")
        name = self._found.result()
        return end if name is None else failed(f"the image is bad or missing{self.place}, and good on {name}")

    def stop(self) -> None:
        self._told = time.monotonic()
        ray.cancel(self._reference, force=False)

    def gone(self) -> bool:
        if self._future.done() or not self._told:
            return self._future.done()
        late = time.monotonic() - self._told - STOP_SECONDS - MARGIN_SECONDS
        if late > 0 and not self._killed:
            self._killed = True
            ray.cancel(self._reference, force=True)  # its process, and the evaluator with it
        return late > MARGIN_SECONDS  # the node does not answer
