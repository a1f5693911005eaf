"""What hardware can draw at most, by the names that eco2AI writes of it."""

import re

from evaluator.core import limits

FALLBACK_TDP_WATTS = 100.0  # eco2AI's own constant for a CPU that its table lacks

# The most that a machine can draw, with room: only nonsense is above it.
MAX_PUE = 2.0  # power of the facility over that of its machines; a tracker's `pue`
POWER_MARGIN = 1.1  # of sensors, and of sums over all processes at different moments
RAM_WATTS = 0.375 * 2048  # eco2AI's 3/8 W a GB, of 2 TB
MAX_GPU_WATTS = 1500.0  # of one whose name is none of these
# Power limits of the makers' data sheets; the first name that occurs in the GPU's holds, of variants the highest.
GPU_WATTS = {
    "GB300": 1400.0,
    "GB200": 1200.0,
    "GH200": 1000.0,
    "B300": 1400.0,
    "B200": 1000.0,
    "B100": 700.0,
    "H200": 700.0,
    "H100": 700.0,
    "H800": 700.0,
    "H20": 500.0,
    "A100": 500.0,
    "A800": 500.0,
    "A6000": 300.0,
    "A40": 300.0,
    "A30": 165.0,
    "A10": 300.0,
    "L40": 350.0,
    "L4": 72.0,
    "V100": 450.0,
    "P100": 300.0,
    "T4": 70.0,
    "K80": 300.0,
    "RTX 5090": 600.0,
    "RTX 4090": 600.0,
    "RTX 3090": 450.0,
    "TITAN": 320.0,
}

#: Name, number of devices and, of a CPU, its TDP in W, or a flag where eco2AI does not know it.
CPU_NAME = re.compile(r".*/(\d{1,4}) device\(s\), TDP:(\d{1,4}(?:\.\d{1,6})?|True|False)", re.ASCII | re.DOTALL)
GPU_NAME = re.compile(r"(.*) (\d{1,4}) device\(s\)", re.ASCII | re.DOTALL)


def tdp_watts(text: str) -> float | None:
    """A TDP as eco2AI writes it; None where it does not know it, which it writes as True, False, 0 or 1."""
    return float(text) if text[0].isdigit() and float(text) > 1 else None


def most_watts(cpu: str, gpu: str) -> float:
    """The most, with room, that a machine with this hardware draws, whose names are as eco2AI writes them."""
    cpus, gpus = CPU_NAME.fullmatch(cpu), GPU_NAME.fullmatch(gpu)
    if cpus is None or gpus is None:
        return limits.MAX_EMISSION_WATTS
    each = next((watts for name, watts in GPU_WATTS.items() if name in gpus[1]), MAX_GPU_WATTS)
    hardware = int(cpus[1]) * (tdp_watts(cpus[2]) or FALLBACK_TDP_WATTS) + int(gpus[2]) * each + RAM_WATTS
    return min(limits.MAX_EMISSION_WATTS, MAX_PUE * POWER_MARGIN * hardware)
