"""Devices, the distribution strategy over them, and the precision that suits them."""

import contextlib
import dataclasses
import json
import os
import re
import signal
import sys
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import tensorflow as tf

from pipeline.errors import InputError, TryAgainError, pluralize, shorten
from pipeline.feed.dataset import Replicas
from pipeline.train.cluster import in_slurm_step, slurm_tf_config
from pipeline.train.environment import processor_flags, processor_name

_MAX_LOGICAL_CPUS = 256  # each has threads of its own; they stand in for devices, and no machine has more


@dataclasses.dataclass(frozen=True)
class Devices:
    """What a run trains on. `names` are this worker's devices; `accelerator` is GPU or CPU."""

    name: str
    strategy: tf.distribute.Strategy
    accelerator: str
    names: tuple[str, ...]
    replicas: Replicas
    worker: int = 0
    num_workers: int = 1

    @property
    def is_chief(self) -> bool:
        """Whether this worker writes the run directory."""
        return self.worker == 0

    def describe(self) -> str:
        """One line for people."""
        workers = f" on each of {self.num_workers} workers" if self.num_workers > 1 else ""
        replicas = pluralize(len(self.names), f"{self.accelerator} replica")
        return f"strategy {self.name}: {replicas}{workers} ({', '.join(self.names)})"

    def hardware(self) -> list[str]:
        """The model of each GPU, or of the processor."""
        if self.accelerator == "CPU":
            return [processor_name()]
        gpus = tf.config.list_physical_devices("GPU")[: len(self.names)]
        return [str(tf.config.experimental.get_device_details(gpu).get("device_name", gpu.name)) for gpu in gpus]

    def gather(self, value: Any) -> list[Any]:
        """Every worker's `value` (of JSON's types) in the workers' order, once all of them have called this."""
        if self.num_workers == 1:
            return [value]
        text = np.frombuffer(json.dumps(value).encode(), np.uint8)
        lengths = self._gather_rows(np.array([len(text)]))[:, 0].tolist()
        rows = self._gather_rows(np.pad(text, (0, max(lengths) - len(text))))
        return [json.loads(row[:length].astype(np.uint8).tobytes()) for row, length in zip(rows, lengths, strict=True)]

    def wait_for_all(self) -> None:
        """Return when every worker has called this."""
        self.gather(None)

    def check_agreement(self, settings: Mapping[str, Any], remedy: str) -> None:
        """Compare settings with the other workers'.

        Raises:
            InputError: they differ; every worker raises it, naming what differs.
        """
        workers = self.gather(dict(settings))
        names = {name: None for worker in workers for name in worker}
        differ = [
            f"{name} is {', '.join(f'{shorten(worker.get(name))} on worker {k}' for k, worker in enumerate(workers))}"
            for name in names
            if any(worker.get(name) != workers[0].get(name) for worker in workers)
        ]
        if differ:
            raise InputError(f"the workers disagree: {'; '.join(differ)}; {remedy}")

    @contextlib.contextmanager
    def watching_workers(self) -> Iterator[None]:
        """Within the block, an error of TensorFlow's because another worker is gone becomes one line.

        Raises:
            TryAgainError: another worker ended or cannot be reached.
        """
        try:
            yield
        except (tf.errors.UnavailableError, tf.errors.AbortedError, tf.errors.DeadlineExceededError) as error:
            if self.num_workers == 1:
                raise
            task = re.search(r"/job:(\w+)/replica:\d+/task:(\d+)", str(error))
            other = f"{task[1]} {task[2]}" if task else "another worker"
            raise TryAgainError(
                f"{other} ended or cannot be reached, so this one ({self.worker} of {self.num_workers}) ends too; "
                "start the same command on every worker to resume from the last checkpoint"
            ) from error

    def _gather_rows(self, own: np.ndarray) -> np.ndarray:
        """int64 [workers, n] from every worker's [n], as a sum in which each worker fills its own row."""
        rows = np.zeros((self.num_workers, len(own)), np.int64)
        rows[self.worker] = own
        values = tf.constant(rows)

        def add() -> tf.Tensor:
            return self.strategy.reduce("SUM", self.strategy.run(lambda: tf.identity(values)), axis=None)

        return tf.function(add, autograph=False)().numpy() // self.replicas.local

    def distribute(self, parts: tuple[Any, ...]) -> tf.distribute.DistributedValues:
        """A distributed value from one structure of tensors per local replica."""
        first = self.replicas.first
        return self.strategy.experimental_distribute_values_from_function(
            lambda context: parts[context.replica_id_in_sync_group - first]
        )


def make_devices(strategy: str = "auto", devices: int | None = None) -> Devices:
    """Set up devices and a strategy. Call this before anything else uses TensorFlow.

    Args:
        strategy: one of config.STRATEGIES. "auto" is multiworker if TF_CONFIG names several workers, mirrored if
            there are several devices, else one. "multiworker" without TF_CONFIG makes it from the variables of a SLURM
            step.
        devices: how many GPUs to use, or how many logical CPUs if there is no GPU; None is every GPU, or one CPU.

    Raises:
        InputError: fewer devices than requested, or a strategy that TF_CONFIG, SLURM or the devices do not allow.
    """
    if strategy == "multiworker" and not os.environ.get("TF_CONFIG") and in_slurm_step():
        os.environ["TF_CONFIG"] = slurm_tf_config()
    workers = _workers_in_tf_config()
    if strategy == "multiworker" or (strategy == "auto" and workers > 1):
        return _make_multiworker(workers, devices)
    gpus = _list_gpus()
    names = _gpu_names(len(gpus), devices) if gpus else _cpu_names(1 if devices is None else devices)
    if strategy == "auto":
        strategy = "mirrored" if len(names) > 1 else "one"
    if strategy == "mirrored":
        # Logical CPUs share one memory, so summing on one of them does all that a ring would. It also leaves no
        # collective group behind, which a second strategy of another size in the same process would clash with.
        reduce = None if gpus else tf.distribute.ReductionToOneDevice()
        distribution = tf.distribute.MirroredStrategy(names, cross_device_ops=reduce)
    else:
        if devices is not None and devices > 1:
            raise InputError(f"--strategy one uses one device, not --devices {devices}; use --strategy mirrored")
        names = names[:1]
        distribution = tf.distribute.OneDeviceStrategy(names[0])
    return Devices(strategy, distribution, "GPU" if gpus else "CPU", tuple(names), Replicas(len(names), 0, len(names)))


def choose_precision(precision: str, accelerator: str) -> str:
    """The Keras dtype policy to use; "auto" takes what the device computes fastest.

    bfloat16 if it is native (GPUs of compute capability 8.0 and up, processors with AVX512-BF16 or AMX), since it
    needs no loss scaling; float16 on GPUs of 7.0 and 7.5, whose tensor cores support nothing else; float32 elsewhere.
    """
    if precision != "auto":
        return precision
    if accelerator == "CPU":
        native = processor_flags() & {"avx512_bf16", "amx_bf16", "bf16"}
        return "mixed_bfloat16" if native else "float32"
    details = [tf.config.experimental.get_device_details(gpu) for gpu in tf.config.list_physical_devices("GPU")]
    capability = min(detail.get("compute_capability", (0, 0)) for detail in details)
    if capability >= (8, 0):
        return "mixed_bfloat16"
    return "mixed_float16" if capability >= (7, 0) else "float32"


def precision_remark(precision: str, accelerator: str) -> str | None:
    """A line for a requested precision that is emulated and so slower than float32, or None."""
    if accelerator != "CPU" or precision in ("float32", choose_precision("auto", accelerator)):
        return None
    # mixed_bfloat16 was measured at a ninth of float32's images/s on two cores with AVX2.
    return f"{precision} is not native to this processor and may be much slower than float32; see --precision auto"


def device_memory(devices: Devices) -> int | None:
    """Bytes that TensorFlow may use on the smallest local GPU, or None on a CPU."""
    if devices.accelerator == "CPU":
        return None
    from tensorflow.python.client import device_lib  # type: ignore[attr-defined]  # the only source of the limit

    return min(device.memory_limit for device in device_lib.list_local_devices() if device.device_type == "GPU")


def _workers_in_tf_config() -> int:
    raw = os.environ.get("TF_CONFIG", "")
    if not raw:
        return 0
    try:
        config = json.loads(raw)
        cluster, task = config.get("cluster", {}), config.get("task", {})
        known = sum(len(cluster.get(kind, ())) for kind in ("chief", "worker"))
        if known and not (task["type"] in ("chief", "worker") and 0 <= int(task["index"]) < len(cluster[task["type"]])):
            raise ValueError(f"task {task} is not in the cluster")
    except (ValueError, KeyError, AttributeError, TypeError) as error:
        raise InputError(f"TF_CONFIG is not a valid cluster ({error}): {raw!r}") from error
    return known


def _make_multiworker(workers: int, devices: int | None) -> Devices:
    if not workers:
        raise InputError(
            "--strategy multiworker needs TF_CONFIG to name the workers and this worker's task; on one machine "
            "tools/launch.py sets it, under SLURM start the command with srun"
        )
    gpus = _list_gpus()
    if devices is not None and devices != max(1, len(gpus)):
        raise InputError(f"--devices {devices} with --strategy multiworker: it uses every GPU of a worker, or its CPU")
    strategy = _join_workers(workers)
    resolver = strategy.cluster_resolver
    chiefs = len(resolver.cluster_spec().as_dict().get("chief", ()))
    worker = resolver.task_id + (chiefs if resolver.task_type == "worker" else 0)
    local = strategy.num_replicas_in_sync // workers
    names = tuple(f"{'GPU' if gpus else 'CPU'}:{index}" for index in range(local))
    replicas = Replicas(strategy.num_replicas_in_sync, worker * local, local)
    return Devices("multiworker", strategy, "GPU" if gpus else "CPU", names, replicas, worker, workers)


def _join_workers(workers: int) -> tf.distribute.MultiWorkerMirroredStrategy:
    """Start this worker's server and wait for the others; it must come before any other TensorFlow operation."""
    # Printed in any case, because TensorFlow waits with the GIL held: no other thread could print it later.
    print(f"waiting for all {workers} workers of TF_CONFIG to start", file=sys.stderr, flush=True)
    # Python's handlers would run only after the wait, however long it is; there is nothing to save yet.
    before = {signum: signal.signal(signum, signal.SIG_DFL) for signum in (signal.SIGTERM, signal.SIGINT)}
    try:
        return tf.distribute.MultiWorkerMirroredStrategy()
    except tf.errors.OpError as error:
        raise InputError(
            f"TF_CONFIG: this worker cannot start or find the others ({str(error).splitlines()[0]}): "
            f"{os.environ['TF_CONFIG']}"
        ) from error
    finally:
        for signum, handler in before.items():
            signal.signal(signum, handler)


def _list_gpus() -> list[Any]:
    """This machine's GPUs, whose memory TensorFlow then takes as it needs it."""
    gpus = tf.config.list_physical_devices("GPU")
    for gpu in gpus:
        # If a caller (a test, a notebook) used TensorFlow first, it is running already; growth then stays as it was.
        with contextlib.suppress(RuntimeError):
            tf.config.experimental.set_memory_growth(gpu, True)
    return gpus


def _gpu_names(present: int, devices: int | None) -> list[str]:
    count = present if devices is None else devices
    if not 1 <= count <= present:
        raise InputError(f"--devices {count}: this machine shows {present} GPU(s); use 1 to {present}")
    return [f"GPU:{index}" for index in range(count)]


def _cpu_names(count: int) -> list[str]:
    if not 1 <= count <= _MAX_LOGICAL_CPUS:
        raise InputError(f"--devices {count}: use 1 to {_MAX_LOGICAL_CPUS} logical CPUs")
    cpu = tf.config.list_physical_devices("CPU")[0]
    present = len(tf.config.get_logical_device_configuration(cpu) or [None])
    if present < count:
        try:
            tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * count)
        except RuntimeError as error:
            raise InputError(
                f"--devices {count}: TensorFlow already runs with {present} logical CPU(s); train in a new process, "
                "before anything else uses TensorFlow"
            ) from error
    return [f"CPU:{index}" for index in range(count)]
