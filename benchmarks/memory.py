"""Peak memory of training over a few steps, ours and transformers', each in a process of its own.

    python -m benchmarks.memory --text ko_corpus_small.txt

On a CPU resident memory, beyond that before the model; on a GPU what PyTorch allocated.
"""

from benchmarks.same_work import (
    apart,
    apart_for_peer,
    described,
    parser,
    peak_mb,
    prepare_again,
    prepare_for_peer,
    report,
    spread,
)
from benchmarks.throughput import Ours, Theirs


def main() -> None:
    """Measure in turn and report."""
    options = parser(__doc__)
    options.add_argument("--steps", type=int, default=4, help="steps in each measurement")
    options.add_argument("--rounds", type=int, default=3)
    options.add_argument("--peer_attention", default="eager", help="eager or sdpa")
    arguments = options.parse_args()
    common = apart(described, arguments)
    found = {name: [] for name in ("ours", "theirs")}
    for _ in range(arguments.rounds):
        found["ours"].append(apart(_measured, "ours", arguments))
        found["theirs"].append(apart_for_peer(arguments, _measured, "theirs", arguments))
        print(f"ours {found['ours'][-1]:,.0f} MB, transformers {found['theirs'][-1]:,.0f} MB", flush=True)
    ratios = [a / b for a, b in zip(found["ours"], found["theirs"], strict=True)]
    figures = {"mb": spread(found["ours"]), "mb_peer": spread(found["theirs"]), "ratio": spread(ratios)}
    report(common | figures, arguments.json)


def _measured(name: str, arguments) -> float:
    """One side's peak memory, in MB."""
    work = prepare_again(arguments) if name == "ours" else prepare_for_peer(arguments)
    before = peak_mb(work.device)
    if name == "ours":
        Ours(work).run(arguments.steps)
    else:
        theirs = Theirs(work, arguments.peer_attention, compiled=False)
        theirs.run(theirs.batches(arguments.steps)[1])
    return peak_mb(work.device) - before


if __name__ == "__main__":
    main()
