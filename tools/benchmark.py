"""Measure images/s: of the feed, of the step, of both and what holds them back; and what the host and growth cost.

python tools/benchmark.py feed --data data/kannada --batch-size 2048 --steps-per-call 16
python tools/benchmark.py step --data data/kannada --precision float32,mixed_bfloat16 --steps-per-call 1,4,16 --xla both
python tools/benchmark.py train --data data/kannada --strategy mirrored --json figures.json
python tools/benchmark.py scale --rows 6000000
python tools/benchmark.py handover
python tools/benchmark.py host
python tools/benchmark.py memory --rows 6000000 --memory-budget 512MiB
python tools/benchmark.py convert --csv train.csv
python tools/benchmark.py article --csv train.csv
python tools/benchmark.py all --data data/kannada --csv train.csv --out docs/benchmarks
"""

import itertools
import pathlib
from collections.abc import Sequence

from pipeline.benchmark.arguments import XLA, make_parser
from pipeline.benchmark.suite import lines_of_all, run_all
from pipeline.cli import run_command
from pipeline.errors import InputError
from pipeline.train.config import TrainConfig
from pipeline.train.environment import import_tensorflow

# A call of many steps takes a processor minutes.
_STEPS_PER_CALL = {"GPU": (1, 4, 16, 64), "CPU": (1, 4)}
_MIN_ARTICLE_ROWS = 1000
_MIN_SCALE_ROWS = 60_000  # what larger sizes are compared with


def main(argv: Sequence[str] | None = None) -> int:
    """Measure, print the table, and write the JSON if asked; returns the exit code."""
    args = make_parser(__doc__).parse_args(argv)
    _check_duration(args)
    if args.command == "all":
        return _measure_all(args)
    for flag in ("json", "plot"):
        path = getattr(args, flag, None)
        if path is not None and not path.parent.is_dir():
            raise InputError(f"--{flag} {path}: there is no directory {path.parent}; create it first")
        if path is not None and path.is_dir():
            raise InputError(f"--{flag} {path}: it is a directory; give a file")
    found = _MEASURES[args.command](args)
    found.print()
    if getattr(args, "plot", None) is not None:
        from pipeline.benchmark.plots import plot

        plot(found, args.plot)
    if args.json is not None:
        from pipeline.files import write_text_atomically

        write_text_atomically(args.json, found.to_json())
    return 0


def _check_duration(args) -> None:
    rounds, seconds = getattr(args, "rounds", 1), getattr(args, "seconds", 1.0)
    if rounds < 1:
        raise InputError(f"--rounds {rounds}: it must be at least 1")
    if not 0 < seconds < 3600:
        raise InputError(f"--seconds {seconds}: it must be above 0 and below 3600")


def _measure_feed(args):
    resolved, devices = _resolve(_config(args), args)
    from pipeline.benchmark.feed_ladder import measure_feed

    return measure_feed(resolved, devices, args.rounds, args.seconds, args.rivals)


def _measure_train(args):
    resolved, devices = _resolve(_config(args), args)
    from pipeline.benchmark.throughput import measure_throughput

    return measure_throughput(resolved, devices, args.rounds, args.seconds)


def _measure_step(args):
    _variants(args, args.step_counts or (1,))  # refuses a wrong value before TensorFlow is imported
    manifest, devices = _load(args)
    from pipeline.benchmark.step_rate import measure_steps
    from pipeline.train.setup import resolve

    found = {}
    for config in _variants(args, args.step_counts or _STEPS_PER_CALL[devices.accelerator]):
        resolved = resolve(config, manifest, devices)
        # What is asked for may come to the same: "auto" to a precision in the list, a long call to the whole epoch.
        found[(resolved.steps, resolved.precision, config.xla)] = resolved
    variants = list(found.values())
    _describe(variants[0], devices)
    return measure_steps(variants, devices, args.rounds, args.seconds)


def _variants(args, step_counts: Sequence[int]) -> list[TrainConfig]:
    variants = itertools.product(args.batch_sizes, args.precisions, step_counts, XLA[args.xla])
    return [
        _config(args, batch_size=size, precision=precision, steps_per_call=count, xla=xla)
        for size, precision, count, xla in variants
    ]


def _measure_scale(args):
    _check_scale_rows(args.rows)
    import_tensorflow()
    from pipeline.benchmark.scale import measure_scale

    sizes = [_MIN_SCALE_ROWS]
    while sizes[-1] * 10 <= args.rows:
        sizes.append(sizes[-1] * 10)
    return measure_scale(sizes, args.rounds, args.seconds)


def _check_scale_rows(rows: int) -> None:
    if rows < _MIN_SCALE_ROWS:
        raise InputError(f"--rows {rows}: at least {_MIN_SCALE_ROWS}, which the larger sizes are compared with")


def _measure_handover(args):
    import_tensorflow()
    from pipeline.benchmark.handover import measure_handover

    return measure_handover(args.rounds, args.seconds, args.batch_size, args.steps_per_call)


def _measure_host(args):
    import_tensorflow()
    from pipeline.benchmark.host_cost import measure_host_cost

    return measure_host_cost(args.rounds, args.seconds)


def _measure_memory(args):
    from pipeline.benchmark.stream_memory import measure_stream_memory

    if args.rows < 1:
        raise InputError(f"--rows {args.rows}: it must be at least 1")
    return measure_stream_memory(args.rows, args.memory_budget, args.dir)


def _measure_convert(args):
    _check_csv(args.csv)
    import_tensorflow()
    from pipeline.benchmark.programs import measure_convert

    return measure_convert(args.csv, args.rounds)


def _measure_article(args):
    _check_csv(args.csv)
    if args.rows < _MIN_ARTICLE_ROWS:
        raise InputError(f"--rows {args.rows}: at least {_MIN_ARTICLE_ROWS:,}, as an epoch must last a while")
    import_tensorflow()
    from pipeline.benchmark.programs import measure_article

    return measure_article(args.csv, args.rounds, args.rows)


def _check_csv(path: pathlib.Path) -> None:
    if not path.exists():
        raise InputError(f"--csv {path}: no such file")
    if not path.is_file():
        kind = "it is a directory" if path.is_dir() else "not a regular file"
        raise InputError(f"--csv {path}: {kind}; give a CSV file")


def _measure_all(args) -> int:
    """Run every kind and keep its JSON and figure; returns the exit code of the first that fails, else 0."""
    if not args.out.is_dir():
        raise InputError(f"--out {args.out}: there is no such directory; create it first")
    _check_scale_rows(args.rows)
    if args.csv is not None:
        _check_csv(args.csv)
    return run_all(pathlib.Path(__file__), lines_of_all(args.data, args.csv, args.out, args.rows, args.seconds))


def _config(args, **settings) -> TrainConfig:
    for name in ("data", "strategy", "devices", "precision", "batch_size", "steps_per_call", "feed", "scale"):
        settings.setdefault(name, getattr(args, name, None))
    # A benchmark has no run directory: nothing of it is kept.
    settings["run_dir"] = pathlib.Path("benchmark")
    return TrainConfig(**{name: value for name, value in settings.items() if value is not None})


def _resolve(config: TrainConfig, args):
    """The settings as they come out on these devices, and the devices; both are printed."""
    manifest, devices = _load(args)
    from pipeline.train.setup import resolve

    resolved = resolve(config, manifest, devices)
    _describe(resolved, devices)
    return resolved, devices


def _load(args):
    """The manifest of the data, and the devices asked for."""
    from pipeline.format.manifest import load_manifest

    manifest = load_manifest(args.data)
    import_tensorflow()
    from pipeline.train.devices import make_devices

    return manifest, make_devices(args.strategy or "auto", args.devices)


def _describe(resolved, devices) -> None:
    calls = f"batch {resolved.steps.batch_size}, {resolved.steps.steps_per_call} steps a call"
    print(f"{devices.describe()}; {resolved.precision}; {calls}", flush=True)
    print(resolved.plan.describe(), flush=True)


_MEASURES = {
    "feed": _measure_feed,
    "step": _measure_step,
    "train": _measure_train,
    "scale": _measure_scale,
    "handover": _measure_handover,
    "host": _measure_host,
    "memory": _measure_memory,
    "convert": _measure_convert,
    "article": _measure_article,
}


if __name__ == "__main__":
    run_command(main, at_once=True)
