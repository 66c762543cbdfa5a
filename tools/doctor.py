"""Check this machine, the installation, and which traps of TensorFlow and Keras the package still works around.

python tools/doctor.py
python tools/doctor.py --data-dir /big/data --run-dir /big/runs --json

Says in plain words what to mend; the exit code is 0 where that is nothing, else 1. Nothing is left behind.
"""

import argparse
import os
import pathlib
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

from pipeline.cli import Parser, run_command


def main(argv: Sequence[str] | None = None) -> int:
    args = _parser().parse_args(argv)
    from pipeline.doctor.findings import MEND, print_findings, to_json
    from pipeline.doctor.installation import check_installation
    from pipeline.doctor.machine import check_machine
    from pipeline.doctor.traps import check_traps

    folders = {"data": args.data_dir, "runs": args.run_dir}
    # The disk is measured before the canaries make the machine busy; they wait for processes of their own.
    findings = check_machine(folders, os.environ)
    with ThreadPoolExecutor() as pool:
        traps = pool.submit(check_traps)
        findings += check_installation()
        findings += traps.result()
    if args.json:
        print(to_json(findings))
    else:
        print_findings(findings)
    return 1 if any(found.state == MEND for found in findings) else 0


def _parser() -> argparse.ArgumentParser:
    summary, _, usage = __doc__.partition("\n\n")
    parser = Parser(description=summary, epilog=usage, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add("--data-dir", type=pathlib.Path, default="data", metavar="DIR", help="where data will be (default: data)")
    add("--run-dir", type=pathlib.Path, default="runs", metavar="DIR", help="where runs will be (default: runs)")
    add("--json", action="store_true", help="print JSON instead of tables")
    return parser


if __name__ == "__main__":
    run_command(main)
