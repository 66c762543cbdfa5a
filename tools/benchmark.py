"""Measure images/s of the feed, of the training step, and of both together, and name the bottleneck.

python tools/benchmark.py feed --data data/mine --batch-size 2048 --steps-per-call 16
python tools/benchmark.py step --data data/mine --precision float32 mixed_bfloat16 --steps-per-call 1 4 16 --xla off on
python tools/benchmark.py train --data data/mine --strategy mirrored --json train.json
python tools/benchmark.py all --data data/mine --out results
python tools/benchmark.py gpu --data data/mine --out gpu.json
python tools/benchmark.py accuracy --data data/mine --csv train.csv --target 0.99 --recipe fast --seeds 5

The output is Markdown. --json keeps every round with the machine, versions and settings.
"""

import argparse
import itertools
import os
import pathlib
import shlex
import subprocess
import sys
from collections.abc import Sequence
from typing import Any

from pipeline.benchmark.tutorial_program import check_target
from pipeline.cli import Parser, any_path, local_path, run_command
from pipeline.errors import InputError
from pipeline.feed.plan import FEEDS
from pipeline.files import check_output_file, write_text
from pipeline.format.manifest import load_manifest
from pipeline.train.config import PRECISIONS, SCALES, STRATEGIES, TrainConfig
from pipeline.train.environment import import_tensorflow
from pipeline.train.recipe import read_recipe

_COMMANDS = {
    "feed": "every stage of every feed, next to baselines and limits of the machine",
    "step": "the training step on a fixed batch, per setting: images/s, operations/s and share of the peak",
    "train": "feed, step and both together: accelerator utilisation and the bottleneck",
    "all": "feed at two batch sizes, step and train; their JSON goes to --out",
    "gpu": "training per setting, next to Keras fit and the textbook pipeline; JSON goes to --out after each row",
    "accuracy": "time until recipes of train.py reach a validation accuracy, in turn with the Keras tutorial's program",
}
ALL = {  # per JSON file; one process each, so that no threads or memory of an earlier one are left
    "feed_2048": "feed --batch-size 2048 --steps-per-call 16",
    "feed_256": "feed --batch-size 256 --steps-per-call 16",
    "step": "step --xla off on",
    "train": "train",
}


def main(argv: Sequence[str] | None = None) -> int:
    """Measure, print the tables, and write the JSON if requested; returns the exit code."""
    args = make_parser().parse_args(argv)
    if args.command == "accuracy":
        return _run_accuracy(args)
    if args.rounds < 1:
        raise InputError(f"--rounds {args.rounds}: it must be at least 1")
    if not 0 < args.seconds < 3600:
        raise InputError(f"--seconds {args.seconds}: it must be above 0 and below 3600")
    if args.command == "all":
        return _run_all(args)
    if args.command == "gpu":
        args.json = args.out
        if not 0 < args.budget < 86400:
            raise InputError(f"--budget {args.budget}: it must be above 0 and below 86400")
    if args.json is not None:
        check_output_file(args.json)
    results = _measure_gpu(args) if args.command == "gpu" else _measure(args)
    print(results.to_markdown())
    if args.json is not None and args.command != "gpu":
        write_text(args.json, results.to_json())
    return 0


def _measure(args: argparse.Namespace) -> Any:
    configs = _configs(args)  # refuses invalid values before TensorFlow is imported
    manifest = load_manifest(args.data)
    import_tensorflow()
    from pipeline.benchmark import feed, training
    from pipeline.train.devices import make_devices
    from pipeline.train.run_plan import make_run_plan

    devices = make_devices(args.strategy, args.devices)
    plans = [make_run_plan(config, manifest, devices) for config in configs]
    print(f"{devices.describe()}; {plans[0].feed_plan.describe()}\n", flush=True)
    if args.command == "step":
        return training.measure_steps(plans, devices, args.rounds, args.seconds)
    measure = feed.measure_feed if args.command == "feed" else training.measure_training
    return measure(plans[0], devices, args.rounds, args.seconds)


def _measure_gpu(args: argparse.Namespace) -> Any:
    manifest = load_manifest(args.data)
    import_tensorflow()
    from pipeline.benchmark.gpu import GpuBenchmark
    from pipeline.benchmark.gpu_cases import default_cases
    from pipeline.train.devices import make_devices

    devices = make_devices(args.strategy, args.devices)
    print(f"{devices.describe()}, {', '.join(devices.hardware())}\n", flush=True)
    return GpuBenchmark(args.data, manifest, devices, args.out, args.rounds, args.seconds, args.budget).run(
        default_cases()
    )


def _run_accuracy(args: argparse.Namespace) -> int:
    """Check the options, run all programs, and print the tables."""
    check_target(args.target)
    if args.seeds < 1:
        raise InputError(f"--seeds {args.seeds}: it must be at least 1")
    if args.csv is not None and not args.csv.is_file():
        raise InputError(f"--csv {args.csv}: no such file")
    if args.out is not None:
        check_output_file(args.out)
    names = ("data", "holdout", "strategy", "devices", "precision")
    common = {name: getattr(args, name) for name in names}
    common["run_dir"] = pathlib.Path("benchmark")  # runs get temporary directories
    configs = {name: TrainConfig(**{**read_recipe(name), **common}) for name in args.recipe or ["fast"]}
    manifest = load_manifest(args.data)
    # Taken before our settings of TensorFlow are in it, because the tutorial's program has TensorFlow's own.
    environment = dict(os.environ)
    import_tensorflow()
    from pipeline.benchmark.accuracy import measure_accuracy, prepare
    from pipeline.train.devices import make_devices

    devices = make_devices(args.strategy, args.devices)
    programs, empty = prepare(configs, args.csv, args.target, manifest, devices)
    results = measure_accuracy(programs, empty, args.seeds, args.out, args.to_end, environment)
    print(f"\n{results.to_markdown()}")
    return 0


def _configs(args: argparse.Namespace) -> list[TrainConfig]:
    """One per combination of the settings that `step` takes several values of."""
    common = {name: getattr(args, name) for name in ("data", "strategy", "devices", "feed", "scale")}
    common["run_dir"] = pathlib.Path("benchmark")  # nothing is written there
    names = ("model", "augment", "batch_size", "precision", "steps_per_call", "xla")
    combinations = itertools.product(*(getattr(args, name) for name in names))
    settings = [dict(zip(names, values, strict=True)) for values in combinations]
    return [TrainConfig(**{**common, **each, "xla": each["xla"] == "on"}) for each in settings]


def _run_all(args: argparse.Namespace) -> int:
    """Run each command of ALL; returns the exit code of the first that fails, else 0."""
    if not args.out.is_dir():
        raise InputError(f"--out {args.out}: not a directory; create it first")
    common = ["--data", str(args.data), "--rounds", str(args.rounds), "--seconds", str(args.seconds)]
    for name, command in ALL.items():
        line = [*command.split(), *common, "--json", str(args.out / f"{name}.json")]
        print(f"\n## benchmark.py {shlex.join(line)}\n", flush=True)
        if code := subprocess.run([sys.executable, __file__, *line], check=False).returncode:
            return code
    return 0


def make_parser() -> argparse.ArgumentParser:
    """A parser with one command per kind of measurement."""
    parser = Parser(description=__doc__)
    commands = parser.add_subparsers(required=True, dest="command", metavar="|".join(_COMMANDS))
    for name, text in _COMMANDS.items():
        command = commands.add_parser(name, help=text, description=text)
        add = command.add_argument
        add("--data", type=any_path, required=True, metavar="DIR", help="data set directory")
        if name == "accuracy":
            _add_accuracy(command)
            continue
        rounds, seconds = (3, 0.25) if name == "gpu" else (5, 1.0)
        add("--rounds", type=int, default=rounds, metavar="N", help="measurements per row, interleaved (%(default)s)")
        add("--seconds", type=float, default=seconds, metavar="S", help="length of one measurement (%(default)s)")
        if name == "gpu":
            add("--out", type=local_path, required=True, metavar="FILE", help="JSON of the rows measured so far")
            add("--budget", type=float, default=280.0, metavar="S", help="seconds in all, about (%(default)s)")
            _add_devices(command)
        elif name == "all":
            add("--out", type=local_path, required=True, metavar="DIR", help="directory for the JSON files")
        else:
            add("--json", type=local_path, metavar="FILE", help="also write the results as JSON")
            _add_settings(command, several=name == "step")
    return parser


def _add_settings(command: argparse.ArgumentParser, several: bool) -> None:
    """Settings of train.py with its defaults, some of them with `several` values."""
    _add_devices(command)
    add = command.add_argument
    add("--feed", choices=FEEDS, default="auto")
    add("--scale", choices=SCALES, default="device", help="where bytes are scaled to floats")
    values: dict[str, Any] = {"nargs": "+" if several else 1}
    add("--model", metavar="NAME", default=["tutorial"], help="network, as of train.py (tutorial)", **values)
    add("--augment", metavar="NAME", default=["none"], help="augmentation, as of train.py (none)", **values)
    add("--batch-size", type=int, metavar="N", default=[TrainConfig.batch_size], help="global batch", **values)
    add("--precision", choices=PRECISIONS, default=["auto"], **values)
    steps = [1, None] if several else [None]
    add("--steps-per-call", type=int, metavar="K", default=steps, help="default: as train.py; step: also 1", **values)
    add("--xla", choices=("off", "on"), default=["off"], help="compile the step", **values)


def _add_accuracy(command: argparse.ArgumentParser) -> None:
    add = command.add_argument
    add("--target", type=float, default=0.99, metavar="SHARE", help="validation accuracy to reach (%(default)s)")
    recipe = "recipes of train.py, by name or file (fast)"
    add("--recipe", nargs="+", action="extend", metavar="NAME", help=recipe)
    add("--seeds", type=int, default=5, metavar="N", help="runs per program, with the seeds 0 to N - 1 (%(default)s)")
    add("--holdout", default="random:0.1", metavar="ROWS", help="validation rows, as of train.py (%(default)s)")
    add("--csv", type=local_path, metavar="FILE", help="the data's CSV, for the Keras tutorial's program")
    add("--to-end", action="store_true", help="let runs finish; otherwise they are stopped at the target")
    add("--out", type=local_path, metavar="FILE", help="JSON of the runs so far, written after each")
    add("--precision", choices=PRECISIONS, default="auto", help="of train.py (%(default)s)")
    _add_devices(command)


def _add_devices(command: argparse.ArgumentParser) -> None:
    add = command.add_argument
    add("--strategy", choices=STRATEGIES, default="auto")
    add("--devices", type=int, metavar="N", help="GPUs, or logical CPUs without a GPU (default: all GPUs, or 1 CPU)")


def cli() -> None:
    """Entry point of the console script."""
    run_command(main, at_once=True)


if __name__ == "__main__":
    cli()
