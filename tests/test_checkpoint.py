import dataclasses
import io
import json
import os
import re
import threading

import keras
import numpy as np
import pytest

from pipeline.errors import InputError
from pipeline.train import checkpoint
from pipeline.train.checkpoint import CheckpointStore, TrainState
from tests.helpers import faults


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


def test_what_is_written_in_the_background_is_of_the_moment_of_the_save(tmp_path, model, optimizer, monkeypatch):
    go = threading.Event()
    write = checkpoint.write_bytes
    monkeypatch.setattr(checkpoint, "write_bytes", lambda *given: (go.wait(60), write(*given)))
    store = CheckpointStore(tmp_path, in_background=True)
    save_steps(store, model, optimizer, 3)
    model.set_weights([weight * 0 for weight in model.get_weights()])
    optimizer.iterations.assign(0)
    assert list(tmp_path.iterdir()) == []
    go.set()
    assert store.restore_newest(model, optimizer)[0].global_step == 3
    assert {float(weight.max()) for weight in model.get_weights()} == {3.0}
    assert int(optimizer.iterations) == 3


@pytest.mark.parametrize("notice", ["wait", "save"])
def test_an_error_in_the_background_is_raised_at_the_next_chance(tmp_path, model, optimizer, notice):
    (tmp_path / "checkpoints").touch()
    store = CheckpointStore(tmp_path / "checkpoints", in_background=True)
    save_steps(store, model, optimizer, 1)
    with pytest.raises(FileExistsError):
        store.wait() if notice == "wait" else save_steps(store, model, optimizer, 2)
    store.wait()


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


def test_a_full_disk_leaves_the_earlier_ones(tmp_path, model, optimizer):
    store = CheckpointStore(tmp_path, keep=1)
    save_steps(store, model, optimizer, 1, best=True)
    before = {path: path.read_bytes() for path in tmp_path.iterdir()}
    told = r"best.npz: File too large; it takes [0-9,]+ bytes and [0-9,]+ are free"
    with faults.small_files(1000), pytest.raises(InputError, match=told):
        save_steps(store, model, optimizer, 2, best=True)
    assert {path: path.read_bytes() for path in tmp_path.iterdir()} == before
    save_steps(store, model, optimizer, 2)
    assert store.restore_newest(model, optimizer)[0].global_step == 2


def damage_newest(tmp_path, content):
    (tmp_path / "checkpoint-000000002.npz").write_bytes(content)


def assert_falls_back(store, model, optimizer):
    model.set_weights([np.zeros_like(weight) for weight in model.get_weights()])
    state, remarks = store.restore_newest(model, optimizer)
    assert (state.global_step, len(remarks)) == (1, 1)
    assert {float(weight.max()) for weight in model.get_weights()} == {1.0}


def test_a_file_cut_anywhere_is_passed_over(tmp_path, model, optimizer):
    store = CheckpointStore(tmp_path)
    save_steps(store, model, optimizer, 1, 2)
    whole = (tmp_path / "checkpoint-000000002.npz").read_bytes()
    for length in {*range(0, len(whole), 97), len(whole) - 1}:
        damage_newest(tmp_path, whole[:length])
        assert_falls_back(store, model, optimizer)


def test_a_flipped_bit_is_passed_over_or_does_no_harm(tmp_path, model, optimizer):
    store = CheckpointStore(tmp_path)
    save_steps(store, model, optimizer, 1, 2)
    whole = (tmp_path / "checkpoint-000000002.npz").read_bytes()
    steps = []
    for place in np.random.default_rng(0).integers(0, 8 * len(whole), 300):
        content = bytearray(whole)
        content[place // 8] ^= 1 << place % 8
        damage_newest(tmp_path, content)
        state, _ = store.restore_newest(model, optimizer)
        steps.append(state.global_step)
        # Dates and attributes of an archive's members may change; what is loaded may not.
        assert {float(weight.max()) for weight in model.get_weights()} == {float(state.global_step)}
        assert int(optimizer.iterations) == state.global_step
    assert steps.count(1) > 100


def pack(tmp_path, **arrays):
    """The newest checkpoint's own arrays, less and more what is given, as bytes."""
    with np.load(tmp_path / "checkpoint-000000002.npz") as archive:
        merged = {**archive, **arrays}
    file = io.BytesIO()
    np.savez_compressed(file, **merged)
    return file.getvalue()


def as_state(**changes):
    state = {**dataclasses.asdict(TrainState(global_step=2)), **changes}
    return np.frombuffer(json.dumps(state).encode(), np.uint8)


@pytest.mark.parametrize(
    ("arrays", "said"),
    [
        ({"state": np.array([{"a": 1}], dtype=object)}, "allow_pickle=False"),
        ({"model/0000": np.array([[{}] * 3] * 2, dtype=object)}, "allow_pickle=False"),
        ({"model/0000": np.zeros(10**7, np.float32)}, "takes 40,000,128 bytes"),
        ({"unknown": np.zeros(2**26 + 1, np.float32)}, "unknown takes"),
        ({"model/0001": np.zeros(4, np.float32)}, r"is float32 \(4,\), not float32 \(3,\)"),
        ({"model/0001": np.zeros(3, np.float64)}, "is float64"),
        ({"state": as_state(global_step=7)}, "it is of step 7"),
        ({"state": as_state(step="1")}, "its position is"),
        ({"state": as_state(step=-1)}, "its position is"),
        ({"state": as_state(history=[1])}, "its history is no table"),
        ({"state": np.frombuffer(b"[" * 100_000, np.uint8)}, "damaged"),
    ],
    ids=[
        "pickled state",
        "pickled weights",
        "too long",
        "a bomb",
        "shape",
        "type",
        "step",
        "text",
        "negative",
        "history",
    ]
    + ["deep JSON"],
)
def test_what_is_no_checkpoint_of_this_run_is_passed_over(tmp_path, model, optimizer, arrays, said):
    store = CheckpointStore(tmp_path)
    save_steps(store, model, optimizer, 1, 2)
    damage_newest(tmp_path, pack(tmp_path, **arrays))
    _, (remark,) = store.restore_newest(model, optimizer)
    assert re.search(said, remark)
    assert_falls_back(store, model, optimizer)


def test_an_array_without_an_archive_is_passed_over(tmp_path, model, optimizer):
    store = CheckpointStore(tmp_path)
    save_steps(store, model, optimizer, 1, 2)
    file = io.BytesIO()
    np.save(file, np.zeros(3))
    damage_newest(tmp_path, file.getvalue())
    assert_falls_back(store, model, optimizer)


def test_what_is_no_archive_is_not_advised_to_be_unpickled(tmp_path, model, optimizer):
    store = CheckpointStore(tmp_path)
    save_steps(store, model, optimizer, 1, 2)
    damage_newest(tmp_path, b"noise" * 1000)
    _, (remark,) = store.restore_newest(model, optimizer)
    assert remark.endswith("damaged (it is no whole archive); falling back to the one before")
    (tmp_path / "checkpoint-000000001.npz").write_bytes(b"noise")
    with pytest.raises(InputError, match=r"start anew with --fresh \(.*1.npz: damaged \(it is no whole archive\)\)"):
        store.restore_newest(model, optimizer)


@pytest.mark.parametrize("name", ["checkpoint-000000001.npz", "checkpoint-000000002.npz", "best.npz"])
@pytest.mark.parametrize("make", [os.mkdir, os.mkfifo])
def test_what_is_no_file_is_refused_and_not_waited_for(tmp_path, model, optimizer, name, make):
    store = CheckpointStore(tmp_path)
    save_steps(store, model, optimizer, 1, 2, best=True)
    (tmp_path / name).unlink()
    make(tmp_path / name)
    with pytest.raises(InputError, match=f"{name}: not a file; move it away"):
        store.restore_newest(model, optimizer)


@pytest.mark.parametrize("keep", [1, 2])
def test_a_damaged_file_does_not_take_the_place_of_whole_ones(tmp_path, model, optimizer, keep):
    store = CheckpointStore(tmp_path, keep)
    save_steps(CheckpointStore(tmp_path, keep=2), model, optimizer, 1, 9)
    (tmp_path / "checkpoint-000000009.npz").write_bytes(b"")
    assert store.restore_newest(model, optimizer)[0].global_step == 1
    save_steps(store, model, optimizer, 5)
    names = sorted(path.name for path in tmp_path.iterdir())
    assert names == [f"checkpoint-00000000{step}.npz" for step in (1, 5)[-keep:]]
    assert CheckpointStore(tmp_path).restore_newest(model, optimizer)[1] == []
