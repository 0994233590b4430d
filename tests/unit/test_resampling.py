"""Scores of resamples: kept for one array and function, and a ratio finds all at once what it finds one by one."""

import numpy as np
import pytest
from threadpoolctl import threadpool_info

from rlseq import resampling
from rlseq.resampling import Ratio, one_thread, resampled, score_draws


def test_a_ratio_of_many_sums_is_the_ratio_of_each():
    rows = np.random.default_rng(0).random((50, 2)) + 0.5
    one_by_one = [100 * float(total[0]) / float(total[1]) for total in resampled(rows, 300, 4)]
    assert score_draws([rows], Ratio(100.0), 300, 4)[0].tolist() == pytest.approx(one_by_one, rel=1e-15)
    plain = score_draws([rows, rows], lambda total: 100 * total[0] / total[1], 300, 4)
    assert plain[1].tolist() == pytest.approx(one_by_one, rel=1e-15)


def test_scores_are_found_once_for_one_array_and_never_mixed_up():
    asked = []

    def score(total):
        asked.append(total)
        return float(total[0])
    rows = np.arange(10.0).reshape(5, 2)
    first = score_draws([rows], score, 20)
    assert score_draws([rows], score, 20) is first and len(asked) == 20
    other = rows + 1.0                                     # as large, of other values
    assert not np.array_equal(score_draws([other], score, 20), first) and len(asked) == 40
    assert not np.array_equal(score_draws([rows], score, 20, seed=1), first) and len(asked) == 60
    with pytest.raises(ValueError, match="read-only"):
        first[0, 0] = 0.0


def test_counts_that_are_not_kept_as_floats_count_the_same(monkeypatch):
    rows = np.random.default_rng(0).random((30, 3))
    ready = resampled(rows, 40, seed=9)
    resampling._counts.cache_clear()
    monkeypatch.setattr(resampling, "READY", 0)
    assert resampling._counts(30, 40, 9).dtype == np.uint16 and np.array_equal(resampled(rows, 40, seed=9), ready)
    resampling._counts.cache_clear()


def test_small_products_take_one_thread_and_give_the_others_back():
    def threads():
        return [one["num_threads"] for one in threadpool_info() if one["user_api"] == "blas"]
    before = threads()
    with one_thread():
        assert set(threads()) == {1}
    assert threads() == before
