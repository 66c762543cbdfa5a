import pytest

from pipeline.convert.tfrecords.keys import BYTES, FLOATS, INTEGERS, Feature, Keys, find_keys, stated_shape
from pipeline.errors import InputError

DATA, NUMBER = Feature(BYTES, 1, 1500), Feature(INTEGERS, 1, 0, 7)


@pytest.mark.parametrize(
    ("features", "expected"),
    [
        ({"image": DATA, "label": NUMBER, "id": NUMBER}, Keys("image", "label", "id")),
        (
            {"image/encoded": DATA, "image/class/label": NUMBER, "image/class/text": DATA},
            Keys("image/encoded", "image/class/label"),
        ),
        ({"image_raw": DATA, "label": NUMBER, "height": NUMBER}, Keys("image_raw", "label")),
        ({"image": DATA, "class": NUMBER, "image_name": DATA}, Keys("image", "class", "image_name")),
        ({"image": DATA}, Keys("image")),
        ({"image": DATA, "image_raw": DATA, "label": NUMBER}, Keys("image", "label")),
    ],
)
def test_usual_keys_are_found(features, expected):
    assert find_keys("a", features, Keys()) == expected


INVALID = {
    "no image": (
        {"x1": DATA, "n": NUMBER},
        Keys(),
        "no feature is known to be an image; choose with --image-key: n .int64., x1",
    ),
    "missing key": (
        {"image": DATA},
        Keys("photo"),
        r"no feature 'photo' for --image-key; it has image .bytes of 1.5 KiB.",
    ),
    "two images": ({"image": Feature(BYTES, 2, 9)}, Keys(), "'image' has 2 images; write an example per image"),
    "no label": (
        {"image": DATA, "label": Feature(INTEGERS, 0)},
        Keys(),
        "the label 'label' is 0 int64; choose another",
    ),
    "float id": (
        {"image": DATA, "id": Feature(FLOATS, 1)},
        Keys(),
        "the id 'id' is float32; choose another with --id-key",
    ),
}


@pytest.mark.parametrize("case", INVALID)
def test_refusal_lists_the_keys_with_their_kinds(case):
    features, given, message = INVALID[case]
    with pytest.raises(InputError, match=message):
        find_keys("a", features, given)


def test_shape_is_that_of_features_that_state_it():
    lengths = {"image/height": Feature(INTEGERS, 1, 0, 5), "image/width": Feature(INTEGERS, 1, 0, 6)}
    assert stated_shape(lengths) == (5, 6, 1)
    assert stated_shape({**lengths, "image/channels": Feature(INTEGERS, 1, 0, 3)}) == (5, 6, 3)
    assert stated_shape({"height": NUMBER}) is None
