"""Labelled data made from the built-in corpus, for demonstration: labelled by rules, not by annotators.

Classification: the subject of a passage, by what its document mentions most. NER: exceptions, built-in functions,
types, modules, keywords and constants in prose, by Python's own lists of their names.
"""

import builtins
import keyword
import re
import sys
from collections.abc import Iterator
from pathlib import Path

from bert import builtin_corpus, whole_file
from finetune.config import DataConfig, TaskConfig
from finetune.tasks import TASKS

_FOLDER = Path("runs/cache")

# A subject, and words that documents on it use and others rarely do.
_SUBJECTS = {
    "files": "file files directory directories path filename archive zip tar disk folder",
    "network": "server client socket http url request response email smtp header connection",
    "text": "string strings unicode encoding character characters text regular pattern bytes",
    "concurrency": "thread threads process processes lock coroutine task event loop asyncio queue future",
    "numbers": "number numbers integer float decimal digits arithmetic random precision",
    "classes": "class classes method methods attribute attributes instance inheritance descriptor metaclass",
}


def files(task: TaskConfig) -> DataConfig:
    """Write the demonstration's training and evaluation files; returns how they are read."""
    _FOLDER.mkdir(parents=True, exist_ok=True)
    corpus = _FOLDER / "builtin.txt"
    if not corpus.is_file():
        builtin_corpus.write(corpus)
    name, rows = MADE[TASKS[task.name].kind]
    paths = {part: _FOLDER / f"builtin_{task.name}_{part}.{name}" for part in ("train", "eval")}
    documents = corpus.read_text(encoding="utf-8").split("\n\n")
    for part, path in paths.items():
        # Every sixth document is for evaluation as a whole, so that no sentence's neighbour is trained on.
        of_part = [d for number, d in enumerate(documents) if (number % 6 == 0) == (part == "eval")]
        whole_file.write(path, "".join(rows(of_part)))
    return DataConfig(train=str(paths["train"]), eval=str(paths["eval"]), format=name, max_length=128)


def _topics(documents: list[str]) -> Iterator[str]:
    yield "text\tlabel\n"
    for document in documents:
        words = re.findall(r"[a-z]+", document.lower())
        scores = {name: sum(words.count(word) for word in clues.split()) for name, clues in _SUBJECTS.items()}
        subject = max(scores, key=scores.get)
        if scores[subject] < 3 or scores[subject] < 0.5 * sum(scores.values()):
            continue
        sentences = document.strip().split("\n")
        for start in range(0, len(sentences) - 1, 2):
            yield f"{' '.join(sentences[start : start + 2])}\t{subject}\n".replace("\u2028", " ")


def _tagged(documents: list[str]) -> Iterator[str]:
    kinds = _kinds()
    for document in documents:
        for sentence in document.strip().split("\n"):
            words = list(re.finditer(r"\w+|[^\w\s]", sentence))
            tags = [_tag(word, sentence, kinds) for word in words]
            if any(tag != "O" for tag in tags):
                yield "".join(f"{word[0]}\t{tag}\n" for word, tag in zip(words, tags, strict=True)) + "\n"


def _tag(word: re.Match, sentence: str, kinds: dict[str, str]) -> str:
    """Names that are also English words count only where the text marks them as code, or says what they are."""
    kind = kinds.get(word[0])
    before, after = sentence[: word.start()], sentence[word.end() :]
    quoted = before[-1:] in ('"', "'", "`") and after[:1] == before[-1:]
    shown = {
        None: False,
        "EXCEPTION": True,
        "CONSTANT": True,
        "KEYWORD": quoted,
        "FUNCTION": quoted or after.startswith("("),
        "TYPE": quoted or after.startswith(("(", " object", " instance")),
        "MODULE": after.startswith(" module") or re.match(r"\.[a-z]", after),
    }
    return f"B-{kind}" if shown[kind] else "O"


def _kinds() -> dict[str, str]:
    kinds = {name: "MODULE" for name in sys.stdlib_module_names if not name.startswith("_")}
    del kinds["this"]  # an easter egg, and an English word
    for name, value in vars(builtins).items():
        if isinstance(value, type) and issubclass(value, BaseException):
            kinds[name] = "EXCEPTION"
        elif isinstance(value, type):
            kinds[name] = "TYPE"
        elif callable(value) and not name.startswith("_"):
            kinds[name] = "FUNCTION"
    constants = ("None", "True", "False", "NotImplemented", "Ellipsis")
    return kinds | dict.fromkeys(keyword.kwlist, "KEYWORD") | dict.fromkeys(constants, "CONSTANT")


MADE = {"labels": ("tsv", _topics), "tags": ("conll", _tagged)}
"""The kinds of example that builtin has: their format, and what yields its lines."""
