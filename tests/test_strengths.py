"""The text of an augmentation: what it names, what it refuses, and that it reads back as written."""

import dataclasses
import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.augment.strengths import PRESETS, Augmentation, parse_augmentation
from pipeline.errors import InputError

FIELDS = dataclasses.fields(Augmentation)


def in_range(field: dataclasses.Field) -> st.SearchStrategy[float]:
    low, high = field.metadata["range"]
    return st.floats(low, high)


@pytest.mark.parametrize("name", PRESETS)
def test_a_preset_is_named_by_its_name(name):
    assert parse_augmentation(name) == PRESETS[name]
    assert PRESETS[name].text() == name


def test_changes_follow_the_preset():
    changed = parse_augmentation(" digits , rotation=15, line = 0 ")
    assert changed == dataclasses.replace(PRESETS["digits"], rotation=15, line=0)
    assert changed.text() == "digits,rotation=15.0,line=0.0"


@given(st.fixed_dictionaries({}, optional={field.name: in_range(field) for field in FIELDS}))
def test_any_strengths_read_back_as_written(values):
    try:
        augmentation = Augmentation(**values)
    except InputError:
        return
    assert parse_augmentation(augmentation.text()) == augmentation


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("numbers", "augmentation 'numbers' is not a preset; give one of none, digits, photos"),
        ("", "augmentation '' is not a preset"),
        ("digits,twist=3", "augmentation 'twist=3' is not strength=number; the strengths are rotation, shear"),
        ("digits,rotation", r"augmentation rotation=''; give a number from 0 to 180 \(degrees, either way\)"),
        ("digits,rotation=-1", "augmentation rotation='-1'; give a number from 0 to 180"),
        ("digits,rotation=nan", "augmentation rotation='nan'; give a number"),
        ("digits,line=1.5", "augmentation line='1.5'; give a number from 0 to 1"),
        ("digits,line=0.1,line=0.2", "line is given twice; give it once"),
        (
            "digits,min_stretch=0.9",
            "augmentation min_stretch=0.9 is above max_stretch=0.6; give min_stretch up to max_stretch",
        ),
        ("none,max_size=0.5", "augmentation min_size=0 with max_size=0.5; give both"),
        ("none,cut=0.5", "augmentation cut=0.5 needs cut_depth above 0"),
        ("none,far=0.5", "augmentation far=0.5 needs far_shift above 0"),
    ],
)
def test_a_wrong_text_is_refused_in_one_line(text, message):
    with pytest.raises(InputError, match=message) as error:
        parse_augmentation(text)
    assert "\n" not in str(error.value)


def test_a_strength_that_is_no_number_is_refused():
    with pytest.raises(InputError, match=r"augmentation rotation=\[1\]; give a number"):
        Augmentation(rotation=[1])  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("text", "acts"),
    [
        ("none", False),
        ("none,mild=0.5,far_shift=0.1,cut_depth=0.1,line_width=0.1", False),
        ("digits,untouched=1", False),
        ("digits", True),
        ("none,cut=0.1,cut_depth=0.1", True),
        ("none,min_stretch=-0.1", True),
    ],
)
def test_strengths_are_true_if_they_change_images(text, acts):
    assert bool(parse_augmentation(text)) == acts


def test_only_photos_are_mirrored():
    assert [name for name, preset in PRESETS.items() if preset.flip] == ["photos"]


def test_strengths_need_no_tensorflow():
    code = "import sys, pipeline.augment.strengths; sys.exit('tensorflow' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
