"""Tagging schemes: what a file may hold, and what a model may learn; IOB2 in between. One line of a table each.

A tag is `O`, or a prefix, `-` and a type. IOB2: B- begins an entity and I- continues it. IOB1: B- only where two
entities of one type touch. IOBES: E- ends one, S- is one of a single unit. IOB2 repaired: an I- that continues nothing
begins an entity, as conlleval and seqeval (unless strict) read it.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass


def check_iob2(tags: Sequence[str]) -> tuple[int, str] | None:
    """The first tag that violates IOB2 (every entity begins with B-), and why; None where none does."""
    before = "O"
    for place, tag in enumerate(tags):
        if fault := _malformed(tag, "BI"):
            return place, fault
        if tag.startswith("I-") and before[2:] != tag[2:]:
            return (
                place,
                f"{tag} after {before}: in IOB2 an entity begins with B-{tag[2:]} (task.scheme=iob1 or iob2_repaired "
                f"allow this)",
            )
        before = tag
    return None


def check_prefixes(tags: Sequence[str]) -> tuple[int, str] | None:
    """The first tag that is none of IOB2 by itself, and why; None where all are."""
    return next(((place, fault) for place, tag in enumerate(tags) if (fault := _malformed(tag, "BI"))), None)


def check_iob1(tags: Sequence[str]) -> tuple[int, str] | None:
    """The first tag that violates IOB1 (B- only between neighbours of one type), and why; None where none does."""
    before = "O"
    for place, tag in enumerate(tags):
        if fault := _malformed(tag, "BI"):
            return place, fault
        if tag.startswith("B-") and before[2:] != tag[2:]:
            return place, f"{tag} after {before}: in IOB1 B- only separates adjacent entities of one type (is it IOB2?)"
        before = tag
    return None


def check_iobes(tags: Sequence[str]) -> tuple[int, str] | None:
    """The first tag that violates IOBES (B- I- ... E-, or S- alone), and why; None where none does."""
    before = "O"
    for place, tag in enumerate([*tags, "O"]):
        if fault := _malformed(tag, "BIES"):
            return place, fault
        if not follows_iobes(before, tag):
            after = tag if place < len(tags) else "the end"
            return min(place, len(tags) - 1), f"{after} after {before}: in IOBES an entity is B- I- ... E-, or S-"
        before = tag
    return None


def as_they_are(tags: Sequence[str]) -> list[str]:
    """No conversion: IOB2 is the scheme that everything else uses."""
    return list(tags)


def iob1_to_iob2(tags: Sequence[str]) -> list[str]:
    """An I- that continues nothing of its type becomes B-."""
    before, changed = "O", []
    for tag in tags:
        begins = tag.startswith("I-") and before[2:] != tag[2:]
        changed.append(f"B-{tag[2:]}" if begins else tag)
        before = tag
    return changed


def iobes_to_iob2(tags: Sequence[str]) -> list[str]:
    """E- becomes I- and S- becomes B-; a continuation of an entity that has ended, or never begun, begins one."""
    before, changed = "O", []
    for tag in tags:
        goes_on = tag[:2] in ("I-", "E-") and before[:2] in ("B-", "I-") and before[2:] == tag[2:]
        changed.append("O" if tag == "O" else f"{'I' if goes_on else 'B'}-{tag[2:]}")
        before = tag
    return changed


def iobes_by_prefix(tags: Sequence[str]) -> list[str]:
    """E- becomes I- and S- becomes B-, and nothing else: what continues nothing stays stray."""
    return [{"E": "I", "S": "B"}.get(tag[0], tag[0]) + tag[1:] for tag in tags]


def iob2_to_iobes(tags: Sequence[str]) -> list[str]:
    """An entity's last unit becomes E-, its only one S-."""
    changed = []
    for tag, after in zip(tags, [*tags[1:], "O"], strict=False):
        ends = tag != "O" and after != f"I-{tag[2:]}"
        changed.append(f"{'S' if tag[0] == 'B' else 'E'}-{tag[2:]}" if ends else tag)
    return changed


def follows_iob2(before: str, tag: str) -> bool:
    """Whether a tag may follow another; O is before the first and after the last."""
    return not tag.startswith("I-") or before[2:] == tag[2:]


def follows_iobes(before: str, tag: str) -> bool:
    """Whether a tag may follow another; O is before the first and after the last."""
    begun, goes_on = before[:2] in ("B-", "I-"), tag[:2] in ("I-", "E-")
    return begun == goes_on and (not begun or before[2:] == tag[2:])


@dataclass(frozen=True)
class Tagging:
    """A tagging scheme that a model learns.

    Attributes:
        prefixes: of each type's tags.
        from_iob2, to_iob2: conversions; to IOB2, no prediction is lost.
        with_strays: the conversion to IOB2 that leaves stray tags stray.
        follows: whether a tag may follow another.
    """

    prefixes: str
    from_iob2: Callable[[Sequence[str]], list[str]]
    to_iob2: Callable[[Sequence[str]], list[str]]
    with_strays: Callable[[Sequence[str]], list[str]]
    follows: Callable[[str, str], bool]


SCHEMES = {
    "iob2": (check_iob2, as_they_are),
    "iob2_repaired": (check_prefixes, iob1_to_iob2),
    "iob1": (check_iob1, iob1_to_iob2),
    "iobes": (check_iobes, iobes_to_iob2),
}
TAGGINGS = {
    "iob2": Tagging("BI", as_they_are, iob1_to_iob2, as_they_are, follows_iob2),
    "iobes": Tagging("BIES", iob2_to_iobes, iobes_to_iob2, iobes_by_prefix, follows_iobes),
}


def _malformed(tag: str, prefixes: str) -> str | None:
    if tag == "O" or (tag[:1] in prefixes and tag[1:2] == "-" and len(tag) > 2):
        return None
    known = ", ".join(f"{prefix}-TYPE" for prefix in prefixes)
    hint = ""
    if tag[:2] in ("E-", "S-"):
        hint = " (task.scheme=iobes has such tags)"
    elif tag[:2] in ("U-", "L-"):
        hint = " (of BILOU, U- is S- and L- is E- of task.scheme=iobes)"
    return f"{tag!r} is not a tag; O, {known} are{hint}"
