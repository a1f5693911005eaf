"""Encoding images batch by batch."""

from functools import partial

import numpy as np
import pytest
from PIL import Image

from evaluator.metrics import encoders


@pytest.mark.parametrize("batch", [1, 3, 64])
def test_each_image_is_loaded_once_for_all_encoders(monkeypatch: pytest.MonkeyPatch, batch: int) -> None:
    monkeypatch.setattr(encoders, "BATCH", batch)
    loaded: list[int] = []

    def load(number: int) -> Image.Image:
        loaded.append(number)
        return Image.new("RGB", (4, 2), (number, 0, 7))

    def colours(images: list[Image.Image]) -> np.ndarray:
        return np.array([image.getpixel((0, 0)) for image in images])

    def sizes(images: list[Image.Image]) -> np.ndarray:
        return np.array([image.size for image in images], dtype=np.float32)

    found = encoders.encode_images_by((colours, sizes), [partial(load, number) for number in range(7)])
    assert loaded == list(range(7))
    assert [rows.dtype for rows in found] == [np.float64, np.float64]
    np.testing.assert_array_equal(found[0], [[number, 0, 7] for number in range(7)])
    np.testing.assert_array_equal(found[1], [[4, 2]] * 7)
