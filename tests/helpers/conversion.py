"""Small CSVs, converted and read back, for the tests of the converter."""

import dataclasses
import hashlib

import numpy as np

from pipeline.convert.converter import ConvertConfig, convert
from pipeline.convert.read_options import ReadOptions
from pipeline.format.manifest import load_manifest

PIXELS = ",".join(f"p{k}" for k in range(4))


def table(rows, first="label", value=lambda k: k % 3):
    """A CSV of 2 x 2 images; pixels are functions of the row."""
    lines = [f"{value(k)},{k % 256},{k // 256},7,{255 - k % 256}" for k in range(rows)]
    return "\n".join([f"{first},{PIXELS}" if first else PIXELS, *lines]) + "\n"


def table_with_ids(rows, first=0):
    """The same with an id column in front: three times the row's number."""
    lines = [f"{first + 3 * k},{k % 3},{k % 256},{k // 256},7,{255 - k % 256}" for k in range(rows)]
    return "\n".join([f"id,label,{PIXELS}", *lines]) + "\n"


def write_sources(folder, texts):
    """Write texts or bytes (split name -> one or several), named by split and number; returns (split, path) pairs."""
    splits = []
    for name, given in texts.items():
        for k, data in enumerate([given] if isinstance(given, (str, bytes)) else given):
            path = folder / f"{name}{k}.csv"
            path.write_bytes(data.encode() if isinstance(data, str) else data)
            splits.append((name, path))
    return tuple(splits)


def make_config(splits, out, **options):
    """A ConvertConfig, among whose options may be those of reading."""
    names = {field.name for field in dataclasses.fields(ReadOptions)}
    read = ReadOptions(**{name: value for name, value in options.items() if name in names})
    return ConvertConfig(splits=splits, out=out, read=read, **{k: v for k, v in options.items() if k not in names})


def convert_texts(folder, texts, out="data", on_progress=None, on_notice=None, **options):
    """Convert texts or bytes into folder/out; see `write_sources`."""
    config = make_config(write_sources(folder, texts), folder / out, **options)
    return convert(config, on_progress, on_notice)


def read_split(directory, name):
    """Images uint8 [n, pixels], labels and ids int64 [n] of a split, in the order of its rows."""
    manifest = load_manifest(directory)
    split = manifest.split(name)
    shards = []
    for shard in split.shards:
        data = (directory / shard.name).read_bytes()
        assert len(data) == shard.num_bytes
        assert hashlib.sha256(data).hexdigest() == shard.sha256
        shards.append(np.frombuffer(data, np.uint8).reshape(-1, manifest.stride))
    records = np.concatenate(shards)
    assert manifest.layout.first_corrupt(records) is None
    return manifest.layout.decode(records)


def all_bytes(directory):
    """File name -> bytes."""
    return {path.name: path.read_bytes() for path in directory.iterdir()}


def left_over(folder):
    """Names in a folder beside the CSVs."""
    return sorted(path.name for path in folder.iterdir() if path.suffix != ".csv")


GOOD = table(10)
