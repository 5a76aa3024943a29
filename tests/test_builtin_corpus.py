import ast
import os
import re
import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest

from bert import builtin_corpus
from bert.builtin_corpus import prose
from bert.errors import UserError

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def written(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("builtin") / "new folder" / "corpus.txt"
    builtin_corpus.write(path)
    return path


@pytest.fixture(scope="module")
def documents(written) -> list[list[str]]:
    return [document.split("\n") for document in written.read_text("utf-8").removesuffix("\n").split("\n\n")]


def test_it_is_a_megabyte_of_documents_of_at_least_three_sentences(written, documents):
    assert 800_000 < written.stat().st_size < 4_000_000
    assert len(documents) > 500
    assert min(map(len, documents)) == 3


def test_a_sentence_has_four_words_is_mostly_letters_and_ends_as_one(documents):
    for sentence in (sentence for document in documents for sentence in document):
        assert len(re.findall(r"[A-Za-z]{1,}", sentence)) >= 4, sentence
        assert sum(map(str.isalpha, sentence)) >= 0.7 * len(sentence.replace(" ", "")), sentence
        assert sentence.rstrip("\"')")[-1] in ".!?", sentence
        assert sentence == " ".join(sentence.split())


def test_no_sentence_stands_twice(documents):
    sentences = [sentence for document in documents for sentence in document]
    assert len(sentences) == len(set(sentences))


def test_no_code_and_no_markup_is_left(written):
    assert not re.search(r">>>|`|:func:|:class:|\.\. \w+::|:param|====|::=|\t|^\s|^[*-] ", written.read_text("utf-8"))


def test_other_processes_write_the_same_bytes_whatever_their_state(written, tmp_path):
    code = "import sys, pathlib; from bert import builtin_corpus; builtin_corpus.write(pathlib.Path(sys.argv[1]))"
    state = {"PYTHONPATH": str(ROOT), "PYTHONHASHSEED": "7", "LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONOPTIMIZE": "2"}
    subprocess.run([sys.executable, "-c", code, tmp_path / "again"], env=os.environ | state, cwd=tmp_path, check=True)
    assert (tmp_path / "again").read_bytes() == written.read_bytes()


def test_nothing_unfinished_is_left_beside_it(written):
    assert list(written.parent.iterdir()) == [written]


THREE = "The first one is here. The second one is here. The third one is here."


def library(folder: Path, monkeypatch, **sources: str) -> Path:
    """A standard library of these files, with '__' for '/'."""
    for name, source in sources.items():
        path = folder / "lib" / (name.replace("__", "/") + ".py")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(source, "utf-8")
    monkeypatch.setattr(sysconfig, "get_paths", lambda: {"stdlib": str(folder / "lib")})
    return folder / "corpus.txt"


def test_sources_are_read_and_not_run(tmp_path, monkeypatch):
    path = library(tmp_path, monkeypatch, this=f'"""{THREE}"""\nraise SystemExit', pydoc_data__topics="topics = {}")
    builtin_corpus.write(path)
    assert path.read_text() == THREE.replace(". ", ".\n") + "\n"


def test_only_the_standard_library_itself_is_read(tmp_path, monkeypatch):
    other = f'"""{THREE} This one belongs to others."""'
    strangers = {"site-packages__json": other, "json__test__x": other, "mine": other, "idlelib__x": other}
    path = library(tmp_path, monkeypatch, json__decoder=f'"""{THREE}"""', pydoc_data__topics="topics = {}", **strangers)
    builtin_corpus.write(path)
    assert "others" not in path.read_text()


def test_sources_that_do_not_parse_are_left_out_and_counted(tmp_path, monkeypatch, capsys):
    path = library(
        tmp_path, monkeypatch, abc="def (", ast="\0", json=f'"""{THREE}"""', pydoc_data__topics="topics = {}"
    )
    builtin_corpus.write(path)
    assert path.read_text().count("\n") == 3
    assert "2 sources left out" in capsys.readouterr().err


def test_an_interpreter_without_sources_is_an_error_that_says_what_to_do(tmp_path, monkeypatch):
    path = library(tmp_path, monkeypatch, abc="")
    with pytest.raises(UserError, match=r"data\.train: .* give a corpus file"):
        builtin_corpus.write(path)
    assert not path.exists()


def sentences_about(name: str, number: int) -> str:
    return " ".join(f"The {name} has the number {number * 'very '}high." for number in range(1, number + 1))


def module(*lengths: int) -> ast.Module:
    classes = [f'class C{i}:\n    """{sentences_about(f"class {i}", n)}"""\n' for i, n in enumerate(lengths[1:])]
    return ast.parse(f'"""{sentences_about("module", lengths[0])}"""\n' + "".join(classes))


def test_a_long_module_is_cut_at_its_classes_and_a_short_one_is_not():
    assert [len(document) for document in builtin_corpus._module_documents(module(10, 20, 20))] == [10, 20, 20]
    assert [len(document) for document in builtin_corpus._module_documents(module(10, 5, 20))] == [35]


def test_a_part_of_less_than_three_sentences_goes_with_its_neighbour():
    assert [len(document) for document in builtin_corpus._module_documents(module(20, 2, 30, 2))] == [22, 32]
    assert [len(document) for document in builtin_corpus._module_documents(module(1, 40))] == [41]


def test_documents_keep_the_order_of_the_source():
    source = '''"""The module comes first of all."""
def f():
    """The function is the second one"""
class C:
    """The class is the third one."""
    if True:
        async def g(self):
            """The method comes at the end."""
'''
    assert list(builtin_corpus._module_documents(ast.parse(source))) == [
        [
            "The module comes first of all.",
            "The function is the second one.",
            "The class is the third one.",
            "The method comes at the end.",
        ]
    ]


@pytest.mark.parametrize(
    "text, sentences",
    [
        ("A paragraph that is\nwrapped twice in\nthe text. And\nthe next sentence is here.",
         ["A paragraph that is wrapped twice in the text.", "And the next sentence is here."]),
        ("This is what it does.\n\n>>> f(1)\nThis is the output of it.\n\nThis is text again.",
         ["This is what it does.", "This is text again."]),
        ("The title of it all\n===================\n\nThis is the text of it.", ["This is the text of it."]),
        ("Call it in this way:\n\n    x = f(1)\n    print(x)\n\nThat is all there is.", ["That is all there is."]),
        ("f(x, y=None) -> int\n\n   This is what it returns.", ["This is what it returns."]),
        ("Use :func:`~os.path.join` or ``len`` and the *second* or `third' one.",
         ["Use join or len and the second or third one."]),
        ("* The first item is\n  this one here.\n* The second item is this.",
         ["The first item is this one here.", "The second item is this."]),
        ("name     type     default\nspam     int      0\n\nThe table has two rows.", ["The table has two rows."]),
        (":param x: The value of it.\n:returns: The other value of it.", []),
        (".. versionadded:: 3.2\n   The thing that was added.\n\nThe text goes on here.", ["The text goes on here."]),
        ("Changed in version 3.5: It is now possible to do.", ["It is now possible to do."]),
        ("Note: The footnote [1]_ is not there.", ["The footnote is not there."]),
        ("Too short.\n\nx = y + z; a.b()\n\nand a fragment of it.", []),
    ],
)  # fmt: skip
def test_prose_is_what_reads_as_english(text, sentences):
    assert prose(text) == sentences


def test_a_summary_line_is_a_sentence_without_its_full_stop():
    assert prose("Return the name of it\n\nThe rest is a fragment", has_summary=True) == ["Return the name of it."]
    assert prose("Return the name of it") == []
