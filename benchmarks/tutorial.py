"""Recurrent networks as tutorials write them, W4 and W5: one step at a time in Python, keys projected at every step,
tanh of every query with every key, the graph kept while sampling."""

from __future__ import annotations

import torch
from scipy.spatial import ConvexHull
from torch import Tensor, nn
from torch.distributions import Categorical

from .corpus import PAD, batches, padded
from .job import LENGTH, POINTS, STEPS, WIDTH, WORDS, Job, Repetition, instances
from .worth import area, tour


class Additive(nn.Module):
    """v . tanh(W q + U k), U k anew at every call."""

    def __init__(self) -> None:
        super().__init__()
        self.query, self.key, self.value = nn.Linear(WIDTH, WIDTH), nn.Linear(WIDTH, WIDTH), nn.Linear(WIDTH, 1, bias=False)

    def forward(self, query: Tensor, states: Tensor) -> Tensor:
        return self.value(torch.tanh(self.query(query).unsqueeze(1) + self.key(states))).squeeze(2)


class PointerNetwork(nn.Module):
    """LSTM over points, LSTM cell that points; with a glimpse, a read of the points before it does."""

    def __init__(self, glimpse: bool) -> None:
        super().__init__()
        self.embed, self.encoder = nn.Linear(2, WIDTH), nn.LSTM(WIDTH, WIDTH, batch_first=True)
        self.cell, self.point = nn.LSTMCell(WIDTH, WIDTH), Additive()
        self.glimpse = Additive() if glimpse else None
        self.first, self.stop = nn.Parameter(torch.randn(WIDTH)), nn.Parameter(torch.randn(WIDTH))

    def forward(self, points: Tensor, steps: int, given: Tensor | None, greedy: bool) -> tuple[Tensor, Tensor]:
        """Actions [B, T] and their log-probabilities; action 0 stops, action i names point i - 1."""
        fed = self.embed(points)
        states, (h, c) = self.encoder(fed)
        h, c, rows = h[0], c[0], torch.arange(len(points), device=points.device)
        states = torch.cat([self.stop.expand(len(points), 1, -1), states], 1)
        open_ = torch.ones(states.shape[:2], dtype=torch.bool, device=points.device)
        open_[:, 0] = given is not None                                    # only references stop
        x, actions, logps = self.first.expand(len(points), -1), [], []
        for t in range(steps):
            h, c = self.cell(x, (h, c))
            query = h
            if self.glimpse is not None:
                seen = self.glimpse(h, states).masked_fill(~open_, -1e9).softmax(1)
                query = torch.bmm(seen.unsqueeze(1), states).squeeze(1)
            choice = Categorical(logits=self.point(query, states).masked_fill(~open_, -1e9))
            action = given[:, t] if given is not None else choice.logits.argmax(1) if greedy else choice.sample()
            logps.append(choice.log_prob(action))
            actions.append(action)
            open_ = open_.scatter(1, action.unsqueeze(1), False)
            open_[:, 0] = given is not None
            x = fed[rows, (action - 1).clamp(min=0)]
        return torch.stack(actions, 1), torch.stack(logps, 1)


def update(model: nn.Module, optimiser: torch.optim.Optimizer, loss: Tensor) -> None:
    """One step, clipped at norm 1."""
    optimiser.zero_grad()
    loss.backward()
    nn.utils.clip_grad_norm_(model.parameters(), 1.0)
    optimiser.step()


def pointer_mle(job: Job) -> Repetition:
    """W5: references of 128 hulls, padded to the longest."""
    model = PointerNetwork(False).to(job.device)
    optimiser = torch.optim.Adam(model.parameters(), lr=1e-4)
    points = torch.rand(instances(job), POINTS, 2)
    target, mask = padded([[int(i) + 1 for i in ConvexHull(one.double().numpy()).vertices] + [0] for one in points])
    points, target, mask = (one.to(job.device) for one in (points, target.masked_fill(~mask, 0), mask))

    def repetition() -> float:
        _, logp = model(points, target.shape[1], target, False)
        update(model, optimiser, -(logp * mask).sum() / mask.sum())
        return float(instances(job))
    return repetition


def pointer_reinforce(job: Job, worth: str = "area") -> Repetition:
    """W5: a sample with its graph, a greedy answer without; 20 points, or a tour of all 50 with a glimpse."""
    model = PointerNetwork(glimpse=worth == "tour").to(job.device)
    optimiser = torch.optim.Adam(model.parameters(), lr=1e-4)
    points, value = torch.rand(instances(job), POINTS, 2, device=job.device), {"area": area, "tour": tour}[worth]
    steps, rows = STEPS if worth == "area" else POINTS, torch.arange(instances(job), device=job.device).unsqueeze(1)

    def repetition() -> float:
        with torch.no_grad():
            best, _ = model(points, steps, None, True)
        actions, logp = model(points, steps, None, False)
        advantage = value(points[rows, actions - 1]) - value(points[rows, best - 1])
        update(model, optimiser, -(advantage * logp.sum(1)).mean())
        return float(instances(job))
    return repetition


class Translator(nn.Module):
    """LSTM encoder of both directions, LSTM cell with additive attention, one embedding for source, target and softmax."""

    def __init__(self) -> None:
        super().__init__()
        self.words = nn.Embedding(WORDS, WIDTH, padding_idx=PAD)
        self.dropout = nn.Dropout(0.1)
        self.encoder = nn.LSTM(WIDTH, WIDTH // 2, batch_first=True, bidirectional=True)
        self.cell, self.attention = nn.LSTMCell(2 * WIDTH, WIDTH), Additive()
        self.combine = nn.Linear(2 * WIDTH, WIDTH)

    def encode(self, source: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        states, (h, c) = self.encoder(self.dropout(self.words(source)))
        return states, torch.cat([*h], 1), torch.cat([*c], 1)

    def step(self, action: Tensor, h: Tensor, c: Tensor, states: Tensor, mask: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Logits [B, A] and the next state."""
        seen = self.attention(h, states).masked_fill(~mask, -1e9).softmax(1)
        context = torch.bmm(seen.unsqueeze(1), states).squeeze(1)
        h, c = self.cell(torch.cat([self.dropout(self.words(action)), context], 1), (h, c))
        return torch.tanh(self.combine(torch.cat([h, context], 1))) @ self.words.weight.t(), h, c


def rollout(job: Job) -> Repetition:
    """W4: 30 tokens to each of 64 sources, drawn from Categorical."""
    model = Translator().to(job.device).eval()
    source, mask = (one.to(job.device) for one in padded([pair[0] for pair in batches(job, 1)[0]]))

    @torch.no_grad()
    def repetition() -> float:
        states, h, c = model.encode(source)
        action = torch.full((len(source),), PAD, device=job.device)
        for _ in range(LENGTH):
            logits, h, c = model.step(action, h, c, states, mask)
            action = Categorical(logits=logits).sample()
        return float(len(source) * LENGTH)
    return repetition


def mle(job: Job) -> Repetition:
    """W4: the next batch of the file, padded to its longest, one step after the other."""
    model = Translator().to(job.device).train()
    optimiser = torch.optim.Adam(model.parameters(), lr=1e-4)
    ready = [[one.to(job.device) for side in (0, 1) for one in padded([pair[side] for pair in batch])]
             for batch in batches(job)]
    place = iter(range(10**9))

    def repetition() -> float:
        source, mask, target, real = ready[next(place) % len(ready)]
        states, h, c = model.encode(source)
        action, loss = torch.full((len(source),), PAD, device=job.device), 0.0
        for t in range(target.shape[1]):
            logits, h, c = model.step(action, h, c, states, mask)
            loss = loss + nn.functional.cross_entropy(logits, target[:, t], ignore_index=PAD, reduction="sum")
            action = target[:, t]
        update(model, optimiser, loss / real.sum())
        return float(real.sum())
    return repetition
