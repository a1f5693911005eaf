"""Trains the small VQGAN of `nano` on pictures of the worlds.

Two phases. First a plain autoencoder; then its embeddings are clustered (k-means) into the codebook and training goes
on with nearest-neighbour codes, a straight-through gradient and a codebook that follows the mean of what it codes
(VQ-VAE, van den Oord et al. 2017, section 3.2 and appendix A.1). A second run goes on from its result with more signs
and heavier edges, so that lettering can be read from the codes. GumbelVQ's projection to code logits is set at the
end so that its arg max is the nearest neighbour: 2 h·e − |e|² is largest for the e nearest to h.
"""

from __future__ import annotations

import logging
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from rudolph.vqgan import VQGAN, VQGANConfig
from training.nano.checkpoint import Checkpoint, fast_autocast
from training.nano.runs import VQGANTraining
from training.worlds import scenes, seeded, signs

log = logging.getLogger(__name__)

NANO_VQGAN = VQGANConfig(
    embed_dim=32, n_embed=1024, z_channels=64, resolution=64, ch=32, ch_mult=(1, 1, 2, 4), num_res_blocks=1,
    attn_resolutions=(8,), norm_groups=8,
)  # fmt: skip


class Pictures(Dataset[Tensor]):
    """Endless training pictures by number, uint8 [3, size, size]."""

    def __init__(self, length: int, size: int, training: VQGANTraining) -> None:
        self.length, self.size, self.training = length, size, training

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, index: int) -> Tensor:
        rng = seeded("train", "vqgan", self.training.first_picture + index)
        is_sign = rng.random() < self.training.sign_share
        image = signs.draw_sign(rng, self.size)[0] if is_sign else scenes.draw_scene(rng, self.size).image
        return torch.from_numpy(np.array(image)).permute(2, 0, 1)


def train_vqgan(
    folder: Path, training: VQGANTraining, config: VQGANConfig = NANO_VQGAN, first: Path | None = None
) -> VQGAN:
    """Trains, or goes on from `folder`/checkpoint.pt, and saves the VQGAN in `folder`.

    It begins with the weights in the folder `first`, codebook included, or else from nothing.
    """
    torch.manual_seed(training.seed)
    if first is None:
        model = VQGAN(config)
        start_as_identity(model)
    else:
        model = VQGAN.from_pretrained(first).train()
        config = model.config
    optimizer = torch.optim.AdamW(model.parameters(), lr=training.learning_rate, betas=(0.9, 0.98), weight_decay=0.01)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, training.learning_rate, training.steps, pct_start=0.05)
    codebook = Codebook(model, training.codebook_decay, ready=first is not None)
    state = {"model": model, "optimizer": optimizer, "schedule": schedule, "codebook": codebook}
    checkpoint = Checkpoint(folder, state)
    done = checkpoint.restore()
    plain_steps = int(training.steps * training.plain_share)

    data = Pictures(training.steps * training.batch_size, config.resolution, training)
    batches = DataLoader(
        torch.utils.data.Subset(data, range(done * training.batch_size, len(data))),
        training.batch_size, num_workers=1, prefetch_factor=8,
    )  # fmt: skip
    recent: list[Tensor] = []
    half_precision = fast_autocast()
    for step, batch in enumerate(batches, start=done):
        pixels = batch.float() / 255
        # Not compiled: torch 2.13 on a CPU compiles this encoder and decoder to code with wrong gradients.
        with half_precision:
            encoded = model.quant_conv(model.encoder(2 * pixels - 1))
        encoded = encoded.float()  # [B, D, h, w]
        commitment = torch.zeros(())
        embeddings = encoded
        if step < plain_steps:
            recent = [*recent[-31:], encoded.detach()]
        else:
            if not codebook.ready:
                codebook.cluster(torch.cat(recent).permute(0, 2, 3, 1).flatten(0, 2))
            quantised = codebook.quantise(encoded)
            commitment = F.mse_loss(encoded, quantised)
            embeddings = encoded + (quantised - encoded).detach()
        with half_precision:
            decoded = model.decode_embeddings(embeddings)
        decoded, wanted = decoded.float(), 2 * pixels - 1
        l1 = F.l1_loss(decoded, wanted)
        edges = sum(F.l1_loss(decoded.diff(dim=d), wanted.diff(dim=d)) for d in (2, 3))
        loss = l1 + training.edge_weight * edges + training.commitment * commitment
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        figures = {"l1": l1, "edges": edges, "commitment": commitment, "codes_used": codebook.used()}
        checkpoint.report(step + 1, training.steps, **figures)
    codebook.export()
    model.eval().save_pretrained(folder)
    return model


def start_as_identity(model: VQGAN) -> None:
    """Empties the residual branches, so that pictures pass a fresh autoencoder: it learns several times faster so."""
    for name, parameter in model.named_parameters():
        if name.endswith(("conv2.weight", "conv2.bias", "proj_out.weight", "proj_out.bias")):
            torch.nn.init.zeros_(parameter)


class Codebook(torch.nn.Module):
    """The code embeddings of a VQGAN as running means of what they code."""

    counts: Tensor
    sums: Tensor
    clustered: Tensor

    def __init__(self, model: VQGAN, decay: float, ready: bool) -> None:
        super().__init__()
        self.embed, self.proj, self.decay = model.quantize.embed, model.quantize.proj, decay
        self.register_buffer("counts", torch.ones(self.embed.num_embeddings))
        self.register_buffer("sums", self.embed.weight.detach().clone())
        self.register_buffer("clustered", torch.tensor(ready))
        for parameter in (*self.embed.parameters(), *self.proj.parameters()):
            parameter.requires_grad_(False)

    @property
    def ready(self) -> bool:
        """Whether the codes are clustered."""
        return bool(self.clustered)

    def cluster(self, vectors: Tensor, rounds: int = 15) -> None:
        """k-means over vectors [N, D], started from N distinct ones."""
        start = torch.randperm(len(vectors))[: len(self.counts)]
        self.embed.weight.copy_(vectors[start])
        for _ in range(rounds):
            self._count(vectors, self._nearest(vectors), decay=0.0)
        self.clustered.fill_(True)

    def quantise(self, encoded: Tensor) -> Tensor:
        """Embeddings [B, D, h, w] -> the nearest codes' embeddings, same shape; the codebook moves after them."""
        vectors = encoded.detach().permute(0, 2, 3, 1)
        flat = vectors.flatten(0, 2)
        codes = self._nearest(flat)
        quantised = self.embed(codes).view(vectors.shape).permute(0, 3, 1, 2)
        self._count(flat, codes, self.decay)
        return quantised

    def used(self) -> Tensor:
        """Share of the codes in use."""
        return (self.counts > 0.05).float().mean()

    def export(self) -> None:
        """Sets the projection so that its arg max is the nearest code, and makes the rarest code number 0.

        Texts have code 0 all over their image part, and the route is told by it: real pictures should hardly use it.
        """
        rarest = int(self.counts.argmin())
        for table in (self.counts, self.sums, self.embed.weight):
            table[[0, rarest]] = table[[rarest, 0]]
        weight = self.embed.weight
        self.proj.weight.copy_(2 * weight[:, :, None, None])
        assert self.proj.bias is not None
        self.proj.bias.copy_(-weight.square().sum(1))

    def _nearest(self, vectors: Tensor) -> Tensor:
        weight = self.embed.weight
        return (2 * vectors @ weight.T - weight.square().sum(1)).argmax(1)

    def _count(self, vectors: Tensor, codes: Tensor, decay: float) -> None:
        hits = torch.bincount(codes, minlength=len(self.counts)).float()
        sums = torch.zeros_like(self.sums).index_add_(0, codes, vectors)
        self.counts.mul_(decay).add_(hits, alpha=1 - decay)
        self.sums.mul_(decay).add_(sums, alpha=1 - decay)
        # A code that nothing is near to starts again at some vector of this batch.
        dead = self.counts < 0.02
        if dead.any():
            fresh = vectors[torch.randint(len(vectors), (int(dead.sum()),))]
            self.counts[dead] = 0.5
            self.sums[dead] = 0.5 * fresh
        self.embed.weight.copy_(self.sums / self.counts[:, None])
