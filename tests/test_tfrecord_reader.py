import numpy as np
import pytest
import tensorflow as tf

from pipeline.convert.read_options import ReadOptions
from pipeline.convert.table import TableFile
from pipeline.convert.tfrecords import reader as tfrecord_reader
from pipeline.convert.tfrecords.keys import Keys
from pipeline.convert.tfrecords.reader import TfrecordReader
from pipeline.errors import InputError
from pipeline.format.records import masked_crc
from tests.helpers import faults
from tests.helpers.foreign import IMAGES, LABELS, digit_records, example, record, write_records

FIND, OPTIONS = Keys(), ReadOptions()
IMAGE = IMAGES[0].tobytes()
GRAY = tf.io.encode_png(IMAGES[0][..., None]).numpy()
COLOR = tf.io.encode_png(np.repeat(IMAGES[0][..., None], 3, axis=2)).numpy()


def read(path, image_shape=None, keys=FIND, **options):
    """Images, labels and ids of all records, after the first pass over them."""
    options = ReadOptions(image_shape=image_shape, **options)
    file = TableFile(TfrecordReader(path, options, keys), options)
    scan = file.scan(0, None)
    rows = [file.parse(block) for block in file.read(file.first_row, None)]
    images = np.concatenate([block.images for block in rows])
    assert len(images) == len(scan.labels)
    return images, *(
        np.concatenate([getattr(block, name) for block in rows]) if getattr(rows[0], name) is not None else None
        for name in ("labels", "ids")
    )


@pytest.mark.parametrize(("batch", "batch_bytes"), [(1024, 16 << 20), (7, 16 << 20), (1024, 300)])
def test_records_are_read_in_batches_of_any_size(tmp_path, monkeypatch, batch, batch_bytes):
    monkeypatch.setattr(tfrecord_reader, "_BATCH", batch)
    monkeypatch.setattr(tfrecord_reader, "_BATCH_BYTES", batch_bytes)
    images, labels, ids = read(write_records(tmp_path / "a", digit_records()))
    np.testing.assert_array_equal(images, IMAGES.reshape(203, -1))
    np.testing.assert_array_equal(labels, LABELS)
    np.testing.assert_array_equal(ids, np.arange(203))


@pytest.mark.parametrize("encode", [tf.io.encode_png, lambda image: tf.io.encode_jpeg(image, quality=100)])
@pytest.mark.parametrize("channels", [1, 3])
def test_encoded_images_give_their_shape(tmp_path, encode, channels):
    image = np.full((5, 7, channels), 100, np.uint8)
    path = write_records(tmp_path / "a", [record(encode(image).numpy())] * 2)
    assert TfrecordReader(path, OPTIONS, FIND).image_shape == (5, 7, channels)
    images, labels, ids = read(path)
    np.testing.assert_array_equal(images, [image.reshape(-1)] * 2)
    assert (labels, ids) == (None, None)


@pytest.mark.parametrize("first_is_encoded", [False, True])
def test_png_as_long_as_raw_pixels_is_decoded(tmp_path, first_is_encoded):
    lines = (np.full((1, width, 1), 7, np.uint8) for width in range(50, 200))
    image, png = next((line, png) for line in lines if len(png := tf.io.encode_png(line).numpy()) == line.size)
    records = [record(image.tobytes()), record(png), record(png)]
    path = write_records(tmp_path / "a", records[::-1] if first_is_encoded else records)
    images, _, _ = read(path, image.shape)
    np.testing.assert_array_equal(images, [image.reshape(-1)] * 3)


def test_raw_pixels_that_begin_like_a_png_or_jpeg_are_pixels(tmp_path):
    raw = [start + bytes(range(64 - len(start))) for start in (b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff")]
    images, _, _ = read(write_records(tmp_path / "a", map(record, raw)))
    assert [image.tobytes() for image in images] == raw


INVALID = {
    "no image": (
        [record(IMAGE, label=1), record(None, label=1)],
        r"record 1 .*: has label .int64., but the first record",
    ),
    "other length": (
        [record(IMAGE), record(IMAGE[1:])],
        r"record 1 .*: an image of 63 values, expected 64 for 8 x 8 x 1, or a PNG",
    ),
    "truncated PNG": ([record(IMAGE), record(GRAY[:30])], r"record 1 .*: not an image that can be decoded"),
    "truncated JPEG": (
        [record(IMAGE), record(b"\xff\xd8\xff" + IMAGE)],
        r"record 1 .*: not an image that can be decoded",
    ),
    "truncated first image": ([record(GRAY[:60]), record(GRAY)], "record 0 .*: not an image that can be decoded"),
    "color after gray": ([record(GRAY), record(COLOR)], "record 1 .*: RGB, but the first record is gray; --channels"),
    "gray after color": ([record(COLOR), record(GRAY)], "record 1 .*: gray, but the first record is RGB; --channels"),
    "raw after color": ([record(COLOR), record(IMAGE)], "record 1 .*: an image of 64 values, expected 192"),
    "some labels": ([record(IMAGE, label=1), record(IMAGE)], "only some records have labels; put them in a split"),
    "labels later": ([record(IMAGE), record(IMAGE, label=1)], "only some records have labels; put them in a split"),
    "some ids": ([record(IMAGE, id=4), record(IMAGE)], "only some records have ids"),
    "negative label": ([record(IMAGE, label=-7)], "record 0 .*: label -7 is not a class index"),
    "large label": (
        [record(IMAGE, label=1), record(IMAGE, label=10**9)],
        "record 1 .*: label 1000000000 is not a class",
    ),
    "no square": ([record(IMAGE[:63])], "record 0 .*: its image is 63 raw values and not a square of one channel"),
    "empty image": ([record(b"")], "record 0 .*: its image is 0 raw values and not a square"),
    "no example": ([record(IMAGE), b"not an example"], "record 1 .*: not a tf.train.Example"),
    "no records": ([], "has no records"),
}


@pytest.mark.parametrize("case", INVALID)
def test_invalid_record_is_one_line(tmp_path, case):
    records, message = INVALID[case]
    path = write_records(tmp_path / "a", records)
    with pytest.raises(InputError, match=message) as caught:
        read(path)
    assert str(caught.value).startswith(str(path))
    assert "\n" not in str(caught.value)


def frame(length, data=b""):
    header = length.to_bytes(8, "little")
    return header + masked_crc(header) + data


@pytest.mark.parametrize(
    "spoil",
    [
        lambda path: path.write_bytes(path.read_bytes() + frame(2**45)),
        lambda path: path.write_bytes(path.read_bytes() + frame(2**64 - 1, bytes(100))),
        lambda path: path.write_bytes(path.read_bytes() + frame(10)),
        lambda path: path.write_bytes(path.read_bytes() + b"x"),
        lambda path: faults.cut(path, -1),
        lambda path: faults.flip_bit(path, -50),
        lambda path: faults.flip_bit(path, -1),
    ],
    ids=["length 2**45", "length 2**64", "no data", "a byte more", "truncated", "flipped bit", "flipped checksum"],
)
def test_corrupt_frame_is_one_line_and_allocates_nothing(tmp_path, spoil):
    path = write_records(tmp_path / "a", [record(IMAGE)] * 3)
    spoil(path)
    with pytest.raises(InputError, match=r"a, record [23] \(counted from 0\): corrupt or truncated"):
        read(path)


def test_image_that_states_an_absurd_size_is_not_decoded(tmp_path):
    png = bytearray(GRAY)
    png[16:24] = (2**31 - 1).to_bytes(4, "big") * 2
    with pytest.raises(InputError, match="record 1 .*: not an image that can be decoded"):
        read(write_records(tmp_path / "a", [record(IMAGE), record(bytes(png))]))


def test_file_that_changes_while_it_is_read_is_refused(tmp_path):
    path = write_records(tmp_path / "a", digit_records())
    file = TableFile(TfrecordReader(path, OPTIONS, FIND))
    write_records(tmp_path / "b", digit_records()).rename(path)
    with pytest.raises(InputError, match="a: the file changed while it was read"):
        list(file.read(file.first_row, None))


@pytest.mark.parametrize("encode", [tf.io.encode_png, tf.io.encode_jpeg])
@pytest.mark.parametrize("at", [0, 1])
def test_encoded_image_truncated_to_the_size_of_raw_pixels_is_refused(tmp_path, encode, at):
    image = encode(np.random.default_rng(0).integers(0, 256, (8, 8, 1), np.uint8)).numpy()
    records = [record(image), record(image)]
    records[at] = record(image[:64])
    with pytest.raises(InputError, match=rf"record {at} \(counted from 0\): not an image that can be decoded"):
        read(write_records(tmp_path / "a", records))


def digits(**names):
    """The images and labels of other programs: features of these keys, `value(row)` each."""
    return [example({key: value(row) for key, value in names.items()}) for row in range(len(IMAGES))]


def png(row):
    return tf.io.encode_png(IMAGES[row][..., None]).numpy()


LAYOUTS = {
    "slim": {
        "image/encoded": png,
        "image/class/label": lambda row: int(LABELS[row]),
        "image/format": lambda row: b"png",
        "image/height": lambda row: 8,
    },
    "raw": {
        "image_raw": lambda row: IMAGES[row].tobytes(),
        "label": lambda row: int(LABELS[row]),
        "height": lambda row: 8,
        "width": lambda row: 8,
        "depth": lambda row: 1,
    },
    "integers": {"image": lambda row: IMAGES[row].reshape(-1).tolist(), "label": lambda row: int(LABELS[row])},
    "one-hot": {"image": png, "label": lambda row: np.eye(3)[LABELS[row]].tolist()},
    "whole floats": {"image": png, "label": lambda row: float(LABELS[row])},
    "Kaggle": {"image": png, "class": lambda row: int(LABELS[row]), "id": lambda row: f"flower {row}".encode()},
}


@pytest.mark.parametrize("case", LAYOUTS)
def test_features_are_found_by_their_usual_names(tmp_path, case):
    path = write_records(tmp_path / "a", digits(**LAYOUTS[case]))
    images, labels, _ = read(path)
    np.testing.assert_array_equal(images.reshape(IMAGES.shape), IMAGES)
    np.testing.assert_array_equal(labels, LABELS)
    named = {"slim": "image/encoded", "raw": "image_raw", "Kaggle": "image"}
    notices = TfrecordReader(path, OPTIONS, FIND).notes
    assert len(notices) == (case in named)
    assert case not in named or f"images from feature {named[case]}, labels from " in notices[0]


def test_features_can_be_chosen(tmp_path):
    records = digits(
        photo=png, image=lambda row: b"other", label=lambda row: 9, kind=lambda row: int(LABELS[row]), id=lambda row: 5
    )
    images, labels, ids = read(write_records(tmp_path / "a", records), keys=Keys("photo", "kind", "none"))
    np.testing.assert_array_equal(images.reshape(IMAGES.shape), IMAGES)
    np.testing.assert_array_equal(labels, LABELS)
    assert ids is None


def test_texts_are_names_of_classes_and_text_ids(tmp_path):
    names = ("ant", "bee", "cat")
    path = write_records(
        tmp_path / "a",
        digits(image=png, label=lambda row: names[LABELS[row]].encode(), id=lambda row: f"r{row}".encode()),
    )
    rows = list(TfrecordReader(path, OPTIONS, FIND).blocks())
    assert np.concatenate([block.labels for block in rows]).tolist() == [names[label] for label in LABELS]
    assert np.concatenate([block.ids for block in rows]).tolist() == [f"r{row}" for row in range(203)]


@pytest.mark.parametrize("kind", ["GZIP", "ZLIB"])
def test_compressed_records_are_read(tmp_path, kind):
    with tf.io.TFRecordWriter(str(tmp_path / "a"), kind) as writer:
        for data in digit_records():
            writer.write(data)
    np.testing.assert_array_equal(read(tmp_path / "a")[0].reshape(IMAGES.shape), IMAGES)
    faults.cut(tmp_path / "a", -9)
    with pytest.raises(InputError, match="corrupt or truncated"):
        read(tmp_path / "a")


def test_images_are_resized_and_made_gray_on_request(tmp_path):
    small = tf.io.encode_png(IMAGES[0][:4, :4, None]).numpy()
    path = write_records(tmp_path / "a", [record(data, label=1) for data in (GRAY, COLOR, small)])
    images, _, _ = read(path, image_size=(8, 8), channels=1)
    assert images.shape == (3, 64)
    np.testing.assert_array_equal(images[0], IMAGES[0].reshape(-1))
    raw = write_records(tmp_path / "raw", [record(np.full((8, 8), 9, np.uint8).tobytes())])
    assert read(raw, image_size=(2, 3))[0].tolist() == [[9] * 6]


def wide(kind):
    return [record((IMAGES[row] / 255).astype(kind).tobytes(), label=1) for row in range(9)]


MISREAD = {
    "float32 bytes": (
        wide("<f4"),
        {},
        "its image looks like float32 values, not uint8 pixels; give --image-type float",
    ),
    "float32 bytes of a given type": (
        wide("<f4"),
        {"keys": Keys(image_type="float32")},
        "record 0 .*: pixel .* is not a whole number in 0..255; .* --pixel-range 0 1 scales",
    ),
    "bytes that do not fit their type": ([record(bytes(66))], {"keys": Keys(image_type="float32")}, "66 bytes, so not"),
    "floats": (
        [example({"image": [0.5] * 64})],
        {},
        "pixel 0 .*: 0.5 is not a whole .* --pixel-range 0 1 scales",
    ),
    "float32 bytes of a known shape": (
        wide("<f4"),
        {"image_shape": (8, 8, 1)},
        "256 bytes, 4 per pixel of 8 x 8 x 1, so of another type than uint8; name it, such as --image-type float32",
    ),
    "int32 bytes": ([record(IMAGES[0].astype("<i4").tobytes())], {}, "its image looks like int32 values"),
    "color without a shape": ([record(bytes(192))], {}, "give --image-shape H W C, such as --image-shape 8 8 3"),
    "unequal images": (
        [record(GRAY), record(tf.io.encode_png(IMAGES[0][:5, :, None]).numpy())],
        {},
        "record 1 .*: an image of 5 x 8, but the first record has 8 x 8; all need one size, --image-size 8 8 resizes",
    ),
    "integers out of range": (
        [example({"image": [300] * 64})],
        {},
        "record 0 .*: pixel 0 .*: 300 is .* --pixel-range 0 1023 scales",
    ),
}


@pytest.mark.parametrize("case", MISREAD)
def test_image_of_another_type_or_shape_is_refused_not_misread(tmp_path, case):
    records, options, message = MISREAD[case]
    with pytest.raises(InputError, match=message):
        read(write_records(tmp_path / "a", records), **options)


UNIT = IMAGES[:9] / np.float32(255)
SCALED = {
    "float32 bytes": (wide("<f4"), "float32"),
    "float64 bytes": (wide("<f8"), "float64"),
    "floats": ([example({"image": image.ravel().tolist(), "label": 1}) for image in UNIT], None),
    "tensors": ([record(tf.io.serialize_tensor(image).numpy(), label=1) for image in UNIT], None),
}


@pytest.mark.parametrize("case", SCALED)
def test_floats_are_scaled_by_their_range(tmp_path, case):
    records, image_type = SCALED[case]
    path = write_records(tmp_path / "a", records)
    images, _, _ = read(path, keys=Keys(image_type=image_type), pixel_range=(0, 1))
    np.testing.assert_array_equal(images, IMAGES[:9].reshape(9, -1))


def test_shape_of_a_tensor_is_that_of_its_image(tmp_path):
    wide_image = IMAGES[0][:4, :, None]
    path = write_records(tmp_path / "a", [record(tf.io.serialize_tensor(wide_image).numpy())])
    reader = TfrecordReader(path, OPTIONS, FIND)
    assert reader.image_shape == (4, 8, 1)
    np.testing.assert_array_equal(next(reader.blocks()).values, [wide_image])


@pytest.mark.parametrize("cut", [4, 30])
def test_corrupt_tensor_is_not_read_as_one(tmp_path, cut):
    data = tf.io.serialize_tensor(IMAGES[0]).numpy()[:-cut]
    with pytest.raises(InputError, match="raw values and not a square"):
        read(write_records(tmp_path / "a", [record(data)]))


def test_raw_planes_and_columns_are_put_in_order(tmp_path):
    colors = np.random.default_rng(0).integers(0, 256, (3, 4, 8, 3)).astype(np.uint8)
    planes = write_records(tmp_path / "a", [record(np.moveaxis(image, -1, 0).tobytes()) for image in colors])
    images, _, _ = read(planes, image_shape=(4, 8, 3), layout="CHW")
    np.testing.assert_array_equal(images.reshape(colors.shape), colors)
    turned = write_records(tmp_path / "b", [record(image.T.tobytes()) for image in IMAGES[:3]])
    np.testing.assert_array_equal(read(turned, transpose=True)[0].reshape(3, 8, 8), IMAGES[:3])


def test_deep_images_are_scaled_by_their_range(tmp_path):
    deep = tf.io.encode_png(IMAGES[0][..., None].astype(np.uint16) * 257).numpy()
    path = write_records(tmp_path / "a", [record(deep, label=1)])
    np.testing.assert_array_equal(read(path, pixel_range=(0, 65535))[0][0], IMAGES[0].reshape(-1))


def test_squares_that_look_like_floats_are_pixels_if_that_is_said(tmp_path):
    path = write_records(tmp_path / "a", wide("<f4"))
    assert read(path, image_shape=(16, 16, 1))[0].shape == (9, 256)
