"""The page of a run: complete, correct where it repeats figures, and without any other file."""

import html.parser
import json
import re

import pytest

import pipeline
import train
from pipeline.api.page import write_page
from pipeline.errors import InputError
from tests.helpers import browser

SECTIONS = ["summary", "results", "training", "errors", "data", "reproduce"]


class Page(html.parser.HTMLParser):
    """Ids of headings, addresses that a browser would load, and all text."""

    def __init__(self, text):
        super().__init__()
        self.ids, self.loaded, self.texts, self.open = [], [], [], []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        values = dict(attrs)
        if tag not in ("meta", "img", "br"):
            self.open.append(tag)
        if tag == "h2":
            self.ids.append(values["id"])
        self.loaded += [values[name] for name in ("src", "href", "data") if name in values]

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.texts.append(data)


@pytest.fixture(scope="module")
def run_dir(digits, tmp_path_factory):
    run_dir = tmp_path_factory.mktemp("page") / "run"
    settings = [
        "--data",
        digits,
        "--run-dir",
        run_dir,
        "--recipe",
        "fast",
        "--batch-size",
        "64",
        "--precision",
        "float32",
    ]
    settings += ["--holdout", "first:60", "--group-size", "20"]
    assert train.main([str(setting) for setting in settings]) == 0
    return run_dir


def test_a_run_writes_a_page_that_loads_nothing_else(run_dir):
    text = (run_dir / "report.html").read_text("utf-8")
    page = Page(text)
    assert (page.ids, page.open) == (SECTIONS, [])
    assert all(address.startswith(("data:image/png;base64,", "#")) for address in page.loaded)
    assert not re.search(r"https?:|url\(|@import|<script", text)
    shown = " ".join(page.texts)
    splits = json.loads((run_dir / "evaluation.json").read_text())["splits"]
    for name in ("train", "holdout", "val"):
        assert f"{splits[name]['accuracy']:.2%}" in shown
    drift = json.loads((run_dir / "evaluation.json").read_text())["drift"]
    assert set(drift) == {"holdout", "val", "test"} and "classes" not in drift["test"]
    assert all(found["text"] in shown for texts in drift.values() for found in texts.values())
    assert "What held it back" in shown and "one epoch shows no trend" in shown
    assert f"worst {splits['holdout']['groups']['worst']:.2%}" in shown
    assert f"pipeline {pipeline.__version__}" in shown
    (command,) = re.findall("<pre>(.*)</pre>", text)
    assert command.startswith(
        f"python train.py --data {json.loads((run_dir / 'config.json').read_text())['settings']['data']}"
    )
    for option in ("--model fast", "--epochs 1", "--batch-size 64", "--holdout first:60", "--group-size 20"):
        assert option in command


@pytest.mark.skipif(not browser.COMMAND, reason="no Chrome or Chromium is on the PATH or in CHROME")
def test_a_browser_shows_the_page_at_any_width(run_dir, tmp_path):
    with browser.open_browser(tmp_path) as tab:
        for width in (400, 1280):
            tab.open(run_dir / "report.html", width)
            tab.evaluate("document.querySelectorAll('details').forEach(part => part.open = true)")
            assert tab.evaluate("document.documentElement.scrollWidth <= document.documentElement.clientWidth"), width
            # Text of 9 points in a figure of 120 dots per inch is 15 pixels high; below 0.6 of it, it cannot be read.
            scales = tab.evaluate("[...document.images].map(image => image.width / image.naturalWidth)")
            assert len(scales) > 10 and min(scales) > 0.59, width
    assert tab.problems == []


def test_the_command_of_the_page_trains_the_same_again(run_dir):
    (command,) = re.findall("<pre>(.*)</pre>", (run_dir / "report.html").read_text("utf-8"))
    config = train.parse_config(command.split()[2:])
    original = json.loads((run_dir / "config.json").read_text())["settings"]
    for name, value in original.items():
        found = getattr(config, name)
        assert (str(found) if name in ("data", "run_dir") else json.loads(json.dumps(found))) == value, name


def test_names_of_data_are_not_html(run_dir):
    path = run_dir / "config.json"
    before = path.read_text()
    config = json.loads(before)
    config["data"]["name"] = "<script>alert(1)</script>"
    try:
        path.write_text(json.dumps(config))
        assert "<script" not in write_page(run_dir).read_text("utf-8")
    finally:
        path.write_text(before)


def test_an_incomplete_run_has_no_page(tmp_path):
    with pytest.raises(InputError, match="config.json: cannot be read"):
        write_page(tmp_path)
    for name in ("config.json", "evaluation.json"):
        (tmp_path / name).write_text("{}")
    with pytest.raises(InputError, match="not the files of one run"):
        write_page(tmp_path)
    assert not (tmp_path / "report.html").exists()
