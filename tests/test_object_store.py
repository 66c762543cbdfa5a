"""A data set and a run in an S3-compatible server (moto's), from the CSV to predictions, as commands."""

import pytest

from pipeline.api.functions import TrainResult
from pipeline.errors import InputError
from pipeline.remote import as_path
from tests.helpers.datasets import bars, write_csv
from tools import csv_to_tfrecord, inspect_tfrecord, predict

BUCKET = "s3://bucket"


@pytest.fixture(scope="module")
def bucket():
    """An empty bucket of a server in this process, which the environment names."""
    import boto3
    import s3fs
    from moto.server import ThreadedMotoServer

    server = ThreadedMotoServer("127.0.0.1", 0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    with pytest.MonkeyPatch.context() as environment:
        environment.setenv("AWS_ENDPOINT_URL", f"http://{host}:{port}")
        for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
            environment.setenv(name, "testing")
        environment.setenv("AWS_DEFAULT_REGION", "us-east-1")
        s3fs.S3FileSystem.clear_instance_cache()  # those of other tests have no such address
        boto3.client("s3").create_bucket(Bucket="bucket")
        yield as_path(BUCKET)
    s3fs.S3FileSystem.clear_instance_cache()
    server.stop()


@pytest.fixture(scope="module")
def data(bucket, tmp_path_factory):
    """The address of a data set that was converted from CSVs in the bucket."""
    folder = tmp_path_factory.mktemp("csv")
    for name, rows in (("train", range(96)), ("val", range(96, 120)), ("test", range(120, 150))):
        images, labels = bars(rows)
        path = write_csv(folder / f"{name}.csv", images, None if name == "test" else labels)
        (bucket / f"csv/{name}.csv").write_bytes(path.read_bytes())
    splits = [f"--split={name}={BUCKET}/csv/{name}.csv" for name in ("train", "val", "test")]
    csv_to_tfrecord.main([*splits, "--out", f"{BUCKET}/data/bars", "--shards", "2"])
    return f"{BUCKET}/data/bars"


def test_a_stored_data_set_is_verified(data, capsys):
    assert inspect_tfrecord.main(["verify", data]) == 0
    assert "6 shards with 150 records are as they were written" in capsys.readouterr().out
    shard = next(path for path in as_path(data).iterdir() if "-train" in path.name)
    intact = shard.read_bytes()
    shard.write_bytes(intact[:500] + b"?" + intact[501:])
    try:
        assert inspect_tfrecord.main(["verify", data]) == 1
    finally:
        shard.write_bytes(intact)
    assert f"{shard.name}: record " in capsys.readouterr().out


def train_at(data, run, *settings):
    """Train two epochs at most on a data set, with little work."""
    import train

    common = ["--recipe", "fast", "--schedule", "constant", "--batch-size", "24", "--audit", "--strategy", "one"]
    return train.main(["--data", data, "--run-dir", run, *common, *settings])


def test_a_run_in_the_store_resumes_and_predicts(data, tmp_path, capsys):
    run, submission = f"{BUCKET}/runs/bars", f"{BUCKET}/submission.csv"
    for epochs in ("1", "2"):
        assert train_at(data, run, "--epochs", epochs, "--cache-dir", str(tmp_path / "cache")) == 0
    out = capsys.readouterr().out
    assert f"run directory {run}" in out
    assert "resumed at epoch 2, step 0" in out
    assert "audit of epoch 2: 96 of 96 examples, each once" in out
    assert f"see {run}/report.html" in out
    stored = {path.name for path in as_path(run).rglob("*")}
    assert {"config.json", "model.keras", "report.html", "checkpoint-000000008.npz"} <= stored
    assert data.encode() in as_path(f"{run}/config.json").read_bytes()

    assert TrainResult(as_path(run), {}, []).load_model().output_shape == (None, 3)
    with pytest.raises(InputError, match="given twice"):
        predict.main(["--run", run, "--run", f"{run}/", "--data", data, "--out", submission])
    predict.main(["--run", run, "--data", data, "--out", submission])
    predict.main(["--run", run, "--csv", f"{BUCKET}/csv/test.csv", "--out", str(tmp_path / "local.csv")])
    lines = as_path(submission).read_text().splitlines()
    assert lines[0] == "id,label"
    assert len(lines) == 31
    assert (tmp_path / "local.csv").read_text().splitlines() == lines


def test_pages_are_streamed_from_the_store(data, tmp_path, capsys):
    assert train_at(data, str(tmp_path / "run"), "--epochs", "1", "--feed", "stream") == 0
    assert "audit of epoch 1: 96 of 96 examples, each once" in capsys.readouterr().out
