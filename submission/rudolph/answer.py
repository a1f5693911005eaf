"""Questions in, answers out: prompts, the route, answers in text and images, in batches.

What a question gets does not depend on the batch that it is in: every draw is seeded by the run's seed and its id. (In
bfloat16 or float16 a batch's rounding can still tip a choice between ids that are all but equal.)
"""

from __future__ import annotations

import hashlib
import logging
import os
import pickle
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, Literal, get_args

import torch
from PIL import Image
from safetensors import SafetensorError
from torch import Tensor

from .config import BOS, EOS, PAD
from .generate import generate_image, generate_text
from .images import JPEG_QUALITY, ImageError, load_image, preprocess, to_image
from .modeling import RudolphModel
from .route import Route, outputs, text_probability
from .sampling import GREEDY, IMAGE_SAMPLING, Sampling
from .tokenizer import Tokenizer
from .vqgan import VQGAN

logger = logging.getLogger(__name__)

EMPTY_ANSWER = "пустая строка"
FirstImageId = Literal["text_head", "image_head"]
DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}

#: Called with the name of a stage, the questions done in it and their number.
Progress = Callable[[str, int, int], None]


class ModelError(RuntimeError):
    """A model folder or device that cannot be used; the message is one line that names it."""


@dataclass(frozen=True)
class Question:
    """What is asked. `texts` in their order; of `images`, the first that can be read counts.

    `answer_in_text` asks for a text where no image is there: for instance because the image got lost. A question with
    images, be they readable or not, is always answered in text.
    """

    id: str
    texts: tuple[str, ...] = ()
    images: tuple[Path, ...] = ()
    answer_in_text: bool = False


@dataclass(frozen=True)
class Answer:
    """A text, an image, or both.

    `text_probability`: the route's estimate where the model was asked for it. `fallback`: which of the two is there
    only in case that the route is wrong.
    """

    id: str
    text: str | None = None
    image: Image.Image | None = None
    text_probability: float | None = None
    fallback: Literal["text", "image"] | None = None


@dataclass(frozen=True)
class Settings:
    """How to answer; `config.yaml` documents each setting. Raises ValueError naming setting, value and what is allowed.

    `model` is a folder. `max_answer_tokens` None: up to the end of the sequence.
    """

    model: str = "weights/nano"
    dtype: str = "auto"
    batch_size: int = 16
    seed: int = 0
    route: Route = "auto"
    route_threshold: float = 0.5
    fallback: bool = True
    text_sampling: Sampling = GREEDY
    max_answer_tokens: int | None = None
    image_sampling: Sampling = IMAGE_SAMPLING
    first_image_id: FirstImageId = "text_head"
    jpeg_quality: int = JPEG_QUALITY

    def __post_init__(self) -> None:
        def need(name: str, holds: bool, allowed: str) -> None:
            if not holds:
                raise ValueError(f"{name} is {getattr(self, name)!r}; it must be {allowed}")

        def one_of(name: str, allowed: Sequence[str]) -> None:
            need(name, getattr(self, name) in allowed, f"one of {', '.join(allowed)}")

        need("model", isinstance(self.model, str) and bool(self.model), "the path of a model folder")
        one_of("dtype", ("auto", *DTYPES))
        need("batch_size", _is_int(self.batch_size) and self.batch_size >= 1, "a whole number, 1 or more")
        need("seed", _is_int(self.seed), "a whole number")
        one_of("route", get_args(Route))
        threshold = self.route_threshold
        need("route_threshold", _is_number(threshold) and 0 <= threshold <= 1, "a number from 0 to 1")
        need("fallback", isinstance(self.fallback, bool), "true or false")
        for name in ("text_sampling", "image_sampling"):
            need(name, isinstance(getattr(self, name), Sampling), "a Sampling")
        limit = self.max_answer_tokens
        need("max_answer_tokens", limit is None or (_is_int(limit) and limit >= 1), "null, or a whole number from 1 on")
        one_of("first_image_id", get_args(FirstImageId))
        quality = self.jpeg_quality
        need("jpeg_quality", _is_int(quality) and 1 <= quality <= 100, "a whole number from 1 to 100")

    @classmethod
    def from_dict(cls, values: Any, source: str = "settings") -> Settings:
        """Settings of a parsed YAML file; what it leaves out has its default. Raises ValueError with `source` in it."""
        try:
            values = dict(_known(values, "the settings", cls))
            for name in ("text_sampling", "image_sampling"):
                if name in values:
                    values[name] = _sampling(name, values[name])
            return cls(**values)
        except ValueError as error:
            raise ValueError(f"{source}: {error}") from error


def _is_int(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _is_number(value: object) -> bool:
    return _is_int(value) or isinstance(value, float)


def _known(values: Any, name: str, kind: type) -> Mapping[str, Any]:
    allowed = [field.name for field in fields(kind)]
    if not isinstance(values, Mapping):
        raise ValueError(f"{name} is {values!r}; it must be keys and values, with the keys {', '.join(allowed)}")
    for key in values:
        if key not in allowed:
            raise ValueError(f"{name}: key {key!r} is unknown; allowed are {', '.join(allowed)}")
    return values


def _sampling(name: str, values: Any) -> Sampling:
    for key, value in _known(values, name, Sampling).items():
        if not (_is_int(value) if key == "top_k" else _is_number(value)):
            kind = "a whole number" if key == "top_k" else "a number"
            raise ValueError(f"{name}: {key} is {value!r}; it must be {kind}")
    try:
        return Sampling(**values)
    except ValueError as error:
        raise ValueError(f"{name}: {error}") from error


def join_texts(texts: Sequence[str]) -> str:
    """One prompt of the text entries of an example: in their order, one space between them, empty ones left out."""
    return " ".join(stripped for text in texts if (stripped := text.strip()))


def seed_of(seed: int, id: str, output: str) -> int:
    """Seed of the draws for one output of one id, below 2**63; stable between runs, machines and Python's versions."""
    digest = hashlib.blake2b(f"{seed}/{output}/{id}".encode("utf-8", "surrogatepass"), digest_size=8).digest()
    return int.from_bytes(digest, "big") >> 1


class Rudolph:
    """RUDOLPH with its VQGAN and its tokenizer. Raises ValueError where their vocabularies do not fit together."""

    def __init__(self, model: RudolphModel, vqgan: VQGAN, tokenizer: Tokenizer) -> None:
        config = model.config
        if vqgan.config.n_embed != config.image_vocab_size:
            raise ValueError(
                f"the VQGAN has {vqgan.config.n_embed} codes, the model's image_vocab_size is {config.image_vocab_size}"
            )
        if tokenizer.vocab_size != config.bpe_vocab_size:
            raise ValueError(
                f"{tokenizer.path} has {tokenizer.vocab_size} ids, the model has rows for {config.bpe_vocab_size} "
                "(vocab_size - l_text_seq_length)"
            )
        self.model = model.eval()
        self.vqgan = vqgan.eval()
        self.tokenizer = tokenizer
        self.image_side = config.image_tokens_per_dim * vqgan.config.reduction  # pixels
        self._left_special, self._right_special = config.special_id("LT_UNK"), config.special_id("RT_UNK")

    @classmethod
    def from_pretrained(cls, folder: str | os.PathLike[str], device: str = "auto", dtype: str = "auto") -> Rudolph:
        """Load one folder: config.json, model.safetensors or pytorch_model.bin, bpe.model, vqgan/.

        device: auto (CUDA where it can be used), cpu or cuda. dtype: auto (bfloat16 on CUDA, float32 elsewhere) or a
        name of `DTYPES`; the VQGAN, small and sensitive, stays float32. Raises ModelError.
        """
        folder = Path(folder)
        for name in ("config.json", "bpe.model", "vqgan"):
            if not (folder / name).exists():
                what = f"lacks {name}" if folder.is_dir() else "does not exist or is no folder"
                raise ModelError(
                    f"model folder {folder} {what}; it must hold config.json, model.safetensors or pytorch_model.bin, "
                    "bpe.model and vqgan/"
                )
        if device == "auto":
            device = "cuda" if torch.cuda.is_available() else "cpu"
        elif device.startswith("cuda") and not torch.cuda.is_available():
            raise ModelError(f"device is {device!r}, but torch {torch.__version__} finds no CUDA device to use")
        if dtype == "auto":
            dtype = "bfloat16" if device.startswith("cuda") else "float32"
        try:
            model = RudolphModel.from_pretrained(folder, dtype=DTYPES[dtype]).to(device)
            vqgan = VQGAN.from_pretrained(folder / "vqgan").to(device)
            return cls(model, vqgan, Tokenizer.from_file(folder / "bpe.model"))
        except (OSError, ValueError, RuntimeError, EOFError, SafetensorError, pickle.UnpicklingError) as error:
            raise ModelError(f"model folder {folder} cannot be loaded: {' '.join(str(error).split())}") from error

    @torch.inference_mode()
    def answer(
        self, questions: Sequence[Question], settings: Settings = Settings(), progress: Progress | None = None
    ) -> list[Answer]:
        """Answers in the order of the questions.

        With an image: text. Without: text or image as the model decides, or both (see `route`). An image that cannot
        be read is logged, and the question is answered in text from its text alone.

        With `fallback`, a question that the model routes to an image gets a text too, which costs little beside it, and
        one that it routes to text gets, without drawing, the image of codes that are all 0.
        """
        progress = progress or (lambda stage, done, total: None)
        left = self.encode_left(questions)  # [N, l]
        codes = self._encode_images(questions, settings, progress)

        texts: dict[int, str] = {}
        images: dict[int, Image.Image] = {}
        text_rows = [row for row, question in enumerate(questions) if question.images or question.answer_in_text]
        image_rows: list[int] = []
        fallbacks: dict[int, Literal["text", "image"]] = {}
        open_rows = [row for row, question in enumerate(questions) if not (question.images or question.answer_in_text)]
        probabilities = self._text_probabilities(left, open_rows, settings, progress)
        for row in open_rows:
            in_text, in_image = outputs(settings.route, probabilities.get(row, 1.0), settings.route_threshold)
            if settings.fallback and not (in_text and in_image):
                fallbacks[row] = "image" if in_text else "text"
            if in_text or row in fallbacks:
                text_rows.append(row)
            if in_image:
                image_rows.append(row)
            logger.debug("id %r: text probability %.4f", questions[row].id, probabilities.get(row, 1.0))
        logger.info(
            "%d questions, %d of them of text alone: %d texts to write, %d images to draw",
            len(questions), len(open_rows), len(text_rows), len(image_rows),
        )  # fmt: skip

        zeros = torch.zeros(self.model.config.image_seq_length, dtype=torch.int64)
        begin = torch.tensor([BOS, self._right_special], device=self.model.device)
        for rows in _batches(text_rows, settings.batch_size, "answering", progress):
            given = torch.stack([codes.get(row, zeros) for row in rows]).to(self.model.device)
            answers = generate_text(
                self.model, left[rows], given, begin, settings.text_sampling, max_tokens=settings.max_answer_tokens,
                seeds=[seed_of(settings.seed, questions[row].id, "text") for row in rows],
            )  # fmt: skip
            texts |= {row: self.tokenizer.decode(ids) or EMPTY_ANSWER for row, ids in zip(rows, answers, strict=True)}
        for rows in _batches(image_rows, settings.batch_size, "drawing", progress):
            drawn = generate_image(
                self.model, left[rows], settings.image_sampling, first_image_id=settings.first_image_id,
                seeds=[seed_of(settings.seed, questions[row].id, "image") for row in rows],
            )  # fmt: skip
            for row, code in zip(rows, drawn, strict=True):
                images[row] = to_image(self.vqgan.decode(code[None])[0])
        if "image" in fallbacks.values():
            empty = to_image(self.vqgan.decode(zeros[None].to(self.model.device))[0])
            images |= {row: empty for row, kind in fallbacks.items() if kind == "image"}
        return [
            Answer(question.id, texts.get(row), images.get(row), probabilities.get(row), fallbacks.get(row))
            for row, question in enumerate(questions)
        ]

    def encode_left(self, questions: Sequence[Question]) -> Tensor:
        """Left texts with LT_UNK in front, int64 [N, l] on the model's device."""
        length = self.model.config.l_text_seq_length
        left = torch.full((len(questions), length), PAD)
        for row, question in enumerate(questions):
            left[row] = self.tokenizer.encode_text(join_texts(question.texts), length, self._left_special)
        if cut := sum(last not in (PAD, EOS) for last in left[:, -1].tolist()):
            logger.info("%d of %d prompts are longer than the model's %d tokens; cut", cut, len(questions), length)
        return left.to(self.model.device)

    def _encode_images(
        self, questions: Sequence[Question], settings: Settings, progress: Progress
    ) -> dict[int, Tensor]:
        """Codes [m * m] on the CPU by row, for questions with an image that can be read."""
        codes: dict[int, Tensor] = {}
        asked = [row for row, question in enumerate(questions) if question.images]
        for rows in _batches(asked, settings.batch_size, "reading images", progress):
            for row in rows:
                if (pixels := self._first_image(questions[row])) is not None:
                    # One by one, here and in decoding: convolutions round differently in another batch, which can tip
                    # a code or a grey level, and their time is small against the transformer's.
                    codes[row] = self.vqgan.encode(pixels[None].to(self.model.device))[0].cpu()
        return codes

    def _first_image(self, question: Question) -> Tensor | None:
        """Pixels in 0..1 [3, side, side] of the first image that can be read, if any."""
        for path in question.images:
            try:
                return preprocess(load_image(path), self.image_side)
            except ImageError as error:
                logger.warning("id %r: image left out: %s", question.id, error)
        return None

    def _text_probabilities(
        self, left: Tensor, rows: Sequence[int], settings: Settings, progress: Progress
    ) -> dict[int, float]:
        if settings.route == "both":
            return {}  # nothing to decide
        found: dict[int, float] = {}
        for batch in _batches(rows, settings.batch_size, "routing", progress):
            found |= zip(batch, text_probability(self.model, left[batch]).tolist(), strict=True)
        return found


def _batches(rows: Sequence[int], size: int, stage: str, progress: Progress) -> Iterator[list[int]]:
    for start in range(0, len(rows), size):
        batch = list(rows[start : start + size])
        yield batch
        progress(stage, start + len(batch), len(rows))
