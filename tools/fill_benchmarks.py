"""Fill the tables of README.md, docs/benchmarks.md and docs/design.md from docs/benchmarks/*.json.

python tools/benchmark.py all --data data/kannada --csv train.csv --out docs/benchmarks
python tools/fill_benchmarks.py

A table stands between <!-- benchmark:NAME --> and <!-- end -->. NAME is a file of that directory less .json, a
directory in it (all of its files; for other machines), summary, or ladder (the feed's rows by what an image costs).
"""

import argparse
import json
import pathlib
import re
from collections.abc import Sequence

from pipeline.cli import Parser, run_command
from pipeline.errors import InputError
from pipeline.files import write_text_atomically

PAGES = "README.md", "docs/benchmarks.md", "docs/design.md"
FIGURES = "docs/benchmarks"

_LADDER = "feed_2048"

_ROOT = pathlib.Path(__file__).resolve().parent.parent
_BLOCK = re.compile(r"(<!-- benchmark:(\S+) -->\n).*?(<!-- end -->)", re.DOTALL)


def main(argv: Sequence[str] | None = None) -> int:
    """Fill the pages, or with --check say which are not as they would be filled; returns the exit code."""
    parser = Parser(prog="fill_benchmarks.py", description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--check", action="store_true", help="write nothing; exit with 1 where a page would change")
    parser.add_argument("--root", type=pathlib.Path, default=_ROOT, help="checkout to work in (default: this one)")
    args = parser.parse_args(argv)
    stale = {page: filled for page in PAGES if (filled := _changed(args.root / page, args.root / FIGURES)) is not None}
    for page, filled in stale.items():  # written only now, so that an error leaves all pages as they were
        if not args.check:
            write_text_atomically(args.root / page, filled)
        print(f"{page}: {'not as the JSON has it; run tools/fill_benchmarks.py' if args.check else 'filled'}")
    return 1 if args.check and stale else 0


def _changed(path: pathlib.Path, directory: pathlib.Path) -> str | None:
    """The page as it would be filled, or None where it is so already."""
    if not path.is_file():
        raise InputError(f"{path}: no such page; give a checkout with --root")
    text = path.read_text(encoding="utf-8")
    filled = fill(text, directory, str(path))
    return None if filled == text else filled


def fill(page: str, directory: pathlib.Path, name: str = "the page") -> str:
    """The page with each of its tables made anew from the JSON in `directory`; `name` is the page's in an error.

    Raises:
        InputError: a marker has no end, or a file is not a benchmark's.
    """
    if len(_BLOCK.findall(page)) != page.count("<!-- benchmark:"):
        raise InputError(f"{name}: a <!-- benchmark:... --> has no <!-- end --> of its own after it; put one there")
    return _BLOCK.sub(lambda block: f"{block[1]}\n{_table(block[2], directory)}\n\n{block[3]}", page)


def _table(name: str, directory: pathlib.Path) -> str:
    from pipeline.benchmark.tables import NOT_MEASURED, ladder_table, page_table, summary_table

    if name == "summary":
        tables = _read_all(directory)
        for key, found in tables.items():  # each by itself first, so that an error names its file
            _made(summary_table, {key: found}, directory / f"{key}.json")
        return summary_table(tables)
    if (directory / name).is_dir():
        tables = _read_all(directory / name)
        made = {key: _made(page_table, found, directory / name / f"{key}.json") for key, found in tables.items()}
        return "\n\n".join(f"**{key}**\n\n{table}" for key, table in made.items()) or NOT_MEASURED
    path = directory / f"{_LADDER if name == 'ladder' else name}.json"
    if not path.is_file():
        return NOT_MEASURED
    if name == "ladder":
        return _made(ladder_table, _read(path), path)
    figure = f"\n\n![{name}](benchmarks/{name}.png)" if path.with_suffix(".png").is_file() else ""
    return _made(page_table, _read(path), path) + figure


def _read_all(directory: pathlib.Path) -> dict[str, dict]:
    return {path.stem: _read(path) for path in sorted(directory.glob("*.json"))}


def _read(path: pathlib.Path) -> dict:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise InputError(f"{path}: not JSON ({error}); write it anew with tools/benchmark.py") from error


def _made(make, found: dict, path: pathlib.Path) -> str:
    try:
        return make(found)
    except (LookupError, ArithmeticError, TypeError, AttributeError, StopIteration, ValueError) as error:
        kind = type(error).__name__
        raise InputError(f"{path}: not what tools/benchmark.py writes ({kind}: {error}); write it anew") from error


if __name__ == "__main__":
    run_command(main)
