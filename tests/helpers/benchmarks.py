"""Running a benchmark's command with measurements as short as possible."""

import json
import pathlib
from typing import Any

from tools import benchmark


def run(tmp_path: pathlib.Path, *arguments: object) -> dict[str, Any]:
    """The JSON that the command writes; "rows" and "ratios" are keyed by their ids."""
    path = tmp_path / "results.json"
    short = ["--rounds", "2", "--seconds", "0.05", "--json", path]
    assert benchmark.main([str(argument) for argument in (*arguments, *short)]) == 0
    results = json.loads(path.read_text())
    results["rows"] = {row["id"]: row for row in results["rows"]}
    results["ratios"] = {(ratio["above"], ratio["below"]): ratio for ratio in results["ratios"]}
    return results
