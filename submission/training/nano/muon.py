"""Muon: steps along orthogonalised momentum, for the matrices inside a transformer."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor

# Polar Express (Amsel et al. 2025), degree 5: odd polynomials whose composition sends singular values close to 1.
COEFFICIENTS = (
    (8.28721201814563, -23.595886519098837, 17.300387312530933),
    (4.107059111542203, -2.9478499167379106, 0.5448431082926601),
    (3.9486908534822946, -2.908902115962949, 0.5518191394370137),
    (3.3184196573706015, -2.488488024314874, 0.51004894012372),
    (2.300652019954817, -1.6689039845747493, 0.4188073119525673),
)
RMS = 0.2  # of a step's entries at learning rate 1, about AdamW's, so that both may share a learning rate


class Muon(torch.optim.Optimizer):
    """Momentum whose singular values are all made about 1 (Jordan et al. 2024), with decoupled weight decay.

    `torch.optim.Muon` works in bfloat16, which many CPUs emulate; this one keeps the gradients' own type and takes
    matrices of one shape together. A matrix [3 D, D] is three, the fused query, key and value.
    """

    def __init__(
        self, params: Iterable[Tensor], lr: float, weight_decay: float = 0.0, momentum: float = 0.95
    ) -> None:
        super().__init__(params, {"lr": lr, "weight_decay": weight_decay, "momentum": momentum})

    @torch.no_grad()
    def step(self, closure: None = None) -> None:  # type: ignore[override]
        """One step with Nesterov momentum over all parameters that have a gradient."""
        for group in self.param_groups:
            by_shape: dict[tuple[int, int], list[tuple[Tensor, Tensor]]] = {}
            for parameter in group["params"]:
                if parameter.grad is None:
                    continue
                state = self.state[parameter]
                average = state.setdefault("momentum", torch.zeros_like(parameter))
                average.lerp_(parameter.grad, 1 - group["momentum"])
                direction = parameter.grad.lerp(average, group["momentum"])
                parameter.mul_(1 - group["lr"] * group["weight_decay"])
                rows, columns = parameter.shape
                parts = rows // columns if rows == 3 * columns else 1
                for part, of in zip(parameter.chunk(parts), direction.chunk(parts), strict=True):
                    by_shape.setdefault((part.shape[0], part.shape[1]), []).append((part, of))
            for shape, pairs in by_shape.items():
                steps = orthogonalised(torch.stack([direction for _, direction in pairs]))
                for (part, _), step in zip(pairs, steps, strict=True):
                    part.add_(step, alpha=-group["lr"] * RMS * max(shape) ** 0.5)


def orthogonalised(matrices: Tensor) -> Tensor:
    """Matrices [N, R, C] with their singular vectors kept and all singular values brought near 1."""
    tall = matrices.shape[1] > matrices.shape[2]
    x = matrices.mT if tall else matrices
    x = x / (x.norm(dim=(1, 2), keepdim=True) * 1.01 + 1e-7)
    for a, b, c in COEFFICIENTS:
        gram = x @ x.mT
        x = a * x + (b * gram + c * (gram @ gram)) @ x
    return x.mT if tall else x
