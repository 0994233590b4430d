"""What heads recall: by hand, and the same whether an answer is known whole or grows."""

import math

import torch

from rlseq.nn.encoders import Memory
from rlseq.nn.recall import Counting, Turning
from rlseq.types import STOP, Batch

SQUARE = torch.tensor([[[0.0, 0.0], [1.0, 0.0], [1.0, 1.0], [0.0, 1.0]]], dtype=torch.float64)
ITEMS = torch.tensor([[0.5, 0.1, 0.5, 0.0], [0.3, 0.3, 0.3, 0.9]]).unsqueeze(2)
COPIES = torch.tensor([[4, 2, 4, 0], [3, 3, 3, 5]])                    # the first source has three items


def memory(source, copies=None, mask=None):
    mask = torch.ones(source.shape[:2], dtype=torch.bool) if mask is None else mask
    extra = {} if copies is None else {"copy_ids": copies}
    return Memory(source, mask, source[:, 0], Batch(source, mask, mask.long(), mask, 9, extra))


def items():
    return memory(ITEMS, COPIES, torch.tensor([[True, True, True, False], [True, True, True, True]]))


def far(distance):
    return math.asinh(1024 * distance) / 8


def grown(recall, fed, known):
    said, found = recall.start(known, len(fed)), []
    for action in fed.unbind(1):
        found.append(said)
        said = recall.after(said, action, known)
    return torch.stack(found, 1)


def test_an_answer_that_grows_recalls_what_the_whole_one_does():
    fed = torch.tensor([[4, 1, 3, 2], [2, 4, 1, 4]])
    recall, known = Turning(4), memory(torch.rand(1, 4, 2))
    assert torch.equal(grown(recall, fed, known), recall.along(fed, known))
    assert recall.along(fed, known)[0].tolist() == [[0, 0, 0], [4, 0, 4], [4, 4, 1], [4, 1, 3]]


def test_items_still_to_come_grow_fewer_with_every_one_that_is_written():
    fed = torch.tensor([[2, 4, 4, 4], [7, 4, 2, 0], [3, 3, 5, 3], [3, 3, 3, 3]])        # two answers to each
    recall = Counting(4)
    found = recall.along(fed, items())
    assert found[0].tolist() == [[STOP, 2, 1, 2, 0], [2, 2, 0, 2, 0], [4, 1, 0, 1, 0], [4, 0, 0, 0, 0]]
    assert found[3].tolist() == [[STOP, 3, 3, 3, 1], [3, 2, 2, 2, 1], [3, 1, 1, 1, 1], [3, 0, 0, 0, 1]]
    assert torch.equal(grown(recall, fed, items()), found)


def test_an_answer_of_one_action_recalls_nothing_written_yet():
    found = Counting(4).along(torch.tensor([[STOP], [STOP]]), items())
    assert found.tolist() == [[[STOP, 2, 1, 2, 0]], [[STOP, 3, 3, 3, 1]]]


def test_an_item_written_too_often_is_seen_as_such():
    left = Counting(4).seen(torch.tensor([[[STOP, -1, 1, 5, 0]], [[STOP, 2, 2, 2, 0]]]), items())[0, 0, :, :3]
    assert left.tolist() == [[0, 1, -1], [1, 0, 1], [1, 0, 3], [0, 0, 0]]


def test_items_are_seen_from_the_one_written_last_and_at_first_from_the_least():
    said = torch.tensor([[[STOP, 0, 0, 0, 0], [4, 0, 0, 0, 0]], [[5, 0, 0, 0, 0], [8, 0, 0, 0, 0]]])
    found = Counting(4).seen(said, items())[..., 4]
    assert torch.allclose(found[0, :, :3], torch.tensor([[far(0.4), 0, far(0.4)], [0, far(-0.4), 0]]))
    assert torch.allclose(found[1], torch.tensor([[far(-0.6)] * 3 + [0], [0, 0, 0, far(0.6)]])), "8 is in no source"


def test_the_state_is_told_whether_anything_is_left_and_what_share():
    recall = Counting(2)
    with torch.no_grad():
        recall.tell.weight.copy_(torch.eye(2))
        recall.tell.bias.zero_()
    said = torch.tensor([[[4, 2, 1, 2, 0], [4, 1, 0, 1, 0]], [[3, 0, 0, 0, 1], [5, 0, 0, 0, 0]]])
    told = recall.told(torch.zeros(2, 2, 2), said, items())
    assert torch.allclose(told, torch.tensor([[[1, 1], [1, 2 / 3]], [[1, 1 / 4], [0, 0]]]))


def seen(said, points=SQUARE):
    return Turning(4).seen(said, memory(points))


def test_before_any_point_is_named_nothing_is_seen():
    assert not seen(torch.zeros(1, 1, 3, dtype=torch.long)).any()


def test_along_a_side_of_a_square_the_next_corner_is_a_quarter_turn_to_the_left():
    found = seen(torch.tensor([[[1, 1, 2]]]))[0, 0]           # from (0, 0) to (1, 0); candidates: STOP, then the points
    turn, cosine, sine, angle, x, y, distance = found.unbind(1)
    assert torch.allclose(turn[[3, 4]], torch.tensor([0.5, 0.75]).double())
    assert torch.allclose(torch.stack([cosine[4], sine[4]]), torch.tensor([-1.0, 1.0]).double() / math.sqrt(2))
    assert torch.allclose(angle[[3, 4]], torch.tensor([0.5, 0.75]).double()) and distance[4] == math.sqrt(2)
    assert (x[3], y[3]) == (0, 1) and not found[2].any(), "the point itself lies nowhere"


def test_stop_stands_where_the_answer_began():
    found = seen(torch.tensor([[[1, 2, 3]]]))[0, 0]
    assert torch.equal(found[0], found[1])


def test_turns_and_distances_do_not_change_when_the_points_are_moved_and_turned():
    torch.manual_seed(0)
    points = torch.rand(2, 7, 2).double()
    said = Turning(4).along(torch.randint(1, 8, (4, 5)), memory(points))
    turn = torch.tensor([[math.cos(1), -math.sin(1)], [math.sin(1), math.cos(1)]]).double()
    moved = points @ turn.T + torch.tensor([3.0, -2.0]).double()
    own = [0, 1, 2, 6]                                                 # what is not the direction in the plane itself
    here, there = seen(said, points)[..., own], seen(said, moved)[..., own]
    here[..., 0], there[..., 0] = here[..., 0].abs(), there[..., 0].abs()                    # half a turn is + pi or - pi
    assert torch.allclose(here, there, atol=1e-9)
