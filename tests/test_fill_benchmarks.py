import json

import pytest

from pipeline.benchmark.results import Ratio, Results, Row, ratio_of
from pipeline.errors import InputError
from pipeline.train.meter import Rates
from tools import fill_benchmarks

MACHINE = {
    **{"processor": "a test", "cores": 2, "xla": False, "precision": "float32", "batch_size": 256},
    **{"steps_per_call": 64, "num_examples": 1000, "versions": {"tensorflow": "2.21.0"}},
}
PAGE = "# Page\n\n<!-- benchmark:{} -->\nold figures\n<!-- end -->\n\nText after it.\n"


def feed(fastest: float = 3e6) -> str:
    ours = Row("host uint8", "order and gather", Rates((1e6, 2e6, fastest), (1e-6,) * 3), bytes_per_image=784)
    numpy = Row("numpy uint8", "a limit", Rates((1e6,) * 3), bytes_per_image=784)
    float32 = Row("host float32", "", Rates((5e5,) * 3))
    shorter = Row("host uint8, 16 steps a call", "in calls of train.py's default on a GPU", Rates((1.5e6,) * 3))
    shortest = Row("host uint8, 1 step a call", "in the shortest calls", Rates((1e5,) * 3))
    ratios = [ratio_of(each, numpy) for each in (ours, shorter, shortest)]
    rows = [ours, numpy, float32, shorter, shortest]
    return Results("feed", rows, MACHINE, ratios, {"first batch, seconds": 0.5}, "a verdict").to_json()


def host(name: str = "ours, 1 replica, 16 steps a call", above: str = "time a step: {}", rate: float = 100.0) -> str:
    row = Row(name, "", Rates((rate,) * 3), unit="step")
    return Results("host", [row], MACHINE, [Ratio(above.format(name), "fit, 1 replica", (0.5,) * 3)]).to_json()


@pytest.fixture
def directory(tmp_path):
    (tmp_path / "feed_256.json").write_text(feed(), encoding="utf-8")
    return tmp_path


def test_the_committed_pages_are_as_their_json_has_them():
    assert fill_benchmarks.main(["--check"]) == 0


def test_a_table_has_what_the_json_has_and_the_page_stays_around_it(directory):
    page = fill_benchmarks.fill(PAGE.format("feed_256"), directory)
    assert page.startswith("# Page\n\n<!-- benchmark:feed_256 -->\n\na test; 2 cores; batch 256;")
    assert page.endswith("Verdict: a verdict\n\n<!-- end -->\n\nText after it.\n")
    assert "| host uint8 | 2,000,000 | 100% | 1,568 | 1 | order and gather |\n" in page
    assert "| host uint8 / numpy uint8 | 2.00x | 1.00, 2.00, 3.00 |\n" in page
    assert "- first batch, seconds: 0.5\n" in page
    assert "old figures" not in page
    assert fill_benchmarks.fill(page, directory) == page


def test_a_figure_beside_the_json_is_shown(directory):
    (directory / "feed_256.png").write_bytes(b"")
    page = fill_benchmarks.fill(PAGE.format("feed_256"), directory)
    assert "![feed_256](benchmarks/feed_256.png)\n\n<!-- end -->" in page


def test_a_ratio_that_says_nothing_is_not_given(directory):
    (directory / "feed_256.json").write_text(feed(fastest=9e6), encoding="utf-8")
    page = fill_benchmarks.fill(PAGE.format("feed_256"), directory)
    assert "| host uint8 / numpy uint8 | unstable | 1.00, 2.00, 9.00 |" in page


@pytest.mark.parametrize("name", ["step", "gpu"])
def test_what_has_no_json_was_not_measured(directory, name):
    assert "-->\n\nNot measured.\n\n<!-- end -->" in fill_benchmarks.fill(PAGE.format(name), directory)


def test_a_directory_gives_all_of_its_tables(directory):
    (directory / "gpu").mkdir()
    for name in ("a", "b"):
        (directory / "gpu" / f"{name}.json").write_text(feed(), encoding="utf-8")
    page = fill_benchmarks.fill(PAGE.format("gpu"), directory)
    assert page.index("**a**") < page.index("**b**")
    assert page.count("| host uint8 | 2,000,000 |") == 2


def test_the_summary_has_what_was_measured(directory):
    page = fill_benchmarks.fill(PAGE.format("summary"), directory)
    line = "| resident feed, batch 256, 64 steps a call, uint8 | 2.00 million images/s | 2.00x NumPy's gather |"
    assert line in page
    assert line.replace("64 steps", "16 steps").replace("2.00", "1.50") in page
    assert "stream" not in page and "1 step a call" not in page


def test_the_ladder_goes_from_the_dearest_image_to_the_cheapest(directory):
    rows = [Row(name, "a row", Rates((1e6,), (cost,))) for name, cost in (("cheap", 1e-7), ("dear", 5e-5))]
    feed = Results("feed", rows, MACHINE).to_json()
    (directory / "feed_2048.json").write_text(feed, encoding="utf-8")
    page = fill_benchmarks.fill(PAGE.format("ladder"), directory)
    lines = [line for line in page.splitlines() if line.startswith("| ")]
    assert lines[0] == "| row | images/s | CPU us/image | what it is |"
    assert lines[2:] == ["| dear | 1,000,000 | 50 | a row |", "| cheap | 1,000,000 | 0.1 | a row |"]


def test_check_tells_a_stale_page_and_changes_nothing(tmp_path, capsys):
    (tmp_path / "docs/benchmarks").mkdir(parents=True)
    (tmp_path / "docs/benchmarks/feed_256.json").write_text(feed(), encoding="utf-8")
    pages = [tmp_path / page for page in fill_benchmarks.PAGES]
    for page in pages:
        page.write_text(PAGE.format("feed_256"), encoding="utf-8")
    assert fill_benchmarks.main(["--check", "--root", str(tmp_path)]) == 1
    assert "README.md: not as the JSON has it" in capsys.readouterr().out
    assert "old figures" in pages[0].read_text(encoding="utf-8")
    assert fill_benchmarks.main(["--root", str(tmp_path)]) == 0
    assert fill_benchmarks.main(["--check", "--root", str(tmp_path)]) == 0


@pytest.mark.parametrize(
    ("page", "content", "message"),
    [
        ("<!-- benchmark:feed_256 -->\nno end", feed(), "has no <!-- end --> of its own"),
        (PAGE.format("feed_256") + "<!-- benchmark:step -->", feed(), "has no <!-- end --> of its own"),
        (PAGE.format("feed_256"), "{", "feed_256.json: not JSON"),
        (PAGE.format("feed_256"), json.dumps({"rows": [1]}), "not what tools/benchmark.py writes"),
    ],
    ids=["no end", "the last has no end", "not JSON", "other JSON"],
)
def test_what_cannot_be_filled_is_refused(directory, page, content, message):
    (directory / "feed_256.json").write_text(content, encoding="utf-8")
    with pytest.raises(InputError, match=message):
        fill_benchmarks.fill(page, directory)


def test_the_summary_has_the_hosts_cost(directory):
    (directory / "host.json").write_text(host(), encoding="utf-8")
    page = fill_benchmarks.fill(PAGE.format("summary"), directory)
    assert "| host's cost of a step, 1 replica, 16 steps a call | 10.00 ms | 0.50x Keras's `fit` |" in page


@pytest.mark.parametrize("page", ["host", "summary", "gpu"])
def test_a_rate_of_nothing_is_refused_with_the_name_of_its_file(directory, page):
    (directory / "gpu").mkdir()
    (directory / ("gpu" if page == "gpu" else "") / "host.json").write_text(host(rate=0.0), encoding="utf-8")
    with pytest.raises(InputError, match=r"host\.json: not what .* writes \(ZeroDivisionError: .*\); write it anew"):
        fill_benchmarks.fill(PAGE.format(page), directory)


def test_a_ratio_without_its_kind_is_refused_with_the_name_of_its_file(directory):
    (directory / "host.json").write_text(host(above="{}"), encoding="utf-8")
    with pytest.raises(InputError, match=r"host\.json: not what .* writes \(IndexError: "):
        fill_benchmarks.fill(PAGE.format("summary"), directory)


def test_an_error_in_a_later_page_leaves_the_earlier_ones_as_they_were(tmp_path):
    (tmp_path / "docs/benchmarks").mkdir(parents=True)
    (tmp_path / "docs/benchmarks/feed_256.json").write_text(feed(), encoding="utf-8")
    for page in fill_benchmarks.PAGES:
        (tmp_path / page).write_text(PAGE.format("feed_256"), encoding="utf-8")
    (tmp_path / fill_benchmarks.PAGES[-1]).write_text("<!-- benchmark:feed_256 -->\n", encoding="utf-8")
    with pytest.raises(InputError, match=f"{fill_benchmarks.PAGES[-1]}: a .* of its own"):
        fill_benchmarks.main(["--root", str(tmp_path)])
    assert "old figures" in (tmp_path / fill_benchmarks.PAGES[0]).read_text(encoding="utf-8")


def test_a_marker_does_not_swallow_the_next(directory):
    with pytest.raises(InputError, match="of its own"):
        fill_benchmarks.fill("<!-- benchmark:feed_256 -->\n" + PAGE.format("step"), directory)
