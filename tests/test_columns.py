import numpy as np
import pytest

from pipeline.convert.csv.columns import find_columns, infer_image_shape
from pipeline.errors import InputError


def columns(header, label=None, identity=None, has_header=True):
    return find_columns("a.csv, line 1", header.split(","), has_header, label, identity)


@pytest.mark.parametrize(
    ("header", "label", "identity"),
    [
        ("label,pixel0,pixel1", 0, None),
        ("id,pixel0,pixel1", None, 0),
        ("pixel0,pixel1,Class", 2, None),
        ("image_id,p1,p2,DIGIT", 3, 0),
        ("index,1x1,1x2,2x1,2x2,y", 5, 0),
        ("0,1,2,3", None, None),
        (" target , a , b ", 0, None),
    ],
)
def test_label_and_id_have_usual_names(header, label, identity):
    assert (columns(header).label, columns(header).id) == (label, identity)


@pytest.mark.parametrize(
    ("label", "identity", "expected"),
    [("kind", None, (1, None)), ("1", "0", (1, 0)), ("none", "none", (None, None)), ("1", "none", (1, None))],
)
def test_options_select_label_and_id(label, identity, expected):
    result = columns("key,kind,a,b", label, identity)
    assert (result.label, result.id) == expected


def test_exact_name_takes_precedence_over_an_index():
    assert columns("1,0,2", label="0").label == 1


@pytest.mark.parametrize(
    ("header", "pixels"),
    [
        ("label,p0,p1,p2", slice(1, 4)),
        ("p0,p1,p2,label", slice(0, 3)),
        ("p0,label,p1,p2", [0, 2, 3]),
        ("id,p0,p1,label", slice(1, 3)),
    ],
)
def test_pixels_are_all_other_columns_and_a_slice_if_adjacent(header, pixels):
    result = columns(header).pixels
    assert result == pixels if isinstance(pixels, slice) else np.array_equal(result, pixels)


@pytest.mark.parametrize(
    "header",
    [
        "label,pixel0,pixel1,pixel2,pixel3",
        "label,1x1,1x2,2x1,2x2",
        "label," + ",".join(f"x_{r}_{c}_{k}" for r in range(2) for c in range(3) for k in range(3)),
        "label,pixel007,pixel008,pixel009,pixel010",
        "label,red,green,blue,alpha",
        "label,{0},{1},{2}",
    ],
)
def test_pixel_names_in_order_are_accepted(header):
    assert columns(header).num_pixels == header.count(",")


@pytest.mark.parametrize(
    ("header", "fragments"),
    [
        ("label,pixel0,pixel1,pixel10,pixel2", ["out of order", "'pixel10'", "in the place of 'pixel2'"]),
        ("label,pixel1,pixel0", ["out of order", "'pixel1'"]),
        ("label,pixel0,pixel1,pixel3", ["'pixel3'", "in the place of 'pixel2'"]),
        ("label,1x1,2x1,1x2,2x2", ["'2x1'", "in the place of '1x2'"]),
        ("label,p0,p1,p99999999999999999999", ["'p99999999999999999999'", "in the place of 'p2'"]),
        ("label,pixel0,pixel1,Usage,pixel2", ["extra column 'Usage'", "'pixel0'"]),
        ("label,a,b,a", ["'a' is repeated", "columns 1 and 3"]),
        ("5,0,0,0,12", ["'0' is repeated", "--no-header"]),
        ("label,a,,b", ["column 2", "has no name"]),
        ("label,digit,a,b", ["'label' and 'digit'", "--label-column"]),
        ("id,index,a,b", ["'id' and 'index'", "--id-column"]),
        ("label,id", ["no pixel columns"]),
        ("label,a," + "b" * 1001, ["column 2", "1000 characters"]),
    ],
)
def test_invalid_header_is_one_line_that_names_the_column(header, fragments):
    with pytest.raises(InputError) as caught:
        columns(header)
    assert str(caught.value).startswith("a.csv, line 1: ")
    assert all(fragment in str(caught.value) for fragment in fragments), caught.value


@pytest.mark.parametrize(
    ("options", "fragments"),
    [
        ({"label": "4"}, ["--label-column 4", "0 to 3"]),
        ({"label": "9" * 5000}, ["--label-column 999"]),
        ({"label": "kind", "has_header": False}, ["'kind' is a name", "no header"]),
        ({"label": "0", "identity": "0"}, ["both label and id"]),
    ],
)
def test_invalid_column_option_is_an_error(options, fragments):
    with pytest.raises(InputError) as caught:
        columns("a,b,c,d", **options)
    assert all(fragment in str(caught.value) for fragment in fragments), caught.value


@pytest.mark.parametrize(("num_pixels", "shape"), [(3072, (32, 32, 3)), (64, (4, 4, 4)), (72, (6, 6, 2))])
def test_image_shape_of_planes(num_pixels, shape):
    assert infer_image_shape("a.csv", num_pixels, None, planes=True) == shape


@pytest.mark.parametrize(
    ("num_pixels", "given", "shape"),
    [(784, None, (28, 28, 1)), (1, None, (1, 1, 1)), (18, (2, 3, 3), (2, 3, 3)), (784, (14, 56, 1), (14, 56, 1))],
)
def test_image_shape(num_pixels, given, shape):
    assert infer_image_shape("a.csv", num_pixels, given) == shape


@pytest.mark.parametrize(
    ("num_pixels", "given", "fragment"),
    [
        (785, None, "if one is no pixel, give --label-column"),
        (3072, None, "--image-shape 32 32 3"),
        (7, None, "--image-shape H W C"),
        (784, (28, 28, 3), "28x28x3 needs 2352"),
    ],
)
def test_pixel_count_that_does_not_fit_gives_advice(num_pixels, given, fragment):
    with pytest.raises(InputError, match=fragment):
        infer_image_shape("a.csv", num_pixels, given)
