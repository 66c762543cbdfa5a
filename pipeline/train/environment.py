"""What must be set before TensorFlow is imported. Importing this module does not import it."""

import os
import pathlib
import platform
import tempfile


def prepare_environment() -> None:
    """Set TensorFlow's environment variables where the user has not.

    oneDNN is off by default on x86 processors without AVX-512, though with AVX2 alone its convolutions are faster than
    Eigen's too (docs/design.md has the measurement), so it is switched on everywhere.
    """
    os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "1")
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    os.environ.setdefault("KERAS_BACKEND", "tensorflow")
    if os.environ.get("TF_CONFIG") == "":
        del os.environ["TF_CONFIG"]  # MirroredStrategy would read it as JSON, and fail


def import_tensorflow():
    """Import and return TensorFlow without its start-up chatter, which goes to stderr before logging can be set.

    Where the import fails, what was held back is printed, since it may hold the reason.
    """
    prepare_environment()
    kept = os.dup(2)
    with tempfile.TemporaryFile() as held:
        os.dup2(held.fileno(), 2)
        try:
            import tensorflow as tf

            tf.config.list_physical_devices()
        except BaseException:
            os.dup2(kept, 2)
            held.seek(0)
            os.write(2, held.read())
            raise
        finally:
            os.dup2(kept, 2)
            os.close(kept)
    return tf


def processor_flags() -> frozenset[str]:
    """The processor's feature flags (Linux's names, such as avx512_bf16); empty where they cannot be read."""
    try:
        lines = pathlib.Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return frozenset()
    flags = next((line for line in lines if line.startswith(("flags", "Features"))), ":")
    return frozenset(flags.split(":", 1)[1].split())


def processor_name() -> str:
    """The processor's model, as Linux names it, or what Python knows of it."""
    try:
        lines = pathlib.Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    model = next((line for line in lines if line.startswith("model name")), f":{platform.machine()}")
    return model.split(":", 1)[1].strip()
