"""The formats of labelled files: rows with fields, sentences of tagged units, or questions. One line of FORMATS each.

FORMATS[name].read(path, needed)     # yields Row, Sentence, QuestionRow, Refused or PassedOver, in the file's order
"""

from finetune.formats.kinds import FIRST, LAST, Format
from finetune.formats.lists import TAGS, UNITS, read_character_lists, read_word_lists
from finetune.formats.squad import read_squad
from finetune.formats.squad_rows import read_squad_rows
from finetune.formats.tables import read_csv, read_json, read_jsonl, read_tsv
from finetune.formats.tagged import read_conll, read_klue, read_nemo

_COLUMNS = ("text", "text_pair", "label")
_NUMBERED = (FIRST, LAST)
_LISTS = (UNITS, TAGS)

FORMATS = {
    "tsv": Format(read_tsv, "rows", (*_COLUMNS, "quoting"), quoting=False),
    "csv": Format(read_csv, "rows", (*_COLUMNS, "quoting"), quoting=True),
    "jsonl": Format(read_jsonl, "rows", _COLUMNS),
    "json": Format(read_json, "rows", _COLUMNS),
    "conll": Format(read_conll, "words", ("text", "label"), _NUMBERED),
    "klue": Format(read_klue, "characters", columns=_NUMBERED),
    "nemo": Format(read_nemo, "words", columns=_NUMBERED),
    "word_lists": Format(read_word_lists, "words", ("text", "label"), _LISTS),
    "character_lists": Format(read_character_lists, "characters", ("text", "label"), _LISTS),
    "squad": Format(read_squad, "questions"),
    "squad_rows": Format(read_squad_rows, "questions"),
}
