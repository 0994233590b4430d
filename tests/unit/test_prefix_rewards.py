"""Rewards of unfinished answers: what a task pays for the text so far, and REINFORCE shaped by it on BLEU and ROUGE."""

import pytest
import torch

from rlseq import algos
from rlseq.env import through_stop
from rlseq.task import prefixes
from rlseq.tasks import make
from tests.toys import Table, loaded, tiny_policy, tiny_shape


def setting(name, reward, tmp_path):
    """A task and its environment with two problems; eight answers near their references, of several lengths."""
    if name == "translation":
        task = make("translation", {"reward": reward})
    else:
        lines = (f"the {a} cat sat on the {b} mat\ta cat on mat {b}" for a in range(12) for b in range(12))
        (tmp_path / "pairs.tsv").write_text("\n".join(lines) + "\n")
        task = make("summarization", {"data": "files", "path": str(tmp_path / "pairs.tsv"), "vocabulary": 40, "reward": reward})
    env = loaded(task, [task.examples("dev")[i] for i in range(2)])
    torch.manual_seed(0)
    actions = env.batch.target.repeat_interleave(4, 0)
    swap = (torch.rand(actions.shape) < 0.2) & (actions > 0)
    actions = torch.where(swap, torch.randint(1, env.batch.num_actions, actions.shape), actions)
    return task, env, actions, through_stop(actions)


CASES = [("translation", "bleu"), ("translation", "bleu_ids"), ("translation", "chrf"), ("summarization", "rougeL"),
         ("summarization", "mix")]


@pytest.mark.parametrize(("name", "reward"), CASES)
def test_a_prefix_is_worth_what_the_text_so_far_is(name, reward, tmp_path):
    task, env, actions, mask = setting(name, reward, tmp_path)
    found = task.prefix_reward(env.batch, actions, mask)
    assert found.shape == actions.shape and len(found.unique()) > 8
    for t in range(actions.shape[1]):
        assert torch.equal(found[:, t], task.reward(env.batch, actions[:, :t + 1], mask[:, :t + 1]))


@pytest.mark.parametrize(("name", "reward"), [CASES[0], CASES[3]])
def test_what_steps_earn_adds_up_to_the_reward(name, reward, tmp_path):
    task, env, _, _ = setting(name, reward, tmp_path)
    policy = tiny_policy(tiny_shape({"head": task.heads[0], "encoder": "lstm", "decoder": "lstm"}), task.sizes).float()
    algorithm = algos.make({"kind": "reinforce", "k": 3, "signal": {"shaping": "prefix"}})
    algorithm.suits(task)
    algorithm.prepare(policy)
    rollout = algorithm.collect(policy, env, 0.0)
    paid = env.worth(rollout.actions, rollout.mask)
    assert (rollout.reward.sum(1) - paid).abs().max() < 1e-6                       # float32: sums of up to 40 differences
    assert algorithm.loss(policy, rollout)[0].isfinite()


def test_prefixes_ask_for_all_of_them_at_once():
    # answers 1 2 STOP and 3 STOP; the reward is the sum of the ids shown, in sixteenths
    asked = []

    def reward(batch, actions, mask):
        asked.append(len(actions))
        return (actions * mask).sum(1) / 16
    actions = torch.tensor([[1, 2, 0], [3, 0, 5]])
    found = prefixes(reward, None, actions, through_stop(actions))
    assert (found * 16).tolist() == [[1, 3, 3], [3, 3, 3]] and asked == [6]


def test_a_task_that_does_not_say_gives_no_rewards_of_prefixes():
    task = make("sort", {"head": "pointer"})
    assert not task.has_prefix_reward and Table.has_prefix_reward
    with pytest.raises(TypeError, match="gives no rewards of prefixes"):
        task.prefix_reward(None, None, None)
