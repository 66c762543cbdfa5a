"""Who the workers of a training are: TF_CONFIG for local processes, or from the variables of a SLURM step."""

import contextlib
import json
import os
import socket
from collections.abc import Mapping, Sequence

from pipeline.errors import InputError

# Below the range from which systems give ports to clients (32768 on Linux). A step gets ten ports by its job's number.
_FIRST_PORT, _PORT_BLOCKS, _PORTS_PER_NODE = 20_000, 1_000, 10


def free_ports(count: int) -> list[int]:
    """Ports of this machine that no process listens on, all different."""
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for bound in sockets:
            bound.bind(("127.0.0.1", 0))
        return [bound.getsockname()[1] for bound in sockets]


def tf_config(addresses: Sequence[str], worker: int) -> str:
    """The value of TF_CONFIG for one of the workers at these addresses (host:port); worker 0 is the chief."""
    return json.dumps({"cluster": {"worker": list(addresses)}, "task": {"type": "worker", "index": worker}})


def in_slurm_step(environment: Mapping[str, str] = os.environ) -> bool:
    """Whether `srun` started this process. A batch script itself is one process on its first node."""
    return "SLURM_STEP_NUM_TASKS" in environment


def slurm_tf_config(environment: Mapping[str, str] = os.environ) -> str:
    """TF_CONFIG for this task of a SLURM step; every task of the step is a worker.

    TensorFlow's SlurmClusterResolver is not used: it sorts hosts by name, so that n10 comes before n2 and task 1 gets
    another host's address, and it fails without GPUs.

    Raises:
        InputError: a variable is missing or invalid, or tasks are not placed node by node.
    """
    from tensorflow.python.distribute.cluster_resolver import slurm_cluster_resolver as slurm

    try:
        hosts = slurm.expand_hostlist(_variable(environment, "SLURM_STEP_NODELIST"))
        tasks = slurm.expand_tasks_per_node(_variable(environment, "SLURM_STEP_TASKS_PER_NODE"))
    except ValueError as error:
        raise InputError(f"SLURM: {error}") from error
    workers, rank = _number(environment, "SLURM_STEP_NUM_TASKS"), _number(environment, "SLURM_PROCID")
    if len(hosts) != len(tasks) or sum(tasks) != workers or rank >= workers:
        raise InputError(
            f"SLURM: task {rank} of SLURM_STEP_NUM_TASKS={workers} does not fit the {len(hosts)} nodes of "
            f"SLURM_STEP_NODELIST with SLURM_STEP_TASKS_PER_NODE={environment['SLURM_STEP_TASKS_PER_NODE']}"
        )
    if max(tasks) > _PORTS_PER_NODE:
        raise InputError(f"SLURM: {max(tasks)} tasks on a node, at most {_PORTS_PER_NODE}; use --ntasks-per-node=1")
    # Equal on all tasks, and different for most jobs that share a node.
    port = _FIRST_PORT + _number(environment, "SLURM_JOB_ID") % _PORT_BLOCKS * _PORTS_PER_NODE
    places = [(node, local) for node, count in enumerate(tasks) for local in range(count)]
    place = tuple(_number(environment, name) for name in ("SLURM_NODEID", "SLURM_LOCALID"))
    if places[rank] != place:
        raise InputError(
            f"SLURM: task {rank} is task {place[1]} of node {place[0]}, expected task {places[rank][1]} of node "
            f"{places[rank][0]}; use srun --distribution=block"
        )
    return tf_config([f"{hosts[node]}:{port + local}" for node, local in places], rank)


def _variable(environment: Mapping[str, str], name: str) -> str:
    if not (value := environment.get(name)):
        raise InputError(f"SLURM: {name} is not set; start the command with srun, or set TF_CONFIG")
    return value


def _number(environment: Mapping[str, str], name: str) -> int:
    value = _variable(environment, name)
    if not value.isdecimal():
        raise InputError(f"SLURM: {name}={value!r} is not a number")
    return int(value)
