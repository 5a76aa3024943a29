"""Progress where somebody watches, and in a log."""

import io

import pytest

from bert import progress as module
from bert.progress import progress


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def printed(stream: io.StringIO, monkeypatch) -> str:
    monkeypatch.setattr("sys.stderr", stream)
    for _ in progress(range(3), desc="reading", file=stream):
        pass
    return stream.getvalue()


def test_on_a_terminal_it_is_seen_at_once(monkeypatch):
    assert "reading" in printed(Terminal(), monkeypatch)


@pytest.mark.parametrize(("minute", "seen"), [(60.0, False), (0.0, True)])
def test_a_log_gets_a_line_for_what_takes_a_minute(minute, seen, monkeypatch):
    monkeypatch.setattr(module, "A_MINUTE", minute)
    assert ("reading" in printed(io.StringIO(), monkeypatch)) == seen
