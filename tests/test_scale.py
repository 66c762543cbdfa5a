import pytest

from pipeline.benchmark import scale
from pipeline.benchmark.synthetic import IMAGE_BYTES
from pipeline.errors import InputError
from tests.helpers.benchmarks import run
from tools import benchmark


@pytest.mark.parametrize("command", [["scale"], ["all", "--data", "absent", "--out", "."]])
def test_scale_refuses_fewer_rows_than_it_compares_with(command):
    with pytest.raises(InputError, match="--rows 1000: at least 60000"):
        benchmark.main([*command, "--rows", "1000"])


def test_scale_measures_sizes_and_replicas(tmp_path, monkeypatch):
    monkeypatch.setattr(scale, "default_memory_budget", lambda: 60_000 * IMAGE_BYTES)
    figure, rows = tmp_path / "scale.png", f"60000{'0' * 50}"
    found = run(tmp_path, "scale", "--rows", rows, "--rounds", "1", "--seconds", "0.05", "--plot", figure)
    assert figure.read_bytes().startswith(b"\x89PNG")
    names = ["60,000 rows", "1 replica", "2 replicas", "4 replicas"]  # tests have four logical CPUs
    assert [row["name"] for row in found["rows"]] == names
    assert all(row["images_per_second"] > 0 for row in found["rows"])
    # Batches of 2048 are 30 steps, and calls of at most 16 are made even.
    assert all("15 steps a call" in row["note"] for row in found["rows"])
    assert found["verdict"] == "left out for lack of memory: 600,000 rows and more"
