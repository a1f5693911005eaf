"""What will go wrong in a season, said before its first day: a line for each thing, with its fix.

`ok` is as it should be, `warning` may not be meant, `failure` will stop runs or uploads, charge teams wrongly, or show
what they must not see.
"""

import ipaddress
import shutil
import tempfile
from collections.abc import Iterator, Mapping, Sequence, Set
from dataclasses import asdict, dataclass
from datetime import datetime, time, timedelta
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from evaluator.core.errors import DataError, show
from evaluator.core.gpus import find as find_gpus
from evaluator.core.text import gigabytes
from evaluator.data import contracts, dataset
from evaluator.data.dataset import Data, Example
from evaluator.metrics import assets
from evaluator.metrics.base import Resource
from evaluator.metrics.encoders import ENCODERS
from evaluator.metrics.nano import NanoEncoders
from evaluator.sandbox import docker, doctor, record
from evaluator.scoring import score
from evaluator.season import PRIVATE, PUBLIC, clock
from evaluator.season.config import Season, read_season, utc_now
from evaluator.season.database import open_database
from evaluator.season.ledger import Ledger, shown_labels
from evaluator.season.runs import machine_gpus, runs_at_a_time

OK, WARNING, FAILURE = "ok", "warning", "failure"
EXAMPLES = 3  # of what two test sets share, that are named
CLOCK_SECONDS = 5.0  # that this machine and the database's may differ by
# What no run can do with less of: a Python that starts, a ZIP and its output.
LEAST_LIMITS: Mapping[str, tuple[float, str]] = {
    "memory": (100e6, "bytes"),
    "cpus": (0.1, "CPUs"),
    "time": (10.0, "s"),
    "archive": (1000, "bytes"),
    "unpacked": (1000, "bytes"),
    "image": (5e6, "bytes"),
    "pids": (4, "processes and threads"),
    "shm": (1e6, "bytes"),
    "tmp": (1e6, "bytes"),
    "output": (1e5, "bytes"),
    "output_files": (2, "files and folders"),
    "log": (1000, "bytes"),
}
# Shorter ones may be meant for a rehearsal.
SHORT_SECONDS = {"lease_seconds": 10.0, "retry_seconds": 10.0}
_DOCTORS = {doctor.OK: OK, doctor.NOTE: WARNING, doctor.FAIL: FAILURE}


@dataclass(frozen=True)
class Line:
    """What was found of `subject`: `state` is OK, WARNING or FAILURE; `fix` is empty where there is nothing to do."""

    state: str
    subject: str
    found: str
    fix: str = ""

    def __str__(self) -> str:
        text = f"{self.state:7}  {self.subject:9}  {self.found}"
        return f"{text}\n{'':20}fix: {self.fix}" if self.fix else text

    def to_json(self) -> dict[str, str]:
        return asdict(self)


def examine(rules: Path, workers: int | None = None) -> Iterator[Line]:
    """Look at all that a season stands on, for so many runs at a time on this machine (None: as `queue run` does by
    itself). Does not raise what is wrong with the season, but gives a line for it, and of what hangs on that none.
    """
    try:
        season = read_season(rules)
    except DataError as error:
        for reason in error.reasons:
            yield Line(FAILURE, "rules", reason, "correct the file; season.example.toml has every key")
        return
    yield Line(OK, "rules", f"{season.name}, competition {season.competition.name}")
    ledger: Ledger | None = None
    try:
        ledger = Ledger(season, open_database(season))
        season = ledger.rules()
        yield Line(OK, "database", ledger.database.shown)
    except DataError as error:
        fix = "python -m evaluator season migrate" if "season migrate" in str(error) else "see what the line says"
        yield Line(FAILURE, "database", str(error), fix)
    states = ledger.states() if ledger else []
    yield from _days(season, ledger.now() if ledger else utc_now(), bool(states))
    if ledger is not None:
        yield from _clock(ledger)
    yield from _limits(season)
    yield from _formula(season)
    sets: dict[str, Data] = {}
    for name in season.data:
        yield from _test_set(season, name, sets, ledger)
    yield from _shared(season, sets)
    yield from _resources(season, sets, ledger)
    yield from _key(season)
    yield from _web(season)
    yield from _room(season, workers)
    yield from _runner(season, {state.submission.image for state in states if state.pending})


def _days(season: Season, now: datetime, begun: bool) -> Iterator[Line]:
    """The days, and what the time zone makes of them; `begun` where something was sent."""
    today = season.day(now)
    days = f"{season.start} to {season.end}, choices until {season.choose_until}"
    if season.choose_until < today and not begun:
        yield Line(FAILURE, "days", f"{days}: all past, today is {today}", "set start, end and choose_until anew")
    elif season.end < today and not begun:
        yield Line(FAILURE, "days", f"{days}: nothing can be sent any more, today is {today}", "set end anew")
    elif season.start < today and not begun:
        yield Line(WARNING, "days", f"{days}: begun, today is {today}, and nothing was sent", "is start meant?")
    elif season.end < today:
        yield Line(OK, "days", f"{days}: submissions are closed, today is {today}")
    else:
        yield Line(OK, "days", f"{days}; a day {season.valid_a_day} valid and {season.invalid_a_day} invalid attempts")
    midnight = season.first_moment(today + timedelta(days=1))
    here = now.astimezone(season.zone)
    found = (
        f"{season.zone}: it is {here:%Y-%m-%d %H:%M} there ({_offset(here)}); attempts are new at midnight,"
        f" {midnight:%Y-%m-%d %H:%M} ({_offset(midnight)})"
    )
    first, last = (datetime.combine(day, time(12), season.zone) for day in (season.start, season.choose_until))
    if first.utcoffset() != last.utcoffset():
        yield Line(WARNING, "zone", f"{found}; the clock there is changed during the season", "say it to the teams")
    else:
        yield Line(OK, "zone", found)


def _offset(moment: datetime) -> str:
    return f"UTC{moment.isoformat()[-6:]}"


def _clock(ledger: Ledger) -> Iterator[Line]:
    """The clock that everything is entered by: the database's, which SQLite has of this machine."""
    times = clock.read_times(ledger)
    apart = 0.0 if ledger.database.sqlite else abs((utc_now() - times.now).total_seconds())
    if times.behind:
        yield Line(FAILURE, "clock", clock.behind_line(times), "set it right (timedatectl, on the database's machine)")
    elif apart > CLOCK_SECONDS:
        found = f"the database's is {apart:.0f} s apart from this machine's; days and leases go by the database's"
        yield Line(WARNING, "clock", found, "have both follow one time server (timedatectl)")
    else:
        whose = "this machine's" if ledger.database.sqlite else "the database's"
        yield Line(OK, "clock", f"{whose}, {times.now:%Y-%m-%d %H:%M:%S} UTC")


def _limits(season: Season) -> Iterator[Line]:
    """Limits and times that cannot be meant."""
    is_fine = True
    for name, (least, unit) in LEAST_LIMITS.items():
        value = getattr(season.limits, name)
        if value < least:
            is_fine = False
            found = f"[limits] {name} is {value:g} {unit}, with which no run can end well"
            fix = f'at least {least:.12g}; was a unit forgotten, as in memory = "100GB"?'
            yield Line(FAILURE, "limits", found, fix)
    for name, seconds in SHORT_SECONDS.items():
        value = getattr(season, name)
        if value < seconds:
            is_fine = False
            found = f"[runs] {name} is {value:g} s"
            if name == "lease_seconds":
                found += ": a worker that is busy or cut off for so long loses its runs"
            else:
                found += ": all tries of a run end within seconds, whatever is being mended"
            yield Line(WARNING, "limits", found, f"the default is {Season.model_fields[name].default:g}")
    if is_fine:
        changed = season.limits.differences(season.competition.limits)
        yield Line(OK, "limits", "; ".join(changed) or "the competition's")


def _formula(season: Season) -> Iterator[Line]:
    """Baseline and thresholds beside the weights."""
    names = season.competition.names
    is_fine = True
    if missing := sorted(season.weights.keys() - season.baseline.keys()):
        is_fine = False
        which = ", ".join(names[task] for task in missing)
        fix = "state it in [baseline]: the prize for the most sustainable solution needs the total"
        yield Line(WARNING, "formula", f"no baseline of {which}, which have weight", fix)
    above = [task for task, least in season.thresholds.items() if season.baseline.get(task, least) < least]
    if above:
        is_fine = False
        which = ", ".join(f"{names[task]} {season.baseline[task]:g} < {season.thresholds[task]:g}" for task in above)
        yield Line(WARNING, "formula", f"the baseline misses thresholds: {which}", "are both meant?")
    total = sum(season.weights.values())
    if abs(total - 1) > 1e-9:
        is_fine = False
        yield Line(WARNING, "formula", f"the weights add up to {total:g}, not to 1", "is it meant?")
    if is_fine:
        yield Line(OK, "formula", f"{len(season.weights)} tasks have weight")


def _test_set(season: Season, name: str, sets: dict[str, Data], ledger: Ledger | None) -> Iterator[Line]:
    """A test set by itself, and beside the results that were made with it; it is added to `sets`."""
    try:
        data = contracts.read_data(season.data[name], season.competition)
    except DataError as error:
        yield Line(FAILURE, name, str(error), "correct the data, or [data] where they lie")
        return
    sets[name] = data
    tasks, digest = {example.task.number for example in data.examples}, dataset.data_digest(data)
    found = f"{len(data.examples)} examples of {len(tasks)} tasks, digest {digest}"
    edition = ledger.edition(name) if ledger else None
    if missing := sorted(season.weights.keys() - tasks):
        which = ", ".join(map(str, missing))
        fix = "add examples, or give the task no weight in [formula]"
        yield Line(FAILURE, name, f"{season.data[name]} has no examples of task {which}", fix)
    if edition is not None and edition.data_digest != digest:
        found += f"; results so far were made with {edition.data_digest}"
        yield Line(FAILURE, name, found, "put the data back as they were, or `season rescore` with the new ones")
    else:
        yield Line(OK, name, found)


def _shared(season: Season, sets: Mapping[str, Data]) -> Iterator[Line]:
    """What the public test set, which teams learn from, has in common with the others."""
    public = sets.get(PUBLIC)
    for name, data in sets.items():
        if name == PUBLIC or public is None:
            continue
        both = f"{PUBLIC} and {name}"
        if data.root == public.root:
            yield Line(FAILURE, both, f"are the same folder, {data.root}", f"give {name} examples of its own")
            continue
        asked = {_asked(public, example): example.id for example in public.examples}
        same = [example.id for example in data.examples if _asked(data, example) in asked]
        ids = {example.id for example in public.examples} & {example.id for example in data.examples}
        if same:
            found = f"{len(same)} of {len(data.examples)} {name} examples ask what a {PUBLIC} one does: {_some(same)}"
            state = FAILURE if name == PRIVATE else WARNING
            yield Line(state, both, found, "take them out of one: who fits the public ones has the private ones")
        if ids:
            found = f"{len(ids)} ids are in both: {_some(sorted(ids))}"
            yield Line(WARNING, both, found, "harmless unless a program tells the sets apart by them; number on")
        if not same and not ids:
            yield Line(OK, both, "have no id and no example in common")


def _asked(data: Data, example: Example) -> tuple[object, ...]:
    """What an example asks, whatever it is called."""
    inputs = ((one.type, data.files[one.content] if one.type == "image" else one.content) for one in example.inputs)
    return (example.task.number, *inputs)


def _some(ids: Sequence[str]) -> str:
    return ", ".join(map(show, ids[:EXAMPLES])) + (", ..." if len(ids) > EXAMPLES else "")


def _resources(season: Season, sets: Mapping[str, Data], ledger: Ledger | None) -> Iterator[Line]:
    """What stands in for encoders and RuWordNet, which the first result of a test set pins for all of its."""
    needed = {
        name: {resource for task in data.by_task() for resource in task.metric.requires} for name, data in sets.items()
    }
    folder = season.assets or assets.FOLDER
    try:
        labels = _labels(season, folder, set().union(*needed.values()))
    except DataError as error:
        yield Line(FAILURE, "assets", str(error), "make assets, then make assets-check")
        return
    if not any(needed.values()):
        yield Line(OK, "assets", "the metrics need none")
    elif not labels:
        yield Line(OK, "assets", f"the leaderboard's, in {folder}")
    unpinned: dict[str, tuple[str, ...]] = {}
    for name, resources in needed.items():
        found = tuple(sorted({labels[resource] for resource in resources if resource in labels}))
        edition = ledger.edition(name) if ledger else None
        if edition is None:
            unpinned |= {name: found} if found else {}
        elif edition.labels != found:
            said = f"{name} results so far have {shown_labels(edition.labels)}, a run here has {shown_labels(found)}"
            yield Line(FAILURE, "assets", said, f"put the assets back, or `season rescore --test-set {name}`")
        elif found:
            yield Line(OK, "assets", f"{'; '.join(found)}: as {name} results so far")
    if unpinned:
        said = "; ".join(sorted(set().union(*unpinned.values())))
        fix = "make assets, before the first run; later `season rescore` changes it"
        yield Line(WARNING, "assets", f"{said}; the first result of {' and '.join(unpinned)} pins that for all", fix)


def _labels(season: Season, folder: Path, needed: Set[Resource[Any]]) -> dict[Resource[Any], str]:
    """The labels of what stands in for resources. Raises `DataError` for assets that are not what they should be."""
    resources = score.find_resources(season.ruwordnet, season.assets)
    labels = {resource: resources.label(resource) for resource in needed if resource.small}
    if ENCODERS in needed:  # not loaded: two gigabytes
        checks = assets.inspect(folder, assets.ENCODERS)
        if changed := [one.reason for one in checks if one.state is assets.AssetState.CHANGED]:
            raise DataError(changed)
        if any(one.state is not assets.AssetState.VERIFIED for one in checks):
            labels[ENCODERS] = NanoEncoders.label
    return {resource: label for resource, label in labels.items() if label}


def _key(season: Season) -> Iterator[Line]:
    """What records are signed with."""
    if season.key_file is None:
        found = "no [runs] key_file: nobody can tell whether records of runs were made anew"
        yield Line(WARNING, "key", found, "openssl rand -hex 32 > record.key")
        return
    try:
        record.read_key(season.key_file)
        yield Line(OK, "key", str(season.key_file))
    except DataError as error:
        yield Line(FAILURE, "key", str(error), f"openssl rand -hex 32 > {season.key_file}")


def _web(season: Season) -> Iterator[Line]:
    """Where the season is served, and whether there is room for uploads."""
    if season.web_url is None:
        return
    free, folder = shutil.disk_usage(season.folder).free, season.folder
    if free < season.keep_free_gb * 1e9:
        kept = gigabytes(season.keep_free_gb * 1e9)
        found = f"{gigabytes(free)} free at {folder}, less than [web] keep_free_gb, {kept}: no upload is taken"
        yield Line(FAILURE, "web", found, "free some, or set it lower")
    if season.web_url.startswith("http://") and not _is_near(urlsplit(season.web_url).hostname or ""):
        found = f"{season.web_url}: tokens and submissions can be read on their way"
        yield Line(WARNING, "web", found, "https://, with a proxy in front")
    else:
        yield Line(OK, "web", season.web_url)


def _is_near(host: str) -> bool:
    """Whether a host is this machine, or one of a private network."""
    try:
        return ipaddress.ip_address(host).is_private
    except ValueError:
        return host == "localhost" or host.endswith((".localhost", ".local", ".internal"))


def _room(season: Season, workers: int | None) -> Iterator[Line]:
    """Whether so many runs at a time fit on this machine."""
    limits, gpus = season.limits, machine_gpus()
    runs = workers or runs_at_a_time(gpus, limits)
    at_a_time = f"{runs} run{'' if runs == 1 else 's'} at a time"
    if gpus and runs * limits.gpus > len(gpus):
        yield Line(FAILURE, "gpus", f"{at_a_time} need {runs * limits.gpus}; there are {len(gpus)}", "fewer --workers")
    elif limits.gpus and not gpus:
        why = find_gpus().absent or "CUDA_VISIBLE_DEVICES names none"
        yield Line(WARNING, "gpus", f"none here ({why}); a run may use {limits.gpus}", "see make doctor")
    memory, cpus = doctor.machine_size()
    for subject, there, wanted, text in (
        ("memory", memory, limits.memory, f"{gigabytes(memory)}; {at_a_time} may use {gigabytes(limits.memory)} each"),
        ("cpus", cpus, limits.cpus, f"{cpus}; {at_a_time} may use {limits.cpus:g} each"),
    ):
        enough = there >= runs * wanted
        yield Line(OK if enough else WARNING, subject, text, "" if enough else "fewer --workers, or lower [limits]")
    temporary = Path(tempfile.gettempdir())
    for folder, room, what, fix in (
        (temporary, runs * (limits.unpacked + limits.output), at_a_time, "set TMPDIR to a folder of a larger disk"),
        (season.folder, limits.archive, "one more submission", "free some; each ZIP is kept"),
    ):
        free = shutil.disk_usage(folder).free
        text = f"{gigabytes(free)} free at {folder}; {what} may take {gigabytes(room)}"
        yield Line(OK if free >= room else WARNING, "disk", text, "" if free >= room else fix)


def _runner(season: Season, waiting: Set[str]) -> Iterator[Line]:
    """Engine and images, by the season's runner, with those that `waiting` submissions name."""
    if season.runner == "local":
        fix = '[runs] runner = "docker", unless you trust each team with this machine and the truth'
        yield Line(WARNING, "runner", "local: submissions run as you, without a container", fix)
        return
    # A run of "auto" does without the engine, or the image, that is not there.
    worst = WARNING if season.runner == "auto" else FAILURE
    image = season.competition.definition.image
    engine = False
    for one in doctor.examine(image, season.limits):
        if one.subject in ("memory", "cpus", "disk"):  # said for all runs at a time
            continue
        engine = engine or (one.subject, one.state) == ("engine", doctor.OK)
        state = _DOCTORS[one.state]
        if state == FAILURE:
            is_needed = one.subject != "image" or not waiting or image in waiting
            state = worst if is_needed else WARNING
        yield Line(state, one.subject, one.found, one.fix)
    if season.runner == "auto":
        fix = '[runs] runner = "docker" for code of strangers'
        yield Line(WARNING, "runner", "auto: without an engine, or an image, submissions run without a container", fix)
    for name in sorted(waiting - {image}) if engine else ():
        if docker.can_use(name, season.limits):
            yield Line(OK, "image", f"{show(name)}, which waiting submissions name")
            continue
        fix = "docker load it, or the runs end as BAD_IMAGE, which costs their teams an invalid attempt"
        if season.runner == "auto":
            fix = "docker load it, or the runs are without a container"
        yield Line(worst, "image", f"{show(name)}, which waiting submissions name, cannot be used here", fix)
