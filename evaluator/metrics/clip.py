"""ruCLIP: image and text latents of one space, whose cosine is the published ruCLIP score.

CLIP (Radford et al. 2021, arXiv:2103.00020) with a Russian BPE; the leaderboard's is
`ai-forever/ruclip-vit-large-patch14-336`. A model is the published folder of three files: `bpe.model` (YouTokenToMe),
`config.json`, `pytorch_model.bin`. Module names here are those of the published state dict, so it loads as it is.
"""

import json
import os
from collections import OrderedDict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, Self

import numpy as np
import torch
import youtokentome
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor, nn
from torch.nn import functional as F

from evaluator.metrics.network import batches, default_device, load_network

BPE_FILE, CONFIG_FILE, WEIGHTS_FILE = FILES = ("bpe.model", "config.json", "pytorch_model.bin")

#: Published: a text's latent is the mean over all of them.
TEMPLATES = (
    "{}",
    "фото, на котором изображено {}",
    "изображение с {}",
    "картинка с {}",
    "фото с {}",
    "на фото видно {}",
)

PAD, UNK, BOS, EOS = 0, 1, 2, 3
HEAD_WIDTH = 64  # of the image tower, whose heads the published configuration does not name

IMAGE_BATCH = 32
TEXT_BATCH = 48  # texts, each in every template


@dataclass(frozen=True)
class Config:
    """config.json under its published names; widths in channels, `image_resolution` and `vision_patch_size` in pixels.

    `mean` and `std` of the pixels are optional there and default to CLIP's.
    """

    embed_dim: int
    image_resolution: int
    vision_layers: int
    vision_width: int
    vision_patch_size: int
    context_length: int
    vocab_size: int
    transformer_width: int
    transformer_heads: int
    transformer_layers: int
    mean: tuple[float, float, float] = (0.48145466, 0.4578275, 0.40821073)
    std: tuple[float, float, float] = (0.26862954, 0.26130258, 0.27577711)

    @classmethod
    def from_file(cls, path: Path) -> Self:
        """Names that are not of this class are ignored. Raises FileNotFoundError, or ValueError naming the value."""
        if not path.is_file():
            raise FileNotFoundError(f"{path}: no such file")
        try:
            stated = json.loads(path.read_text(encoding="utf-8"))
        except ValueError as error:
            raise ValueError(f"{path}: not JSON: {error}") from error
        if not isinstance(stated, dict):
            raise ValueError(f"{path}: top level is {type(stated).__name__}; an object is needed")
        values: dict[str, Any] = {}
        for field in fields(cls):
            value = stated.get(field.name)
            if field.name in ("mean", "std"):
                if value is None:
                    continue
                if not (isinstance(value, list) and len(value) == 3 and all(type(x) in (int, float) for x in value)):
                    raise ValueError(f"{path}: {field.name} is {value!r}; allowed are three numbers")
                values[field.name] = tuple(value)
            elif type(value) is not int or value < 1:
                raise ValueError(f"{path}: {field.name} is {value!r}; allowed is a whole number of at least 1")
            else:
                values[field.name] = value
        config = cls(**values)
        for name, width, of in (
            ("vision_width", config.vision_width, HEAD_WIDTH),
            ("transformer_width", config.transformer_width, config.transformer_heads),
        ):
            if width % of:
                raise ValueError(f"{path}: {name} is {width}; allowed are multiples of {of}")
        return config


class RuCLIP:
    """Encoders ready to use, in half precision on a GPU, in float32 elsewhere; images are streamed in batches."""

    def __init__(self, network: "CLIP", bpe: youtokentome.BPE, config: Config, device: torch.device) -> None:
        self.config = config
        self._network = network
        self._bpe = bpe
        self._device = device

    @classmethod
    def from_pretrained(cls, folder: str | os.PathLike[str], device: torch.device | None = None) -> Self:
        """Reads the three files of a folder. Raises FileNotFoundError, or ValueError naming the file and its fault."""
        folder = Path(folder)
        device = device or default_device()
        config = Config.from_file(folder / CONFIG_FILE)
        bpe = _load_bpe(folder / BPE_FILE, config.vocab_size)
        return cls(load_network(lambda: CLIP(config), folder / WEIGHTS_FILE, device), bpe, config, device)

    def tokenize(self, texts: Sequence[str]) -> Tensor:
        """Ids [N, context_length], int64: `BOS text EOS PAD…`; a text that does not fit is cut, never its EOS."""
        length = self.config.context_length
        # Joins surrogate pairs and replaces lone ones, which UTF-8 cannot hold.
        clean = [text.encode("utf-16", "surrogatepass").decode("utf-16", "replace").lower() for text in texts]
        ids = torch.full((len(texts), length), PAD, dtype=torch.long)
        for row, tokens in zip(ids, self._bpe.encode(clean) if clean else [], strict=True):
            tokens = [BOS, *tokens[: length - 2], EOS]
            row[: len(tokens)] = torch.tensor(tokens)
        return ids

    @torch.inference_mode()
    def text_latents(self, texts: Iterable[str]) -> NDArray[np.float32]:
        """[N, D] unit rows: the mean of the latents in the six templates, then normalised. Equal texts are encoded
        once.
        """
        texts = [text.lower().strip() for text in texts]
        position = {text: row for row, text in enumerate(dict.fromkeys(texts))}
        ids = self.tokenize([template.format(text) for text in position for template in TEMPLATES])
        latents = torch.zeros(len(ids), self.config.embed_dim)
        # A batch is as long as its longest text, so texts of one length share theirs.
        by_length = _ends(ids).argsort()
        for start in range(0, len(ids), TEXT_BATCH * len(TEMPLATES)):
            rows = by_length[start : start + TEXT_BATCH * len(TEMPLATES)]
            latents[rows] = self._network.encode_text(ids[rows].to(self._device)).float().cpu()
        mean = latents.view(len(position), len(TEMPLATES), self.config.embed_dim).mean(dim=1)
        wanted = np.array([position[text] for text in texts], dtype=np.intp)
        return F.normalize(mean, dim=-1).numpy()[wanted]

    @torch.inference_mode()
    def image_latents(self, images: Iterable[Image.Image]) -> NDArray[np.float32]:
        """[N, D] unit rows, for images of any mode and size (of each its central square)."""
        rows = [np.zeros((0, self.config.embed_dim), dtype=np.float32)]
        for batch in batches(images, IMAGE_BATCH):
            pixels = to_pixels(batch, self.config, self._device).to(self._network.text_projection.dtype)
            rows.append(F.normalize(self._network.visual(pixels).float(), dim=-1).cpu().numpy())
        return np.concatenate(rows)


def to_pixels(images: Sequence[Image.Image], config: Config, device: torch.device) -> Tensor:
    """Images -> [B, 3, R, R], normalised: central square, then bilinear (antialiased) resize in 8 bits.

    The square begins at `excess // 2`, as that of the published torchvision `RandomResizedCrop(scale=(1, 1), ratio=(1,
    1))` does; where the sides differ by one pixel, the published crop is random and this one takes the same.
    """
    squares = []
    for image in images:
        width, height = image.size
        side = min(width, height)
        left, top = (width - side) // 2, (height - side) // 2
        square = image.convert("RGB").crop((left, top, left + side, top + side))
        resolution = (config.image_resolution, config.image_resolution)
        squares.append(np.asarray(square.resize(resolution, Image.Resampling.BILINEAR)))
    pixels = torch.from_numpy(np.stack(squares)).to(device).permute(0, 3, 1, 2).float() / 255
    mean, std = (torch.tensor(values, device=device).view(3, 1, 1) for values in (config.mean, config.std))
    return (pixels - mean) / std


class CLIP(nn.Module):
    """Both towers. Latents are not normalised."""

    def __init__(self, config: Config) -> None:
        super().__init__()
        width = config.transformer_width
        self.visual = VisionTransformer(config)
        self.token_embedding = nn.Embedding(config.vocab_size, width)
        self.positional_embedding = nn.Parameter(torch.empty(config.context_length, width))
        self.transformer = Transformer(width, config.transformer_layers, config.transformer_heads)
        self.ln_final = nn.LayerNorm(width)
        self.text_projection = nn.Parameter(torch.empty(width, config.embed_dim))
        self.logit_scale = nn.Parameter(torch.empty(()))  # of the training loss; a cosine does without

    def encode_text(self, ids: Tensor) -> Tensor:
        """Ids [B, context_length] with one EOS each -> latents [B, D], taken at the EOS."""
        ends = _ends(ids)
        # Attention is causal, so nothing after the last EOS of the batch can reach a latent.
        length = int(ends.max()) + 1
        x = self.token_embedding(ids[:, :length]) + self.positional_embedding[:length]  # [B, S, W]
        return self.ln_final(self.transformer(x, ends, causal=True)) @ self.text_projection


class VisionTransformer(nn.Module):
    """Pixels [B, 3, R, R] -> latents [B, D], taken at the class token."""

    def __init__(self, config: Config) -> None:
        super().__init__()
        width, patch = config.vision_width, config.vision_patch_size
        self.conv1 = nn.Conv2d(3, width, patch, stride=patch, bias=False)
        self.class_embedding = nn.Parameter(torch.empty(width))
        patches = (config.image_resolution // patch) ** 2
        self.positional_embedding = nn.Parameter(torch.empty(patches + 1, width))
        self.ln_pre = nn.LayerNorm(width)
        self.transformer = Transformer(width, config.vision_layers, width // HEAD_WIDTH)
        self.ln_post = nn.LayerNorm(width)
        self.proj = nn.Parameter(torch.empty(width, config.embed_dim))

    def forward(self, pixels: Tensor) -> Tensor:
        patches = self.conv1(pixels).flatten(2).transpose(1, 2)  # [B, P, W]
        start = self.class_embedding.expand(len(patches), 1, -1)
        x = self.ln_pre(torch.cat([start, patches], dim=1) + self.positional_embedding)  # [B, 1 + P, W]
        first = torch.zeros(len(x), dtype=torch.long, device=x.device)
        return self.ln_post(self.transformer(x, first)) @ self.proj


class Transformer(nn.Module):
    """[B, S, W] -> [B, W], at one position of each row."""

    def __init__(self, width: int, layers: int, heads: int) -> None:
        super().__init__()
        self.resblocks = nn.ModuleList(Block(width, heads) for _ in range(layers))

    def forward(self, x: Tensor, positions: Tensor, causal: bool = False) -> Tensor:
        *blocks, last = self.resblocks
        for block in blocks:
            x = block(x, causal=causal)
        # Of the last block nothing else is looked at: its other queries and MLPs are left out.
        asked = x[torch.arange(len(x), device=x.device), positions].unsqueeze(1)  # [B, 1, W]
        seen = torch.arange(x.shape[1], device=x.device) <= positions[:, None] if causal else None  # [B, S]
        output: Tensor = last(x, asked, None if seen is None else seen[:, None, None])
        return output.squeeze(1)


class Block(nn.Module):
    """Pre-norm attention and MLP: [B, S, W] -> [B, Q, W], of the positions `asked` [B, Q, W], which are all by default.

    `mask` says which positions each of those sees, [B, 1, Q, S]; all by default, with `causal` those before and itself.
    """

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.ln_1 = nn.LayerNorm(width)
        self.attn = Attention(width, heads)
        self.ln_2 = nn.LayerNorm(width)
        self.mlp = nn.Sequential(
            OrderedDict(c_fc=nn.Linear(width, 4 * width), gelu=QuickGELU(), c_proj=nn.Linear(4 * width, width))
        )

    def forward(
        self, x: Tensor, asked: Tensor | None = None, mask: Tensor | None = None, causal: bool = False
    ) -> Tensor:
        y = self.ln_1(x)
        queries = None if asked is None else self.ln_1(asked)
        x = (x if asked is None else asked) + self.attn(y, queries, mask, causal)
        return x + self.mlp(self.ln_2(x))


class Attention(nn.Module):
    """Of `queries` [B, Q, W], by default x itself, to x [B, S, W] -> [B, Q, W]; masks as `Block` has them.

    Keys of the state dict are those of `nn.MultiheadAttention`, which has no fused kernel for this on CPUs.
    """

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self._heads = heads
        self.in_proj_weight = nn.Parameter(torch.empty(3 * width, width))
        self.in_proj_bias = nn.Parameter(torch.empty(3 * width))
        self.out_proj = nn.Linear(width, width)

    def forward(self, x: Tensor, queries: Tensor | None, mask: Tensor | None, causal: bool) -> Tensor:
        weight, bias, width = self.in_proj_weight, self.in_proj_bias, x.shape[-1]
        if queries is None:
            q, k, v = F.linear(x, weight, bias).split(width, dim=-1)
        else:
            q = F.linear(queries, weight[:width], bias[:width])
            k, v = F.linear(x, weight[width:], bias[width:]).split(width, dim=-1)
        # [B, heads, Q or S, W / heads]
        q, k, v = (y.unflatten(-1, (self._heads, -1)).transpose(1, 2) for y in (q, k, v))
        y = F.scaled_dot_product_attention(q, k, v, attn_mask=mask, is_causal=causal)
        output: Tensor = self.out_proj(y.transpose(1, 2).flatten(2))
        return output


class QuickGELU(nn.Module):
    """CLIP's approximation of GELU; not torch's "tanh" one. Any shape."""

    def forward(self, x: Tensor) -> Tensor:
        return (1.702 * x).sigmoid_().mul_(x)  # one new tensor of the MLP's width instead of three


def _ends(ids: Tensor) -> Tensor:
    """Where the first EOS of each row stands, [B]."""
    return (ids == EOS).int().argmax(dim=1)


def _load_bpe(path: Path, vocab_size: int) -> youtokentome.BPE:
    """Checks the file first: youtokentome aborts the process or hangs on a damaged one.

    The file: `characters rules`; a line a character; a line a rule; then the ids of UNK, PAD, BOS, EOS.
    """
    if not path.is_file():
        raise FileNotFoundError(f"{path}: no such file")
    try:
        lines = [[int(number) for number in line.split()] for line in path.read_text(encoding="ascii").splitlines()]
        characters, rules = lines[0]
        ids = {line[-1] for line in lines[1:-1]} | set(lines[-1])
        parts = {id for line in lines[1 + characters : -1] for id in line[:2]}
    except (ValueError, IndexError) as error:
        raise ValueError(f"{path}: not a youtokentome model: {error}") from error
    shapes = [len(line) for line in lines[1:]] == [2] * characters + [3] * rules + [4]
    if not shapes or not parts <= ids or not ids <= set(range(vocab_size)):
        raise ValueError(f"{path}: damaged, or has more than the {vocab_size} ids that {CONFIG_FILE} states")
    if lines[-1] != [UNK, PAD, BOS, EOS]:
        raise ValueError(f"{path}: UNK, PAD, BOS, EOS have the ids {lines[-1]}; ruCLIP needs {[UNK, PAD, BOS, EOS]}")
    return youtokentome.BPE(str(path), n_threads=1)
