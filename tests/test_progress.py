import io
import json

from pipeline.train.progress import Reporter

LOGS = {"loss": 0.25, "accuracy": 0.5, "images_per_second": 1234.0}


class Terminal(io.StringIO):
    def isatty(self):
        return True


def report(out, **settings):
    reporter = Reporter(out=out, **settings)
    reporter.step(0, 2, 3, 10, LOGS)
    reporter.epoch(0, 2, LOGS)
    return out.getvalue()


def test_off_a_terminal_it_is_one_line_an_epoch():
    assert report(io.StringIO()) == "epoch 1/2  loss 0.2500  accuracy 50.00%  1,234 images/s\n"


def test_on_a_terminal_the_live_line_gives_way_to_the_epochs():
    text = report(Terminal())
    assert "3/10  loss 0.2500" in text
    assert text.endswith("\r\x1b[Kepoch 1/2  loss 0.2500  accuracy 50.00%  1,234 images/s\n")


def test_for_machines_every_line_is_an_object():
    event = json.loads(report(Terminal(), as_json=True))
    assert event == {"event": "epoch", "epoch": 1, "text": event["text"], **LOGS}


def test_quiet_says_nothing():
    assert report(Terminal(), quiet=True) == ""


def test_a_live_line_never_wraps(monkeypatch):
    monkeypatch.setenv("COLUMNS", "40")
    line = report(Terminal()).split("\x1b[K")[1]
    assert len(line.rstrip("\r")) == 39
