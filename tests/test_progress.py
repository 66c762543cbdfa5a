import io
import json

from pipeline.train.progress import Reporter

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
    assert json.loads(report(Terminal(), as_json=True)) == {
        "event": "epoch",
        "text": LINE,
        "epoch": 1,
        "step": 10,
        **LOGS,
    }
    out = io.StringIO()
    Reporter(as_json=True, out=out).line("ready")
    assert json.loads(out.getvalue()) == {"event": "note", "text": "ready"}


def test_quiet_prints_nothing():
    assert report(Terminal(), quiet=True) == ""


def test_a_live_line_never_wraps(monkeypatch):
    monkeypatch.setenv("COLUMNS", "40")
    line = report(Terminal()).split("\x1b[K")[1]
    assert len(line.rstrip("\r")) == 39
