"""Readers of files and folders that are not CSVs of pixels; `find_reader` chooses one by the content."""

import pathlib
from collections.abc import Iterator

import numpy as np

from pipeline.convert.compressed import first_bytes, split_member
from pipeline.convert.kinds import refuse_unreadable
from pipeline.convert.read_options import ReadOptions
from pipeline.convert.readers.image_list import is_list, open_list, refuse_without_pixels
from pipeline.convert.source import identify
from pipeline.convert.table import Reader
from pipeline.errors import InputError
from pipeline.remote import is_remote, open_stream
from pipeline.splits import TRAIN

_PARQUET_MAGIC = b"PAR1"


def find_reader(
    path: pathlib.Path,
    options: ReadOptions,
    split: str = TRAIN,
    given_labels: bool = False,
    split_column: str | None = None,
) -> Reader | None:
    """The reader of a file, a folder, or FILE:MEMBER; None for the text of a table, so a CSV.

    Args:
        path: what to read.
        options: how.
        split: whose arrays to take from an .npz, and whose folder of images.
        given_labels: the labels come from a file of their own, so none is looked for.
        split_column: the column of a list of image files that names their splits.

    Raises:
        InputError: the file is missing, corrupt, or of a kind that is not read; the line says which and what to do.
    """
    # Modules are imported when a file needs them: a CSV does not wait for Pillow or pyarrow.
    file, member = split_member(path)
    if not is_remote(file) and file.is_dir():
        from pipeline.convert.readers.image_files import open_folder

        return open_folder(file, options)
    identify(file)
    with open_stream(file) as stream:
        start = stream.read(len(_PARQUET_MAGIC))
    if start.startswith(_PARQUET_MAGIC):
        from pipeline.convert.readers.parquet import ParquetReader

        return ParquetReader(file, member, options)
    from pipeline.convert.readers.arrays import open_arrays

    return open_arrays(path, split, given_labels) or _find_text(path, options, split, split_column)


def find_labels(path: pathlib.Path) -> Iterator[np.ndarray] | None:
    """Labels in blocks, int64 or object arrays of str, of an IDX, .npy or .npz file; None for a text.

    Raises:
        InputError: the file is missing, corrupt, or of a kind that is not read.
    """
    from pipeline.convert.readers.arrays import label_blocks, labels_path

    identify(path)
    source = labels_path(path)
    return None if source is None else label_blocks(source)


def _find_text(path: pathlib.Path, options: ReadOptions, split: str, split_column: str | None) -> Reader | None:
    head = first_bytes(path)
    refuse_unreadable(path, head)
    if is_list(path, head, options):
        if is_remote(path):
            raise InputError(f"{path}: lists image files, which are read from local folders only; copy both here first")
        return open_list(path, options, split, split_column)
    refuse_without_pixels(path, head)
    return None
