import numpy as np
import pytest

from pipeline.benchmark import baselines
from pipeline.feed.resident import load_split
from pipeline.format.manifest import load_manifest

TRAIN_ROWS, BATCH = 203, 7


def distinct(images: np.ndarray) -> tuple[np.ndarray, ...]:
    """The different images, and how often each occurs."""
    return np.unique(images.reshape(len(images), -1), axis=0, return_counts=True)


@pytest.fixture(scope="module")
def arrays(digits):
    return load_split(digits, load_manifest(digits), "train")


@pytest.fixture
def recipes(digits, arrays):
    paths = sorted(map(str, digits.glob("*train*")))
    return {
        "textbook": lambda: baselines.textbook(paths, 64, BATCH, "uint8", cached=False),
        "textbook cached": lambda: baselines.textbook(paths, 64, BATCH, "uint8", cached=True),
        "keras arrays": lambda: baselines.keras_arrays(arrays, BATCH),
        "tfds": lambda: baselines.tfds_recipe(digits, BATCH),
    }


@pytest.mark.parametrize("recipe", ["textbook", "textbook cached", "keras arrays", "tfds"])
def test_baseline_serves_every_image_of_an_epoch_once(recipes, arrays, recipe):
    if recipe == "tfds":
        pytest.importorskip("tensorflow_datasets")
    served = np.concatenate([image.numpy() for image, _ in recipes[recipe]().take(TRAIN_ROWS // BATCH)])
    if served.dtype == np.float32:
        served = np.rint(served * 255).astype(np.uint8)
    for actual, expected in zip(distinct(served), distinct(arrays.images), strict=True):
        np.testing.assert_array_equal(actual, expected)


def test_numpy_gather_scales_floats_to_one(arrays):
    order = np.array([3, 0])
    np.testing.assert_array_equal(baselines.numpy_gather(arrays.images, order, "uint8"), arrays.images[order])
    floats = baselines.numpy_gather(arrays.images, order, "float32")
    np.testing.assert_allclose(floats, arrays.images[order] / 255, rtol=1e-6)
