"""The programs that rewards are usually computed with, W6. Strings are made before the clock starts."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from .job import Job, Repetition
from .samples import answers, hull, point_sets, polygons, texts

FEW = 512                        # pairs for those that would take a second for all


def pairs_of(job: Job, joined: int) -> list[tuple[str, str]]:
    """Texts beside their references."""
    hypotheses, references = answers(job, joined)
    return list(zip(texts(hypotheses), texts(references), strict=True))


def each(items: list, function: Callable[..., object]) -> Repetition:
    """One Python call an item, as these programs are used."""
    def repetition() -> float:
        for one in items:
            function(*one)
        return float(len(items))
    return repetition


def sacrebleu(job: Job, tokenize: str = "none") -> Repetition:
    """sentence_score with effective order; 13a's cache of tokenized lines is emptied, for answers do not repeat."""
    from sacrebleu.metrics import BLEU
    from sacrebleu.tokenizers.tokenizer_13a import Tokenizer13a
    from sacrebleu.tokenizers.tokenizer_re import TokenizerRegexp
    scorer = BLEU(tokenize=tokenize, effective_order=True, smooth_method="exp")
    score = each(pairs_of(job, 1), lambda text, known: scorer.sentence_score(text, [known]))

    def repetition() -> float:
        for kind in (Tokenizer13a, TokenizerRegexp):
            getattr(kind.__call__, "cache_clear", lambda: None)()
        return score()
    return repetition


def nltk(job: Job) -> Repetition:
    """sentence_bleu with smoothing method 3."""
    from nltk.translate.bleu_score import SmoothingFunction, sentence_bleu
    smooth = SmoothingFunction().method3
    split = [(text.split(), [known.split()]) for text, known in pairs_of(job, 1)]
    return each(split, lambda text, known: sentence_bleu(known, text, smoothing_function=smooth))


def torchmetrics_bleu(job: Job) -> Repetition:
    """sacre_bleu_score, one call a pair; its smoothing differs."""
    from torchmetrics.functional.text import sacre_bleu_score
    return each(pairs_of(job, 1)[:FEW], lambda text, known: sacre_bleu_score([text], [[known]], smooth=True))


def rouge_score(job: Job, split: str = "") -> Repetition:
    """RougeScorer; with `split` the texts are cut at blanks in place of its own tokenizer."""
    from rouge_score import rouge_scorer, tokenizers

    class Blanks(tokenizers.Tokenizer):
        def tokenize(self, text: str) -> list[str]:
            return text.split()
    scorer = rouge_scorer.RougeScorer(["rougeL"], tokenizer=Blanks() if split else tokenizers.DefaultTokenizer(False))
    return each(pairs_of(job, 2), lambda text, known: scorer.score(known, text))


def torchmetrics_rouge(job: Job) -> Repetition:
    """rouge_score of many texts at once."""
    from torchmetrics.functional.text.rouge import rouge_score as score
    given = pairs_of(job, 2)[:FEW]
    known = [one for _, one in given]

    def repetition() -> float:
        score([text for text, _ in given], known, rouge_keys="rougeL")
        return float(len(given))
    return repetition


def scipy_hulls(job: Job) -> Repetition:
    """ConvexHull, one call a point set, vertices in the order that a target needs."""
    return each([(points,) for points in point_sets(job)], hull)


def shapely_hulls(job: Job, how: str = "loop") -> Repetition:
    """convex_hull of multipoints: coordinates of the hull, but not which points they are."""
    import shapely
    points = point_sets(job).astype(np.float64)
    if how == "loop":
        return each([(one,) for one in points], lambda one: shapely.convex_hull(shapely.multipoints(one)))

    def repetition() -> float:
        flat = shapely.points(points.reshape(-1, 2))
        owner = np.repeat(np.arange(len(points)), points.shape[1])
        return float(len(shapely.convex_hull(shapely.multipoints(flat, indices=owner))))
    return repetition


def shapely_polygon(job: Job, how: str = "loop") -> Repetition:
    """Area and is_simple of rings, one polygon at a time or all in one call."""
    import shapely
    rows = polygons(job)
    if how == "loop":
        return each([(row,) for row in rows], lambda row: (shapely.Polygon(row).area, shapely.LinearRing(row).is_simple))
    flat, owner = np.concatenate(rows), np.repeat(np.arange(len(rows)), [len(row) for row in rows])

    def repetition() -> float:
        rings = shapely.linearrings(flat, indices=owner)
        shapely.area(shapely.polygons(rings))
        return float(len(shapely.is_simple(rings)))
    return repetition
