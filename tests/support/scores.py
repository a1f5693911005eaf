"""Made scores.json documents."""

import numpy as np

LABEL = "encoders: test"


def document(values: dict[int, list[float]], **changes) -> dict:
    """A scores.json with the given score of each id."""
    return {
        "tasks": {
            str(number): {
                "name": f"Task{number}",
                "metric": "exact_match",
                "score": float(np.mean(scores)),
                "ids": {f"{number}-{position}": value for position, value in enumerate(scores)},
                "encoders": LABEL,
                "labels": [LABEL],
            }
            | changes
            for number, scores in values.items()
        }
    }
