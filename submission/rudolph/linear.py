"""Linear layers for inference on a CPU: weights in oneDNN's blocked layout, or in 8 bits.

Both replace the `nn.Linear` of a loaded model in place; a model so changed can neither be trained nor saved. oneDNN's
layout is what makes few rows fast: PyTorch's own `linear` takes the weights as they lie, which, measured on two Zen 4
cores with 1024 x 4096 in float32, reads them at half of the memory's speed for 1 row and computes at 0.4 of the
processor's for 32 (docs/performance.md).
"""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

#: Up to this many rows PyTorch's 8-bit kernel is the faster one; above, the weights are widened for a product.
INT8_KERNEL_ROWS = 8
#: Weights of a layer from which oneDNN's layout is the faster one; below, its calls cost more than they save.
PACK_FROM = 2**17
_INT8_MAX = 127


class RowsLinear(nn.Module):
    """`x W^T + b`, [..., in] -> [..., out], for all rows of W or for some."""

    def __init__(self, linear: nn.Linear) -> None:
        super().__init__()
        self.in_features, self.out_features = linear.in_features, linear.out_features
        self.bias: Tensor = linear.bias.detach()

    def rows(self, x: Tensor, start: int, stop: int) -> Tensor:
        """[..., stop - start]: the product with rows `start` to `stop` of W."""
        raise NotImplementedError

    def forward(self, x: Tensor) -> Tensor:
        """x [..., in] -> [..., out]."""
        return self.rows(x, 0, self.out_features)


class PackedLinear(RowsLinear):
    """W in oneDNN's layout. Where only some rows are asked for, they are packed by themselves, once."""

    def __init__(self, linear: nn.Linear) -> None:
        super().__init__(linear)
        self._plain: Tensor | None = linear.weight.detach()
        self._packed: dict[tuple[int, int], Tensor] = {}

    def rows(self, x: Tensor, start: int, stop: int) -> Tensor:
        """x [..., in] -> [..., stop - start]: these outputs alone."""
        packed = self._packed.get((start, stop))
        if packed is None:
            if self._plain is None:
                raise RuntimeError("the plain weights of this layer are gone; all of its rows can be asked for alone")
            packed = torch.ops.mkldnn._reorder_linear_weight(self._plain[start:stop], None)
            self._packed[start, stop] = packed
            if (start, stop) == (0, self.out_features):
                self._plain = None
        return torch.ops.mkldnn._linear_pointwise(x, packed, self.bias[start:stop], "none", [], "")


class Int8Linear(RowsLinear):
    """W in 8 bits with one scale per row (symmetric, by the row's largest weight); activations stay as they are."""

    def __init__(self, linear: nn.Linear) -> None:
        super().__init__(linear)
        weight = linear.weight.detach().float()
        scales = weight.abs().amax(1).clamp(min=torch.finfo(torch.float32).tiny) / _INT8_MAX
        self.weight = (weight / scales[:, None]).round().to(torch.int8)
        self.scales = scales.to(linear.weight.dtype)

    def rows(self, x: Tensor, start: int, stop: int) -> Tensor:
        """x [..., in] -> [..., stop - start]: these outputs alone."""
        weight, scales = self.weight[start:stop], self.scales[start:stop]
        flat = x.reshape(-1, self.in_features)
        if x.device.type == "cpu" and x.dtype == torch.bfloat16 and len(flat) <= INT8_KERNEL_ROWS:
            product = torch._weight_int8pack_mm(flat.contiguous(), weight, scales)
        else:
            product = F.linear(flat, weight.to(x.dtype)) * scales
        return (product + self.bias[start:stop]).view(*x.shape[:-1], stop - start)


def can_pack(model: nn.Module) -> bool:
    """Whether oneDNN computes with this model's weights here: on a CPU, float32, or bfloat16 that it knows."""
    weight = next(model.parameters())
    if weight.device.type != "cpu" or not torch.backends.mkldnn.is_available():
        return False
    return weight.dtype == torch.float32 or (
        weight.dtype == torch.bfloat16 and torch.ops.mkldnn._is_mkldnn_bf16_supported()
    )


def pack_(model: nn.Module) -> nn.Module:
    """Replaces every `nn.Linear` of `PACK_FROM` weights or more by a `PackedLinear`, in place; the model must satisfy
    `can_pack`.
    """
    return replace_linears_(model, PackedLinear, PACK_FROM)


def quantize_int8_(model: nn.Module) -> nn.Module:
    """Replaces every `nn.Linear` by an `Int8Linear`, in place."""
    return replace_linears_(model, Int8Linear, 0)


def replace_linears_(module: nn.Module, make: Callable[[nn.Linear], RowsLinear], smallest: int) -> nn.Module:
    """Replaces every `nn.Linear` of `smallest` weights or more by what `make` makes of it, in place."""
    if module.training:
        raise ValueError("the model is in training mode; call model.eval() before its layers are replaced")
    for name, child in module.named_children():
        if type(child) is not nn.Linear:
            replace_linears_(child, make, smallest)
        elif child.weight.numel() >= smallest:
            setattr(module, name, make(child))
    return module
