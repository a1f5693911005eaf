"""Decoding images under limits: in this process, or, for untrusted bytes, in one that may hang, crash or be killed.

What bounds the time of a folder of untrusted images: each file's bytes, pixels and scans; all files' bytes and pixels
(`limits.MAX_FOLDER_IMAGE_BYTES`, `limits.MAX_FOLDER_PIXELS`); and, whatever a decoder does, the clock
(`limits.DECODE_SECONDS` an image, `limits.FOLDER_DECODE_SECONDS` together).
"""

import contextlib
import hashlib
import io
import json
import os
import resource
import select
import struct
import subprocess
import sys
import time
import warnings
from pathlib import Path
from typing import IO, Any

from PIL import Image

from evaluator.core import limits
from evaluator.core.errors import EvaluatorError, Rule, RuleBroken, show
from evaluator.core.files import read_regular

IMAGE_FORMAT = Rule(
    "image-format",
    f"an image of a known format ({', '.join(limits.IMAGE_FORMATS)}), by content, whatever the name",
    "save the image as JPEG or PNG",
)
IMAGE_BROKEN = Rule("image-broken", "an image that decodes to its last pixel", "save the image whole, and open it once")
IMAGE_PIXELS = Rule(
    "image-pixels",
    f"at most {limits.MAX_IMAGE_PIXELS} pixels, the longer side at most {limits.MAX_IMAGE_RATIO} times the shorter",
    "save the image smaller; metrics look at 256 x 256 to 336 x 336 pixels",
)
IMAGE_SCANS = Rule(
    "image-scans", f"JPEGs of at most {limits.MAX_JPEG_SCANS} scans", "save the JPEG anew, as baseline or progressive"
)
IMAGE_TIME = Rule(
    "image-time", f"an image that decodes within {limits.DECODE_SECONDS:g} s", "save the image anew, as JPEG or PNG"
)
# No fault: what is noted of an image.
IMAGE_DEPTH = Rule(
    "image-depth",
    "8 bits a channel; in grey of 16 bits every level above 255 counts as white, as in the published evaluation",
    "save the image with 8 bits: its levels divided by 256",
)
FOLDER_BYTES = Rule(
    "folder-bytes",
    f"at most {limits.MAX_FOLDER_IMAGE_BYTES} bytes in all scored images together",
    "save images smaller",
)
FOLDER_PIXELS = Rule(
    "folder-pixels", f"at most {limits.MAX_FOLDER_PIXELS} pixels in all scored images together", "save images smaller"
)
FOLDER_TIME = Rule(
    "folder-time",
    f"images that decode within {limits.FOLDER_DECODE_SECONDS:g} s together",
    "save images smaller, as JPEG or PNG",
)
_DECODE_RULES = {rule.name: rule for rule in (IMAGE_FORMAT, IMAGE_BROKEN, IMAGE_PIXELS, IMAGE_SCANS)}

_LENGTH = struct.Struct(">Q")
_START_SECONDS = 120.0  # the start of the decoder's process, which is ours and may wait for a busy machine
_READY = b"R"
# Of a freed image Pillow keeps nothing by itself: the memory of each new one comes from the system, which clears it,
# and that takes as long as decoding. So many blocks, of 16 MB at most, are kept for the next images instead.
Image.core.set_blocks_max(16)
#: In the `info` of a decoded image that had more than 8 bits a pixel: its mode in the file, such as I;16.
DEEP_MODE = "deep mode"


def load_image(root: Path, relative: str) -> Image.Image:
    """An image below `root`, decoded whole, in this process, into a new RGB image that carries nothing but pixels.

    Raises `RuleBroken` (a ValueError) for all that `read_regular` and `decode` refuse.
    """
    return decode(read_regular(root, relative, limits.MAX_IMAGE_BYTES))


def decode(content: bytes) -> Image.Image:
    """The image in an image file's bytes, as a new RGB image of its pixels alone (alpha is dropped).

    Grey with 16 bits is clipped to 255, as in the published evaluation, and named in `info` (`DEEP_MODE`).

    Raises `RuleBroken`: a format not in `limits.IMAGE_FORMATS`, too many pixels or scans, cut short or broken.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # Pillow warns of large images on its own; the limit below decides
            image = Image.open(io.BytesIO(content), formats=limits.IMAGE_FORMATS)
            short, long = sorted(image.size)
            if short * long > limits.MAX_IMAGE_PIXELS or long > limits.MAX_IMAGE_RATIO * short:
                raise RuleBroken(IMAGE_PIXELS, f"the image has {image.width} x {image.height} pixels")
            # Within a JPEG's data these two bytes are always a scan's start; in its metadata they may stand by chance.
            # Not by image.format: Pillow calls a JPEG with a list of further pictures an MPO.
            if content.startswith(b"\xff\xd8") and (scans := content.count(b"\xff\xda")) > limits.MAX_JPEG_SCANS:
                raise RuleBroken(IMAGE_SCANS, f"the JPEG has {scans} scans")
            decoded = image.convert("RGB")  # a new image of the pixels and `info`, whatever mode the file has
            decoded.info = {DEEP_MODE: image.mode} if image.mode[0] in "IF" else {}
            return decoded
    except RuleBroken:
        raise
    except Image.DecompressionBombError:
        bomb = f"the image has more than {limits.MAX_IMAGE_PIXELS} pixels"
        raise RuleBroken(IMAGE_PIXELS, bomb) from None
    except Image.UnidentifiedImageError:
        raise RuleBroken(IMAGE_FORMAT, "the file is not a readable image of a known format") from None
    except Exception as error:  # a decoder fed with hostile bytes may raise anything; all of it means the same
        raise RuleBroken(IMAGE_BROKEN, f"the image cannot be decoded: {show(str(error))}") from None


def pixel_digest(image: Image.Image) -> str:
    """A hash of an RGB image's size and pixels, the same for every lossless file of it."""
    return hashlib.sha256(f"{image.width}x{image.height}:".encode() + image.tobytes()).hexdigest()


class Decoder:
    """`decode` in a process of its own, which starts with the first image and serves all until `close`.

    A decoder that hangs is killed after `seconds`, one that crashes or wants more memory than
    `limits.DECODER_MEMORY_BYTES` ends alone, and the next image gets a new process. `pixels` and `elapsed` (seconds)
    sum up what was decoded; with `limited` both end at what a folder may have.
    """

    def __init__(
        self, seconds: float = limits.DECODE_SECONDS, module: str = "evaluator.data.images", limited: bool = True
    ) -> None:
        self.seconds, self.pixels, self.elapsed, self.limited = seconds, 0, 0.0, limited
        self._module = module
        self._process: subprocess.Popen[bytes] | None = None

    def close(self) -> None:
        """End the process, if there is one."""
        process, self._process = self._process, None
        if process is not None:
            process.kill()
            with contextlib.suppress(OSError):  # what could not be written to it any more
                process.communicate()

    def check_folder(self) -> None:
        """Raise `RuleBroken` when the images decoded so far have used up what a folder may."""
        if not self.limited:
            return
        if self.elapsed > limits.FOLDER_DECODE_SECONDS:
            raise RuleBroken(FOLDER_TIME, f"images before this one took {self.elapsed:.0f} s to decode")
        if self.pixels > limits.MAX_FOLDER_PIXELS:
            raise RuleBroken(FOLDER_PIXELS, f"images before this one have {self.pixels} pixels")

    def decode(self, content: bytes) -> Image.Image:
        """As the function `decode`; also raises `RuleBroken` when it takes too long, or as `check_folder` does."""
        self.check_folder()
        process = self._process or self._start()
        start = time.monotonic()
        try:
            header, pixels = self._ask(process, content, start + self.seconds)
        except TimeoutError:
            self.close()
            raise RuleBroken(IMAGE_TIME, f"the image took longer than {self.seconds:g} s to decode") from None
        except (OSError, EOFError):
            self.close()
            raise RuleBroken(IMAGE_BROKEN, "the image made its decoder crash or run out of memory") from None
        finally:
            self.elapsed += time.monotonic() - start
        if "rule" in header:
            raise RuleBroken(_DECODE_RULES[header["rule"]], header["found"])
        image = Image.frombytes("RGB", (header["width"], header["height"]), pixels)
        if header["deep"]:
            image.info[DEEP_MODE] = header["deep"]
        self.pixels += image.width * image.height
        return image

    def _start(self) -> subprocess.Popen[bytes]:
        paths = [str(Path(__file__).parents[2]), *filter(None, [os.environ.get("PYTHONPATH")])]
        # -P: the current folder, which may hold anything, is no place to import from.
        self._process = subprocess.Popen(
            [sys.executable, "-P", "-m", self._module],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env=os.environ | {"PYTHONPATH": os.pathsep.join(paths)},
        )
        try:
            _read(_output(self._process), len(_READY), time.monotonic() + _START_SECONDS)
        except (OSError, EOFError) as error:
            self.close()
            raise EvaluatorError(f"the process that decodes images did not start: {error!r}") from error
        return self._process

    @staticmethod
    def _ask(process: subprocess.Popen[bytes], content: bytes, deadline: float) -> tuple[dict[str, Any], bytes]:
        """The answer's header and pixels. Raises TimeoutError, EOFError, or OSError for a pipe that broke."""
        assert process.stdin is not None
        process.stdin.write(_LENGTH.pack(len(content)) + content)  # the other side reads it all before it decodes
        process.stdin.flush()
        output = _output(process)
        (length,) = _LENGTH.unpack(_read(output, _LENGTH.size, deadline))
        header = json.loads(_read(output, length, deadline))
        if "rule" in header:
            return header, b""
        return header, _read(output, 3 * header["width"] * header["height"], deadline)


def _output(process: subprocess.Popen[bytes]) -> int:
    assert process.stdout is not None
    return process.stdout.fileno()


def _read(descriptor: int, length: int, deadline: float) -> bytes:
    """`length` bytes from a pipe. Raises TimeoutError at `deadline` (of time.monotonic), EOFError at the end."""
    content = bytearray()
    poll = select.poll()
    poll.register(descriptor, select.POLLIN)
    while len(content) < length:
        if not poll.poll(max(0.0, 1000 * (deadline - time.monotonic()))):
            raise TimeoutError
        piece = os.read(descriptor, min(length - len(content), 2**20))
        if not piece:
            raise EOFError
        content += piece
    return bytes(content)


def _serve(requests: IO[bytes], answers: IO[bytes]) -> None:
    """The other side of `Decoder`: for each image its size and pixels, or the rule it breaks, until the pipe ends."""
    answers.write(_READY)
    answers.flush()
    while length := requests.read(_LENGTH.size):
        pixels = b""
        header: dict[str, Any]
        try:
            image = decode(requests.read(_LENGTH.unpack(length)[0]))
            pixels = image.tobytes()
            header = {"width": image.width, "height": image.height, "deep": image.info.get(DEEP_MODE)}
        except RuleBroken as broken:
            header = {"rule": broken.rule.name, "found": broken.found}
        encoded = json.dumps(header).encode()
        answers.write(_LENGTH.pack(len(encoded)) + encoded + pixels)
        answers.flush()


def main() -> None:
    """The process of `Decoder`: limits itself, then serves standard input until it ends."""
    resource.setrlimit(resource.RLIMIT_AS, (limits.DECODER_MEMORY_BYTES,) * 2)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    # Should this process be left alone in a decoder that hangs, no one is there to kill it.
    seconds = int(limits.FOLDER_DECODE_SECONDS + limits.DECODE_SECONDS)
    resource.setrlimit(resource.RLIMIT_CPU, (seconds, seconds))
    with os.fdopen(os.dup(sys.stdout.fileno()), "wb") as answers:
        os.dup2(sys.stderr.fileno(), sys.stdout.fileno())  # what a library prints must not be taken for an answer
        _serve(sys.stdin.buffer, answers)


if __name__ == "__main__":
    main()
