"""Summarization's docstrings: pairs read from installed packages, and splits that share none."""

from pathlib import Path

from rlseq.tasks.summarization import data, docstrings

MODULE = '''
raise RuntimeError("read, never imported")

class Reader(Base, other.Thing):
    """Reads things from a :class:`~x.Store`.

    It opens the store, reads one thing after the other, and closes the store at the end, even after an error.

    >>> Reader()
    """

    def get(self, key, *, default=None):
        """
        Return the thing of ``key``, or a default.

        Parameters
        ----------
        key : str
            What the thing is called in the store; names are compared without regard to case or to space around them.

        Examples
        --------
        >>> Reader().get("a")

        words that are never read, words that are never read, words that are never read, words that are never read
        """

def short():
    """Does something very quickly.

    Too few words here.
    """

def two():
    """Do one thing. Then do another.

    This text is long enough to be a text, it has far more than fifteen words, but above it stand two sentences.
    """
'''


def test_docstrings_become_pairs_of_signature_with_text_and_first_line():
    assert [(one.source, one.summary) for one in docstrings.pairs_of(MODULE.encode(), "p")] == [
        ("class Reader(Base, Thing) : It opens the store, reads one thing after the other, and closes the store at the "
         "end, even after an error.", "Reads things from a x.Store."),
        ("def Reader.get(key, default) : key : str What the thing is called in the store; names are compared without "
         "regard to case or to space around them.", "Return the thing of key, or a default.")]


def package(folder, name, code):
    (folder / name / "tests").mkdir(parents=True)
    (folder / name / "__init__.py").write_text(code, encoding="utf-8")
    (folder / name / "tests" / "of.py").write_text(MODULE, encoding="utf-8")        # tests are not read
    return folder / name, "1.0"


def test_copied_texts_and_files_that_do_not_parse_are_left_out_and_counted(tmp_path):
    moved = MODULE.replace("It opens the store", "Now it opens the store").replace("class Reader", "class Copied")
    packages = {"a": package(tmp_path, "a", MODULE), "b": package(tmp_path, "b", moved),
                "c": package(tmp_path, "c", MODULE + "def broken(:\n")}
    (tmp_path / "a" / "again.py").write_text(MODULE, encoding="utf-8")
    corpus = docstrings.extract(packages)
    assert [one.package for one in corpus.pairs] == ["a", "a"] and corpus.packages == {"a": "1.0"}
    assert corpus.report == {"files": 3, "unparsed": 1, "copies": 4}


def test_docstrings_are_read_once_and_without_permission_to_write(tmp_path, monkeypatch):
    packages = {"a": package(tmp_path / "site", "a", MODULE)}
    monkeypatch.setattr(docstrings, "installed", lambda: packages)
    monkeypatch.setattr(docstrings, "CACHE", tmp_path / "runs" / "cache")
    first = docstrings.load()
    (file,) = (tmp_path / "runs" / "cache").iterdir()
    assert file.name.startswith("docstrings-") and file.name.endswith(".jsonl.gz") and len(first.pairs) == 2
    (tmp_path / "site" / "a" / "__init__.py").unlink()
    assert docstrings.load() == first                                              # from the cache
    file.write_bytes(file.read_bytes()[:50])
    assert docstrings.load().pairs == ()                                           # a damaged cache is read anew
    monkeypatch.setattr(docstrings, "CACHE", Path("/dev/null/cache"))
    assert docstrings.load().pairs == ()


def test_splits_of_docstrings_share_no_package():
    names = [f"p{index}" for index in range(60)]
    made = tuple(docstrings.Pair(f"{name} {item}", "s", name) for index, name in enumerate(names)
                 for item in range(2000 if index == 7 else 150))
    found = data.of_docstrings(docstrings.Corpus(made, {}, {"files": 0, "unparsed": 0, "copies": 0}), 0)
    owners = {split: [one.source.split()[0] for one in examples] for split, examples in found.splits.items()}
    # 10850 pairs: a twentieth is 542, at most 100 of a package, so 6 packages each
    assert len(owners["dev"]) == len(owners["test"]) == 542 and set(owners["train"]) >= {"p7"}
    assert not set(owners["dev"]) & set(owners["test"]) and not set(owners["train"]) & set(owners["dev"] + owners["test"])
    assert len(owners["train"]) == 2000 + (59 - 12) * 150
    assert max(map(owners["dev"].count, owners["dev"])) <= 100
    assert len({one.source for examples in found.splits.values() for one in examples}) == sum(map(len, owners.values()))
    assert [one.source for one in data.of_docstrings(docstrings.Corpus(made, {}, {
        "files": 0, "unparsed": 0, "copies": 0}), 1).splits["dev"]] != [one.source for one in found.splits["dev"]]


def test_large_packages_always_train():
    made = tuple(docstrings.Pair(f"{name} {item}", "s", f"p{name}") for name in range(4) for item in range(
        500 if name == 3 else 20))
    for seed in range(20):
        splits = data.of_docstrings(docstrings.Corpus(made, {}, {"files": 0, "unparsed": 0, "copies": 0}), seed).splits
        assert all(splits.values()) and sum(one.source[0] == "3" for one in splits["train"]) == 500
