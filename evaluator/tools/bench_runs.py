"""How many seconds a run takes beyond the submission's own: from the claim to the entered result.

    python -m evaluator.tools.bench_runs --runs 3
    python -m evaluator.tools.bench_runs --runs 3 --padding 1000000000 --ray auto

Sends copies of a submission, each `--padding` random bytes longer, to a season in a temporary folder, runs them with
the local runner, one at a time, and takes the seconds that scores.json gives from those between the run's events. The
last line is one JSON object.
"""

import argparse
import json
import os
import shutil
import sys
import tempfile
import zipfile
from pathlib import Path
from statistics import mean

from evaluator.package import archive, pack
from evaluator.season import PUBLIC
from evaluator.season.config import read_season
from evaluator.season.database import Database
from evaluator.season.ledger import Archive, Ledger
from evaluator.season.queue import Queue
from evaluator.season.runs import LocalRuns, Runs
from evaluator.season.store import Store, digest

_ROOT = Path(__file__).parents[2]
_CHUNK = 1 << 20
RULES = """
[season]
name = "bench"
time_zone = "UTC"
start = 2000-01-01
end = 2999-12-31
[attempts]
valid_a_day = 1000
[data]
public = {data}
private = {data}
[runs]
runner = "local"
[formula]
open = 0
hidden = 0
{task} = 1
"""


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m evaluator.tools.bench_runs")
    parser.add_argument("--submission", type=Path, default=_ROOT / "submission", help="a folder (default: %(default)s)")
    parser.add_argument("--data", type=Path, default=_ROOT / "sample_input", help="default: %(default)s")
    parser.add_argument("--task", type=int, default=5, help="any that the data have (default: %(default)s)")
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--padding", type=int, default=16, metavar="BYTES", help="random bytes in each ZIP")
    parser.add_argument("--ray", metavar="ADDRESS")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="season-bench-") as name:
        folder = Path(name)
        rules = RULES.format(data=json.dumps(str(options.data.resolve())), task=options.task)
        (folder / "season.toml").write_text(rules, encoding="utf-8")
        season = read_season(folder / "season.toml")
        database = Database(season.url, season.folder)
        database.migrate()
        ledger, store = Ledger(season, database), Store(folder)
        ledger.add_team("bench")
        for number in range(options.runs):
            path = folder / f"{number}.zip"
            if number == 0:
                pack.pack(options.submission, path)
                shutil.copy(path, folder / "plain.zip")
            else:
                shutil.copy(folder / "plain.zip", path)
            with zipfile.ZipFile(path, "a") as file, file.open("padding.bin", "w", force_zip64=True) as sink:
                for start in range(0, options.padding, _CHUNK):
                    sink.write(os.urandom(min(_CHUNK, options.padding - start)))
            report = archive.check(path)
            store.add(path, digest(path))
            ledger.submit("bench", Archive(digest(path), path.name, report.packed, report.metadata))
            path.unlink()
        runs: Runs
        if options.ray:
            from evaluator.season.ray_runs import RayRuns

            runs = RayRuns(season, options.ray, 1, print)
        else:
            runs = LocalRuns(season, store, 1, [], print)
        Queue(ledger, 1, print, runs=runs).run(drain=True)
        totals, insides = [], []
        for state in ledger.states():
            if state.verdict != "OK":
                raise RuntimeError(f"submission {state.submission.id} ended as {state.name}: {state.detail}")
            moments = {event.kind: event.at for event in ledger.history(state.submission.id)}
            totals.append((moments["done"] - moments["running"]).total_seconds())
            insides.append(float(state.detail["seconds"]))
        bytes_sent = ledger.states()[0].submission.bytes
        database.engine.dispose()
    beyond = [total - inside for total, inside in zip(totals, insides, strict=True)]
    document = {
        "runs": len(totals),
        "archive_bytes": bytes_sent,
        "test_set": PUBLIC,
        "seconds": {"total": mean(totals), "submission": mean(insides), "beyond": mean(beyond)},
        "beyond": [round(value, 2) for value in beyond],
        "ray": bool(options.ray),
    }
    print(json.dumps(document))
    return 0


if __name__ == "__main__":
    sys.exit(main())
