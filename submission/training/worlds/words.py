"""Word lists: a YAML file beside the module that uses it."""

from pathlib import Path
from typing import Any

import yaml


def read_words(module: str) -> Any:
    """The content of NAME.yaml beside NAME.py, whose `__file__` is given."""
    return yaml.safe_load(Path(module).with_suffix(".yaml").read_text(encoding="utf-8"))
