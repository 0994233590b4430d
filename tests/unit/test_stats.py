"""Intervals and tests agree with scipy and sacrebleu, and cover what they promise."""

import math

import numpy as np
import pytest
from sacrebleu.metrics import BLEU
from sacrebleu.significance import PairedTest
from scipy import stats as scipy_stats

from rlseq.resampling import _counts, resampled
from rlseq.stats import (
    Difference,
    bootstrap,
    bootstrap_p,
    correlation,
    detectable,
    holm,
    interquartile_mean,
    over_seeds,
    over_strongest,
    paired,
    sacrebleu_p,
    sign_flip,
    t_interval,
)


def mean(total):
    return 100 * total[0] / total[1]


def rows_of(values):
    return np.stack([values, np.ones_like(values)], axis=1)


def test_resamples_draw_n_examples_each_and_are_shared_by_systems_of_equal_size():
    ones = resampled(np.ones((37, 1)), samples=250, seed=3)
    assert (ones == 37).all()
    one_hot = resampled(np.eye(4), samples=20_000, seed=0).mean(0)
    # a count is Binomial(4, 1/4): mean 1, variance 3/4; 5 standard errors of 20000 draws
    assert one_hot == pytest.approx(np.ones(4), abs=5 * math.sqrt(0.75 / 20_000))
    again = resampled(np.eye(5), 10, seed=1)
    _counts.cache_clear()                                                # as in another process
    assert (again * 2 == resampled(2 * np.eye(5), 10, seed=1)).all()


def test_interval_of_a_mean_agrees_with_scipy():
    values = np.random.default_rng(0).gamma(1.0, size=400)
    ours = bootstrap(rows_of(values), lambda total: total[0] / total[1], samples=5000)
    peer = scipy_stats.bootstrap((values,), np.mean, method="percentile", n_resamples=5000,
                                 rng=np.random.default_rng(1)).confidence_interval
    assert ours.score == pytest.approx(values.mean(), abs=1e-12)
    # the sampling noise of a 2.5 % quantile from 5000 draws is about 0.04 standard errors; 5 of them
    close = 5 * 0.04 * values.std() / 20
    assert (ours.low, ours.high) == (pytest.approx(peer.low, abs=close), pytest.approx(peer.high, abs=close))


def test_corpus_metric_is_scored_on_sums_not_averaged_over_examples():
    # a ratio of sums: (1 + 9) / (10 + 10) = 0.5, while the mean of ratios of (1/10, 9/10, 0/1) would be 0.333
    ratio = bootstrap(np.array([[1.0, 10], [9, 10], [0, 1]]), lambda total: total[0] / total[1])
    assert ratio.score == pytest.approx(10 / 21)


def test_interval_over_seeds_covers_95_percent_where_the_hierarchical_bootstrap_does_not():
    rng, trials, hits, plain = np.random.default_rng(5), 300, 0, 0
    for _ in range(trials):
        values = rng.normal(size=(1, 60)) + rng.normal(size=(3, 1))      # the seeds' effect dominates: 1 > 1/sqrt 60
        found = over_seeds([rows_of(one) for one in values], lambda total: total[0] / total[1], samples=200)
        hits += found.low <= 0 <= found.high
        drawn = values.mean(1)[rng.integers(3, size=(200, 3))].mean(1)
        low, high = np.percentile(drawn, [2.5, 97.5])
        plain += low <= 0 <= high
    # binomial noise at 300 trials is 1.3 points; 200 draws widen or narrow the ends by about a point
    assert hits / trials > 0.91 and plain / trials < 0.85


def test_interval_over_seeds_is_the_t_interval_where_examples_do_not_vary():
    scores = [61.0, 64.0, 70.0]
    found = over_seeds([rows_of(np.full(50, one / 100)) for one in scores], mean, samples=4000)
    peer = scipy_stats.ttest_1samp(scores, 0).confidence_interval(0.95)
    # 4000 stratified quantiles: the grid's step at 2.5 % is below 1 % of the half width
    assert (found.low, found.high) == (pytest.approx(peer.low, abs=0.12), pytest.approx(peer.high, abs=0.12))
    exact = t_interval(scores)
    assert (exact.low, exact.high) == (pytest.approx(peer.low), pytest.approx(peer.high))
    assert math.isnan(t_interval([3.0]).low) and t_interval([3.0]).score == 3.0


def bleu_rows(hypotheses, references):
    metric = BLEU(effective_order=False)
    rows = np.array(metric._extract_corpus_statistics(hypotheses, references), dtype=np.float64)
    return rows, lambda total: metric._compute_score_from_stats(total.tolist()).score


def test_paired_bleu_agrees_with_sacrebleus_paired_bootstrap():
    rng, words = np.random.default_rng(2), "the cat sat on a mat and saw the red dog run home today".split()
    references = [" ".join(rng.choice(words, 9)) for _ in range(120)]
    def spoiled(line, rate):
        return " ".join(word if rng.random() > rate else "x" for word in line.split())
    good = [spoiled(line, 0.20) for line in references]
    bad = [spoiled(line, 0.24) for line in references]
    _, peer = PairedTest([("bad", bad), ("good", good)], {"BLEU": BLEU()}, [references], test_type="bs",
                         n_samples=1000)()
    rows, score = bleu_rows(good, [references])
    found = paired([rows], [bleu_rows(bad, [references])[0]], score, samples=1000, seed=12345)       # sacrebleu's seed
    assert found.difference == pytest.approx(peer["BLEU"][1].score - peer["BLEU"][0].score, abs=1e-9)
    # the same resamples, drawn by the same generator: nothing is left to chance
    assert 0.005 < peer["BLEU"][1].p_value < 0.3 and found.p_sacrebleu == peer["BLEU"][1].p_value
    draws = np.sort([score(total) for total in resampled(rows, 1000, seed=12345)])
    assert draws.mean() == pytest.approx(peer["BLEU"][1].mean, abs=1e-6)                  # its sums are float32
    assert (draws[-26] - draws[25]) / 2 == pytest.approx(peer["BLEU"][1].ci, abs=1e-6)         # its own choice of ends
    low_high = bootstrap(rows, score, seed=12345)
    assert (low_high.high - low_high.low) / 2 == pytest.approx(peer["BLEU"][1].ci, rel=0.02)   # a draw or two further in


def test_sacrebleus_p_counts_one_tail_and_ours_two():
    draws = np.array([1.0, 2, 3, 4, 5, 6, 7, 8, 9])      # mean 5, observed difference 3.5
    # sacrebleu: |d| - 5 > 3.5: 9 -> 2/10; two-sided: |d - 5| >= 3.5: 1 and 9 -> 3/10
    assert sacrebleu_p(draws, 3.5) == pytest.approx(0.2)
    assert bootstrap_p(draws, 3.5) == pytest.approx(0.3)


def test_same_system_does_not_differ_from_itself():
    rows = rows_of(np.random.default_rng(0).random(200))
    same = paired([rows], [rows], mean, mean=True)
    assert same == Difference(0.0, 0.0, 0.0, 1.0, p_sacrebleu=same.p_sacrebleu, p_flip=1.0, seeds=1)
    assert not same.separates


def test_pairing_by_seed_removes_what_seeds_share():
    rng = np.random.default_rng(4)
    start = rng.normal(50, 10, size=(4, 1)) / 100                        # seeds differ by 10 points ...
    base = np.clip(start + rng.normal(0, 0.02, size=(4, 300)), 0, 1)
    gain = base + 0.01 + rng.normal(0, 0.001, size=(4, 300))             # ... and the gain is 1 point in each
    found = paired([rows_of(one) for one in gain], [rows_of(one) for one in base], mean)
    assert found.separates and found.seeds == 4 and found.difference == pytest.approx(1.0, abs=0.02)
    assert found.high - found.low < 0.1
    unpaired = over_seeds([rows_of(one) for one in base], mean)
    assert unpaired.high - unpaired.low > 5


def test_sign_flip_agrees_with_scipy_exactly_and_by_sampling():
    few = np.array([0.3, -0.1, 0.5, 0.2, 0.0, 0.4])
    def peer(values, count):
        return scipy_stats.permutation_test((values, np.zeros_like(values)), lambda a, b: np.mean(a - b),
                                            permutation_type="samples", n_resamples=count).pvalue
    assert sign_flip(few) == pytest.approx(peer(few, np.inf))
    assert sign_flip(np.array([1.0, 1.0, 1.0])) == pytest.approx(2 / 8)  # all plus or all minus of 8 patterns
    many = np.random.default_rng(0).normal(0.12, 1, size=200)
    # binomial noise of 10000 draws near p = 0.1 is 0.003 on either side
    assert sign_flip(many) == pytest.approx(peer(many, 9999), abs=0.02)


def test_paired_interval_of_a_mean_agrees_with_scipys_bootstrap_of_the_differences():
    ours, theirs = np.random.default_rng(6).random((2, 300))
    found = paired([rows_of(ours)], [rows_of(theirs)], lambda total: total[0] / total[1], samples=5000)
    peer = scipy_stats.bootstrap((ours, theirs), lambda a, b, axis: (a - b).mean(axis), paired=True, vectorized=True,
                                 method="percentile", n_resamples=5000, rng=np.random.default_rng(1)).confidence_interval
    close = 5 * 0.04 * (ours - theirs).std() / math.sqrt(300)            # noise of a quantile from 5000 draws, five times
    assert (found.low, found.high) == (pytest.approx(peer.low, abs=close), pytest.approx(peer.high, abs=close))


def test_the_interquartile_mean_is_scipys_trimmed_mean():
    assert interquartile_mean([100, 1, 2, 3]) == 2.5                      # 1 and 100 are left out
    values = np.random.default_rng(0).normal(size=13)
    assert interquartile_mean(values) == pytest.approx(scipy_stats.trim_mean(values, 0.25), abs=1e-12)


def test_a_share_of_right_answers_ends_at_all_of_them_and_other_means_where_they_may():
    right = [np.r_[np.zeros(wrong), np.ones(50 - wrong)] for wrong in (0, 1, 4)]
    share, other = (over_seeds([rows_of(one * by) for one in right], mean) for by in (1, 0.5))
    assert share.high == 100 and 50 < other.high and share.low == pytest.approx(2 * other.low)
    assert over_seeds([rows_of(1 - one) for one in right], mean).low == 0


@pytest.mark.parametrize("seeds", [1, 3])
def test_at_the_least_detectable_gain_power_is_80_percent(seeds):
    rng, trials, seen, alike, n = np.random.default_rng(seeds), 400, 0, 0.6, 150

    def mean_of(total):
        return total[0] / total[1]
    noise = math.sqrt(1 / alike - 1)                                      # var 1 shared, noise^2 own: correlation 0.6
    typical = rows_of(rng.normal(0, math.sqrt(1 + noise**2), size=5_000))
    gain = detectable(typical, mean_of, seeds, alike) * math.sqrt(5_000 / n)
    for _ in range(trials):
        common = rng.normal(size=n)
        ours, theirs = (common + shift + rng.normal(0, noise, size=(seeds, n)) for shift in (gain, 0.0))
        found = paired([rows_of(one) for one in ours], [rows_of(one) for one in theirs], mean_of, samples=300)
        seen += found.low > 0
    # binomial noise of 400 trials is 2 points; three of them
    assert abs(seen / trials - 0.8) < 0.06


def test_the_least_detectable_gain_of_one_seed_by_hand():
    rows = rows_of(np.tile([0.0, 1.0], 500))                              # sigma = 0.5 / sqrt 1000 = 1.58 points
    # (1.960 + 0.842) * 1.58 * sqrt(2 * (1 - 0.8)) = 2.80
    assert detectable(rows, mean) == pytest.approx(2.80, rel=0.06)        # 1000 draws know sigma to 2.2 %
    assert detectable(rows, mean, alike=0.95) == pytest.approx(detectable(rows, mean) / 2)
    assert correlation(rows, rows, mean) == pytest.approx(1.0)
    with pytest.raises(ValueError, match="shares below 1"):
        detectable(rows, mean, alike=1.0)


def test_holm_by_hand():
    # sorted 0.01, 0.02, 0.04 times 3, 2, 1 = 0.03, 0.04, 0.04, made monotone, in the order given
    assert holm([0.04, 0.01, 0.02]) == pytest.approx([0.04, 0.03, 0.04])
    assert holm([0.6, 0.5]) == [1.0, 1.0]
    with_gap = holm([0.01, float("nan"), 0.03])
    assert with_gap[::2] == pytest.approx([0.02, 0.03]) and math.isnan(with_gap[1])
    assert holm([]) == []


def test_runs_on_other_examples_are_not_compared():
    with pytest.raises(ValueError, match="same examples"):
        paired([np.ones((5, 2))], [np.ones((6, 2))], mean)
    with pytest.raises(ValueError, match="same seeds"):
        paired([np.ones((5, 2))] * 2, [np.ones((5, 2))], mean)
    with pytest.raises(ValueError, match=r"\[n, m\]"):
        bootstrap(np.ones((0, 2)), mean)


def systems(rng, gains, n=60, noise=0.5):
    """Rows of systems on the same examples: a common part, and each its own noise and gain."""
    common = rng.normal(size=n)
    return [rows_of(common + gain + rng.normal(0, noise, size=n)) for gain in gains]


def test_the_gain_over_the_strongest_control_claims_nothing_where_all_are_equal():
    rng, trials, above, covered = np.random.default_rng(8), 600, 0, 0
    for _ in range(trials):
        ours, *others = systems(rng, [0.0] * 5, n=200)
        found = over_strongest([([ours], [one]) for one in others], lambda total: total[0] / total[1], samples=500)
        above += found.separates
        covered += found.low <= 0 <= found.high
    # promised: at most 2.5 % claims and 95 % covered; binomial noise of 600 trials is 0.64 and 0.9 points, three of each
    assert above / trials < 0.025 + 3 * 0.0064 and covered / trials > 0.95 - 3 * 0.009


def test_the_gain_over_the_strongest_control_claims_nothing_where_one_control_is_equal_and_the_others_weak():
    rng, trials, above, covered = np.random.default_rng(9), 600, 0, 0
    for _ in range(trials):
        ours, *others = systems(rng, [0.0, 0.0, -3.0, -3.0], n=200)
        found = over_strongest([([ours], [one]) for one in others], lambda total: total[0] / total[1], samples=500)
        above += found.separates
        covered += found.low <= 0 <= found.high
        assert found.strongest == 0
    assert above / trials < 0.025 + 3 * 0.0064 and covered / trials > 0.95 - 3 * 0.009


def test_the_gain_over_one_control_is_the_paired_difference():
    ours, other = systems(np.random.default_rng(10), [0.3, 0.0])
    one, two = over_strongest([([ours], [other])], mean), paired([ours], [other], mean)
    assert (one.gain, one.low, one.high, one.p) == (two.difference, two.low, two.high, two.p)


def test_a_gain_is_claimed_over_every_control_or_not_at_all():
    ours, weak, equal = systems(np.random.default_rng(11), [1.0, 0.0, 1.0], n=200)
    assert over_strongest([([ours], [weak])], mean).separates
    both = over_strongest([([ours], [weak]), ([ours], [equal])], mean)
    assert not both.separates and both.strongest == 1 and both.p > 0.05
    with pytest.raises(ValueError, match="one control or more"):
        over_strongest([], mean)
