import os
import re

import pytest

from bert.errors import UserError
from pretrain.corpus_files import named_files


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """The working folder: b.txt, a.txt, c.jsonl, odd[1].txt, and more/d.txt below it."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "more").mkdir()
    for name in ("b.txt", "a.txt", "c.jsonl", "odd[1].txt", "more/d.txt", ".hidden.txt"):
        (tmp_path / name).write_text("a\n")
    return tmp_path


@pytest.mark.parametrize(
    "named, files",
    [
        ("b.txt", ["b.txt"]),
        ("not_there.txt", ["not_there.txt"]),  # whoever opens it says so
        ("*.txt", ["a.txt", "b.txt", "odd[1].txt"]),
        ("odd[1].txt", ["odd[1].txt"]),
        ("[bc].*", ["b.txt", "c.jsonl"]),
        ("mor?/*", ["more/d.txt"]),
        ("m*", None),  # a folder only
        ("**/*.txt", ["a.txt", "b.txt", "more/d.txt", "odd[1].txt"]),
        (["b.txt", "a.txt"], ["b.txt", "a.txt"]),
        (["more/*.txt", "b.txt"], ["more/d.txt", "b.txt"]),
        ("x*.txt", None),
        (["a.txt", "x*.txt"], None),
    ],
)
def test_paths_and_patterns_name_files_in_order(folder, named, files):
    if files is not None:
        assert list(map(str, named_files(named, "data.train"))) == files
        return
    pattern = named if isinstance(named, str) else named[-1]
    with pytest.raises(UserError, match=re.escape(f"data.train: no file matches {pattern!r}.")):
        named_files(named, "data.train")


@pytest.mark.parametrize(
    "again, said",
    [("a.txt", "a.txt"), ("./a.txt", "a.txt"), ("more/../a.txt",) * 2, ("[ab].txt", "a.txt"), ("link", "link")],
)
def test_a_file_named_twice_is_refused(folder, again, said):
    os.symlink("a.txt", folder / "link")
    with pytest.raises(UserError, match=re.escape(f"data.valid: one file is named more than once: a.txt, {said}.")):
        named_files(["a.txt", again], "data.valid")


@pytest.mark.parametrize("named", ["[1, 2]", "[a.txt, 2019]"])
def test_a_list_that_is_none_of_names_is_not_taken_for_a_pattern(folder, named):
    (folder / "1").write_text("a\n")
    with pytest.raises(
        UserError, match=r"data\.train: \[.*\] is no list of names; put a name that reads as a number in"
    ):
        named_files(named, "data.train")


@pytest.mark.parametrize(
    "named, said",
    [
        ([], "an empty list; name one file at least"),
        ("", "'' names no file"),
        ("a.txt,b.txt", "no such file: 'a.txt,b.txt'; a list is written as \"[a.txt, b.txt]\""),
    ],
)
def test_what_names_no_file_is_refused_with_what_would(folder, named, said):
    with pytest.raises(UserError, match=re.escape(f"data.train: {said}.")):
        named_files(named, "data.train")
