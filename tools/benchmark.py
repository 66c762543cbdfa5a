"""Measure images/s: of the feed, of training and what holds it back, what a step costs the host, or as data grow.

python tools/benchmark.py feed --data data/kannada --batch-size 2048 --steps-per-call 16
python tools/benchmark.py train --data data/kannada --strategy mirrored --json figures.json
python tools/benchmark.py scale --rows 6000000
python tools/benchmark.py host
"""

import argparse
import pathlib
from collections.abc import Sequence

from pipeline.errors import InputError, Parser, run_tool
from pipeline.feed.plan import FEEDS
from pipeline.train.config import PRECISIONS, SCALES, STRATEGIES, TrainConfig

FEED, TRAIN, SCALE, HOST = "feed", "train", "scale", "host"


def main(argv: Sequence[str] | None = None) -> int:
    """Measure, print the table, and write the JSON if asked; returns the exit code."""
    args = vars(_make_parser().parse_args(argv))
    kind, rounds, seconds, json_path = (args.pop(name) for name in ("kind", "rounds", "seconds", "json"))
    if rounds < 1 or not 0 < seconds < 3600:
        raise InputError(f"--rounds {rounds} --seconds {seconds}: at least one round, and from 0 to 3600 seconds")
    if json_path is not None and not json_path.parent.is_dir():
        raise InputError(f"--json {json_path}: there is no directory {json_path.parent}; create it first")
    if kind == SCALE:
        found = _measure_scale(args["rows"], rounds, seconds)
    elif kind == HOST:
        found = _measure_host(rounds, seconds)
    else:
        found = _measure_data(kind, args, rounds, seconds)
    found.print()
    if json_path is not None:
        from pipeline.files import write_text_atomically

        write_text_atomically(json_path, found.to_json())
    return 0


def _measure_scale(rows: int, rounds: int, seconds: float):
    from pipeline.train.environment import import_tensorflow

    import_tensorflow()
    from pipeline.measure.scale import SMALLEST_ROWS, measure_scale

    if rows < SMALLEST_ROWS:
        raise InputError(f"--rows {rows}: at least {SMALLEST_ROWS}, which the larger sizes are compared with")
    return measure_scale(rows, rounds, seconds)


def _measure_host(rounds: int, seconds: float):
    from pipeline.train.environment import import_tensorflow

    import_tensorflow()
    from pipeline.measure.host_cost import measure_host_cost

    return measure_host_cost(rounds, seconds)


def _measure_data(kind: str, args: dict, rounds: int, seconds: float):
    with_rivals = args.pop("rivals", False)
    given = {name: value for name, value in args.items() if value is not None}
    # A benchmark has no run directory: nothing of it is kept.
    config = TrainConfig(run_dir=pathlib.Path("benchmark"), **given)

    from pipeline.convert.manifest import load_manifest
    from pipeline.train.environment import import_tensorflow

    manifest = load_manifest(config.data)
    import_tensorflow()
    from pipeline.measure.feed_ladder import measure_feed
    from pipeline.measure.throughput import measure_throughput
    from pipeline.train.assemble import resolve
    from pipeline.train.strategy import make_cluster

    cluster = make_cluster(config.strategy, config.devices)
    resolved = resolve(config, manifest, cluster)
    calls = f"batch {config.batch_size}, {resolved.steps.steps_per_call} steps a call"
    print(f"{cluster.describe()}; {resolved.precision}; {calls}", flush=True)
    print(resolved.plan.describe(), flush=True)
    if kind == FEED:
        return measure_feed(resolved, cluster, rounds, seconds, with_rivals)
    return measure_throughput(resolved, cluster, rounds, seconds)


def _make_parser() -> argparse.ArgumentParser:
    summary, _, usage = __doc__.partition("\n\n")
    parser = Parser(
        prog="benchmark.py",
        description=summary,
        epilog=usage,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    commands = parser.add_subparsers(dest="kind", required=True, metavar="feed|train|scale|host")
    feed = commands.add_parser(FEED, help="every stage of every feed, beside other recipes and the machine's limits")
    train = commands.add_parser(TRAIN, help="the feed, the step on a fixed batch, both, and accelerator utilisation")
    scale = commands.add_parser(SCALE, help="the resident feed on more and more rows, and for more and more replicas")
    host = commands.add_parser(HOST, help="what a step costs the host with a trivial network, beside Keras's fit")
    feed.add_argument("--no-rivals", dest="rivals", action="store_false", help="leave out other recipes")
    scale.add_argument("--rows", type=int, default=6_000_000, metavar="N", help="largest number of rows")
    for command in (feed, train):
        add = command.add_argument
        add("--data", type=pathlib.Path, required=True, help="data set directory")
        add("--strategy", choices=STRATEGIES)
        add("--devices", type=int, metavar="N")
        add("--precision", choices=PRECISIONS)
        add("--batch-size", type=int, metavar="N", help="global batch, default 256")
        add("--steps-per-call", type=int, metavar="K")
        add("--feed", choices=FEEDS)
        add("--scale", choices=SCALES)
    for command in (feed, train, scale, host):
        add = command.add_argument
        add("--rounds", type=int, default=5, help="measurements of each kind, interleaved (default 5)")
        add("--seconds", type=float, default=1.0, help="length of one measurement (default 1)")
        add(
            "--json", type=pathlib.Path, metavar="FILE", help="write the figures with the machine they were measured on"
        )
    return parser


if __name__ == "__main__":
    run_tool(main)
