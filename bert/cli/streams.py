"""Standard output and error that outlive their readers: `| head`, or a `tee` or a terminal that ends, stop no run."""

import contextlib
import errno
import io
import os
import sys
from collections.abc import Iterator

_NOBODY_READS = (errno.EPIPE, errno.EIO)  # a pipe, and a terminal that is gone

_KEPT: list["Outliving"] = []
"""All that were made: one that is collected closes the stream below it."""


class Outliving(io.TextIOWrapper):
    """Text into a pipe or a terminal; once nobody reads it any more, it goes nowhere."""

    def write(self, text: str) -> int:
        """Write text, or drop it."""
        with self._let_go():
            super().write(text)
        return len(text)

    def flush(self) -> None:
        """Pass on what was written, or drop it."""
        with self._let_go():
            super().flush()

    @contextlib.contextmanager
    def _let_go(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            if error.errno not in _NOBODY_READS:
                raise
            os.dup2(os.open(os.devnull, os.O_WRONLY), self.fileno())


@contextlib.contextmanager
def outliving_readers() -> Iterator[None]:
    """Let print() outlive its reader in the block; each line is passed on as it is printed, into a file as well."""
    before = sys.stdout, sys.stderr
    ours = [Outliving(stream.buffer, stream.encoding, stream.errors, line_buffering=True) for stream in before]
    _KEPT.extend(ours)
    sys.stdout, sys.stderr = ours
    try:
        yield
    finally:
        for stream in ours:
            stream.flush()
        # Another one may be there by now: ranks other than 0 print nothing.
        sys.stdout, sys.stderr = (
            back if now is own else now for back, now, own in zip(before, (sys.stdout, sys.stderr), ours, strict=True)
        )
