"""Times run.py beside busy neighbours, with several numbers of threads and spins; the last line is one JSON object.

    cd submission && python -m benchmark.neighbour --rounds 3

OpenMP's threads wait for each other at the end of every parallel part, first by spinning, `GOMP_SPINCOUNT` times. Where
another process has the CPU that the other thread needs, spinning takes it longer to get there. Policies take turns in
each round, so that what else happens on the machine meets all of them; shown are medians, and their ratio to the quiet
time of `default`, which is what libgomp does without being told. `chosen` is what `cores.py` chooses.
"""

import argparse
import contextlib
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

SUBMISSION = Path(__file__).resolve().parents[1]
SAMPLE_INPUT = SUBMISSION.parent / "sample_input"
CPUS = sorted(os.sched_getaffinity(0))
THREADS = {"OMP_NUM_THREADS": str(len(CPUS))}
#: What each policy has in the environment.
POLICIES = {
    "chosen": {},
    "default": THREADS | {"GOMP_SPINCOUNT": "300000"},
    "spin 10000": THREADS | {"GOMP_SPINCOUNT": "10000"},
    "spin 1000": THREADS | {"GOMP_SPINCOUNT": "1000"},
    "no spin": THREADS | {"GOMP_SPINCOUNT": "0"},
    "one thread": {"OMP_NUM_THREADS": "1"},
}
SITUATIONS = ("quiet", "neighbour", "two", "one cpu")
BUSY = "while True: pass"


def main() -> None:
    parser = argparse.ArgumentParser(prog="benchmark.neighbour", description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=3, help="times that each is measured (default: %(default)s)")
    parser.add_argument("--every", type=int, default=3, metavar="N", help="of the examples (default: %(default)s)")
    parser.add_argument("--policy", action="append", choices=POLICIES, help="may be repeated (default: all)")
    parser.add_argument("--situation", action="append", choices=SITUATIONS, help="may be repeated (default: all)")
    options = parser.parse_args()
    policies, situations = options.policy or list(POLICIES), options.situation or list(SITUATIONS)
    seconds: dict[str, dict[str, list[float]]] = {s: {p: [] for p in policies} for s in situations}
    with tempfile.TemporaryDirectory(prefix="neighbour-") as place:
        examples = json.loads((SAMPLE_INPUT / "input.json").read_text(encoding="utf-8"))
        asked = {id: entries for number, (id, entries) in enumerate(examples.items()) if number % options.every == 0}
        (Path(place) / "input.json").write_text(json.dumps(asked, ensure_ascii=False), encoding="utf-8")
        (Path(place) / "images").symlink_to(SAMPLE_INPUT / "images")
        for _ in range(options.rounds):
            for situation in situations:
                for policy in policies:
                    seconds[situation][policy].append(measure(Path(place), situation, POLICIES[policy]))
                    print(f"{situation:<10} {policy:<11} {seconds[situation][policy][-1]:7.2f} s", flush=True)
    medians = {s: {p: statistics.median(times) for p, times in row.items()} for s, row in seconds.items()}
    base = medians.get("quiet", {}).get("default")
    print(f"\n{'':<11}" + "".join(f"{situation:>18}" for situation in situations))
    for policy in policies:
        cells = [medians[s][policy] for s in situations]
        shown = (f"{cell:9.2f} s {f'{cell / base:5.2f} x' if base else '':>7}" for cell in cells)
        print(f"{policy:<11}" + "".join(shown))
    print(json.dumps({"cpus": len(CPUS), "examples": len(asked), "seconds": seconds, "medians": medians}))


def measure(place: Path, situation: str, policy: dict[str, str]) -> float:
    """Seconds of one run.py on `place`, of two at a time those of the slower one."""
    own = ("OMP_", "GOMP_", "KMP_")
    environment = {name: value for name, value in os.environ.items() if not name.startswith(own)} | policy
    with contextlib.ExitStack() as stack:
        if situation == "neighbour":
            stack.enter_context(busy_neighbour())
            time.sleep(0.5)
        started = time.monotonic()
        runs = [
            stack.enter_context(started_run(place, number, environment, situation == "one cpu"))
            for number in range(2 if situation == "two" else 1)
        ]
        for run in runs:
            if run.wait() != 0:
                raise SystemExit(f"run.py ended with exit code {run.returncode}")
        return time.monotonic() - started


@contextlib.contextmanager
def started_run(
    place: Path, number: int, environment: dict[str, str], one_cpu: bool
) -> Iterator[subprocess.Popen[bytes]]:  # fmt: skip
    """A run.py on all CPUs or on one, killed if it has not ended by then."""
    with tempfile.TemporaryDirectory(dir=place, prefix=f"output-{number}-") as output:
        command = [sys.executable, "run.py", "--input", str(place), "--output", output, "--device", "cpu"]
        with subprocess.Popen(
            command, cwd=SUBMISSION, env=environment, stderr=subprocess.DEVNULL,
            preexec_fn=(lambda: os.sched_setaffinity(0, CPUS[:1])) if one_cpu else None,
        ) as process:  # fmt: skip
            try:
                yield process
            finally:
                process.kill()


@contextlib.contextmanager
def busy_neighbour() -> Iterator[None]:
    """A process that keeps one CPU busy, for as long as the block lasts."""
    with subprocess.Popen([sys.executable, "-c", BUSY]) as process:
        try:
            yield
        finally:
            process.kill()


if __name__ == "__main__":
    main()
