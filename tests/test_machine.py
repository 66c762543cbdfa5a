import json

from pipeline.benchmark import machine
from pipeline.format.manifest import load_manifest
from pipeline.train.config import TrainConfig
from pipeline.train.devices import make_devices
from pipeline.train.setup import make_run_plan


def test_description_names_data_versions_and_resolved_settings(digits, tmp_path):
    devices = make_devices("mirrored", 2)
    config = TrainConfig(data=digits, run_dir=tmp_path, batch_size=16, steps_per_call=4, precision="float32")
    plan = make_run_plan(config, load_manifest(digits), devices)
    described = machine.describe_with_settings(plan, devices)
    assert json.loads(json.dumps(described)) == described
    assert (described["num_examples"], described["image_shape"]) == (203, [8, 8, 1])
    assert (described["batch_size"], described["precision"], described["replicas"]) == (16, "float32", 2)
    assert described["versions"].keys() == {"python", "tensorflow", "keras", "numpy"}
    assert described["cores"] >= 1
    assert "batch_size" not in machine.describe(plan, devices)
