"""The rows of steps that a run keeps: all of it in few rows."""

from pipeline.train.state import StepRow, TrainState


def row_to(step):
    return StepRow(step, loss=8.0, correct=3.0, examples=4.0, seconds=0.5, waited=0.1, learning_rate=1 / step)


def test_a_row_of_steps_is_means_and_rates():
    figures = {"step": 2, "loss": 2.0, "accuracy": 0.75, "learning_rate": 0.5, "images_per_second": 8.0}
    assert row_to(2).figures() == {**figures, "feed_wait": 0.2}


def test_calls_that_end_within_the_same_steps_share_a_row():
    state = TrainState()
    for step in (2, 4, 6, 8, 9):
        state.add(row_to(step), every=4)
    assert [row.step for row in state.step_rows] == [4, 8, 9]
    assert state.step_rows[0] == StepRow(4, 16.0, 6.0, 8.0, 1.0, 0.2, 0.25)
    assert (state.step, state.global_step, state.totals, state.seconds) == (9, 9, (40.0, 15.0, 20.0), 2.5)
