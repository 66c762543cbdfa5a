import pytest

from pipeline.errors import InputError
from tests.benchmarks import run
from tools import benchmark


@pytest.mark.parametrize("command", [["scale"], ["all", "--data", "absent", "--out", "."]])
def test_scale_refuses_fewer_rows_than_it_compares_with(command):
    with pytest.raises(InputError, match="--rows 1000: at least 60000"):
        benchmark.main([*command, "--rows", "1000"])


def test_scale_measures_sizes_and_replicas(tmp_path):
    figure = tmp_path / "scale.png"
    found = run(tmp_path, "scale", "--rows", "60000", "--rounds", "1", "--seconds", "0.05", "--plot", figure)
    assert figure.read_bytes().startswith(b"\x89PNG")
    names = ["60,000 rows", "1 replica", "2 replicas", "4 replicas"]  # tests have four logical CPUs
    assert [row["name"] for row in found["rows"]] == names
    assert all(row["images_per_second"] > 0 for row in found["rows"])
