"""Laws of sampled groups: every task and head can be looked into, and what is shown is what was computed."""

import json

import numpy as np
import pytest
import torch
import yaml

from rlseq import tasks
from rlseq.explorer import BYTES, View, prefix_worth, sampled_groups
from rlseq.nn.policy import Shape
from rlseq.paths import CONF
from rlseq.types import STOP
from tests.toys import Table, loaded, task_for, tiny_policy, tiny_shape

CASES = [(name, head) for name in tasks.names() for head in tasks.task_class(name).heads]
CPU = torch.device("cpu")


def policy_for(task, seed=0):
    """The first policy of conf/ with the task's head."""
    shapes = (yaml.safe_load(path.read_text()) for path in sorted((CONF / "policy").glob("*.yaml")))
    options = next(one for one in shapes if one["head"] == task.head and one.get("attention") != "none")
    return tiny_policy(tiny_shape(options), task.sizes, seed).float()


@pytest.fixture(params=CASES, ids=[f"{name}-{head}" for name, head in CASES])
def task(request):
    return task_for(*request.param)


def test_words_are_one_for_every_action_and_source_position(task):
    env = loaded(task, [task.examples("dev")[i] for i in range(3)])
    batch = env.batch
    for i in range(3):
        assert len(task.answer_words(batch, batch.target, i)) == int(batch.target_mask[i].sum()) - 1          # STOP has none
        assert len(task.source_words(batch, i)) == int(batch.source_mask[i].sum())
        points = task.points(batch.examples[i])
        assert points is None or len(points) == int(batch.source_mask[i].sum())


def test_groups_of_every_task_are_small_json_and_fit_together(task):
    groups = sampled_groups(task, {"before": policy_for(task), "after": policy_for(task, 1)}, CPU, 3, View(2, 3))
    text = json.dumps(groups)
    assert len(groups) == 2 and len(text) <= BYTES + 1000
    for group in groups:
        assert (group["source"] is None) == (not task.public)
        assert set(group["stages"]) == {"before", "after"}
        for answers in group["stages"].values():
            assert len(answers) == 4                                       # three drawn, the greedy one last
            drawn = np.array([one["reward"] for one in answers[:3]])
            # leave-one-out: R_i - (sum of the others) / 2; both sides rounded to 1e-4
            assert [one["advantage"] for one in answers[:3]] == pytest.approx(drawn - (drawn.sum() - drawn) / 2, abs=3e-4)
            assert answers[3]["advantage"] is None
            for one in answers:
                assert len(one["logp"]) == len(one["worth"]) == len(one["map"])
                assert one["words"] is None or len(one["logp"]) - len(one["words"]) in (0, 1)
                assert all(value <= 0 for value in one["logp"])
                assert one["worth"][-1] == pytest.approx(one["reward"], abs=6e-4) or len(one["worth"]) == 80
                for step in one["map"]:
                    assert sum(step[1::2]) <= 255 + len(step) and all(-1 <= place < group["size"] for place in step[::2])


def test_private_tasks_show_no_words():
    class Private(Table):
        public = False
    task = Private(words=4, steps=4)
    shape = Shape(head="vocabulary", width=8, heads=2, encoder_layers=1, decoder_layers=1)
    [group] = sampled_groups(task, {"after": tiny_policy(shape, task.sizes)}, CPU, 0, View(1, 2))
    assert group["source"] is None and group["reference"] is None and "points" not in group
    assert all(one["words"] is None for one in group["stages"]["after"])


def test_the_worth_of_a_prefix_is_that_of_the_answer_that_ends_there():
    task = Table(words=4, steps=4)
    env = loaded(task, [24, 25])
    actions = torch.tensor([[1, 2, STOP, STOP], [3, 1, 2, 3], [STOP] * 4, [2, STOP, STOP, STOP]])
    found = prefix_worth(task, env.batch, actions)

    def alone(row, *answer):
        """The reward of one answer, asked for by itself."""
        asked = torch.tensor([[*answer, STOP]] * 4)
        return float(task.reward(env.batch, asked, (asked != STOP) | (torch.arange(len(answer) + 1) == len(answer)))[row])
    assert found[0].tolist() == pytest.approx([alone(0, 1), alone(0, 1, 2), alone(0, 1, 2), alone(0, 1, 2)])
    assert found[1, 2] == pytest.approx(alone(1, 3, 1, 2)) and found[2, 0] == pytest.approx(alone(2))
    assert found[3].tolist() == pytest.approx([alone(3, 2)] * 4)


def test_stages_are_drawn_by_the_same_random_numbers():
    task = Table(words=4, steps=4)
    shape = Shape(head="vocabulary", width=8, heads=2, encoder_layers=1, decoder_layers=1)
    policy = tiny_policy(shape, task.sizes)
    for group in sampled_groups(task, {"before": policy, "after": policy}, CPU, 0):
        assert group["stages"]["before"] == group["stages"]["after"]
