import dataclasses
import io
import os
import re
import threading
import zipfile

import keras
import msgspec
import numpy as np
import pytest

from pipeline.errors import InputError
from pipeline.feed.normalize import Normalization
from pipeline.feed.order import Steps
from pipeline.train import checkpoint
from pipeline.train.checkpoint import CheckpointStore
from pipeline.train.state import TrainState
from pipeline.train.stored import Identity, Numerics, Stamp
from tests.helpers import faults

STEPS = Steps(num_examples=192, batch_size=16, steps_per_call=1)  # 12 per epoch
IDENTITY = Identity(
    **{"data": "d", "batch_size": 16, "steps_per_call": 1, "seed": 0, "order": "o", "network": "n", "epochs": 3},
    **{"learning_rate": 0.1, "schedule": "cosine", "precision": "float32", "streamed": False},
    normalization=Normalization(),
)
STAMP = Stamp(IDENTITY, Numerics("2.21.0", "3.15.1", "1", "avx avx2"))
ROW = {"loss": 0.5, "accuracy": 0.5, "images_per_second": 1.0, "seconds": 1.0, "learning_rate": 0.1}


@pytest.fixture
def model():
    keras.utils.set_random_seed(0)
    return keras.Sequential([keras.Input((2,)), keras.layers.Dense(3)])


@pytest.fixture
def optimizer(model):
    adam = keras.optimizers.Adam()
    adam.build(model.trainable_variables)
    return adam


def make_store(directory, stamp=STAMP, **options):
    return CheckpointStore(directory, stamp, STEPS, **options)


def state_at(step, **changes):
    """A valid state at global step `step` of the second epoch or later."""
    epoch, inside = divmod(step + 12, 12)
    history = [{"epoch": k, "step": 12 * k, **ROW} for k in range(1, epoch + 1)]
    state = TrainState(epoch, inside, 12 * epoch + inside, (1.0, 2.0, 16.0 * inside), 0.5, history)
    return dataclasses.replace(state, **changes)


def name_of(step):
    return f"checkpoint-{step + 12:09d}.npz"


def save_steps(store, model, optimizer, *steps, best=False):
    """Save a checkpoint per step, the weights all equal to the step's number."""
    for step in steps:
        model.set_weights([np.full_like(weight, step) for weight in model.get_weights()])
        optimizer.iterations.assign(step)
        store.save(model, optimizer, state_at(step), best)


def restored_step(store, model, optimizer):
    return store.restore_newest(model, optimizer)[0].global_step - 12


def weights_of(model):
    return {float(weight.max()) for weight in model.get_weights()}


@pytest.fixture
def saved(tmp_path, model, optimizer):
    """A store with checkpoints of steps 1 and 2."""
    store = make_store(tmp_path)
    save_steps(store, model, optimizer, 1, 2)
    return store


def assert_falls_back(store, model, optimizer):
    model.set_weights([np.zeros_like(weight) for weight in model.get_weights()])
    state, remarks = store.restore_newest(model, optimizer)
    assert (state.global_step, len(remarks)) == (13, 1)
    assert weights_of(model) == {1.0}
    return remarks[0]


def test_everything_is_restored(tmp_path, model, optimizer):
    store = make_store(tmp_path)
    assert store.restore_newest(model, optimizer) == (None, [])
    save_steps(store, model, optimizer, 7)
    save_steps(make_store(tmp_path / "other"), model, optimizer, 9)
    assert store.restore_newest(model, optimizer) == (state_at(7), [])
    assert weights_of(model) == {7.0}
    assert int(optimizer.iterations) == 7
    store.save(model, optimizer, state_at(8, audit=bytes(193)))
    assert store.restore_newest(model, optimizer)[0].audit == bytes(193)


def test_what_is_written_in_the_background_is_of_the_moment_of_the_save(tmp_path, model, optimizer, monkeypatch):
    proceed = threading.Event()
    write = checkpoint.write_bytes
    monkeypatch.setattr(checkpoint, "write_bytes", lambda *given: (proceed.wait(60), write(*given)))
    store = make_store(tmp_path, in_background=True)
    save_steps(store, model, optimizer, 3)
    model.set_weights([weight * 0 for weight in model.get_weights()])
    optimizer.iterations.assign(0)
    assert list(tmp_path.iterdir()) == []
    proceed.set()
    assert restored_step(store, model, optimizer) == 3
    assert weights_of(model) == {3.0}
    assert int(optimizer.iterations) == 3


@pytest.mark.parametrize("notice", ["wait", "save"])
def test_an_error_in_the_background_is_raised_at_the_next_chance(tmp_path, model, optimizer, notice):
    (tmp_path / "checkpoints").touch()
    store = make_store(tmp_path / "checkpoints", in_background=True)
    save_steps(store, model, optimizer, 1)
    with pytest.raises(FileExistsError):
        store.wait() if notice == "wait" else save_steps(store, model, optimizer, 2)
    store.wait()


def test_the_newest_and_the_best_are_kept(tmp_path, model, optimizer):
    store = make_store(tmp_path, keep=2)
    save_steps(store, model, optimizer, 1, best=True)
    save_steps(store, model, optimizer, 2, 3)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["best.npz", name_of(2), name_of(3)]
    assert store.restore_best(model, optimizer)
    assert weights_of(model) == {1.0}
    (tmp_path / "best.npz").write_bytes(b"")
    assert not store.restore_best(model, optimizer)


def test_if_none_can_be_read_it_says_what_to_do(tmp_path, model, optimizer, saved):
    for step in (1, 2):
        (tmp_path / name_of(step)).write_bytes(b"noise" * step)
    with pytest.raises(InputError, match=r"no readable checkpoint; start again with --fresh \(.*: corrupt \(trunc"):
        saved.restore_newest(model, optimizer)


def test_a_checkpoint_of_another_run_is_refused_with_the_differences(tmp_path, model, optimizer, saved):
    other = Stamp(msgspec.structs.replace(IDENTITY, batch_size=32, seed=7), STAMP.numerics)
    before = weights_of(model)
    message = rf"{name_of(2)}: a checkpoint of another run \(batch_size 16 -> 32; seed 0 -> 7\); move it away$"
    with pytest.raises(InputError, match=message):
        make_store(tmp_path, other).restore_newest(model, optimizer)
    assert weights_of(model) == before
    assert not make_store(tmp_path, other).restore_best(model, optimizer)


def test_other_numerics_are_reported_and_resumed(tmp_path, model, optimizer, saved):
    other = Stamp(IDENTITY, Numerics("2.21.0", "3.15.1", "0", "avx avx2 avx512f"))
    _, (remark,) = make_store(tmp_path, other).restore_newest(model, optimizer)
    assert remark.startswith(
        "computed with onednn 1 -> 0, instructions avx avx2 -> avx avx2 avx512f; results may differ"
    )


def test_a_checkpoint_of_another_network_is_not_loaded(saved):
    wider = keras.Sequential([keras.Input((2,)), keras.layers.Dense(4)])
    other = keras.optimizers.Adam()
    other.build(wider.trainable_variables)
    with pytest.raises(InputError, match="no readable checkpoint"):
        saved.restore_newest(wider, other)


def test_a_full_disk_leaves_the_earlier_ones(tmp_path, model, optimizer):
    store = make_store(tmp_path, keep=1)
    save_steps(store, model, optimizer, 1, best=True)
    before = {path: path.read_bytes() for path in tmp_path.iterdir()}
    with faults.small_files(1000), pytest.raises(InputError, match=r"best.npz: File too large; "):
        save_steps(store, model, optimizer, 2, best=True)
    assert {path: path.read_bytes() for path in tmp_path.iterdir()} == before
    save_steps(store, model, optimizer, 2)
    assert restored_step(store, model, optimizer) == 2


def test_a_file_cut_anywhere_is_passed_over(tmp_path, model, optimizer, saved):
    path = tmp_path / name_of(2)
    whole = path.read_bytes()
    for length in {*range(0, len(whole), 97), len(whole) - 1}:
        path.write_bytes(whole[:length])
        assert_falls_back(saved, model, optimizer)


def test_a_flipped_bit_is_passed_over_or_does_no_harm(tmp_path, model, optimizer, saved):
    path = tmp_path / name_of(2)
    whole = path.read_bytes()
    steps = []
    for place in np.random.default_rng(0).integers(0, 8 * len(whole), 400):
        content = bytearray(whole)
        content[place // 8] ^= 1 << place % 8
        path.write_bytes(content)
        steps.append(restored_step(saved, model, optimizer))
        # Dates and attributes of an archive's members may change; what is loaded may not.
        assert weights_of(model) == {float(steps[-1])}
        assert int(optimizer.iterations) == steps[-1]
    assert steps.count(1) > 130


def pack(path, **arrays):
    """Replace arrays of a checkpoint."""
    with np.load(path) as archive:
        merged = {**archive, **arrays}
    file = io.BytesIO()
    np.savez_compressed(file, **merged)
    path.write_bytes(file.getvalue())


def as_state(text=None, **changes):
    """A stored record: valid but for `changes` to its state, or just this text."""
    state = msgspec.to_builtins(state_at(2))
    text = text or msgspec.json.encode({"stamp": STAMP, "state": {**state, **changes}})
    return {"state": np.frombuffer(text, np.uint8)}


INVALID = {
    "pickled state": ({"state": np.array([{"a": 1}], dtype=object)}, "state is {'descr': '|O'"),
    "too long": ({"model/0000": np.zeros(10**7, np.float32)}, "takes 40,000,128 bytes"),
    "shape": ({"model/0001": np.zeros(4, np.float32)}, r"model/0001 is .*'shape': \(4,\), }, not .*'shape': \(3,\)"),
    "type": ({"model/0001": np.zeros(3, np.float64)}, "model/0001 is .*'<f8', .*, not .*'<f4'"),
    "columns": ({"model/0000": np.asfortranarray(np.zeros((2, 3), np.float32))}, "'fortran_order': True"),
    "deep JSON": (as_state(b"[" * 100_000), "Expected `object`"),
    "not JSON": (as_state(b"x"), "JSON is malformed"),
    "unknown field": (as_state(b'{"stamp": 1, "state": 2, "more": 3}'), r"\$\.stamp"),
    "step of another file": (as_state(step=1, global_step=13, totals=[0, 0, 16]), "it is of step 13"),
    "text": (as_state(step="1"), "Expected `int`, got `str`"),
    "huge": (as_state(epoch=10**17, step=0, global_step=12 * 10**17), "it is at epoch 10+ of 3"),
    "beyond the epoch": (as_state(step=14), "not a position"),
    "another global step": (as_state(global_step=10**17), "not a position"),
    "past the last epoch": (as_state(epoch=4, step=0, global_step=48, totals=[0, 0, 0]), "it is at epoch 4 of 3"),
    "no history": (as_state(history=[]), "not have one row per epoch"),
    "history without loss": (as_state(history=[{"epoch": 1, "step": 12}]), "missing required field"),
    "wrong epochs": (as_state(history=[{"epoch": 2, "step": 24, **ROW}]), "not have one row per epoch"),
    "two totals": (as_state(totals=[0, 32]), "Expected `array` of length 3"),
    "infinite": (as_state(msgspec.json.encode({"stamp": STAMP, "state": 9}).replace(b"9}", b"Infinity}")), "malformed"),
    "no examples": (as_state(totals=[0, 0, 0]), "not those of 2 steps"),
    "audit": (as_state(audit="?"), "Invalid base64"),
}


@pytest.mark.parametrize("case", INVALID)
def test_what_cannot_be_of_this_run_is_passed_over(tmp_path, model, optimizer, saved, case):
    arrays, message = INVALID[case]
    pack(tmp_path / name_of(2), **arrays)
    remark = assert_falls_back(saved, model, optimizer)
    assert re.search(message, remark), remark
    assert remark.endswith("; falling back to the previous one")


@pytest.mark.parametrize("header", [b"(" * 400, b"{'descr': '<f4', 'shape': (99999999999,)}", b"-" * 400 + b"1", b""])
def test_array_headers_are_not_evaluated(tmp_path, model, optimizer, saved, header):
    path = tmp_path / name_of(2)
    with zipfile.ZipFile(path) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    members["model/0001.npy"] = b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header
    with zipfile.ZipFile(path, "w") as archive:
        for name, data in members.items():
            archive.writestr(name, data)
    assert "model/0001 is " in assert_falls_back(saved, model, optimizer)


@pytest.mark.parametrize("name", [name_of(1), name_of(2), "best.npz"])
@pytest.mark.parametrize("make", [os.mkdir, os.mkfifo])
def test_what_is_not_a_file_is_refused_and_not_waited_for(tmp_path, model, optimizer, saved, name, make):
    save_steps(saved, model, optimizer, 2, best=True)
    (tmp_path / name).unlink()
    make(tmp_path / name)
    with pytest.raises(InputError, match=f"{name}: not a file; move it away"):
        saved.restore_newest(model, optimizer)


@pytest.mark.parametrize("keep", [1, 2])
def test_a_corrupt_file_does_not_push_out_intact_ones(tmp_path, model, optimizer, keep):
    store = make_store(tmp_path, keep=keep)
    save_steps(make_store(tmp_path, keep=2), model, optimizer, 1, 9)
    (tmp_path / name_of(9)).write_bytes(b"")
    assert restored_step(store, model, optimizer) == 1
    save_steps(store, model, optimizer, 5)
    assert sorted(path.name for path in tmp_path.iterdir()) == [name_of(step) for step in (1, 5)[-keep:]]
    assert make_store(tmp_path).restore_newest(model, optimizer)[1] == []
