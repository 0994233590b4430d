"""BPE-dropout: the tokenizer's own cut at no share, other cuts of the same text at any, and the paper's probabilities."""

from random import Random

import numpy as np
import pytest

from rlseq import algos, subwords
from rlseq.batches import Batches
from rlseq.env import SequenceEnv
from rlseq.nn.policy import Shape, make_policy
from rlseq.subwords import WAYS, Recut
from rlseq.tasks import make
from rlseq.text import Tokenizer, clean
from rlseq.train import Stage, Trainer, _number
from tests.toys import TINY

LINES = ["Two young, white males are outside near many bushes.", "Zwei junge weiße Männer sind im Freien …", "a  b\t12,5 %",
         "„Straßenbahn“ don't 日本 🙂", ""]


@pytest.fixture(scope="module")
def task():
    return make("translation", {"vocabulary": 600})


def tokenizer():
    return Tokenizer.train(LINES * 3, "bpe", 320)


def test_no_share_is_the_tokenizers_own_cut(task):
    pairs = [task.examples("train")[i] for i in range(200)]
    texts = [text for one in pairs for text in (one.source, *one.references)]
    for given, lines in ((tokenizer(), LINES), (task.tokenizer, texts)):
        own = given.encode_batch(lines)
        assert Recut(given, 0.0)(own, np.random.default_rng(0)) == own


@pytest.mark.parametrize("share", [0.1, 0.5, 0.999])
def test_every_cut_is_of_the_same_text(share):
    given = tokenizer()
    recut, own = Recut(given, share), given.encode_batch(LINES)
    found = [recut(own, np.random.default_rng(seed)) for seed in range(20)]
    assert all(given.decode(line) == clean(text) for lines in found for line, text in zip(lines, LINES))
    assert any(lines != own for lines in found)


@pytest.mark.parametrize(("merges", "shares"), [
    # "abc" with ab before (ab)c: ab is passed over by 1/2 (a b c), else (ab)c is by 1/2 (ab c), else all are one (abc)
    ([("a", "b"), ("ab", "c")], {"a-b-c": 0.5, "ab-c": 0.25, "abc": 0.25}),
    # "abc" with ab before bc: ab by 1/2; else bc by 1/4 (then no merge goes on); neither by 1/4
    ([("a", "b"), ("b", "c")], {"ab-c": 0.5, "a-bc": 0.25, "a-b-c": 0.25})])
def test_merges_are_passed_over_with_their_probability_and_leave_room_for_others(merges, shares):
    recut = Recut(tokenizer(), 0.5)
    recut.rank = {pair: rank for rank, pair in enumerate(merges)}
    random, draws = Random(1), 4000
    found = ["-".join(recut.cut("abc", random)) for _ in range(draws)]
    for cut, p in shares.items():
        assert abs(found.count(cut) / draws - p) < 4 * (p * (1 - p) / draws) ** 0.5


def test_a_step_is_cut_the_same_again_and_others_are_not(task):
    one, other = (Batches(task, 8, 0, 5, recut=0.3) for _ in range(2))
    plain = Batches(task, 8, 0, 5)
    cuts = [task.collate(one(step)).source.tolist() for step in (0, 1)]
    assert cuts == [task.collate(other(step)).source.tolist() for step in (0, 1)]
    assert cuts[0] != task.collate(plain(0)).source.tolist() and one(0) == plain(0)          # the same texts in other pieces
    assert task.collate(one(0)).target.tolist() == task.collate(plain(0)).target.tolist()    # references are left alone
    seen = {str(task.recut([plain(0)[0]], 0.3, np.random.default_rng(seed))[0].ids.lines) for seed in range(50)}
    assert 1 < len(seen)


def test_no_merge_crosses_a_border_of_the_tokenizer():
    # "aé" teaches a merge of "a" with the first byte of "é", which "×" begins with, too; but a letter and a sign are parted
    given = Tokenizer.train(["aé aé aé aé ×"], "bpe", 265)
    own = given.encode_batch(["a× aé"])
    assert Recut(given, 0.0)(own, np.random.default_rng(0)) == own


def test_another_tokenizer_cuts_anew(task):
    pair, random = task.examples("train")[0], np.random.default_rng(0)
    task.recut([pair], 0.3, random)
    other = make("translation", {"vocabulary": 300})
    other.recut([pair], 0.3, random)
    other.restore(task.state())
    found = other.recut([pair], 0.3, np.random.default_rng(1))[0].ids
    assert found.tokenizer == task.tokenizer.key
    assert [line.tolist() for line in found.lines] == [
        line.tolist() for line in task.recut([pair], 0.3, np.random.default_rng(1))[0].ids.lines]


def test_what_is_kept_at_hand_has_a_bound(monkeypatch, task):
    monkeypatch.setattr(subwords, "REMEMBERED", 20)
    recut, lines = Recut(task.tokenizer, 0.3), task.tokenizer.encode_batch(["one two three four"] * 4)
    found = [recut(lines, np.random.default_rng(seed)) for seed in range(30)]
    assert len(recut.known) <= 20 + 16 and found == [recut(lines, np.random.default_rng(seed)) for seed in range(30)]


@pytest.mark.parametrize("share", [0.0, 0.5])
def test_a_trainer_cuts_the_sources_of_its_stage(tmp_path, task, share):
    policy = make_policy(task.sizes, Shape(head="vocabulary", **TINY))
    env, seen = SequenceEnv(task), []
    stage = Stage(updates=2, batch=4, subword_dropout=share)
    load = env.load
    env.load = lambda batch: seen.append(batch.source.tolist()) or load(batch)
    Trainer(policy, algos.make({"kind": "mle"}), env, stage, "pretrain", 1, lambda policy: 0.0, tmp_path).run()
    plain = Batches(task, 4, 0, _number(1, "pretrain"))
    assert (seen == [task.collate(plain(step)).source.tolist() for step in (0, 1)]) == (share == 0)


def test_ways_do_not_depend_on_what_was_cut_before(task):
    lines = task.tokenizer.encode_batch(["tomorrow at nine", "nine tomorrow"])
    ways = []
    for order in (lines, lines[::-1]):
        recut = Recut(task.tokenizer, 0.5)
        for seed in range(100):
            recut(order, np.random.default_rng(seed))
        ways.append(recut.known)
    assert ways[0] == ways[1] and len(ways[0]) == 3 * WAYS


def test_whole_words_have_no_merges():
    with pytest.raises(ValueError, match="no merges"):
        Recut(Tokenizer.train(LINES, "word", 10), 0.1)
