import keras
import numpy as np
import pytest

from pipeline.errors import InputError
from pipeline.train.checkpoint import CheckpointStore, TrainState


@pytest.fixture
def model():
    keras.utils.set_random_seed(0)
    return keras.Sequential([keras.Input((2,)), keras.layers.Dense(3)])


@pytest.fixture
def optimizer(model):
    made = keras.optimizers.Adam()
    made.build(model.trainable_variables)
    return made


def save_steps(store, model, optimizer, *steps, best=False):
    """Save a checkpoint a step, the weights all equal to the step's number."""
    for step in steps:
        model.set_weights([np.full_like(weight, step) for weight in model.get_weights()])
        optimizer.iterations.assign(step)
        store.save(model, optimizer, TrainState(epoch=1, step=step, global_step=step, history=[{"loss": 0.5}]), best)


def test_everything_comes_back(tmp_path, model, optimizer):
    store = CheckpointStore(tmp_path)
    save_steps(store, model, optimizer, 7)
    save_steps(CheckpointStore(tmp_path / "other"), model, optimizer, 9)
    state, remarks = store.restore_newest(model, optimizer)
    assert state == TrainState(epoch=1, step=7, global_step=7, history=[{"loss": 0.5}])
    assert remarks == []
    assert {float(weight.max()) for weight in model.get_weights()} == {7.0}
    assert int(optimizer.iterations) == 7


def test_without_checkpoints_a_run_starts_fresh(tmp_path, model, optimizer):
    assert CheckpointStore(tmp_path / "absent").restore_newest(model, optimizer) == (TrainState(), [])


def test_the_newest_and_the_best_are_kept(tmp_path, model, optimizer):
    store = CheckpointStore(tmp_path, keep=2)
    save_steps(store, model, optimizer, 1, best=True)
    save_steps(store, model, optimizer, 2, 3)
    names = sorted(path.name for path in tmp_path.iterdir())
    assert names == ["best.npz", "checkpoint-000000002.npz", "checkpoint-000000003.npz"]
    assert store.restore_best(model)
    assert float(model.get_weights()[0].max()) == 1.0


@pytest.mark.parametrize("damage", ["cut", "flip", "empty", "not an archive"])
def test_a_damaged_newest_falls_back_and_says_so(tmp_path, model, optimizer, damage):
    store = CheckpointStore(tmp_path)
    save_steps(store, model, optimizer, 1, 2)
    newest = tmp_path / "checkpoint-000000002.npz"
    content = bytearray(newest.read_bytes())
    place = content.index(np.full(3, 2, np.float32).tobytes())
    content[place] ^= 0x10
    whole = newest.read_bytes()
    newest.write_bytes({"cut": whole[:-100], "flip": content, "empty": b"", "not an archive": b"x" * 500}[damage])
    state, remarks = store.restore_newest(model, optimizer)
    assert state.global_step == 1
    assert float(model.get_weights()[0].max()) == 1.0
    assert len(remarks) == 1
    assert "checkpoint-000000002.npz: damaged" in remarks[0]


def test_a_damaged_best_is_not_loaded(tmp_path, model, optimizer):
    store = CheckpointStore(tmp_path)
    save_steps(store, model, optimizer, 3, best=True)
    (tmp_path / "best.npz").write_bytes(b"")
    assert not store.restore_best(model)
    assert float(model.get_weights()[0].max()) == 3.0


def test_when_none_can_be_read_it_says_what_to_do(tmp_path, model, optimizer):
    (tmp_path / "checkpoint-000000001.npz").write_bytes(b"")
    with pytest.raises(InputError, match="no checkpoint can be read; start anew with --fresh"):
        CheckpointStore(tmp_path).restore_newest(model, optimizer)


def test_a_checkpoint_of_another_network_is_not_loaded(tmp_path, model, optimizer):
    save_steps(CheckpointStore(tmp_path), model, optimizer, 1)
    wider = keras.Sequential([keras.Input((2,)), keras.layers.Dense(4)])
    other = keras.optimizers.Adam()
    other.build(wider.trainable_variables)
    with pytest.raises(InputError, match="no checkpoint can be read"):
        CheckpointStore(tmp_path).restore_newest(wider, other)


def test_nothing_is_unpickled(tmp_path, model, optimizer):
    np.savez(tmp_path / "checkpoint-000000001.npz", state=np.array([{"a": 1}], dtype=object))
    with pytest.raises(InputError, match="allow_pickle=False"):
        CheckpointStore(tmp_path).restore_newest(model, optimizer)
