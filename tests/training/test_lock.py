"""One run at a time in a folder."""

import errno
import fcntl
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from bert.errors import UserError
from bert.training import lock

HOLD = "import sys, time\nfrom bert.training import lock\nfrom pathlib import Path\n"
HOLD += "with lock.hold(Path(sys.argv[1])):\n    print('held', flush=True)\n    time.sleep(60)\n"


def test_the_second_is_refused_and_told_who_the_first_is(tmp_path):
    with lock.hold(tmp_path / "run"):
        said = rf"^output: '.*/run' is in use by process {os.getpid()} on .* \(since .*\)"
        with pytest.raises(UserError, match=said), lock.hold(tmp_path / "run"):
            pass
    with lock.hold(tmp_path / "run"):
        pass


def test_a_killed_process_holds_nothing(tmp_path):
    other = subprocess.Popen([sys.executable, "-c", HOLD, str(tmp_path)], stdout=subprocess.PIPE, text=True)
    assert other.stdout.readline() == "held\n"
    with pytest.raises(UserError, match=f"is in use by process {other.pid} on"), lock.hold(tmp_path):
        pass
    other.kill()
    other.wait()
    other.stdout.close()
    with lock.hold(tmp_path):
        pass


def test_a_file_is_no_folder(tmp_path):
    (tmp_path / "file").touch()
    with (
        pytest.raises(UserError, match=r"^output: '.*/file' is a file; a run needs a folder\.$"),
        lock.hold(tmp_path / "file"),
    ):
        pass


@pytest.mark.parametrize("name", ["x" * 300, "file/below"])
def test_a_place_that_cannot_be_written_to_is_named(name, tmp_path):
    (tmp_path / "file").touch()
    said = r"^output: cannot write to '.*': (File name too long|Not a directory)\.$"
    with pytest.raises(UserError, match=said), lock.hold(tmp_path / name):
        pass


def test_spaces_and_hangul_are_as_good_as_any(tmp_path):
    folder = tmp_path / "한글 이름 와 공백"
    with lock.hold(folder):
        assert Path(folder / ".lock").is_file()


def test_on_a_file_system_without_locks_a_run_goes_on_as_if_alone(tmp_path, monkeypatch):
    def unsupported(*_) -> None:
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(fcntl, "flock", unsupported)
    with pytest.warns(UserWarning, match="cannot lock the files .*: No locks"), lock.hold(tmp_path / "run"):
        assert (tmp_path / "run" / ".lock").is_file()


def test_an_error_inside_is_the_one_that_is_told_even_where_the_folder_is_gone(tmp_path):
    with pytest.raises(ValueError, match="the real one"), lock.hold(tmp_path / "run"):
        shutil.rmtree(tmp_path / "run")
        raise ValueError("the real one")
