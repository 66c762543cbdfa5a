"""Show what a data set holds, audit it for duplicates and drift, verify that its files are as written, or repair them.

python tools/inspect_tfrecord.py show data/kannada
python tools/inspect_tfrecord.py audit data/kannada --near-duplicates --details audit.csv
python tools/inspect_tfrecord.py verify data/kannada
python tools/inspect_tfrecord.py repair data/kannada --from train=train.csv

audit looks for images that occur twice, in one split or in several, or under two labels, and for classes and intensity
that differ between splits; --drop-duplicates writes another data set without the rows of train concerned.
verify reads every byte and reports what happened to each file that differs from what was written; then the exit code is
1. repair restores corrupt files byte for byte and touches nothing else; it needs only the CSVs of corrupt shards.
"""

import argparse
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING

from pipeline.cli import Parser, any_path, run_command, with_command_names
from pipeline.errors import list_few, pluralize, size_text
from pipeline.status import doing

if TYPE_CHECKING:
    from pipeline.format.manifest import Manifest

_MAX_CLASSES = 20  # that are named


def main(argv: Sequence[str] | None = None) -> int:
    """Inspect as the command line says; returns the exit code."""
    args = _parser().parse_args(argv)
    # Each command imports what it needs, so that --help and show do not wait for the others' imports.
    if args.command == "verify":
        return _verify(args.directory)
    if args.command == "repair":
        return _repair(args.directory, args.sources)
    if args.command == "audit":
        return _audit(args)
    from pipeline.format.manifest import load_manifest

    manifest = load_manifest(args.directory)
    if args.json:
        sys.stdout.write(manifest.to_json())
    else:
        _show(manifest)
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = Parser(description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True, metavar="show|audit|verify|repair")
    show = commands.add_parser("show", help="splits, classes, files and where they came from")
    audit = commands.add_parser("audit", help="duplicates, leaks between splits, and differences of splits")
    verify = commands.add_parser("verify", help="compare every file and record with the manifest")
    repair = commands.add_parser("repair", help="restore what verify reports")
    for command in (show, audit, verify, repair):
        command.add_argument("directory", metavar="DIR", help="a data set, written by tools/csv_to_tfrecord.py")
    show.add_argument("--json", action="store_true", help="print the manifest as JSON")
    audit.add_argument(
        "--near-duplicates", action="store_true", help="also look for rows that nearly equal one of train"
    )
    audit.add_argument("--details", type=any_path, metavar="FILE", help="a CSV to write: the rows concerned")
    audit.add_argument(
        "--drop-duplicates", metavar="OUT", help="write the data set OUT without rows of train that occur again"
    )
    audit.add_argument(
        "--overwrite", action="store_true", help="replace the data set in OUT once the new one is complete"
    )
    repair.add_argument(
        "--from",
        dest="sources",
        action="append",
        default=[],
        metavar="NAME=FILE",
        help="a CSV that was converted and its split; repeat it for more",
    )
    return parser


def _verify(directory: str) -> int:
    from pipeline.format.manifest import FILE_NAME, read_manifest
    from pipeline.format.verify import inspect

    # Not load_manifest: an edited manifest is one of the problems to list, and the files are compared nevertheless.
    manifest, stated_hash = read_manifest(directory)
    with doing("verifying every record"):
        problems = list(inspect(directory, manifest).lines())
    if manifest.own_sha256 != stated_hash:
        problems.insert(0, f"{FILE_NAME}: changed since it was written")
    for problem in problems:
        print(with_command_names(problem))
    if not problems:
        shards = manifest.all_shards
        records = sum(shard.num_examples for shard in shards)
        print(f"{directory}: {len(shards):,} shards with {records:,} records are as they were written")
    return 1 if problems else 0


def _audit(args: argparse.Namespace) -> int:
    from pipeline.data_audit.audit import audit
    from pipeline.files import check_output_file
    from pipeline.format.manifest import load_manifest

    if args.details is not None:
        check_output_file(args.details)
    with doing("auditing every image"):
        result = audit(args.directory, load_manifest(args.directory), args.near_duplicates)
    for line in result.lines():
        print(line)
    if args.details is not None:
        print(f"{args.details}: {pluralize(result.write_details(args.details), 'row')}")
    if args.drop_duplicates is not None:
        from pipeline.data_audit.drop import write_without_duplicates

        with doing(f"writing {args.drop_duplicates}"):
            dropped = write_without_duplicates(result, args.drop_duplicates, args.overwrite)
        print(f"{args.drop_duplicates}: written without {pluralize(dropped, 'row')} of train")
    return 0


def _repair(directory: str, sources: Sequence[str]) -> int:
    from pipeline.convert.repair import repair
    from tools.csv_to_tfrecord import parse_split

    with doing("verifying and repairing"):
        done = repair(directory, [parse_split(text, "--from") for text in sources])
    for line in done:
        print(line)
    print(f"{directory}: everything is as it was written" + ("" if done else ", nothing to repair"))
    return 0


def _show(manifest: "Manifest") -> None:
    from pipeline.format.summary import summary_text, validation_text
    from pipeline.format.text_ids import id_files

    lines = [validation_text(manifest.validation)]
    if manifest.class_names:
        lines.append(f"classes: {list_few(manifest.class_names, _MAX_CLASSES)}")
    for source in manifest.sources:
        size = size_text(source.num_bytes)
        lines.append(
            f"{source.split} from {source.name}: {source.num_rows:,} rows, {size}, digest {source.sha256[:16]}"
        )
    lines += [f"ids are text, in {name}" for name in id_files(manifest)]
    print("\n  ".join([summary_text(manifest), *lines]))


def cli() -> None:
    """Entry point of the console script."""
    run_command(main)


if __name__ == "__main__":
    cli()
