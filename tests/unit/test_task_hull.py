"""The hull task: problems, labels, legality, rewards, other people's points."""

import pickle
import time
from math import cos, pi, sin

import numpy as np
import pytest
import torch
from matplotlib.figure import Figure
from scipy.spatial import ConvexHull

from rlseq.paths import TASKS
from rlseq.tasks import make
from rlseq.types import STOP


@pytest.fixture(scope="module")
def task():
    return make("hull", {"head": "pointer"})


def through_stop(actions):
    stops = torch.cumsum(actions == STOP, 1) - (actions == STOP).long()
    return stops == 0


def rows(*answers):
    width = max(map(len, answers)) + 1
    actions = torch.tensor([[*answer] + [STOP] * (width - len(answer)) for answer in answers])
    return actions, through_stop(actions)


def square(task, extra=((0.5, 0.5), (0.4, 0.6))):
    """Corners at positions 0-3, two points inside; hull counter-clockwise from (0, 0)."""
    line = " ".join(f"{x} {y}" for x, y in [(0, 0), (1, 1), (1, 0), (0, 1), *extra])
    example = task.parse(line)
    return type(example)(example.points, (0, 2, 1, 3))


def test_labels_are_scipys_hull_counter_clockwise_from_the_leftmost_point(task):
    for split in ("train", *task.tests):
        for example in task.examples(split)[:5]:
            true = ConvexHull(example.points.astype(float))
            assert sorted(example.hull) == sorted(true.vertices)
            corners = example.points[list(example.hull)].astype(float)
            edges = np.roll(corners, -1, 0) - corners
            onward = np.roll(edges, -1, 0)
            assert (edges[:, 0] * onward[:, 1] - edges[:, 1] * onward[:, 0] > 0).all()     # only left turns
            assert corners[0].tolist() == min(corners.tolist()) == min(example.points.tolist())


def test_an_item_depends_on_split_seed_and_number_alone(task):
    train = task.examples("train")
    items = train[10**9:10**9 + 3]
    again = make("hull", {"head": "pointer", "features": "polar", "reward": "area"}).examples("train")
    assert len(train) >= 2**40 and [again[10**9 + i] for i in (2, 1, 0)] == items[::-1]
    other = make("hull", {"head": "pointer", "seed": 1}).examples("train")[10**9]
    assert len({*items, other, *(task.examples(split)[0] for split in ("train", "dev", *task.tests))}) == 4 + 8


def test_many_items_at_once_are_those_drawn_one_by_one(task):
    for split in ("train", "dev", "test-5", "test-500"):
        examples = task.examples(split)
        many = [0, 7, 3, 999, 7, len(examples) - 1, -1]
        again = examples.__getitems__(many)
        assert again == [examples[i] for i in many] and [one.hull for one in again] == [examples[i].hull for i in many]
    assert examples[:0] == [] == examples.__getitems__([])
    with pytest.raises(IndexError):
        examples.__getitems__([0, 1000])


def test_sizes_of_problems_are_those_promised(task):
    assert {len(one.points) for one in task.examples("train")[:2000]} == set(range(5, 51))
    for split in task.tests:
        assert {len(one.points) for one in task.examples(split)[:3]} == {int(split.split("-")[1])}
        assert len(task.examples(split)) == 1000
    with pytest.raises(IndexError):
        task.examples("dev")[1000]


def test_fingerprint_names_the_data_and_not_the_reward(task):
    def other(**options):
        return make("hull", {"head": "pointer", **options}).fingerprint
    assert other(reward="area") == task.fingerprint
    assert len({task.fingerprint, other(seed=1), other(n_max=20), other(features="polar"), other(features="fourier")}) == 5
    assert task.fingerprint in (TASKS / "hull" / "README.md").read_text(), "data changed: raise version, write it down"


@pytest.mark.parametrize("reward", ["area", "exact", "f1", "f1+exact", "area+exact"])
def test_references_are_legal_and_earn_exactly_one(reward):
    task = make("hull", {"head": "pointer", "reward": reward})
    batch = task.collate([task.examples(split)[i] for split in ("dev", *task.tests[:4]) for i in range(5)])
    assert task.reward(batch, batch.target, batch.target_mask).unique().tolist() == [1]
    for metric in task.metrics.values():
        assert metric.score(metric.rows(batch, batch.target, batch.target_mask).sum(0)) == 100
    for t in range(batch.target.shape[1]):
        legal = task.legal(batch, batch.target[:, :t])
        assert (legal.gather(1, batch.target[:, t:t + 1])[:, 0] | ~batch.target_mask[:, t]).all()


def test_collate_pads_and_keeps_every_number(task):
    examples = task.examples("dev")[:7]
    batch = task.collate(examples)
    longest = max(len(one.points) for one in examples)
    assert batch.source.shape == (7, longest, 2) and batch.num_actions == longest + 1 == task.horizon(batch)
    for i, one in enumerate(examples):
        assert np.array_equal(batch.source[i][batch.source_mask[i]].numpy(), one.points)
        assert batch.target[i][batch.target_mask[i]].tolist() == [p + 1 for p in one.hull] + [STOP]
        assert not batch.source[i][~batch.source_mask[i]].any() and not batch.target[i][~batch.target_mask[i]].any()


def test_legal_actions_by_hand(task):
    four = square(task, extra=())
    batch = task.collate([four, square(task)])                     # n = 4 and n = 6, A = 7; k = 2
    prefix = torch.tensor([[1, 2, 3, 4], [4, 1, STOP, STOP], [6, 5, 4, 1], [6, 5, 4, STOP]])
    found = [sorted(row.nonzero()[:, 0].tolist()) for row in task.legal(batch, prefix)]
    assert found == [[0], [2, 3], [0, 2, 3], [0, 1, 2, 3]]
    start = [sorted(row.nonzero()[:, 0].tolist()) for row in task.legal(batch, prefix[:, :0])]
    assert start == [[1, 2, 3, 4]] * 2 + [[1, 2, 3, 4, 5, 6]] * 2   # no STOP before the third point
    third = task.legal(batch, prefix[:, :3])
    assert third[:, STOP].tolist() == [True, False, True, True]


def test_rewards_by_hand():
    # square, corners 1 (0,0), 2 (1,1), 3 (1,0), 4 (0,1); 5 (0.5, 0.5) inside.  whole; triangle 1-3-2: area 1/2,
    # F1 2*3/(3+4); bow tie 1-2-3-4: F1 1, not simple; whole with 5 between 2 and 4: area 1 - 1/4, F1 2*4/(5+4)
    answers, mask = rows([2, 4, 1, 3], [1, 3, 2], [1, 2, 3, 4], [1, 3, 2, 5, 4])
    expected = {"area": [1, 0.5, 0, 0.75], "exact": [1, 0, 0, 0], "f1": [1, 6 / 7, 1, 8 / 9],
                "f1+exact": [1, 3 / 7, 0.5, 4 / 9], "area+exact": [1, 0.25, 0, 0.375]}
    for reward, values in expected.items():
        task = make("hull", {"head": "pointer", "reward": reward})
        batch = task.collate([square(task)])
        assert task.reward(batch, answers, mask).tolist() == pytest.approx(values, abs=1e-7)      # float32


def test_each_of_k_answers_is_judged_on_its_own_problem(task):
    batch = task.collate([square(task), *task.examples("test-10")[:3]])
    target = batch.target.repeat_interleave(3, 0)
    mask = batch.target_mask.repeat_interleave(3, 0)
    assert task.reward(batch, target, mask).tolist() == [1] * 12
    assert task.reward(batch, target.roll(3, 0), mask.roll(3, 0)).max() < 1


def test_naming_padding_is_worth_no_area():
    task = make("hull", {"head": "pointer", "reward": "area"})
    batch = task.collate([square(task, extra=()), square(task)])
    answers, mask = rows([6, 3, 2], [6, 3, 2])                    # the first problem has four points
    assert task.reward(batch, answers, mask).tolist()[0] == 0 < task.reward(batch, answers, mask).tolist()[1]


@pytest.mark.parametrize("line, said", [
    ("0 0 1 1", "4 numbers"), ("0 0 1 1 2", "5 numbers"), ("", "0 numbers"), ("0 0 1 x 2 2", "'x'"),
    ("0 0 1 nan 2 2", "nan"), ("0 0 1 -inf 2 2", "-inf"), ("0 0 1 1e200 2 2", "1e200"),
])
def test_malformed_lines_are_named(task, line, said):
    with pytest.raises(ValueError, match=said) as error:
        task.parse(line)
    assert "\n" not in str(error.value) and "x1 y1" in str(error.value)


def test_points_anywhere_are_scaled_alike_on_both_axes_into_the_unit_square(task):
    # box 200 x 100 from (-100, 50): x' = (x + 100) / 200, y' = (y - 50) / 200
    examples = [task.parse("-100, 50, 100, 50, 0, 150"), task.parse("5 5 5 5 5 5"), task.parse("0.1 0.2 1 1 0.5 0")]
    batch = task.collate(examples)
    assert batch.source[0].tolist() == [[0, 0], [1, 0], [0.5, 0.5]]
    assert batch.source[1].tolist() == [[0, 0]] * 3               # one point thrice
    assert batch.source[2].tolist() == pytest.approx(np.float32([[0.1, 0.2], [1, 1], [0.5, 0]]))
    assert batch.target.tolist() == [[STOP]] * 3
    assert task.reward(batch, torch.tensor([[1, 2, 3, 0]] * 3), torch.ones(3, 4, dtype=torch.bool)).tolist() == [0] * 3


def test_polar_features_by_hand():
    # centroid (0, 0) + ...: corners of the square and its middle: middle is the centroid; corner (1, 1) seen from it
    task = make("hull", {"head": "pointer", "features": "polar"})
    batch = task.collate([square(task, extra=((0.5, 0.5),)), *task.examples("test-10")[:1]])
    half, diagonal = 0.5, 0.5 ** 0.5
    assert batch.source.shape[-1] == task.sizes.features == 7
    assert batch.source[0, 1].tolist() == pytest.approx([1, 1, half, half, diagonal, diagonal, diagonal], abs=1e-6)
    assert batch.source[0, 2].tolist() == pytest.approx([1, 0, half, -half, diagonal, -diagonal, diagonal], abs=1e-6)
    assert batch.source[0, 4].tolist() == [0.5, 0.5, 0, 0, 0, 0, 0]
    assert not batch.source[0, 5:].any()                          # padding


def test_fourier_features_by_hand():
    # seen from the middle, (1, 0.5) lies 1/2 along 0 degrees, sqrt(1/8) along 45, 0 along 90, -sqrt(1/8) along 135;
    # (0.5, 0.5) is the middle: sines 0, cosines 1
    task = make("hull", {"head": "pointer", "features": "fourier"})
    batch = task.collate([square(task, extra=((1, 0.5), (0.5, 0.5))), *task.examples("test-10")[:1]])
    phase = [pi * k * along for k in (1, 2, 4) for along in (0.5, 8 ** -0.5, 0, -(8 ** -0.5))]
    assert batch.source.shape[-1] == task.sizes.features == 26
    assert batch.source[0, 4].tolist() == pytest.approx([1, 0.5, *map(sin, phase), *map(cos, phase)], abs=2e-6)
    assert batch.source[0, 5].tolist() == [0.5, 0.5] + [0] * 12 + [1] * 12
    assert not batch.source[0, 6:].any()                          # padding


def test_answers_are_positions_in_the_users_order(task):
    batch = task.collate([square(task), square(task)])
    answers, _ = rows([1, 3, 2, 4], [5, 6], [4, 1, 3, 2], [2])
    assert [task.answer(batch, answers, row) for row in range(4)] == ["0 2 1 3", "4 5", "3 0 2 1", "1"]
    assert task.show(batch, answers, 2) == "6 points | hull 0 2 1 3 | answer 3 0 2 1 | reward 1.000"


def test_a_picture_shows_points_hull_and_answer(task):
    axes = Figure().subplots()
    task.plot(task.collate([square(task)] * 2), rows([1, 3, 2], [1, 3, 2, 4])[0], 1, axes)
    assert [line.get_label() for line in axes.lines] == ["true hull", "answer"] and task.has_plot
    assert axes.get_title() == "n = 6, reward 1.000" and axes.get_aspect() == 1
    axes = Figure().subplots()
    task.plot(task.collate([task.parse("0 0 1 0 0 1")]), rows([1, 2, 3])[0], 0, axes)      # no reference
    assert axes.get_title() == "n = 3" and [line.get_label() for line in axes.lines] == ["answer"], "the unknown is not said"


@pytest.mark.parametrize("options, said", [
    ({"head": "vocabulary"}, "pointer"), ({"head": "pointer", "n_min": 2}, "n_min=2"),
    ({"head": "pointer", "n_min": 9, "n_max": 8}, "n_max=8"), ({"head": "pointer", "reward": "aera"}, "aera"),
])
def test_options_that_do_not_fit_are_named(options, said):
    with pytest.raises(ValueError, match=said):
        make("hull", options)


def test_unknown_splits_are_named(task):
    with pytest.raises(KeyError, match="test-50"):
        task.examples("test")


def test_examples_travel_between_processes(task):
    split = pickle.loads(pickle.dumps(task.examples("train")))
    assert pickle.loads(pickle.dumps(split[3])) == task.examples("train")[3]


def test_a_training_batch_is_made_in_a_moment(task):
    # best of five: measured 1 ms for 128 problems; twenty times that fails if a loop over problems or points creeps in
    seconds = []
    for start in range(0, 640, 128):
        begin = time.perf_counter()
        task.collate(task.examples("train")[start:start + 128])
        seconds.append(time.perf_counter() - begin)
    assert min(seconds) < 0.02
