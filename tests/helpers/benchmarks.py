"""Running a benchmark's command, and what every one of them must hold."""

import json

from pipeline.benchmark.tables import page_table, summary_table
from tools import benchmark


def run(tmp_path, *arguments):
    """What the command writes as JSON, which can be shown as a page has it."""
    path = tmp_path / "figures.json"
    assert benchmark.main([*map(str, arguments), "--json", str(path)]) == 0
    found = json.loads(path.read_text())
    assert all(row["name"] in page_table(found) for row in found["rows"])  # as docs/benchmarks.md will have it
    name = {"feed": "feed_2048"}.get(found["kind"], found["kind"])
    assert summary_table({name: found}).count("\n| ") >= 2
    return found
