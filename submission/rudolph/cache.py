"""Static key/value cache: memory is reserved once, a step writes at its positions and reads up to them."""

import torch


class KVCache:
    """Keys and values of every layer, each [B, heads, capacity, head width]."""

    def __init__(
        self, num_layers: int, batch: int, heads: int, capacity: int, head_size: int,
        *, dtype: torch.dtype, device: torch.device,
    ) -> None:  # fmt: skip
        shape = (batch, heads, capacity, head_size)
        self.capacity = capacity
        self.keys = [torch.empty(shape, dtype=dtype, device=device) for _ in range(num_layers)]
        self.values = [torch.empty(shape, dtype=dtype, device=device) for _ in range(num_layers)]

    @property
    def batch(self) -> int:
        return self.keys[0].shape[0]

    @property
    def nbytes(self) -> int:
        """Reserved bytes: 2 * layers * B * heads * capacity * head width * element size."""
        return sum(tensor.nbytes for tensor in (*self.keys, *self.values))

    def write(
        self, layer: int, position: int, key: torch.Tensor, value: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Stores key and value, [B, heads, T, head width], from `position` on; returns views of all up to there."""
        stop = position + key.shape[2]
        self.keys[layer][:, :, position:stop] = key
        self.values[layer][:, :, position:stop] = value
        return self.keys[layer][:, :, :stop], self.values[layer][:, :, :stop]

    def select(self, rows: torch.Tensor) -> None:
        """Keeps the batch rows with these indices, [B'] int64, in this order; layer by layer, so memory peaks low."""
        for tensors in (self.keys, self.values):
            for layer, tensor in enumerate(tensors):
                tensors[layer] = tensor[rows]
