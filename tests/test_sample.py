"""The drawn sample: the same rows from the same numbers, written like Kaggle's CSVs, and a real task."""

import tracemalloc

import numpy as np
import pytest

from pipeline.errors import InputError
from pipeline.format.manifest import load_manifest
from pipeline.sample import dataset
from pipeline.sample.dataset import make_sample_dataset, write_sample_csv
from pipeline.sample.draw import ROWS_PER_WRITER, draw_chunks
from pipeline.sample.strokes import make_forms
from tools import make_sample_csv


def draw(num_rows: int, seed: int, rows_per_writer: int = ROWS_PER_WRITER) -> tuple[np.ndarray, np.ndarray]:
    images, labels = zip(*draw_chunks(num_rows, seed, rows_per_writer), strict=True)
    return np.concatenate(images), np.concatenate(labels)


@pytest.fixture(scope="module")
def train_set():
    return draw(4000, seed=1)


@pytest.fixture(scope="module")
def unseen_set():
    return draw(2000, seed=2)


@pytest.mark.parametrize("rows", [1, 199, 250, 251, 700])
def test_a_shorter_sample_is_the_beginning_of_a_longer_one(train_set, rows):
    for short, long in zip(draw(rows, seed=1), train_set, strict=True):
        np.testing.assert_array_equal(short, long[:rows])


def test_all_rows_differ_and_another_seed_gives_other_rows(train_set, unseen_set):
    both = np.concatenate([train_set[0], unseen_set[0]])
    assert len(np.unique(both.reshape(6000, -1), axis=0)) == 6000
    assert (train_set[1][:2000] != unseen_set[1]).any()


def test_a_writer_resembles_themselves_more_than_others(train_set):
    pixels = np.stack([train_set[0][train_set[1] == digit].reshape(20, 20, -1) for digit in range(10)]).astype(float)
    own_mean = pixels.mean(axis=2, keepdims=True)
    other_mean = np.roll(own_mean, 1, axis=1)
    to_own, to_other = (np.square(pixels - mean).mean() for mean in (own_mean, other_mean))
    assert to_own < 0.7 * to_other


def test_a_new_writer_begins_after_rows_per_writer():
    few, many = (draw(40, seed=1, rows_per_writer=rows)[0] for rows in (20, 40))
    np.testing.assert_array_equal(few[:20], many[:20])
    assert (few[20:] != many[20:]).any(axis=(1, 2)).all()


@pytest.mark.parametrize("rows_per_writer", [10, 200])
def test_every_writer_writes_each_digit_equally_often(rows_per_writer):
    _, labels = draw(400, seed=3, rows_per_writer=rows_per_writer)
    for writer in labels.reshape(-1, rows_per_writer):
        assert (np.bincount(writer, minlength=10) == rows_per_writer // 10).all()
    assert len({tuple(turn) for turn in labels.reshape(-1, 10)}) > 30  # orders of 40 turns


def test_ink_is_like_that_of_kannada_mnist(train_set):
    # There, over the first 20,000 rows: mean 20.9, 8.0 % of the pixels above 128, 13.6 % not paper.
    images, _ = train_set
    assert 18 < images.mean() < 25
    assert 0.07 < (images > 128).mean() < 0.10
    assert 0.12 < (images > 0).mean() < 0.16
    assert (images.max(axis=(1, 2)) > 150).all()


def test_digits_fill_the_box_and_are_centred(train_set):
    ink = train_set[0].astype(float)
    rows, columns = ((ink.sum(axis=axis) @ np.arange(28)) / ink.sum(axis=(1, 2)) for axis in (2, 1))
    assert abs(rows.mean() - 14) < 0.2 and abs(columns.mean() - 14) < 0.2
    assert rows.std() < 1 and columns.std() < 1
    sides = [(train_set[0] > 60).any(axis=axis).sum(axis=1) for axis in (1, 2)]
    assert 19 < np.median(np.maximum(*sides)) < 22


def test_class_means_do_not_solve_it_but_show_every_class(train_set, unseen_set):
    pixels, unseen = (images.reshape(len(images), -1).astype(float) for images, _ in (train_set, unseen_set))
    means = np.stack([pixels[train_set[1] == digit].mean(axis=0) for digit in range(10)])
    correct = ((means**2).sum(axis=1) - 2 * unseen @ means.T).argmin(axis=1) == unseen_set[1]
    assert 0.70 < correct.mean() < 0.90
    assert min(correct[unseen_set[1] == digit].mean() for digit in range(10)) > 0.4


def test_curves_pass_through_every_point():
    forms = make_forms()
    for points, position in zip(forms.points, forms.position, strict=True):
        used = position.any(axis=0)
        distances = np.hypot(*(points[used][:, None] - position @ points).transpose(2, 0, 1))
        assert distances.min(axis=1).max() < 0.8  # pixels; samples lie up to this far apart


def test_velocity_is_the_way_between_samples():
    forms = make_forms()
    form = forms.first_form[6]  # of a single stroke
    places, steps = (matrix[form] @ forms.points[form] for matrix in (forms.position, forms.velocity))
    np.testing.assert_allclose(steps[1:-1], (places[2:] - places[:-2]) / 2, atol=0.1)


def test_the_tool_writes_kaggles_layout_and_the_drawn_values(tmp_path, train_set, capsys):
    path = tmp_path / "train.csv"
    make_sample_csv.main([str(path), "--rows", "300", "--seed", "1"])
    assert capsys.readouterr().out == f"{path}: 300 rows, seed 1\n"
    lines = path.read_bytes().split(b"\n")
    assert lines[0].decode() == "label," + ",".join(f"pixel{k}" for k in range(784))
    assert len(lines) == 302 and lines[-1] == b""
    table = np.loadtxt(path, delimiter=",", skiprows=1, dtype=np.int64)
    np.testing.assert_array_equal(table[:, 1:].reshape(-1, 28, 28), train_set[0][:300])
    np.testing.assert_array_equal(table[:, 0], train_set[1][:300])


def test_memory_does_not_grow_with_rows(tmp_path):
    def peak(num_rows):
        tracemalloc.start()
        write_sample_csv(tmp_path / "sample.csv", num_rows, seed=1)
        size = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return size

    peak(1)  # imports and caches
    assert peak(2500) < 1.1 * peak(500)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["old.csv", "--rows", "0"], "num_rows is 0"),
        (["old.csv", "--seed", "-1"], "seed is -1"),
        (["."], "not a regular file"),
        (["missing/x.csv"], "No such file or directory: 'missing/x.csv'"),
        (["old.csv"], "disk full"),
    ],
)
def test_a_failure_keeps_the_old_file_and_leaves_nothing(tmp_path, monkeypatch, arguments, message):
    def fail_after_a_chunk(*numbers):
        yield next(draw_chunks(*numbers))
        raise OSError("disk full")

    if message == "disk full":
        monkeypatch.setattr(dataset, "draw_chunks", fail_after_a_chunk)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "old.csv").write_text("old")
    with pytest.raises((InputError, OSError), match=message):
        make_sample_csv.main(arguments)
    assert [path.name for path in tmp_path.iterdir()] == ["old.csv"]
    assert (tmp_path / "old.csv").read_text() == "old"


def test_the_sample_data_set_keeps_writers_on_one_side(tmp_path, capsys):
    make_sample_dataset(tmp_path / "data" / "sample", 400, 30, rows_per_writer=20)
    manifest = load_manifest(tmp_path / "data" / "sample")
    sizes = {name: split.num_examples for name, split in manifest.splits.items()}
    assert sizes == {"train": 360, "val": 40, "test": 30}
    assert manifest.split("val").class_counts == (4,) * 10
    assert [path.name for path in (tmp_path / "data").iterdir()] == ["sample"]
    assert "400 + 30 drawn numerals" in capsys.readouterr().out
