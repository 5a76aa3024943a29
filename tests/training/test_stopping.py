import os
import signal
import threading

import pytest

from bert.training.stopping import EXIT_CODE, note_last_step, stop_requests


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_a_signal_is_noted_and_said_and_does_not_interrupt(number, capfd):
    with stop_requests() as asked:
        assert not asked()
        os.kill(os.getpid(), number)
        assert asked()
    assert f"{signal.Signals(number).name}: saving after this step, then stopping." in capfd.readouterr().err


SAVING = "\nSIGTERM: saving after this step, then stopping.\n"
ENDING = "\nSIGTERM: the last step is done; the run ends as usual, after evaluating and saving.\n"


def test_a_signal_after_the_last_step_is_said_to_stop_nothing(capfd):
    with stop_requests():
        note_last_step(True)
        os.kill(os.getpid(), signal.SIGTERM)
        assert capfd.readouterr().err == ENDING
        note_last_step(False)  # the next run's first step
        os.kill(os.getpid(), signal.SIGTERM)
        assert capfd.readouterr().err == SAVING
        note_last_step(True)
        note_last_step(True)
        assert capfd.readouterr().err == ENDING  # once
    note_last_step(True)
    with stop_requests():
        os.kill(os.getpid(), signal.SIGTERM)
        assert capfd.readouterr().err == SAVING


def test_under_nohup_a_run_is_not_stopped_when_its_terminal_ends():
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with stop_requests() as asked:
            os.kill(os.getpid(), signal.SIGHUP)
            assert not asked()
    finally:
        signal.signal(signal.SIGHUP, before)


def test_a_second_interrupt_interrupts_at_once():
    with pytest.raises(KeyboardInterrupt), stop_requests():
        os.kill(os.getpid(), signal.SIGTERM)
        os.kill(os.getpid(), signal.SIGINT)


def test_a_second_term_is_patient():
    with stop_requests() as asked:
        os.kill(os.getpid(), signal.SIGTERM)
        os.kill(os.getpid(), signal.SIGTERM)
        assert asked()


def test_the_handlers_of_before_are_put_back():
    before = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]
    with pytest.raises(ZeroDivisionError), stop_requests():
        raise ZeroDivisionError
    assert [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)] == before


def test_another_thread_is_never_asked_to_stop():
    found = []

    def work() -> None:
        with stop_requests() as asked:
            found.append(asked())

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert found == [False]


def test_the_exit_code_is_that_of_a_temporary_failure():
    assert EXIT_CODE == os.EX_TEMPFAIL == 75


def test_what_came_before_the_loop_is_known_in_it():
    with stop_requests() as outer:
        os.kill(os.getpid(), signal.SIGTERM)
        with stop_requests() as inner:
            assert outer() and inner()
            os.kill(os.getpid(), signal.SIGTERM)
        with stop_requests() as again:
            assert again()
    assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL
