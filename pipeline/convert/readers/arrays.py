"""Images and labels as arrays: IDX files (plain or compressed), .npy files, and the arrays of an .npz."""

import pathlib
import re
from collections.abc import Iterator, Mapping, Sequence

import numpy as np

from pipeline.convert.compressed import ZIP_STARTS, first_bytes, split_member, zip_names
from pipeline.convert.readers.array_file import NPY_MAGIC, Header, is_idx, read_header, read_rows
from pipeline.convert.readers.labels import as_labels
from pipeline.convert.source import identify
from pipeline.convert.table import RawRows, Reader
from pipeline.errors import InputError, list_few
from pipeline.remote import open_stream

# How names of arrays and files say that they hold images, and the labels that belong to them.
_ROLES = (("x", "y"), ("images", "labels"), ("image", "label"), ("imgs", "labels"), ("img", "label"))
_KEYS = (*_ROLES, ("data", "labels"), ("data", "target"), ("features", "labels"), ("arr_0", "arr_1"))
_SPLITS = {"val": ("val", "valid", "validation", "dev"), "train": ("train", "training"), "test": ("test", "testing")}
_NPY = ".npy"


class ArrayReader(Reader):
    """The images of one array file or member, [n, pixels], [n, H, W] or [n, H, W, C], with their labels if given.

    `images` and `labels` are paths for `open_text`.

    Raises:
        InputError: an array has no images or not one label per image.
    """

    label_advice = "give a file of labels"
    has_ids = False

    def __init__(self, path: pathlib.Path, images: str, labels: str | None, notes: tuple[str, ...] = ()) -> None:
        self.path, self._images, self._labels, self.notes = path, images, labels, notes
        self.part = split_member(images)[1]
        header = read_header(images)
        if not _may_be_images(header):
            raise InputError(f"{images}: an array of {header.text}, not of images as numbers, one per row")
        if labels is None:
            return
        self._labels_identity = identify(split_member(labels)[0])  # tells whether an interrupted conversion can resume
        if (found := read_header(labels)).shape[0] != header.shape[0]:
            raise InputError(f"{labels}: {found.shape[0]:,} labels for the {header.shape[0]:,} images of {images}")

    @property
    def has_labels(self) -> bool:
        return self._labels is not None

    def blocks(self) -> Iterator[RawRows]:
        """All rows; labels are small enough to be held as a whole."""
        labels = np.concatenate(list(self.labels())) if self.has_labels else None
        start = 0
        for values in read_rows(self._images):
            stop = start + len(values)
            yield RawRows(values, None if labels is None else labels[start:stop], None)
            start = stop

    def labels(self) -> Iterator[np.ndarray]:
        """The labels, or -1 for each row."""
        if self._labels is not None:
            yield from label_blocks(self._labels)
        else:  # counted, not taken from the header, which a corrupt file may have wrong
            yield from (np.full(len(block), -1, np.int64) for block in read_rows(self._images))

    def place_of(self, row: int) -> str:
        """How messages name an image."""
        return f"{self._images.removesuffix(_NPY)}, image {row} (counted from 0)"


def label_blocks(path: str) -> Iterator[np.ndarray]:
    """Labels of an array file or member, int64 or object arrays of str."""
    where = path.removesuffix(_NPY) if ":" in path else path
    for block in read_rows(path):
        yield as_labels(where, block)


def open_arrays(path: pathlib.Path, split: str, given_labels: bool = False) -> ArrayReader | None:
    """A reader of an IDX, .npy or .npz file or member; None if it is another kind of file.

    Labels are those of the same .npz, or of a file beside it that is named alike; none if `given_labels`, since they
    then come from elsewhere. The arrays of an .npz are those whose names go with `split`, or the one of FILE:KEY.

    Raises:
        InputError: the array is corrupt or not of images, or none in an .npz is known to be the split's.
    """
    file, member = split_member(path)
    if (keys := _npz_keys(file)) is not None:
        return _open_npz(file, keys, member, split, given_labels)
    head = first_bytes(path)
    if not is_idx(head) and not head.startswith(NPY_MAGIC):
        return None
    header = read_header(path)
    if len(header.shape) == 1:
        raise InputError(
            f"{path}: an array of {header.text}, so labels rather than images; give the file of the images"
        )
    beside = None if given_labels else _labels_beside(path)
    notes = () if beside is None else (f"{path}: labels from {beside.name}",)
    return ArrayReader(path, str(path), None if beside is None else labels_path(beside), notes)


def labels_path(path: pathlib.Path) -> str | None:
    """An array file of labels as a path for `label_blocks`: itself, or the only array of an .npz; None for other kinds.

    Raises:
        InputError: an .npz has several arrays, or not the one of FILE:KEY.
    """
    file, member = split_member(path)
    keys = _npz_keys(file)
    if keys is None:
        head = first_bytes(path)
        return str(path) if is_idx(head) or head.startswith(NPY_MAGIC) else None
    key = keys[0] if member is None and len(keys) == 1 else (member or "").removesuffix(_NPY)
    if key not in keys:
        raise InputError(f"{path}: which array has the labels? it holds {list_few(keys, 12)}; give {file}:{keys[0]}")
    return _member(file, key)


def _npz_keys(file: pathlib.Path) -> list[str] | None:
    """Names of the arrays in an .npz; None if the file is not one."""
    with open_stream(file) as stream:
        if not stream.read(4).startswith(ZIP_STARTS):
            return None
    names = zip_names(file)
    return [name.removesuffix(_NPY) for name in names] if names and all(name.endswith(_NPY) for name in names) else None


def _labels_beside(path: pathlib.Path) -> pathlib.Path | None:
    """The file of labels by its name: train-images-idx3-ubyte and train-labels-idx1-ubyte, x_train and y_train."""
    plain = path.name.removesuffix(".gz")
    for images, labels in _ROLES:
        for name in _renamed(plain, images, labels):
            for candidate in (name, re.sub(r"idx\d", "idx1", name)):
                for suffix in ("", ".gz"):
                    if candidate != plain and (beside := path.with_name(candidate + suffix)).is_file():
                        return beside
    return None


def _renamed(name: str, old: str, new: str) -> Iterator[str]:
    """A name with one of its words in place of another, in lower and upper case; a letter is a word at the start."""
    pairs = ((old, new), (old.upper(), new.upper()), (old.upper(), new), (old.capitalize(), new.capitalize()))
    for before, after in pairs:
        pattern = rf"(?<![A-Za-z]){before}(?![A-Za-z])"
        if re.search(pattern, name):
            yield re.sub(pattern, after, name, count=1)


def _open_npz(path: pathlib.Path, keys: Sequence[str], key: str | None, split: str, given_labels: bool) -> ArrayReader:
    headers: dict[str, Header | None] = {name: _header(path, name) for name in keys}
    images, labels = _choose(path, split, headers) if key is None else _pair(path, key.removesuffix(_NPY), headers)
    labels = None if given_labels else labels
    beside = None if labels or given_labels else _labels_beside(path)
    source = _member(path, labels) if labels else labels_path(beside) if beside else None
    note = f"{path}: split {split!r}: images from array {images}"
    if source is not None:
        note += f", labels from {beside.name if beside else f'array {labels}'}"
    return ArrayReader(path, _member(path, images), source, () if key else (note,))


def _member(path: pathlib.Path, key: str) -> str:
    return f"{path}:{key}{_NPY}"


def _header(path: pathlib.Path, key: str) -> Header | None:
    """None for an array that is not to be read, which is no error unless it is chosen."""
    try:
        return read_header(_member(path, key))
    except InputError:
        return None


def _may_be_images(header: Header | None) -> bool:
    return header is not None and header.dtype.kind in "biuf" and 2 <= len(header.shape) <= 4


def _choose(path: pathlib.Path, split: str, headers: Mapping[str, Header | None]) -> tuple[str, str | None]:
    """The arrays with a split's images and labels; those without a split's name serve if there are no others."""
    by_lower: dict[str, str] = {key.lower(): key for key in reversed(list(headers))}
    names = _SPLITS.get(split, (split.lower(),))
    patterns = [pattern for name in names for pattern in (f"{{}}_{name}", f"{name}_{{}}", f"{{}}{name}")]
    of_others = any(name in key for key in by_lower for others in _SPLITS.values() for name in others)
    for pattern in [*patterns, *([] if of_others else ["{}"])]:
        for role, label in _KEYS:
            images = by_lower.get(pattern.format(role))
            if images is not None and _may_be_images(headers[images]):
                return images, by_lower.get(pattern.format(label)) or _other_label(pattern, by_lower)
    candidates = [key for key, header in headers.items() if _may_be_images(header)]
    raise InputError(
        f"{path}: no array is known to hold the images of split {split!r}; it holds {_list(headers)}; "
        + (f"choose one, such as {path}:{candidates[0]}" if candidates else "save the images as an array of numbers")
    )


def _other_label(pattern: str, by_lower: Mapping[str, str]) -> str | None:
    """Labels whose name does not go with that of the images, such as `data` and `y`."""
    names = (pattern.format(label) for _, label in _KEYS if label != "arr_1")
    return next((by_lower[name] for name in names if name in by_lower), None)


def _pair(path: pathlib.Path, key: str, headers: Mapping[str, Header | None]) -> tuple[str, str | None]:
    """An array by its name, and its labels if an array is named alike."""
    if key not in headers:
        raise InputError(f"{path}: no array {key!r}; it holds {_list(headers)}")
    for images, labels in _KEYS:
        name = next((name for name in _renamed(key, images, labels) if name in headers and name != key), None)
        if name is not None:
            return key, name
    return key, None


def _list(headers: Mapping[str, Header | None]) -> str:
    texts = [f"{key} ({header.text})" if header else f"{key} (not readable)" for key, header in headers.items()]
    return list_few(texts, 12) or "none"
