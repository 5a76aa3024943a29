"""Tagging schemes: IOB2 and IOB1 in, IOB2 inside. One line of SCHEMES each.

A tag is `O`, or `B-TYPE` or `I-TYPE`.
"""

from collections.abc import Sequence


def check_iob2(tags: Sequence[str]) -> tuple[int, str] | None:
    """The first tag that breaks IOB2 (every entity begins with B-), and why; None where all is well."""
    before = "O"
    for place, tag in enumerate(tags):
        if fault := _malformed(tag):
            return place, fault
        if tag.startswith("I-") and before[2:] != tag[2:]:
            return (
                place,
                f"{tag} after {before}: in IOB2 an entity begins with B-{tag[2:]} (task.scheme=iob1 allows this)",
            )
        before = tag
    return None


def check_iob1(tags: Sequence[str]) -> tuple[int, str] | None:
    """The first tag that breaks IOB1 (B- only between neighbours of one type), and why; None where all is well."""
    before = "O"
    for place, tag in enumerate(tags):
        if fault := _malformed(tag):
            return place, fault
        if tag.startswith("B-") and before[2:] != tag[2:]:
            return place, f"{tag} after {before}: in IOB1 B- stands between two entities of one type (is it IOB2?)"
        before = tag
    return None


def as_they_are(tags: Sequence[str]) -> list[str]:
    """IOB2 is what everything else reads."""
    return list(tags)


def iob1_to_iob2(tags: Sequence[str]) -> list[str]:
    """An I- that continues nothing of its type becomes B-."""
    before, changed = "O", []
    for tag in tags:
        begins = tag.startswith("I-") and before[2:] != tag[2:]
        changed.append(f"B-{tag[2:]}" if begins else tag)
        before = tag
    return changed


SCHEMES = {"iob2": (check_iob2, as_they_are), "iob1": (check_iob1, iob1_to_iob2)}


def _malformed(tag: str) -> str | None:
    if tag == "O" or (tag[:2] in ("B-", "I-") and len(tag) > 2):
        return None
    return f"{tag!r} is no tag; O, B-TYPE and I-TYPE are"
