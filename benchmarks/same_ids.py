"""Whether transformers' AutoTokenizer gives a folder's tokenizer our ids, on every line of a text.

python -m benchmarks.same_ids --folder runs/original --text corpus.txt --lines 100000
"""

import argparse
import json
from itertools import islice

from bert.hub import open_folder


def main() -> None:
    """Compare line by line, and say how many differ."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", required=True, help="a model's folder")
    parser.add_argument("--text", required=True, help="a text file; blank lines are skipped")
    parser.add_argument("--lines", type=int, default=100_000, help="how many of its lines, at most")
    arguments = parser.parse_args()
    from transformers import AutoTokenizer

    theirs, ours = AutoTokenizer.from_pretrained(arguments.folder), open_folder(arguments.folder, "--folder").tokenizer
    compared = differing = tokens = 0
    with open(arguments.text, encoding="utf-8") as text:
        lines = (line for line in (line.rstrip("\n") for line in text) if line)
        while some := list(islice(lines, min(1000, arguments.lines - compared))):
            for line, ids in zip(some, theirs(some)["input_ids"], strict=True):
                mine = ours.encode(line)
                tokens += len(mine)
                differing += mine != ids
            compared += len(some)
    print(json.dumps({"lines": compared, "tokens": tokens, "lines_that_differ": differing}))


if __name__ == "__main__":
    main()
