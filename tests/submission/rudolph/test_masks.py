"""The masks against the buffers of the published code and against their definition."""

from pathlib import Path

import pytest
import torch

from rudolph.config import DecoderConfig
from rudolph.masks import COLUMN, CONV, LAST_CONV, ROW, attention_masks, layer_kind

DATA = Path(__file__).parents[2] / "data" / "rudolph"


@pytest.mark.parametrize("name", ["a", "b"])
def test_masks_equal_the_published_buffers(name: str) -> None:
    masks = attention_masks(DecoderConfig.from_folder(DATA / name))
    state = torch.load(DATA / name / "pytorch_model.bin", weights_only=True)
    for kind, key in ((ROW, "row"), (COLUMN, "col"), (CONV, "conv"), (LAST_CONV, "last_conv")):
        assert torch.equal(masks[kind], state[f"transformer.{key}_mask"])


def test_masks_follow_their_definition() -> None:
    config = DecoderConfig.from_folder(DATA / "b")
    start, end, m = config.l_text_seq_length, config.image_end, config.image_tokens_per_dim
    masks = attention_masks(config)
    for query in range(config.total_seq_length):
        for key in range(config.total_seq_length):
            expected = [key <= query] * 4
            if key <= query and start <= query < end and start <= key < end:
                i, j = query - start, key - start
                rows, columns = i // m - j // m, abs(i % m - j % m)
                expected = [i - j <= m, columns == 0, max(rows, columns) <= 2, max(rows, columns) <= 3]
            assert masks[:, query, key].tolist() == expected, (query, key)


@pytest.mark.parametrize(
    ("layers", "expected"),
    [
        (4, [ROW, COLUMN, ROW, LAST_CONV]),
        (6, [ROW, COLUMN, ROW, CONV, ROW, COLUMN]),  # a column layer stays one even as the last
        (9, [ROW, COLUMN, ROW, CONV, ROW, COLUMN, ROW, CONV, LAST_CONV]),
    ],
)
def test_layer_kinds(layers: int, expected: list[int]) -> None:
    assert [layer_kind(layer, layers) for layer in range(layers)] == expected
