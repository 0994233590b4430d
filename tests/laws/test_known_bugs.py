"""Bugs that published tools have had: each is put in here, and the law that guards against it must break."""

from dataclasses import replace

import pytest
import torch

from rlseq.algos import regular, reinforce, sampled
from rlseq.algos.base import normalised
from rlseq.nn.policy import Policy
from tests.laws import test_algos, test_drawing, test_references, test_regular
from tests.laws.test_regular import setting  # noqa: F401  a fixture


def rewritten(monkeypatch, change):
    """Make `Policy.score` score what `change(rollout)` returns instead."""
    plain = Policy.score
    monkeypatch.setattr(Policy, "score", lambda self, rollout, *rest, **named: plain(self, change(rollout), *rest, **named))


def expected_gradient(dictate):
    test_algos.test_the_expected_gradient_is_that_of_the_expected_reward("rloo", "lstm", False, dictate)


def test_samples_conditioned_on_the_gold_prefix_are_noticed(monkeypatch, dictate):
    def fed_gold(rollout):
        target = rollout.batch.target.repeat_interleave(rollout.k, 0)
        room = max(0, rollout.actions.shape[1] - target.shape[1])
        return replace(rollout, fed=torch.nn.functional.pad(target, (0, room))[:, :rollout.actions.shape[1]])
    expected_gradient(dictate)
    rewritten(monkeypatch, fed_gold)
    with pytest.raises(AssertionError):
        expected_gradient(dictate)


def test_gradient_after_stop_is_noticed(monkeypatch):
    def unmasked(scores, rollout, normalise, rows, constant):
        return normalised(-scores.logp * rollout.weight, rollout, normalise, rows, constant)
    test_algos.test_what_stands_after_stop_changes_neither_loss_nor_gradient("rloo", "pointer")
    monkeypatch.setattr(sampled, "weighted_nll", unmasked)
    with pytest.raises(AssertionError):
        test_algos.test_what_stands_after_stop_changes_neither_loss_nor_gradient("rloo", "pointer")


def test_a_sample_inside_its_own_baseline_is_noticed(monkeypatch, dictate):
    monkeypatch.setattr(reinforce, "leave_one_out", lambda reward: reward.mean(1, keepdim=True).expand_as(reward))
    with pytest.raises(AssertionError):
        expected_gradient(dictate)


@pytest.mark.parametrize(("where", "kind"), [("reward", "k1"), ("loss", "k3"), ("both", "k3")])
def test_an_inverted_kl_ratio_is_noticed(where, kind, monkeypatch, setting, dictate):  # noqa: F811
    plain = regular.estimate
    monkeypatch.setattr(regular, "estimate", lambda kind, logp, anchor: plain(kind, anchor, logp))
    with pytest.raises(AssertionError):
        test_regular.test_the_gradient_of_kl_is_of_what_is_said(where, kind, setting, dictate)


def test_answers_that_are_written_out_and_read_in_again_are_noticed(monkeypatch, dictate):
    plain = sampled.sample

    def retokenised(*options):
        rollout = plain(*options)                                      # the words 1 and 3 are written alike, and read as 1
        return replace(rollout, actions=torch.where(rollout.actions == 3, 1, rollout.actions))
    monkeypatch.setattr(sampled, "sample", retokenised)
    with pytest.raises(AssertionError):
        test_drawing.test_the_scored_actions_are_the_drawn_actions_bit_for_bit("rloo", dictate)


@pytest.mark.parametrize("shape", ["lstm", "transformer"])
def test_scheduled_sampling_that_silently_does_nothing_is_noticed(shape, monkeypatch):
    rewritten(monkeypatch, lambda rollout: replace(rollout, fed=None))
    with pytest.raises(AssertionError):
        test_references.test_scheduled_sampling_is_the_mean_over_all_that_could_be_fed(shape, "sample", monkeypatch)


@pytest.mark.parametrize("change", [{"temperature": 1.0}, {"legal": None}], ids=["temperature", "cut"])
def test_answers_scored_by_another_distribution_than_drew_them_are_noticed(change, monkeypatch, dictate):
    rewritten(monkeypatch, lambda rollout: replace(rollout, **change))
    with pytest.raises(AssertionError):
        test_drawing.test_answers_are_scored_under_what_drew_them(test_drawing.CUTS[-1], False, dictate)
