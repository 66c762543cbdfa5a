"""Small data sets for the tests, made by the converter from CSVs whose content is a function of the row."""

import pathlib

import numpy as np

from pipeline.convert.converter import ConvertConfig, convert

CLASSES = 3


def bars(rows: range, size: int = 8) -> tuple[np.ndarray, np.ndarray]:
    """Images uint8 [n, size, size] with a bright bar whose place tells the class, and labels int64 [n]."""
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


def write_digits(directory: pathlib.Path) -> pathlib.Path:
    """Train and val with labels, test without; several shards a split, and counts that no batch size divides."""
    folder = directory.parent
    train = write_csv(folder / "train.csv", *bars(range(203)))
    val = write_csv(folder / "val.csv", *bars(range(203, 253)))
    test = write_csv(folder / "test.csv", bars(range(253, 284))[0])
    convert(ConvertConfig(splits=(("train", train), ("val", val), ("test", test)), out=directory, shards=3))
    return directory
