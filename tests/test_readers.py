"""Each container through a whole conversion; tests/test_arrays.py and others read them one by one."""

import dataclasses
import gzip

import numpy as np
import pytest

from pipeline.convert.config import ConvertConfig
from pipeline.convert.converter import convert
from pipeline.convert.read_options import ReadOptions
from pipeline.convert.readers import find_reader
from pipeline.errors import InputError
from tests.helpers.containers import (
    CLASSES,
    IMAGES,
    LABELS,
    NAMES,
    hub_metadata,
    idx,
    npy,
    npz,
    picture,
    write_list,
    write_pictures,
    zipped,
)
from tests.helpers.conversion import read_split
from tests.helpers.datasets import write_csv

TRAIN, TEST = slice(0, 20), slice(20, 30)


def arrays(folder):
    path = npz(folder / "a.npz", x_train=IMAGES[TRAIN], y_train=LABELS[TRAIN], x_test=IMAGES[TEST], y_test=LABELS[TEST])
    return {"train": path, "test": path}, {}


def one_array_each(folder):
    path = npz(folder / "a.npz", x_a=IMAGES[TRAIN], y_a=LABELS[TRAIN], x_b=IMAGES[TEST], y_b=LABELS[TEST])
    return {"train": f"{path}:x_a", "test": f"{path}:x_b"}, {}


def idx_with_labels_elsewhere(folder):
    for name, rows in (("train", TRAIN), ("test", TEST)):
        (folder / f"{name}.gz").write_bytes(gzip.compress(idx(IMAGES[rows])))
        (folder / f"{name}.labels").write_bytes(idx(LABELS[rows].astype(np.uint8)))
    labels = tuple((name, folder / f"{name}.labels") for name in ("train", "test"))
    return {name: folder / f"{name}.gz" for name in ("train", "test")}, {"labels": labels}


def images_with_labels_in_a_csv(folder):
    splits, _ = idx_with_labels_elsewhere(folder)
    labels = [("train", write_list(folder / "a.csv", "label", NAMES[TRAIN]))]
    labels.append(("test", write_list(folder / "b.csv", "label", NAMES[TEST])))
    return splits, {"labels": tuple(labels)}


def members_of_a_zip(folder):
    texts = {
        f"{name}.csv": write_csv(folder / name, IMAGES[rows], LABELS[rows]).read_bytes()
        for name, rows in (("train", TRAIN), ("test", TEST))
    }
    (folder / "a.zip").write_bytes(zipped(texts))
    return {name: folder / f"a.zip:{name}.csv" for name in ("train", "test")}, {}


def image_files_and_a_list(folder):
    write_pictures(folder / "images", IMAGES, by_class=False)
    lists = {}
    for name, rows in (("train", range(20)), ("test", range(20, 30))):
        lists[name] = write_list(folder / f"{name}.csv", "key,name", [f"{row},{NAMES[row]}" for row in rows])
    return lists, {}


def hub(folder):
    pa = pytest.importorskip("pyarrow")
    parquet = pytest.importorskip("pyarrow.parquet")
    splits = {}
    for name, rows in (("train", range(20)), ("test", range(20, 30))):
        images = [{"bytes": picture(IMAGES[row]), "path": None} for row in rows]
        table = pa.table({"image": images, "label": LABELS[rows.start : rows.stop]})
        splits[name] = folder / f"{name}-00000-of-00001.parquet"
        parquet.write_table(table.replace_schema_metadata(hub_metadata()), splits[name])
    return splits, {}


@pytest.mark.parametrize(
    "layout",
    [
        arrays,
        one_array_each,
        idx_with_labels_elsewhere,
        images_with_labels_in_a_csv,
        members_of_a_zip,
        image_files_and_a_list,
        hub,
    ],
)
@pytest.mark.parametrize("workers", [1, 2])
def test_converted_rows_are_those_of_the_container(tmp_path, layout, workers):
    splits, options = layout(tmp_path)
    manifest = convert(ConvertConfig(tuple(splits.items()), tmp_path / "out", workers=workers, shards=2, **options))
    for name, rows in (("train", TRAIN), ("test", TEST)):
        images, labels, _ = read_split(tmp_path / "out", name)
        np.testing.assert_array_equal(images.reshape(-1, 8, 8), IMAGES[rows])
        np.testing.assert_array_equal(labels, LABELS[rows])
    assert manifest.class_names in (("0", "1", "2"), CLASSES)


def test_same_rows_twice_are_refused_but_not_two_arrays_of_one_file(tmp_path):
    path = npz(tmp_path / "a.npz", x=IMAGES, y=LABELS)
    with pytest.raises(InputError, match="a.npz:x: given twice, for split 'train' and for split 'more'"):
        convert(ConvertConfig((("train", path), ("more", f"{path}:x")), tmp_path / "out"))


def test_changes_to_all_images_are_said_once(tmp_path):
    splits, _ = arrays(tmp_path)
    notes = []
    options = ReadOptions(image_size=(4, 5), channels=3)
    manifest = convert(ConvertConfig(tuple(splits.items()), tmp_path / "out", options), on_notice=notes.append)
    assert manifest.image_shape == (4, 5, 3)
    assert notes.count("images are resized to 4 x 5 (bilinear, antialiased; proportions are not kept)") == 1


@pytest.mark.parametrize("by_class", [True, False], ids=["a folder per class", "labels in a CSV"])
def test_images_stored_by_columns_have_the_size_asked_for(tmp_path, by_class):
    turned = np.ascontiguousarray(IMAGES[:, :6].swapaxes(1, 2))
    write_pictures(tmp_path / "a", turned, by_class=by_class)
    labels = () if by_class else (("train", write_list(tmp_path / "a.csv", "label", NAMES)),)
    options = ReadOptions(transpose=True)
    for out, image_size in (("as-stored", None), ("resized", (5, 7))):
        read = dataclasses.replace(options, image_size=image_size)
        manifest = convert(ConvertConfig((("train", tmp_path / "a"),), tmp_path / out, read, labels=labels))
        assert manifest.image_shape == (*(image_size or (6, 8)), 1)
    order = np.argsort(NAMES, kind="stable") if by_class else np.arange(len(NAMES))
    np.testing.assert_array_equal(read_split(tmp_path / "as-stored", "train")[0].reshape(-1, 6, 8), IMAGES[order, :6])


def test_missing_labels_say_what_to_give(tmp_path):
    (tmp_path / "a").write_bytes(idx(IMAGES))
    with pytest.raises(
        InputError, match="a: no labels, which 'train' needs; give a file of labels with --labels train="
    ):
        convert(ConvertConfig((("train", tmp_path / "a"),), tmp_path / "out"))


def corrupted(data, rng):
    """The bytes with one to four of them changed, inserted or removed, or cut."""
    data = bytearray(data)
    for _ in range(rng.integers(1, 5)):
        place = int(rng.integers(0, len(data)))
        end = place + int(rng.integers(0, 9))
        data[place:end] = rng.bytes(int(rng.integers(0, 9)))
    return bytes(data[: int(rng.integers(1, len(data)))] if rng.random() < 0.2 else data)


@pytest.mark.parametrize("kind", ["idx", "idx.gz", "npy", "npz", "parquet"])
def test_corrupt_container_is_read_or_refused_in_one_line(tmp_path, kind):
    npz(tmp_path / "npz", x=IMAGES, y=LABELS)
    table = hub(tmp_path)[0]["train"].read_bytes() if kind == "parquet" else b""
    data = {
        "idx": idx(IMAGES),
        "idx.gz": gzip.compress(idx(IMAGES)),
        "npy": npy(IMAGES),
        "npz": (tmp_path / "npz").read_bytes(),
        "parquet": table,
    }[kind]
    rng, refused = np.random.default_rng(0), 0
    for _ in range(80):
        (tmp_path / "corrupt").write_bytes(corrupted(data, rng))
        try:
            reader = find_reader(tmp_path / "corrupt", ReadOptions())
            for _ in reader.blocks() if reader else ():
                pass
        except InputError as error:
            assert "\n" not in str(error)
            refused += 1
    assert refused > 30
