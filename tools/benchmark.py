"""Measure images/s of the feed, of the step and of both on a data set, and say which holds training back.

python tools/benchmark.py --data data/kannada
python tools/benchmark.py --data data/kannada --strategy mirrored --precision mixed_bfloat16 --json figures.json
"""

import argparse
import pathlib
from collections.abc import Sequence

from pipeline.errors import InputError, Parser, run_tool
from pipeline.feed.plan import FEEDS
from pipeline.train.config import PRECISIONS, SCALES, STRATEGIES, TrainConfig


def main(argv: Sequence[str] | None = None) -> int:
    """Measure, print the table, and write the JSON if asked; returns the exit code."""
    args = vars(_make_parser().parse_args(argv))
    rounds, seconds, json_path = args.pop("rounds"), args.pop("seconds"), args.pop("json")
    if rounds < 1 or not 0 < seconds < 3600:
        raise InputError(f"--rounds {rounds} --seconds {seconds}: at least one round, and from 0 to 3600 seconds")
    if json_path is not None and not json_path.parent.is_dir():
        raise InputError(f"--json {json_path}: there is no directory {json_path.parent}; create it first")
    given = {name: value for name, value in args.items() if value is not None}
    # A benchmark has no run directory: nothing of it is kept.
    config = TrainConfig(run_dir=pathlib.Path("benchmark"), **given)

    from pipeline.convert.manifest import load_manifest
    from pipeline.files import write_text_atomically
    from pipeline.train.environment import import_tensorflow

    manifest = load_manifest(config.data)
    import_tensorflow()
    from pipeline.measure.throughput import measure_throughput
    from pipeline.train.assemble import resolve
    from pipeline.train.strategy import make_cluster

    cluster = make_cluster(config.strategy, config.devices)
    resolved = resolve(config, manifest, cluster)
    print(f"{cluster.describe()}; {resolved.precision}; batch {config.batch_size}", flush=True)
    print(resolved.plan.describe(), flush=True)
    found = measure_throughput(resolved, cluster, rounds, seconds)
    print(found.table())
    if json_path is not None:
        write_text_atomically(json_path, found.to_json())
    return 0


def _make_parser() -> argparse.ArgumentParser:
    parser = Parser(prog="benchmark.py", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add("--data", type=pathlib.Path, required=True, help="data set directory")
    add("--strategy", choices=STRATEGIES)
    add("--devices", type=int, metavar="N")
    add("--precision", choices=PRECISIONS)
    add("--batch-size", type=int, metavar="N", help="global batch, default 256")
    add("--steps-per-call", type=int, metavar="K")
    add("--feed", choices=FEEDS)
    add("--scale", choices=SCALES)
    add("--rounds", type=int, default=5, help="measurements of each kind, interleaved (default 5)")
    add("--seconds", type=float, default=3.0, help="length of one measurement (default 3)")
    add("--json", type=pathlib.Path, metavar="FILE", help="write the figures with the machine they were measured on")
    return parser


if __name__ == "__main__":
    run_tool(main)
