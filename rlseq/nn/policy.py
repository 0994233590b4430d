"""The policy: source, encoder, decoder, head. `forward` scores whole answers; `start` and `step` draw them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields, replace
from typing import Annotated, Literal

import torch
from torch import Tensor, nn

from ..build import Within
from ..parts import cuts, in_parts, parts
from ..types import Batch, Foreseen, Rollout, Scores, Sizes
from .attention import Kind
from .decoders import Keys, Past, RecurrentDecoder, TransformerDecoder
from .encoders import Memory, Norm, Positions, RecurrentEncoder, Source, TransformerEncoder
from .heads import Copy, Head, Pointer, Pointing, Vocabulary, allowed, log_probabilities, tempered


@dataclass(frozen=True)
class Shape:
    """What a policy is made of; the options of `policy.*` on the command line."""

    head: Literal["vocabulary", "pointer", "copy"]
    encoder: Literal["transformer", "lstm", "gru"] = "transformer"
    decoder: Literal["transformer", "lstm", "gru"] = "transformer"
    width: Annotated[int, Within(1, 2**16)] = 256
    encoder_layers: Annotated[int, Within(1, 256)] = 3
    decoder_layers: Annotated[int, Within(1, 256)] = 3
    heads: Annotated[int, Within(1, 1024)] = 4               # of Transformer attention
    feedforward: Annotated[int, Within(0, 2**18)] = 0        # inner width; 0 means four times the width
    dropout: float = 0.1
    norm: Norm = "before"                    # of a Transformer's layers
    positions: Positions = "sinusoidal"      # of a Transformer's source; "none" for sets
    attention: Kind = "additive"             # of a recurrent decoder
    pointing: Pointing = "bilinear"          # of a pointer or copy head; "relative" where the source has coordinates
    bidirectional: bool = True
    summary: Literal["last", "mean"] = "last"
    tied: bool = True                        # output words share the embedding; the source too where ids are shared

    def __post_init__(self) -> None:
        for name in ("width", "encoder_layers", "decoder_layers", "heads"):
            if getattr(self, name) < 1:
                raise ValueError(f"policy.{name}={getattr(self, name)} must be at least 1")
        if not 0 <= self.dropout < 1:
            raise ValueError(f"policy.dropout={self.dropout} must lie in [0, 1)")
        if self.pointing == "none" and self.head != "vocabulary":
            raise ValueError(f"policy.pointing=none, but a {self.head} head must point; take dot, bilinear, additive or cosine")
        if self.pointing == "relative" and self.head == "vocabulary":
            raise ValueError("policy.pointing=relative is of a pointer or copy head, and this policy has a vocabulary head")

    @property
    def facts(self) -> dict[str, object]:
        """The options as checkpoints and identities hold them: `norm` came later, and "before" is left out, as it was then."""
        return {key: value for key, value in asdict(self).items() if (key, value) != ("norm", "before")}

    @staticmethod
    def weighty(facts: Mapping[str, object]) -> dict[str, object]:
        """Those of a checkpoint's options that its weights are bound to: all but dropout."""
        return {"norm": "before"} | {key: value for key, value in facts.items() if key != "dropout"}


@dataclass(frozen=True)
class State:
    """N rows in the middle of their answers."""

    memory: Memory
    keys: Keys                # of the decoder
    head_keys: Tensor | None
    past: Past
    k: int
    axis: int                 # of the rows in the past's tensors
    place: int | Tensor = 0   # actions taken so far; a tensor [1] where shapes are fixed
    said: Tensor | None = None        # [N, M], what the head recalls

    def select(self, rows: Tensor) -> State:
        """The same problems continued from other rows [N]; a row may only take the past of its own problem's rows."""
        said = None if self.said is None else self.said.index_select(0, rows)
        return replace(self, past=tuple(part.index_select(self.axis, rows) for part in self.past), said=said)

    def narrow(self, problems: Tensor, rows: Tensor) -> State:
        """Some problems [B'] continued with some of their rows, as many for each [B'*k']."""
        def taken(parts: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
            return tuple(part.index_select(0, problems) for part in parts)
        states, mask, summary = taken((self.memory.states, self.memory.mask, self.memory.summary))
        memory = Memory(states, mask, summary, self.memory.batch.take(problems))
        head_keys = None if self.head_keys is None else self.head_keys.index_select(0, problems)
        return replace(self.select(rows), memory=memory, keys=taken(self.keys), head_keys=head_keys,
                       k=len(rows) // len(problems))


class Policy(nn.Module):
    """pi(answer | source), autoregressive. Rows n = 0..N-1 answer problems n // k; a source is encoded once."""

    def __init__(self, source: Source, encoder: nn.Module, decoder: nn.Module, head: Head) -> None:
        super().__init__()
        self.source, self.encoder, self.decoder, self.head = source, encoder, decoder, head
        self.first = nn.Parameter(torch.randn(source.width) / source.width**0.5)           # fed before any action

    def encode(self, batch: Batch) -> Memory:
        """B sources -> their memory, once however many answers follow."""
        recurrent = isinstance(self.encoder, RecurrentEncoder)
        embedded = self.source.factors(batch.source) if recurrent else self.source(batch.source)
        states, summary = self.encoder(embedded, batch.source_mask)
        return Memory(states, batch.source_mask, summary, batch)

    def forward(self, memory: Memory, actions: Tensor, mask: Tensor, legal: Tensor | None = None,
                fed: Tensor | None = None, detail: bool = False, attend: bool = False,
                foreseen: Foreseen | None = None, temperature: float = 1.0) -> Scores:
        """Score answers [N, T] in one parallel pass; carries gradient.

        `fed` [N, T] replaces the actions the decoder sees as its past; `detail` adds entropy and the smoothing term,
        `attend` the attention [N, T, S]: the head's own if it points, else the decoder's (None if there is none);
        `foreseen` and `temperature` as in `Head.score`.
        """
        fed = actions if fed is None else fed
        states, attention, head_keys = self._decode(memory, fed, mask, attend)
        said = self._recalled(fed, memory)
        scores = self.head.score(states, memory, head_keys, actions, mask, legal, detail, foreseen, temperature, said)
        scores = replace(scores, states=states)
        if attend:
            own = self.head.attention(states, memory, head_keys, said)
            scores = replace(scores, attention=attention if own is None else own)
        return scores

    def _decode(self, memory: Memory, fed: Tensor, mask: Tensor | None,
                attend: bool) -> tuple[Tensor, Tensor | None, Tensor | None]:
        first = self.first.expand(len(fed), 1, -1).to(memory.states.dtype)
        vectors = torch.cat([first, self.head.embed(fed[:, :-1], memory)], 1) if fed.shape[1] > 1 else first
        states, attention = self.decoder(vectors, memory, self.decoder.keys(memory), mask, attend)
        return states, attention, self.head.keys(memory)

    def _recalled(self, fed: Tensor, memory: Memory) -> Tensor | None:
        return None if self.head.recall is None else self.head.recall.along(fed, memory)

    def score(self, rollout: Rollout, detail: bool = False, attend: bool = False,
              foreseen: Foreseen | None = None) -> Scores:
        """Score the answers of a rollout under what drew them; carries gradient. `foreseen` as in `Head.score`."""
        if own := _cuts(rollout):
            with in_parts(1):
                found = [self.score(rollout.slice(*cut), detail, attend) for cut in own]
            columns = ([getattr(part, one.name) for part in found] for one in fields(Scores))
            return Scores(*(None if column[0] is None else torch.cat(column) for column in columns))
        return self(self.encode(rollout.batch), rollout.actions, rollout.mask, rollout.legal, rollout.fed, detail, attend,
                    foreseen, rollout.temperature)

    def states(self, rollout: Rollout) -> Tensor:
        """The decoder's states [N, T, H] before each action of a rollout, as `score` leaves them; carries gradient."""
        if own := _cuts(rollout):
            with in_parts(1):
                return torch.cat([self.states(rollout.slice(*cut)) for cut in own])
        memory, fed = self.encode(rollout.batch), rollout.actions if rollout.fed is None else rollout.fed
        return self._decode(memory, fed, rollout.mask, False)[0]

    def log_probs(self, memory: Memory, actions: Tensor, legal: Tensor | None = None, temperature: float = 1.0) -> Tensor:
        """Log-probabilities of all actions at every step [N, T, A]: exact, and large where A is a vocabulary."""
        states, _, head_keys = self._decode(memory, actions, None, False)
        said = self._recalled(actions, memory)
        return log_probabilities(tempered(self.head.logits(states, memory, head_keys, said), temperature), legal)

    def start(self, memory: Memory, k: int) -> State:
        """N = B*k rows before their first action."""
        keys, rows = tuple(one.contiguous() for one in self.decoder.keys(memory)), len(memory.mask) * k
        said = None if self.head.recall is None else self.head.recall.start(memory, rows)
        return State(memory, keys, self.head.keys(memory), self.decoder.start(memory, k), k, self.decoder.ROWS, said=said)

    def with_room(self, state: State, room: int) -> State:
        """The state before the first action in shapes that `room` steps do not change."""
        place = torch.zeros(1, dtype=torch.long, device=state.memory.mask.device)
        return replace(state, past=self.decoder.with_room(state.past, room), place=place)

    def step(self, state: State, action: Tensor | None, legal: Tensor | None = None) -> tuple[Tensor, State]:
        """The actions just taken [N] (None at first), what may follow [N, A] -> log pi [N, A] and the next state."""
        logits, state = self.logits(state, action, legal)
        return logits.log_softmax(-1), state

    def logits(self, state: State, action: Tensor | None, legal: Tensor | None = None) -> tuple[Tensor, State]:
        """As `step`, but log pi without its normalisation: log pi = logits.log_softmax(-1)."""
        memory, said = state.memory, state.said
        if action is None:
            fed = self.first.expand(len(memory.mask) * state.k, -1).to(memory.states.dtype)
        else:
            fed = self.head.embed(action.unsqueeze(1), memory).squeeze(1)
            said = None if said is None else self.head.recall.after(said, action, memory)
        states, past = self.decoder.step(fed, memory, state.keys, state.past, state.place)
        logits = self.head.logits(states.unsqueeze(1), memory, state.head_keys, None if said is None else said.unsqueeze(1))
        return allowed(logits.squeeze(1), legal), replace(state, past=past, place=state.place + 1, said=said)


def _cuts(rollout: Rollout) -> list[tuple[int, int]]:
    """Where a roll-out is cut that is to be scored in parts, for want of memory; nowhere else."""
    return [] if parts() == 1 or torch.is_grad_enabled() else cuts(len(rollout.batch), parts())


def make_policy(sizes: Sizes, shape: Shape) -> Policy:
    """A fresh policy of a given shape for a task of given sizes."""
    width, inner = shape.width, shape.feedforward or 4 * shape.width
    if shape.pointing == "relative" and sizes.coordinates != {"pointer": 2, "copy": 1}[shape.head]:
        raise ValueError("policy.pointing=relative needs a source of points in the plane for a pointer head (task=hull), or "
                         "on a line for a copy head (task=sort); take pointing=bilinear")
    source = Source(sizes, width, shape.positions if shape.encoder == "transformer" else "none", shape.dropout)
    if shape.encoder == "transformer":
        encoder = TransformerEncoder(width, shape.encoder_layers, shape.heads, inner, shape.dropout, shape.norm)
    else:
        encoder = RecurrentEncoder(shape.encoder, width, shape.encoder_layers, shape.bidirectional, shape.summary,
                                   shape.dropout)
    if shape.decoder == "transformer":
        decoder = TransformerDecoder(width, shape.decoder_layers, shape.heads, inner, shape.dropout, shape.norm)
    else:
        decoder = RecurrentDecoder(shape.decoder, shape.attention, width, shape.decoder_layers, shape.dropout)
    tied = source.embed if shape.tied and sizes.shared else None
    if shape.head == "pointer":
        head = Pointer(shape.pointing, width)
    elif shape.head == "copy":
        head = Copy(sizes, shape.pointing, width, tied)
    else:
        head = Vocabulary(sizes, width, tied)
    return Policy(source, encoder, decoder, head)
