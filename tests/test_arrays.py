import gzip
import io

import numpy as np
import pytest

from pipeline.convert.read_options import ReadOptions
from pipeline.convert.readers import array_file, find_labels, find_reader
from pipeline.convert.readers.pictures import fit_picture
from pipeline.errors import InputError
from tests.helpers.containers import CLASSES, COLOR, IMAGES, LABELS, NAMES, idx, npy, npz, read, zipped

OPTIONS = ReadOptions()


@pytest.mark.parametrize("block_bytes", [4 << 20, 200])
@pytest.mark.parametrize(
    ("images", "labels"),
    [
        ("train-images-idx3-ubyte", "train-labels-idx1-ubyte"),
        ("train-images.idx3-ubyte", "train-labels.idx1-ubyte"),
        ("emnist-letters-train-images-idx3-ubyte.gz", "emnist-letters-train-labels-idx1-ubyte.gz"),
        ("t10k-images-idx3-ubyte.gz", "t10k-labels-idx1-ubyte"),
        ("X_train.npy", "y_train.npy"),
        ("images.npy", "labels.npy"),
    ],
)
def test_images_have_the_labels_of_the_file_named_alike(tmp_path, monkeypatch, images, labels, block_bytes):
    monkeypatch.setattr(array_file, "_BLOCK_BYTES", block_bytes)
    for name, array in ((images, IMAGES), (labels, LABELS.astype(np.uint8))):
        data = npy(array) if name.endswith(".npy") else idx(array)
        (tmp_path / name).write_bytes(gzip.compress(data) if name.endswith(".gz") else data)
    read_images, read_labels, ids = read(tmp_path / images, OPTIONS)
    np.testing.assert_array_equal(read_images[..., 0], IMAGES)
    np.testing.assert_array_equal(read_labels, LABELS)
    assert ids is None
    assert find_reader(tmp_path / images, OPTIONS).notes == (f"{tmp_path / images}: labels from {labels}",)
    assert not find_reader(tmp_path / images, OPTIONS, given_labels=True).has_labels


def test_images_alone_have_no_labels(tmp_path):
    path = tmp_path / "t10k-images-idx3-ubyte"
    path.write_bytes(idx(IMAGES))
    images, labels, _ = read(path, OPTIONS)
    np.testing.assert_array_equal(images[..., 0], IMAGES)
    assert labels is None
    assert find_reader(path, OPTIONS).place_of(7) == f"{path}, image 7 (counted from 0)"


@pytest.mark.parametrize("kind", ["int16", "int32", "float32", "float64"])
def test_wider_numbers_are_read_in_their_byte_order(tmp_path, kind):
    (tmp_path / "a").write_bytes(idx(IMAGES.astype(kind)))
    np.testing.assert_array_equal(read(tmp_path / "a", OPTIONS)[0][..., 0], IMAGES)


def test_array_stored_by_columns_is_read(tmp_path):
    (tmp_path / "a.npy").write_bytes(npy(np.asfortranarray(IMAGES.reshape(30, -1).astype(float))))
    np.testing.assert_array_equal(read(tmp_path / "a.npy", OPTIONS)[0][..., 0], IMAGES)


def test_npz_gives_each_split_its_arrays(tmp_path):
    path = npz(tmp_path / "mnist.npz", x_train=IMAGES[:20], y_train=LABELS[:20], x_test=IMAGES[20:], y_test=LABELS[20:])
    for split, rows in (("train", slice(0, 20)), ("test", slice(20, None))):
        images, labels, _ = read(path, OPTIONS, split)
        np.testing.assert_array_equal(images[..., 0], IMAGES[rows])
        np.testing.assert_array_equal(labels, LABELS[rows])
        notice = f"{path}: split {split!r}: images from array x_{split}, labels from array y_{split}"
        assert find_reader(path, OPTIONS, split).notes == (notice,)
    images, labels, _ = read(f"{path}:x_test", OPTIONS, "train")
    np.testing.assert_array_equal(images[..., 0], IMAGES[20:])
    np.testing.assert_array_equal(labels, LABELS[20:])


@pytest.mark.parametrize(
    ("images", "labels"),
    [
        ("train_images", "train_labels"),
        ("X_train", "Y_train"),
        ("images", "labels"),
        ("image", "label"),
        ("data", "target"),
        ("data", "y"),
        ("arr_0", "arr_1"),
    ],
)
def test_usual_names_of_arrays_are_known(tmp_path, images, labels):
    path = npz(tmp_path / "a.npz", **{images: COLOR, labels: LABELS[:, None], "info": np.array("text")})
    read_images, read_labels, _ = read(path, OPTIONS)
    np.testing.assert_array_equal(read_images, COLOR)
    np.testing.assert_array_equal(read_labels, LABELS)


def test_npz_of_one_array_has_the_labels_of_the_file_named_alike(tmp_path):
    for images, labels in (("kmnist-train-imgs.npz", "kmnist-train-labels.npz"), ("X_train.npz", "y_train.npz")):
        path = npz(tmp_path / images, arr_0=IMAGES)
        npz(tmp_path / labels, arr_0=LABELS)
        np.testing.assert_array_equal(read(path, OPTIONS)[1], LABELS)


@pytest.mark.parametrize(
    "labels", [np.array(NAMES), np.array(NAMES, "S"), np.eye(3)[LABELS], LABELS.astype(float), LABELS.astype(np.uint8)]
)
def test_labels_may_be_names_one_hot_or_any_whole_number(tmp_path, labels):
    path = npz(tmp_path / "a.npz", x=IMAGES, y=labels)
    assert [CLASSES[label] for label in read(path, OPTIONS)[1]] == NAMES


def test_labels_alone_are_found_in_each_kind_of_array_file(tmp_path):
    (tmp_path / "a").write_bytes(idx(LABELS.astype(np.uint8)))
    (tmp_path / "b").write_bytes(npy(LABELS))
    npz(tmp_path / "c", arr_0=LABELS)
    npz(tmp_path / "d", y=LABELS, other=LABELS)
    for name in ("a", "b", "c", "d:y"):
        np.testing.assert_array_equal(np.concatenate(list(find_labels(tmp_path / name))), LABELS)
    (tmp_path / "e").write_text("label\n1\n")
    assert find_labels(tmp_path / "e") is None
    with pytest.raises(InputError, match=r"which array has the labels\? it holds y, other; give .*d:y"):
        find_labels(tmp_path / "d")


def test_planes_are_refused_until_said(tmp_path):
    path = npz(tmp_path / "a.npz", x=COLOR.transpose(0, 3, 1, 2), y=LABELS)
    with pytest.raises(InputError, match="for planes give --layout CHW"):
        read(path, OPTIONS)
    np.testing.assert_array_equal(read(path, ReadOptions(layout="CHW"))[0], COLOR)


def test_arrays_are_resized_as_pictures_are(tmp_path):
    path = npz(tmp_path / "a.npz", x=COLOR, y=LABELS)
    images, _, _ = read(path, ReadOptions(image_size=(4, 6), channels=1))
    expected = [fit_picture("", image, ReadOptions(image_size=(4, 6), channels=1)) for image in COLOR]
    np.testing.assert_array_equal(images, expected)


def test_shape_that_contradicts_the_file_is_refused(tmp_path):
    with pytest.raises(InputError, match="images of 8 x 8 x 1, but --image-shape says 4 x 16 x 1; omit it, or resize"):
        read(npz(tmp_path / "a.npz", x=IMAGES), ReadOptions(image_shape=(4, 16, 1)))
    flat = npz(tmp_path / "b.npz", x=IMAGES.reshape(30, 64))
    assert read(flat, ReadOptions(image_shape=(4, 16, 1)))[0].shape == (30, 4, 16, 1)


PICKLED = io.BytesIO()
np.save(PICKLED, np.array([{"a": 1}], object), allow_pickle=True)
INVALID = {
    "truncated IDX": (idx(IMAGES)[:-1], "truncated, 29 of 30 rows; get it again"),
    "truncated header": (idx(IMAGES)[:9], "truncated within its header"),
    "longer IDX": (idx(IMAGES) + b"x", r"longer than its header says \(30 rows\)"),
    "huge rows": (idx(IMAGES)[:8] + b"\xff" * 8, "whose rows are larger than any image"),
    "huge count": (b"\0\0\x08\3" + b"\xff" * 4 + idx(IMAGES)[8:], "truncated, 30 of 4,294,967,295 rows"),
    "labels": (idx(LABELS.astype(np.uint8)), "an array of uint8 30, so labels rather than images"),
    "truncated npy": (npy(IMAGES)[:-1], "truncated, 29 of 30 rows"),
    "corrupt npy header": (npy(IMAGES).replace(b"shape", b"shapf"), "not an array as numpy.save writes it"),
    "Python objects": (PICKLED.getvalue(), r"holds Python objects \(a pickle\), which are not loaded"),
    "texts": (npy(np.array([NAMES, NAMES])), "an array of .* not of images as numbers"),
    "no rows": (npy(IMAGES[:0]), "an array of uint8 0 x 8 x 8, so it has no rows"),
}


@pytest.mark.parametrize("case", INVALID)
def test_invalid_array_file_is_one_line(tmp_path, case):
    data, message = INVALID[case]
    (tmp_path / "a").write_bytes(data)
    with pytest.raises(InputError, match=message) as caught:
        read(tmp_path / "a", OPTIONS)
    assert str(caught.value).startswith(f"{tmp_path / 'a'}: ")
    assert "\n" not in str(caught.value)


INVALID_NPZ = {
    "other split": (
        {"x_test": IMAGES},
        "split 'train'; it holds x_test .uint8 30 x 8 x 8.; choose one, such as .*:x_test",
    ),
    "count": ({"x": IMAGES, "y": LABELS[:-1]}, "29 labels for the 30 images"),
    "fraction": ({"x": IMAGES, "y": LABELS + 0.5}, r"a.npz:y: label \S+ of row 0 \(from 0\) is not a whole number"),
    "not one-hot": ({"x": IMAGES, "y": np.ones((30, 3))}, "3 labels per image, and those of row 0 .* not one-hot"),
    "pickled labels": ({"x": IMAGES, "y": np.array([None] * 30)}, "holds Python objects"),
}


@pytest.mark.parametrize("case", INVALID_NPZ)
def test_invalid_npz_is_one_line(tmp_path, case):
    arrays, message = INVALID_NPZ[case]
    with pytest.raises(InputError, match=message):
        read(npz(tmp_path / "a.npz", **arrays), OPTIONS)


def test_unknown_key_lists_the_arrays(tmp_path):
    path = npz(tmp_path / "a.npz", x=IMAGES)
    with pytest.raises(InputError, match=r"no array 'z'; it holds x \(uint8 30 x 8 x 8\)"):
        find_reader(f"{path}:z", OPTIONS)


def test_array_within_a_zip_is_a_member(tmp_path):
    (tmp_path / "a.zip").write_bytes(zipped({"images.idx": idx(IMAGES), "readme.txt": b"hello"}))
    np.testing.assert_array_equal(read(f"{tmp_path}/a.zip:images.idx", OPTIONS)[0][..., 0], IMAGES)
