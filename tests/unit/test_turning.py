"""Relative geometry for pointers: features by hand, and the same whether an answer is known whole or grows."""

import math

import torch

from rlseq.nn.turning import also_named, named, seen

SQUARE = torch.tensor([[[0.0, 0.0], [1.0, 0.0], [1.0, 1.0], [0.0, 1.0]]], dtype=torch.float64)


def test_what_was_named_is_the_first_the_last_but_one_and_the_last():
    assert named(torch.tensor([[4, 1, 3, 2]])).tolist() == [[[0, 0, 0], [4, 0, 4], [4, 4, 1], [4, 1, 3]]]


def test_an_answer_that_grows_names_what_the_whole_one_does():
    fed = torch.tensor([[4, 1, 3, 2], [2, 5, 1, 4]])
    said, grown = torch.zeros(2, 3, dtype=torch.long), []
    for action in fed.unbind(1):
        grown.append(said)
        said = also_named(said, action)
    assert torch.equal(torch.stack(grown, 1), named(fed))


def test_before_any_point_is_named_nothing_is_seen():
    assert not seen(torch.zeros(1, 1, 3, dtype=torch.long), SQUARE).any()


def test_along_a_side_of_a_square_the_next_corner_is_a_quarter_turn_to_the_left():
    found = seen(torch.tensor([[[1, 1, 2]]]), SQUARE)[0, 0]        # from (0, 0) to (1, 0); candidates: STOP, then the points
    turn, cosine, sine, angle, x, y, distance = found.unbind(1)
    assert torch.allclose(turn[[3, 4]], torch.tensor([0.5, 0.75]).double())
    assert torch.allclose(torch.stack([cosine[4], sine[4]]), torch.tensor([-1.0, 1.0]).double() / math.sqrt(2))
    assert torch.allclose(angle[[3, 4]], torch.tensor([0.5, 0.75]).double()) and distance[4] == math.sqrt(2)
    assert (x[3], y[3]) == (0, 1) and not found[2].any(), "the point itself lies nowhere"


def test_stop_stands_where_the_answer_began():
    found = seen(torch.tensor([[[1, 2, 3]]]), SQUARE)[0, 0]
    assert torch.equal(found[0], found[1])


def test_turns_and_distances_do_not_change_when_the_points_are_moved_and_turned():
    torch.manual_seed(0)
    points, said = torch.rand(2, 7, 2).double(), named(torch.randint(1, 8, (4, 5)))
    turn = torch.tensor([[math.cos(1), -math.sin(1)], [math.sin(1), math.cos(1)]]).double()
    moved = points @ turn.T + torch.tensor([3.0, -2.0]).double()
    own = [0, 1, 2, 6]                                                 # what is not the direction in the plane itself
    here, there = seen(said, points)[..., own], seen(said, moved)[..., own]
    here[..., 0], there[..., 0] = here[..., 0].abs(), there[..., 0].abs()                    # half a turn is + pi or - pi
    assert torch.allclose(here, there, atol=1e-9)
