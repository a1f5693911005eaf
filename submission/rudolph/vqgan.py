"""Sber-VQGAN: the image tokenizer of RUDOLPH (a GumbelVQ autoencoder of taming-transformers, reduction 8).

Module names follow the published state dict, so a published checkpoint loads unchanged. `ch` is the width of the first
level, R = 2 ** (levels - 1) the reduction: an image [3, H, W] becomes H/R × W/R codes.
"""

from __future__ import annotations

import json
import math
import os
import pickle
import reprlib
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from .checkpoint import Uninitialized, unpickled
from .files import replacing

CONFIG_NAME = "config.json"
SAFETENSORS_NAME = "model.safetensors"
NORM_EPS = 1e-6
#: The largest sizes that a configuration may have, far above any that is in use: of larger ones, building a model would
#: take hours, or its tensors would have more bytes than can be counted.
MOST = {
    "embed_dim": 2**16, "n_embed": 2**24, "z_channels": 2**16, "resolution": 2**16, "in_channels": 2**10,
    "out_ch": 2**10, "ch": 2**14, "num_res_blocks": 1000, "norm_groups": 2**14,
}  # fmt: skip
MOST_LEVELS, MOST_MULT = 10, 2**10
ROUNDING = 1e-3  # that pixels may lie outside of 0..1
# The discriminator and perceptual loss of the authors' training travel in the same checkpoint.
IGNORED_PREFIXES = ("loss.",)


@dataclass(frozen=True)
class VQGANConfig:
    """Sizes of a GumbelVQ autoencoder; the defaults are those of the published Sber checkpoint.

    Raises ValueError, naming the key and what is allowed, for a size that is none.
    """

    embed_dim: int = 256
    n_embed: int = 8192
    z_channels: int = 256
    resolution: int = 256
    in_channels: int = 3
    out_ch: int = 3
    ch: int = 128
    ch_mult: tuple[int, ...] = (1, 1, 2, 4)
    num_res_blocks: int = 2
    attn_resolutions: tuple[int, ...] = (32,)
    dropout: float = 0.0
    # Group norm over one channel a group would take the mean colour out of a picture, so a narrow model needs fewer.
    norm_groups: int = 32

    def __post_init__(self) -> None:
        for name, most in MOST.items():
            _need_whole(name, getattr(self, name), most)
        for name, most, least_entries in (("ch_mult", MOST_MULT, 1), ("attn_resolutions", MOST["resolution"], 0)):
            entries = getattr(self, name)
            if not isinstance(entries, tuple | list):
                raise ValueError(f"VQGAN config: {name} is {reprlib.repr(entries)}; it must be a list of whole numbers")
            if not least_entries <= len(entries) <= MOST_LEVELS:
                raise ValueError(
                    f"VQGAN config: {name} has {len(entries)} entries; it must have {least_entries} to {MOST_LEVELS}"
                )
            for entry in entries:
                _need_whole(f"an entry of {name}", entry, most)
        if type(self.dropout) not in (int, float) or not 0 <= self.dropout < 1:
            raise ValueError(f"VQGAN config: dropout is {reprlib.repr(self.dropout)}; it must be a number in [0, 1)")
        for mult in self.ch_mult:
            if (self.ch * mult) % self.norm_groups:
                raise ValueError(
                    f"VQGAN config: ch * ch_mult = {self.ch * mult}; "
                    f"every level must be a multiple of norm_groups, {self.norm_groups}"
                )
        if self.resolution % self.reduction:
            raise ValueError(f"VQGAN config: resolution {self.resolution} is no multiple of {self.reduction}")

    @property
    def reduction(self) -> int:
        """Pixels per code along one side."""
        return 2 ** (len(self.ch_mult) - 1)

    @classmethod
    def from_dict(cls, config: dict[str, Any], source: str = "VQGAN config") -> VQGANConfig:
        """Read the published nesting `model.params.{embed_dim, n_embed, ddconfig}`, or `params` alone.

        Unknown training settings (`kl_weight`, `lossconfig`, ...) are ignored. Raises ValueError with `source` in it.
        """
        nested = config.get("model") if isinstance(config, dict) else None
        params = nested.get("params") if isinstance(nested, dict) else config
        if not isinstance(params, dict) or not isinstance(params.get("ddconfig", {}), dict):
            raise ValueError(f"{source}: must be an object with model.params.ddconfig, or those params alone")
        missing = [name for name in ("embed_dim", "n_embed", "ddconfig") if name not in params]
        if missing:
            raise ValueError(f"{source}: missing {missing} under model.params")
        sizes = params["ddconfig"]
        if sizes.get("double_z"):
            raise ValueError(f"{source}: double_z is true; only false is a vector-quantised model")
        optional = {name: sizes[name] for name in ("dropout", "norm_groups") if name in sizes}
        names = set(cls.__dataclass_fields__) - {"embed_dim", "n_embed", "dropout", "norm_groups"}
        missing = sorted(names - set(sizes))
        if missing:
            raise ValueError(f"{source}: missing {missing} in ddconfig")
        values: dict[str, Any] = {name: tuple(v) if isinstance(v := sizes[name], list) else v for name in names}
        try:
            return cls(embed_dim=params["embed_dim"], n_embed=params["n_embed"], **optional, **values)
        except ValueError as error:
            raise ValueError(f"{source}: {str(error).removeprefix('VQGAN config: ')}") from error

    def to_dict(self) -> dict[str, Any]:
        """The published nesting."""
        sizes = asdict(self)
        embed_dim, n_embed = sizes.pop("embed_dim"), sizes.pop("n_embed")
        ddconfig = {"double_z": False} | {k: list(v) if isinstance(v, tuple) else v for k, v in sizes.items()}
        return {"model": {"params": {"embed_dim": embed_dim, "n_embed": n_embed, "ddconfig": ddconfig}}}


def _need_whole(name: str, value: Any, most: int) -> None:
    if type(value) is not int or not 1 <= value <= most:
        raise ValueError(f"VQGAN config: {name} is {reprlib.repr(value)}; it must be a whole number from 1 to {most}")


SBER_GUMBEL_F8 = VQGANConfig()


def _norm(channels: int, groups: int) -> nn.GroupNorm:
    return nn.GroupNorm(groups, channels, eps=NORM_EPS)


def _conv3(channels: int, out: int) -> nn.Conv2d:
    return nn.Conv2d(channels, out, 3, padding=1)


class ResnetBlock(nn.Module):
    """[B, in, H, W] -> [B, out, H, W]"""

    def __init__(self, channels: int, out: int, dropout: float, groups: int) -> None:
        super().__init__()
        self.norm1, self.conv1 = _norm(channels, groups), _conv3(channels, out)
        self.norm2, self.dropout, self.conv2 = _norm(out, groups), nn.Dropout(dropout), _conv3(out, out)
        self.nin_shortcut = nn.Conv2d(channels, out, 1) if channels != out else None

    def forward(self, x: Tensor) -> Tensor:
        """x [B, C, H, W] -> [B, C', H, W]."""
        h = self.conv1(F.silu(self.norm1(x)))
        h = self.conv2(self.dropout(F.silu(self.norm2(h))))
        return h + (x if self.nin_shortcut is None else self.nin_shortcut(x))


class AttnBlock(nn.Module):
    """Single-head self-attention over all positions, [B, C, H, W] -> same."""

    def __init__(self, channels: int, groups: int) -> None:
        super().__init__()
        self.norm = _norm(channels, groups)
        self.q, self.k, self.v, self.proj_out = (nn.Conv2d(channels, channels, 1) for _ in range(4))

    def forward(self, x: Tensor) -> Tensor:
        """x [B, C, H, W] -> the same shape."""
        h = self.norm(x)
        q, k, v = (conv(h).flatten(2).transpose(1, 2) for conv in (self.q, self.k, self.v))  # [B, H*W, C]
        h = F.scaled_dot_product_attention(q, k, v)
        return x + self.proj_out(h.transpose(1, 2).reshape(x.shape))


class Downsample(nn.Module):
    """Halve the sides. The padding is right and bottom only: the published weights expect that."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, channels, 3, stride=2)

    def forward(self, x: Tensor) -> Tensor:
        """x [B, C, H, W] -> [B, C, H / 2, W / 2]."""
        return self.conv(F.pad(x, (0, 1, 0, 1)))


class Upsample(nn.Module):
    """Double the sides."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv = _conv3(channels, channels)

    def forward(self, x: Tensor) -> Tensor:
        """x [B, C, H, W] -> [B, C, 2 H, 2 W]."""
        return self.conv(F.interpolate(x, scale_factor=2.0, mode="nearest"))


class Middle(nn.Module):
    """Residual, attention, residual at the smallest resolution."""

    def __init__(self, channels: int, dropout: float, groups: int) -> None:
        super().__init__()
        self.block_1 = ResnetBlock(channels, channels, dropout, groups)
        self.attn_1 = AttnBlock(channels, groups)
        self.block_2 = ResnetBlock(channels, channels, dropout, groups)

    def forward(self, x: Tensor) -> Tensor:
        """x [B, C, H, W] -> the same shape."""
        return self.block_2(self.attn_1(self.block_1(x)))


class Level(nn.Module):
    """The blocks of one resolution, each followed by attention where the resolution has it, then a change of size."""

    def __init__(self, channels: int, out: int, blocks: int, attention: bool, c: VQGANConfig) -> None:
        super().__init__()
        widths = [channels] + [out] * (blocks - 1)
        self.block = nn.ModuleList(ResnetBlock(width, out, c.dropout, c.norm_groups) for width in widths)
        self.attn = nn.ModuleList(AttnBlock(out, c.norm_groups) for _ in range(blocks if attention else 0))
        self.downsample: Downsample | None = None
        self.upsample: Upsample | None = None

    def forward(self, x: Tensor) -> Tensor:
        """x [B, C, H, W] -> [B, C', H', W'], where the level samples down or up."""
        for i, block in enumerate(self.block):
            x = block(x)
            if self.attn:
                x = self.attn[i](x)
        if self.downsample is not None:
            x = self.downsample(x)
        if self.upsample is not None:
            x = self.upsample(x)
        return x


class Encoder(nn.Module):
    """Pixels in -1..1 [B, 3, H, W] -> [B, z_channels, H/R, W/R]"""

    def __init__(self, c: VQGANConfig) -> None:
        super().__init__()
        widths = [c.ch * mult for mult in c.ch_mult]
        self.conv_in = _conv3(c.in_channels, c.ch)
        self.down = nn.ModuleList()
        for i, (channels, out) in enumerate(zip([c.ch, *widths[:-1]], widths, strict=True)):
            attention = c.resolution // 2**i in c.attn_resolutions
            level = Level(channels, out, c.num_res_blocks, attention, c)
            if i < len(widths) - 1:
                level.downsample = Downsample(out)
            self.down.append(level)
        self.mid = Middle(widths[-1], c.dropout, c.norm_groups)
        self.norm_out = _norm(widths[-1], c.norm_groups)
        self.conv_out = _conv3(widths[-1], c.z_channels)

    def forward(self, x: Tensor) -> Tensor:
        """Pixels in -1..1 [B, 3, H, W] -> [B, z, h, w]."""
        h = self.conv_in(x)
        for level in self.down:
            h = level(h)
        return self.conv_out(F.silu(self.norm_out(self.mid(h))))


class Decoder(nn.Module):
    """[B, z_channels, h, w] -> pixels in -1..1, unclamped [B, 3, h*R, w*R]"""

    def __init__(self, c: VQGANConfig) -> None:
        super().__init__()
        widths = [c.ch * mult for mult in c.ch_mult]
        self.conv_in = _conv3(c.z_channels, widths[-1])
        self.mid = Middle(widths[-1], c.dropout, c.norm_groups)
        self.up = nn.ModuleList()  # index 0 is the finest level, run last
        for i, (channels, out) in enumerate(zip([*widths[1:], widths[-1]], widths, strict=True)):
            attention = c.resolution // 2**i in c.attn_resolutions
            level = Level(channels, out, c.num_res_blocks + 1, attention, c)
            if i > 0:
                level.upsample = Upsample(out)
            self.up.append(level)
        self.norm_out = _norm(widths[0], c.norm_groups)
        self.conv_out = _conv3(widths[0], c.out_ch)

    def forward(self, z: Tensor) -> Tensor:
        """z [B, z, h, w] -> pixels [B, 3, H, W], about -1..1."""
        h = self.mid(self.conv_in(z))
        for level in reversed(self.up):
            h = level(h)
        return self.conv_out(F.silu(self.norm_out(h)))


class Quantizer(nn.Module):
    """The two published tables: the projection to code logits and the code embeddings."""

    def __init__(self, c: VQGANConfig) -> None:
        super().__init__()
        self.proj = nn.Conv2d(c.embed_dim, c.n_embed, 1)
        self.embed = nn.Embedding(c.n_embed, c.embed_dim)


class VQGAN(nn.Module):
    """Images to codes and back. `config` is a VQGANConfig or a dict in the published nesting."""

    def __init__(self, config: VQGANConfig | dict[str, Any] = SBER_GUMBEL_F8) -> None:
        super().__init__()
        self.config = config if isinstance(config, VQGANConfig) else VQGANConfig.from_dict(config)
        c = self.config
        self.encoder = Encoder(c)
        self.decoder = Decoder(c)
        self.quantize = Quantizer(c)
        self.quant_conv = nn.Conv2d(c.z_channels, c.embed_dim, 1)
        self.post_quant_conv = nn.Conv2d(c.embed_dim, c.z_channels, 1)

    @property
    def dtype(self) -> torch.dtype:
        """Of the weights."""
        return self.quant_conv.weight.dtype

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return self.quant_conv.weight.device

    def code_logits(self, pixels: Tensor) -> Tensor:
        """Pixels in 0..1 [B, 3, H, W] -> unnormalised log-probabilities of the codes [B, n_embed, H/R, W/R].

        Raises ValueError for pixels of another shape, for whole numbers, and for values outside of 0..1.
        """
        channels, reduction = self.config.in_channels, self.config.reduction
        if pixels.ndim != 4 or pixels.shape[1] != channels or any(side % reduction for side in pixels.shape[2:]):
            raise ValueError(
                f"VQGAN: pixels have shape {tuple(pixels.shape)}; "
                f"expected [B, {channels}, H, W] with H and W multiples of {reduction}"
            )
        if not pixels.is_floating_point():
            raise ValueError(f"VQGAN: pixels are {pixels.dtype}; expected floating point in 0..1")
        if pixels.numel():
            low, high = (float(bound) for bound in torch.aminmax(pixels.detach()))
            if not -ROUNDING <= low <= high <= 1 + ROUNDING:
                raise ValueError(f"VQGAN: pixels in {low:g}..{high:g}; allowed 0..1")
        return self.quantize.proj(self.quant_conv(self.encoder(2 * pixels.to(self.dtype) - 1)))

    def decode_embeddings(self, z: Tensor) -> Tensor:
        """Code embeddings [B, embed_dim, h, w] -> pixels in -1..1, unclamped [B, 3, h*R, w*R]."""
        return self.decoder(self.post_quant_conv(z))

    @torch.no_grad()
    def encode(self, pixels: Tensor) -> Tensor:
        """Pixels in 0..1 [B, 3, H, W] -> most probable codes, row by row [B, H/R * W/R] int64."""
        return self.code_logits(pixels).argmax(dim=1).flatten(1)

    @torch.no_grad()
    def decode(self, codes: Tensor) -> Tensor:
        """Codes of square images [B, n*n] -> pixels in 0..1 [B, 3, n*R, n*R] float32.

        Raises ValueError where the shape is not square, or a code is no whole number or outside 0..n_embed-1.
        """
        side = math.isqrt(codes.shape[-1])
        if codes.ndim != 2 or side * side != codes.shape[1]:
            raise ValueError(f"VQGAN: codes have shape {tuple(codes.shape)}; expected [B, n*n]")
        if codes.is_floating_point() or codes.is_complex() or codes.dtype == torch.bool:
            raise ValueError(f"VQGAN: codes are {codes.dtype}; expected whole numbers in 0..{self.config.n_embed - 1}")
        if codes.numel() and not 0 <= int(codes.min()) <= int(codes.max()) < self.config.n_embed:
            raise ValueError(
                f"VQGAN: codes in {int(codes.min())}..{int(codes.max())}; allowed 0..{self.config.n_embed - 1}"
            )
        z = self.quantize.embed(codes.long()).unflatten(1, (side, side)).permute(0, 3, 1, 2)  # [B, embed_dim, n, n]
        return ((self.decode_embeddings(z).float().clamp(-1, 1) + 1) / 2).contiguous()

    @classmethod
    def from_pretrained(cls, path: str | os.PathLike[str]) -> VQGAN:
        """Load from a folder (`config.json` + `model.safetensors`, else one `.ckpt`) or from a `.ckpt` file.

        A checkpoint without a `config.json` beside it is taken for the published Sber one. The result is float32, on
        the CPU, in evaluation mode. Raises FileNotFoundError or ValueError naming the file.
        """
        path = Path(path)
        weights = _find_weights(path) if path.is_dir() else path
        if not weights.is_file():
            raise FileNotFoundError(f"{path}: no such file or folder with VQGAN weights")
        config_path = weights.parent / CONFIG_NAME
        config = SBER_GUMBEL_F8
        if config_path.is_file():
            try:
                document = json.loads(config_path.read_text(encoding="utf-8"))
            except ValueError as error:
                raise ValueError(f"{config_path}: is not JSON: {error}") from error
            config = VQGANConfig.from_dict(document, str(config_path))
        elif weights.suffix == ".safetensors":
            raise FileNotFoundError(f"{config_path}: missing beside {weights.name}")
        state = _read_state(weights)
        levels, blocks = len(config.ch_mult), config.num_res_blocks
        if levels * blocks > len(state):  # each block has tensors; so many more would take forever to build
            raise ValueError(
                f"{weights}: does not fit the sizes of {config_path.name}: {levels} levels of {blocks} blocks, but"
                f" {len(state)} tensors"
            )
        with torch.device("meta"), Uninitialized():  # no memory for sizes that may not be those of the file
            model = cls(config)
        try:
            model.load_state_dict(state, assign=True)
        except RuntimeError as error:
            raise ValueError(f"{weights}: does not fit the sizes of {config_path.name}: {error}") from error
        return model.eval()

    def save_pretrained(self, folder: str | os.PathLike[str], dtype: torch.dtype = torch.float32) -> None:
        """Write `config.json` and `model.safetensors` into `folder`, each atomically; `dtype` is the file's only."""
        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        state = {name: value.detach().to("cpu", dtype).contiguous() for name, value in self.state_dict().items()}
        with replacing(folder / SAFETENSORS_NAME) as temporary:
            save_file(state, temporary)
        with replacing(folder / CONFIG_NAME) as temporary:
            temporary.write_text(json.dumps(self.config.to_dict(), indent=1) + "\n", encoding="utf-8")


def _find_weights(folder: Path) -> Path:
    if (folder / SAFETENSORS_NAME).is_file():
        return folder / SAFETENSORS_NAME
    checkpoints = sorted(folder.glob("*.ckpt"))
    if len(checkpoints) != 1:
        found = [p.name for p in checkpoints] or "none"
        raise FileNotFoundError(f"{folder}: needs {SAFETENSORS_NAME} or exactly one *.ckpt (found: {found})")
    return checkpoints[0]


def _read_state(path: Path) -> dict[str, Tensor]:
    """The float32 state dict of a safetensors file or of a checkpoint's key `state_dict`, mapped where it can be."""
    if path.suffix == ".safetensors":
        state = load_file(path)
    else:
        try:
            checkpoint: object = unpickled(path)
        except (pickle.UnpicklingError, EOFError, RuntimeError, LookupError) as error:
            # torch's own message advises unpickling everything; only its reason is passed on.
            reason = str(error).rpartition("WeightsUnpickler error: ")[2].partition(" Please use")[0].strip()
            raise ValueError(
                f"{path}: is damaged or holds more than tensors; it is not loaded, as unpickling it could run code. "
                'Where you trust the file, load it elsewhere and save it again as torch.save({"state_dict": ...}). '
                f"Reason: {reason}"
            ) from error
        if not isinstance(checkpoint, dict) or not isinstance(checkpoint.get("state_dict"), dict):
            found = sorted(map(str, checkpoint))[:5] if isinstance(checkpoint, dict) else type(checkpoint).__name__
            raise ValueError(f"{path}: no key 'state_dict' (found: {found})")
        state = checkpoint["state_dict"]
        odd = sorted(str(name) for name, value in state.items() if not isinstance(value, Tensor))
        if odd:
            raise ValueError(f"{path}: state_dict holds values that are no tensors: {odd[:5]}")
    return {name: value.float() for name, value in state.items() if not name.startswith(IGNORED_PREFIXES)}
