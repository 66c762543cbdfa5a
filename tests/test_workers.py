import itertools
import os
import pathlib
import signal
import sys
import time

import pytest

from pipeline.convert.workers import Workers
from pipeline.errors import InputError, TryAgainError
from tests.helpers import faults

KINDS = [(1, False), (2, False), (2, True)]


@pytest.mark.parametrize(("count", "processes"), KINDS)
def test_results_come_in_order(count, processes):
    with Workers(count, processes) as workers:
        assert list(workers.ahead(abs, range(-50, 0))) == list(range(50, 0, -1))


def test_one_worker_is_the_caller():
    with Workers(1, processes=True) as workers:
        assert list(workers.ahead(lambda _: os.getpid(), [1])) == [os.getpid()]


@pytest.mark.parametrize(("count", "processes"), KINDS)
def test_few_items_are_taken_before_their_turn(count, processes):
    taken = itertools.count()
    with Workers(count, processes) as workers:
        results = workers.ahead(abs, (next(taken) for _ in range(1000)))
        next(results)
        assert next(taken) < 10
        results.close()


def refuse(_):
    raise InputError("a.csv, line 3: wrong")


@pytest.mark.parametrize(("count", "processes"), KINDS)
def test_error_of_an_item_is_raised_at_its_turn(count, processes):
    with Workers(count, processes) as workers:
        results = workers.ahead(int, ["1", "2", "x", "4"])
        assert [next(results), next(results)] == [1, 2]
        with pytest.raises(ValueError, match="'x'"):
            next(results)


def test_input_error_passes_from_a_process_as_it_is():
    with Workers(2, processes=True) as workers, pytest.raises(InputError, match="^a.csv, line 3: wrong$"):
        list(workers.ahead(refuse, [1]))


def test_killed_worker_is_an_error_to_try_again():
    with Workers(2, processes=True) as workers, pytest.raises(TryAgainError, match="a worker process was killed"):
        list(workers.ahead(os._exit, [1]))


SCRIPT = """
import os, sys, time
from pipeline.convert.workers import Workers

def nap(_):
    print(os.getpid(), flush=True)
    time.sleep(100)

if __name__ == "__main__":
    with Workers(2, processes=True) as workers:
        list(workers.ahead(nap, range(2)))
"""


def is_running(pid):
    try:
        return ") Z" not in pathlib.Path(f"/proc/{pid}/stat").read_text()  # nothing may be there to reap it
    except FileNotFoundError:
        return False


STARTING = """
import os, signal
from pipeline.convert.workers import Workers

if __name__ == "__mp_main__":  # a worker process that is starting
    os.kill(os.getpid(), signal.SIGINT)

if __name__ == "__main__":
    with Workers(2, processes=True) as workers:
        print(*workers.ahead(abs, [-1, -2]))
"""


def test_ctrl_c_while_workers_start_is_left_to_the_parent(tmp_path):
    (tmp_path / "script.py").write_text(STARTING)
    done = faults.run([sys.executable, tmp_path / "script.py"], env={**os.environ, "PYTHONPATH": str(faults.ROOT)})
    assert (done.returncode, done.out, done.err) == (0, "1 2\n", "")


@pytest.mark.skipif(not pathlib.Path("/proc/self/stat").exists(), reason="reads /proc")
def test_workers_end_with_their_parent(tmp_path):
    (tmp_path / "script.py").write_text(SCRIPT)
    with faults.WatchedCommand([sys.executable, tmp_path / "script.py"], cwd=faults.ROOT) as process:
        process.wait_until(lambda: len(process.lines) == 2)
        pids = [int(line) for line in process.lines]
        assert all(map(is_running, pids))
        process.send(signal.SIGKILL)
        deadline = time.monotonic() + 10
        while any(map(is_running, pids)) and time.monotonic() < deadline:
            time.sleep(0.01)
        assert not any(map(is_running, pids))
