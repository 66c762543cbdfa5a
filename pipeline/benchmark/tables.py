"""Markdown tables from the JSON that benchmarks wrote, so that no figure of a page is typed by hand."""

from collections.abc import Callable, Mapping
from typing import Any

from pipeline.benchmark.results import figure_text
from pipeline.feed.plan import size_text

NOT_MEASURED = "Not measured."

_LADDER_COLUMNS = "row", "images/s", "CPU us/image", "what it is"

_Found = Mapping[str, Any]  # what `Results.to_json` wrote


def page_table(found: _Found) -> str:
    """All of one benchmark: machine, rows, ratios, single figures and the verdict."""
    parts = [machine_line(found["machine"])]
    if found["rows"]:
        parts.append(_table(_columns(found["rows"]), found["rows"]))
    if found["ratios"]:
        parts.append(_table(_RATIO_COLUMNS, found["ratios"]))
    if found["figures"]:
        parts.append("\n".join(f"- {name}: {figure_text(value)}" for name, value in found["figures"].items()))
    if found["verdict"]:
        parts.append(f"Verdict: {found['verdict']}")
    return "\n\n".join(parts)


def summary_table(found: Mapping[str, _Found]) -> str:
    """What a reader asks first, of all benchmarks by name; what was not measured is left out."""
    lines = [line for name, make in _SUMMARY if name in found for line in make(found[name])]
    if not lines:
        return NOT_MEASURED
    head = ["| what | ours | compared with |", "| --- | --- | --- |"]
    return "\n".join([*head, *(f"| {' | '.join(line)} |" for line in lines)])


def ladder_table(found: _Found) -> str:
    """The rows of the feed, from the dearest image to the cheapest, as far as CPU time was taken."""
    rows = [row for row in found["rows"] if "cpu_microseconds_per_image" in row]
    rows.sort(key=lambda row: -row["cpu_microseconds_per_image"])
    columns = [column for column in _columns(rows) if column[0] in _LADDER_COLUMNS]
    return f"{machine_line(found['machine'])}\n\n{_table(columns, rows)}"


def machine_line(machine: _Found) -> str:
    """Hardware, versions and settings in one sentence."""
    versions = machine["versions"]
    hardware = ", ".join(machine.get("hardware") or [machine["processor"]])
    instructions = f" ({', '.join(machine['instructions'])})" if machine.get("instructions") else ""
    parts = [f"{hardware}{instructions}", f"{machine['cores']} cores"]
    if "batch_size" in machine:
        parts.append(f"batch {machine['batch_size']}")
    if "steps_per_call" in machine:
        parts.append(f"{machine['steps_per_call']} steps a call")
    if "precision" in machine:
        parts.append(f"{machine['precision']}, XLA {'on' if machine['xla'] else 'off'}")
    names = {"tensorflow": "TensorFlow", "keras": "Keras", "python": "Python"}
    parts += [f"{name} {versions[key]}" for key, name in names.items() if key in versions]
    return "; ".join(parts) + "."


def _table(columns: list[tuple[str, str, Callable]], rows: list[_Found]) -> str:
    cells = [[text(row) for _, _, text in columns] for row in rows]
    kept = [place for place in range(len(columns)) if any(line[place] for line in cells)]
    lines = [[columns[place][0] for place in kept], [columns[place][1] for place in kept]]
    lines += [[line[place] for place in kept] for line in cells]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _columns(rows: list[_Found]) -> list[tuple[str, str, Callable]]:
    by_step = any("steps_per_second" in row for row in rows)
    return [
        ("row", "---", lambda row: row["name"]),
        ("images/s", "---:", lambda row: _whole(row.get("images_per_second"))),
        ("ms a step", "---:", lambda row: f"{1000 / row['steps_per_second']:.3f}" if by_step else ""),
        ("GFLOP/s", "---:", lambda row: _giga(row.get("flops_per_second"))),
        ("of peak", "---:", lambda row: _percent(row.get("share_of_peak"))),
        ("spread", "---:", lambda row: _percent(row["spread"])),
        ("MB/s", "---:", lambda row: _whole(row["bytes_per_second"] / 1e6) if row["bytes_per_second"] else ""),
        ("CPU us/image", "---:", lambda row: _short(row.get("cpu_microseconds_per_image"))),
        ("CPU us/step", "---:", lambda row: _short(row.get("cpu_microseconds_per_step"))),
        ("what it is", "---", lambda row: row["note"]),
    ]


_RATIO_COLUMNS = [
    ("ratio", "---", lambda ratio: f"{ratio['above']} / {ratio['below']}"),
    ("median", "---:", lambda ratio: _times(ratio)),
    ("rounds", "---", lambda ratio: ", ".join(f"{value:.2f}" for value in ratio["rounds"])),
]


def _feed_lines(found: _Found) -> list[tuple[str, str, str]]:
    batch = f"resident feed, batch {found['machine']['batch_size']}"
    lines = []
    for dtype in ("float32", "uint8"):
        against = [
            (f"textbook cached {dtype}", "the textbook tf.data pipeline with `cache()`"),
            (f"numpy {dtype}", "NumPy's gather"),
            *([("keras arrays", "what `fit` makes of arrays")] if dtype == "uint8" else []),
        ]
        for name, calls in _calls_of(found, f"host {dtype}"):
            lines.append((f"{batch}, {calls}, {dtype}", _rate(found, name), _compared(found, name, against)))
    return lines


def _calls_of(found: _Found, name: str) -> list[tuple[str, str]]:
    """The row of that name, and the one in the calls that a GPU is given, each with its calls in words."""
    given = [
        (row["name"], row["name"].removeprefix(f"{name}, "))
        for row in found["rows"]
        if row["name"].startswith(f"{name}, ") and row["note"].endswith("on a GPU")
    ]
    return [(name, f"{found['machine']['steps_per_call']} steps a call"), *given]


def _stream_lines(found: _Found) -> list[tuple[str, str, str]]:
    compared = _compared(found, "stream float32", [("textbook float32", "the textbook pipeline without cache")])
    first = found["figures"]
    return [
        ("stream from disk, float32", _rate(found, "stream float32"), compared),
        (
            f"first batch of {found['machine']['num_examples']:,} images",
            f"{first['first batch, seconds']:.2f} s",
            f"{first['first batch / import']:.2f}x importing TensorFlow",
        ),
    ]


def _scale_lines(found: _Found) -> list[tuple[str, str, str]]:
    *costs, replicas = found["ratios"]
    lines = [(f"cost of an image among {cost['below']}", _times(cost), cost["above"]) for cost in costs]
    return [*lines, (f"images/s delivered to {replicas['above']} in all", _times(replicas), replicas["below"])]


def _handover_lines(found: _Found) -> list[tuple[str, str, str]]:
    """Our calls of one step to the most replicas, beside each way of TensorFlow's."""
    ours = found["ratios"][-1]["above"]
    against = [(ratio["below"], f"`{_row(found, ratio['below'])['note']}`") for ratio in found["ratios"]]
    what = f"handed over, batch {found['machine']['batch_size']}, {ours.replace(', ours', '')}"
    return [(what, _rate(found, ours), _compared(found, ours, against))]


def _host_lines(found: _Found) -> list[tuple[str, str, str]]:
    lines = []
    for ratio in found["ratios"]:
        name = ratio["above"].split(": ", 1)[1]
        if "16 steps" in name:
            rate = _row(found, name)["steps_per_second"]
            what = "host's cost of a step, " + name.removeprefix("ours, ")
            lines.append((what, f"{1000 / rate:.2f} ms", f"{_times(ratio)} Keras's `fit`"))
    return lines


def _step_lines(found: _Found) -> list[tuple[str, str, str]]:
    best = max((row for row in found["rows"] if "images_per_second" in row), key=lambda row: row["images_per_second"])
    settings = f"batch {found['machine']['batch_size']}, {found['machine']['precision']}"
    share = f"{_giga(best['flops_per_second'])} GFLOP/s, {_percent(best['share_of_peak'])} of the peak"
    return [(f"the step alone, {settings}", f"{_whole(best['images_per_second'])} images/s", share)]


def _train_lines(found: _Found) -> list[tuple[str, str, str]]:
    utilisation = found["figures"]["accelerator utilisation"]
    settings = f"batch {found['machine']['batch_size']}, {found['machine']['precision']}"
    rate = f"{_whole(_row(found, 'train')['images_per_second'])} images/s"
    return [(f"training, {settings}", rate, f"accelerator utilisation {utilisation:.1%}")]


def _memory_lines(found: _Found) -> list[tuple[str, str, str]]:
    figures = found["figures"]
    taken = figures["peak, MiB"] - figures["after importing TensorFlow, MiB"]
    budget = f"a budget of {size_text(round(figures['memory budget, MiB'] * 2**20))}"
    return [(f"memory that streaming {figures['rows']:,} rows takes", f"{taken:,.0f} MiB", budget)]


def _convert_lines(found: _Found) -> list[tuple[str, str, str]]:
    (alone, whole), figures = found["ratios"], found["figures"]
    read = (
        f"{_times(alone)} as fast as `pandas.read_csv` alone: {figures['read_csv, seconds']:.2f} s; "
        f"{_times(whole)} as fast as a program of it: {figures['pandas, whole, seconds']:.2f} s"
    )
    return [("convert train.csv, the whole process", f"{figures['convert, seconds']:.2f} s", read)]


def _article_lines(found: _Found) -> list[tuple[str, str, str]]:
    (ratio, limit), machine = found["ratios"], found["machine"]
    rate = f"{_whole(_row(found, 'train.py')['images_per_second'])} images/s"
    article = (
        f"{_times(ratio)} the article's program: {_whole(_row(found, 'article')['images_per_second'])} "
        f"({_times(limit)} at the peak of the device)"
    )
    return [(f"train.py, batch {machine['batch_size']}, {machine['precision']}", rate, article)]


_SUMMARY = (
    ("convert", _convert_lines),
    ("article", _article_lines),
    ("feed_2048", _feed_lines),
    ("feed_256", _feed_lines),
    ("feed_2048", _stream_lines),
    ("scale", _scale_lines),
    ("handover", _handover_lines),
    ("host", _host_lines),
    ("step", _step_lines),
    ("train", _train_lines),
    ("memory", _memory_lines),
)


def _row(found: _Found, name: str) -> _Found:
    return next(row for row in found["rows"] if row["name"] == name)


def _rate(found: _Found, name: str) -> str:
    return f"{_row(found, name)['images_per_second'] / 1e6:.2f} million images/s"


def _compared(found: _Found, above: str, against: list[tuple[str, str]]) -> str:
    """How many times each of those it is; a recipe that was not measured is left out."""
    by_below = {ratio["below"]: ratio for ratio in found["ratios"] if ratio["above"] == above}
    ratios = [(by_below[below], name) for below, name in against if below in by_below]
    return ", ".join(
        f"an unstable ratio to {name}" if ratio["unstable"] else f"{_times(ratio)} {name}" for ratio, name in ratios
    )


def _times(ratio: _Found) -> str:
    return "unstable" if ratio["unstable"] else f"{ratio['ratio']:.2f}x"


def _whole(value: float | None) -> str:
    return "" if value is None else f"{value:,.0f}"


def _giga(value: float | None) -> str:
    return "" if value is None else f"{value / 1e9:,.0f}"


def _percent(value: float | None) -> str:
    return "" if value is None else f"{value:.0%}"


def _short(value: float | None) -> str:
    return "" if value is None else f"{value:,.3g}"
