"""Text or image? The model itself decides, without a task label.

Of an input with an image, text is asked: no task of the challenge turns an image into an image. For an input of text
alone, the last left position is read through the *text* head. The loss trains that head there on the first image id,
and text-only tasks are trained with image ids that are all 0, generation with the codes of a picture. So the head's
probability of code 0, among all codes, is the model's own estimate that what it has read asks for a text.

Why this holds for hidden instructions: nothing looks for known words or known tasks. The estimate comes from the same
reading of the whole left text that would go on to answer or to draw, so a wording that the model understands at all is
routed as it is understood; and a task that never occurred in training is routed by what it resembles.

Before that, the form: an input that lists options, or whose last text of several is a question, asks for a text
(`is_question`). Descriptions of pictures hardly look like that, and a small model, asked about prose that it cannot
read, takes it for a request. Where the model says image, its image is added to the text.

Why it holds for published weights: they were trained with the same loss and with zeros for text tasks. The image head,
from which the published inference draws this id, gets no loss at this position and would say nothing. The text head
names text id 0 (padding) nowhere else: left padding has ids of its own.

Limits. Pictures whose first code is truly 0 count for text; among 8192 codes that is rare, with a small codebook it
depends on the VQGAN. Of a left text that is too long the middle is cut, and an instruction there is not read. The
threshold holds for the mixture of tasks in training: where this differs much from the test's, move it. And a wrong
route must not cost more than its example, so the answer's `fallback` adds an entry of the other type.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from .decoder import RudolphDecoder
from .options import listed_options
from .settings import Route


@torch.no_grad()
def text_probability(model: RudolphDecoder, left: Tensor) -> Tensor:
    """Probability that left texts [B, l] ask for text: that of code 0 under the text head, fp32 [B]."""
    length = model.config.l_text_seq_length
    if left.dim() != 2 or left.shape[1] != length:
        raise ValueError(f"left has shape {tuple(left.shape)}; it must be (batch, {length})")
    return text_probability_of(model, model.hidden(left, last=1)[:, 0])


@torch.no_grad()
def text_probability_of(model: RudolphDecoder, hidden: Tensor) -> Tensor:
    """The same from the hidden states [B, D] of the last left position, fp32 [B]."""
    return model.head(hidden, "first_code").float().softmax(-1)[:, 0]


def is_question(texts: Sequence[str]) -> bool:
    """Whether the form of an input of text alone shows that a text is asked: it lists options, or the last of several
    texts ends with a question mark. A single text may be a request that is put as a question.
    """
    stated = [stripped for text in texts if (stripped := text.strip())]
    return bool(listed_options(texts)) or (len(stated) > 1 and stated[-1].endswith("?"))


def outputs(route: Route, probability: float, threshold: float) -> tuple[bool, bool]:
    """Whether to write a text and whether to write an image for an input of text alone."""
    if route == "both":
        return True, True
    text = probability >= threshold
    return text, not text
