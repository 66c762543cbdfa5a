"""Measure images/s: of the feed, of the step, of both and what holds them back; and what the host and growth cost.

python tools/benchmark.py feed --data data/kannada --batch-size 2048 --steps-per-call 16
python tools/benchmark.py step --data data/kannada --precision float32,mixed_bfloat16 --steps-per-call 1,4,16 --xla both
python tools/benchmark.py train --data data/kannada --strategy mirrored --json figures.json
python tools/benchmark.py scale --rows 6000000
python tools/benchmark.py host
python tools/benchmark.py memory --rows 6000000 --memory-budget 512MiB
python tools/benchmark.py convert --csv train.csv
python tools/benchmark.py article --csv train.csv
python tools/benchmark.py all --data data/kannada --csv train.csv --out docs/benchmarks
"""

import argparse
import itertools
import pathlib
from collections.abc import Sequence

from pipeline.errors import InputError, Parser, run_tool
from pipeline.feed.plan import FEEDS
from pipeline.measure.suite import lines_of_all, run_all
from pipeline.train.config import PRECISIONS, SCALES, STRATEGIES, TrainConfig, size_argument

# A call of many steps takes a processor minutes.
_STEPS_PER_CALL = {"GPU": (1, 4, 16, 64), "CPU": (1, 4)}
_LEAST_ARTICLE_ROWS = 1000
_XLA = {"off": (False,), "on": (True,), "both": (False, True)}


def main(argv: Sequence[str] | None = None) -> int:
    """Measure, print the table, and write the JSON if asked; returns the exit code."""
    args = make_parser().parse_args(argv)
    if "measure" not in args:
        return _measure_all(args)
    seconds = getattr(args, "seconds", 1.0)
    if "rounds" in args and (args.rounds < 1 or not 0 < seconds < 3600):
        given = f"--rounds {args.rounds} --seconds {seconds}"
        raise InputError(f"{given}: at least one round, and from 0 to 3600 seconds")
    for flag in ("json", "plot"):
        path = getattr(args, flag, None)
        if path is not None and not path.parent.is_dir():
            raise InputError(f"--{flag} {path}: there is no directory {path.parent}; create it first")
        if path is not None and path.is_dir():
            raise InputError(f"--{flag} {path}: it is a directory; give a file")
    found = args.measure(args)
    found.print()
    if getattr(args, "plot", None) is not None:
        from pipeline.measure.plots import plot

        plot(found, args.plot)
    if args.json is not None:
        from pipeline.files import write_text_atomically

        write_text_atomically(args.json, found.to_json())
    return 0


def _measure_feed(args):
    resolved, cluster = _resolve(_config(args), args)
    from pipeline.measure.feed_ladder import measure_feed

    return measure_feed(resolved, cluster, args.rounds, args.seconds, args.rivals)


def _measure_train(args):
    resolved, cluster = _resolve(_config(args), args)
    from pipeline.measure.throughput import measure_throughput

    return measure_throughput(resolved, cluster, args.rounds, args.seconds)


def _measure_step(args):
    base = _config(args, batch_size=args.batch_sizes[0], xla=_XLA[args.xla][0])
    first, cluster = _resolve(base, args)
    from pipeline.measure.step_rate import measure_steps
    from pipeline.train.assemble import resolve

    counts = args.step_counts or _STEPS_PER_CALL[cluster.accelerator]
    found = {}
    for size, precision, count, xla in itertools.product(args.batch_sizes, args.precisions, counts, _XLA[args.xla]):
        config = _config(args, batch_size=size, precision=precision, steps_per_call=count, xla=xla)
        resolved = resolve(config, first.manifest, cluster)
        # What is asked for may come to the same: "auto" to a precision in the list, a long call to the whole epoch.
        found[(resolved.steps, resolved.precision, xla)] = resolved
    return measure_steps(list(found.values()), cluster, args.rounds, args.seconds)


def _measure_scale(args):
    from pipeline.train.environment import import_tensorflow

    import_tensorflow()
    from pipeline.measure.scale import SMALLEST_ROWS, measure_scale

    if args.rows < SMALLEST_ROWS:
        raise InputError(f"--rows {args.rows}: at least {SMALLEST_ROWS}, which the larger sizes are compared with")
    return measure_scale(args.rows, args.rounds, args.seconds)


def _measure_host(args):
    from pipeline.train.environment import import_tensorflow

    import_tensorflow()
    from pipeline.measure.host_cost import measure_host_cost

    return measure_host_cost(args.rounds, args.seconds)


def _measure_memory(args):
    from pipeline.measure.stream_memory import measure_stream_memory

    if args.rows < 1:
        raise InputError(f"--rows {args.rows}: it must be at least 1")
    return measure_stream_memory(args.rows, args.memory_budget, args.dir)


def _measure_convert(args):
    from pipeline.measure.programs import measure_convert

    _check_csv(args.csv)
    return measure_convert(args.csv, args.rounds)


def _measure_article(args):
    from pipeline.measure.programs import measure_article

    _check_csv(args.csv)
    if args.rows < _LEAST_ARTICLE_ROWS:
        raise InputError(f"--rows {args.rows}: at least {_LEAST_ARTICLE_ROWS:,}, as an epoch must last a while")
    return measure_article(args.csv, args.rounds, args.rows)


def _check_csv(path: pathlib.Path) -> None:
    if not path.is_file():
        raise InputError(f"--csv {path}: no such file")


def _measure_all(args) -> int:
    """Run every kind and keep its JSON and figure; returns the exit code of the first that fails, else 0."""
    if not args.out.is_dir():
        raise InputError(f"--out {args.out}: there is no such directory; create it first")
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
    from pipeline.convert.manifest_file import load_manifest
    from pipeline.train.environment import import_tensorflow

    manifest = load_manifest(args.data)
    import_tensorflow()
    from pipeline.train.assemble import resolve
    from pipeline.train.strategy import make_cluster

    cluster = make_cluster(config.strategy, config.devices)
    resolved = resolve(config, manifest, cluster)
    calls = f"batch {config.batch_size}, {resolved.steps.steps_per_call} steps a call"
    print(f"{cluster.describe()}; {resolved.precision}; {calls}", flush=True)
    print(resolved.plan.describe(), flush=True)
    return resolved, cluster


def make_parser() -> argparse.ArgumentParser:
    """The command line."""
    summary, _, usage = __doc__.partition("\n\n")
    parser = Parser(
        prog="benchmark.py",
        description=summary,
        epilog=usage,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    commands = parser.add_subparsers(required=True, metavar="feed|step|train|scale|host|memory|convert|article|all")

    def command(name, measure, summary):
        made = commands.add_parser(name, help=summary, description=summary)
        made.set_defaults(measure=measure)
        return made

    feed = command("feed", _measure_feed, "every stage of every feed, beside other recipes and the machine's limits")
    step = command("step", _measure_step, "the step on a fixed batch: operations/s and the share of the peak")
    train = command("train", _measure_train, "the feed, the step on a fixed batch, both, and accelerator utilisation")
    scale = command("scale", _measure_scale, "the resident feed on more and more rows, and for more replicas")
    host = command("host", _measure_host, "what a step costs the host with a trivial network, beside Keras's fit")
    memory = command("memory", _measure_memory, "what streaming takes at its peak, on made-up shards (864 bytes a row)")
    convert = command("convert", _measure_convert, "a whole conversion, beside pandas.read_csv of the file alone")
    article = command("article", _measure_article, "train.py beside the program that this project began from")
    article.add_argument(
        "--rows", type=int, default=8000, metavar="N", help="the first rows to train on (default 8,000)"
    )
    for one in (convert, article):
        one.add_argument("--csv", type=pathlib.Path, required=True, metavar="FILE", help="a CSV of labelled images")
        one.add_argument("--rounds", type=int, default=3, help="measurements of each, in turns (default 3)")
    feed.add_argument("--no-rivals", dest="rivals", action="store_false", help="leave out other recipes")
    scale.add_argument("--rows", type=int, default=6_000_000, metavar="N", help="largest number of rows")
    _add_memory(memory)
    _add_all(commands)
    for one in (feed, step, train):
        _add_training(one)
    _add_settings(feed)
    _add_settings(train)
    _add_variants(step)
    for one in (feed, step, train, scale, host):
        _add_measuring(one)
    for one in (feed, step, train, scale, host):
        one.add_argument("--plot", type=pathlib.Path, metavar="FILE", help="draw the rows as a PNG")
    for one in (feed, step, train, scale, host, memory, convert, article):
        _add_output(one)
    return parser


def _add_all(commands) -> None:
    summary = "each of these in turn, for docs/benchmarks.md (about 15 minutes on two cores)"
    add = commands.add_parser("all", help=summary, description=summary).add_argument
    add("--data", type=pathlib.Path, required=True, help="data set directory")
    add("--csv", type=pathlib.Path, metavar="FILE", help="for convert and article, which are left out without it")
    add("--out", type=pathlib.Path, required=True, help="directory for a JSON file and a figure of each")
    add("--rows", type=int, default=6_000_000, metavar="N", help="for scale and memory (default 6,000,000)")
    add("--seconds", type=float, default=1.0, help="length of one measurement (default 1)")


def _add_training(parser) -> None:
    add = parser.add_argument
    add("--data", type=pathlib.Path, required=True, help="data set directory")
    add("--strategy", choices=STRATEGIES)
    add("--devices", type=int, metavar="N")
    add("--feed", choices=FEEDS)
    add("--scale", choices=SCALES)


def _add_settings(parser) -> None:
    add = parser.add_argument
    add("--precision", choices=PRECISIONS)
    add("--batch-size", type=int, metavar="N", help="global batch, default 256")
    add("--steps-per-call", type=int, metavar="K")


def _add_variants(parser) -> None:
    add = parser.add_argument
    several = "several with commas between"
    add("--precision", dest="precisions", type=_names, default=("auto",), metavar="P", help=f"default auto; {several}")
    add("--batch-size", dest="batch_sizes", type=_counts, default=(256,), metavar="N", help=f"default 256; {several}")
    add("--steps-per-call", dest="step_counts", type=_counts, metavar="K", help="default 1,4,16,64 on GPU, 1,4 on CPU")
    add("--xla", choices=_XLA, default="off", help="compile the step; default off")


def _add_measuring(parser) -> None:
    add = parser.add_argument
    add("--rounds", type=int, default=5, help="measurements of each kind, interleaved (default 5)")
    add("--seconds", type=float, default=1.0, help="length of one measurement (default 1)")


def _add_output(parser) -> None:
    add = parser.add_argument
    add("--json", type=pathlib.Path, metavar="FILE", help="write the figures with the machine they were measured on")


def _add_memory(parser) -> None:
    add = parser.add_argument
    add("--rows", type=int, default=6_000_000, metavar="N", help="rows of 28x28, default 6,000,000 (5.2 GB of disk)")
    add("--memory-budget", type=size_argument, default=512 << 20, metavar="SIZE", help="default 512MiB")
    add("--dir", type=pathlib.Path, help="where the shards lie meanwhile; default the system's temporary directory")


def _names(text: str) -> tuple[str, ...]:
    return tuple(text.split(","))


def _counts(text: str) -> tuple[int, ...]:
    try:
        return tuple(map(int, text.split(",")))
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number, nor several with commas between") from error


if __name__ == "__main__":
    run_tool(main)
