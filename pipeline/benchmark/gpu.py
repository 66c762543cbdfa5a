"""What a GPU makes of the training step: settings one by one, Keras `fit` and the textbook pipeline, within a time.

The rows come in the order in which they answer questions, and all results so far are written after each of them, so
that a run that is cut short keeps what it measured.
"""

import dataclasses
import json
import logging
import pathlib
import time
from collections.abc import Callable, Sequence
from typing import Any

import keras
import tensorflow as tf

from pipeline.benchmark import baselines
from pipeline.benchmark.gpu_cases import PEAKS, Case
from pipeline.benchmark.keras_fit import fit_rates
from pipeline.benchmark.results import Results, Row, describe_machine
from pipeline.benchmark.timing import Rates, measure_rounds
from pipeline.benchmark.training import STEP, TRAIN, TrainingStep, make_matmul, open_feed, training_flops
from pipeline.errors import InputError
from pipeline.files import write_text
from pipeline.format.manifest import Manifest
from pipeline.splits import TRAIN as TRAIN_SPLIT
from pipeline.train import setup
from pipeline.train.config import TrainConfig
from pipeline.train.devices import Devices
from pipeline.train.gpu_monitor import make_gpu_monitor
from pipeline.train.recipe import RECIPES
from pipeline.train.run_plan import RunPlan, make_run_plan

# NVML averages over up to a second, so the first half of this time is not read.
_COUNTER_SECONDS = 1.2


@dataclasses.dataclass
class GpuBenchmark:
    """Measures cases one after another, and writes what is measured so far to `out` after each.

    Args:
        rounds, seconds: as of `measure_rounds`.
        budget: seconds from the start; no case begins that would end later if it took as long as the longest so far.
    """

    data: pathlib.Path
    manifest: Manifest
    devices: Devices
    out: pathlib.Path
    rounds: int
    seconds: float
    budget: float
    clock: Callable[[], float] = time.monotonic

    def __post_init__(self) -> None:
        self._rows: list[Row] = []
        self._compared: list[tuple[str, str]] = []
        self._details: dict[str, dict[str, Any]] = {}  # per case: settings, and what has no place in a row
        self._failed: dict[str, str] = {}
        self._monitor = make_gpu_monitor(self.devices)
        self._matmul: dict[str, float] = {}
        self._machine: dict[str, Any] = {}

    def run(self, cases: Sequence[Case]) -> Results:
        """Measure the cases in turn until the budget is spent; what fails is recorded and the next one follows."""
        tf.get_logger().setLevel(logging.ERROR)  # one Python function is traced for every case
        started, longest = self.clock(), 0.0
        done: set[str] = set()
        for case in cases:
            began = self.clock()
            if began - started + longest > self.budget:
                print(f"stopped before {case.id}: the budget of {self.budget:g} s is used up", flush=True)
                break
            try:
                self._measure(case, done)
            except Exception as error:  # one setting that fails must not cost the minutes of a machine on loan
                self._failed[case.id] = f"{type(error).__name__}: {str(error).splitlines()[0][:300]}"
                print(f"{case.id}: failed: {self._failed[case.id]}", flush=True)
            longest = max(longest, self.clock() - began)
            self._write()
        return self.results()

    def results(self) -> Results:
        """All rows so far."""
        return Results("gpu", {**self._machine, "matmul": self._matmul}, self._rows, self._compared, self._diagnosis())

    def _measure(self, case: Case, done: set[str]) -> None:
        plan = self._plan(case)
        self._machine = self._machine or _shared(describe_machine([plan], self.devices))
        case = case._replace(steps_per_call=plan.steps.steps_per_call)  # as evenly as the epoch allows
        if case.id in done:
            return
        done.add(case.id)
        self._measure_matmul(plan.compute_dtype)
        began = self.clock()
        if case.what == "fit":
            self._measure_fit(case, plan)
        else:
            self._measure_ours(case, plan)
        self._details[case.id]["seconds_in_all"] = round(self.clock() - began, 2)
        self._print(case)

    def _plan(self, case: Case) -> RunPlan:
        # The textbook's elements hold images, so they go where the host feed's go; `fit` has arrays on the host too.
        config = TrainConfig(
            **{**RECIPES[case.recipe], "batch_size": case.batch_size},
            data=self.data,
            run_dir=pathlib.Path("benchmark"),  # nothing is written there
            steps_per_call=case.steps_per_call,
            precision=case.precision,
            xla=case.xla,
            feed=case.feed if case.what == "ours" else "host",
        )
        return make_run_plan(config, self.manifest, self.devices)

    def _measure_matmul(self, dtype: str) -> None:
        if dtype not in self._matmul:
            work = make_matmul(dtype, self.devices)
            rates = measure_rounds({dtype: work}, 2, min(self.seconds, 0.3))
            self._matmul[dtype] = max(rates[dtype].rounds)

    def _measure_ours(self, case: Case, plan: RunPlan) -> None:
        feeds = setup.make_feeds(plan, self.devices)
        if case.what != "ours":
            dataset = textbook_elements(plan, self.devices, cached=case.what == "textbook_cached")
            feeds = dataclasses.replace(feeds, train=lambda _: dataset)
        began = self.clock()
        step = TrainingStep(plan, self.devices, feeds)
        step.repeat()
        compiled = self.clock() - began
        with open_feed(feeds, self.devices) as elements:
            work = {STEP: step.repeat, TRAIN: lambda: step.train(next(elements))}
            images = plan.steps.num_examples if case.what == "textbook_cached" else 0
            while images > 0:  # after one epoch the cache is complete
                images -= work[TRAIN]()
            rates = measure_rounds(work, self.rounds, self.seconds)
            counters = self._read_counters(work[TRAIN])
        step_id, train_id = f"{case.id}_{STEP}", f"{case.id}_{TRAIN}"
        flops = training_flops(step.model)
        self._add(case, step_id, rates[STEP], flops)
        self._add(case, train_id, rates[TRAIN], flops)
        self._compared.append((train_id, step_id))
        self._details[case.id] = {
            **case._asdict(),
            "first_call_seconds": round(compiled, 2),
            "step_milliseconds": 1e3 * case.batch_size / rates[STEP].median,
            "train_step_milliseconds": 1e3 * case.batch_size / rates[TRAIN].median,
            "utilisation": self._ratio(train_id, step_id),
            **counters,
        }

    def _measure_fit(self, case: Case, plan: RunPlan) -> None:
        if self.devices.replicas.total > 1:
            raise InputError("fit is measured on one device: under a strategy it runs one step per call")
        with self._monitor:
            self._monitor.read()
            rates, model = fit_rates(plan, case, self.rounds, self.rounds * self.seconds)
            counters = self._monitor.read()
        self._add(case, f"{case.id}_{TRAIN}", rates, training_flops(model))
        milliseconds = 1e3 * case.batch_size / rates.median
        self._details[case.id] = {**case._asdict(), "train_step_milliseconds": milliseconds, **counters}

    def _read_counters(self, work: Callable[[], int]) -> dict[str, float]:
        """What NVML says of training without pauses; the rounds are too short for it."""
        if not self._monitor.works:
            return {}
        end = self.clock() + _COUNTER_SECONDS
        with self._monitor:
            while self.clock() < end - _COUNTER_SECONDS / 2:
                work()
            self._monitor.read()  # the first half settles
            while self.clock() < end:
                work()
            return self._monitor.read()

    def _add(self, case: Case, row_id: str, rates: Rates, flops: int) -> None:
        names = self.devices.hardware() if self.devices.accelerator == "GPU" else []
        dtype = keras.DTypePolicy(case.precision).compute_dtype
        peak = self.devices.replicas.total * PEAKS.get(names[0], {}).get(dtype, 0.0) if names else 0.0
        self._rows.append(Row(row_id, case.text, rates, flops_per_image=flops, peak_flops=peak))

    def _ratio(self, above: str, below: str) -> float:
        rows = {row.id: row for row in self._rows}
        return Results("", {}, list(rows.values())).ratio(above, below).median

    def _print(self, case: Case) -> None:
        details, rates = self._details[case.id], {row.id: row for row in self._rows}
        row = rates.get(f"{case.id}_{STEP}") or rates[f"{case.id}_{TRAIN}"]
        parts = [f"{rates[f'{case.id}_{TRAIN}'].rates.median:,.0f} images/s"]
        parts += [f"{details['train_step_milliseconds']:.3f} ms/step", f"{row.flops_per_second / 1e12:.3g} TFLOP/s"]
        parts += [f"{row.share_of_peak:.1%} of peak"] if row.peak_flops else []
        forms = {
            "utilisation": "utilisation {:.1%}",
            "gpu_utilisation": "NVML {:.0%}",
            "gpu_memory_gib": "{:.1f} GiB",
            "first_call_seconds": "first call {:.1f} s",
        }
        parts += [form.format(details[name]) for name, form in forms.items() if name in details]
        print(f"{case.id}: {'; '.join(parts)}", flush=True)

    def _diagnosis(self) -> str:
        """The fastest training of each kind, and ours over the others'."""
        best: dict[str, Row] = {}
        for row in self._rows:
            kind = row.id.split("_", 1)[0]
            if row.id.endswith(TRAIN) and (kind not in best or row.rates.median > best[kind].rates.median):
                best[kind] = row
        if "ours" not in best:
            return ""
        parts = [f"fastest: {best['ours'].text}, {best['ours'].rates.median:,.0f} images/s"]
        for kind in sorted(set(best) - {"ours"}):
            factor = best["ours"].rates.median / best[kind].rates.median
            parts.append(f"{factor:.2f} times the fastest {kind} ({best[kind].id})")
        return "; ".join(parts)

    def _write(self) -> None:
        if self._rows or self._failed:
            content = {**json.loads(self.results().to_json()), "cases": self._details, "failed": self._failed}
            write_text(self.out, json.dumps(content, indent=1) + "\n")


def textbook_elements(plan: RunPlan, devices: Devices, cached: bool) -> tf.data.Dataset:
    """The textbook recipe's batches as elements of our feed, with one step per call; they repeat without end."""
    split = plan.manifest.split(TRAIN_SPLIT)
    paths = [str(plan.config.data / shard.name) for shard in split.shards]
    batch, rows = plan.steps.batch_size, devices.replicas.rows(plan.steps.batch_size)
    index = tf.range(batch)

    def element(image: tf.Tensor, label: tf.Tensor) -> dict[str, Any]:
        label = tf.cast(label, tf.int32)
        parts = [{"index": index[None, r], "image": image[None, r], "label": label[None, r]} for r in rows]
        return {"count": tf.constant([batch], tf.float32), "replicas": tuple(parts)}

    batches = baselines.textbook(paths, plan.manifest.layout.image_bytes, batch, "uint8", cached)
    return batches.map(element)


def _shared(machine: dict[str, Any]) -> dict[str, Any]:
    """Without the settings of one case."""
    settings = ("batch_size", "steps_per_call", "precision", "xla", "feed", "scale")
    return {name: value for name, value in machine.items() if name not in settings}
