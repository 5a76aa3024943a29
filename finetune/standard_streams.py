"""Standard input and output for use in a pipe: each line is passed on as it arrives."""

import os
import sys
from collections.abc import Iterable, Iterator

NAME = "-"
"""The file name that stands for standard input or output."""

_CHUNK = 1 << 16  # bytes


def arriving_lines() -> Iterator[list[bytes]]:
    """The lines of standard input: all that have arrived, at once; waits only if there are none."""
    rest: list[bytes] = []
    while chunk := sys.stdin.buffer.read1(_CHUNK):
        first, *others = chunk.split(b"\n")
        rest.append(first)
        if others:
            yield [b"".join(rest), *others[:-1]]
            rest = [others[-1]]
    if last := b"".join(rest):
        yield [last]


def write_lines(lines: Iterable[str]) -> int:
    """Write lines to standard output in UTF-8, flushing each; returns how many. The reader may stop early."""
    output, count = sys.stdout.buffer, 0
    try:
        for line in lines:
            output.write(f"{line}\n".encode())
            output.flush()
            count += 1
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # for Python's own flush at exit
    return count
