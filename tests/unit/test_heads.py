"""Heads: what an action means, by hand."""

import math
from functools import partial

import pytest
import torch

from rlseq.nn import heads
from rlseq.nn.encoders import Memory, Words
from rlseq.nn.heads import Copy, Head, Pointer, Vocabulary, log_probabilities
from rlseq.nn.policy import Shape, make_policy
from rlseq.types import NEVER, Batch, Sizes


def memory(num_actions, copy_ids=None, problems=1, positions=3, width=4):
    torch.manual_seed(0)
    mask = torch.ones(problems, positions, dtype=torch.bool)
    extra = {} if copy_ids is None else {"copy_ids": torch.tensor([copy_ids])}
    batch = Batch(torch.zeros(problems, positions, dtype=torch.long), mask, torch.zeros(problems, 1, dtype=torch.long),
                  torch.ones(problems, 1, dtype=torch.bool), num_actions, extra)
    return Memory(torch.randn(problems, positions, width), mask, torch.randn(problems, width), batch)


def test_illegal_actions_share_nothing_and_no_number_is_infinite():
    logits = torch.tensor([[0.0, 1.0, 2.0]])
    logp = log_probabilities(logits, torch.tensor([[True, False, True]]))
    total = 1 + math.exp(2)
    assert torch.allclose(logp.exp(), torch.tensor([[1 / total, 0.0, math.exp(2) / total]]))
    assert torch.isfinite(logp).all() and logp.exp()[0, 1] == 0
    assert log_probabilities(logits.bfloat16(), None).dtype == torch.float32


def test_a_copy_is_the_written_mixture():
    # P(w) = g P_vocabulary(w) + (1 - g) sum of the attention where the source holds w; 3 words, and 3, 4 from the source
    head = Copy(Sizes(source_ids=3, vocabulary=3), "dot", 4, None)
    source, states = memory(5, [3, 1, 3]), torch.randn(1, 1, 4)
    p = head.logits(states, source, head.keys(source)).exp()[0, 0]
    a = (states[0] @ source.states[0].T / 2).softmax(1)[0]
    g = torch.sigmoid(head.gate(torch.cat([states[0, 0], a @ source.states[0]])))
    written = (head.write.words.weight @ states[0, 0] + head.write.bias).softmax(0)
    wanted = torch.stack([g * written[0], g * written[1] + (1 - g) * a[1], g * written[2], (1 - g) * (a[0] + a[2]),
                          torch.zeros(1)])
    assert torch.allclose(p, wanted.squeeze(1), atol=1e-6) and float(p.detach().sum()) == pytest.approx(1, abs=1e-6)
    assert torch.allclose(head.attention(states, source, head.keys(source))[0, 0], a, atol=1e-6)


@pytest.mark.parametrize("pointing", ["dot", "relative"])
@pytest.mark.parametrize(("detail", "temperature"), [(False, 1.0), (True, 1.0), (False, 0.5), (False, 1.7), (False, 0.05)])
@pytest.mark.parametrize(("dtype", "error"), [(torch.float64, 1e-12), (torch.float32, 1e-5), (torch.bfloat16, 1e-2)])
def test_a_copy_scores_as_its_whole_mixture_does(monkeypatch, pointing, detail, temperature, dtype, error):
    # words twice in a source, words unknown, words of another source or of padding only; two answers a source. Sums are of a
    # few numbers near 1, in float32 also under autocast, whose bf16 products carry 8 bits.
    monkeypatch.setattr(heads, "LONG", 0)
    torch.manual_seed(0)
    exact = torch.float64 if dtype == torch.float64 else torch.float32
    sizes, N, T = Sizes(vocabulary=7, coordinates=1), 6, 4
    head = Copy(sizes, pointing, 8, None).to(exact)
    ids = torch.tensor([[8, 1, 8, 2, 2, 1], [8, 3, 7, 3, 9, 9], [0, 1, 2, 3, 4, 5]])
    mask = torch.tensor([[1, 1, 1, 1, 1, 1], [0, 0, 1, 1, 1, 0], [1, 1, 1, 1, 1, 1]]).bool()
    states = torch.randn(3, 6, 8, dtype=exact, requires_grad=True)
    memory = Memory(states, mask, states[:, 0], Batch(ids.unsqueeze(2).to(exact), mask, ids, mask, 10, {"copy_ids": ids}))
    actions = torch.tensor([[8, 1, 2, 0], [6, 5, 2, 0], [7, 9, 3, 0], [3, 3, 0, 0], [5, 6, 1, 0], [0, 0, 0, 0]])
    real = torch.arange(T) < torch.tensor([[4], [4], [4], [3], [4], [1]])
    said = None if head.recall is None else head.recall.along(actions, memory)
    decoded = torch.randn(N, T, 8, dtype=exact, requires_grad=True)
    with torch.autocast("cpu", torch.bfloat16, enabled=dtype == torch.bfloat16):
        plain, fast = (score(decoded, memory, head.keys(memory), actions, real, None, detail, None, temperature, said)
                       for score in (partial(Head.score, head), head.score))
    names = ["logp", "entropy", "smooth"] if detail else ["logp"]
    above, into = {name: torch.randn(N, T, dtype=exact) * real for name in names}, [decoded, states, *head.parameters()]
    for name in names:
        assert torch.allclose(getattr(plain, name) * real, getattr(fast, name) * real, atol=error, rtol=error)
    sums = (sum((getattr(one, name) * above[name]).sum() for name in names) for one in (plain, fast))
    for one, other in zip(*(torch.autograd.grad(total, into) for total in sums)):
        assert torch.allclose(one, other, atol=error * max(1, float(other.abs().max())), rtol=0)


def test_a_copy_whose_attention_is_nothing_is_no_action_to_smooth_over(monkeypatch):
    monkeypatch.setattr(heads, "LONG", 0)
    torch.manual_seed(0)
    head, source = Copy(Sizes(vocabulary=3), "dot", 4, None), memory(5, [3, 4], positions=2)
    source.states[0] = torch.tensor([[40.0, 0, 0, 0], [0, 0, 0, 0]])     # energies 400 and 0: attention 1 and exactly 0
    given = (torch.tensor([[[20.0, 0, 0, 0]]]), source, head.keys(source), torch.tensor([[3]]))
    plain, fast = (score(*given, given[3] > 0, None, True) for score in (partial(Head.score, head), head.score))
    assert -50 < fast.smooth.item() == pytest.approx(plain.smooth.item(), abs=1e-4)
    assert fast.entropy.item() == pytest.approx(plain.entropy.item(), abs=1e-5)


@pytest.mark.parametrize(("words", "mixed"), [(300, False), (4, True)])  # beside three positions of a source
def test_a_copy_with_details_makes_a_mixture_for_a_short_vocabulary_alone(monkeypatch, words, mixed):
    made, head = [], Copy(Sizes(vocabulary=words), "dot", 4, None)
    source, actions, logits = memory(words + 2, [words, 1, words + 1]), torch.tensor([[1, words]]), head.logits
    monkeypatch.setattr(head, "logits", lambda *given: made.append(1) or logits(*given))
    scores = head.score(torch.randn(1, 2, 4), source, head.keys(source), actions, actions > 0, None, True)
    assert torch.isfinite(torch.stack([scores.logp, scores.entropy, scores.smooth])).all() and bool(made) == mixed


def test_a_copied_word_is_fed_as_the_state_of_its_first_place():
    head = Copy(Sizes(source_ids=3, vocabulary=3), "dot", 4, None)
    source = memory(5, [1, 4, 4])
    fed = head.embed(torch.tensor([[2, 4]]), source)
    assert torch.equal(fed[0, 0], head.write.words(torch.tensor(2))) and torch.equal(fed[0, 1], source.states[0, 1])


def test_a_copy_head_names_what_the_task_lacks():
    head = Copy(Sizes(source_ids=3, vocabulary=3), "dot", 4, None)
    with pytest.raises(ValueError, match="copy_ids"):
        head.keys(memory(3))


def test_a_pointers_action_i_is_position_i_minus_1_and_0_stops():
    head, source = Pointer("dot", 4), memory(4)
    fed = head.embed(torch.tensor([[0, 1, 3]]), source)[0]
    assert torch.equal(fed, torch.stack([head.stop[1], source.states[0, 0], source.states[0, 2]]))
    states = torch.randn(1, 1, 4)
    logits = head.logits(states, source, head.keys(source))[0, 0]
    assert torch.allclose(logits, torch.cat([head.stop[:1], source.states[0]]) @ states[0, 0] / 2, atol=1e-6)


def test_a_pointer_never_points_at_padding():
    head, source = Pointer("dot", 4), memory(4)
    source.mask[0, 2] = False
    assert head.logits(torch.randn(1, 2, 4), source, head.keys(source))[0, :, 3].eq(NEVER).all()


def test_a_tied_vocabulary_starts_at_logits_of_unit_size():
    torch.manual_seed(0)
    head = Vocabulary(Sizes(vocabulary=500), 64, Words(500, 64))
    logits = head.logits(torch.randn(1, 50, 64), memory(500), None)
    assert float(logits.detach().std()) == pytest.approx(1, abs=0.05)


def test_padding_meets_no_vocabulary():
    # masked steps score exactly 0 and pass no gradient, whatever they hold
    head, source = Vocabulary(Sizes(vocabulary=5), 4, None), memory(5)
    states = torch.randn(1, 3, 4).requires_grad_()
    mask = torch.tensor([[True, True, False]])
    scores = head.score(states, source, None, torch.tensor([[1, 0, 3]]), mask, None, True)
    assert scores.logp[0, 2] == scores.entropy[0, 2] == scores.smooth[0, 2] == 0
    scores.logp.sum().backward()
    assert (states.grad[0, 2] == 0).all() and (states.grad[0, :2] != 0).any()


def test_entropy_and_smoothing_are_of_the_legal_actions():
    head, source = Vocabulary(Sizes(vocabulary=4), 4, None), memory(4)
    torch.nn.init.zeros_(head.words.weight)
    legal = torch.tensor([[[True, True, False, False]]])
    mask = torch.ones(1, 1, dtype=torch.bool)
    scores = head.score(torch.randn(1, 1, 4), source, None, torch.tensor([[1]]), mask, legal, True)
    assert float(scores.entropy.detach()) == pytest.approx(math.log(2), abs=1e-6)
    assert float(scores.smooth.detach()) == pytest.approx(-math.log(2), abs=1e-6)


def test_a_task_without_words_is_refused():
    with pytest.raises(ValueError, match="no output vocabulary"):
        Vocabulary(Sizes(features=2), 4, None)


@pytest.mark.parametrize(("head", "coordinates"), [("pointer", 2), ("copy", 1)])
def test_a_relative_head_answers_by_what_it_recalls(head, coordinates):
    torch.manual_seed(0)
    shape, mask = Shape(head, width=8, heads=2, pointing="relative"), torch.ones(1, 4, dtype=torch.bool)
    head = make_policy(Sizes(features=2, vocabulary=6, coordinates=coordinates), shape).head
    batch = Batch(torch.rand(1, 4, 2), mask, mask.long(), mask, 8, {"copy_ids": torch.tensor([[6, 2, 7, 6]])})
    source, states = Memory(torch.randn(1, 4, 8), mask, torch.randn(1, 8), batch), torch.zeros(1, 3, 8)
    one, other = (head.logits(states, source, head.keys(source), head.recall.along(torch.tensor([answer]), source))
                  for answer in ([1, 2, 3], [4, 3, 3]))
    assert torch.equal(one[:, 0], other[:, 0]) and not torch.allclose(one[:, 2], other[:, 2])
