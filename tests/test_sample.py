"""The sample that the project draws: the same rows from the same numbers, in any portion, and a real task."""

import tracemalloc

import numpy as np
import pytest

from pipeline.errors import InputError
from pipeline.sample import csv_file, draw, draw_chunks, write_sample_csv
from pipeline.sample.strokes import make_forms
from tools import make_sample_csv


@pytest.fixture(scope="module")
def train_set():
    return draw(4000, seed=1)


@pytest.fixture(scope="module")
def unseen_set():
    return draw(2000, seed=2)


def _read_csv(path):
    table = np.loadtxt(path, delimiter=",", skiprows=1, dtype=np.int64, ndmin=2)
    return table[:, 1:].reshape(-1, 28, 28), table[:, 0]


def _nearest_mean_correct(train_set, unseen_set):
    """bool [n]: whether the nearest class mean of `train_set` is right on each row of `unseen_set`."""
    train_pixels, test_pixels = (
        images.reshape(len(images), -1).astype(np.float64) for images, _ in (train_set, unseen_set)
    )
    means = np.stack([train_pixels[train_set[1] == digit].mean(axis=0) for digit in range(10)])
    distances = (means**2).sum(axis=1) - 2 * test_pixels @ means.T
    return distances.argmin(axis=1) == unseen_set[1]


def test_images_and_labels_have_the_promised_form(train_set):
    images, labels = train_set
    assert images.shape == (4000, 28, 28) and images.dtype == np.uint8
    assert labels.shape == (4000,) and labels.dtype == np.int64
    assert set(labels) == set(range(10))


def test_same_numbers_give_same_rows(train_set):
    again = draw(300, seed=1)
    np.testing.assert_array_equal(again[0], train_set[0][:300])  # and so a short sample is the beginning of a long one
    np.testing.assert_array_equal(again[1], train_set[1][:300])


@pytest.mark.parametrize("chunk_rows", [1, 7, 200, 1000])
def test_chunk_size_changes_nothing(train_set, chunk_rows):
    images, labels = zip(*draw_chunks(450, 1, chunk_rows=chunk_rows), strict=True)
    np.testing.assert_array_equal(np.concatenate(images), train_set[0][:450])
    np.testing.assert_array_equal(np.concatenate(labels), train_set[1][:450])


@pytest.mark.parametrize("start", [1, 199, 200, 3990])
def test_a_later_start_gives_the_later_rows(train_set, start):
    images, labels = draw(10, seed=1, start=start)
    np.testing.assert_array_equal(images, train_set[0][start : start + 10])
    np.testing.assert_array_equal(labels, train_set[1][start : start + 10])


def test_another_seed_gives_other_rows(train_set, unseen_set):
    assert (train_set[0][:2000] != unseen_set[0]).any(axis=(1, 2)).all()
    assert (train_set[1][:2000] != unseen_set[1]).any()


def test_no_row_comes_twice(train_set):
    assert len(np.unique(train_set[0].reshape(4000, -1), axis=0)) == 4000


def test_a_writer_resembles_himself_more_than_others(train_set):
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


def test_ten_rows_cut_short_are_still_different_digits():
    _, labels = draw(21, seed=3, rows_per_writer=7)
    assert all(len(set(writer)) == 7 for writer in labels.reshape(3, 7))


def test_ink_is_like_that_of_kannada_mnist(train_set):
    # There, over the first 20,000 rows: mean 20.9, 8.0 % of the pixels above 128, 13.6 % not paper.
    images, _ = train_set
    assert 18 < images.mean() < 25
    assert 0.07 < (images > 128).mean() < 0.10
    assert 0.12 < (images > 0).mean() < 0.16
    assert (images.max(axis=(1, 2)) > 150).all()


def test_digits_fill_the_box_and_are_centred(train_set):
    ink = train_set[0].astype(float)
    ways = np.arange(28)
    rows, columns = ((ink.sum(axis=axis) @ ways) / ink.sum(axis=(1, 2)) for axis in (2, 1))
    assert abs(rows.mean() - 14) < 0.2 and abs(columns.mean() - 14) < 0.2
    assert rows.std() < 1 and columns.std() < 1
    sides = [(train_set[0] > 60).any(axis=axis).sum(axis=1) for axis in (1, 2)]
    assert 19 < np.median(np.maximum(*sides)) < 22


def test_class_means_do_not_solve_it_but_show_every_class(train_set, unseen_set):
    correct = _nearest_mean_correct(train_set, unseen_set)
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
    single_stroke = forms.first[6]
    places, steps = (matrix[single_stroke] @ forms.points[single_stroke] for matrix in (forms.position, forms.velocity))
    central = (places[2:] - places[:-2]) / 2
    np.testing.assert_allclose(steps[1:-1], central, atol=0.1)


def test_csv_has_kaggles_layout_and_the_drawn_values(tmp_path, train_set):
    path = write_sample_csv(tmp_path / "train.csv", 300, 1)
    lines = path.read_bytes().split(b"\n")
    assert lines[0].decode() == "label," + ",".join(f"pixel{k}" for k in range(784))
    assert len(lines) == 302 and lines[-1] == b""
    images, labels = _read_csv(path)
    np.testing.assert_array_equal(images, train_set[0][:300])
    np.testing.assert_array_equal(labels, train_set[1][:300])


def _peak_memory(path, num_rows):
    tracemalloc.start()
    write_sample_csv(path, num_rows, seed=1)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    return peak


def test_memory_does_not_grow_with_rows(tmp_path):
    _peak_memory(tmp_path / "warm.csv", 1)
    few, many = (_peak_memory(tmp_path / "sample.csv", rows) for rows in (500, 2500))
    assert many < 1.1 * few


def test_tool_writes_the_same_file(tmp_path, capsys):
    make_sample_csv.main([str(tmp_path / "a.csv"), "--rows", "30", "--seed", "4", "--rows-per-writer", "10"])
    assert "30 rows by 3 writers" in capsys.readouterr().out
    write_sample_csv(tmp_path / "b.csv", 30, 4, 10)
    assert (tmp_path / "a.csv").read_bytes() == (tmp_path / "b.csv").read_bytes()
    assert len(list(tmp_path.iterdir())) == 2


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["x.csv", "--rows", "0"], "num_rows is 0"),
        (["x.csv", "--rows", "-5"], "num_rows is -5"),
        (["x.csv", "--seed", "-1"], "seed is -1"),
        (["x.csv", "--rows-per-writer", "0"], "rows_per_writer is 0"),
        (["."], "is a directory"),
        (["missing/x.csv"], "no directory missing"),
        (["old.csv/x.csv"], "no directory old.csv"),
        (["x" * 300], "too long"),
    ],
    ids=lambda value: None if isinstance(value, str) else " ".join(value)[:30],
)
def test_bad_arguments_are_refused_and_leave_nothing(tmp_path, monkeypatch, arguments, said):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "old.csv").write_text("old")
    with pytest.raises(InputError, match=said):
        make_sample_csv.main(arguments)
    assert [path.name for path in tmp_path.iterdir()] == ["old.csv"]


def test_a_failure_half_way_keeps_the_old_file_and_leaves_nothing(tmp_path, monkeypatch):
    def fail_after_a_chunk(num_rows, seed, rows_per_writer):
        yield draw(10, seed, rows_per_writer=rows_per_writer)
        raise OSError("disk full")

    (tmp_path / "old.csv").write_text("old")
    monkeypatch.setattr(csv_file, "draw_chunks", fail_after_a_chunk)
    with pytest.raises(OSError, match="disk full"):
        write_sample_csv(tmp_path / "old.csv", 20, 1)
    assert [path.name for path in tmp_path.iterdir()] == ["old.csv"]
    assert (tmp_path / "old.csv").read_text() == "old"
