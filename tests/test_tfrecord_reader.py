import numpy as np
import pytest
import tensorflow as tf

from pipeline.convert import tfrecord_reader
from pipeline.convert.tfrecord_reader import TfrecordFile
from pipeline.errors import InputError
from pipeline.format.records import masked_crc
from tests.helpers import faults
from tests.helpers.foreign import IMAGES, LABELS, digit_records, record, write_records

IMAGE = IMAGES[0].tobytes()
GRAY = tf.io.encode_png(IMAGES[0][..., None]).numpy()
COLOR = tf.io.encode_png(np.repeat(IMAGES[0][..., None], 3, axis=2)).numpy()


def read(path, image_shape=None):
    """Images, labels and ids of all records, after the first pass over them."""
    file = TfrecordFile(path, image_shape)
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
    assert TfrecordFile(path).image_shape == (5, 7, channels)
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
    "no image": ([record(IMAGE, label=1), record(None, label=1)], r"record 1 .*: not an example with `image` bytes"),
    "other length": ([record(IMAGE), record(IMAGE[1:])], r"record 1 .*: an image of 63 bytes, expected 64, or a PNG"),
    "truncated PNG": ([record(IMAGE), record(GRAY[:30])], r"record 1 .*: its image cannot be decoded"),
    "truncated JPEG": ([record(IMAGE), record(b"\xff\xd8\xff" + IMAGE)], r"record 1 .*: its image cannot be decoded"),
    "truncated first image": ([record(GRAY[:-20]), record(GRAY)], "record 0 .*: its image cannot be decoded"),
    "color after gray": ([record(GRAY), record(COLOR)], "record 1 .*: an image of 8 x 8 x 3, expected 8 x 8 x 1"),
    "gray after color": ([record(COLOR), record(GRAY)], "record 1 .*: an image of 8 x 8 x 1, expected 8 x 8 x 3"),
    "raw after color": ([record(COLOR), record(IMAGE)], "record 1 .*: an image of 64 bytes, expected 192"),
    "some labels": ([record(IMAGE, label=1), record(IMAGE)], "only some records have labels; put them in a split"),
    "labels later": ([record(IMAGE), record(IMAGE, label=1)], "only some records have labels; put them in a split"),
    "some ids": ([record(IMAGE, id=4), record(IMAGE)], "only some records have ids"),
    "negative label": ([record(IMAGE, label=-7)], "record 0 .*: label -7 is not a class index"),
    "large label": (
        [record(IMAGE, label=1), record(IMAGE, label=10**9)],
        "record 1 .*: label 1000000000 is not a class",
    ),
    "no square": ([record(IMAGE[:63])], "record 0 .*: its image is raw and not a square of one channel"),
    "empty image": ([record(b"")], "record 0 .*: its image is raw and not a square"),
    "no example": ([record(IMAGE), b"not an example"], "record 1 .*: not an example"),
    "text for a label": ([record(IMAGE).replace(b"image", b"label")], "record 0 .*: not an example"),
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
    with pytest.raises(InputError, match="record 1 .*: its image cannot be decoded"):
        read(write_records(tmp_path / "a", [record(IMAGE), record(bytes(png))]))


def test_file_that_changes_while_it_is_read_is_refused(tmp_path):
    path = write_records(tmp_path / "a", digit_records())
    file = TfrecordFile(path)
    write_records(tmp_path / "b", digit_records()).rename(path)
    with pytest.raises(InputError, match="a: the file changed while it was read"):
        list(file.read(file.first_row, None))


@pytest.mark.parametrize("encode", [tf.io.encode_png, tf.io.encode_jpeg])
@pytest.mark.parametrize("at", [0, 1])
def test_encoded_image_truncated_to_the_size_of_raw_pixels_is_refused(tmp_path, encode, at):
    image = encode(np.arange(64, dtype=np.uint8).reshape(8, 8, 1)).numpy()
    records = [record(image), record(image)]
    records[at] = record(image[:64])
    with pytest.raises(InputError, match=rf"record {at} \(counted from 0\): its image cannot be decoded"):
        read(write_records(tmp_path / "a", records))
