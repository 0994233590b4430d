"""torch.nn.Transformer, used as in tutorials: no cache, so every step decodes its whole past again."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .corpus import PAD, batches, padded
from .job import HEADS, INNER, LAYERS, LENGTH, WIDTH, WORDS, Job, Repetition


class Translator(nn.Module):
    """One embedding, tied three ways, sinusoidal positions."""

    def __init__(self, dropout: float) -> None:
        super().__init__()
        self.words = nn.Embedding(WORDS, WIDTH, padding_idx=PAD)
        nn.init.normal_(self.words.weight, std=WIDTH**-0.5)
        self.body = nn.Transformer(WIDTH, HEADS, LAYERS, LAYERS, INNER, dropout, batch_first=True)
        self.dropout = nn.Dropout(dropout)
        angle = torch.arange(256)[:, None] * torch.exp(torch.arange(0, WIDTH, 2) * (-math.log(10000.0) / WIDTH))
        self.register_buffer("places", torch.stack([angle.sin(), angle.cos()], 2).flatten(1))

    def embed(self, ids: Tensor) -> Tensor:
        return self.dropout(self.words(ids) * WIDTH**0.5 + self.places[:ids.shape[1]])

    def encode(self, source: Tensor, padding: Tensor) -> Tensor:
        return self.body.encoder(self.embed(source), src_key_padding_mask=padding)

    def decode(self, fed: Tensor, memory: Tensor, padding: Tensor) -> Tensor:
        """Decoder states [B, T, H] of the actions fed [B, T]."""
        ahead = torch.ones(fed.shape[1], fed.shape[1], dtype=torch.bool, device=fed.device).triu(1)
        return self.body.decoder(self.embed(fed), memory, tgt_mask=ahead, memory_key_padding_mask=padding, tgt_is_causal=True)

    def logits(self, states: Tensor) -> Tensor:
        return F.linear(states, self.words.weight)


def rollout(job: Job) -> Repetition:
    """W1: the prefix is decoded again at every step, a word drawn with torch.multinomial."""
    model = Translator(0.0).to(job.device).eval()
    source, mask = (one.to(job.device) for one in padded([pair[0] for pair in batches(job, 1)[0]]))

    @torch.no_grad()
    def repetition() -> float:
        memory = model.encode(source, ~mask)
        fed = torch.full((len(source), 1), PAD, device=job.device)
        for _ in range(LENGTH):
            p = model.logits(model.decode(fed, memory, ~mask)[:, -1]).softmax(-1)
            fed = torch.cat([fed, torch.multinomial(p, 1)], 1)
        return float(len(source) * LENGTH)
    return repetition


def mle(job: Job) -> Repetition:
    """W2: one update on the next batch of the file, padded to its longest, dropout 0.1."""
    model = Translator(0.1).to(job.device).train()
    optimiser = torch.optim.Adam(model.parameters(), lr=1e-4, fused=True)
    ready = [[one.to(job.device) for side in (0, 1) for one in padded([pair[side] for pair in batch])]
             for batch in batches(job)]
    place = iter(range(10**9))

    def repetition() -> float:
        source, mask, target, real = ready[next(place) % len(ready)]
        fed = F.pad(target[:, :-1], (1, 0), value=PAD)
        logits = model.logits(model.decode(fed, model.encode(source, ~mask), ~mask))
        loss = F.cross_entropy(logits.flatten(0, 1), target.flatten(), ignore_index=PAD)
        optimiser.zero_grad(set_to_none=True)
        loss.backward()
        optimiser.step()
        return float(real.sum())
    return repetition
