"""rlseq's rewards, W6: on ids and coordinates, in tensors, held against the programs whose definitions they follow."""

from __future__ import annotations

import numpy as np
import torch
from rouge_score import rouge_scorer, tokenizers
from sacrebleu.metrics import BLEU
from torch import Tensor

from rlseq.rewards.hull import area_and_simple
from rlseq.rewards.ngrams import sentence_bleu_ids
from rlseq.rewards.rouge import rouge_l_ids
from rlseq.tasks.hull.labels import hulls_of
from rlseq.types import pad

from .corpus import Row
from .job import Job, Repetition
from .samples import answers, hull, point_sets, polygons, texts


def sides(hypotheses: list[Row], references: list[Row]) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Answers and masks [N, T]; references and masks [N, 1, L]."""
    ids, mask = pad(hypotheses)
    known, real = pad(references)
    return ids, mask, known[:, None], real[:, None]


def bleu(job: Job) -> Repetition:
    """Sentence BLEU; `difference` is the largest one from sacrebleu's."""
    hypotheses, references = answers(job, 1)
    given = sides(hypotheses, references)
    scorer = BLEU(tokenize="none", effective_order=True, smooth_method="exp")
    known = [scorer.sentence_score(text, [other]).score / 100 for text, other in zip(texts(hypotheses), texts(references))]
    job.facts["difference"] = float((sentence_bleu_ids(*given) - torch.tensor(known, dtype=torch.float64)).abs().max())
    return lambda: float(len(sentence_bleu_ids(*given)))


def rouge(job: Job) -> Repetition:
    """ROUGE-L; `difference` is the largest one from rouge_score's."""
    hypotheses, references = answers(job, 2)
    given = sides(hypotheses, references)
    scorer = rouge_scorer.RougeScorer(["rougeL"], tokenizer=tokenizers.DefaultTokenizer(False))
    known = [scorer.score(other, text)["rougeL"].fmeasure for text, other in zip(texts(hypotheses), texts(references))]
    job.facts["difference"] = float((rouge_l_ids(*given) - torch.tensor(known, dtype=torch.float64)).abs().max())
    return lambda: float(len(rouge_l_ids(*given)))


def hulls(job: Job) -> Repetition:
    """Hull labels; `difference` counts the point sets whose vertices differ from scipy's, index for index."""
    points = point_sets(job)
    job.facts["difference"] = sum(list(ours) != hull(one) for ours, one in zip(hulls_of(points), points))
    return lambda: float(len(hulls_of(points)))


def polygon(job: Job) -> Repetition:
    """Area and simplicity; `difference` is the largest one of areas from shapely's, `unlike` counts other verdicts."""
    rows = polygons(job)
    mask = torch.arange(max(map(len, rows))) < torch.tensor([len(row) for row in rows])[:, None]
    points = torch.zeros(*mask.shape, 2, dtype=torch.float64)
    points[mask] = torch.from_numpy(np.concatenate(rows))
    try:
        import shapely  # an optional peer: equality is then not shown
        rings = [shapely.linearrings(row) for row in rows]
        area = torch.from_numpy(shapely.area(shapely.polygons(rings)))
        ours, simple = area_and_simple(points, mask)
        job.facts["difference"] = float((ours.abs() - area).abs().max())
        job.facts["unlike"] = int((simple != torch.from_numpy(shapely.is_simple(rings))).sum())
    except ModuleNotFoundError:
        job.facts["difference"] = None
    return lambda: float(len(area_and_simple(points, mask)[1]))
