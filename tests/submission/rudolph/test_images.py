"""Image loading, preprocessing (against tests/data/vqgan) and writing."""

import io
import os
import struct
import threading
import zlib
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image, ImageOps

from rudolph import images
from rudolph.images import ImageError, load_image, preprocess, save_jpeg, to_image, upright_size

DATA = Path(__file__).parents[2] / "data" / "vqgan"


def encoded(image: Image.Image, format: str = "PNG", **options) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, format, **options)
    return buffer.getvalue()


@pytest.mark.parametrize("index", range(3))  # square, wide with an odd margin, tall
def test_preprocess_equals_the_published_pixels(index):
    expected = np.load(DATA / "reference.npz")["pixels_published"][index]
    pixels = preprocess(load_image(DATA / f"image_{index}.png"), 64)
    assert pixels.dtype == torch.float32 and pixels.is_contiguous()
    assert np.array_equal(pixels.numpy(), expected)


# By torchvision's RandomResizedCrop(scale=(1, 1), ratio=(1, 1)). Where sides differ by one, its crop is random.
@pytest.mark.parametrize(
    ("size", "corner"),
    [((500, 333), (83, 0)), ((333, 500), (0, 83)), ((640, 425), (107, 0)), ((1280, 853), (213, 0)),
     ((500, 375), (62, 0)), ((35, 32), (1, 0)), ((39, 32), (3, 0)), ((34, 32), (1, 0)), ((33, 32), (0, 0))],
)  # fmt: skip
def test_the_square_begins_at_half_the_excess_rounded_down(size, corner):
    image = Image.fromarray(np.random.default_rng(0).integers(0, 256, (size[1], size[0], 3), dtype=np.uint8))
    (left, top), side = corner, min(size)
    square = image.crop((left, top, left + side, top + side))
    assert torch.equal(preprocess(image, 24), preprocess(square, 24))


@pytest.mark.parametrize("size", [(1, 1), (1, 300), (301, 7), (64, 64)])
def test_preprocess_takes_any_size_and_mode(size):
    for mode in ("RGB", "L", "RGBA"):
        pixels = preprocess(Image.new(mode, size, "white"), 32)
        assert pixels.shape == (3, 32, 32) and (pixels == 1).all()


def test_a_whole_picture_is_squeezed_to_its_edges():
    wide = Image.new("RGB", (90, 30), "white")
    wide.paste("red", (0, 0, 15, 30))  # beyond the middle square
    whole, cropped = preprocess(wide, 30, "whole"), preprocess(wide, 30)
    assert whole.shape == (3, 30, 30) and (cropped == 1).all()
    assert whole[:, :, 2].tolist() == [[1.0] * 30, [0.0] * 30, [0.0] * 30] and (whole[:, :, 7:] == 1).all()
    square = wide.resize((40, 40))
    assert torch.equal(preprocess(square, 30, "whole"), preprocess(square, 30))


@pytest.mark.parametrize("orientation", range(1, 9))
def test_the_upright_size_is_that_of_the_loaded_image(tmp_path, orientation):
    image = Image.new("RGB", (30, 20))
    exif = image.getexif()
    exif[0x0112] = orientation
    image.save(tmp_path / "a.jpg", exif=exif)
    assert upright_size(tmp_path / "a.jpg") == load_image(tmp_path / "a.jpg").size


def test_path_and_bytes_agree():
    path = DATA / "image_1.png"
    assert load_image(path) == load_image(str(path)) == load_image(path.read_bytes())


@pytest.mark.parametrize("mode", ["RGBA", "LA", "P"])
def test_transparency_becomes_white(mode):
    image = Image.new("RGBA", (2, 1), (0, 0, 0, 0))
    image.putpixel((1, 0), (0, 0, 0, 255))
    loaded = load_image(encoded(image.convert(mode)))
    assert loaded.mode == "RGB"
    assert [loaded.getpixel((x, 0)) for x in (0, 1)] == [(255, 255, 255), (0, 0, 0)]


def test_palette_and_rgb_with_a_transparent_colour():
    palette = Image.new("P", (1, 1), 0)
    palette.putpalette([10, 20, 30])
    assert load_image(encoded(palette, transparency=0)).getpixel((0, 0)) == (255, 255, 255)
    assert load_image(encoded(Image.new("RGB", (1, 1), "red"), transparency=(255, 0, 0))).getpixel((0, 0)) == (255,) * 3


def test_half_transparency_is_blended():
    assert load_image(encoded(Image.new("RGBA", (1, 1), (0, 0, 0, 51)))).getpixel((0, 0)) == (204, 204, 204)


def test_sixteen_bit_grey_keeps_its_tones():
    array = np.array([[0, 0x8000, 0xFFFF]], dtype=np.uint16)
    loaded = load_image(encoded(Image.fromarray(array)))
    assert [loaded.getpixel((x, 0))[0] for x in range(3)] == [0, 128, 255]


def test_exif_orientation_is_applied():
    image = Image.new("RGB", (16, 8), "blue")
    image.paste("red", (0, 0, 8, 8))
    exif = Image.Exif()
    exif[0x0112] = 6  # the camera was turned: show it rotated 90° clockwise
    loaded = load_image(encoded(image, "JPEG", exif=exif, quality=100))
    assert loaded.size == (8, 16)
    top, bottom = loaded.getpixel((4, 2)), loaded.getpixel((4, 13))
    assert top[0] > 200 > 50 > top[2] and bottom[2] > 200 > 50 > bottom[0]


@pytest.mark.parametrize("orientation", range(9))
def test_every_orientation_is_turned_as_pil_does(orientation):
    image = Image.effect_noise((6, 4), 90).convert("RGB")
    exif = Image.Exif()
    exif[0x0112] = orientation
    stored = Image.open(io.BytesIO(encoded(image, exif=exif)))
    assert images.upright(stored).tobytes() == ImageOps.exif_transpose(stored).tobytes()


def test_pixels_stay_where_exif_cannot_be_written_again():
    """Turned by 90 degrees, with a camera's name that is a float."""
    tags = [(0x010F, 11, 1, struct.pack(">f", 1.5)), (0x0112, 3, 1, struct.pack(">HH", 6, 0))]
    exif = b"MM\0*" + struct.pack(">IH", 8, 2)
    exif += b"".join(struct.pack(">HHI", *tag[:3]) + tag[3] for tag in tags) + bytes(4)
    loaded = load_image(encoded(Image.new("RGB", (32, 24), "red"), exif=b"Exif\0\0" + exif))
    assert loaded.size == (24, 32) and loaded.getpixel((5, 5)) == (255, 0, 0)


@pytest.mark.parametrize("value", [200, 200 * 256, 200 / 255])
def test_thirty_two_bits_keep_their_tones(value):
    array = np.full((2, 2), value, dtype=np.float32 if value < 1 else np.int32)
    assert load_image(encoded(Image.fromarray(array), "TIFF")).getpixel((0, 0)) in ((200,) * 3, (199,) * 3)


def test_a_float_that_is_none_leaves_the_others():
    loaded = load_image(encoded(Image.fromarray(np.array([[10, 200, np.inf, np.nan]], dtype=np.float32)), "TIFF"))
    assert [loaded.getpixel((x, 0))[0] for x in range(4)] == [10, 200, 255, 0]


@pytest.mark.parametrize("format", ["JPEG", "PNG", "WEBP", "BMP", "GIF", "TIFF"])
def test_formats(format):
    assert load_image(encoded(Image.new("RGB", (8, 8), "green"), format)).size == (8, 8)


def test_cmyk_jpeg():
    assert load_image(encoded(Image.new("CMYK", (8, 8), (0, 0, 0, 0)), "JPEG")).getpixel((0, 0)) == (255, 255, 255)


def png_claiming(width: int, height: int) -> bytes:
    """A small PNG whose header announces any size."""

    def chunk(name: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))

    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT", zlib.compress(b"\0" * 100)) + chunk(b"IEND", b"")


@pytest.mark.parametrize("side", [7072, 12000, 60000])  # just over the limit; PIL's own warning; PIL's own error
@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")
def test_decompression_bombs_are_refused(tmp_path, side):
    assert side**2 > images.MAX_PIXELS
    path = tmp_path / "бомба.png"
    path.write_bytes(png_claiming(side, side))
    with pytest.raises(ImageError, match="бомба.png.*(pixels|decompression bomb)"):
        load_image(path)


def test_damaged_files_name_the_path(tmp_path):
    whole = {"a.png": (DATA / "image_2.png").read_bytes(), "a.jpg": encoded(load_image(DATA / "image_2.png"), "JPEG")}
    rng = np.random.default_rng(0)
    refused = 0
    for name, data in whole.items():
        path = tmp_path / name
        for cut in (0, 1, 8, 20, 40, len(data) // 2):
            path.write_bytes(data[:cut])
            with pytest.raises(ImageError, match=name):
                load_image(path)
        for _ in range(200):  # bits flipped at random: an image or an ImageError, nothing else
            noisy = bytearray(data)
            for position in rng.integers(0, len(data), 3):
                noisy[position] ^= int(rng.integers(1, 256))
            try:
                assert load_image(bytes(noisy)).mode == "RGB"
            except ImageError:
                refused += 1
    assert refused


def test_what_is_no_image(tmp_path):
    (tmp_path / "a.eps").write_text("%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 1 1\n")
    with pytest.raises(ImageError, match="a.eps: not an image in one of the formats JPEG"):
        load_image(tmp_path / "a.eps")
    with pytest.raises(ImageError, match="absent.png"):
        load_image(tmp_path / "absent.png")
    with pytest.raises(ImageError, match=str(tmp_path)):
        load_image(tmp_path)
    with pytest.raises(ImageError, match="<5 bytes>"):
        load_image(b"hello")
    with pytest.raises(ImageError, match="cannot be read"):
        load_image("a\0b.png")


def test_to_image_inverts_and_clamps():
    pixels = preprocess(load_image(DATA / "image_0.png"), 64)
    assert torch.equal(preprocess(to_image(pixels), 64), pixels)
    assert to_image(torch.tensor([-1.0, 2.0, 0.5]).view(3, 1, 1)).getpixel((0, 0)) == (0, 255, 128)
    assert to_image(torch.zeros(3, 4, 2)).size == (2, 4)
    with pytest.raises(ValueError, match=r"\(4, 4, 3\)"):
        to_image(torch.zeros(4, 4, 3))


def test_save_jpeg_is_atomic(tmp_path):
    path = tmp_path / "images" / "image_0.jpg"
    colours = [Image.effect_noise((256, 256), 60).convert("RGB"), Image.new("RGBA", (256, 256), "red")]
    save_jpeg(colours[0], path)
    seen, stop = [], threading.Event()

    def read() -> None:
        while not stop.is_set():
            seen.append(load_image(path).size)

    reader = threading.Thread(target=read)
    reader.start()
    for i in range(30):
        save_jpeg(colours[i % 2], path)
    stop.set()
    reader.join()
    assert set(seen) == {(256, 256)}
    with Image.open(path) as image:
        assert image.format == "JPEG" and image.quantization[0][0] <= 2  # quality 95
    assert os.listdir(path.parent) == ["image_0.jpg"]


def test_save_jpeg_leaves_nothing_behind_on_failure(tmp_path):
    with pytest.raises(OSError):
        save_jpeg(Image.new("RGB", (70000, 1)), tmp_path / "wide.jpg")  # JPEG sides end at 65535
    assert os.listdir(tmp_path) == []
