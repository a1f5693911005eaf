"""How likely a model finds texts after an image, and an image after texts."""

import torch
import torch.nn.functional as F
from torch import Tensor

from .config import PAD
from .decoder import RudolphDecoder


@torch.no_grad()
def text_losses(
    model: RudolphDecoder, left: Tensor, image: Tensor, right: Tensor, *, given: int = 1, batch_size: int = 64
) -> tuple[Tensor, Tensor]:
    """Cross-entropy of each right text [N, up to r] after one left text [l] and one image [m * m], or an image of its
    own [N, m * m], summed over its ids but the first `given` and padding, and the number of these ids: both fp32 [N]
    on the CPU.

    With `given` 1 their ratio is what `RudolphDecoder.loss` has as `rt`. What all have in common is run once.
    Raises ValueError for a right text without such ids.
    """
    config = model.config
    if (
        right.dim() != 2
        or not 1 <= given < right.shape[1] <= config.r_text_seq_length
        or (right[:, given] == PAD).any()
    ):
        raise ValueError(
            f"right has shape {tuple(right.shape)}, {given} ids are given; each row must have at least one more, "
            f"and at most {config.r_text_seq_length} in all"
        )
    right = right[:, : int((right != PAD).sum(1).max())].to(model.device)
    common = torch.cat((left, image)) if image.dim() == 1 else left
    own = right[:, :-1] if image.dim() == 1 else torch.cat((image.to(model.device), right[:, :-1]), dim=1)
    _, prefix = model.prefill(common[None].to(model.device), past_image=True)
    losses, counts = [], []
    for rows, texts in zip(own.split(batch_size), right.split(batch_size), strict=True):
        hidden = model.hidden(rows, len(common), prefix.copies(len(rows)), last=right.shape[1] - given)
        logits, targets = model.head(hidden, "text").float(), texts[:, given:]
        loss = F.cross_entropy(logits.flatten(0, 1), targets.flatten(), ignore_index=PAD, reduction="none")
        losses.append(loss.view(targets.shape).sum(1).cpu())
        counts.append((targets != PAD).sum(1).float().cpu())
    return torch.cat(losses), torch.cat(counts)


@torch.no_grad()
def mean_text_losses(model: RudolphDecoder, left: Tensor, image: Tensor, right: Tensor, *, given: int = 1) -> Tensor:
    """Cross-entropy of right texts [N, up to r], each after a left text [N, l] and an image [N, m * m] of its own, as
    the mean over its ids but the first `given` and padding, fp32 [N] on the CPU: the ratio of `text_losses`.
    """
    right = right[:, : int((right != PAD).sum(1).max())].to(model.device)
    rows = torch.cat((left.to(model.device), image.to(model.device), right[:, :-1]), dim=1)
    logits = model.head(model.hidden(rows, last=right.shape[1] - given), "text").float()
    targets = right[:, given:]
    loss = F.cross_entropy(logits.flatten(0, 1), targets.flatten(), ignore_index=PAD, reduction="none")
    return (loss.view(targets.shape).sum(1) / (targets != PAD).sum(1)).cpu()


def perplexity(
    model: RudolphDecoder, left: Tensor, image: Tensor, right: Tensor, *, given: int = 1, batch_size: int = 64
) -> Tensor:
    """exp of the mean of `text_losses`, fp32 [N]: 1 for a text that the model was sure of."""
    losses, counts = text_losses(model, left, image, right, given=given, batch_size=batch_size)
    return (losses / counts).exp()


@torch.no_grad()
def image_perplexity(model: RudolphDecoder, left: Tensor, image: Tensor, *, batch_size: int = 16) -> Tensor:
    """Perplexity of one image [m * m] after each of the left texts [N, l], fp32 [N]: exp of the mean over its codes
    but the first, which is `img` in `RudolphDecoder.loss`.
    """
    made = []
    for rows in left.to(model.device).split(batch_size):
        codes = image.to(model.device).expand(len(rows), -1)
        hidden = model.hidden(torch.cat((rows, codes[:, :-1]), dim=1), last=codes.shape[1] - 1)
        logits = model.head(hidden, "image").float()
        loss = F.cross_entropy(logits.flatten(0, 1), codes[:, 1:].flatten(), reduction="none")
        made.append(loss.view(len(rows), -1).mean(1).exp().cpu())
    return torch.cat(made)
