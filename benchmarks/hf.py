"""Hugging Face transformers: Marian, BART and T5 of the same size with random weights, used as its guides show."""

from __future__ import annotations

import torch
from sacrebleu.metrics import BLEU
from torch import Tensor, nn
from transformers import (
    BartConfig,
    BartForConditionalGeneration,
    GenerationConfig,
    MarianConfig,
    MarianMTModel,
    T5Config,
    T5ForConditionalGeneration,
)

from .corpus import PAD, STOP, batches, padded
from .job import ANSWERS, HEADS, INNER, LAYERS, LENGTH, WIDTH, WORDS, Job, Repetition

IGNORED = -100           # the label that transformers leaves out of the loss


def model_of(family: str, dropout: float) -> nn.Module:
    """3 + 3 layers of width 256, one embedding, about 7.6 M parameters; never stops of itself."""
    ids = {"vocab_size": WORDS, "pad_token_id": PAD, "eos_token_id": STOP, "decoder_start_token_id": PAD}
    if family == "t5":
        config = T5Config(d_model=WIDTH, d_kv=WIDTH // HEADS, d_ff=INNER, num_layers=LAYERS, num_decoder_layers=LAYERS,
                          num_heads=HEADS, dropout_rate=dropout, feed_forward_proj="relu", **ids)
        made = T5ForConditionalGeneration(config)
    else:
        kind, build = {"marian": (MarianConfig, MarianMTModel), "bart": (BartConfig, BartForConditionalGeneration)}[family]
        made = build(kind(
            d_model=WIDTH, encoder_layers=LAYERS, decoder_layers=LAYERS, encoder_attention_heads=HEADS,
            decoder_attention_heads=HEADS, encoder_ffn_dim=INNER, decoder_ffn_dim=INNER, activation_function="relu",
            max_position_embeddings=256, dropout=dropout, attention_dropout=dropout, activation_dropout=0.0,
            forced_eos_token_id=None, scale_embedding=True, **ids))
    made.generation_config = GenerationConfig(
        do_sample=True, top_k=0, top_p=1.0, max_new_tokens=LENGTH, use_cache=True, pad_token_id=PAD, eos_token_id=None,
        decoder_start_token_id=PAD)
    return made


def dtype_of(precision: str) -> torch.dtype:
    return {"fp32": torch.float32, "bf16": torch.bfloat16}[precision]


def rollout(job: Job, family: str = "marian", precision: str = "fp32") -> Repetition:
    """W1: `generate` with sampling from the full softmax."""
    model = model_of(family, 0.0).to(job.device, dtype_of(precision)).eval()
    source, mask = (one.to(job.device) for one in padded([pair[0] for pair in batches(job, 1)[0]]))

    def repetition() -> float:
        found = model.generate(input_ids=source, attention_mask=mask.long())
        assert found.shape == (len(source), LENGTH + 1), found.shape
        return float(len(source) * LENGTH)
    return repetition


def mle(job: Job, family: str = "marian", precision: str = "fp32") -> Repetition:
    """W2: one update on the next batch of the file, padded to its longest, dropout 0.1."""
    model = model_of(family, 0.1).to(job.device).train()
    optimiser = torch.optim.Adam(model.parameters(), lr=1e-4, fused=True)
    ready = []
    for batch in batches(job):
        source, source_mask = padded([pair[0] for pair in batch])
        target, target_mask = padded([pair[1] for pair in batch])
        ready.append([one.to(job.device) for one in (source, source_mask.long(), target.masked_fill(~target_mask, IGNORED))])
    place = iter(range(10**9))

    def repetition() -> float:
        source, source_mask, labels = ready[next(place) % len(ready)]
        with torch.autocast(job.device, torch.bfloat16, enabled=precision == "bf16"):
            loss = model(input_ids=source, attention_mask=source_mask, labels=labels).loss
        optimiser.zero_grad(set_to_none=True)
        loss.backward()
        optimiser.step()
        return float((labels != IGNORED).sum())
    return repetition


def reinforce(job: Job, precision: str = "fp32") -> Repetition:
    """W3 in the manner of TRL's RLOO trainer: prompts repeated 5 times, so the encoder sees 320 rows; `generate`; a pass
    without gradient for the old log-probabilities; full logits again with gradient; ratio, clipping, Adam."""
    model = model_of("marian", 0.0).to(job.device)
    optimiser = torch.optim.Adam(model.parameters(), lr=1e-4, fused=True)
    batch = batches(job, 1)[0]
    source, mask = (one.to(job.device) for one in padded([pair[0] for pair in batch]))
    source, mask = source.repeat_interleave(ANSWERS, 0), mask.long().repeat_interleave(ANSWERS, 0)
    references = [" ".join(map(str, pair[1][:-1])) for pair in batch for _ in range(ANSWERS)]
    bleu = BLEU(tokenize="none", effective_order=True, smooth_method="exp")

    def scored(actions: Tensor) -> Tensor:
        logits = model(input_ids=source, attention_mask=mask, decoder_input_ids=actions[:, :-1]).logits
        return logits.float().log_softmax(-1).gather(2, actions[:, 1:, None]).squeeze(2).sum(1)

    def repetition() -> float:
        with torch.autocast(job.device, torch.bfloat16, enabled=precision == "bf16"):
            model.eval()
            actions = model.generate(input_ids=source, attention_mask=mask)
            with torch.no_grad():
                old = scored(actions)
            texts = [" ".join(map(str, row)) for row in actions[:, 1:].tolist()]
            reward = torch.tensor([bleu.sentence_score(text, [known]).score / 100 for text, known in zip(texts, references)])
            reward = reward.to(job.device).view(-1, ANSWERS)
            advantage = (reward - (reward.sum(1, keepdim=True) - reward) / (ANSWERS - 1)).flatten()
            model.train()
            loss = -((scored(actions) - old).exp() * advantage).mean()
        optimiser.zero_grad(set_to_none=True)
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimiser.step()
        return 1.0
    return repetition
