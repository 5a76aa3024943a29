import gc
import io
import signal
import subprocess
import sys
from pathlib import Path

from bert.cli.streams import outliving_readers
from bert.training.stopping import EXIT_CODE

ROOT = Path(__file__).parents[1]

RUN = """
import sys, time
from bert.cli.streams import outliving_readers
from bert.training.stopping import EXIT_CODE, stop_requests
with outliving_readers(), stop_requests() as asked:
    print('ready')
    while not (asked() or sys.stdin.readline()):
        time.sleep(0.01)
    for _ in range(3):
        print('more', 100_000 * 'and ')
        print('more', file=sys.stderr)
sys.exit(EXIT_CODE)
"""


def start() -> subprocess.Popen:
    """A run that has printed a line, and whose reader is gone."""
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.STDOUT}
    process = subprocess.Popen([sys.executable, "-c", RUN], cwd=ROOT, **pipes)
    assert process.stdout.readline() == b"ready\n"  # passed on before the next one
    process.stdout.close()
    return process


def test_a_run_whose_reader_ends_goes_on_to_its_end():
    process = start()
    process.stdin.write(b"go on\n")
    process.stdin.close()
    assert process.wait(timeout=60) == EXIT_CODE


def test_a_run_whose_reader_the_same_signal_ended_is_stopped_like_any_other():
    """Ctrl-C in `python run.py ... 2>&1 | tee log` ends tee too."""
    process = start()
    process.send_signal(signal.SIGINT)
    process.stdin.close()
    assert process.wait(timeout=60) == EXIT_CODE


def test_a_stream_that_was_put_there_meanwhile_stays_and_the_ones_before_still_work(capfd, monkeypatch):
    before = sys.stdout
    monkeypatch.setattr(sys, "stdout", before)  # to be put back
    with outliving_readers():
        sys.stdout = silent = io.StringIO()
        gc.collect()
    assert sys.stdout is silent
    print("still", file=before, flush=True)
    assert capfd.readouterr().out == "still\n"


def test_what_is_printed_is_unchanged_and_the_streams_are_put_back(capfd):
    before = sys.stdout, sys.stderr
    with outliving_readers():
        print("가나다", end="")
        print("error", file=sys.stderr)
    assert (sys.stdout, sys.stderr) == before
    assert tuple(capfd.readouterr()) == ("가나다", "error\n")
