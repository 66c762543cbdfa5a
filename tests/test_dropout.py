import numpy as np
import pytest
import tensorflow as tf

from models.dropout import StepDropout
from models.step_state import StepState, step_state

ROWS, UNITS = 64, 35  # units that four does not divide


def masked(first_row: int = 0, rows: int = ROWS, seed: int = 3, step: int = 5, name: str = "a", rate: float = 0.25):
    """The output of a layer named `name` for ones, for `rows` rows of a batch from `first_row` on."""
    layer = StepDropout(rate, name=name)
    with step_state(StepState(seed, tf.constant(step, tf.int64), tf.constant(first_row))):
        return layer(tf.ones((rows, 5, 7)), training=True).numpy()


def test_a_unit_is_kept_at_the_rate_and_scaled_up():
    values = masked()
    assert set(np.unique(values)) == {0, np.float32(1 / 0.75)}
    assert abs((values > 0).mean() - 0.75) < 0.03


@pytest.mark.parametrize("replicas", [2, 4, 8])
def test_replicas_draw_their_part_of_one_mask(replicas):
    rows = ROWS // replicas
    parts = [masked(first_row=replica * rows, rows=rows) for replica in range(replicas)]
    np.testing.assert_array_equal(np.concatenate(parts), masked())


@pytest.mark.parametrize(
    "change", [{"seed": 4}, {"step": 6}, {"name": "b"}, {"first_row": 64}], ids=lambda c: next(iter(c))
)
def test_seed_step_layer_and_replica_each_change_the_mask(change):
    agreeing = (masked() == masked(**change)).mean()
    assert 0.55 < agreeing < 0.70  # 0.75**2 + 0.25**2 by chance


def test_it_does_nothing_in_inference():
    inputs = tf.random.normal((4, 3))
    np.testing.assert_array_equal(StepDropout(0.5)(inputs, training=False), inputs)


def test_training_outside_a_state_is_refused():
    with pytest.raises(RuntimeError, match="needs models.step_state.step_state"):
        StepDropout(0.5)(tf.ones((2, 2)), training=True)
