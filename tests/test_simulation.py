import dataclasses

import numpy as np
import pytest

from tests.helpers.simulation import Cluster, deal_epoch, dealing_table, simulate_waits, waiting_table

SMALL = Cluster(epoch_rows=700_001, per_replica=16, window_calls=4)
NO_PAUSE, FAST = (0.0, 0.0), [10.0] * 8


def test_every_row_is_dealt_once_and_read_once_but_for_cut_pages():
    hosts, seen = deal_epoch(SMALL, 0)
    assert seen.min() == seen.max() == 1
    assert sum(host.rows for host in hosts) == 700_001
    for host in hosts:
        assert 1 < host.read_ratio <= 1 + (host.windows + 1) * 301 / host.rows


def test_without_noise_nothing_waits():
    assert simulate_waits(SMALL, 0.0, NO_PAUSE, FAST) == pytest.approx((1, 0, 0))


def test_stragglers_cost_what_the_largest_of_64_normal_numbers_is_expected_to():
    waits = simulate_waits(dataclasses.replace(SMALL, reduce_ms=0.0), 0.02, NO_PAUSE, FAST)
    # 2.37 deviations above the mean (order statistics of the normal distribution).
    expected = np.exp(0.02 * 2.373) - 1
    assert waits.stragglers / waits.work == pytest.approx(expected, rel=0.05)


def test_a_host_that_reads_half_of_its_need_halves_the_speed_of_all():
    waits = simulate_waits(SMALL, 0.0, NO_PAUSE, [0.5, *FAST[1:]])
    assert waits.rows == pytest.approx(0.5, abs=0.02)


def test_the_tables_are_the_same_for_the_same_seed():
    def tables(seed):
        cluster = Cluster(epoch_rows=200_000, steps=200, seed=seed)
        return [*dealing_table(cluster), *waiting_table(cluster)]

    assert any(line.startswith("| 0 | 200,000 | 200,000 | 25,000 to 25,000 |") for line in tables(1))
    assert tables(1) == tables(1) != tables(2)
