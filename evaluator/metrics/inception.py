"""FID-InceptionV3: the network whose pooled features the published FID compares.

It is the Inception v3 of TensorFlow's 2015-12-05 release, ported to PyTorch by pytorch-fid under the key names of
torchvision's Inception v3; `pt_inception-2015-12-05-6726825d.pth` holds its weights. It differs from torchvision's in
three points: 1008 classes; average pools that leave the padding out of the mean; in the last block a maximum pool.
There is no auxiliary head. torch-fidelity has the same network, but needs torchvision and resizes as TensorFlow 1 did,
which the published evaluation does not.
"""

from collections.abc import Iterable, Sequence
from typing import Literal, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor, nn
from torch.nn import functional as F

from evaluator.metrics.network import Weights, batches, default_device, load_network

CLASSES = 1008
FEATURES = 2048  # F, of pool3
FIRST_SIDE, SECOND_SIDE = 256, 299  # pixels; the published code resizes twice
BATCH = 32  # images a forward pass: under 1 GB of activations in float32

Size = int | tuple[int, int]
Pool = Literal["average", "maximum", "halving"]


class InceptionFeatures:
    """Images -> pool3 features, with weights given as a state dict or the path of one.

    In float32 on a GPU as well, without TF32: less is too coarse for features that are to be the published ones. Raises
    FileNotFoundError, or ValueError naming what is wrong with the weights.
    """

    def __init__(self, weights: Weights, device: torch.device | None = None) -> None:
        self.device = device or default_device()
        self._network = load_network(fid_inception, weights, self.device, torch.float32)

    @torch.inference_mode()
    def __call__(self, images: Iterable[Image.Image]) -> NDArray[np.float32]:
        """[N, 2048], for images of any mode and size; only one batch is held at a time."""
        rows = [np.zeros((0, FEATURES), dtype=np.float32)]
        for batch in batches(images, BATCH):
            with torch.backends.cudnn.flags(benchmark=False, deterministic=True, allow_tf32=False):
                rows.append(self._network(to_pixels(batch, self.device)).cpu().numpy())
        return np.concatenate(rows)


def to_pixels(images: Sequence[Image.Image], device: torch.device) -> Tensor:
    """Images -> [B, 3, 299, 299] in -1..1: to 256 x 256 in 8 bits (bilinear, antialiased), then on in float32."""
    small = [
        np.asarray(image.convert("RGB").resize((FIRST_SIDE, FIRST_SIDE), Image.Resampling.BILINEAR)) for image in images
    ]
    pixels = torch.from_numpy(np.stack(small)).to(device).permute(0, 3, 1, 2).float() / 255
    pixels = F.interpolate(pixels, size=(SECOND_SIDE, SECOND_SIDE), mode="bilinear", align_corners=False)
    return 2 * pixels - 1


def fid_inception() -> "FIDInception":
    """The network, not yet trained, under the published key names."""
    return FIDInception()


class FIDInception(nn.Module):
    """Pixels [B, 3, 299, 299] in -1..1 -> pool3 [B, 2048]. `fc` is part of the published weights; FID does not use it.

    Sizes in the comments are the sides of the maps that come out.
    """

    def __init__(self) -> None:
        super().__init__()
        self.Conv2d_1a_3x3 = Conv(3, 32, 3, stride=2)  # 149
        self.Conv2d_2a_3x3 = Conv(32, 32, 3)  # 147
        self.Conv2d_2b_3x3 = Conv(32, 64, 3, padding=1)  # 147, pooled to 73
        self.Conv2d_3b_1x1 = Conv(64, 80, 1)  # 73
        self.Conv2d_4a_3x3 = Conv(80, 192, 3)  # 71, pooled to 35
        self.Mixed_5b = block_a(192, pooled=32)  # 35
        self.Mixed_5c = block_a(256, pooled=64)
        self.Mixed_5d = block_a(288, pooled=64)
        self.Mixed_6a = block_b(288)  # 17
        self.Mixed_6b = block_c(768, inner=128)
        self.Mixed_6c = block_c(768, inner=160)
        self.Mixed_6d = block_c(768, inner=160)
        self.Mixed_6e = block_c(768, inner=192)
        self.Mixed_7a = block_d(768)  # 8
        self.Mixed_7b = block_e(1280, pool="average")
        self.Mixed_7c = block_e(2048, pool="maximum")
        self.fc = nn.Linear(FEATURES, CLASSES)

    def forward(self, pixels: Tensor) -> Tensor:
        x = self.Conv2d_2b_3x3(self.Conv2d_2a_3x3(self.Conv2d_1a_3x3(pixels)))
        x = F.max_pool2d(x, 3, stride=2)
        x = self.Conv2d_4a_3x3(self.Conv2d_3b_1x1(x))
        x = F.max_pool2d(x, 3, stride=2)
        x = self.Mixed_5d(self.Mixed_5c(self.Mixed_5b(x)))
        x = self.Mixed_6e(self.Mixed_6d(self.Mixed_6c(self.Mixed_6b(self.Mixed_6a(x)))))
        x = self.Mixed_7c(self.Mixed_7b(self.Mixed_7a(x)))  # [B, 2048, 8, 8]
        return x.mean(dim=(2, 3))


class Conv(nn.Module):
    """Convolution without bias, batch norm, ReLU: [B, inputs, H, W] -> [B, outputs, H', W']."""

    def __init__(self, inputs: int, outputs: int, kernel: Size, stride: int = 1, padding: Size = 0) -> None:
        super().__init__()
        self.conv = nn.Conv2d(inputs, outputs, kernel, stride, padding, bias=False)
        self.bn = nn.BatchNorm2d(outputs, eps=0.001)

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(self.bn(self.conv(x)), inplace=True)


class Step(NamedTuple):
    """A convolution of a branch; `name` is the end of its key."""

    name: str
    outputs: int
    kernel: Size


class Mixed(nn.Module):
    """Branches side by side, joined along the channels in the order given, that of the pool last.

    A branch is a chain; a list in it stands for steps side by side, joined likewise. Convolutions keep the size of the
    map, but the last one of each branch halves it (stride 2, no padding) where the pool does.
    """

    def __init__(self, inputs: int, branches: Sequence[Sequence[Step | list[Step]]], pool: Pool, pooled: int) -> None:
        super().__init__()
        self._pool = pool
        self._chains: list[list[list[str]]] = []  # names of convolutions: by branch, then in order, then side by side
        for branch in branches:
            chain, width = [], inputs
            for position, stage in enumerate(branch):
                steps = [stage] if isinstance(stage, Step) else stage
                halves = pool == "halving" and position == len(branch) - 1
                for step in steps:
                    stride, padding = (2, 0) if halves else (1, _same(step.kernel))
                    self.add_module(f"branch{step.name}", Conv(width, step.outputs, step.kernel, stride, padding))
                chain.append([f"branch{step.name}" for step in steps])
                width = sum(step.outputs for step in steps)
            self._chains.append(chain)
        if pooled:
            self.branch_pool = Conv(inputs, pooled, 1)

    def forward(self, x: Tensor) -> Tensor:
        maps = []
        for chain in self._chains:
            y = x
            for names in chain:
                y = _join([getattr(self, name)(y) for name in names])
            maps.append(y)
        return _join([*maps, self._pooled(x)])

    def _pooled(self, x: Tensor) -> Tensor:
        if self._pool == "halving":
            return F.max_pool2d(x, 3, stride=2)
        if self._pool == "maximum":
            return self.branch_pool(F.max_pool2d(x, 3, stride=1, padding=1))
        return self.branch_pool(F.avg_pool2d(x, 3, stride=1, padding=1, count_include_pad=False))


def block_a(inputs: int, pooled: int) -> Mixed:
    """[B, inputs, 35, 35] -> [B, 224 + pooled, 35, 35]."""
    return Mixed(
        inputs,
        [
            [Step("1x1", 64, 1)],
            [Step("5x5_1", 48, 1), Step("5x5_2", 64, 5)],
            [Step("3x3dbl_1", 64, 1), Step("3x3dbl_2", 96, 3), Step("3x3dbl_3", 96, 3)],
        ],
        "average",
        pooled,
    )


def block_b(inputs: int) -> Mixed:
    """[B, inputs, 35, 35] -> [B, 480 + inputs, 17, 17]."""
    return Mixed(
        inputs,
        [[Step("3x3", 384, 3)], [Step("3x3dbl_1", 64, 1), Step("3x3dbl_2", 96, 3), Step("3x3dbl_3", 96, 3)]],
        "halving",
        pooled=0,
    )


def block_c(inputs: int, inner: int) -> Mixed:
    """[B, inputs, 17, 17] -> [B, 768, 17, 17]; `inner` channels within the branches."""
    row, column = (1, 7), (7, 1)
    return Mixed(
        inputs,
        [
            [Step("1x1", 192, 1)],
            [Step("7x7_1", inner, 1), Step("7x7_2", inner, row), Step("7x7_3", 192, column)],
            [
                Step("7x7dbl_1", inner, 1),
                Step("7x7dbl_2", inner, column),
                Step("7x7dbl_3", inner, row),
                Step("7x7dbl_4", inner, column),
                Step("7x7dbl_5", 192, row),
            ],
        ],
        "average",
        pooled=192,
    )


def block_d(inputs: int) -> Mixed:
    """[B, inputs, 17, 17] -> [B, 512 + inputs, 8, 8]."""
    return Mixed(
        inputs,
        [
            [Step("3x3_1", 192, 1), Step("3x3_2", 320, 3)],
            [
                Step("7x7x3_1", 192, 1),
                Step("7x7x3_2", 192, (1, 7)),
                Step("7x7x3_3", 192, (7, 1)),
                Step("7x7x3_4", 192, 3),
            ],
        ],
        "halving",
        pooled=0,
    )


def block_e(inputs: int, pool: Pool) -> Mixed:
    """[B, inputs, 8, 8] -> [B, 2048, 8, 8]."""
    row, column = (1, 3), (3, 1)
    return Mixed(
        inputs,
        [
            [Step("1x1", 320, 1)],
            [Step("3x3_1", 384, 1), [Step("3x3_2a", 384, row), Step("3x3_2b", 384, column)]],
            [
                Step("3x3dbl_1", 448, 1),
                Step("3x3dbl_2", 384, 3),
                [Step("3x3dbl_3a", 384, row), Step("3x3dbl_3b", 384, column)],
            ],
        ],
        pool,
        pooled=192,
    )


def _same(kernel: Size) -> Size:
    """The padding that keeps the size of a map."""
    return kernel // 2 if isinstance(kernel, int) else (kernel[0] // 2, kernel[1] // 2)


def _join(maps: list[Tensor]) -> Tensor:
    return maps[0] if len(maps) == 1 else torch.cat(maps, dim=1)
