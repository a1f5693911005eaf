"""Checks and measures on a GPU all that says GPU, within minutes; the last line is one JSON object.

    cd submission && python -m benchmark.gpu

Each part is a process of its own with a share of the time; what it found is in OUT/<part>.json as soon as it is found.
A part that fails or is cut off stops none of the others. Needs torch, transformers, safetensors, numpy, Pillow, PyYAML
and pydantic; for parts learning and co2 accelerate, peft and tensorboard, too. Exit code 1: something is wrong.
"""

from __future__ import annotations

import argparse
import contextlib
import importlib
import importlib.util
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
import traceback
from pathlib import Path

HERE = Path(__file__).resolve().parent
SUBMISSION = HERE.parents[1]
OUT = SUBMISSION.parent / "build" / "gpu-check"
SUMMARY = "summary.json"
LEAST_SECONDS = 5.0  # a part with less would not even import torch
STAND_IN = HERE / "standin"  # on PYTHONPATH where YouTokenToMe lacks
#: In the order of what matters most, with the share of the time that each may take.
PARTS = {"right": 0.25, "fast": 0.35, "whole": 0.35, "learning": 0.25, "co2": 0.12}


def main() -> int:
    options = parse_arguments()
    if importlib.util.find_spec("youtokentome") is None:
        known = os.environ.get("PYTHONPATH")
        os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, (known, str(STAND_IN))))
        os.execv(sys.executable, [sys.executable, "-m", "benchmark.gpu", *sys.argv[1:]])  # this process anew, with it
    if options.part:
        return run_part(options)
    if options.device != "cpu" and not _has_cuda():
        print("torch finds no GPU that it can use; --device cpu tries the script itself", file=sys.stderr)
        return 2
    options.out.mkdir(parents=True, exist_ok=True)
    (options.out / SUMMARY).unlink(missing_ok=True)
    started, found = time.monotonic(), []
    begun = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
    from benchmark.gpu.card import describe
    from benchmark.gpu.report import CUT_OFF, DONE, NOT_RUN, finite, verdict

    for part in options.parts:
        left = 60 * options.minutes - (time.monotonic() - started)
        seconds = min(left, 60 * options.minutes * PARTS[part] * (1.5 if len(options.parts) < len(PARTS) else 1))
        path = options.out / f"{part}.json"
        path.unlink(missing_ok=True)
        error: str | None = "no time was left"
        if seconds >= LEAST_SECONDS:
            print(f"{part}: at most {seconds:.0f} s", flush=True)
            error = _run_process(part, seconds, options)
        nothing = {"part": part, "state": NOT_RUN, "checks": [], "goals": [], "figures": {}, "seconds": 0}
        found.append(json.loads(path.read_text(encoding="utf-8")) if path.exists() else nothing)
        if error is not None and found[-1]["state"] in (CUT_OFF, NOT_RUN):
            found[-1].setdefault("error", error)
        print(verdict(found[-1]), flush=True)
    wrong = [f for f in found if f["state"] != DONE or not all(check["holds"] for check in f["checks"])]
    summary = {
        "begun": begun, "small": options.small, "card": describe(options.device), "seconds": time.monotonic() - started,
        "parts": [{"part": f["part"], "state": f["state"], "verdict": verdict(f)} for f in found],
        "wrong": [check for f in found for check in f["checks"] if not check["holds"]],
        "goals": [goal for f in found for goal in f["goals"]],
    }  # fmt: skip
    text = json.dumps(finite(summary), ensure_ascii=False)
    (options.out / SUMMARY).write_text(text + "\n", encoding="utf-8")
    print(text)
    return 1 if wrong else 0


def _has_cuda() -> bool:
    import torch

    return torch.cuda.is_available()


def _run_process(part: str, seconds: float, options: argparse.Namespace) -> str | None:
    """Runs a part; what it started, and what it wrote beside its findings, ends with it. Returns what went wrong."""
    command = [sys.executable, "-m", "benchmark.gpu", "--part", part, "--seconds", str(seconds)]
    command += ["--out", str(options.out), "--device", options.device] + ["--small"] * options.small
    with tempfile.TemporaryDirectory(prefix="gpu-check-") as temporary:
        environment = os.environ | {"TMPDIR": temporary}
        process = subprocess.Popen(command, cwd=SUBMISSION, env=environment, start_new_session=True)
        try:
            code = process.wait(seconds)
            return f"exit code {code}" if code else None
        except subprocess.TimeoutExpired:
            return f"cut off after {seconds:.0f} s"
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def parse_arguments() -> argparse.Namespace:
    """The options of the command line."""
    parser = argparse.ArgumentParser(
        prog="benchmark.gpu", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--parts", type=_parts, default=list(PARTS), metavar="NAMES",
                        help=f"some of {','.join(PARTS)}, in this order (default: all)")  # fmt: skip
    parser.add_argument("--minutes", type=float, default=8.0, help="for all parts together (default: %(default)s)")
    parser.add_argument("--device", choices=("cuda", "cpu"), default="cuda", help="cpu tries the script itself")
    parser.add_argument("--small", action="store_true", help="tiny sizes; always with --device cpu")
    parser.add_argument("--out", type=Path, default=OUT, metavar="DIR", help="default: build/gpu-check")
    parser.add_argument("--part", choices=PARTS, help=argparse.SUPPRESS)
    parser.add_argument("--seconds", type=float, help=argparse.SUPPRESS)
    options = parser.parse_args()
    options.small |= options.device == "cpu"
    options.out = options.out.resolve()
    return options


def _parts(text: str) -> list[str]:
    names = text.split(",")
    unknown = [name for name in names if name not in PARTS]
    if unknown:
        raise argparse.ArgumentTypeError(f"{', '.join(unknown)}: unknown; allowed are {', '.join(PARTS)}")
    return [name for name in PARTS if name in names]


def run_part(options: argparse.Namespace) -> int:
    """One part in this process. Whatever it raises is kept in its file."""
    from benchmark.gpu.report import FAILED, Report

    for variable in ("HF_HUB_OFFLINE", "HF_HUB_DISABLE_PROGRESS_BARS"):
        os.environ.setdefault(variable, "1")
    report = Report(options.part, options.out / f"{options.part}.json", options.seconds)
    try:
        importlib.import_module(f"benchmark.gpu.{options.part}").run(report, options.device, options.small)
    except Exception as error:  # of the driver, of torch, of a package that lacks: other parts may still run
        traceback.print_exc()
        report.end(FAILED, " ".join(f"{type(error).__name__}: {error}".split())[:500])
        return 1
    report.end()
    return 0


if __name__ == "__main__":
    sys.exit(main())
