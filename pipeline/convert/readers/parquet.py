"""Parquet files as the Hugging Face hub has them (encoded images and labels), and tables of pixels, through pyarrow."""

import json
import pathlib
from collections.abc import Iterator
from typing import Any

import numpy as np

from pipeline.convert.csv.columns import ID_NAMES, LABEL_NAMES, NONE, find_columns, named_column
from pipeline.convert.read_options import ReadOptions
from pipeline.convert.readers.column_reader import Block, ColumnReader
from pipeline.convert.readers.labels import as_labels, as_names
from pipeline.convert.readers.pictures import gray_notes, read_picture, read_pictures
from pipeline.errors import InputError, list_few
from pipeline.remote import is_remote, open_stream

_BATCH = 1024
_IMAGE_NAMES = ("image", "img", "picture", "image_bytes", "jpg", "png")


class ParquetReader(ColumnReader):
    """The rows of one Parquet file: a column of encoded images, one of lists of pixels, or a column per pixel.

    `column` is that of the images, None to find it.

    Raises:
        InputError: pyarrow is not installed, the file is corrupt, or its columns are not images.
    """

    def __init__(self, path: pathlib.Path, column: str | None, options: ReadOptions) -> None:
        self.path, self.part, self._options = path, column, options
        if options.one_hot_labels is not None:
            raise InputError(f"{path}: --one-hot-labels is for text; write the label into one column, or as a CSV")
        schema = _open(path).schema_arrow
        names, features = [name for name in schema.names if name not in options.drop_column], _features(schema)
        declared = tuple(name.lower() for name, feature in features.items() if feature.get("_type") == "ClassLabel")
        self._label = _role(path, "label", options.label_column, LABEL_NAMES, names) or _role(
            path, "label", options.label_column, declared, names
        )
        self._id = _role(path, "id", options.id_column, ID_NAMES, names)
        used = (self._label, self._id, *options.drop_column)
        self._image, self.notes = _image_column(path, column, schema, features, used)
        self.is_encoded = self._image is not None and _is_encoded(schema.field(self._image).type)
        label = features.get(self._label or "", {})
        self.class_names = tuple(label["names"]) if label.get("names") else None
        self._drop_hidden_labels()
        self.label_advice = f"choose their column with --label-column: {list_few(names, 8)}; or give a file"
        self._images = [self._image] if self._image is not None else self._find_pixels(names)
        if self.is_encoded:
            first = read_picture(*next(self._pictures(next(self._numbered(self._image)))), options)
            height, width, channels = first.shape
            self.image_shape, self.notes = (height, width, channels), self.notes + gray_notes(first, options)

    def place_of(self, row: int) -> str:
        """How messages name a row."""
        return f"{self.path}, row {row} (counted from 0)"

    def _read(self, names: list[str]) -> Iterator[Any]:
        import pyarrow

        try:
            yield from _open(self.path).iter_batches(_BATCH, columns=names)
        except (pyarrow.ArrowException, OSError, UnicodeDecodeError) as error:
            raise _corrupt(self.path) from error

    def _find_pixels(self, names: list[str]) -> list[str]:
        """Names of the columns with a pixel each."""
        columns = find_columns(
            str(self.path), names, True, NONE if self._label is None else self._label, self._id or NONE
        )
        return list(columns.pixel_names or ())

    def _num_rows(self) -> int:
        return _open(self.path).metadata.num_rows

    def _column(self, block: Block, name: str) -> np.ndarray:
        return as_labels(f"{self.path}, column {name}", _to_numpy(self._complete(block, name)))

    def _values(self, block: Block) -> np.ndarray:
        if self.image_shape is not None:
            return read_pictures(self._pictures(block), self.image_shape, self.place_of(0), self._options)
        if self._image is None:
            columns = [_to_numpy(self._complete(block, name)) for name in self._images]
            return self._numeric(np.stack(columns, axis=1))
        return self._from_lists(self._complete(block, self._image))

    def _from_lists(self, column: Any) -> np.ndarray:
        """[n, ...] of a column of lists, or of lists of lists, all of one length."""
        shape = [len(column)]
        column = getattr(column, "storage", column)  # of an extension type, such as the hub's Array2D
        while hasattr(column, "flatten") and _is_list(column.type):
            flat = column.flatten()
            if not len(column) or len(flat) % len(column) or not _even(column, len(flat) // len(column)):
                raise InputError(
                    f"{self.path}, column {self._image}: lists of unequal lengths; all images need one size"
                )
            shape.append(len(flat) // len(column))
            column = flat
        return self._numeric(_to_numpy(column).reshape(shape))

    def _numeric(self, values: np.ndarray) -> np.ndarray:
        if values.dtype.kind not in "biuf":
            columns = list_few(self._images, 3)
            raise InputError(
                f"{self.path}: column {columns} has texts, not pixels; give --drop-column for what is not the image, "
                "or write a CSV of file names and labels if these are paths"
            )
        return values

    def _pictures(self, block: Block) -> Iterator[tuple[str, bytes]]:
        column = block.rows.column(self._image)
        data = column.field("bytes") if hasattr(column, "field") else column
        for row, value in enumerate(data.to_pylist(), block.start):
            if not value:
                raise InputError(
                    f"{self.place_of(row)}: no image in column {self._image!r}, at most a path to one; write paths and "
                    "labels as a CSV of file names and labels, and give that"
                )
            yield self.place_of(row), value

    def _complete(self, block: Block, name: str) -> Any:
        """A column that has a value in every row."""
        column = block.rows.column(name)
        if column.null_count:
            row = block.start + int(np.flatnonzero(column.is_null().to_numpy(zero_copy_only=False))[0])
            raise InputError(f"{self.place_of(row)}: column {name} has no value; remove the row, or fill it in")
        return column


def _open(path: pathlib.Path) -> Any:
    try:
        import pyarrow
        from pyarrow import parquet
    except ImportError as error:
        raise InputError(f"{path}: a Parquet file, which needs pyarrow; run: python -m pip install pyarrow") from error
    try:
        file = parquet.ParquetFile(open_stream(path) if is_remote(path) else path, page_checksum_verification=True)
        file.schema_arrow.names  # noqa: B018, decodes them
        return file
    except (pyarrow.ArrowException, OSError, UnicodeDecodeError) as error:
        raise _corrupt(path) from error


def _corrupt(path: pathlib.Path) -> InputError:
    return InputError(f"{path}: corrupt or truncated Parquet file; get it again")


def _features(schema: Any) -> dict[str, dict]:
    """Column -> what the hub's `datasets` library says of it, kept in the file's metadata."""
    try:
        features = json.loads((schema.metadata or {})[b"huggingface"])["info"]["features"]
        return {name: feature for name, feature in features.items() if isinstance(feature, dict)}
    except (KeyError, TypeError, ValueError, AttributeError):
        return {}


def _role(path: pathlib.Path, role: str, given: str | None, known: tuple[str, ...], names: list[str]) -> str | None:
    """The column of a role: as given, or by its usual names."""
    if given is not None:
        return named_column(path, role, given, names)
    found = [name for name in names if name.lower() in known]
    if len(found) > 1:
        raise InputError(f"{path}: columns {list_few(found, 5)} could each be the {role}; choose with --{role}-column")
    return found[0] if found else None


def _image_column(
    path: pathlib.Path, given: str | None, schema: Any, features: dict[str, dict], others: tuple
) -> tuple[str | None, tuple[str, ...]]:
    """The column of encoded images or lists of pixels, None if pixels have columns of their own; and what to report."""
    if given is not None:
        if given not in schema.names:
            raise InputError(f"{path}: no column {given!r}; it has {list_few(schema.names, 8)}")
        return given, ()
    wide = [
        field.name for field in schema if field.name not in others and (_is_encoded(field.type) or _is_list(field.type))
    ]
    named = [name for name in wide if features.get(name, {}).get("_type") == "Image" or name.lower() in _IMAGE_NAMES]
    found = named or wide
    if len(found) > 1:
        raise InputError(f"{path}: columns {list_few(found, 5)} could each be the image; choose one, {path}:{found[0]}")
    ignored = [name for name in wide if name not in found]
    note = f"{path}: images are in column {found[0]}, not {list_few(ignored, 3)}" if ignored else ""
    return (found[0] if found else None), ((f"{note}; choose with {path}:COLUMN",) if note else ())


def _is_encoded(kind: Any) -> bool:
    from pyarrow import types

    if types.is_struct(kind):
        return kind.get_field_index("bytes") >= 0
    return types.is_binary(kind) or types.is_large_binary(kind)


def _is_list(kind: Any) -> bool:
    from pyarrow import types

    kind = getattr(kind, "storage_type", kind)
    return types.is_list(kind) or types.is_large_list(kind) or types.is_fixed_size_list(kind)


def _even(column: Any, length: int) -> bool:
    from pyarrow import compute

    return compute.all(compute.equal(compute.list_value_length(column), length)).as_py()


def _to_numpy(column: Any) -> np.ndarray:
    values = column.to_numpy(zero_copy_only=False)
    return as_names([str(value) for value in values]).astype(str) if values.dtype == object else values
