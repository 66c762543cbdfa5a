import numpy as np
import pytest

from pipeline.feed.dataset import (
    HostScaling,
    Position,
    Replicas,
    make_evaluation_dataset,
    make_resident_dataset,
    make_stream_dataset,
)
from pipeline.feed.normalize import Normalization
from pipeline.feed.order import Steps, epoch_order
from pipeline.feed.resident import load_split
from pipeline.feed.stream import SplitReader
from pipeline.format.manifest import load_manifest

STEPS = Steps(num_examples=203, batch_size=16, steps_per_call=4)
TWO_EPOCHS = Position(0, 0, epochs=2)
SMALL_BUDGET = 40_000  # bytes: windows of 64 rows, so that an epoch takes several


@pytest.fixture(scope="module")
def arrays(digits):
    return load_split(digits, load_manifest(digits), "train")


@pytest.fixture(scope="module")
def reader(digits):
    return SplitReader(digits, load_manifest(digits), "train")


@pytest.fixture(params=["resident", "stream"])
def make(request, arrays, reader):
    """The two training feeds, as functions of (start, replicas)."""
    if request.param == "resident":
        return lambda at, replicas: make_resident_dataset(arrays, STEPS, 5, at, replicas)
    return lambda at, replicas: make_stream_dataset(reader, SMALL_BUDGET, STEPS, 5, at, replicas)


def indices(*workers) -> np.ndarray:
    """[steps, global batch]: replicas of all workers side by side, without the steps that only fill up a call."""
    rows = []
    for elements in zip(*(dataset.as_numpy_iterator() for dataset in workers), strict=True):
        index = np.concatenate([part["index"] for element in elements for part in element["replicas"]], axis=1)
        for element in elements:
            np.testing.assert_array_equal((index >= 0).sum(axis=1), element["count"])
        rows.append(index[elements[0]["count"] > 0])
    return np.concatenate(rows)


def test_every_example_is_served_once_per_epoch(make):
    served = indices(make(TWO_EPOCHS, Replicas()))
    for epoch in np.split(served, 2):
        assert sorted(epoch[epoch >= 0].tolist()) == list(range(203))
    assert (served[:13] != served[13:]).any()


@pytest.mark.parametrize("count", [2, 4, 8])
def test_order_is_the_same_for_any_number_of_replicas(make, count):
    np.testing.assert_array_equal(
        indices(make(TWO_EPOCHS, Replicas(count, 0, count))), indices(make(TWO_EPOCHS, Replicas()))
    )


@pytest.mark.parametrize(("epoch", "step"), [(0, 4), (0, 12), (1, 0), (1, 8)])
def test_resumed_feed_serves_the_rest_of_the_run(make, epoch, step):
    whole = indices(make(TWO_EPOCHS, Replicas()))
    rest = indices(make(Position(epoch, step, 2), Replicas()))
    np.testing.assert_array_equal(rest, whole[epoch * STEPS.per_epoch + step :])


def test_worker_serves_only_its_replicas(arrays):
    whole = indices(make_resident_dataset(arrays, STEPS, 5, TWO_EPOCHS, Replicas()))
    element = next(make_resident_dataset(arrays, STEPS, 5, TWO_EPOCHS, Replicas(4, 2, 2)).as_numpy_iterator())
    assert len(element["replicas"]) == 2
    np.testing.assert_array_equal(element["replicas"][0]["index"], whole[:4, 8:12])
    np.testing.assert_array_equal(element["count"], [16, 16, 16, 16])


def workers(total, local=1):
    return [Replicas(total * local, worker * local, local) for worker in range(total)]


@pytest.mark.parametrize(
    ("steps", "total", "budget"),
    [(STEPS, 4, SMALL_BUDGET), (Steps(203, 202), 2, 0)],
    ids=["windows of several calls", "a last call without rows for one worker"],
)
def test_workers_stream_every_example_once_per_epoch_between_them(reader, arrays, steps, total, budget):
    datasets = [make_stream_dataset(reader, budget, steps, 5, TWO_EPOCHS, each) for each in workers(total)]
    first, second = np.split(indices(*datasets), 2)
    for epoch in (first, second):
        assert sorted(epoch[epoch >= 0].tolist()) == list(range(203))
        assert (epoch[:-1] >= 0).all()
    assert (first != second).any()
    assert_content(datasets[-1], arrays)


def test_a_workers_stream_does_not_depend_on_its_number_of_replicas_and_resumes(reader):
    def served(start, local):
        return indices(
            *(make_stream_dataset(reader, SMALL_BUDGET, STEPS, 5, start, each) for each in workers(2, local))
        )

    whole = served(TWO_EPOCHS, 1)
    np.testing.assert_array_equal(served(TWO_EPOCHS, 4), whole)
    np.testing.assert_array_equal(served(Position(1, 8, 2), 2), whole[STEPS.per_epoch + 8 :])


@pytest.mark.parametrize("steps", [STEPS, Steps(203, 202)], ids=["several rows", "a worker without rows at the end"])
def test_workers_evaluate_every_example_of_a_stream_once(reader, steps):
    served = indices(*(make_evaluation_dataset(reader, steps, each) for each in workers(2)))
    assert sorted(served[served >= 0].tolist()) == list(range(203))


def assert_content(dataset, arrays):
    for element in dataset.as_numpy_iterator():
        for part in element["replicas"]:
            real = part["index"] >= 0
            np.testing.assert_array_equal(part["image"][real], arrays.images[part["index"][real]])
            np.testing.assert_array_equal(part["label"][real], arrays.labels[part["index"][real]])


def test_images_and_labels_belong_to_the_index(make, arrays):
    assert_content(make(Position(0, 0, 1), Replicas(2, 0, 2)), arrays)


def test_device_feed_has_only_the_indices_of_the_permutation():
    alone = make_resident_dataset(None, STEPS, 5, TWO_EPOCHS, Replicas(2, 0, 2))
    assert set(next(iter(alone))["replicas"][0]) == {"index"}
    np.testing.assert_array_equal(indices(alone)[:13].reshape(-1)[:203], epoch_order(203, 5, 0))


def test_host_scales_like_numpy(arrays):
    scaling = HostScaling(Normalization("standard", (100.0,), (50.0,)), (8, 8, 1), "float32")
    element = next(make_resident_dataset(arrays, STEPS, 5, TWO_EPOCHS, Replicas(), scaling).as_numpy_iterator())
    (part,) = element["replicas"]
    pixels = arrays.images[part["index"]].reshape(4, 16, 8, 8, 1)
    np.testing.assert_allclose(part["image"], (pixels.astype(np.float32) - 100) / 50, atol=1e-6)


@pytest.mark.parametrize("batch", [1, 7, 64, 203, 500])
@pytest.mark.parametrize("source", ["arrays", "reader"])
def test_evaluation_sees_every_example_once_in_order(request, source, batch):
    dataset = make_evaluation_dataset(request.getfixturevalue(source), Steps(203, batch, 3), Replicas())
    served = indices(dataset).reshape(-1)
    assert served[served >= 0].tolist() == list(range(203))


@pytest.mark.parametrize("source", ["arrays", "reader"])
def test_evaluation_over_replicas_has_the_images_of_its_rows(request, arrays, source):
    assert_content(make_evaluation_dataset(request.getfixturevalue(source), STEPS, Replicas(4, 0, 4)), arrays)


def test_batch_that_does_not_divide_is_refused(arrays):
    with pytest.raises(ValueError, match="a batch of 16 does not divide among 3 replicas"):
        make_resident_dataset(arrays, STEPS, 5, TWO_EPOCHS, Replicas(3, 0, 3))


def test_no_feed_is_tuned_by_tensorflow(make, arrays, reader):
    evaluations = [make_evaluation_dataset(source, STEPS, Replicas()) for source in (arrays, reader)]
    for dataset in (make(TWO_EPOCHS, Replicas()), *evaluations):
        assert dataset.options().autotune.enabled is False
