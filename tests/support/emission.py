"""Made emission.csv files and their encoded twins."""

import csv
import io

from evaluator.carbon.emission import COLUMNS, TARGET, encode


def written(rows: list[list[str]]) -> bytes:
    out = io.StringIO(newline="")
    csv.writer(out, lineterminator="\n").writerows(rows)
    return out.getvalue().encode()


def made(*rows: dict[str, str]) -> tuple[bytes, bytes]:
    """An emission.csv of such rows on a machine of 100 W, and its twin as eco2AI encodes it."""
    usual = {
        "id": "12345678-9abc-4def-8123-456789abcdef",
        "project_name": "проект",
        "experiment_description": TARGET,
        "epoch": "epoch: 1, loss: 0.5, ",
        "start_time": "2022-11-13 09:30:00",
        "duration(s)": "3600.5",
        "power_consumption(kWh)": "0.1",
        "CO2_emissions(kg)": "0.0347451",
        "CPU_name": "AMD EPYC/1 device(s), TDP:200.0",
        "GPU_name": " 0 device(s)",
        "OS": "Linux",
        "region/country": "RU",
        "cost": "0",
    }
    plain = [list((usual | row).values()) for row in rows]
    twin = [[encode(cell, times) for cell in row] for row in plain for times in (1, 2)]
    return written([list(COLUMNS), *plain]), written([list(COLUMNS), *twin])


def emission_files(kg: float, **cells: str) -> tuple[bytes, bytes]:
    """A good emission.csv with so much CO2, which 347.451 kg/MWh make, on a machine of 8 A100."""
    energy = {"power_consumption(kWh)": repr(kg / 0.347451), "CO2_emissions(kg)": repr(kg)}
    return made({"duration(s)": "36000", "GPU_name": "NVIDIA A100 8 device(s)"} | energy | cells)
