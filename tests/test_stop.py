import os
import signal

import pytest

from pipeline.train.progress import StopRequested, listen_for_stop


@pytest.mark.parametrize("signum", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_is_remembered_and_the_handlers_come_back(signum):
    before = signal.getsignal(signum)
    with pytest.raises(StopRequested), listen_for_stop() as stop:
        assert not stop
        os.kill(os.getpid(), signum)
        assert stop
        assert stop.signum == signum
        raise StopRequested(stop.signum)
    assert signal.getsignal(signum) is before


def test_a_signal_that_nothing_stopped_for_is_raised_again_at_the_end():
    with pytest.raises(KeyboardInterrupt), listen_for_stop():
        os.kill(os.getpid(), signal.SIGINT)


def test_a_second_ctrl_c_does_not_wait():
    with pytest.raises(KeyboardInterrupt), listen_for_stop():
        os.kill(os.getpid(), signal.SIGINT)
        os.kill(os.getpid(), signal.SIGINT)


@pytest.mark.parametrize(("signum", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130), (0, 143)])
def test_the_exit_code_is_the_shells(signum, code):
    assert StopRequested(signum).exit_code == code
