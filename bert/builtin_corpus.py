"""The built-in corpus: the English text in every Python interpreter, its language reference and docstrings.

Nothing is downloaded and nothing is imported: the sources are read with `ast`. What is not running text (code,
tables, signatures, headings, markup) is dropped.
"""

import ast
import os
import re
import sys
import sysconfig
import warnings
from collections.abc import Iterable, Iterator
from pathlib import Path

from bert import whole_file
from bert.counting import count_of
from bert.errors import UserError
from bert.sentence_splitter import split_sentences

_SKIPPED_FOLDERS = {"site-packages", "dist-packages", "__pycache__", "test", "tests", "ensurepip"}
_SKIPPED_FOLDERS |= {"idlelib", "lib2to3", "pydoc_data", "turtledemo"}
_FEWEST_SENTENCES = 3  # of a document
_LONG_MODULE = 40  # sentences from which each top-level class is a document of its own


def write(path: Path) -> None:
    """Write the corpus: a sentence per line, a blank line between documents; always the same for one interpreter.

    The file appears whole or not at all. Sources that cannot be read or parsed are left out, and their number printed.

    Raises:
        UserError: this interpreter comes without the sources of its standard library.
    """
    unread: list[Path] = []
    documents = list(_without_repeats(_documents(Path(sysconfig.get_paths()["stdlib"]), unread)))
    if not documents:
        raise UserError("data.train: this Python comes without its library's sources; give a corpus file.")
    if unread:
        print(f"built-in corpus: {count_of(len(unread), 'source')} left out, {unread[0]} the first", file=sys.stderr)
    whole_file.write(path, "\n".join("".join(f"{sentence}\n" for sentence in document) for document in documents))


def _without_repeats(documents: Iterable[list[str]]) -> Iterator[list[str]]:
    """Keep each sentence once in the whole corpus (docstrings are often copied); drop documents that get too short."""
    seen: set[str] = set()
    for document in documents:
        new = [sentence for sentence in dict.fromkeys(document) if sentence not in seen]
        if len(new) >= _FEWEST_SENTENCES:
            seen.update(new)
            yield new


def _documents(library: Path, unread: list[Path]) -> Iterator[list[str]]:
    """The documents of the language reference and of every module; sources left out go to `unread`."""
    for topic in _topics(_parse(library / "pydoc_data" / "topics.py", unread)):
        yield prose(topic)
    for source in sorted(_sources(library)):
        yield from _module_documents(_parse(source, unread))


def _sources(library: Path) -> Iterator[Path]:
    """The standard library's own files, not what was installed or left beside them."""
    for folder, subfolders, files in os.walk(library):
        subfolders[:] = [name for name in subfolders if name not in _SKIPPED_FOLDERS]
        for source in (Path(folder, name) for name in files if name.endswith(".py")):
            if source.relative_to(library).parts[0].removesuffix(".py") in sys.stdlib_module_names:
                yield source


def _parse(source: Path, unread: list[Path]) -> ast.Module:
    try:
        with warnings.catch_warnings():  # invalid escapes in old modules
            warnings.simplefilter("ignore")
            return ast.parse(source.read_bytes())
    except (OSError, SyntaxError, ValueError):
        unread.append(source)
        return ast.Module([], [])


def _topics(tree: ast.Module) -> list[str]:
    """The texts of the reference by topic, short ones first: some long ones repeat them."""
    tables = [ast.literal_eval(node.value) for node in tree.body if isinstance(node, ast.Assign)]
    return sorted((text for table in tables for text in table.values()), key=lambda text: (len(text), text))


def _module_documents(tree: ast.Module) -> Iterator[list[str]]:
    """A module's documents: the whole of it or, if it is long, each class and what lies between them."""
    parts = [_docstring_sentences(tree)]
    for node in tree.body:
        sentences = [sentence for part in _walk(node) for sentence in _docstring_sentences(part)]
        if isinstance(node, ast.ClassDef):
            parts += [sentences, []]  # what follows is not part of the class
        else:
            parts[-1] += sentences
    whole = [sentence for part in parts for sentence in part]
    yield from _merged(parts) if len(whole) >= _LONG_MODULE else [whole]


_Documented = ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef


def _walk(node: ast.AST) -> Iterator[_Documented]:
    """The node and the classes and functions in it, in source order."""
    if isinstance(node, _Documented):
        yield node
    for child in getattr(node, "body", []):
        yield from _walk(child)


def _merged(parts: list[list[str]]) -> list[list[str]]:
    """Merge each part with the one before if either is too short."""
    documents: list[list[str]] = []
    for part in parts:
        if documents and min(len(part), len(documents[-1])) < _FEWEST_SENTENCES:
            documents[-1] += part
        else:
            documents.append(list(part))
    return documents


def _docstring_sentences(node: _Documented) -> list[str]:
    docstring = ast.get_docstring(node)
    return prose(docstring, has_summary=True) if docstring else []


# From documentation to prose.

_ORNAMENT = re.compile(r"([^\w\s>])\1{2,}\W*")  # the line under a heading or around a table
_CODE = re.compile(r">>>|\.\.\.( |$)|\$ |#|@\w+$|\.\. |[:@]\w+( [\w*.]+)*:( |$)")  # also directives and field lists
_SIGNATURE = re.compile(r"[\w.]+ ?\(.*\)( *(->|=>|--|:).*)?|class \w+(\(.*\))?:|def \w+\(.*|from \S+ import .*")
_TABLE = re.compile(r"\S {3,}\S|[^.?!:;)\"'] {2,}\S+( \S+)* {2,}\S|\|.*\|")
_ITEM = re.compile(  # a bullet, or: name -- what it is
    r"^([*+•o-] +(?=\S)|\(?(\d+|[a-z])[.)] +|\[\d+\] +|[\w.*'\"`/<>-]+(\([^)]*\))?( -{1,2} |: +(?=[A-Z])))+"
)
_HYPHENATED = re.compile(r"(?<=[a-z])- (?=[a-z]{2})(?!and |or )")  # at the end of a line
_SHORT_LINE = 45  # characters; a line after a longer one continues it, however it is indented


def prose(documentation: str, has_summary: bool = False) -> list[str]:
    """The whole English sentences of a documentation text, in order.

    Args:
        documentation: plain or reST-like text.
        has_summary: its first paragraph is a sentence, even without a full stop.
    """
    paragraphs = [_plain(paragraph) for paragraph in _paragraphs(documentation.expandtabs().split("\n"))]
    if has_summary and paragraphs and re.search(r"[\w'\")]$", paragraphs[0]):
        paragraphs[0] += "."
    sentences = [sentence for paragraph in paragraphs for sentence in split_sentences(paragraph)]
    return [sentence for sentence in sentences if _is_english(sentence)]


def _paragraphs(lines: list[str]) -> Iterator[str]:
    """Running text, unwrapped; code, tables, headings and signatures are left out."""
    paragraph: list[str] = []
    skipping = False  # until the next blank line
    depth, before = 0, "blank"  # indentation and kind of the line before
    for line in [*lines, ""]:
        text = line.strip()
        indentation = len(line) - len(line.lstrip())
        kind = _kind(text)
        skipping = text != "" and (skipping or kind == "code")
        if kind == "ornament" and len(paragraph) == 1:
            paragraph.clear()  # the heading
        hangs = before == "item" and indentation > depth
        moved = indentation != depth and not hangs and not (paragraph and len(paragraph[-1]) >= _SHORT_LINE)
        if paragraph and (skipping or moved or kind != "text"):
            yield _HYPHENATED.sub("-", " ".join(paragraph))
            paragraph.clear()
        if not skipping and kind in ("text", "item"):
            paragraph.append(_ITEM.sub("", text, count=1))
        depth, before = indentation, kind


def _kind(text: str) -> str:
    """The kind of a stripped line: blank, ornament, code, table, item (of a list) or text."""
    if not text:
        return "blank"
    if _ORNAMENT.fullmatch(text):
        return "ornament"
    if _CODE.match(text) or _SIGNATURE.fullmatch(text):
        return "code"
    if _TABLE.search(text):
        return "table"
    return "item" if _ITEM.match(text) else "text"


_ROLE = re.compile(r":[\w:]+:`~?(?:[^`<]*\.)?([^`<]+?)(?: *<[^`]*>)?`")
_QUOTED = re.compile(r"``(.+?)``|`([^`']+)[`']")
_STRESSED = re.compile(r"(?<![\w*])(\*{1,2})(?=[^\s*])([^*]+?)(?<=\S)\1(?![\w*])")
_FOOTNOTE = re.compile(r" ?\[\d+\]_?")
_LABEL = re.compile(  # Changed in version 3.5: It
    r"((Changed|New|Deprecated|Added|Removed)[\w ,.]* version [\d., ]+(\w+ [\d.]+)?|CPython implementation detail"
    r"|[A-Z][\w ]{2,12}): +(?=[A-Z\"'(])"
)


def _plain(text: str) -> str:
    """Without markup, and without a leading label (Note:)."""
    text = _ROLE.sub(r"\1", text)
    text = _QUOTED.sub(lambda match: match[1] or match[2], text)
    text = _STRESSED.sub(r"\2", text)
    text = _FOOTNOTE.sub("", _LABEL.sub("", text, count=1))
    return " ".join(text.replace("`", "").split())


_SENTENCE = re.compile(r"(?:[\"'(]*[A-Z]|\(?[\"'][\w.]+[\"'],? ).*[.!?][\"')]*")
_NAMED_SENTENCE = re.compile(  # foldspaces is a flag.
    r"(?!(?:the|an?|all|which|that|it|this|and|or|but|there|if|as|what|where|when|who)\b)[a-z_][\w.]*(?:\(\))? "
    r"(?:is|are|was|should|must|can|may|will|has|defaults|does|\w{3,}s) .*\.[\"')]*"
)
_PLAIN_WORD = re.compile(r"[\"'(]*[A-Za-z]+(?:['/-][A-Za-z]+)*[\"')]*[.,:;!?]*[\"')]*")
_UNLIKE_PROSE = re.compile(r"[{}|\\^~]|XXX|(=.*){3}|://|\.\.\.|::|%\(|, ?\[")
_COMMON_WORD = re.compile(
    r"\b(the|an?|is|are|of|to|and|in|if|for|with|by|that|this|it|be|not|or|on|as|from|when|has|have|can|may)\b"
)


def _is_english(sentence: str) -> bool:
    """A whole sentence of at least four words, mostly plain ones."""
    if not (_SENTENCE.fullmatch(sentence) or _NAMED_SENTENCE.fullmatch(sentence)):
        return False
    if _UNLIKE_PROSE.search(sentence) or sentence.count("(") != sentence.count(")"):
        return False
    words = sentence.split()
    plain = sum(_PLAIN_WORD.fullmatch(word) is not None for word in words)
    letters = sum(map(str.isalpha, sentence))
    if plain < max(4, 0.7 * len(words)) or letters < 0.7 * sum(map(len, words)):
        return False
    return sum(map(str.islower, words)) > 2 or _COMMON_WORD.search(sentence) is not None
