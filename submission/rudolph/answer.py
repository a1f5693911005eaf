"""Questions in, answers out: prompts, the route, answers in text and images, in batches.

What a question gets does not depend on the batch that it is in, on the order of the questions, or on a run that was
interrupted: every draw is seeded by the run's seed and its id. (In bfloat16 or float16 a batch's rounding can still tip
a choice between ids that are all but equal.)
"""

from __future__ import annotations

import hashlib
import logging
import math
import os
import pickle
import re
from collections import deque
from collections.abc import Callable, Collection, Generator, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field, fields, replace
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any, Literal, TypeVar

import torch
from PIL import Image
from safetensors import SafetensorError
from torch import Tensor

from .batches import Batches, OutOfTime, Progress, rows_that_fit
from .cache import KVCache, Prefix
from .config import BOS, EOS, PAD, UNK
from .decoder import RudolphDecoder
from .generate import Begun, begin_text, generate_image, generate_refilled, generate_text
from .graphs import use_step_graphs_
from .images import Fit, ImageError, load_image, preprocess, to_image
from .likelihood import mean_text_losses, text_losses
from .linear import can_pack, pack_, quantize_int8_
from .memory import free_memory, is_out_of_memory
from .native import can_use, use_native_
from .options import is_listed, listed_options
from .passage import shorten, windows
from .route import is_question, outputs, text_probability_of
from .settings import DTYPE_NAMES, INT8, Settings
from .tokenizer import Tokenizer
from .vqgan import VQGAN
from .working import split_working

logger = logging.getLogger(__name__)

EMPTY_ANSWER = "пустая строка"
#: What a model is asked for a caption. The challenge's own `Что изображено на картинке?` is a question of VisualQA too,
#: answered by a name alone. Measured on nano, which learnt both: it reads less of a description under that question.
CAPTION_INSTRUCTION = "Опиши изображение."
#: Words with which a description begins at times and that say nothing of the image.
_SHOWN = re.compile(
    r"на (этой |этом )?(картинке|картине|рисунке|изображении|фотографии|фото|снимке):?\s+", re.IGNORECASE
)
_DEVICE = re.compile(r"auto|cpu|cuda(:\d{1,3})?")
Output = Literal["text", "image"]
Item = TypeVar("Item")
Result = TypeVar("Result")
#: Rows with what became of them, as they are made; of a batch, and of rows that come when others end: see `Batches`.
Made = Iterator[tuple[int, Result]]
ByBatch = Callable[[list[int]], Sequence[Result]]
AsTheyEnd = Callable[[int, Callable[[int], list[int]]], Iterator[Sequence[tuple[int, Result]]]]
DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}

#: Images that the VQGAN takes at a time. Convolutions round differently in another batch, which can tip a code or a
#: grey level, so the number is always the same, and a group that is not full is filled up. One on a CPU: measured with
#: one thread of a Zen 4 core, 8 at a time took 0.8 to 1.2 of the time an image (nano and Sber's VQGAN), and changed the
#: last bits of more than half of what nano's decoder gave.
VQGAN_GROUP = {"cpu": 1, "cuda": 8}
#: What stands for the middle of a passage that is left out: the first of these that the vocabulary has.
LEFT_OUT = ("…", "...", "")
#: Where rows of a batch that have ended are replaced by others. A step of a GPU costs nearly the same for fewer rows;
#: one of the native decoder follows them, and took 0.98 to 1.03 of the time (docs/performance.md).
REFILLED = {"cpu": False, "cuda": True}
READ_AT_A_TIME = 16  # drawings: each takes a cache of its own beside that of the batch
LOADERS, LOADED_AHEAD = 2, 64  # threads that read images; images that wait for the model, each of 768 m * m bytes


class ModelError(RuntimeError):
    """A model folder or device that cannot be used; the message is one line that names it."""


@dataclass(frozen=True)
class Question:
    """What is asked. `texts` in their order; of `images`, the first that can be read counts. Raises ValueError where
    one of them is a single text or path.

    `answer_in_text` asks for a text where no image is there: for instance because the image got lost. A question with
    images, be they readable or not, is always answered in text.
    """

    id: str
    texts: tuple[str, ...] = ()
    images: tuple[Path, ...] = ()
    answer_in_text: bool = False

    def __post_init__(self) -> None:
        for name in ("texts", "images"):
            value = getattr(self, name)
            if isinstance(value, str | bytes | os.PathLike):  # of a text, each letter would be one
                raise ValueError(f"question {self.id!r}: {name} is {value!r}; it must be a tuple of {name}")


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
    fallback: Output | None = None


@dataclass(frozen=True)
class Part:
    """One more thing that is known of the answer to one question: what it consists of, its text, or its image.

    `outputs`: the kinds of its entries in their order, of which `fallback` is there only in case that the route is
    wrong. An image among them that never comes, as it is the fallback, is `Rudolph.empty_image`.
    """

    id: str
    outputs: tuple[Output, ...] | None = None
    text_probability: float | None = None
    fallback: Output | None = None
    text: str | None = None
    image: Image.Image | None = None


@dataclass(frozen=True)
class Done:
    """What an earlier run found and need not be found again: (id, "text" or "image"), and text probabilities by id."""

    made: Collection[tuple[str, Output]] = frozenset()
    text_probabilities: Mapping[str, float] = field(default_factory=dict)


def best_dtype(device: str, dtype: str = "auto") -> torch.dtype:
    """What `auto` is, and what `int8` computes in: bfloat16 on CUDA and on processors that multiply it, else float32.

    int8 has no quick float32 kernel, so there bfloat16 is taken wherever oneDNN knows it.
    """
    if device.startswith("cuda"):
        return torch.bfloat16
    native = torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()
    if native or (dtype == INT8 and torch.ops.mkldnn._is_mkldnn_bf16_supported()):
        return torch.bfloat16
    return torch.float32


def _check_finite(whose: str, module: torch.nn.Module) -> None:
    """Raise ValueError for a weight that is NaN or infinite: all answers of such a model are noise."""
    for name, weight in module.named_parameters():
        if not all(bool(bound.isfinite()) for bound in torch.aminmax(weight.detach())):
            raise ValueError(f"{whose} weight {name} is not finite in {weight.dtype}: it has NaN or infinity in it")


@torch.no_grad()
def _check_range(model: RudolphDecoder, vqgan: VQGAN) -> None:
    """Raise ValueError where finite weights overflow on the way: one token of each part of the sequence at once, and
    one small picture there and back, are enough to show it and take no longer than reading the weights.
    """
    config, reduction = model.config, vqgan.config.reduction
    starts = ((0, BOS), (config.l_text_seq_length, 0), (config.image_end, BOS))
    tokens = [model.embed(torch.tensor([[id]], device=model.device), position) for position, id in starts]
    logits = model.to_logits(model.transformer(torch.cat(tokens, dim=1)))
    if not bool(logits.isfinite().all()):
        raise ValueError(f"the model's weights overflow in {logits.dtype}: its logits are NaN or infinite")
    # Two codes a side: group norm wants more than one value.
    pixels = torch.full((1, vqgan.config.in_channels, 2 * reduction, 2 * reduction), 0.5, device=vqgan.device)
    codes = vqgan.quantize.embed.weight[:1, :, None, None].expand(-1, -1, 2, 2)
    for made in (vqgan.code_logits(pixels), vqgan.decode_embeddings(codes)):
        if not bool(made.isfinite().all()):
            raise ValueError(f"the VQGAN's weights overflow in {made.dtype}: what it makes is NaN or infinite")


def join_texts(texts: Sequence[str]) -> str:
    """One prompt of the text entries of an example: in their order, one space between them, empty ones left out."""
    return " ".join(stripped for text in texts if (stripped := text.strip()))


def description(texts: Sequence[str]) -> str:
    """What a request for an image says of the image: all texts but the first, which is the instruction; of a single
    text all sentences but the first, or what follows a colon; where there is none of these, the text itself. Without
    `на картинке` at its beginning.
    """
    wanted = join_texts(texts[1:])
    if not wanted:
        wanted = whole = join_texts(texts)
        for mark in (". ", ": "):
            _, found, rest = whole.partition(mark)
            if found and rest.strip():
                wanted = rest.strip()
                break
    shown = _SHOWN.match(wanted)
    return wanted[shown.end() :] if shown else wanted


def seed_of(seed: int, id: str, output: str) -> int:
    """Seed of the draws for one output of one id, below 2**63; stable between runs, machines and Python's versions."""
    digest = hashlib.blake2b(f"{seed}/{output}/{id}".encode("utf-8", "surrogatepass"), digest_size=8).digest()
    return int.from_bytes(digest, "big") >> 1


def vqgan_of(folder: Path, other: str | os.PathLike[str] | None) -> Path:
    """The folder of a model folder's VQGAN: its own, or where it has none the `other`."""
    own = folder / "vqgan"
    return own if other is None or own.exists() else Path(other)


def _lacks(folder: Path, name: str) -> str:
    what = f"lacks {name}" if folder.is_dir() else "does not exist or is no folder"
    needed = "config.json, model.safetensors or pytorch_model.bin, bpe.model and vqgan/"
    return f"model folder {folder} {what}; it must hold {needed}"


class Rudolph:
    """RUDOLPH with its VQGAN and its tokenizer. Raises ValueError where their vocabularies do not fit together."""

    def __init__(self, model: RudolphDecoder, vqgan: VQGAN, tokenizer: Tokenizer) -> None:
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
        self._room = max(0, config.l_text_seq_length - 3)  # BOS, the special token, EOS
        self._left_out = next(mark for mark in LEFT_OUT if UNK not in tokenizer.encode_ids(mark))

    @classmethod
    def from_pretrained(
        cls, folder: str | os.PathLike[str], device: str = "auto", dtype: str = "auto", fast: bool = True,
        vqgan: str | os.PathLike[str] | None = None,
    ) -> Rudolph:  # fmt: skip
        """Load one folder: config.json, model.safetensors or pytorch_model.bin, bpe.model, vqgan/. Where it has no
        vqgan/, `vqgan` is a folder with one.

        device: auto (CUDA where it can be used), cpu or cuda. dtype: a name of `DTYPES`; auto: bfloat16 on CUDA and on
        processors that multiply it, else float32; int8: the weights alone, the rest as with auto. The VQGAN, small and
        sensitive, stays float32. fast: on a CPU, linear layers are replaced by those of `rudolph.linear`, which can
        neither be trained nor saved; on a GPU, steps are replayed as CUDA graphs. Raises ModelError, or ValueError for
        a device or dtype that is none of these.
        """
        if not isinstance(device, str) or not _DEVICE.fullmatch(device):
            raise ValueError(f"device is {device!r}; it must be auto, cpu, cuda or cuda:N")
        if not isinstance(dtype, str) or dtype not in DTYPE_NAMES:
            raise ValueError(f"dtype is {dtype!r}; it must be one of {', '.join(DTYPE_NAMES)}")
        folder = Path(folder)
        for name in ("config.json", "bpe.model"):
            if not (folder / name).exists():
                raise ModelError(_lacks(folder, name))
            if not (folder / name).is_file():  # a pipe would be waited for without an end
                raise ModelError(f"model folder {folder} cannot be loaded: {name} is no regular file")
        vqgan_folder = vqgan_of(folder, vqgan)
        if not vqgan_folder.exists():
            raise ModelError(_lacks(folder, "vqgan") + ("" if vqgan is None else f", and {vqgan} does not exist"))
        if device == "auto":
            device = "cuda" if torch.cuda.is_available() else "cpu"
        elif device.startswith("cuda") and not torch.cuda.is_available():
            raise ModelError(f"device is {device!r}, but torch {torch.__version__} finds no CUDA device to use")
        computed = DTYPES.get(dtype) or best_dtype(device, dtype)
        try:
            model = RudolphDecoder.from_folder(folder, computed).to(device)
            image_model = VQGAN.from_pretrained(vqgan_folder).to(device)
            _check_finite("the model's", model)
            _check_finite("the VQGAN's", image_model)
            _check_range(model, image_model)
            if dtype == INT8:
                quantize_int8_(model)
            elif fast and can_use(model):
                use_native_(model)
            elif fast and can_pack(model):
                pack_(model)
            if fast and model.device.type == "cuda":
                use_step_graphs_(model)
            return cls(model, image_model, Tokenizer.from_file(folder / "bpe.model"))
        except (OSError, ValueError, RuntimeError, EOFError, SafetensorError, pickle.UnpicklingError) as error:
            raise ModelError(f"model folder {folder} cannot be loaded: {' '.join(str(error).split())}") from error
        except (TypeError, AttributeError, LookupError, ArithmeticError) as error:  # of damaged files, by their readers
            reason = " ".join(f"{type(error).__name__}: {error}".split())
            raise ModelError(f"model folder {folder} cannot be loaded: {reason}") from error

    def answer(
        self, questions: Sequence[Question], settings: Settings = Settings(), progress: Progress | None = None
    ) -> list[Answer]:
        """Answers in the order of the questions.

        With an image: text. Without: text or image as the model decides, or both (see `route`). An image that cannot
        be read is logged, and the question is answered in text from its text alone.

        With `fallback`, a question that the model routes to an image gets a text too, which costs little beside it, and
        one that it routes to text gets, without drawing, the image of codes that are all 0.
        """
        parts: dict[str, dict[str, Any]] = {question.id: {} for question in questions}
        for part in self.answer_each(questions, settings, progress):
            parts[part.id] |= {
                field.name: value for field in fields(Part) if (value := getattr(part, field.name)) is not None
            }
        empty = self.empty_image() if any(known.get("fallback") == "image" for known in parts.values()) else None
        return [
            Answer(
                question.id, known.get("text"), empty if known.get("fallback") == "image" else known.get("image"),
                known.get("text_probability"), known.get("fallback"),
            )
            for question in questions
            for known in (parts[question.id],)
        ]  # fmt: skip

    @torch.inference_mode()
    def answer_each(
        self,
        questions: Sequence[Question],
        settings: Settings = Settings(),
        progress: Progress | None = None,
        *,
        seconds_left: Callable[[], float] | None = None,
        done: Done = Done(),
    ) -> Iterator[Part]:
        """Answers part by part, as they are made: first texts, then images, and at last the texts that are there only
        in case that the route is wrong. What a question's answer consists of comes before the first part of it.

        seconds_left: how long there is time. What does not fit into it is left out, from the end of this order on, and
        logged. done: what needs no work. Raises ValueError for two questions with one id.
        """
        if len({question.id for question in questions}) < len(questions):
            raise ValueError("two questions have the same id")
        size = self._auto_batch_size() if settings.batch_size == "auto" else settings.batch_size
        batches = Batches(size, seconds_left, progress, self.model.release_step_graphs)
        left = self.encode_left(questions)  # [N, l]
        open_rows: list[int] = []  # whose route is not known yet
        texts: list[int] = []
        images: list[int] = []
        fallback_texts: list[int] = []

        written_at_once: set[int] = set()  # with their route

        def to_do(row: int, output: Output) -> bool:
            return (questions[row].id, output) not in done.made and not (output == "text" and row in written_at_once)

        def decided(row: int, probability: float | None) -> Part:
            """What the answer consists of; what is still to do for it is noted."""
            chosen, fallback = _outputs(settings, questions[row], probability)
            if "text" in chosen and to_do(row, "text"):
                (fallback_texts if fallback == "text" else texts).append(row)
            if "image" in chosen and fallback != "image" and to_do(row, "image"):
                images.append(row)
            logger.debug("id %r: %s, text probability %s", questions[row].id, " and ".join(chosen), probability)
            return Part(questions[row].id, chosen, probability, fallback)

        for row, question in enumerate(questions):
            if question.images or question.answer_in_text:
                yield Part(question.id, ("text",))
                if not question.images and to_do(row, "text"):
                    texts.append(row)
            elif settings.route == "both":
                yield decided(row, None)
            elif question.id in done.text_probabilities:
                yield decided(row, done.text_probabilities[question.id])
            else:
                open_rows.append(row)
        with_image = [row for row, question in enumerate(questions) if question.images and to_do(row, "text")]
        logger.info(
            "%d questions: %d about images, %d of text alone to decide on; besides %d texts to write and %d images",
            len(questions), len(with_image), len(open_rows), len(texts) + len(fallback_texts), len(images),
        )  # fmt: skip

        def refilled(row: int) -> bool:
            # Windows are batches of their own, which want the storage of step graphs.
            return REFILLED[self.model.device.type] and (settings.windows == 1 or self._fits(questions[row].texts))

        with_image.sort(key=refilled, reverse=True)  # in the order in which they are answered
        first_image = partial(self._first_image, fit=settings.image_fit)
        loaded = _ahead(first_image, [questions[row] for row in with_image])
        arriving = zip(with_image, loaded, strict=True)
        pixels: dict[int, Tensor | None] = {}
        codes: dict[int, Tensor] = {}

        def encode(batch: list[int]) -> None:
            for row in batch:
                while row not in pixels:  # it can be there, as a batch can come again, halved
                    pixels.update((next(arriving),))
            codes.update(self._encode({row: pixels[row] for row in batch}))

        def to_write(row: int) -> bool:
            return to_do(row, "text")

        def write(batch: list[int]) -> list[str]:
            encode([row for row in batch if questions[row].images])
            return self._write(questions, left, batch, codes, settings, batches.check)

        def begin(batch: list[int]) -> Begun:
            encode([row for row in batch if questions[row].images])
            return self._begin(questions, left, batch, codes, settings)

        def made(
            stage: str, rows: list[int], by_batch: ByBatch[Result], as_they_end: AsTheyEnd[Result]
        ) -> Made[Result]:
            """(row, what became of it) of rows as they are made."""
            some = [row for row in rows if refilled(row)]
            yield from batches.run_refilled(stage, some, as_they_end)
            rest = [row for row in rows if row not in set(some)]
            for batch in batches.run(f"{stage}, in windows" if some else stage, rest, by_batch):
                yield from zip(*batch, strict=True)

        def written(stage: str, rows: list[int]) -> Iterator[Part]:
            """Texts of rows as they are made."""
            as_they_end = partial(self._write_refilled, questions, left, settings, batches.check, codes, begin)
            for row, text in made(stage, rows, write, as_they_end):
                pixels.pop(row, None), codes.pop(row, None)
                yield Part(questions[row].id, text=text)

        def decided_and_written(stage: str, rows: list[int]) -> Made[tuple[float, str | None]]:
            """Of rows as they are made: text probabilities, and texts where the model decides for them."""
            rest = questions, left, settings, batches.check, to_write
            return made(
                stage, rows, partial(self._decide_and_write, *rest), partial(self._decide_and_write_refilled, *rest)
            )

        def draw(batch: list[int]) -> Tensor:
            return self._draw(questions, left, batch, settings, batches)

        yield from written("answering about images", with_image)
        loaded.close()
        for row, (probability, text) in decided_and_written("deciding and answering", open_rows):
            if text is not None:
                written_at_once.add(row)
            yield decided(row, probability)
            if text is not None:
                yield Part(questions[row].id, text=text)
        yield from written("answering", texts)
        for rows, drawn in batches.run("drawing", images, draw):
            decoded = self._images(drawn)  # as they come, so that none is lost where the process has to end
            yield from (Part(questions[row].id, image=image) for row, image in zip(rows, decoded, strict=True))
        yield from written("answering in case", fallback_texts)

    @torch.inference_mode()
    def empty_image(self) -> Image.Image:
        """The image of codes that are all 0: what an answer gets for an image where none is drawn."""
        zeros = torch.zeros(1, self.model.config.image_seq_length, dtype=torch.int64, device=self.model.device)
        return to_image(self._in_groups(self.vqgan.decode, zeros)[0])

    def _write(
        self, questions: Sequence[Question], left: Tensor, rows: list[int], codes: Mapping[int, Tensor],
        settings: Settings, check: Callable[..., None], cache: KVCache | None = None,
    ) -> list[str]:  # fmt: skip
        """Texts for rows, after the images that `codes` has for some of them. cache: of the rows' left texts, if they
        have been run.
        """
        answers = generate_text(
            self.model, left[rows] if cache is None else cache, self._given(rows, codes), self._begin_right(),
            settings.text_sampling, max_tokens=settings.max_answer_tokens,
            seeds=[seed_of(settings.seed, questions[row].id, "text") for row in rows], progress=check,
        )  # fmt: skip
        texts = [
            self._text_of(questions[row], ids, left[row], codes.get(row), settings, check)
            for row, ids in zip(rows, answers, strict=True)
        ]
        if settings.windows > 1:
            try:
                self._read_windows(questions, left, rows, codes, settings, check, texts)
            except OutOfTime:
                logger.warning("no time left to read all windows; the answers so far count")
        return texts

    def _begin(
        self, questions: Sequence[Question], left: Tensor, rows: list[int], codes: Mapping[int, Tensor],
        settings: Settings, cache: KVCache | None = None,
    ) -> Begun:  # fmt: skip
        """The same up to their first draws."""
        prefix = begin_text(
            self.model, left[rows] if cache is None else cache, self._given(rows, codes), self._begin_right()
        )
        return Begun(rows, [seed_of(settings.seed, questions[row].id, "text") for row in rows], prefix)

    def _write_refilled(
        self, questions: Sequence[Question], left: Tensor, settings: Settings, check: Callable[..., None],
        codes: Mapping[int, Tensor], begin: Callable[[list[int]], Begun], places: int, take: Callable[[int], list[int]],
    ) -> Iterator[list[tuple[int, str]]]:  # fmt: skip
        """Texts of rows that `take` gives and `begin` begins, as they end; see `Batches.run_refilled`."""

        def more(count: int) -> Begun | None:
            rows = take(count)
            return begin(rows) if rows else None

        start = self.model.config.image_end + len(self._begin_right())
        for ended in generate_refilled(
            self.model, places, start, more, settings.text_sampling, max_tokens=settings.max_answer_tokens,
            progress=check,
        ):  # fmt: skip
            if not ended:
                yield []
            for row, ids in ended:  # each by itself, as the time may end
                yield [(row, self._text_of(questions[row], ids, left[row], codes.get(row), settings, check))]

    def _given(self, rows: list[int], codes: Mapping[int, Tensor]) -> Tensor:
        """Images of rows, [B, m * m]: zeros where `codes` has none."""
        zeros = torch.zeros(self.model.config.image_seq_length, dtype=torch.int64)
        return torch.stack([codes.get(row, zeros) for row in rows]).to(self.model.device)

    def _begin_right(self) -> Tensor:
        """How right texts begin, [2]."""
        return torch.tensor([BOS, self._right_special], device=self.model.device)

    def _text_of(
        self, question: Question, ids: list[int], left: Tensor, codes: Tensor | None, settings: Settings,
        check: Callable[..., None],
    ) -> str:  # fmt: skip
        """The answer that ids are, after a left text [l] and an image [m * m], if there is one."""
        working, text = "", self.tokenizer.decode(ids) or EMPTY_ANSWER
        if settings.cut_working and codes is None:
            working, text = split_working(text)
        options = listed_options(question.texts) if settings.listed_options else ()
        if options and not is_listed(text, options):
            check()
            given = self._given([0], {} if codes is None else {0: codes})[0]
            text = self._likeliest(options, left, given, working)
        return text

    def _read_windows(
        self, questions: Sequence[Question], left: Tensor, rows: list[int], codes: Mapping[int, Tensor],
        settings: Settings, check: Callable[..., None], texts: list[str],
    ) -> None:  # fmt: skip
        """Replaces the text of a row whose question was cut with what the model answers to a window of its passage,
        where it finds that likelier, by the mean over its tokens.
        """
        found = [windows(questions[row].texts, self._tokens, self._room, settings.windows) for row in rows]
        least: dict[int, float] = {}
        for number in range(-1, settings.windows):  # the first are those that were cut, which is answered already
            going = [place for place, windowed in enumerate(found) if windowed and number < len(windowed)]
            if not going:
                break
            read = [rows[place] for place in going]
            if number < 0:
                prompts, written = left[read], [texts[place] for place in going]
            else:
                prompts = torch.stack([self._encode_prompt(found[place][number]) for place in going]).to(left.device)
                written = self._write(
                    [questions[row] for row in read], prompts, list(range(len(read))),
                    {at: codes[row] for at, row in enumerate(read) if row in codes},
                    replace(settings, windows=1), check,
                )  # fmt: skip
            check()
            right = torch.stack([self._encode_answer(text) for text in written])
            losses = mean_text_losses(self.model, prompts, self._given(read, codes), right, given=2).tolist()
            for place, text, loss in zip(going, written, losses, strict=True):
                if loss < least.get(place, math.inf):
                    least[place], texts[place] = loss, text

    def _encode_answer(self, text: str) -> Tensor:
        return self.tokenizer.encode_text(text, self.model.config.r_text_seq_length, self._right_special)

    def _likeliest(self, options: Sequence[str], left: Tensor, image: Tensor, working: str) -> str:
        """The option that goes best after a left text [l], an image [m * m] and the steps that lead to it."""
        length = self.model.config.r_text_seq_length
        right = torch.stack([
            self.tokenizer.encode_text(f"{working} {option}", length, self._right_special) for option in options
        ])  # fmt: skip
        losses, _ = text_losses(self.model, left, image, right, given=2, batch_size=len(options))
        return options[int(losses.argmin())]

    def _decide_and_write(
        self, questions: Sequence[Question], left: Tensor, settings: Settings, check: Callable[..., None],
        to_write: Callable[[int], bool], rows: list[int],
    ) -> list[tuple[float, str | None]]:  # fmt: skip
        """Text probabilities of rows, and texts of those that a text is asked of: their left texts are run once for
        both.
        """
        hidden, cache = self.model.prefill(left[rows], past_image=True)
        probabilities, going = self._decide(questions, Prefix(hidden, cache), rows, settings, to_write)
        texts: dict[int, str] = {}
        if going:
            texts = dict(zip(going, self._write(questions, left, going, {}, settings, check, cache), strict=True))
        return [(probability, texts.get(row)) for row, probability in zip(rows, probabilities, strict=True)]

    def _decide_and_write_refilled(
        self, questions: Sequence[Question], left: Tensor, settings: Settings, check: Callable[..., None],
        to_write: Callable[[int], bool], places: int, take: Callable[[int], list[int]],
    ) -> Iterator[list[tuple[int, tuple[float, str | None]]]]:  # fmt: skip
        """The same of rows that `take` gives, as they end; see `Batches.run_refilled`."""
        known: dict[int, float] = {}
        decided: list[int] = []  # of which no text is asked
        capacity = self.model.config.image_end + len(self._begin_right())

        def begin(rows: list[int]) -> Begun:
            prefix = self.model.prefix(left[rows], capacity)
            probabilities, going = self._decide(questions, prefix, rows, settings, to_write)
            known.update(zip(rows, probabilities, strict=True))
            decided.extend(row for row in rows if row not in going)
            if not going:
                return Begun([], [], prefix)
            return self._begin(questions, left, going, {}, settings, prefix.cache)

        for ended in self._write_refilled(questions, left, settings, check, {}, begin, places, take):
            yield [(row, (known[row], None)) for row in decided] + [(row, (known[row], text)) for row, text in ended]
            decided.clear()

    def _decide(
        self, questions: Sequence[Question], prefix: Prefix, rows: list[int], settings: Settings,
        to_write: Callable[[int], bool],
    ) -> tuple[list[float], list[int]]:  # fmt: skip
        """Text probabilities of rows whose left texts have been run, and the rows that a text is asked of, to which the
        cache is cut down.
        """
        probabilities = text_probability_of(self.model, prefix.hidden).tolist()
        going = [
            place for place, (row, probability) in enumerate(zip(rows, probabilities, strict=True))
            if _outputs(settings, questions[row], probability)[0][0] == "text" and to_write(row)
        ]  # fmt: skip
        if 0 < len(going) < len(rows):
            prefix.cache.select(torch.tensor(going, device=self.model.device))
        return probabilities, [rows[place] for place in going]

    def _draw(
        self, questions: Sequence[Question], left: Tensor, rows: list[int], settings: Settings, batches: Batches
    ) -> Tensor:
        """Codes of images for rows, [B, m * m]: of `image_candidates` each, the one of which the model reads best what
        was asked for. Their left texts are run once. The first candidate of each is drawn first: where the time ends
        after that, it is what a row gets.
        """
        wanted = [description(questions[row].texts) for row in rows]
        candidates = [(place, 0) for place in range(len(rows))]
        others = [(place, number) for place in range(len(rows)) for number in range(1, settings.image_candidates)]
        at_a_time = max(len(rows), batches.rows)
        turns = [candidates, *(others[start : start + at_a_time] for start in range(0, len(others), at_a_time))]
        prefix = self.model.prefix(left[rows])
        codes, least = None, torch.full([len(rows)], torch.inf)
        for turn in turns:
            places = [place for place, _ in turn]
            try:
                drawn = generate_image(
                    self.model, prefix, settings.image_sampling, first_image_id=settings.first_image_id,
                    branches=torch.tensor(places, device=self.model.device),
                    seeds=[
                        seed_of(settings.seed, questions[rows[place]].id, f"image {number}" if number else "image")
                        for place, number in turn
                    ],
                    progress=batches.check,
                )  # fmt: skip
                codes = drawn if codes is None else codes
                if settings.image_candidates == 1:
                    break
                batches.check()
                losses = self._losses_of_reading(drawn, [wanted[place] for place in places]).tolist()
            except OutOfTime:
                if codes is None:
                    raise
                break
            for (place, _), loss, ids in zip(turn, losses, drawn, strict=True):
                if loss < least[place]:
                    codes[place], least[place] = ids, loss
        assert codes is not None
        return codes

    def _images(self, codes: Tensor) -> Iterator[Image.Image]:
        """Images of codes [B, m * m], decoded as they are asked for."""
        for group in codes.split(VQGAN_GROUP[self.model.device.type]):
            decoded = None
            try:
                decoded = self._in_groups(self.vqgan.decode, group)
            except (MemoryError, RuntimeError) as error:
                if not is_out_of_memory(error):
                    raise
            if decoded is None:  # a group has one size, but what the batch took can be let go of
                self.model.release_step_graphs()
                free_memory()
                decoded = self._in_groups(self.vqgan.decode, group)
            yield from map(to_image, decoded)

    def _losses_of_reading(self, codes: Tensor, texts: Sequence[str]) -> Tensor:
        """Cross-entropy of each text as the model's caption of each image of codes [B, m * m], fp32 [B]."""
        config, encode = self.model.config, self.tokenizer.encode_text
        left = encode(CAPTION_INSTRUCTION, config.l_text_seq_length, self._left_special)
        right = torch.stack([encode(text, config.r_text_seq_length, self._right_special) for text in texts])
        losses, _ = text_losses(self.model, left, codes, right, given=2, batch_size=READ_AT_A_TIME)
        return losses

    def _auto_batch_size(self) -> int:
        self.model.release_step_graphs()
        config = self.vqgan.config
        # Measured for Sber's VQGAN on a CPU: 10 tensors of the size of the decoder's last level, in 4 bytes.
        image_bytes = 10 * 4 * config.ch * self.image_side**2
        return rows_that_fit(self.model, extra=VQGAN_GROUP[self.model.device.type] * image_bytes)

    def encode_left(self, questions: Sequence[Question]) -> Tensor:
        """Left texts with LT_UNK in front, int64 [N, l] on the model's device. Of those that are too long the middle of
        the passage is left out (see `passage`).
        """
        length = self.model.config.l_text_seq_length
        left = torch.full((len(questions), length), PAD)
        cut = 0
        for row, question in enumerate(questions):
            left[row] = self._encode_prompt(question.texts)
            if left[row, -1] not in (PAD, EOS):
                cut += 1
                left[row] = self._encode_prompt(shorten(question.texts, self._tokens, self._room, self._left_out))
        if cut:
            logger.info("%d of %d prompts are longer than the model's %d tokens; cut", cut, len(questions), length)
        return left.to(self.model.device)

    def _encode_prompt(self, texts: Sequence[str]) -> Tensor:
        return self.tokenizer.encode_text(join_texts(texts), self.model.config.l_text_seq_length, self._left_special)

    def _fits(self, texts: Sequence[str]) -> bool:
        return self._tokens(texts) <= self._room

    def _tokens(self, texts: Sequence[str]) -> int:
        return len(self.tokenizer.encode_ids(join_texts(texts)))

    @torch.inference_mode()
    def encode_images(self, questions: Sequence[Question]) -> dict[int, Tensor]:
        """Codes [m * m] on the CPU by row, for questions with an image that can be read."""
        rows = [row for row, question in enumerate(questions) if question.images]
        loaded = _ahead(self._first_image, [questions[row] for row in rows])
        return self._encode(dict(zip(rows, loaded, strict=True)))

    def _encode(self, pixels: Mapping[int, Tensor | None]) -> dict[int, Tensor]:
        """Codes [m * m] on the CPU of the images [3, side, side] that are there."""
        there = {row: image for row, image in pixels.items() if image is not None}
        if not there:
            return {}
        encoded = self._in_groups(self.vqgan.encode, torch.stack(list(there.values())))
        return dict(zip(there, encoded.cpu(), strict=True))

    def _in_groups(self, function: Callable[[Tensor], Tensor], inputs: Tensor) -> Tensor:
        """The VQGAN's function of inputs [n, ...], n >= 1, by groups of one size (see `VQGAN_GROUP`)."""
        size = VQGAN_GROUP[self.model.device.type]
        made = []
        for group in inputs.split(size):
            filling = group[-1:].expand(size - len(group), *group.shape[1:])
            made.append(function(torch.cat((group, filling)).to(self.model.device))[: len(group)])
        return torch.cat(made)

    def _first_image(self, question: Question, fit: Fit = "crop") -> Tensor | None:
        """Pixels in 0..1 [3, side, side] of the first image that can be read, if any."""
        for path in question.images:
            try:
                return preprocess(load_image(path), self.image_side, fit)
            except ImageError as error:
                logger.warning("id %r: image left out: %s", question.id, error)
        return None


def _outputs(
    settings: Settings, question: Question, probability: float | None
) -> tuple[tuple[Output, ...], Output | None]:
    """The entries of an answer to a question of text alone, in their order, and which of them is a fallback."""
    in_text, in_image = outputs(settings.route, 1.0 if probability is None else probability, settings.route_threshold)
    if not in_text and settings.route_by_form and is_question(question.texts):
        in_text, in_image = True, settings.fallback  # the model is at times right: then its image is worth drawing
    if in_text and in_image:
        return ("text", "image"), None
    if in_text:
        return (("text", "image"), "image") if settings.fallback else (("text",), None)
    return (("image", "text"), "text") if settings.fallback else (("image",), None)


def _ahead(function: Callable[[Item], Result], items: Iterable[Item]) -> Generator[Result, None, None]:
    """function(item) of each item in order, computed by `LOADERS` threads up to `LOADED_AHEAD` items ahead."""
    rest = iter(items)
    with ThreadPoolExecutor(LOADERS, thread_name_prefix="load") as pool:
        waiting: deque[Future[Result]] = deque()
        try:
            waiting.extend(pool.submit(function, item) for item in islice(rest, LOADED_AHEAD))
            while waiting:
                yield waiting.popleft().result()
                waiting.extend(pool.submit(function, item) for item in islice(rest, 1))
        finally:
            pool.shutdown(cancel_futures=True)
