"""tools/csv_to_tfrecord.py with a journal after each 256 KiB of text, where it is after 256 MiB otherwise."""

import dataclasses
import pathlib
import sys

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[2]))

from pipeline.cli import run_command
from pipeline.convert import converter
from tools import csv_to_tfrecord

if __name__ == "__main__":
    convert = converter.convert
    converter.convert = lambda config, *callbacks: convert(
        dataclasses.replace(config, block_bytes=1 << 15, journal_bytes=1 << 18), *callbacks
    )
    run_command(csv_to_tfrecord.main)
