import io
import json
import os
import signal

import pytest

from pipeline.train.progress import Reporter, StopRequested, ThroughputMeter, _epoch_line, listen_for_stop

LOGS = {"loss": 0.25, "accuracy": 0.5, "images_per_second": 1234.0}
LINE = "epoch 1/2  loss 0.2500  accuracy 50.00%  1,234 images/s"


class Terminal(io.StringIO):
    def isatty(self):
        return True


def report(out, **settings):
    reporter = Reporter(out=out, **settings)
    reporter.step(0, 2, 3, 10, LOGS)
    reporter.epoch(2, {"epoch": 1, "step": 10, **LOGS})
    return out.getvalue()


def test_off_a_terminal_it_is_one_line_per_epoch():
    assert report(io.StringIO()) == f"{LINE}\n"


def test_on_a_terminal_the_epochs_line_replaces_the_live_one():
    text = report(Terminal())
    assert "3/10  loss 0.2500" in text
    assert text.endswith(f"\r\x1b[K{LINE}\n")


def test_for_machines_every_line_is_an_object_with_typed_fields():
    epoch = json.loads(report(Terminal(), as_json=True))
    assert epoch == {"event": "epoch", "text": LINE, "epoch": 1, "step": 10, **LOGS}
    out = io.StringIO()
    Reporter(as_json=True, out=out).line("ready")
    assert json.loads(out.getvalue()) == {"event": "note", "text": "ready"}


def test_the_line_of_an_epoch_shows_what_the_gpus_counters_say():
    out = io.StringIO()
    Reporter(out=out).epoch(2, {"epoch": 1, **LOGS, "gpu_utilisation": 0.974, "gpu_memory_gib": 3.14})
    assert out.getvalue() == f"{LINE}  GPU 97% busy  3.1 GiB of its memory in use\n"


def test_quiet_prints_nothing():
    assert report(Terminal(), quiet=True) == ""


def live_lines(steps, seconds_per_step=2.0, logs=LOGS):
    """What the terminal shows at these (epoch, step) of 3 epochs of 10 steps."""
    out, times = Terminal(), iter([seconds_per_step * (epoch * 10 + step) for epoch, step in steps])
    reporter = Reporter(out=out, clock=lambda: next(times))
    for epoch, step in steps:
        reporter.step(epoch, 3, step, 10, logs)
    return out.getvalue().split("\r\x1b[K")[1:]


@pytest.mark.parametrize(
    ("columns", "line"),
    [
        ("80", "epoch 2/3 ━━━╌╌╌╌╌ 4/10  0:32 left  loss 0.2500  accuracy 50.0%  1,234 images/s"),
        ("60", "epoch 2/3 ━━━━━━━━╌╌╌╌╌╌╌╌╌╌╌╌ 4/10  0:32 left  loss 0.2500"),
        ("20", "epoch 2/3 ━━━╌╌╌╌╌╌"),
    ],
)
def test_the_live_line_has_the_time_left_and_never_wraps(monkeypatch, columns, line):
    monkeypatch.setenv("COLUMNS", columns)
    first, last = live_lines([(0, 1), (1, 4)])
    assert "left" not in first  # nothing is known before a second step
    assert last == line
    assert len(last) == int(columns) - 1


@pytest.mark.parametrize(
    ("width", "line"),
    [
        (102, "epoch 10/30  loss 0.1235  accuracy 98.12%  val loss 0.2000  val accuracy 97.00%  9,946 images/s  2.3 s"),
        (79, "epoch 10/30  loss 0.1235  acc 98.12%  val 0.2000  val 97.00%  9,946 img/s"),
        (50, "epoch 10/30  acc 98.12%  val 97.00%  9,946 img/s"),
        (20, "epoch 10/30"),
    ],
)
def test_the_line_of_an_epoch_fits_the_terminal(width, line):
    row = {"epoch": 10, "loss": 0.12346, "accuracy": 0.98123, "val_loss": 0.2, "val_accuracy": 0.97}
    assert _epoch_line(width, 30, {**row, "images_per_second": 9946.2, "seconds": 2.3}) == line


def test_the_line_of_an_epoch_on_a_gpu_keeps_its_utilisation_and_memory():
    row = {"epoch": 10, "loss": 0.12346, "accuracy": 0.98123, "val_loss": 0.2, "val_accuracy": 0.97}
    row |= {"images_per_second": 109946.2, "seconds": 12.3, "gpu_utilisation": 0.97, "gpu_memory_gib": 1.25}
    line = "epoch 10/30  acc 98.12%  val 0.2000  val 97.00%  109,946 img/s  GPU 97%  1.2 GiB"
    assert _epoch_line(80, 30, row) == line


def test_the_live_line_is_drawn_ten_times_per_second_and_at_the_end_of_an_epoch():
    drawn = live_lines([(0, step) for step in range(1, 11)], seconds_per_step=0.03)
    assert [line.split()[3] for line in drawn] == ["1/10", "5/10", "9/10", "10/10"]


@pytest.mark.parametrize(
    ("marks", "rate"),
    [([], 0.0), ([(5.0, 10)], 0.0), ([(100.0, 50), (101.0, 50), (104.0, 50)], 25.0), ([(0.0, 32), (1.5, 8)], 8 / 1.5)],
    ids=["none", "only the start", "the first is not an interval", "partial last batch"],
)
def test_rate_is_of_the_images_after_the_first_mark(marks, rate):
    times = iter([time for time, _ in marks])
    meter = ThroughputMeter(lambda: next(times))
    for _, images in marks:
        meter.mark(images)
    assert meter.images_per_second == rate


@pytest.mark.parametrize(("signum", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_signal_is_remembered_and_earlier_handlers_return(signum, code):
    before = signal.getsignal(signum)
    with pytest.raises(StopRequested) as stopped, listen_for_stop() as stop:
        assert not stop
        os.kill(os.getpid(), signum)
        assert stop
        raise StopRequested(stop.signum)
    assert stopped.value.exit_code == code
    assert signal.getsignal(signum) is before


@pytest.mark.parametrize("times", [1, 2], ids=["nothing stopped for it", "a second one does not wait"])
def test_ctrl_c_interrupts(times):
    with pytest.raises(KeyboardInterrupt), listen_for_stop():
        for _ in range(times):
            os.kill(os.getpid(), signal.SIGINT)
