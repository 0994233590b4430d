"""The translation task: its three sources of data, its rules and what an answer is worth."""

import gzip
import json
import pickle
from pathlib import Path

import pytest
import sacrebleu
import torch

from rlseq.tasks import make
from rlseq.tasks.translation.cldr import Corpus
from rlseq.tasks.translation.expressions import ALL, Language, enumeration
from rlseq.tasks.translation.sentences import SENTENCES
from rlseq.types import STOP

MULTI30K = Path(__file__).resolve().parents[2].parent / "shared" / "data" / "multi30k"
needs_multi30k = pytest.mark.skipif(not MULTI30K.is_dir(), reason="Multi30k is not in ../shared/data/multi30k")
GREEK = "alpha beta gamma delta epsilon zeta eta theta".split()


@pytest.fixture(scope="module")
def task():
    return make("translation")


def own_pairs(count: int) -> list[tuple[str, str]]:
    return [(f"{GREEK[i % 8]} {i}", f"{i} {GREEK[i % 8]}") for i in range(count)]


@pytest.fixture
def folder(tmp_path):
    for split, count in (("train", 40), ("dev", 6), ("test", 5)):
        for side, language in enumerate(("en", "de")):
            text = "".join(pair[side] + "\n" for pair in own_pairs(count))
            (tmp_path / f"{split}.{language}").write_text(text, encoding="utf-8")
    return tmp_path


def said(call) -> str:
    with pytest.raises((ValueError, KeyError)) as error:
        call()
    assert "\n" not in str(error.value)
    return str(error.value)


# ---- CLDR

def say(kind: str, value: tuple, locale: str, style: str = "") -> str:
    return ALL[kind].say(value, style, Language.of(locale))


def test_values_are_said_as_people_write_them():
    # checked by hand against everyday usage of each language; a no-break space may stand for a space
    plain = lambda text: " ".join(text.split())
    assert [plain(say("mass", (125, "mass-kilogram"), one)) for one in ("en", "de", "fr")] == [
        "12.5 kilograms", "12,5 Kilogramm", "12,5 kilogrammes"]
    assert [plain(say("relative", (3, "day"), one)) for one in ("en", "de", "fr", "es")] == [
        "in 3 days", "in 3 Tagen", "dans 3 jours", "dentro de 3 días"]
    assert [plain(say("ago", (1, "hour"), one)) for one in ("en", "de")] == ["1 hour ago", "vor 1 Stunde"]
    assert [say("number", (21,), one, "words") for one in ("en", "de", "fr")] == [
        "twenty-one", "einundzwanzig", "vingt et un"]
    assert [plain(say("money", (1234.5, "EUR"), one, "name")) for one in ("en", "de")] == [
        "1,234.50 euros", "1.234,50 Euro"]
    assert say("length", (20, "length-kilometer"), "zh_Hans") == "2公里"        # a long form that CLDR inherits


def test_spanish_lists_say_e_before_the_sound_i():
    spanish = Language.of("es")
    assert [enumeration(["Francia", last], spanish) for last in ("Italia", "Hindi", "Hungría", "Hielo")] == [
        "Francia e Italia", "Francia e Hindi", "Francia y Hungría", "Francia y Hielo"]


def test_all_languages_have_the_same_sentences_with_the_same_values():
    from rlseq.tasks.translation.cldr import slots
    shape = lambda table: {name: {kind for _, kind, _ in slots(one) if kind} for name, one in table.items()}
    assert len({repr(sorted((name, sorted(kinds)) for name, kinds in shape(table).items()))
                for table in SENTENCES.values()}) == 1


def test_an_item_depends_on_seed_split_and_index_only():
    one, other = Corpus("en", "de", 3), Corpus("en", "de", 3)
    backwards = [other.item("train", index) for index in reversed(range(50))][::-1]
    assert [one.item("train", index) for index in range(50)] == backwards
    assert Corpus("en", "de", 4).item("train", 0) != one.item("train", 0) != one.item("dev", 0)


def test_no_text_of_dev_or_test_occurs_in_another_split(task):
    splits = {split: task.examples(split) for split in ("train", "dev", "test")}
    for side in (lambda pair: pair.source, lambda pair: pair.references[0]):
        train = {side(splits["train"][index]) for index in range(8000)}
        dev, test = ({side(pair) for pair in splits[split]} for split in ("dev", "test"))
        assert not train & dev and not train & test and not dev & test


@pytest.mark.parametrize("pair", ["fi-hi", "ja-ar", "zh_Hans-pt_BR", "en_GB-es_MX", "fr-he"])
def test_any_two_locales_make_a_corpus(pair):
    corpus = Corpus(*pair.split("-"), seed=0)
    items = [corpus.item("train", index) for index in range(200)]
    assert all(source and target for source, target in items) and len(set(items)) > 150
    text = " ".join(one for item in items for one in item)
    assert not any(code in text for code in ("length-", "duration-", "mass-", "volume-", "{", "}"))


def test_a_locale_or_pair_that_does_not_exist_is_said():
    assert "no locale 'xx'" in said(lambda: make("translation", {"pair": "en-xx"}))
    assert "source-target" in said(lambda: make("translation", {"pair": "german"}))
    assert "two languages" in said(lambda: make("translation", {"pair": "de-de"}))
    assert "task.path=FOLDER" in said(lambda: make("translation", {"data": "multi30k"}))
    assert "from 2 to" in said(lambda: make("translation", {"max_tokens": 1}))
    assert "vocabulary, copy" in said(lambda: make("translation", {"head": "pointer"}))


# ---- the task

def test_a_batch_holds_both_sides_through_their_stop(task):
    pairs = [task.examples("dev")[index] for index in range(5)]
    batch = task.collate(pairs)
    for row, pair in enumerate(pairs):
        source = batch.source[row][batch.source_mask[row]].tolist()
        target = batch.target[row][batch.target_mask[row]].tolist()
        assert source[-1] == target[-1] == STOP and STOP not in source[:-1] + target[:-1]
        assert task.tokenizer.decode(source) == pair.source and task.answer(batch, batch.target, row) == pair.references[0]
        assert task.length(pair) == len(source) + len(target)
    assert batch.num_actions == task.sizes.vocabulary == task.sizes.source_ids <= 4000
    assert batch.target.shape[1] <= task.horizon(batch)


@pytest.mark.parametrize("reward", ["bleu", "bleu_ids", "chrf", "rougeL", "ter", "exact"])
def test_a_reference_earns_one_and_k_answers_belong_to_their_problem(task, reward):
    other = make("translation", {"reward": reward})
    other.restore(task.state())
    batch = other.collate(task.examples("test")[:6])
    right = batch.target.repeat_interleave(2, 0), batch.target_mask.repeat_interleave(2, 0)
    assert other.reward(batch, *right).tolist() == [1.0] * 12
    assert (other.reward(batch, right[0].roll(2, 0), right[1].roll(2, 0)) < 1).all()


def test_the_reward_is_sentence_bleu_of_the_detokenised_text(task):
    batch = task.collate(task.examples("test")[:20])
    actions, mask = batch.target.roll(1, 0), batch.target_mask.roll(1, 0)
    expected = [sacrebleu.sentence_bleu(task.answer(batch, actions, row), [batch.examples[row].references[0]]).score
                for row in range(20)]
    assert task.reward(batch, actions, mask).tolist() == pytest.approx([one / 100 for one in expected], abs=1e-6)


def test_a_restored_task_reads_a_line_without_any_data(task, tmp_path):
    new = make("translation", {"data": "files", "path": str(tmp_path / "gone")})
    new.restore(task.state())
    batch = new.collate([new.parse(" u\u0308ber 3\u202fkm \n"), new.parse("")])
    assert batch.examples[0].source == "über 3 km" and batch.source[1, 0] == STOP and batch.source_mask[1].sum() == 1
    assert batch.target.tolist() == [[STOP], [STOP]]
    for reward in ("bleu", "bleu_ids", "chrf", "rougeL", "ter", "exact"):
        new = make("translation", {"data": "files", "path": str(tmp_path / "gone"), "reward": reward})
        new.restore(task.state())
        batch = new.collate([new.parse("x"), new.parse("")])
        assert new.reward(batch, batch.target, batch.target_mask).tolist() == [0, 0]
    assert "the translation task" in said(lambda: new.restore({}))


def test_the_copy_head_copies_source_ids(task):
    copy = make("translation", {"head": "copy"})
    copy.restore(task.state())
    batch = copy.collate(task.examples("dev")[:3])
    assert torch.equal(batch.extra["copy_ids"], batch.source) and batch.num_actions == copy.sizes.vocabulary


def test_a_task_survives_pickling(task):
    again = pickle.loads(pickle.dumps(task))
    assert again.fingerprint == task.fingerprint and again.examples("dev")[0] == task.examples("dev")[0]


def test_the_fingerprint_follows_what_shapes_the_data(task, folder):
    assert make("translation").fingerprint == task.fingerprint
    assert len({make("translation", one).fingerprint for one in ({}, {"seed": 1}, {"pair": "de-en"}, {"vocabulary": 500},
                                                                 {"data": "files", "path": str(folder)})}) == 5
    before = make("translation", {"data": "files", "path": str(folder)}).fingerprint
    (folder / "dev.en").write_text("".join(f"{source}!\n" for source, _ in own_pairs(6)))
    assert make("translation", {"data": "files", "path": str(folder)}).fingerprint != before


# ---- files

def test_a_folder_of_aligned_files_is_read(folder):
    task = make("translation", {"data": "files", "path": str(folder), "vocabulary": 300})
    assert [len(task.examples(split)) for split in ("train", "dev", "test")] == [40, 6, 5]
    pair = task.examples("test")[3]
    assert (pair.source, pair.references) == ("delta 3", ("3 delta",))
    assert "train, dev, test" in said(lambda: task.examples("validation"))


def test_jsonl_of_hugging_face_and_tsv_with_two_references_are_read(tmp_path):
    for split, count in (("train", 30), ("val", 4), ("test", 3)):
        lines = [json.dumps({"en": source, "de": target}) + "\n" for source, target in own_pairs(count)]
        (tmp_path / f"{split}.jsonl.gz").write_bytes(gzip.compress("".join(lines).encode()))
    task = make("translation", {"data": "multi30k", "path": str(tmp_path), "pair": "de-en", "vocabulary": 300})
    assert task.tests == ("test-2016",) and task.examples("dev")[1].source == "1 beta"
    (tmp_path / "own.tsv").write_text("".join(f"{source}\t{target}\t{target}!\n" for source, target in own_pairs(99)))
    task = make("translation", {"data": "files", "path": str(tmp_path / "own.tsv"), "reward": "bleu_ids"})
    sizes = [len(task.examples(split)) for split in ("train", "dev", "test")]
    assert sum(sizes) == 99 and min(sizes) > 0
    batch = task.collate(task.examples("dev"))
    assert batch.extra["references"].shape[:2] == (sizes[1], 2)
    assert task.reward(batch, batch.target, batch.target_mask).tolist() == [1.0] * sizes[1]


def test_a_pattern_names_one_corpus_or_every_split(folder):
    every = make("translation", {"data": "files", "path": str(folder / "{split}.{lang}"), "vocabulary": 300})
    assert [len(every.examples(split)) for split in ("train", "dev", "test")] == [40, 6, 5]
    one = make("translation", {"data": "files", "path": str(folder / "train.{lang}"), "vocabulary": 300})
    assert 0 < len(one.examples("train")) < 40
    with pytest.raises(ValueError, match=r"ends in none of \.tsv, .*write the language as \{lang\}"):
        make("translation", {"data": "files", "path": str(folder / "{split}.en"), "vocabulary": 300}).examples("train")


def test_missing_files_are_said_with_what_was_looked_for(folder, tmp_path):
    task = make("translation", {"data": "files", "path": str(folder), "pair": "en-fr"})
    message = said(lambda: task.examples("train"))
    assert "no train split for en-fr" in message and "train.en + train.fr" in message and "train.de" in message
    gone = make("translation", {"data": "files", "path": str(tmp_path / "gone")})
    assert "no folder and no file" in said(lambda: gone.sizes)


def test_long_training_pairs_are_left_out_and_counted(folder, capsys):
    (folder / "train.en").write_text("".join(f"{source}\n" for source, _ in own_pairs(39)) + "long " * 300 + "\n")
    task = make("translation", {"data": "files", "path": str(folder), "vocabulary": 300, "max_tokens": 64})
    assert len(task.examples("train")) == 39
    assert "rlseq: train: 1 of 40 pairs are left out" in capsys.readouterr().err


def test_long_sources_and_references_beyond_reach_are_counted_where_they_are_held_out(folder, capsys):
    (folder / "dev.en").write_text("long " * 300 + "\nb\nc\nd\ne\nf\n")
    (folder / "test.de").write_text("lang " * 300 + "\nb\nc\nd\n" + "lang " * 300 + "\n")
    task = make("translation", {"data": "files", "path": str(folder), "vocabulary": 300, "max_tokens": 16})
    task.examples("train")
    errors = capsys.readouterr().err
    assert "dev: of 1 of 6 sources only the first 128 subwords are read" in errors
    assert "test: 2 of 5 references are longer than answers can be" in errors
    batch = task.collate(task.examples("dev"))
    assert batch.source.shape == (6, 129) and task.length(task.examples("dev")[0]) < 150


def test_of_new_input_that_is_too_long_the_beginning_is_read(folder):
    task = make("translation", {"data": "files", "path": str(folder), "vocabulary": 300, "max_tokens": 16})
    longest, long, short = map(task.parse, ("x" * 2**20, "x " * 300, "alpha 3"))
    batch = task.collate([longest, long, short])
    assert batch.source.shape == (3, 129) and batch.source_mask.sum(1)[2] < 20
    assert task.unread(longest) == 2**20 + 1 - 128 and task.unread(long) > 100 and task.unread(short) == 0


def test_splits_that_overlap_and_pairs_that_repeat_are_counted(folder, capsys):
    task = make("translation", {"data": "files", "path": str(folder), "vocabulary": 300})
    (folder / "test.en").write_text("alpha 0\nalpha 0\nbeta 1\nnew\n\n")
    (folder / "test.de").write_text("0 alpha\n0 alpha\nother\nneu\n\n")
    for name in ("train.en", "train.de"):
        (folder / name).write_text((folder / name).read_text() + "\n" + (folder / name).read_text())
    assert len(task.examples("train")) == 81
    errors = capsys.readouterr().err
    assert "train: 40 of 81 examples repeat an earlier one" in errors and "test: 1 of 5 examples repeat" in errors
    assert "test: 4 of 5 sources stand in train too (3 with the same references)" in errors     # the empty pair, too
    assert "train: 1 of 81 pairs have an empty side" in errors


@needs_multi30k
def test_multi30k_is_read_from_its_folder():
    task = make("translation", {"data": "multi30k", "path": str(MULTI30K), "pair": "en-fr"})
    assert task.tests == ("test-2016", "test-2017")
    assert [len(task.examples(split)) for split in ("dev", *task.tests)] == [1014, 1000, 1000]
    assert task.examples("test-2016")[0].source == task.examples("test-2016")[0].source.strip()
    task.restore(make("translation").state())
    assert task.collate(task.examples("dev")[:64]).source.shape[0] == 64
