import json
import pathlib
import re

import pytest

from pipeline.errors import InputError
from pipeline.train.cluster import free_ports, in_slurm_step, slurm_tf_config, tf_config

# Three nodes of a job as `srun` describes them to task 3.
STEP = {
    "SLURM_JOB_ID": "1234567",
    "SLURM_STEP_NUM_TASKS": "5",
    "SLURM_STEP_NODELIST": "n[2,10],gpu-a",
    "SLURM_STEP_TASKS_PER_NODE": "2(x2),1",
    "SLURM_PROCID": "3",
    "SLURM_NODEID": "1",
    "SLURM_LOCALID": "1",
}


def test_a_slurm_task_is_the_worker_of_its_number_in_the_order_of_the_nodes():
    workers = ["n2:25670", "n2:25671", "n10:25670", "n10:25671", "gpu-a:25670"]
    assert json.loads(slurm_tf_config(STEP)) == json.loads(tf_config(workers, 3))
    assert in_slurm_step(STEP)
    assert not in_slurm_step({"SLURM_JOB_ID": "1234567", "SLURM_PROCID": "0"})


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"SLURM_STEP_NODELIST": None}, "SLURM: SLURM_STEP_NODELIST is not set; start the command with srun"),
        ({"SLURM_STEP_NODELIST": "n[2-"}, 'SLURM: Invalid hostlist format "n\\[2-"'),
        ({"SLURM_STEP_TASKS_PER_NODE": "two"}, 'SLURM: Invalid tasks-per-node list format "two"'),
        ({"SLURM_PROCID": "x"}, "SLURM: SLURM_PROCID='x' is not a number"),
        ({"SLURM_STEP_NUM_TASKS": "6"}, "SLURM: task 3 of SLURM_STEP_NUM_TASKS=6 does not fit the 3 nodes"),
        ({"SLURM_STEP_NUM_TASKS": "15", "SLURM_STEP_TASKS_PER_NODE": "11,2(x2)"}, "11 tasks on a node, at most 10"),
        (
            {"SLURM_NODEID": "0"},
            "task 3 is task 1 of node 0, expected task 1 of node 1; use srun --distribution=block",
        ),
    ],
)
def test_invalid_slurm_variables_are_one_line(change, message):
    environment = {name: value for name, value in {**STEP, **change}.items() if value is not None}
    with pytest.raises(InputError, match=message):
        slurm_tf_config(environment)


def test_free_ports_are_different():
    assert len(set(free_ports(8))) == 8


def test_the_kubernetes_manifest_lists_as_many_workers_as_it_starts():
    text = (pathlib.Path(__file__).parent.parent / "docs/kubernetes.yaml").read_text()
    config = re.search(r"value: >-\n(.*?)\n +ports:", text, re.DOTALL)[1].replace("$(WORKER)", "0")
    addresses = [f"kannada-{worker}.kannada-workers:2222" for worker in range(4)]
    assert json.loads(config) == json.loads(tf_config(addresses, 0))
    assert re.findall(r"(?:completions|parallelism): (\d+)", text) == ["4", "4"]
