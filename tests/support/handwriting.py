"""What the generator of FusionBrain Challenge 1.0's examples draws with."""

import pytest

from training.fbc1.handwriting import FONT_FILES
from training.worlds.signs import FONTS
from training.worlds.stamps import STAMPS

needs_pictures = pytest.mark.skipif(
    not STAMPS.is_dir() or not all((FONTS / file).exists() for files in FONT_FILES.values() for file in files),
    reason="Debian's stamps and handwriting fonts are not installed",
)
