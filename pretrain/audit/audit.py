"""The verb audit, and the short audit at the start of each run."""

import json
from dataclasses import asdict
from pathlib import Path

from bert.counting import count_of
from bert.errors import UserError, refuse_if
from pretrain.audit import picture
from pretrain.audit.checks import Check, check
from pretrain.audit.copies import duplicates
from pretrain.audit.measures import Measures, measure
from pretrain.config import PretrainConfig
from pretrain.data import Sampler
from pretrain.text import TextToLearn

FILES = ("audit.json", "audit.png")


def audit(sampler: Sampler, text: TextToLearn, config: PretrainConfig) -> None:
    """Measure `audit.sequences` sequences, write audit.json and audit.png into the output folder, print the table.

    Raises:
        UserError: a breach that audit.allow does not name.
    """
    measures = measure(sampler, config.audit.sequences)
    checks = check(measures, sampler, text, config)
    folder = Path(config.output)
    folder.mkdir(parents=True, exist_ok=True)
    numbers = in_numbers(measures, text, sampler.num_blocks)
    described = {"checks": [asdict(found) for found in checks], "measures": numbers}
    (folder / FILES[0]).write_text(json.dumps(described, indent=2) + "\n", encoding="utf-8")
    picture.draw(measures, checks, folder / FILES[1])
    print(in_words(numbers, checks))
    allowed = set(config.audit.allow)
    refuse_if(
        [
            f"audit: {found.name}: asked for {found.asked}, found {found.found}. See {folder / FILES[0]}; to run "
            f"anyway: --audit.allow '[{found.name}]'."
            for found in checks
            if found.breach and found.name not in allowed
        ]
    )


def in_words(numbers: dict, checks: list[Check]) -> str:
    """The table of checks, and a line of further figures."""
    width, asked = (max(len(getattr(check, name)) for check in checks) for name in ("name", "asked"))
    of_them = f"{count_of(numbers['sequences'], 'sequence')}, {numbers['tokens']:,} tokens"
    lines = [f"audit of {of_them}: {_extent(numbers['epochs'])}"]
    lines += [
        f"  {check.status:<6}  {check.name:<{width}}  asked {check.asked:<{asked}}  {check.found}" for check in checks
    ]
    lines.append(
        f"  over all of these: {numbers['tokens_per_sequence']:.0f} tokens a sequence; "
        f"{numbers['truncated_share']:.2%} of the sequences' tokens cut off; "
        f"{numbers['unknown_share']:.2%} of those left [UNK]; "
        f"in the training text {count_of(numbers['duplicate_documents'], 'duplicate document')}"
    )
    return "\n".join(lines)


def _extent(epochs: float) -> str:
    """How much of the text was measured."""
    if epochs < 1:
        return f"the first {epochs:.1%} of an epoch"
    return "one epoch" if epochs == 1 else f"{epochs:.3g} epochs"


def in_numbers(measures: Measures, text: TextToLearn, num_blocks: int) -> dict:
    """The measures, for audit.json; `num_blocks` is how many blocks make up an epoch."""
    counts = measures.counts
    if not counts["sequences"]:
        raise UserError("audit: the training text gives no sequence at all.")
    return {
        "sequences": counts["sequences"],
        "tokens": counts["tokens"],
        "epochs": counts["blocks"] / num_blocks,
        "tokens_per_sequence": counts["tokens"] / counts["sequences"],
        "masked_share": counts["masked"] / max(1, counts["maskable"]),
        "truncated_share": counts["tokens_truncated"] / (counts["tokens"] + counts["tokens_truncated"]),
        "unknown_share": counts["unknown"] / counts["tokens"],
        "duplicate_documents": duplicates(text.source.document_hashes, text.train_documents),
        "length_buckets": measures.lengths.tolist(),
        "labels_by_length_bucket": measures.labels_by_length.tolist(),
        "labels_by_longer_side": dict(zip("ab", measures.labels_by_sides.tolist(), strict=True)),
        "words_in_a_unit": {length: count for length, count in sorted(measures.span_lengths.items()) if count},
        "counts": dict(counts),
    }
