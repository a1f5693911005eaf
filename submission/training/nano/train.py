"""Trains `nano`, the default model, from nothing: BPE, VQGAN, then the decoder on all six tasks.

    make train-nano                                                              # every stage
    cd submission && python -m training.nano.train --out … --stage vqgan         # one stage
    torchrun --nproc-per-node 2 -m training.nano.train --out … --stage decoder   # the decoder on more cores

Each stage goes on from its last checkpoint, so an interrupted run is started again with the same command. `ship` writes
the weights that travel with the repository. How many processes share a stage decides which examples each step sees.
"""

from __future__ import annotations

import argparse
import importlib
import logging
import os
import resource
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import cores

if __name__ == "__main__":
    cores.settle()  # before torch is loaded

import torch
import torch.distributed as dist

from rudolph import VQGAN, RudolphConfig, RudolphModel
from rudolph.config import SIZES
from training.carbon import use_steady_clock
from training.nano.bpe import texts, train_bpe
from training.nano.decoder import load_mean, train_decoder
from training.nano.runs import RUNS
from training.nano.vqgan import train_vqgan
from training.processes import exit_now, locked, log_training

log = logging.getLogger("train_nano")

STAGES = ("bpe", "vqgan", "decoder", "ship")
SHIPPED = Path(__file__).resolve().parents[2] / "weights" / "nano"


def run_stage(stage: str, out: Path, shipped: Path) -> None:
    """Runs one stage; `out` holds bpe.model, vqgan/, vqgan-first/ and a folder for each of `RUNS.decoder`."""
    config = RudolphConfig(**SIZES["nano"])
    bpe, vqgan = out / "bpe.model", out / "vqgan"
    if stage == "bpe":
        if not bpe.exists():
            train_bpe(texts(), bpe, config.bpe_vocab_size)
    elif stage == "vqgan":
        if not (vqgan / "model.safetensors").exists():
            first = out / "vqgan-first"
            if not (first / "model.safetensors").exists():
                train_vqgan(first, RUNS.vqgan["first"])
            train_vqgan(vqgan, RUNS.vqgan["second"], first=first)
    elif stage == "decoder":
        for name, training in RUNS.decoder.items():
            if not (out / name / "model.safetensors").exists():
                begin = [out / earlier for earlier in training.begins_with]
                train_decoder(out / name, config, bpe, vqgan, training, begin)
    else:
        ship(out, shipped)


def ship(out: Path, shipped: Path) -> None:
    """Writes the model's folder in half precision: RUDOLPH, `bpe.model` and `vqgan/`."""
    VQGAN.from_pretrained(out / "vqgan").save_pretrained(shipped / "vqgan", dtype=torch.float16)
    ship_model(load_mean([out / name for name in RUNS.shipped]), out / "bpe.model", shipped)


def ship_model(model: RudolphModel, bpe: Path, shipped: Path) -> None:
    """Writes a model in half precision, with its `bpe.model`, into a folder that may have its VQGAN already."""
    model.bfloat16().save_pretrained(shipped)
    shutil.copy(bpe, shipped / "bpe.model")
    log.info("%s: %.1f MB", shipped, sum(f.stat().st_size for f in shipped.rglob("*") if f.is_file()) / 1e6)


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m training.nano.train", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--out", type=Path, default=Path("../build/nano"), help="where checkpoints live")
    parser.add_argument("--shipped", type=Path, default=SHIPPED, help="where `ship` writes")
    parser.add_argument("--stage", choices=STAGES, action="append", help="only this stage (may be repeated)")
    parser.add_argument("--country", default="RU", help="two letters, for the CO2 of its electricity")
    arguments = parser.parse_args()
    log_training()
    if "WORLD_SIZE" in os.environ:
        dist.init_process_group("gloo")
        if dist.get_rank() > 0:
            logging.getLogger().setLevel(logging.WARNING)
    arguments.out.mkdir(parents=True, exist_ok=True)
    with locked(arguments.out):
        for stage in arguments.stage or STAGES:
            with carbon_tracked(arguments.out, stage, arguments.country):
                run_stage(stage, arguments.out, arguments.shipped)
    if dist.is_initialized():
        dist.barrier()
        dist.destroy_process_group()


@contextmanager
def carbon_tracked(out: Path, stage: str, country: str) -> Iterator[None]:
    """Adds a row to `out`/emission.csv by eco2AI, from the first process alone, and logs CPU time beside it.

    eco2AI reads the load of the whole machine at moments; CPU time is what the kernel counted for each process.
    """
    out.mkdir(parents=True, exist_ok=True)
    rank = dist.get_rank() if dist.is_initialized() else 0
    tracker = _tracker(out, stage, country) if rank == 0 else None
    before = _cpu_seconds()
    if tracker is not None:
        tracker.start()
    try:
        yield
    finally:
        if tracker is not None:
            tracker.stop()
        log.warning("%s: %.0f s of CPU time in process %d and its children", stage, _cpu_seconds() - before, rank)


def _tracker(out: Path, stage: str, country: str) -> Any:
    # The submodule by its name: the package exports a function that hides it.
    emission_track: Any = importlib.import_module("eco2ai.emission_track")
    # Both keep a file in site-packages, which may be read-only and is shared; every value it holds is given here.
    emission_track.get_params = dict
    emission_track.set_params = lambda **_: None
    use_steady_clock()
    return emission_track.Tracker(
        project_name="FusionBrain Challenge 2.0", experiment_description=f"nano: {stage}",
        file_name=str(out / "emission.csv"), alpha_2_code=country, cpu_processes="all", measure_period=10, pue=1,
        emission_level=None, region=None, encode_file=None, electricity_pricing=None, ignore_warnings=True,
    )  # fmt: skip


def _cpu_seconds() -> float:
    return sum(sum(resource.getrusage(who)[:2]) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))


if __name__ == "__main__":
    main()
    exit_now(0)
