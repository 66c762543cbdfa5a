"""What raw bytes are refused as; tests/test_tfrecord_reader.py reads them from records."""

import numpy as np
import pytest

from pipeline.convert.tfrecords.raw_images import check_raw, square_shape
from pipeline.errors import InputError
from tests.helpers.containers import IMAGES


def test_gray_squares_are_pixels():
    assert square_shape("a", 64, IMAGES.tobytes()) == (8, 8, 1)
    assert square_shape("a", 64, bytes(64)) == (8, 8, 1)
    assert square_shape("a", 64, np.full(640, 255, np.uint8).tobytes()) == (8, 8, 1)


@pytest.mark.parametrize(
    ("kind", "scale"),
    [("<f4", 1), ("<f4", 1 / 255), ("<f4", -1 / 127), ("<i4", 1)],
    ids=["0..255", "0..1", "-2..0", "int32"],
)
def test_numbers_of_four_bytes_that_fill_a_square_are_recognised(kind, scale):
    data = (IMAGES * scale).astype(kind).tobytes()
    with pytest.raises(
        InputError, match="its image looks like .*32 values, not uint8 pixels; .* --image-shape 16 16 1 if"
    ):
        square_shape("a", 256, data)


def test_size_that_is_a_multiple_of_the_pixels_is_another_type():
    check_raw("a", 64, (8, 8, 1))
    with pytest.raises(
        InputError, match="a: an image of 512 bytes, 8 per pixel of 8 x 8 x 1, so of another type than uint8"
    ):
        check_raw("a", 512, (8, 8, 1))
    with pytest.raises(InputError, match="a: an image of 63 values, expected 64 for 8 x 8 x 1, or a PNG or JPEG"):
        check_raw("a", 63, (8, 8, 1))
