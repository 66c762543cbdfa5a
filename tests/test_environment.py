"""The user's own settings of Keras and TensorFlow, seen from processes of their own."""

import json
import os
import pathlib
import subprocess
import sys

import pytest

from pipeline.train.environment import _held_back_stderr, numerics, processor_flags, processor_name

SHOW = (
    "from pipeline.train.environment import import_tensorflow\n"
    "import_tensorflow()\n"
    "import keras\n"
    "print(keras.backend.backend(), keras.config.image_data_format(), keras.config.floatx(), keras.config.epsilon())\n"
)


def run(code, tmp_path, preexec_fn=None, **environment):
    root = pathlib.Path(__file__).parent.parent
    own = {name: value for name, value in os.environ.items() if not name.startswith("KERAS_")}
    variables = {**own, "HOME": str(tmp_path), "PYTHONPATH": str(root), **environment}
    options = {"env": variables, "capture_output": True, "text": True, "preexec_fn": preexec_fn}
    return subprocess.run([sys.executable, "-c", code], check=False, **options)


@pytest.fixture
def hostile_home(tmp_path):
    """A home directory whose keras.json changes all that it can."""
    (tmp_path / ".keras").mkdir()
    settings = {"backend": "jax", "image_data_format": "channels_first", "floatx": "float16", "epsilon": 0.1}
    (tmp_path / ".keras" / "keras.json").write_text(json.dumps(settings))
    return tmp_path


def test_keras_settings_of_the_user_do_not_matter_and_nothing_is_on_stderr(hostile_home):
    # MirroredStrategy would parse an empty TF_CONFIG.
    code = SHOW + "import tensorflow as tf\ntf.distribute.MirroredStrategy(['CPU:0'])\n"
    # Functions of many runs in a process are traced without a warning.
    code += "for _ in range(8):\n    tf.function(lambda: tf.zeros(1))()\n"
    done = run(code, hostile_home, KERAS_BACKEND="torch", TF_CONFIG="")
    assert (done.stdout, done.stderr) == ("tensorflow channels_last float32 1e-07\n", "")
    assert [path.name for path in (hostile_home / ".keras").iterdir()] == ["keras.json"]


def test_keras_imported_with_other_settings_is_refused(hostile_home):
    done = run("import keras\n" + SHOW, hostile_home, KERAS_BACKEND="tensorflow")
    assert "InputError: Keras was imported with image_data_format 'channels_first', but 'channels_last'" in done.stderr


def test_a_missing_temporary_directory_is_named(tmp_path):
    code = "import tempfile\ntempfile._candidate_tempdir_list = lambda: ['/nowhere']\n" + SHOW
    done = run(code, tmp_path)
    message = (
        "InputError: No usable temporary directory found in ['/nowhere']; make one of them writable, or set TMPDIR"
    )
    assert done.stderr.splitlines()[-1] == f"pipeline.errors.{message}"


def test_a_failing_import_prints_what_was_held_back(tmp_path):
    (tmp_path / "keras.py").write_text("import os\nos.write(2, b'the reason\\n')\nraise ImportError('broken')\n")
    code = f"import sys\nsys.path.insert(0, {str(tmp_path)!r})\n" + SHOW
    done = run(code, tmp_path)
    assert "the reason\n" in done.stderr
    assert "ImportError: broken" in done.stderr


def test_numerics_name_versions_and_instructions(monkeypatch):
    monkeypatch.setenv("TF_ENABLE_ONEDNN_OPTS", "0")
    current = numerics()
    assert current.onednn == "0"
    assert set(current.instructions.split()) <= processor_flags()
    assert current.change_from(current) is None
    assert processor_name()


def test_closed_standard_streams_do_not_matter(tmp_path):
    code = "import pathlib\nfrom pipeline.cli import run_command\n"
    code += "def main(_):\n    from pipeline.train.environment import import_tensorflow\n    import_tensorflow()\n"
    code += f"    pathlib.Path({str(tmp_path / 'result')!r}).write_text('whole')\nrun_command(main)\n"
    done = run(code, tmp_path, preexec_fn=lambda: [os.close(descriptor) for descriptor in range(3)])
    assert done.returncode == 0
    assert (tmp_path / "result").read_text() == "whole"


def test_what_was_held_back_is_not_printed_after_ctrl_c(capfd):
    with pytest.raises(KeyboardInterrupt), _held_back_stderr():
        os.write(2, b"chatter")
        raise KeyboardInterrupt
    assert capfd.readouterr().err == ""
