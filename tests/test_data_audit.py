"""Duplicates, leaks, two labels, near-duplicates and drift, on data sets in which each was planted."""

import csv

import numpy as np
import pytest

from pipeline.data_audit.audit import HEADER, audit
from pipeline.data_audit.drift import Content, class_drift, describe_drift, intensity_drift
from pipeline.data_audit.drop import write_without_duplicates
from pipeline.data_audit.perceptual import MAX_DISTANCE, close_pairs
from pipeline.errors import InputError
from pipeline.format.manifest import load_manifest
from pipeline.format.verify import inspect
from tests.helpers.conversion import PIXELS, convert_texts, read_split
from tests.helpers.datasets import write_dataset

SIDE = 12


def blobs(seed, count):
    """Images uint8 [n, 12, 12], smooth and all different."""
    generator = np.random.default_rng(seed)
    waves = generator.normal(size=(count, 4, 4)).repeat(3, axis=1).repeat(3, axis=2)
    return np.clip(128 + 50 * waves, 0, 255).astype(np.uint8)


def write(folder, images, labels, ids=None):
    """A data set of dicts split -> images, labels; ids count from 0."""
    splits = {
        name: (images[name], np.array(labels[name]), np.arange(len(labels[name])) if ids is None else ids[name])
        for name in images
    }
    return write_dataset(folder / "data", splits, shards=2)


@pytest.fixture
def planted(tmp_path):
    """Row 3 of train repeats row 1 under another label; row 2 of test is row 5 of train; rows 4 and 6 of test agree."""
    train, test = blobs(1, 40), blobs(2, 20)
    train[3], test[2], test[6] = train[1], train[5], test[4]
    labels = {"train": [k % 4 for k in range(40)], "test": [-1] * 20}
    return write(tmp_path, {"train": train, "test": test}, labels)


def run(directory, near=False):
    return audit(directory, load_manifest(directory), near)


def lines_of(result):
    return dict(line.split(": ", 1) for line in result.lines())


def details_of(result, folder):
    result.write_details(folder / "audit.csv")
    with (folder / "audit.csv").open(newline="") as file:
        header, *rows = csv.reader(file)
    assert tuple(header) == HEADER
    return rows


def test_planted_duplicates_are_counted_by_split(planted):
    lines = lines_of(run(planted))
    assert lines["duplicates"] == (
        "1 row of train repeats another; 1 row of test repeats another; 1 row of test occurs in train too"
    )
    assert lines["labels"] == "1 image has two labels or more"


def test_details_name_the_rows(planted, tmp_path):
    assert details_of(run(planted), tmp_path) == [
        ["two labels", "0", "train", "1", "1", "1", "2 rows of train"],
        ["two labels", "0", "train", "3", "3", "3", "2 rows of train"],
        ["leak", "1", "train", "5", "5", "1", "2 rows of train and test"],
        ["leak", "1", "test", "2", "2", "", "2 rows of train and test"],
        ["duplicate", "2", "test", "4", "4", "", "2 rows of test"],
        ["duplicate", "2", "test", "6", "6", "", "2 rows of test"],
    ]


def test_images_that_differ_in_one_byte_are_no_duplicates(tmp_path):
    images = np.repeat(blobs(1, 1), 255 * 4, axis=0)
    for place in range(4):  # the last bytes of a word are where a weak hash loses a difference
        images.reshape(4, 255, -1)[place, :, 4 + place] = np.arange(255)
    distinct = len(np.unique(images.reshape(len(images), -1), axis=0))
    found = run(write(tmp_path, {"train": images}, {"train": [0] * len(images)})).duplicates
    assert found.repeated(0) == len(images) - distinct


def test_data_without_duplicates_are_reported_as_such(tmp_path):
    images = {"train": blobs(1, 30), "val": blobs(2, 10), "test": blobs(3, 10)}
    labels = {name: [k % 2 for k in range(len(values))] for name, values in images.items()}
    lines = lines_of(run(write(tmp_path, images, labels)))
    assert lines["duplicates"] == "no image occurs twice in a split; train, val and test share none"
    assert lines["labels"] == "no image has two labels"
    assert lines["classes"].startswith("val has the shares of train (0.0% apart); test has")
    assert "near-duplicates" not in lines


def test_leaks_are_refused_with_the_first(planted):
    with pytest.raises(
        InputError, match=r"1 row of test occurs in train too; the first is id 5 of train, .* id 2 of test"
    ):
        run(planted).check_leaks()


def test_changed_copies_are_near_duplicates_and_others_are_not(tmp_path):
    train, test = blobs(1, 200), blobs(2, 60)
    noise = np.random.default_rng(3).integers(-3, 4, (SIDE, SIDE))
    test[10] = np.clip(train[20] + noise, 0, 255)
    test[11] = train[30] * 0.9
    test[12] = train[40]  # equal, so not nearly equal
    data = write(tmp_path, {"train": train, "test": test}, {"train": [0] * 200, "test": [-1] * 60})
    result = run(data, near=True)
    assert lines_of(result)["near-duplicates"] == "2 rows of test nearly equal one of train"
    near = [row[1:5] for row in details_of(result, tmp_path) if row[0] == "near-duplicate"]
    assert near == [
        ["1", "test", "10", "10"],
        ["1", "train", "20", "20"],
        ["2", "test", "11", "11"],
        ["2", "train", "30", "30"],
    ]


def test_bands_find_every_pair_within_the_distance():
    generator = np.random.default_rng(4)
    base = generator.integers(0, 2**64, 300, dtype=np.uint64)
    flips = [
        np.bitwise_or.reduce(np.uint64(1) << generator.choice(64, k % 6, replace=False).astype(np.uint64))
        for k in range(120)
    ]
    others = base[:120] ^ np.array(flips, np.uint64)
    expected = {
        (k, j): (int(others[k]) ^ int(base[j])).bit_count()
        for k in range(len(others))
        for j in range(len(base))
        if (int(others[k]) ^ int(base[j])).bit_count() <= MAX_DISTANCE
    }
    first, second, distances = close_pairs(base, others)
    assert len(first) == len(expected) == 80
    assert dict(zip(zip(first.tolist(), second.tolist(), strict=True), distances.tolist(), strict=True)) == expected


@pytest.mark.parametrize(
    ("counts", "differs"),
    [((100, 100, 100), False), ((11, 9, 10), False), ((200, 50, 50), True)],
    ids=["equal", "a small split, as chance has it", "other shares"],
)
def test_class_drift_allows_for_chance(counts, differs):
    drift = class_drift(np.array(counts), np.array([1000, 1000, 1000]))
    assert drift.differs == differs


def test_class_drift_is_the_share_of_rows_to_move():
    drift = class_drift(np.array([200, 50, 50]), np.array([100, 100, 100]))
    assert drift.distance == pytest.approx(1 / 3) and drift.worst == 0
    text = drift.describe("val", "train", ["a", "b", "c"])
    assert text == "val has other shares than train, 33.3% apart (most in class a: 66.7%, in train 33.3%)"


@pytest.mark.parametrize(("shift", "words"), [(0.0, "is like"), (2.0, "differs a little from"), (10.0, "differs from")])
def test_intensity_drift_is_in_standard_deviations(shift, words):
    values = np.random.default_rng(5).normal(100, 10, (4000, 2))
    drift = intensity_drift(values + [shift, 0], values)
    assert drift.effect == pytest.approx(shift / 10, rel=0.05)
    assert drift.describe("test", "train").startswith(
        f"test {words} train, {drift.effect:.2f} standard deviations apart"
    )


def test_intensity_of_small_splits_allows_for_chance():
    own, base = np.split(np.random.default_rng(6).normal(100, 10, (12, 2)), [4])
    drift = intensity_drift(own, base)
    assert drift.effect > 0.3 and not drift.differs
    assert "deviations apart, which may be chance with so few rows (mean" in drift.describe("test", "train")
    shares = class_drift(np.array([2, 1]), np.array([4, 4]))
    text = "test has the shares of train (16.7% apart, which may be chance with so few rows)"
    assert shares.describe("test", "train", ["a", "b"]) == text
    assert intensity_drift(own + 100, base).differs


def test_brighter_split_is_reported(tmp_path):
    images = {"train": blobs(1, 200), "test": np.minimum(blobs(2, 100), 215) + 40}
    lines = lines_of(run(write(tmp_path, images, {"train": [0] * 200, "test": [-1] * 100})))
    assert lines["intensity"].startswith("test differs from train, ")
    assert f"(mean {images['test'].mean():.1f}, in train {images['train'].mean():.1f}; " in lines["intensity"]


def test_dropping_removes_rows_of_train_only(planted, tmp_path):
    assert write_without_duplicates(run(planted), tmp_path / "clean") == 3
    manifest = load_manifest(tmp_path / "clean")
    assert list(inspect(tmp_path / "clean", manifest).lines()) == []
    before, after = (read_split(folder, "train") for folder in (planted, tmp_path / "clean"))
    kept = [row for row in range(40) if row not in (1, 3, 5)]
    for old, new in zip(before, after, strict=True):
        np.testing.assert_array_equal(old[kept], new)
    np.testing.assert_array_equal(read_split(planted, "test")[0], read_split(tmp_path / "clean", "test")[0])
    lines = lines_of(run(tmp_path / "clean"))
    assert lines["duplicates"] == "1 row of test repeats another; train and test share none"
    with pytest.raises(InputError, match="no row of train is to be dropped"):
        write_without_duplicates(run(tmp_path / "clean"), tmp_path / "again")
    assert not (tmp_path / "again").exists()


def test_nothing_is_written_if_nothing_of_train_would_be_left(tmp_path):
    images = blobs(1, 5)
    data = write(tmp_path, {"train": images, "test": images}, {"train": [0] * 5, "test": [0] * 5})
    with pytest.raises(InputError, match="every row of train would be dropped; is another split the same file"):
        write_without_duplicates(run(data), tmp_path / "clean")
    assert not (tmp_path / "clean").exists()


def test_text_ids_are_shown_and_kept(tmp_path):
    rows = [f"{name},{k % 3},{k // 2},7,8,9" for k, name in enumerate("abcdefgh")]
    convert_texts(tmp_path, {"train": "\n".join([f"id,label,{PIXELS}", *rows]) + "\n"})
    result = run(tmp_path / "data")
    assert [row[3] for row in details_of(result, tmp_path)] == list("abcdefgh")
    with pytest.raises(InputError):  # each image has two labels, so no row would be left
        write_without_duplicates(result, tmp_path / "clean")


def test_drift_of_splits_is_numbers_and_text():
    images = np.random.default_rng(0).integers(0, 100, (300, 16), np.uint8)
    labels = np.arange(300) % 3
    contents = {"train": Content.of(images, labels, 3), "val": Content.of(images, labels // 2, 3)}
    contents["test"] = Content.of(images + np.uint8(60), None, 3)
    found = describe_drift(contents, "train", ["a", "b", "c"])
    assert list(found) == ["val", "test"] and list(found["test"]) == ["intensity"]
    assert found["val"]["classes"]["distance"] == pytest.approx(1 / 3)
    assert found["val"]["classes"]["text"].startswith("val has other shares than train, 33.3% apart")
    assert found["val"]["intensity"]["text"].startswith("val is like train")
    assert found["test"]["intensity"]["text"].startswith("test differs from train")
