"""tools/csv_to_tfrecord.py for small files, in blocks of 32 KiB; with PROCESSES set, by two worker processes."""

import dataclasses
import os
import pathlib
import sys

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[2]))

from pipeline.cli import run_command
from pipeline.convert import converter
from pipeline.convert.csv import reader as csv_reader
from tools import csv_to_tfrecord

if __name__ == "__main__":
    csv_reader.SCAN_BYTES = 1 << 18
    converter._SMALL_BYTES = 0 if os.environ.get("PROCESSES") else 1 << 30
    convert = converter.convert
    converter.convert = lambda config, *callbacks: convert(
        dataclasses.replace(config, read=dataclasses.replace(config.read, block_bytes=1 << 15), workers=2), *callbacks
    )
    run_command(csv_to_tfrecord.main)
