"""Aligned tables, and amounts with their units, for terminals, logs and pages."""

from collections.abc import Collection, Sequence

Units = Sequence[tuple[str, float]]  # from the largest: name, and how many of it the unit that numbers are in has
MASS: Units = (("kg", 1.0), ("g", 1e3), ("mg", 1e6), ("µg", 1e9))
ENERGY: Units = (("kWh", 1.0), ("Wh", 1e3), ("J", 3.6e6))

LABEL_MARKS = "*#^~"  # beside a score, one for each label in the order of the scores' labels


def aligned(rows: Sequence[Sequence[str]], left: Collection[int], rules: Collection[int] = ()) -> list[str]:
    """A line for each of `rows`, one or more, all with as many cells. Columns are two spaces apart, those of `left`
    aligned to the left, others to the right. A rule stands before each row of `rules`; `len(rows)` is the end.
    """
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = [
        "  ".join(
            cell.ljust(width) if column in left else cell.rjust(width)
            for column, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in rows
    ]
    rule = "-" * max(map(len, lines))
    for position in sorted(rules, reverse=True):
        lines.insert(position, rule)
    return lines


def unit(value: float, units: Units) -> tuple[str, float]:
    """That of `units` in which `value` is neither long nor tiny: the first in which it is 1 or more, or the last."""
    return next((unit for unit in units if value * unit[1] >= 1), units[-1])


def mass(kg: float) -> str:
    """Four digits of a mass in kg: `34.75 g`."""
    name, factor = unit(kg, MASS)
    return f"{kg * factor:.4g} {name}"


def energy(kwh: float) -> str:
    """Four digits of an energy in kWh: `100 Wh`."""
    name, factor = unit(kwh, ENERGY)
    return f"{kwh * factor:.4g} {name}"


def gigabytes(size: float) -> str:
    """A size in bytes: `1.5 GB`."""
    return f"{size / 1e9:.1f} GB"


def duration(seconds: float) -> str:
    """A time in seconds, hours first: `1:00:00`; below a minute `5.0 s`."""
    hours, rest = divmod(round(seconds), 3600)
    return f"{hours}:{rest // 60:02}:{rest % 60:02}" if seconds >= 60 else f"{seconds:.1f} s"
