"""Heads: they alone know what an action means. Vocabulary, pointer and copy differ here, and in the sums of mixture.py."""

from dataclasses import replace
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from ..types import NEVER, STOP, Foreseen, Scores, Sizes
from .agreement import agreeing
from .attention import Attention, Kind, fold, read, weights
from .encoders import Memory, Words
from .linear import Linear, product
from .mixture import SourceWords, log_share
from .recall import Counting, Recall, Turning
from .softmax import chosen

Pointing = Literal[Kind, "relative"]
CHUNK = 2**23      # most numbers of a [rows, A] block of logits; larger scorings are cut, and recomputed backward
LONG = 3           # a copy's sums over all actions cost as much by source positions as by this many actions


def _compared(kind: Pointing) -> Kind:
    """How a head of a kind compares states."""
    return "bilinear" if kind == "relative" else kind


def allowed(logits: Tensor, legal: Tensor | None) -> Tensor:
    """Logits and legality [..., A] -> the logits in float32 or better, NEVER for what is not legal."""
    logits = logits.to(torch.promote_types(logits.dtype, torch.float32))
    return logits if legal is None else logits.masked_fill(~legal, NEVER)


def log_probabilities(logits: Tensor, legal: Tensor | None) -> Tensor:
    """Logits and legality [..., A] -> log-probabilities over legal actions, in float32 or better."""
    return allowed(logits, legal).log_softmax(-1)


def tempered(logits: Tensor, temperature: float) -> Tensor:
    """Logits divided by the temperature, and not touched by one of 1."""
    return logits if temperature == 1.0 else logits / temperature


def judged(logp: Tensor, actions: Tensor, legal: Tensor | None) -> tuple[Tensor, Tensor, Tensor]:
    """log p [..., A] -> log p of the actions, entropy, mean log p over the actions that are possible."""
    possible = logp > NEVER / 2
    if legal is not None:
        possible = possible & legal
    sane = logp.masked_fill(~possible, 0.0)
    entropy = -(sane.exp() * sane * possible).sum(-1)
    return logp.gather(-1, actions.unsqueeze(-1)).squeeze(-1), entropy, sane.sum(-1) / possible.sum(-1).clamp(min=1)


class Head(nn.Module):
    """What every head offers; `keys` is what it projects once per source, `recall` what it knows of the answer so far."""

    recall: Recall | None

    def __init__(self) -> None:
        super().__init__()
        self.recall = None

    def keys(self, memory: Memory) -> Tensor | None:
        """[B, S, H] for heads that look at the source."""
        return None

    def embed(self, actions: Tensor, memory: Memory) -> Tensor:
        """Actions [N, T] -> the vectors [N, T, H] that the decoder is fed."""
        raise TypeError(f"{type(self).__name__} must define embed()")

    def logits(self, states: Tensor, memory: Memory, keys: Tensor | None, said: Tensor | None = None) -> Tensor:
        """Decoder states [N, T, H], and for a head with `recall` what it recalls [N, T, M] -> unnormalised
        log-probabilities [N, T, A]."""
        raise TypeError(f"{type(self).__name__} must define logits()")

    def attention(self, states: Tensor, memory: Memory, keys: Tensor | None, said: Tensor | None = None) -> Tensor | None:
        """Where the head itself points [N, T, S], if it does."""
        return None

    def score(self, states: Tensor, memory: Memory, keys: Tensor | None, actions: Tensor, mask: Tensor,
              legal: Tensor | None, detail: bool, foreseen: Foreseen | None = None, temperature: float = 1.0,
              said: Tensor | None = None) -> Scores:
        """Log-probability of the actions taken [N, T]; with `detail` their entropy and smoothing term as well.

        `foreseen` (see `Foreseen`) saves time in heads that can use it; logits are divided by `temperature`; `said` as in
        `logits`.
        """
        columns = max(1, CHUNK // max(1, states.shape[0] * memory.batch.num_actions))
        parts = []
        for start in range(0, actions.shape[1], columns):
            cut = slice(start, start + columns)

            def part(states, actions, legal, said):
                logp = log_probabilities(tempered(self.logits(states, memory, keys, said), temperature), legal)
                return judged(logp, actions, legal) if detail else (
                    logp.gather(-1, actions.unsqueeze(-1)).squeeze(-1),)

            given = (states[:, cut], actions[:, cut], *(None if one is None else one[:, cut] for one in (legal, said)))
            whole = columns >= actions.shape[1]
            parts.append(part(*given) if whole else checkpoint(part, *given, use_reentrant=False))
        found = [torch.cat(column, 1) for column in zip(*parts)]
        return Scores(found[0], *([found[1], None, found[2]] if detail else []))


class Vocabulary(Head):
    """A softmax over V words; tied to the given embedding when there is one (Press and Wolf 2017)."""

    def __init__(self, sizes: Sizes, width: int, tied: Words | None) -> None:
        super().__init__()
        if sizes.vocabulary < 2:
            raise ValueError("this task has no output vocabulary; take a policy with head: pointer")
        self.words = tied if tied is not None else Words(sizes.vocabulary, width)
        self.bias = nn.Parameter(torch.zeros(sizes.vocabulary))

    def embed(self, actions: Tensor, memory: Memory) -> Tensor:
        return self.words(actions)

    def logits(self, states: Tensor, memory: Memory, keys: Tensor | None, said: Tensor | None = None) -> Tensor:
        return product(states, self.words.weight, self.bias)

    def score(self, states: Tensor, memory: Memory, keys: Tensor | None, actions: Tensor, mask: Tensor,
              legal: Tensor | None, detail: bool, foreseen: Foreseen | None = None, temperature: float = 1.0,
              said: Tensor | None = None) -> Scores:
        """As every head, but in blocks and without padding: only real steps meet the vocabulary."""
        logp, *more = self.of_actions(states, actions, mask, legal, detail, foreseen, temperature)
        return Scores(logp, *([more[0], None, more[1]] if detail else []))

    def of_actions(self, states: Tensor, actions: Tensor, mask: Tensor, legal: Tensor | None, detail: bool,
                   foreseen: Foreseen | None = None, temperature: float = 1.0, power: float = 1.0) -> list[Tensor]:
        """Log-probabilities of actions [N, T], then with `detail` entropy and smoothing term [N, T], or with a `power` the
        logarithm of the sum of all p^power; with either, actions may be [N, T, K]. 0 where `mask` is False."""
        real = mask.flatten().nonzero().squeeze(1)

        def taken(one: Tensor | None) -> Tensor | None:
            return None if one is None else one.flatten(0, 1).index_select(0, real)

        states, actions, legal = taken(states), taken(actions), taken(legal)
        foreseen = None if foreseen is None else replace(foreseen, weight=taken(foreseen.weight))
        found = chosen(tempered(states, temperature), self.words.weight, tempered(self.bias, temperature), actions, legal,
                       detail, foreseen, power)
        return [one.new_zeros(mask.numel(), *one.shape[1:]).index_copy(0, real, one).view(*mask.shape, *one.shape[1:])
                for one in found]

    def agreement(self, states: tuple[Tensor, Tensor], actions: Tensor, mask: Tensor, foreseen: Foreseen,
                  price: float) -> tuple[Tensor, Tensor, Tensor]:
        """Two passes' states [N, T, H] -> mean log-probability of the actions and sum of both KLs [N, T], without gradient and
        0 where `mask` is False; and the loss of `agreement.py`, with gradient, for the weights that are foreseen."""
        real = mask.flatten().nonzero().squeeze(1)
        first, second, actions, weight = (one.flatten(0, 1).index_select(0, real) for one in (
            *states, actions, foreseen.weight))
        loss, *found = agreeing((first, second), self.words.weight, self.bias, actions, weight, foreseen.smoothing, price)
        logp, gap = (one.new_zeros(mask.numel()).index_copy(0, real, one).view(mask.shape) for one in found)
        return logp, gap, loss


class Pointer(Head):
    """Points at a source position: action i means position i - 1, action 0 a learned STOP (Vinyals et al. 2015).

    With pointing "relative" it is bilinear, and recalls how points of the plane lie as seen from those named last.
    """

    def __init__(self, kind: Pointing, width: int) -> None:
        super().__init__()
        self.point = Attention(_compared(kind), width)
        self.recall = Turning(width) if kind == "relative" else None
        self.stop = nn.Parameter(torch.randn(2, width) / width**0.5)     # as a thing to point at, as a thing fed

    def keys(self, memory: Memory) -> Tensor:
        stop = self.stop[0].to(memory.states.dtype).expand(len(memory.states), 1, -1)
        return self.point.keys(torch.cat([stop, memory.states], 1))                        # [B, S + 1, H]

    def embed(self, actions: Tensor, memory: Memory) -> Tensor:
        problems, positions, _ = memory.states.shape
        first = torch.arange(0, problems * positions, positions, device=actions.device).unsqueeze(1)
        place = (actions.reshape(problems, -1) - 1 + first).clamp_min(0)                   # [B, k*T] in [B * S]
        found = F.embedding(place, memory.states.flatten(0, 1)).view(*actions.shape, -1)
        return torch.where((actions == STOP).unsqueeze(-1), self.stop[1].to(found.dtype), found)

    def logits(self, states: Tensor, memory: Memory, keys: Tensor | None, said: Tensor | None = None) -> Tensor:
        energy = self._energy(states, memory, keys, said)                                  # [N, T, S + 1]
        open_ = F.pad(memory.mask, (1, 0), value=True).unsqueeze(1)
        return fold(energy, len(open_)).masked_fill(~open_, NEVER).view(energy.shape)

    def attention(self, states: Tensor, memory: Memory, keys: Tensor | None, said: Tensor | None = None) -> Tensor:
        return weights(self._energy(states, memory, keys, said)[..., 1:], memory.mask)

    def _energy(self, states: Tensor, memory: Memory, keys: Tensor, said: Tensor | None) -> Tensor:
        """[N, T, S + 1], padding not yet closed."""
        energy = self.point(states, keys)
        return energy if self.recall is None else energy + self.recall(states, said, memory)


class Copy(Head):
    """Pointer-generator (See et al. 2017, eq. 8-9): writes a word of the vocabulary or copies one of the source.

        P(w) = g P_vocabulary(w) + (1 - g) sum_{s: source_s = w} attention_s,   g = sigmoid(W [h; context])

    `batch.extra["copy_ids"]` [B, S] names the action of every source position; words outside the vocabulary have
    actions from V on. Departs from the paper: the copy attention is the head's own, so that any decoder fits; a copied
    word outside the vocabulary is fed back as the state of the position it came from, not as "unknown". With pointing
    "relative" it is bilinear, and recalls what is still to come.
    """

    def __init__(self, sizes: Sizes, kind: Pointing, width: int, tied: Words | None) -> None:
        super().__init__()
        self.write = Vocabulary(sizes, width, tied)
        self.point = Attention(_compared(kind), width)
        self.gate = Linear(2 * width, 1)
        self.recall = Counting(width) if kind == "relative" else None

    def keys(self, memory: Memory) -> Tensor:
        if "copy_ids" not in memory.batch.extra:
            raise ValueError("a copy head needs batch.extra['copy_ids']; this task encodes its actions for another head")
        return self.point.keys(memory.states)

    def embed(self, actions: Tensor, memory: Memory) -> Tensor:
        size = len(self.write.words.weight)
        known = self.write.words(actions.clamp(max=size - 1))
        if memory.batch.num_actions <= size:
            return known
        asked = actions.reshape(len(memory.states), -1, 1)                                 # [B, k*T, 1]
        place = (asked == memory.batch.extra["copy_ids"].unsqueeze(1)).to(torch.uint8).argmax(2, keepdim=True)
        copied = memory.states.gather(1, place.expand(-1, -1, memory.states.shape[2])).view(*actions.shape, -1)
        return torch.where((actions < size).unsqueeze(2), known, copied)

    def _parts(self, states: Tensor, memory: Memory, keys: Tensor, said: Tensor | None) -> tuple[Tensor, Tensor, Tensor]:
        """log g [N, T], log (1 - g) [N, T] and the copy attention [N, T, S]."""
        energy = self.point(states, keys)
        attention = weights(energy if self.recall is None else energy + self.recall(states, said, memory), memory.mask)
        gate = self.gate(torch.cat([states, read(attention, memory.states)], -1)).squeeze(-1).to(attention.dtype)
        return F.logsigmoid(gate), F.logsigmoid(-gate), attention

    def logits(self, states: Tensor, memory: Memory, keys: Tensor | None, said: Tensor | None = None) -> Tensor:
        states = self._told(states, memory, said)
        write, copy, attention = self._parts(states, memory, keys, said)
        rows, steps, _ = attention.shape
        actions, problems = memory.batch.num_actions, len(memory.mask)
        ids = memory.batch.extra["copy_ids"].unsqueeze(1).expand(-1, rows * steps // problems, -1)
        mixed = attention.new_zeros(problems, rows * steps // problems, actions)
        mixed = mixed.scatter_add(2, ids, fold(attention, problems)).view(rows, steps, actions) * copy.exp()[..., None]
        words = log_probabilities(self.write.logits(states, memory, None), None) + write[..., None]
        mixed = mixed + F.pad(words.exp(), (0, actions - words.shape[2]))
        return log_share(mixed)

    def score(self, states: Tensor, memory: Memory, keys: Tensor | None, actions: Tensor, mask: Tensor,
              legal: Tensor | None, detail: bool, foreseen: Foreseen | None = None, temperature: float = 1.0,
              said: Tensor | None = None) -> Scores:
        """As every head, but without an [N, T, A] mixture, unless legality, details of tempered answers or a long source ask
        for one.

        The mixture takes what float32 rounds to 0 for impossible; here only a copy can be, a word that is written never. So
        the two part where such words weigh, at temperatures above 10 or so.
        """
        more = detail or temperature != 1.0                             # than the actions: all words of the source
        long = more and LONG * memory.mask.shape[1] > memory.batch.num_actions
        if legal is not None or (detail and temperature != 1.0) or long:
            return super().score(states, memory, keys, actions, mask, legal, detail, None, temperature, said)
        states = self._told(states, memory, said)
        write, copy, attention = self._parts(states, memory, keys, said)
        size, ids = len(self.write.words.weight), memory.batch.extra["copy_ids"]
        asked = fold(actions.unsqueeze(2), len(ids))                                       # [B, k*T, 1]
        if more:
            asked = torch.cat([asked, ids.unsqueeze(1).expand(-1, asked.shape[1], -1)], 2)
        asked = asked.view(*actions.shape, -1)                                             # [N, T, 1 (+ S)]
        words, *sums = self.write.of_actions(states, asked.clamp(max=size - 1).squeeze(2), mask, None, detail,
                                             power=1 / temperature)
        words = (words.view(asked.shape) + write.unsqueeze(2)).masked_fill(asked >= size, NEVER)
        logp = torch.logaddexp(words[..., 0], self._copied(attention, actions, ids) + copy)
        if not more:
            return Scores(logp)
        source = SourceWords(words[..., 1:], size, attention, copy, memory)
        if detail:
            return Scores(logp, *source.details(write, *sums))
        return Scores(logp / temperature - source.power(sums[0] + write / temperature, 1 / temperature))

    def _copied(self, attention: Tensor, actions: Tensor, ids: Tensor) -> Tensor:
        """Attention [N, T, S], actions [N, T] -> log of what is copied from everywhere the source holds them."""
        same = fold(actions.unsqueeze(2), len(ids)) == ids.unsqueeze(1)
        return log_share((fold(attention, len(ids)) * same).sum(2).view(actions.shape))

    def attention(self, states: Tensor, memory: Memory, keys: Tensor | None, said: Tensor | None = None) -> Tensor:
        return self._parts(self._told(states, memory, said), memory, keys, said)[2]

    def _told(self, states: Tensor, memory: Memory, said: Tensor | None) -> Tensor:
        return states if self.recall is None else self.recall.told(states, said, memory)
