import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.errors import InputError
from pipeline.splits import ValidationSampler


def select(labels, fraction=0.1, seed=0, group_size=None, portions=(10**9,)):
    """The selection over all labels of one file, in portions of the given sizes in turn."""
    sampler, out, first = ValidationSampler(fraction, seed, group_size), [], 0
    sampler.start_file()
    while first < len(labels):
        size = portions[len(out) % len(portions)]
        out.append(sampler.select(labels[first : first + size]))
        first += size
    return np.concatenate(out)


LABELS = np.random.default_rng(0).choice(5, 3000, p=[0.5, 0.3, 0.1, 0.09, 0.01])


@settings(max_examples=50)
@given(st.fractions(min_value="1/1000", max_value="999/1000", max_denominator=1000), st.integers(0, 2**63 - 1))
def test_each_class_gives_its_share_within_one_row(fraction, seed):
    drawn = select(LABELS, float(fraction), seed)
    for label in range(5):
        expected = (label == LABELS).sum() * float(fraction)
        assert abs(drawn[label == LABELS].sum() - expected) <= 1


@pytest.mark.parametrize("portions", [(1,), (7, 100, 1), (1000,)])
@pytest.mark.parametrize("group_size", [None, 64])
def test_choice_does_not_depend_on_the_portions(portions, group_size):
    whole = select(LABELS, group_size=group_size)
    np.testing.assert_array_equal(select(LABELS, group_size=group_size, portions=portions), whole)


def test_another_seed_draws_other_rows():
    assert (select(LABELS, seed=0) != select(LABELS, seed=1)).sum() > 300


def test_every_row_is_drawn_in_the_share_of_seeds_that_is_the_fraction():
    times = np.sum([select(np.zeros(40, np.int64), 0.25, seed) for seed in range(400)], axis=0)
    # A binomial of 400 draws at 1/4 has mean 100 and standard deviation 8.7: five of those either way.
    assert times.min() > 56
    assert times.max() < 144


def test_groups_stay_together_and_number_their_share():
    drawn = select(LABELS, 0.25, group_size=100).reshape(30, 100)
    assert (drawn.all(axis=1) | ~drawn.any(axis=1)).all()
    assert drawn.any(axis=1).sum() in (7, 8)


def test_groups_end_with_their_file():
    sampler, files = ValidationSampler(0.25, 0, 20), []
    for rows in (130, 70):
        sampler.start_file()
        files.append(sampler.select(np.zeros(rows, np.int64)))
    # The first file's last group has ten rows, and the second file begins a new one.
    groups = [*np.split(files[0], range(20, 130, 20)), *np.split(files[1], range(20, 70, 20))]
    assert {len(set(group.tolist())) for group in groups} == {1}
    assert 0 < np.concatenate(files).sum() < 100


def test_largest_group_size_makes_one_group_of_each_file():
    sampler, files = ValidationSampler(0.5, 0, 2**63 - 1), []
    for rows in (10, 10):
        sampler.start_file()
        files.append(sampler.select(np.zeros(rows, np.int64)))
    assert [len(set(drawn.tolist())) for drawn in files] == [1, 1]


def test_rows_drawn_by_seed_0_stay_the_same():
    # A change here changes everybody's validation split: only with a new manifest version.
    assert np.flatnonzero(select(np.arange(60) % 2, 0.1)).tolist() == [5, 6, 27, 28, 48, 49]
    assert np.flatnonzero(select(np.zeros(60, np.int64), 0.1, group_size=4)).tolist() == [
        *range(12, 16),
        *range(56, 60),
    ]


@pytest.mark.parametrize(("fraction", "group_size"), [(0.0, None), (1.0, None), (-0.1, None), (1e-9, None), (0.5, 0)])
def test_invalid_rule_is_an_error(fraction, group_size):
    with pytest.raises(InputError, match="must"):
        ValidationSampler(fraction, 0, group_size)
