"""Small CSVs, converted and read back, for the tests of the converter."""

import hashlib

import numpy as np

from pipeline.convert.converter import ConvertConfig, convert
from pipeline.format.manifest import load_manifest

PIXELS = ",".join(f"p{k}" for k in range(4))


def table(rows, first="label", value=lambda k: k % 3):
    """A CSV of 2 x 2 images; pixels are functions of the row."""
    lines = [f"{value(k)},{k % 256},{k // 256},7,{255 - k % 256}" for k in range(rows)]
    return "\n".join([f"{first},{PIXELS}" if first else PIXELS, *lines]) + "\n"


def convert_texts(folder, texts, out="data", **options):
    """Convert texts (split name -> CSV text, or several) into folder/out; the CSVs are named by split and number."""
    splits = []
    for name, given in texts.items():
        for k, text in enumerate([given] if isinstance(given, str) else given):
            path = folder / f"{name}{k}.csv"
            path.write_text(text)
            splits.append((name, path))
    return convert(ConvertConfig(splits=tuple(splits), out=folder / out, **options))


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
