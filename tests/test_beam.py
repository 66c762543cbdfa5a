import importlib.util
import os
import signal

import pytest

from pipeline.convert.beam import BeamWorkers
from pipeline.convert.config import ConvertConfig
from pipeline.convert.converter import convert
from pipeline.errors import InputError, TryAgainError
from tests import test_readers
from tests.helpers import layouts
from tests.helpers.conversion import all_bytes, convert_texts, left_over, table, table_with_ids
from tools import csv_to_tfrecord

needs_beam = pytest.mark.skipif(importlib.util.find_spec("apache_beam") is None, reason="apache-beam is not installed")
IN_PROCESS = "--runner FnApiRunner"
BEAM = {"runner": "beam", "beam_args": IN_PROCESS}
CONTAINERS = [
    test_readers.arrays,
    test_readers.one_array_each,
    test_readers.idx_with_labels_elsewhere,
    test_readers.images_with_labels_in_a_csv,
    test_readers.members_of_a_zip,
    test_readers.image_files_and_a_list,
    test_readers.hub,
]
LAYOUTS = {
    "plain columns": {"train": table(300), "test": table(50, "id", lambda k: 9 * k)},
    "ids": {"train": table_with_ids(300, 40)},
    "named labels": {"train": "label,a,b,c,d\n" + "".join(f"{'xyz'[k % 3]},{k},1,2,3\n" for k in range(200))},
}


@needs_beam
@pytest.mark.parametrize("texts", LAYOUTS.values(), ids=LAYOUTS)
def test_beam_writes_the_bytes_of_a_local_conversion(tmp_path, texts):
    options = {"shards": 3, "val_fraction": 0.2}
    convert_texts(tmp_path, texts, "expected/data", **options)
    convert_texts(tmp_path, texts, runner="beam", beam_args=IN_PROCESS, **options)
    assert all_bytes(tmp_path / "data") == all_bytes(tmp_path / "expected/data")


@needs_beam
@pytest.mark.parametrize("layout", CONTAINERS, ids=lambda layout: layout.__name__)
def test_beam_reads_each_kind_of_container(tmp_path, layout):
    splits, options = layout(tmp_path)
    for out, runner in ((tmp_path / "local/data", {}), (tmp_path / "data", BEAM)):
        convert(ConvertConfig(tuple(splits.items()), out, shards=2, **options, **runner))
    assert all_bytes(tmp_path / "data") == all_bytes(tmp_path / "local/data")


@needs_beam
@pytest.mark.parametrize("name", layouts.LAYOUTS)
def test_beam_reads_each_layout_of_text(tmp_path, name):
    arguments = layouts.LAYOUTS[name](tmp_path).args
    csv_to_tfrecord.main([*arguments, "--out", str(tmp_path / "local/data")])
    csv_to_tfrecord.main([*arguments, "--out", str(tmp_path / "data"), "--runner", "beam", "--beam-args", IN_PROCESS])
    assert all_bytes(tmp_path / "data") == all_bytes(tmp_path / "local/data")


def die_once(item):
    """Kill this process at the first call for the item 3; the square of any other."""
    number, marker = item
    if number == 3 and not marker.exists():
        marker.touch()
        os.kill(os.getpid(), signal.SIGKILL)
    return number**2


@needs_beam
def test_killed_worker_of_the_local_runner_ends_the_job_in_one_line(tmp_path):
    beam_args = "--runner FnApiRunner --direct_num_workers 2 --direct_running_mode multi_processing"
    with BeamWorkers(tmp_path, beam_args) as workers, pytest.raises(TryAgainError, match="a worker process was killed"):
        list(workers.ahead(die_once, [(k, tmp_path / "marker") for k in range(5)]))
    assert left_over(tmp_path) == ["marker"]


@needs_beam
def test_first_invalid_row_is_reported_as_by_a_local_conversion(tmp_path):
    lines = table(300).splitlines()
    lines[100], lines[250] = "1,x,1,2,3", "1,1,999,2,3"
    notices = []
    texts = {"train": "\n".join(lines)}
    with pytest.raises(InputError) as local:
        convert_texts(tmp_path, texts)
    with pytest.raises(InputError, match="line 101") as beam:
        convert_texts(tmp_path, texts, runner="beam", beam_args=IN_PROCESS, on_notice=notices.append, shards=5)
    assert str(beam.value) == str(local.value)
    assert "refused rows 2" in notices[-1]
    assert left_over(tmp_path) == []


def test_beam_that_is_not_installed_is_named_with_its_extra(tmp_path, monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(InputError, match=r"pip install -e '\.\[beam\]'"):
        convert_texts(tmp_path, {"train": table(9)}, runner="beam")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"runner": "spark"}, "--runner 'spark': choose one of local, beam"),
        ({"beam_args": "--x"}, "--beam-args needs --runner beam"),
        ({"runner": "beam", "workers": 2}, "--workers is for this machine"),
    ],
)
def test_wrong_choices_of_a_runner_are_refused(tmp_path, options, message):
    with pytest.raises(InputError, match=message):
        convert_texts(tmp_path, {"train": table(9)}, **options)
