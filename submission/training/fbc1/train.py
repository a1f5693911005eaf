"""Trains the models of FusionBrain Challenge 1.0 beside nano's VQGAN: a BPE, one decoder for all tasks, one for each.

    make train-fbc1                                                                      # every stage, and `compare`
    cd submission && python -m training.fbc1.train --out … --stage fused --stage ship    # what is shipped, alone

Each stage goes on from its last checkpoint, so an interrupted run is started again with the same command. `ship` writes
the weights that travel with the repository. Each folder of `out` has the energy.csv of its training.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import cores

if __name__ == "__main__":
    cores.settle()  # before torch is loaded

from rudolph import RudolphConfig
from training.carbon import TrainingCarbon, cpu_seconds
from training.fbc1.rows import Steps, texts
from training.fbc1.runs import DEFAULT, Runs, read_runs
from training.nano.bpe import train_bpe
from training.nano.decoder import load_mean, train_decoder
from training.nano.train import ship_model
from training.processes import exit_now, locked, log_training

BPE, SHIP, SHIPPED_RUN = "bpe", "ship", "fused"
WEIGHTS = Path(__file__).resolve().parents[2] / "weights"
SHIPPED, VQGAN_FOLDER = WEIGHTS / "fbc1", WEIGHTS / "nano" / "vqgan"


def stages(runs: Runs) -> tuple[str, ...]:
    """What is trained, in its order."""
    return BPE, *runs.decoder


def run_stage(stage: str, runs: Runs, out: Path, country: str) -> None:
    """Runs one stage and what it begins with, if they are not done yet.

    `out` holds bpe.model and a folder for each of `runs.decoder`.
    """
    config = RudolphConfig(**runs.model)
    bpe = out / "bpe.model"
    if stage == BPE:
        if not bpe.exists():
            train_bpe(texts(runs.bpe_examples), bpe, config.bpe_vocab_size)
    elif not (out / stage / "model.safetensors").exists():
        training = runs.decoder[stage]
        for earlier in (BPE, *training.begins_with):
            run_stage(earlier, runs, out, country)
        with tracked(out / stage, country) as saved:
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
    ship_model(load_mean([out / name]), out / "bpe.model", shipped)


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m training.fbc1.train", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--out", type=Path, default=Path("../build/fbc1"), help="where checkpoints live")
    parser.add_argument("--shipped", type=Path, default=SHIPPED, help="where `ship` writes")
    parser.add_argument("--stage", action="append", help="only this stage, after what it begins with (may be repeated)")
    parser.add_argument("--runs", type=Path, default=DEFAULT, help="settings (default: %(default)s)")
    parser.add_argument("--country", default="RU", help="two letters, for the CO2 of its electricity")
    arguments = parser.parse_args()
    runs = read_runs(arguments.runs)
    names = (*stages(runs), SHIP)
    for stage in arguments.stage or ():
        if stage not in names:
            parser.error(f"--stage {stage}: with {arguments.runs} it is one of {', '.join(names)}")
    log_training()
    arguments.out.mkdir(parents=True, exist_ok=True)
    with locked(arguments.out):
        for stage in arguments.stage or names:
            if stage == SHIP:
                ship(arguments.out, SHIPPED_RUN, arguments.shipped)
            else:
                run_stage(stage, runs, arguments.out, arguments.country)


if __name__ == "__main__":
    main()
    exit_now(0)
