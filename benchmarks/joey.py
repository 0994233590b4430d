"""JoeyNMT 2.3.0: its models, its loss and its greedy search, which is the only way it draws one answer. It runs under an
interpreter of its own (`--python joeynmt=...`): this file needs torch and joeynmt alone."""

from __future__ import annotations

from types import SimpleNamespace

import torch
from joeynmt.model import Model, build_model
from joeynmt.search import greedy
from joeynmt.vocabulary import Vocabulary
from torch import Tensor, nn

from .corpus import FIRST, STOP, UNKNOWN, Row, batches
from .job import HEADS, INNER, LAYERS, LENGTH, WIDTH, WORDS, Job, Repetition, cpu_only

UNK, PAD, BOS, EOS = range(4)                                # the order that its vocabulary asks for
OWN = {UNKNOWN: UNK, FIRST: BOS, STOP: EOS}                  # from ids of this package


def model_of(kind: str, dropout: float) -> Model:
    """The model of W1 to W3, or the recurrent one of W4: additive attention, input feeding on, as by default."""
    embeddings = {"embedding_dim": WIDTH, "scale": kind == "transformer", "dropout": dropout}
    if kind == "transformer":
        side = {"type": "transformer", "num_layers": LAYERS, "num_heads": HEADS, "hidden_size": WIDTH, "ff_size": INNER,
                "dropout": dropout, "embeddings": embeddings, "layer_norm": "pre"}
        encoder, decoder = side, side
    else:
        side = {"type": "recurrent", "rnn_type": "lstm", "num_layers": 1, "hidden_size": WIDTH, "dropout": dropout,
                "embeddings": embeddings}
        encoder = {**side, "hidden_size": WIDTH // 2, "bidirectional": True}            # one direction alone ends in an error
        decoder = {**side, "attention": "bahdanau", "input_feeding": True, "hidden_dropout": dropout, "init_hidden": "bridge"}
    marks = SimpleNamespace(unk_token="<unk>", pad_token="<pad>", bos_token="<s>", eos_token="</s>", sep_token=None,
                            unk_id=UNK, pad_id=PAD, bos_id=BOS, eos_id=EOS, sep_id=None, lang_tags=[])
    known = Vocabulary([f"w{word}" for word in range(4, WORDS)], marks)
    made = build_model({"encoder": encoder, "decoder": decoder, "tied_embeddings": True, "tied_softmax": True}, known, known)
    made.loss_function = ("crossentropy", 0.0)
    return made


def padded(rows: list[Row]) -> tuple[Tensor, Tensor]:
    """Its ids [B, L] and their lengths [B]."""
    width = max(map(len, rows))
    ids = torch.tensor([[OWN.get(word, word) for word in row] + [PAD] * (width - len(row)) for row in rows])
    return ids, torch.tensor([len(row) for row in rows])


def rollout(job: Job, kind: str) -> Repetition:
    """W1 and W4: 30 tokens to each source by greedy search, the longest source first as its batches are."""
    cpu_only(job)
    model = model_of(kind, 0.0).eval()
    rows = sorted((pair[0] for pair in batches(job, 1)[0]), key=len, reverse=True)
    source, length = padded(rows)
    mask = (source != PAD).unsqueeze(1)

    @torch.no_grad()
    def repetition() -> float:
        states, last, _, _ = model(return_type="encode", src=source, src_length=length, src_mask=mask)
        found, _, _ = greedy(mask, LENGTH, model, states, last, min_output_length=LENGTH)
        assert found.shape == (len(rows), LENGTH), found.shape
        return float(len(rows) * LENGTH)
    return repetition


def mle(job: Job, kind: str) -> Repetition:
    """W2 and W4: one update on the next batch of the file, padded to its longest, dropout 0.1."""
    cpu_only(job)
    model = model_of(kind, 0.1).train()
    optimiser = torch.optim.Adam(model.parameters(), lr=1e-4)
    ready = []
    for batch in batches(job):
        batch = sorted(batch, key=lambda pair: len(pair[0]), reverse=True)
        source, length = padded([pair[0] for pair in batch])
        target, _ = padded([pair[1] for pair in batch])
        fed = nn.functional.pad(target[:, :-1].masked_fill(target[:, :-1] == EOS, PAD), (1, 0), value=BOS)
        ready.append({"src": source, "src_length": length, "src_mask": (source != PAD).unsqueeze(1), "trg": target,
                      "trg_input": fed, "trg_mask": (target != PAD).unsqueeze(1)})
    place = iter(range(10**9))

    def repetition() -> float:
        batch = ready[next(place) % len(ready)]
        tokens = batch["trg_mask"].sum()
        loss, _, _, _ = model(return_type="loss", **batch)
        (loss / tokens).backward()
        optimiser.step()
        optimiser.zero_grad()
        return float(tokens)
    return repetition
