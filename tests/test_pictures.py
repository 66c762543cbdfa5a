import zlib

import numpy as np
import pytest
from PIL import Image

from pipeline.convert.read_options import ReadOptions
from pipeline.convert.readers.pictures import fit_picture, read_picture, read_pictures
from pipeline.errors import InputError
from tests.helpers.containers import COLOR, IMAGES, picture

GRAY, RGB = IMAGES[0], COLOR[0]


def decode(data, **options):
    return read_picture("a.png", data, ReadOptions(**options))


def saved(image, kind="PNG", **options):
    """Encoded bytes of a Pillow image."""
    import io

    data = io.BytesIO()
    image.save(data, kind, **options)
    return data.getvalue()


@pytest.mark.parametrize("kind", ["PNG", "BMP", "TIFF", "GIF", "WEBP"])
def test_each_format_gives_the_pixels(kind):
    options = {"lossless": True} if kind == "WEBP" else {}
    expected = np.repeat(GRAY[..., None], 3 if kind == "WEBP" else 1, axis=2)
    np.testing.assert_array_equal(decode(picture(GRAY, kind, **options)), expected)


def test_jpeg_gives_about_the_pixels():
    image = np.full((9, 7, 3), (200, 100, 50), np.uint8)
    assert np.abs(decode(picture(image, "JPEG", quality=100)).astype(int) - image).max() <= 3


def test_modes_become_gray_or_rgb():
    gray, rgb = Image.fromarray(GRAY), Image.fromarray(RGB)
    np.testing.assert_array_equal(decode(saved(gray.convert("P")))[..., 0], GRAY)
    np.testing.assert_array_equal(decode(saved(gray.convert("LA")))[..., 0], GRAY)
    np.testing.assert_array_equal(decode(saved(rgb.convert("RGBA"))), RGB)
    np.testing.assert_array_equal(decode(saved(Image.fromarray(GRAY > 100)))[..., 0], (GRAY > 100) * 255)
    assert decode(saved(rgb.convert("CMYK"), "JPEG")).shape == (8, 8, 3)


def test_channels_are_as_asked_for():
    assert decode(picture(RGB), channels=1).shape == (8, 8, 1)
    np.testing.assert_array_equal(decode(picture(GRAY), channels=3), np.repeat(GRAY[..., None], 3, axis=2))


def test_deep_pictures_keep_their_range():
    deep = GRAY.astype(np.uint16) * 257
    np.testing.assert_array_equal(decode(picture(deep))[..., 0], deep)
    assert decode(picture(deep), channels=3).shape == (8, 8, 3)
    assert decode(picture(np.full((8, 8), 40000, np.uint16)), image_size=(4, 4)).tolist() == [[[40000]] * 4] * 4


def test_transparency_is_refused_until_a_background_is_accepted():
    image = Image.new("RGBA", (2, 1), (10, 20, 30, 255))
    image.putpixel((1, 0), (0, 0, 0, 0))
    with pytest.raises(
        InputError, match="a.png: partly transparent; --channels 1 or --channels 3 puts images on white"
    ):
        decode(saved(image))
    assert decode(saved(image), channels=3).tolist() == [[[10, 20, 30], [255, 255, 255]]]


def test_photo_is_turned_upright():
    exif = Image.Exif()
    exif[0x0112] = 6  # turn by 90 degrees clockwise
    data = saved(Image.fromarray(np.full((4, 9, 3), 90, np.uint8)), "JPEG", exif=exif)
    assert decode(data).shape == (9, 4, 3)


def test_pictures_stored_by_columns_are_turned_before_they_are_resized():
    wide = IMAGES[0][:4]
    turned = read_picture("a", picture(wide), ReadOptions(transpose=True))
    np.testing.assert_array_equal(turned[..., 0], wide.T)
    np.testing.assert_array_equal(fit_picture("a", wide[..., None], ReadOptions(transpose=True)), turned)
    assert read_picture("a", picture(wide), ReadOptions(transpose=True, image_size=(5, 7))).shape == (5, 7, 1)


def test_resizing_averages_over_all_pixels():
    checkered = np.indices((64, 64)).sum(axis=0) % 2 * np.uint8(255)
    small = decode(picture(checkered.astype(np.uint8)), image_size=(8, 16))
    assert small.shape == (8, 16, 1)
    assert np.abs(small.astype(int) - 127).max() <= 2  # of the pixels nearest to the new ones, half would be 255
    np.testing.assert_array_equal(decode(picture(GRAY), image_size=(8, 8))[..., 0], GRAY)
    np.testing.assert_array_equal(fit_picture("a", GRAY[..., None], ReadOptions(image_size=(8, 8)))[..., 0], GRAY)


INVALID = {
    "text": b"hello",
    "truncated": picture(RGB)[:-60],
    "truncated JPEG": picture(RGB, "JPEG")[:300],
    "flipped bits": picture(GRAY)[:50] + b"\xff" * 30,
    "empty": b"",
    "PostScript": b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n",
}


@pytest.mark.parametrize("case", INVALID)
def test_what_cannot_be_decoded_is_one_line(case):
    with pytest.raises(InputError, match=r"^a.png: not an image that can be decoded.*; get it again or remove it$"):
        decode(INVALID[case])


def test_the_reason_of_a_truncated_picture_is_given():
    with pytest.raises(InputError, match="can be decoded .'.*[Tt]runcated.*'.; get it again"):
        decode(INVALID["truncated JPEG"])


def test_bomb_and_oversized_pictures_are_not_decoded():
    def stating(side):
        data = bytearray(picture(GRAY))
        data[16:24] = side.to_bytes(4, "big") * 2
        data[29:33] = zlib.crc32(data[12:29]).to_bytes(4, "big")
        return bytes(data)

    with pytest.raises(InputError, match="not an image that can be decoded .DecompressionBomb"):
        decode(stating(60000))
    with pytest.raises(InputError, match="an image of 5000 x 5000; at most 16,777,216 pixels"):
        decode(stating(5000))


def test_moving_picture_is_refused():
    frames = [Image.fromarray(image) for image in IMAGES[:3]]
    data = saved(frames[0], "GIF", save_all=True, append_images=frames[1:])
    with pytest.raises(InputError, match="a.png: holds 3 pictures; save one of them"):
        decode(data)


@pytest.mark.parametrize(
    ("second", "message"),
    [
        (GRAY[:, :6], "b: an image of 8 x 6, but a has 8 x 8; all need one size, --image-size 8 8 resizes"),
        (RGB, "b: RGB, but a is gray; --channels 1 reads all as gray, --channels 3 as RGB"),
    ],
)
def test_pictures_of_other_shapes_are_named_with_what_to_do(second, message):
    pictures = [("a", picture(GRAY)), ("b", picture(second))]
    with pytest.raises(InputError, match=f"^{message}$"):
        read_pictures(pictures, (8, 8, 1), "a", ReadOptions())
    read_pictures(pictures, (8, 8, 1), "a", ReadOptions(image_size=(8, 8), channels=1))
