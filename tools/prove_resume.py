"""Prove on this machine that a killed run ends as one that nobody touched.

python tools/prove_resume.py --kills 5
python tools/prove_resume.py --what convert --kills 5 --runs 20

Runs a small real training unbroken, then again with SIGKILL at random instants and the same command after each, and
once from the first kill on with two replicas; or conversions of CSVs, killed and repeated alike. On the same number of
replicas all must be equal bit for bit, on another the examples and their order. The exit code is 0 if they are, else 1.
"""

import argparse
import contextlib
import pathlib
import tempfile
from collections.abc import Iterator, Sequence

from pipeline.cli import Parser, run_command
from pipeline.errors import InputError

_MOST = 10_000  # kills, or runs: days of work
TRAIN, CONVERT = "train", "convert"


def main(argv: Sequence[str] | None = None) -> int:
    args = _parser().parse_args(argv)
    for name in ("kills", "runs"):
        if not 1 <= getattr(args, name) <= _MOST:
            raise InputError(f"--{name} {getattr(args, name)}: it must be from 1 to {_MOST:,}")
    if not 0 <= args.seed < 2**63:
        raise InputError(f"--seed {args.seed}: it must be from 0 to 2**63 - 1")
    if args.json is not None and not args.json.parent.is_dir():
        raise InputError(f"--json {args.json}: there is no directory {args.json.parent}; create it first")
    if args.json is not None and args.json.is_dir():
        raise InputError(f"--json {args.json}: it is a directory; give the name of a file")
    if args.what == TRAIN:
        from pipeline.prove.training import prove_training as prove
    else:
        from pipeline.prove.conversion import prove_conversion as prove
    with _folder(args.keep) as folder:
        proof = prove(folder, args.kills, args.runs, args.seed, _say, keep=args.keep is not None)
    proof.print()
    if args.json is not None:
        from pipeline.files import write_text

        write_text(args.json, proof.to_json())
    return 0 if proof.proven else 1


def _say(text: str) -> None:
    print(text, flush=True)


@contextlib.contextmanager
def _folder(keep: pathlib.Path | None) -> Iterator[pathlib.Path]:
    if keep is None:
        with tempfile.TemporaryDirectory(prefix="prove-resume-") as folder:
            yield pathlib.Path(folder)
        return
    if keep.exists() and (not keep.is_dir() or any(keep.iterdir())):
        raise InputError(f"--keep {keep}: it is there and not an empty directory; choose another")
    keep.mkdir(parents=True, exist_ok=True)
    yield keep.resolve()


def _parser() -> argparse.ArgumentParser:
    summary, _, usage = __doc__.partition("\n\n")
    parser = Parser(description=summary, epilog=usage, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add("--what", choices=(TRAIN, CONVERT), default=TRAIN, help="what is killed (default: %(default)s)")
    add("--kills", type=int, default=5, metavar="N", help="of each killed run (default: %(default)s)")
    add("--runs", type=int, default=1, metavar="N", help="killed runs, each at other instants (default: %(default)s)")
    add("--seed", type=int, default=0, metavar="N", help="of the instants and of the training (default: %(default)s)")
    add("--keep", type=pathlib.Path, metavar="DIR", help="leave data and runs in DIR, which is made")
    add("--json", type=pathlib.Path, metavar="FILE", help="write what was found, hashes in full, to FILE")
    return parser


if __name__ == "__main__":
    run_command(main)
