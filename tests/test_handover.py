import numpy as np
import pytest

from pipeline.benchmark import handover
from pipeline.benchmark.synthetic import IMAGE_BYTES
from pipeline.errors import InputError
from pipeline.feed.order import epoch_order
from pipeline.feed.resident import SplitArrays
from pipeline.train.devices import make_devices
from tests.helpers.benchmarks import run
from tools import benchmark


def test_ours_is_measured_beside_each_of_tensorflows(tmp_path):
    figure = tmp_path / "handover.png"
    # Tests have four logical CPUs, so there are no eight replicas, and no batch need divide among them.
    short = ["--batch-size", "12", "--steps-per-call", "4", "--rounds", "2", "--seconds", "0.05", "--plot", figure]
    found = run(tmp_path, "handover", *short)
    assert figure.read_bytes().startswith(b"\x89PNG")
    ways = "ours, 1 step a call", "ours, 4 steps a call", "from_function", "distribute_dataset"
    expected = [f"{replicas}, {way}" for replicas in ("1 replica", "2 replicas") for way in ways]
    assert [row["name"] for row in found["rows"]] == expected
    assert all(row["images_per_second"] > 0 for row in found["rows"])
    assert found["ratios"][-1]["above"] == "2 replicas, ours, 1 step a call"


def test_every_way_to_replicas_brings_each_of_them_its_part():
    devices = make_devices("mirrored", 2)
    images = np.arange(handover.BATCHES * 8 * IMAGE_BYTES, dtype=np.uint32).reshape(-1, IMAGE_BYTES).astype(np.uint8)
    arrays = SplitArrays(images, np.arange(len(images), dtype=np.int32), np.arange(len(images)))
    cut = devices.strategy.experimental_distribute_dataset(handover.batches_of(arrays, 8))
    given = devices.strategy.distribute_datasets_from_function(lambda _: handover.batches_of(arrays, 4))
    order = epoch_order(len(images), 0, 0)
    for dataset in (cut, given):
        image, label = next(iter(dataset))
        parts = devices.strategy.experimental_local_results(label)
        np.testing.assert_array_equal(np.concatenate(parts), order[:8])
        np.testing.assert_array_equal(np.concatenate(image.values), images[order[:8]])


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--batch-size", "13"], "--batch-size 13: a multiple of 2, as so many replicas share it"),
        (["--batch-size", "0"], "--batch-size 0: a multiple of 2"),
        (["--batch-size", "80000000"], "the batches take .* MiB, over half of the free .*; use smaller ones"),
        (["--batch-size", "49152", "--steps-per-call", "240"], "--steps-per-call 240: the batches take .* MiB, over"),
        (["--steps-per-call", "1"], "--steps-per-call 1: at least 2"),
    ],
    ids=["does not divide", "no batch", "more than memory", "calls of more than memory", "no longer calls"],
)
def test_what_cannot_be_measured_is_refused(flags, message):
    with pytest.raises(InputError, match=message):
        benchmark.main(["handover", *flags])
