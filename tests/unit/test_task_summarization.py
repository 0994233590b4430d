import gzip
import json
import random
import re
from pathlib import Path

import pytest
import torch
from rouge_score import rouge_scorer

from rlseq.rewards.paper_rouge import paper_rouge
from rlseq.rewards.text import sentence_worth
from rlseq.tasks import make
from rlseq.tasks.summarization import data
from rlseq.tasks.summarization.data import Example
from rlseq.text import UNK
from rlseq.types import STOP

SHARED = Path(__file__).resolve().parents[2].parent / "shared" / "data" / "dialogsum"
VERBS, THINGS = ["reads", "writes", "keeps", "finds"], ["cats", "dogs", "lists", "maps", "trees"]


def text(number):
    """A source with a word of its own, and its summary, which needs that word."""
    choice = random.Random(number)
    verb, thing = choice.choice(VERBS), choice.choice(THINGS)
    return f"def item_{number}(x): it {verb} all {thing}, and nothing else.", f"It {verb} {thing} for item_{number}."


@pytest.fixture
def pairs(tmp_path):
    """A TSV file of 200 pairs."""
    path = tmp_path / "pairs.tsv"
    path.write_text("".join("\t".join(text(number)) + "\n" for number in range(200)), encoding="utf-8")
    return str(path)


@pytest.fixture
def task(pairs):
    return make("summarization", {"data": "files", "path": pairs, "vocabulary": 40})


def test_unknown_source_words_are_copied_and_the_reference_earns_one(task):
    batch = task.collate(task.examples("test"))
    size, copies = task.sizes.vocabulary, batch.extra["copy_ids"]
    assert size == 40 and batch.num_actions > size and (batch.target >= size).any()
    assert torch.equal(batch.source == UNK, copies >= size)             # what is no word is copied by its own action
    assert torch.equal(copies[copies < size], batch.source[copies < size])
    assert task.decode(batch, batch.target) == [one.references[0] for one in batch.examples]
    assert task.reward(batch, batch.target, batch.target_mask).tolist() == [1.0] * len(batch)


def test_equal_unknown_words_share_an_action_and_each_source_counts_its_own(task):
    batch = task.collate([Example("zip zap zip", ("zap zip nowhere",)), Example("zop", ("zop zap",))])
    size = task.sizes.vocabulary
    assert batch.extra["copy_ids"].tolist() == [[size, size + 1, size, STOP], [size, STOP, 0, 0]]
    assert batch.target.tolist() == [[size + 1, size, UNK, STOP], [size, UNK, STOP, 0]]
    assert batch.num_actions == size + 2
    # no action of the second source is written that it lacks; UNK writes nothing
    assert task.decode(batch, batch.target) == ["zap zip", "zop"]
    assert task.decode(batch, torch.tensor([[size, UNK, size + 1], [size + 1, size, size]])) == ["zip zap", "zop zop"]


def test_a_vocabulary_head_knows_no_copies(pairs):
    task = make("summarization", {"data": "files", "path": pairs, "vocabulary": 40, "head": "vocabulary"})
    batch = task.collate(task.examples("test"))
    assert batch.num_actions == 40 > batch.target.max() and "copy_ids" not in batch.extra
    assert (batch.target == UNK).any()


@pytest.mark.parametrize("reward", ["rougeL", "rouge1", "rouge2", "mix"])
def test_reward_is_rouge_score_of_the_answer_that_people_see(pairs, reward):
    task = make("summarization", {"data": "files", "path": pairs, "vocabulary": 40, "reward": reward})
    examples = [Example(one.source, (*one.references, "It reads, ITEM_3 reads!")) for one in task.examples("test")]
    batch = task.collate(examples)
    generator = torch.Generator().manual_seed(0)
    actions = torch.randint(batch.num_actions, (3 * len(batch), 12), generator=generator)   # STOP, UNK, copies, repeats
    mask = torch.arange(12) < torch.randint(13, (len(actions), 1), generator=generator)
    kinds = ["rougeL", "rouge1", "rouge2"] if reward == "mix" else [reward]
    scorer = rouge_scorer.RougeScorer(kinds)
    for row, earned in enumerate(task.reward(batch, actions, mask).tolist()):
        answer = task.answer(batch, actions.masked_fill(~mask, STOP), row)
        best = scorer.score_multi(list(examples[row // 3].references), answer)
        assert earned == pytest.approx(sum(best[kind].fmeasure for kind in kinds) / len(kinds), abs=1e-6)   # float32
        assert task.metrics["rougeL"].rows(batch.rows(row // 3, row // 3 + 1), actions[row:row + 1], mask[row:row + 1])[
            0, 0] == pytest.approx(rouge_scorer.RougeScorer(["rougeL"]).score_multi(
                list(examples[row // 3].references), answer)["rougeL"].fmeasure, abs=1e-9)


def test_a_restored_task_answers_any_line_without_its_data(task, tmp_path):
    other = make("summarization", {"data": "files", "path": str(tmp_path / "gone.tsv"), "vocabulary": 40})
    other.restore(task.state())
    lines = ["def item_7(x): it reads all cats.", "", "\ud800 \x00 \u2028 日本語 İ ▁ <s>", "x" * 5000]
    batch, expected = (one.collate([one.parse(line) for line in lines]) for one in (other, task))
    assert torch.equal(batch.source, expected.source) and torch.equal(batch.extra["copy_ids"], expected.extra["copy_ids"])
    assert batch.target.tolist() == [[STOP]] * 4 and batch.source[1].tolist()[0] == STOP
    assert other.answer(batch, batch.extra["copy_ids"], 0) == lines[0]
    assert "\n" not in other.show(batch, batch.extra["copy_ids"], 2) and other.reward(
        batch, batch.target, batch.target_mask).tolist() == [0] * 4
    with pytest.raises(ValueError, match="no tokenizer"):
        other.restore({"points": ""})


def test_long_sources_are_cut_and_long_targets_left_out_of_train_with_their_number(tmp_path, capsys):
    path = tmp_path / "pairs.tsv"
    path.write_text("".join(f"{number} " + "w " * (number % 20) + "\t" + f"{number} " + "s " * (number // 90) + "\n"
                            for number in range(100)), encoding="utf-8")
    for split in ("dev", "test"):
        (tmp_path / f"{split}.tsv").write_text("a b c d e f g h i j k l m n o p\ta b c\n", encoding="utf-8")
    path.rename(tmp_path / "train.tsv")
    task = make("summarization", {"data": "files", "path": str(tmp_path), "max_source": 10, "max_target": 1})
    # sources have 1 + number % 20 words: of the 90 first numbers those with number % 20 >= 10 are cut: 40
    assert len(task.examples("train")) == 90
    errors = capsys.readouterr().err
    assert re.search("train: of 100 examples 10 are left out.* 40 sources are cut", errors)
    for split in ("dev", "test"):
        assert f"{split}: of 1 examples 1 sources are cut to task.max_source=10; 1 references" in errors
    batch = task.collate(task.examples("test"))                          # a held-out reference is never cut
    assert batch.source_mask.sum() == 11 and batch.target_mask.sum() == 4
    assert task.horizon(batch) == 2 and task.length(task.examples("test")[0]) == 15


def test_files_are_split_by_their_text_and_keep_every_pair_once(tmp_path):
    rows = [text(number % 150) for number in range(300)]                 # every pair twice
    (tmp_path / "all.jsonl.gz").write_bytes(gzip.compress("\n".join(
        json.dumps({"document": source, "summary": [target, "also " + target]}) for source, target in rows).encode()))
    (tmp_path / "a.txt").write_text("\n".join(source for source, _ in rows))
    (tmp_path / "b.txt").write_text("\n".join(target for _, target in rows))
    found = data.files(str(tmp_path / "all.jsonl.gz"), 0)
    texts = {split: {one.source for one in examples} for split, examples in found.splits.items()}
    assert sum(map(len, found.splits.values())) == 300 and sum(map(len, texts.values())) == 150
    assert all(texts.values()) and len(found.splits["train"]) > 200
    assert found.splits["dev"][0].references[1].startswith("also ")
    plain = data.files(f"{tmp_path / 'a.txt'},{tmp_path / 'b.txt'}", 0)
    assert [one.source for one in plain.splits["dev"]] == [one.source for one in found.splits["dev"]]
    assert plain.fingerprint == data.files(f"{tmp_path / 'a.txt'},{tmp_path / 'b.txt'}", 0).fingerprint != found.fingerprint
    assert data.files(str(tmp_path / "all.jsonl.gz"), 1).fingerprint != found.fingerprint


def test_mistakes_about_the_path_are_told_in_one_line(tmp_path):
    for options, said in [({"data": "dialogsum"}, "task.data=dialogsum needs task.path"),
                          ({"data": "files"}, "task.data=files needs task.path"),
                          ({"path": "x"}, "task.path=x is not used by task.data=docstrings"),
                          ({"data": "files", "path": str(tmp_path)}, "no train.tsv"),
                          ({"data": "files", "path": str(tmp_path / "no.tsv")}, "no file")]:
        with pytest.raises(ValueError, match=said) as raised:
            make("summarization", options).examples("train")
        assert "\n" not in str(raised.value)
    (tmp_path / "few.tsv").write_text("a\tb\n")
    with pytest.raises(ValueError, match="1 training pairs are too few"):
        data.files(str(tmp_path / "few.tsv"), 0)
    with pytest.raises(KeyError, match="no split 'tset'"):
        make("summarization").examples("tset")


def test_dialogsum_leaves_out_of_train_what_others_hold_and_says_so(tmp_path, capsys):
    for split, rows in {"train": [("A: Hi!", "x"), ("B", "y"), ("a hi", "z")], "dev": [("a - HI.", "v")]}.items():
        (tmp_path / f"{split}.jsonl").write_text("\n".join(
            json.dumps({"fname": 1, "dialogue": one, "summary": other}) for one, other in rows))
    (tmp_path / "test.jsonl").write_text(json.dumps({"dialogue": "C", **{f"summary{i}": str(i) for i in (1, 2, 3)}}))
    found = data.dialogsum(tmp_path)
    assert "2 training texts equal one of 1 in dev or test and are left out" in capsys.readouterr().err
    assert list(found.splits["train"]) == [Example("B", ("y",))] and found.splits["test"][0].references == ("1", "2", "3")


def test_dialogsum_is_scored_besides_as_its_paper_counts(tmp_path):
    for split in ("train", "dev", "test"):
        rows = [{"dialogue": f"{text(number)[0]} {split}", **(
            {f"summary{one}": text(number + one)[1] for one in (1, 2, 3)} if split == "test" else {"summary": text(number)[1]})}
            for number in range(20)]
        (tmp_path / f"{split}.jsonl").write_text("\n".join(map(json.dumps, rows)))
    task = make("summarization", {"data": "dialogsum", "path": str(tmp_path), "vocabulary": 40})
    assert list(task.metrics)[0] == "rougeL" and list(task.metrics)[-3:] == ["paper_rougeL", "paper_rouge1", "paper_rouge2"]
    batch = task.collate(task.examples("test"))
    texts = task.decode(batch, batch.target)
    for kind in ("rougeL", "rouge1", "rouge2"):
        metric = task.metrics[f"paper_{kind}"]
        expected = paper_rouge(texts, [one.references for one in batch.examples], kind).mean().item()
        assert metric.score(metric.rows(batch, batch.target, batch.target_mask).sum(0)) == pytest.approx(100 * expected)
        assert 0 < expected < 1                                         # the mean: the other two people wrote something else


@pytest.mark.skipif(not SHARED.is_dir(), reason="needs DialogSum beside the checkout, in shared/data/dialogsum")
def test_dialogsum_trains_on_nothing_that_dev_or_test_hold(capsys):
    found = data.dialogsum(SHARED)
    assert "61 training texts equal one of 53 in dev or test" in capsys.readouterr().err
    held = {data.same(one.source) for split in ("dev", "test") for one in found.splits[split]}
    assert {split: len(one) for split, one in found.splits.items()} == {"train": 12399, "dev": 500, "test": 500}
    assert not held & {data.same(one.source) for one in found.splits["train"]}
    assert {len(one.references) for one in found.splits["test"]} == {3}
    task = make("summarization", {"data": "dialogsum", "path": str(SHARED)})
    assert len(task.examples("train")) == 12235
    assert re.search("train: of 12399 examples 164 are left out.* 99 sources are cut", capsys.readouterr().err)
    ids = task.tokenizer.encode("Ask #Person1#: yes")
    assert len(ids) == 4 and UNK not in ids                          # Ask / #Person1# / : / yes


@pytest.mark.parametrize("reward", ["bleu", "chrf", "ter", "exact"])
def test_other_rewards_are_those_of_the_text_that_people_see(pairs, reward):
    task = make("summarization", {"data": "files", "path": pairs, "vocabulary": 40, "reward": reward})
    batch = task.collate(task.examples("train")[:3])
    texts = task.decode(batch, batch.target)
    expected = [sentence_worth(reward)(text, one.references) for text, one in zip(texts, batch.examples)]
    assert task.reward(batch, batch.target, batch.target_mask).tolist() == pytest.approx(expected, abs=1e-6)
    assert list(task.metrics) == ["rougeL", "rouge1", "rouge2", "bleu", "chrf", "ter", "exact"]
