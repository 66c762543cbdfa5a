"""Small data sets for the tests, whose content is a function of the row, written without the converter."""

import pathlib

import numpy as np

from pipeline.format.manifest import FILE_NAME, Manifest, Source, Split, Validation
from pipeline.format.records import RecordLayout
from pipeline.format.shards import ShardWriter
from pipeline.format.tfds_metadata import metadata_files, shard_name

CLASSES = 3
Rows = tuple[np.ndarray, np.ndarray, np.ndarray]


def bars(rows: range, size: int = 8) -> tuple[np.ndarray, np.ndarray]:
    """Images uint8 [n, size, size] with a bright bar whose place depends on the class, and labels int64 [n]."""
    index = np.arange(rows.start, rows.stop)
    labels = index * 7 % CLASSES
    images = (index[:, None, None] * 13 + np.arange(size * size).reshape(size, size) * 5) % 90
    for image, label in zip(images, labels, strict=True):
        image[:, 1 + 2 * label : 3 + 2 * label] = 240
    return images.astype(np.uint8), labels


def write_csv(path: pathlib.Path, images: np.ndarray, labels: np.ndarray | None = None) -> pathlib.Path:
    """A CSV in Kaggle's layout; without labels the first column is `id`, from 0."""
    first = np.arange(len(images)) if labels is None else labels
    pixels = images.reshape(len(images), -1)
    header = ",".join(["id" if labels is None else "label", *(f"pixel{k}" for k in range(pixels.shape[1]))])
    lines = [header, *(",".join(map(str, row)) for row in np.column_stack([first, pixels]).tolist())]
    path.write_text("\n".join(lines) + "\n", encoding="ascii")
    return path


def write_dataset(directory: pathlib.Path, splits: dict[str, Rows], shards: int = 2) -> pathlib.Path:
    """A data set with images uint8 [n, H, W] or [n, H, W, C], labels int [n] (-1 without) and ids int [n] per split.

    Each split has `shards` shards of about one size, and a CSV of its name that does not exist as its source.
    """
    directory.mkdir(parents=True)
    images, labels, _ = splits.get("train") or next(iter(splits.values()))
    shape = (*images.shape[1:], 1)[:3]
    num_classes = 1 + max(int(labels.max()) for _, labels, _ in splits.values())
    pixels = images.reshape(-1, shape[2]).astype(float)
    manifest = Manifest(
        name=directory.name,
        image_shape=shape,
        class_names=tuple(map(str, range(num_classes))),
        splits={name: _write_split(directory, name, rows, shards, num_classes) for name, rows in splits.items()},
        sources=tuple(
            Source(name, f"{name}.csv", 1, "0" * 64, len(rows[1]), True, "label", None) for name, rows in splits.items()
        ),
        validation=Validation(),
        pixel_mean=tuple(pixels.mean(axis=0).tolist()),
        pixel_std=tuple(pixels.std(axis=0).tolist()),
        stride=RecordLayout(images[0].size).stride,
        planned_shards=dict.fromkeys(splits, shards),
    )
    for name, text in {FILE_NAME: manifest.to_json(), **metadata_files(manifest)}.items():
        (directory / name).write_text(text, encoding="utf-8")
    return directory


def _write_split(directory: pathlib.Path, name: str, rows: Rows, num_shards: int, num_classes: int) -> Split:
    images, labels, ids = rows
    layout = RecordLayout(images[0].size)
    shards = []
    for k, part in enumerate(np.array_split(np.arange(len(labels)), num_shards)):
        with ShardWriter(directory / shard_name(directory.name, name, k, num_shards), layout.stride) as writer:
            writer.append(layout.encode(images[part].reshape(len(part), -1), labels[part], ids[part]))
            shards.append(writer.finish())
    counts = () if (labels < 0).all() else tuple(np.bincount(labels, minlength=num_classes).tolist())
    return Split(name, len(labels), counts, tuple(shards))


def write_digits(directory: pathlib.Path) -> pathlib.Path:
    """Train and val with labels, test without; three shards per split, and counts that no batch size divides.

    The CSVs of these rows lie beside the directory.
    """
    splits = {}
    for name, rows in (("train", range(203)), ("val", range(203, 253)), ("test", range(253, 284))):
        images, labels = bars(rows)
        write_csv(directory.parent / f"{name}.csv", images, None if name == "test" else labels)
        splits[name] = (images, np.full(len(labels), -1) if name == "test" else labels, np.arange(len(labels)))
    return write_dataset(directory, splits, shards=3)
