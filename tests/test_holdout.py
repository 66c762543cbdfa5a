"""Which rows are held out: tables of texts, and properties of the draws."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.errors import InputError
from pipeline.feed.holdout import Holdout, fold_of, load_rows
from pipeline.format.manifest import load_manifest
from pipeline.splits import ValidationSampler

LABELS = np.random.default_rng(0).choice(5, 3000, p=[0.5, 0.3, 0.1, 0.09, 0.01])


def rows(text, labels=LABELS, group_size=None):
    return Holdout(text, group_size).rows(labels)


@pytest.mark.parametrize(
    ("text", "group_size", "expected"),
    [
        ("split", None, range(0)),
        ("none", None, range(0)),
        ("final", None, range(0)),
        ("first:7", None, range(7)),
        ("last:7", None, range(2993, 3000)),
        ("first:1200", 400, range(1200)),
        ("last:200", 400, range(2800, 3000)),  # the last group is of 200 rows
        ("last:1000", 400, range(2000, 3000)),
        ("last:600", 400, range(2400, 3000)),
    ],
)
def test_rows_at_an_end(text, group_size, expected):
    assert rows(text, group_size=group_size).tolist() == list(expected)


@pytest.mark.parametrize("text", ["random:0.1", "random:.25:7"])
def test_a_random_choice_is_the_converter_s_for_the_same_seed(text):
    _, fraction, *seed = text.split(":")
    sampler = ValidationSampler(float(fraction), int(seed[0]) if seed else 0)
    assert rows(text).tolist() == np.flatnonzero(sampler.select(LABELS)).tolist()


def test_another_seed_holds_out_other_rows_and_the_same_one_the_same():
    assert rows("random:0.1:3").tolist() == rows("random:0.1:3").tolist()
    assert rows("random:0.1:3").tolist() != rows("random:0.1").tolist()
    assert rows("fold:0/5:3").tolist() != rows("fold:0/5").tolist()


@settings(max_examples=50, deadline=None)
@given(st.integers(2, 12), st.integers(0, 10**18 - 1), st.lists(st.integers(0, 3), min_size=12, max_size=200))
def test_folds_are_disjoint_complete_even_and_stratified(folds, seed, labels):
    labels = np.array(labels)
    held = [rows(f"fold:{fold}/{folds}:{seed}", labels) for fold in range(folds)]
    assert sorted(np.concatenate(held).tolist()) == list(range(len(labels)))
    counts = np.array([np.bincount(labels[part], minlength=4) for part in held])
    assert np.ptp(counts, axis=0).max() <= 1
    assert np.ptp(counts.sum(axis=1)) <= 1


@settings(max_examples=50, deadline=None)
@given(st.sampled_from(["random:0.3", "fold:1/3"]), st.integers(2, 60), st.integers(0, 10**9))
def test_groups_are_never_divided(text, group_size, seed):
    labels = LABELS[:500]
    held = np.isin(np.arange(500), rows(f"{text}:{seed}", labels, group_size))
    groups = np.array_split(held, range(group_size, 500, group_size))
    assert all(group.all() or not group.any() for group in groups)
    share = 0.3 if text.startswith("random") else 1 / 3
    assert abs(sum(group.any() for group in groups) - share * len(groups)) < 1.01


def test_folds_of_groups_cover_every_group_once():
    fold = fold_of(LABELS, 4, seed=1, group_size=300)
    assert (fold.reshape(10, 300) == fold[::300, None]).all()
    assert sorted(np.bincount(fold[::300]).tolist()) == [2, 2, 3, 3]


@pytest.mark.parametrize("text", ["random:0.1", "fold:2/7", "first:90", "last:33"])
def test_the_number_of_rows_follows_from_the_class_counts(text):
    counts = tuple(np.bincount(LABELS).tolist())
    assert Holdout(text).num_rows(counts) == len(rows(text))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        *((text, "give split, none, random:FRACTION") for text in ("", "some", "random", "first:-1", "random:1.5")),
        *((text, "give split, none, random:FRACTION") for text in ("fold:1", "first:1:2", "none:1", "last:\u0661")),
        ("random:0.0", "must lie between 0 and 1"),
        ("fold:5/5", "at least 2 folds, numbered from 0"),
        ("fold:0/1", "at least 2 folds, numbered from 0"),
    ],
)
def test_an_invalid_text_is_refused(text, message):
    with pytest.raises(InputError, match=message):
        Holdout(text)


@pytest.mark.parametrize(
    ("text", "group_size", "message"),
    [
        ("first:0", None, "0 of 20 training rows would be held out; hold out at least one"),
        ("last:20", None, "20 of 20 training rows"),
        ("first:99", None, "20 of 20 training rows"),
        ("random:0.01", None, "0 of 20 training rows"),
        ("random:0.1", 20, r"random:0.1 in groups of 20: \d+ of 20 training rows"),
        ("first:10", 8, "would divide a group of 8 rows; use first:8"),
        ("first:3", 8, "would divide a group of 8 rows; use first:8"),
        ("last:10", 8, "would divide a group of 8 rows; use last:12"),
        ("last:2", 8, "would divide a group of 8 rows; use last:4"),
        ("fold:0/3", 10, "3 folds need as many groups of 10 rows, and there are 2; use fewer folds"),
        ("fold:0/21", None, "21 folds need as many training rows, and there are 20"),
    ],
)
def test_a_choice_that_does_not_fit_the_rows_is_refused(text, group_size, message):
    with pytest.raises(InputError, match=message):
        rows(text, np.arange(20) % 2, group_size)


@pytest.mark.parametrize("text", ["none", "final", "first:50", "last:50", "random:0.2", "fold:3/4"])
def test_loaded_rows_are_those_of_the_split_divided(digits, text, monkeypatch):
    monkeypatch.setattr("pipeline.feed.resident._MOVED_ROWS", 16)  # several blocks, the last one short
    manifest = load_manifest(digits)
    whole = load_rows(digits, manifest, Holdout("none")).train
    train, held, held_rows = load_rows(digits, manifest, Holdout(text))
    if text == "final":
        assert len(train) == manifest.split("train").num_examples + manifest.split("val").num_examples
    else:
        kept = np.setdiff1d(np.arange(len(whole)), held_rows)
        for name in ("images", "labels", "ids"):
            np.testing.assert_array_equal(getattr(train, name), getattr(whole, name)[kept])
            if held is not None:
                np.testing.assert_array_equal(getattr(held, name), getattr(whole, name)[held_rows])
    assert (held is None) == (not len(held_rows))
