"""Standard input and output as a pipe needs them: each line is handed on as it comes."""

import os
import sys
from collections.abc import Iterable, Iterator

NAME = "-"
"""What stands for standard input or output where a file is named."""

_CHUNK = 1 << 16  # bytes


def arriving_lines() -> Iterator[list[bytes]]:
    """The lines of standard input: those that are there, at once; only where there is none, it is waited for one."""
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
    """Write lines to standard output in UTF-8, each at once; says how many. Whoever reads may stop before the end."""
    output, count = sys.stdout.buffer, 0
    try:
        for line in lines:
            output.write(f"{line}\n".encode())
            output.flush()
            count += 1
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # for what Python itself flushes at its end
    return count
