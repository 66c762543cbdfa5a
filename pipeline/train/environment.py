"""What must be set before TensorFlow is imported. Importing this module does not import it."""

import contextlib
import logging
import os
import pathlib
import platform
import sys
import tempfile
from collections.abc import Iterator
from typing import Any

from pipeline.errors import InputError
from pipeline.status import doing
from pipeline.train.stored import Numerics

# Extensions that TensorFlow and oneDNN have kernels of their own for; each sums up in another order.
_INSTRUCTIONS = {
    *("avx", "avx2", "fma", "avx_vnni", "avx512f", "avx512_vnni", "avx512_bf16", "avx512_fp16"),
    *("amx_tile", "amx_bf16", "amx_int8", "asimd", "sve", "sve2", "bf16"),
}
_KERAS_NEEDED = {"backend": "tensorflow", "image_data_format": "channels_last", "floatx": "float32"}


def prepare_environment() -> None:
    """Set the environment variables of TensorFlow and Keras; the user's own stay if they do not change the result.

    oneDNN is off by default on x86 processors without AVX-512, though with AVX2 alone its convolutions are faster than
    Eigen's too (docs/design.md has the measurement), so it is switched on everywhere.
    """
    os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "1")
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    # ~/.keras/keras.json could name another backend, layout or type: with channels_first another network is trained.
    os.environ["KERAS_BACKEND"] = "tensorflow"
    os.environ["KERAS_HOME"] = os.devnull
    if os.environ.get("TF_CONFIG") == "":
        del os.environ["TF_CONFIG"]  # MirroredStrategy would parse it as JSON, and fail


def import_tensorflow() -> Any:
    """Import and return TensorFlow without its start-up chatter, which goes to stderr before logging can be set.

    If the import fails, that chatter is printed, since it may contain the reason.

    Raises:
        InputError: Keras was imported before, with settings that compute something else; or TensorFlow, which needs a
            temporary directory, has none.
    """
    prepare_environment()
    try:
        tempfile.gettempdir()
    except FileNotFoundError as error:
        raise InputError(f"{error.strerror}; make one of them writable, or set TMPDIR") from error
    # Python raises Ctrl-C inside of C libraries that start up, some of which then crash, so it may end the process.
    with doing("importing TensorFlow", at_once=True), _held_back_stderr(), _hidden("matplotlib", "sklearn"):
        import keras
        import tensorflow as tf

        tf.config.list_physical_devices()
    tf.get_logger().addFilter(_is_not_about_tracing)
    for name, needed in _KERAS_NEEDED.items():
        if (value := getattr(keras.config, name)()) != needed:
            raise InputError(f"Keras was imported with {name} {value!r}, but {needed!r} is needed; set it, then retry")
    return tf


def _is_not_about_tracing(record: logging.LogRecord) -> bool:
    # Each run of a series traces functions of its own, which TensorFlow takes for a mistake from the fifth on.
    return "triggered tf.function retracing" not in record.getMessage()


@contextlib.contextmanager
def _hidden(*names: str) -> Iterator[None]:
    """Let packages that are not imported yet look as if they were not installed.

    Keras imports these two for its plots and wrappers if it finds them: a second of every start.
    """
    hidden = [name for name in names if name not in sys.modules]
    sys.modules.update(dict.fromkeys(hidden))  # type: ignore[arg-type]
    try:
        yield
    finally:
        for name in hidden:
            del sys.modules[name]


@contextlib.contextmanager
def _held_back_stderr() -> Iterator[None]:
    kept = os.dup(2)  # the descriptor, because TensorFlow's C++ does not write to sys.stderr
    with tempfile.TemporaryFile() as held:
        os.dup2(held.fileno(), 2)
        try:
            yield
        except Exception:  # but not Ctrl-C, whose reason is known
            held.seek(0)
            os.write(kept, held.read())
            raise
        finally:
            os.dup2(kept, 2)
            os.close(kept)


def numerics() -> Numerics:
    """What this process computes with."""
    import keras
    import tensorflow as tf

    instructions = " ".join(sorted(processor_flags() & _INSTRUCTIONS))
    return Numerics(tf.__version__, keras.__version__, os.environ.get("TF_ENABLE_ONEDNN_OPTS", "default"), instructions)


def processor_flags() -> frozenset[str]:
    """The processor's feature flags in Linux's names, such as avx512_bf16; empty if they cannot be read."""
    return frozenset(_cpuinfo("flags", "Features").split())


def processor_name() -> str:
    """The processor's model."""
    return _cpuinfo("model name") or platform.processor() or platform.machine()


def _cpuinfo(*keys: str) -> str:
    try:
        lines = pathlib.Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return ""
    return next((line.split(":", 1)[1].strip() for line in lines if line.startswith(keys) and ":" in line), "")
