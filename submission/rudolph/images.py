"""Pictures in and out: safe loading, the model's crop and resize, JPEG writing. Only `preprocess` imports torch."""

from __future__ import annotations

import io
import os
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np
from PIL import ExifTags, Image

from .files import replacing

if TYPE_CHECKING:
    from torch import Tensor

MAX_PIXELS = 50_000_000  # decoded size; a few kB of PNG can otherwise claim gigabytes
FORMATS = ("JPEG", "PNG", "WEBP", "BMP", "GIF", "TIFF")  # PIL's other decoders start programs or are rarely tested
JPEG_QUALITY = 95
Fit = Literal["crop", "whole"]  # how a picture becomes a square
#: What turns a picture upright, by EXIF's Orientation.
_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT, 3: Image.Transpose.ROTATE_180, 4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE, 6: Image.Transpose.ROTATE_270, 7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}  # fmt: skip


class ImageError(ValueError):
    """A file that cannot be used as an image; the message names it."""


def load_image(source: str | os.PathLike[str] | bytes) -> Image.Image:
    """Decode a file or its bytes to an RGB image: upright by its EXIF tag, transparency on white, first frame only.

    Raises ImageError, naming the file, where it is missing, damaged, of a format not in `FORMATS`, or above
    `MAX_PIXELS`.
    """
    name = f"<{len(source)} bytes>" if isinstance(source, bytes) else os.fspath(source)
    try:
        with Image.open(io.BytesIO(source) if isinstance(source, bytes) else source, formats=FORMATS) as image:
            width, height = image.size
            if width * height > MAX_PIXELS:
                raise ImageError(f"{name}: {width}×{height} pixels; allowed are {MAX_PIXELS}")
            image.load()
            return flatten(upright(image))
    except ImageError:
        raise
    except Image.UnidentifiedImageError as error:
        raise ImageError(f"{name}: not an image in one of the formats {', '.join(FORMATS)}") from error
    except Exception as error:  # a decoder of damaged files may raise anything; all of it means the same
        raise ImageError(f"{name}: cannot be read as an image: {error}") from error


def upright(image: Image.Image) -> Image.Image:
    """An image turned as its EXIF says. `ImageOps.exif_transpose` also writes EXIF anew, and so fails on sound pixels
    beside tags that it cannot write.
    """
    turn = _TURNS.get(_orientation(image))
    return image if turn is None else image.transpose(turn)


def upright_size(path: str | os.PathLike[str]) -> tuple[int, int]:
    """Width and height of the image that `load_image` gives, without decoding it. Raises ImageError."""
    try:
        with Image.open(path, formats=FORMATS) as image:
            width, height = image.size
            return (height, width) if _orientation(image) in (5, 6, 7, 8) else (width, height)
    except Exception as error:  # as in `load_image`
        raise ImageError(f"{os.fspath(path)}: cannot be read as an image: {error}") from error


def _orientation(image: Image.Image) -> int:
    try:
        orientation = image.getexif().get(ExifTags.Base.Orientation, 1)
    except Exception:  # EXIF that cannot be read says nothing
        return 1
    return orientation if isinstance(orientation, int) else 1


def flatten(image: Image.Image) -> Image.Image:
    """RGB of an image of any mode, transparency on white."""
    if image.mode[0] in "IF":  # more than 8 bits a pixel: PIL's conversion would clip all but the darkest 256 levels
        levels = np.asarray(image).astype(np.float64)
        brightest = levels.max(initial=0, where=np.isfinite(levels))
        levels = np.nan_to_num(levels)
        if image.mode.startswith("I;16") or brightest > 255:
            levels = levels // 256
        elif image.mode == "F" and brightest <= 1:
            levels = levels * 255
        return Image.fromarray(levels.clip(0, 255).astype(np.uint8)).convert("RGB")
    if not image.has_transparency_data:
        return image.convert("RGB")
    image = image.convert("RGBA")
    return Image.alpha_composite(Image.new("RGBA", image.size, "white"), image).convert("RGB")


def preprocess(image: Image.Image, size: int, fit: Fit = "crop") -> Tensor:
    """Centre-crop to the short side and resize to the model's input, float32 in 0..1 [3, size, size].

    PIL's antialiased bilinear filter on 8-bit pixels after the crop: equal to the published preprocessing bit for bit.
    fit: `whole` leaves the crop out, so that a picture that is no square is squeezed.
    """
    if fit == "whole":
        return _pixels(image.convert("RGB").resize((size, size), Image.Resampling.BILINEAR))
    width, height = image.size
    side = min(width, height)
    left, top = (width - side) // 2, (height - side) // 2  # as torchvision's RandomResizedCrop(scale=(1, 1)) does
    image = image.convert("RGB").crop((left, top, left + side, top + side))
    return _pixels(image.resize((size, size), Image.Resampling.BILINEAR))


def _pixels(image: Image.Image) -> Tensor:
    import torch

    return torch.from_numpy(np.array(image)).permute(2, 0, 1).contiguous().float() / 255


def to_image(pixels: Tensor) -> Image.Image:
    """Pixels in 0..1 [3, H, W] -> RGB image; values outside are clamped."""
    if pixels.ndim != 3 or pixels.shape[0] != 3:
        raise ValueError(f"to_image: pixels have shape {tuple(pixels.shape)}; expected [3, H, W]")
    array = (pixels.detach().float().clamp(0, 1) * 255).round().byte().cpu().permute(1, 2, 0)
    return Image.fromarray(array.contiguous().numpy())


def save_jpeg(image: Image.Image, path: str | os.PathLike[str], quality: int = JPEG_QUALITY) -> None:
    """Write a JPEG under a temporary name beside `path`, then rename: a reader never sees half a file."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    with replacing(path) as temporary:
        image.convert("RGB").save(temporary, "JPEG", quality=quality)
