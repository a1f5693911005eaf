"""Trains the models of FusionBrain Challenge 1.0 beside nano's VQGAN: a BPE, one decoder for all tasks, one for each.

    python -m training.fbc1.train --out …                                          # every stage
    python -m training.fbc1.train --out … --stage bpe --stage fused --stage ship   # what is shipped

Each stage goes on from its last checkpoint, so an interrupted run is started again with the same command. `ship` writes
the weights that travel with the repository. Each folder of `out` has the energy.csv of its training.
"""

from __future__ import annotations

import argparse
import logging
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import cores

if __name__ == "__main__":
    cores.settle()  # before torch is loaded

import torch

from rudolph import RudolphConfig, RudolphModel
from training.carbon import TrainingCarbon, cpu_seconds
from training.fbc1.rows import Steps, texts
from training.fbc1.runs import DEFAULT, Runs, read_runs
from training.nano.bpe import train_bpe_on
from training.nano.decoder import train_decoder
from training.processes import exit_now, locked

log = logging.getLogger("train_fbc1")

SHIP, SHIPPED_RUN = "ship", "fused"
WEIGHTS = Path(__file__).resolve().parents[2] / "weights"
SHIPPED, VQGAN_FOLDER = WEIGHTS / "fbc1", WEIGHTS / "nano" / "vqgan"


def stages(runs: Runs) -> tuple[str, ...]:
    """What is trained, in its order."""
    return "bpe", *runs.decoder


def run_stage(stage: str, runs: Runs, out: Path, country: str) -> None:
    """Runs one stage, if it is not done yet; `out` holds bpe.model and a folder for each of `runs.decoder`."""
    config = RudolphConfig(**runs.model)
    bpe = out / "bpe.model"
    if stage == "bpe":
        if not bpe.exists():
            train_bpe_on(texts(runs.bpe_examples), bpe, config.bpe_vocab_size)
    elif not (out / stage / "model.safetensors").exists():
        with tracked(out / stage, country) as saved:
            training = runs.decoder[stage]
            begin = [out / earlier for earlier in training.begins_with]
            train_decoder(out / stage, config, bpe, VQGAN_FOLDER, training, begin, Steps, saved)


@contextmanager
def tracked(folder: Path, country: str) -> Iterator[Callable[[], None]]:
    """Measures what is trained inside, into `folder`; the function that it gives is called after each checkpoint."""
    carbon = TrainingCarbon(folder, f"fbc1: {folder.name}", is_final=False, country=country)
    carbon.start(1, cpu_seconds())
    try:
        yield lambda: carbon.read(cpu_seconds())
    finally:
        carbon.end_epoch(cpu_seconds(), float("nan"))
        carbon.stop()


def ship(out: Path, name: str, shipped: Path) -> None:
    """Writes a model's folder in half precision: RUDOLPH and `bpe.model`; the VQGAN is nano's."""
    RudolphModel.from_pretrained(out / name, dtype=torch.float32).bfloat16().save_pretrained(shipped)
    shutil.copy(out / "bpe.model", shipped / "bpe.model")
    log.info("%s: %.1f MB", shipped, sum(f.stat().st_size for f in shipped.rglob("*") if f.is_file()) / 1e6)


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m training.fbc1.train", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    names = (*stages(read_runs()), SHIP)
    parser.add_argument("--out", type=Path, default=Path("../build/fbc1"), help="where checkpoints live")
    parser.add_argument("--shipped", type=Path, default=SHIPPED, help="where `ship` writes")
    parser.add_argument("--stage", choices=names, action="append", help="only this stage (may be repeated)")
    parser.add_argument("--runs", type=Path, default=DEFAULT, help="settings (default: %(default)s)")
    parser.add_argument("--country", default="RU", help="two letters, for the CO2 of its electricity")
    arguments = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    for library in ("pymorphy3", "apscheduler"):
        logging.getLogger(library).setLevel(logging.WARNING)
    log.info("%s", cores.settle())
    runs = read_runs(arguments.runs)
    arguments.out.mkdir(parents=True, exist_ok=True)
    with locked(arguments.out):
        for stage in arguments.stage or (*stages(runs), SHIP):
            if stage == SHIP:
                ship(arguments.out, SHIPPED_RUN, arguments.shipped)
            else:
                run_stage(stage, runs, arguments.out, arguments.country)


if __name__ == "__main__":
    main()
    exit_now(0)
