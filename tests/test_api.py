"""`import pipeline` as programs use it."""

import subprocess
import sys

import keras
import numpy as np
import pytest
import tensorflow as tf

import pipeline
from pipeline.errors import InputError
from pipeline.feed.order import epoch_order
from pipeline.train.progress import StopRequested
from tests.helpers.datasets import bars

ROWS = 203


def small_network(image_shape, num_classes):
    """A user's function: no dtype, no layer types."""
    layers = [keras.layers.Flatten(), keras.layers.Dense(num_classes, name="logits"), keras.layers.Softmax()]
    return keras.Sequential([keras.Input(image_shape), *layers])


def test_import_is_light_and_rooms_stay_importable():
    code = "import sys, pipeline; assert not {'tensorflow', 'numpy', 'keras', 'msgspec'} & set(sys.modules)"
    code += "; import pipeline.train.config; assert callable(pipeline.train) and callable(pipeline.convert)"
    code += "; assert 'tensorflow' not in sys.modules and pipeline.train.config.TrainConfig"
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)
    with pytest.raises(AttributeError, match="no attribute 'lod'"):
        pipeline.lod  # noqa: B018


def test_each_iteration_is_the_next_epoch_of_the_projects_order(digits):
    dataset = pipeline.load(digits, "train", batch_size=16, dtype="uint8", seed=3, first_epoch=1)
    assert dataset.cardinality() == 13
    assert dataset.element_spec[0].shape.as_list() == [None, 8, 8, 1]
    for epoch in (1, 2):
        images = np.concatenate([image.numpy()[..., 0] for image, _ in dataset])
        np.testing.assert_array_equal(images, bars(range(ROWS))[0][epoch_order(ROWS, 3, epoch)])


def test_images_are_normalized_and_other_splits_in_their_order(digits):
    images, labels = bars(range(203, 253))
    ((image, label, weight),) = pipeline.load(str(digits), "val", batch_size=64, weights=True)
    np.testing.assert_allclose(image[:50, ..., 0], images / 255, rtol=1e-6)
    assert label[:50].numpy().tolist() == labels.tolist()
    assert weight.numpy().tolist() == [1] * 50 + [0] * 14
    (image,) = pipeline.load(digits, "test", batch_size=64, normalization="standard")  # without labels
    assert image.shape == (31, 8, 8, 1) and abs(float(tf.reduce_mean(image))) < 0.2


@pytest.mark.parametrize("devices", [1, 2])
def test_fit_sees_every_example_once_per_epoch_under_any_strategy(digits, devices):
    names = [f"CPU:{index}" for index in range(devices)]
    strategy = tf.distribute.MirroredStrategy(names) if devices > 1 else tf.distribute.get_strategy()
    with strategy.scope():
        model = small_network((8, 8, 1), 3)
        model.compile("adam", "sparse_categorical_crossentropy", weighted_metrics=[Total(name="rows")])
    dataset = pipeline.load(digits, "train", batch_size=16, weights=True)
    history = model.fit(dataset, validation_data=pipeline.load(digits, "val", batch_size=16), epochs=2, verbose=0)
    assert history.history["rows"] == [ROWS, ROWS]
    assert len(history.history["val_loss"]) == 2


class Total(keras.metrics.Sum):
    """The sum of the examples' weights."""

    def update_state(self, y_true, y_pred, sample_weight=None):
        return super().update_state(tf.ones(tf.shape(y_true)), sample_weight)


def test_several_files_of_a_split_are_a_list(tmp_path):
    (tmp_path / "a.csv").write_text("label,pixel0\n1,2\n0,3\n")
    (tmp_path / "b.csv").write_text("label,pixel0\n1,4\n")
    files = [tmp_path / "a.csv", str(tmp_path / "b.csv")]
    assert pipeline.convert({"train": files}, tmp_path / "out").split("train").num_examples == 3


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda data: pipeline.load(data, "trains"), "trains"),
        (lambda data: pipeline.load(data, "train", batch_size=0), "batch_size 0"),
        (lambda data: pipeline.load(data, "train", dtype="int32"), "dtype 'int32'"),
        (lambda data: pipeline.train(None, data, epoch=3), "epoch is not a setting of a training; did you mean epochs"),
        (lambda _: pipeline.convert({}, "o", val_fracton=0.1), "setting of a conversion; did you mean val_frac"),
        (lambda _: pipeline.convert({}, "o", shards="3"), "^shards: Expected `int | null`, got `str`$"),
        (lambda _: pipeline.convert({}, "o", image_shape="28"), "^image_shape: Expected `array"),
        (lambda _: pipeline.convert({"train": 5}, "o"), "^splits: Expected `str`, got `int`"),
        (lambda data: pipeline.train(None, data, epochs="3"), "^epochs: Expected `int`, got `str`$"),
        (lambda data: pipeline.train(None, data, epochs=2.5), "^epochs: Expected `int`, got `float`$"),
        (lambda data: pipeline.train(None, data, memory_budget="4 bananas"), "^memory_budget: '4 bananas' is not"),
        (lambda _: pipeline.train(None, 5), "^data: Expected `str`, got `int`$"),
        (lambda data: pipeline.train(None, data, recipe={"epochs": 1}), "--recipe {'epochs': 1}: choose one of"),
        (lambda data: pipeline.train(None, data, folds=3), "use train.py --folds"),
        (lambda data: pipeline.predict(data, np.zeros((1, 8, 8, 1), np.uint8)), "no saved_model"),
        (lambda data: pipeline.load(data, batch_size="64"), "batch_size '64', first_epoch 0"),
        (lambda data: pipeline.load(data, dtype="float33"), "dtype 'float33'.*uint8 or a float type"),
        (lambda data: pipeline.load(data, seed="a"), "seed 'a'.*a whole seed"),
        (lambda data: pipeline.load(data, first_epoch=-1), "first_epoch -1.*an epoch from 0"),
        (lambda data: pipeline.train(3, data), "3 is not a function that makes a network"),
        (lambda data: pipeline.train(keras.Sequential(), data), "is not a function that makes a network"),
        (
            lambda data: pipeline.train(None, data, callbacks=[3]),
            r"callbacks is \[3\]; give a list of objects",
        ),
        (lambda _: pipeline.convert("train.csv", "out"), "splits is 'train.csv'; give files by split"),
    ],
)
def test_a_mistake_is_one_line(digits, call, message):
    with pytest.raises(InputError, match=message):
        call(digits)


def test_a_function_of_a_program_is_trained_resumed_and_used(digits, tmp_path):
    class StopOnce(keras.callbacks.Callback):
        stopped = False

        def on_epoch_end(self, epoch, logs=None):
            if not self.stopped:
                StopOnce.stopped = True
                raise StopRequested(15)

    def network(image_shape, num_classes):
        return small_network(image_shape, num_classes)

    settings = {"recipe": "tutorial", "run_dir": tmp_path / "run", "epochs": 3, "audit": True, "learning_rate": 0.05}
    with pytest.raises(SystemExit):
        pipeline.train(network, digits, callbacks=[StopOnce()], **settings)
    result = pipeline.train(network, str(digits), **settings)
    assert [row["epoch"] for row in result.history] == [1, 2, 3]
    assert result.accuracy["val"] > 0.9 and set(result.accuracy) == {"train", "val"}
    assert result.load_model().output_shape == (None, 3)
    images, labels = bars(range(253, 284))
    assert (pipeline.predict(result.run_dir, images).argmax(axis=1) == labels).mean() > 0.9
    with pytest.raises(InputError, match=r"images are uint8 \[1, 3\]; give uint8 \[n, 8, 8, 1\]"):
        pipeline.predict(result.run_dir, np.zeros((1, 3), np.uint8))
    with pytest.raises(InputError, match=r"images are uint8 \[1, 1, 8, 8\]"):
        pipeline.predict(result.run_dir, np.zeros((1, 1, 8, 8), np.uint8))
