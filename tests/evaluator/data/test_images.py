"""Decoding images, in this process and in one that may hang, crash or grow."""

import contextlib
import io
import time

import pytest
from PIL import Image

from evaluator.core import limits
from evaluator.core.errors import (
    EvaluatorError,
    RuleBroken,
)
from evaluator.data import images
from evaluator.data.images import load_image, pixel_digest


def test_decoded_image_is_pixels_alone(tmp_path):
    image = Image.new("RGBA", (7, 5), (10, 20, 30, 128))
    image.info["comment"] = "скрытый текст"
    image.save(tmp_path / "x.png")
    loaded = load_image(tmp_path, "x.png")
    assert (loaded.mode, loaded.size, loaded.info, loaded.getpixel((3, 3))) == ("RGB", (7, 5), {}, (10, 20, 30))
    assert pixel_digest(loaded) == pixel_digest(Image.new("RGB", (7, 5), (10, 20, 30)))
    assert pixel_digest(loaded) != pixel_digest(Image.new("RGB", (5, 7), (10, 20, 30)))


def test_scans_are_counted_in_a_jpeg_with_further_pictures():
    """An MPO, which is a JPEG to every other decoder."""
    file, picture = io.BytesIO(), Image.new("RGB", (64, 64), (200, 30, 30))
    picture.save(file, "MPO", save_all=True, append_images=[picture], progressive=True)
    assert images.decode(file.getvalue()).size == (64, 64)
    scan = b"\xff\xda\x00\x08\x01\x01\x00\x00\x3f\x00"
    with pytest.raises(RuleBroken) as caught:
        images.decode(file.getvalue() + scan * limits.MAX_JPEG_SCANS)
    assert caught.value.rule is images.IMAGE_SCANS


def test_jpeg_with_a_scan_for_every_second(tmp_path):
    base = io.BytesIO()
    Image.new("RGB", (64, 64), (200, 30, 30)).save(base, "JPEG", progressive=True)
    body = base.getvalue().removesuffix(b"\xff\xd9")
    last_scan = body[body.rindex(b"\xff\xda") :]
    for copies, message in ((1, None), (limits.MAX_JPEG_SCANS, "scans; allowed: JPEGs of at most 100 scans")):
        (tmp_path / "x.jpg").write_bytes(body + last_scan * copies + b"\xff\xd9")
        if message is None:
            assert load_image(tmp_path, "x.jpg").size == (64, 64)
        else:
            with pytest.raises(ValueError, match=message):
                load_image(tmp_path, "x.jpg")


HOSTILE_DECODER = """
import os, signal, time
from evaluator.data import images

decode = images.decode

def hostile(content):
    if content == b"hang":
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        time.sleep(600)
    if content == b"crash":
        os.kill(os.getpid(), signal.SIGSEGV)
    if content == b"memory":
        return bytearray(3 * 2**30)
    return decode(content)

images.decode = hostile
images.main()
"""


@pytest.mark.slow
def test_a_decoder_that_hangs_crashes_or_grows_costs_one_image(tmp_path, monkeypatch):
    (tmp_path / "hostile_decoder.py").write_text(HOSTILE_DECODER)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    file = io.BytesIO()
    Image.new("RGB", (5, 4), (1, 2, 3)).save(file, "PNG")
    with contextlib.closing(images.Decoder(seconds=3.0, module="hostile_decoder")) as decoder:
        for content, rule in ((b"crash", "image-broken"), (b"memory", "image-broken"), (b"hang", "image-time")):
            start = time.monotonic()
            with pytest.raises(RuleBroken) as caught:
                decoder.decode(content)
            assert caught.value.rule.name == rule and time.monotonic() - start < 300
            image = decoder.decode(file.getvalue())
            assert (image.size, image.getpixel((4, 3))) == ((5, 4), (1, 2, 3))
        assert decoder.pixels == 3 * 20 and decoder.elapsed >= 3.0
        process = decoder._process
    assert process.poll() is not None


def test_a_decoder_that_does_not_start_is_our_fault(monkeypatch):
    decoder = images.Decoder(module="evaluator.no_such_module")
    with pytest.raises(EvaluatorError) as caught:
        decoder.decode(b"")
    assert caught.value.exit_code == 3
