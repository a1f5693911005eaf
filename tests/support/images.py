"""Images that tests share."""

from pathlib import Path

import numpy as np
from PIL import Image


def deep_grey(path: Path) -> None:
    """A PNG of 16-bit grey whose darkest 256 levels fill the left half."""
    levels = np.tile(np.array([0, 100, 255, 256, 30000, 65535], dtype=np.uint16), (6, 1))
    Image.fromarray(levels).save(path, "PNG")
