"""Which competitors each workload has. A competitor is a function `module:function` of this package, and its arguments."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class Competitor:
    """`make` names the function that prepares it; `python` the interpreter it may need (`--python NAME=PATH`)."""

    name: str
    kind: Literal["ours", "peer", "limit"]
    make: str
    arguments: tuple[str, ...] = ()
    python: str = ""
    quick: bool = False              # takes part in --quick
    inverse: bool = False            # the value is seconds for a unit, not units for a second


@dataclass(frozen=True)
class Goal:
    """Our `row` is to be `wanted` times as fast as `other`; or hold at most `wanted` of its peak memory; or, without
    `other`, take at most `wanted` seconds, or reach that percentage in ten minutes."""

    row: str
    other: str
    wanted: float
    what: Literal["speed", "memory", "seconds", "quality"] = "speed"


@dataclass(frozen=True)
class Workload:
    """One table."""

    name: str
    title: str
    unit: str
    competitors: tuple[Competitor, ...]
    goals: tuple[Goal, ...] = ()


W1 = Workload("W1", "Transformer roll-out: 64 sources x 30 tokens, encoder included", "tokens/s", (
    Competitor("rlseq", "ours", "ours:rollout", quick=True),
    Competitor("rlseq-bf16", "ours", "ours:rollout", ("bf16",)),
    Competitor("hf-marian", "peer", "hf:rollout", ("marian",), quick=True),
    Competitor("hf-marian-bf16", "peer", "hf:rollout", ("marian", "bf16")),
    Competitor("hf-bart", "peer", "hf:rollout", ("bart",)),
    Competitor("hf-t5", "peer", "hf:rollout", ("t5",)),
    Competitor("torch-transformer", "peer", "plain:rollout"),
    Competitor("joeynmt", "peer", "joey:rollout", ("transformer",), "joeynmt"),
    Competitor("limit", "limit", "limits:rollout", quick=True),
    Competitor("limit-mkl", "limit", "limits:rollout", ("mkl",)),
    Competitor("limit-bf16", "limit", "limits:rollout", ("bf16",)),
), goals=(Goal("rlseq", "hf-marian", 4.0), Goal("rlseq", "limit", 0.7)))

W2 = Workload("W2", "MLE step, dropout 0.1, batches of 64 sources", "target tokens/s", (
    Competitor("rlseq", "ours", "ours:mle", quick=True),
    Competitor("rlseq-bucketed", "ours", "ours:mle", ("fp32", "bucketed")),
    Competitor("rlseq-bf16", "ours", "ours:mle", ("bf16",)),
    Competitor("hf-marian", "peer", "hf:mle", ("marian",), quick=True),
    Competitor("hf-marian-bf16", "peer", "hf:mle", ("marian", "bf16")),
    Competitor("hf-bart", "peer", "hf:mle", ("bart",)),
    Competitor("hf-t5", "peer", "hf:mle", ("t5",)),
    Competitor("torch-transformer", "peer", "plain:mle"),
    Competitor("joeynmt", "peer", "joey:mle", ("transformer",), "joeynmt"),
    Competitor("limit", "limit", "limits:mle", quick=True),
    Competitor("limit-mkl", "limit", "limits:mle", ("mkl",)),
    Competitor("limit-bf16", "limit", "limits:mle", ("bf16",)),
), goals=(Goal("rlseq", "hf-marian", 3.0), Goal("rlseq", "joeynmt", 3.0)))

W3 = Workload("W3", "REINFORCE step: 64 sources x 5 answers x 30 tokens, sentence BLEU, leave-one-out", "steps/s", (
    Competitor("rlseq", "ours", "ours:reinforce", quick=True),
    Competitor("rlseq-bf16", "ours", "ours:reinforce", ("bf16",)),
    Competitor("hf-trl", "peer", "hf:reinforce", quick=True),
    Competitor("hf-trl-bf16", "peer", "hf:reinforce", ("bf16",)),
    Competitor("limit", "limit", "limits:reinforce", quick=True),
    Competitor("limit-mkl", "limit", "limits:reinforce", ("mkl",)),
    Competitor("limit-bf16", "limit", "limits:reinforce", ("bf16",)),
), goals=(Goal("rlseq", "hf-trl", 4.0), Goal("rlseq-bf16", "hf-trl", 5.0),
          Goal("rlseq", "hf-trl", 0.6, "memory")))

W4_MLE = Workload("W4-mle", "LSTM with additive attention, MLE step, batches of 64 sources", "target tokens/s", (
    Competitor("rlseq", "ours", "ours:mle", ("fp32", "file", "lstm"), quick=True),
    Competitor("rlseq-bucketed", "ours", "ours:mle", ("fp32", "bucketed", "lstm")),
    Competitor("joeynmt", "peer", "joey:mle", ("recurrent",), "joeynmt"),
    Competitor("tutorial", "peer", "tutorial:mle", quick=True),
    Competitor("limit", "limit", "limits_recurrent:mle"),
), goals=(Goal("rlseq", "joeynmt", 2.0),))

W4_SAMPLE = Workload("W4-sample", "LSTM with additive attention, 64 sources x 30 tokens (joeynmt: greedy)", "tokens/s", (
    Competitor("rlseq", "ours", "ours:rollout", ("fp32", "lstm"), quick=True),
    Competitor("joeynmt", "peer", "joey:rollout", ("recurrent",), "joeynmt"),
    Competitor("tutorial", "peer", "tutorial:rollout", quick=True),
    Competitor("limit", "limit", "limits_recurrent:rollout"),
), goals=(Goal("rlseq", "joeynmt", 2.0),))

W5_MLE = Workload("W5-mle", "Pointer network, hulls of 50 points, MLE step of 128", "instances/s", (
    Competitor("rlseq", "ours", "ours_pointer:mle", quick=True),
    Competitor("tutorial", "peer", "tutorial:pointer_mle", quick=True),
    Competitor("limit", "limit", "limits_recurrent:pointer_mle"),
), goals=(Goal("rlseq", "tutorial", 4.0),))

W5_REINFORCE = Workload("W5-reinforce", "Pointer network, 20 of 50 points, sample and greedy baseline, step of 128",
                        "instances/s", (
    Competitor("rlseq", "ours", "ours_pointer:reinforce", quick=True),
    Competitor("tutorial", "peer", "tutorial:pointer_reinforce", quick=True),
    Competitor("limit", "limit", "limits_recurrent:pointer_reinforce"),
), goals=(Goal("rlseq", "tutorial", 4.0),))

W5_TOUR = Workload("W5-tour", "Pointer network with a glimpse, tours of 50 points, sample and greedy baseline, step of 128",
                   "instances/s", (
    Competitor("rlseq", "ours", "ours_pointer:reinforce", ("tour",)),
    Competitor("rl4co", "peer", "routing:reinforce", (), "rl4co"),
    Competitor("tutorial", "peer", "tutorial:pointer_reinforce", ("tour",)),
    Competitor("limit", "limit", "limits_recurrent:pointer_reinforce", ("tour",)),
), goals=(Goal("rlseq", "rl4co", 5.0),))

W6_BLEU = Workload("W6-bleu", "Sentence BLEU: 4096 pairs of Multi30k's length", "pairs/s", (
    Competitor("rlseq", "ours", "rewards:bleu", quick=True),
    Competitor("sacrebleu", "peer", "reward_peers:sacrebleu", quick=True),
    Competitor("sacrebleu-13a", "peer", "reward_peers:sacrebleu", ("13a",)),
    Competitor("nltk", "peer", "reward_peers:nltk"),
    Competitor("torchmetrics", "peer", "reward_peers:torchmetrics_bleu"),
), goals=(Goal("rlseq", "sacrebleu", 20.0),))

W6_ROUGE = Workload("W6-rouge", "ROUGE-L: 4096 pairs of about 25 tokens", "pairs/s", (
    Competitor("rlseq", "ours", "rewards:rouge", quick=True),
    Competitor("rouge_score", "peer", "reward_peers:rouge_score", quick=True),
    Competitor("rouge_score-split", "peer", "reward_peers:rouge_score", ("split",)),
    Competitor("torchmetrics", "peer", "reward_peers:torchmetrics_rouge"),
), goals=(Goal("rlseq", "rouge_score", 80.0),))

W6_HULL = Workload("W6-hull", "Hull labels: 4096 sets of 50 uniform points", "sets/s", (
    Competitor("rlseq", "ours", "rewards:hulls", quick=True),
    Competitor("scipy", "peer", "reward_peers:scipy_hulls", quick=True),
    Competitor("shapely", "peer", "reward_peers:shapely_hulls"),
    Competitor("shapely-vectorised", "peer", "reward_peers:shapely_hulls", ("vectorised",)),
), goals=(Goal("rlseq", "scipy", 4.0),))

W6_POLYGON = Workload("W6-polygon", "Area and simplicity of 4096 answers to 50 points", "polygons/s", (
    Competitor("rlseq", "ours", "rewards:polygon", quick=True),
    Competitor("shapely", "peer", "reward_peers:shapely_polygon"),
    Competitor("shapely-vectorised", "peer", "reward_peers:shapely_polygon", ("vectorised",), quick=True),
), goals=(Goal("rlseq", "shapely-vectorised", 3.0),))

W7_START = Workload("W7-start", "Start-up, end included: --help, or the import that a script begins with", "s", (
    Competitor("rlseq", "ours", "startup:command", ("rlseq", "-m", "rlseq.run", "--help"), quick=True, inverse=True),
    Competitor("rlseq-import", "ours", "startup:command", ("rlseq", "-c", "import rlseq.train"), inverse=True),
    Competitor("joeynmt", "peer", "startup:command", ("joeynmt", "-m", "joeynmt", "--help"), "joeynmt", inverse=True),
    Competitor("transformers", "peer", "startup:command", ("transformers", "-c", "from transformers import MarianMTModel"),
               inverse=True),
    Competitor("rl4co", "peer", "startup:command", ("rl4co", "-c", "import rl4co.models"), "rl4co", inverse=True),
    Competitor("limit", "limit", "startup:command", ("torch", "-c", "pass"), quick=True, inverse=True),
    Competitor("limit-torch", "limit", "startup:command", ("torch", "-c", "import torch"), inverse=True),
), goals=(Goal("rlseq", "", 1.0, "seconds"),))

W7_FIRST = Workload("W7-first", "Command to first training step, smallest configuration", "s", (
    Competitor("rlseq", "ours", "startup:rlseq", inverse=True),
    Competitor("joeynmt", "peer", "startup:joeynmt", (), "joeynmt", inverse=True),
    Competitor("rl4co", "peer", "startup:rl4co", (), "rl4co", inverse=True),
), goals=(Goal("rlseq", "", 4.0, "seconds"),))

WORKLOADS = {one.name: one for one in (
    W1, W2, W3, W4_MLE, W4_SAMPLE, W5_MLE, W5_REINFORCE, W5_TOUR, W6_BLEU, W6_ROUGE, W6_HULL, W6_POLYGON, W7_START, W7_FIRST)}
