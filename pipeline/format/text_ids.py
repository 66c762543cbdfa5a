"""Ids that are text: a record keeps the number of its row, and the file SPLIT.ids.txt the text of every row.

A file has one id per line, in the order of the rows of the split as it was converted: rows of `val` that were drawn
from `train` have their ids in train's file. The manifest has the SHA-256 of each.
"""

import hashlib
import os
import pathlib
from collections.abc import Iterable

import numpy as np

from pipeline.errors import InputError
from pipeline.files import sha256_of
from pipeline.format.manifest import Manifest
from pipeline.remote import as_path, file_size
from pipeline.splits import VAL

# A name of a file, which is an id too, need not be text.
_ERRORS = "surrogateescape"


def file_name(split: str) -> str:
    """The file with the ids of a split."""
    return f"{split}.ids.txt"


def id_files(manifest: Manifest) -> dict[str, str]:
    """File name -> SHA-256, of all files of ids that a data set has."""
    return {file_name(split): sha256 for split, sha256 in (manifest.text_ids or {}).items()}


def write_text_ids(directory: pathlib.Path, split: str, ids: Iterable[str]) -> str:
    """Write the ids of all rows of a split; the file's SHA-256. No id may have a line break."""
    data = "".join(f"{row_id}\n" for row_id in ids).encode("utf-8", _ERRORS)
    (directory / file_name(split)).write_bytes(data)
    return hashlib.sha256(data).hexdigest()


def original_ids(directory: str | os.PathLike, manifest: Manifest, split: str, ids: np.ndarray) -> np.ndarray:
    """The ids as the sources had them, for ids int64 [n] of records of a split: object [n] of str, or the same numbers.

    Raises:
        InputError: the file of ids is missing or was changed.
    """
    texts = load_text_ids(directory, manifest, split)
    if texts is None:
        return ids
    if len(ids) and not 0 <= ids.min() <= ids.max() < len(texts):
        raise InputError(f"{directory}: {len(texts):,} ids of {split}, but a record has {ids.max()}; convert again")
    return texts[ids]


def load_text_ids(directory: str | os.PathLike, manifest: Manifest, split: str) -> np.ndarray | None:
    """Object [rows] of str: the texts that ids of a split's records are places in; None if its ids are numbers.

    Raises:
        InputError: the file of ids is missing or was changed.
    """
    rule, texts = manifest.validation, manifest.text_ids or {}
    source = rule.source if split == VAL and rule.fraction else split
    if source not in texts:
        return None
    path = as_path(directory) / file_name(source)
    problem = problem_of(path, texts[source])
    if problem is not None:
        raise InputError(f"{path}: {problem}; restore it from a copy, or convert again")
    return np.array(path.read_bytes().decode("utf-8", _ERRORS).split("\n")[:-1], object)


def problem_of(path: pathlib.Path, sha256: str) -> str | None:
    """Why a file of ids is not as it was written; None if it is."""
    if file_size(path) is None:
        return "a directory has its name" if path.is_dir() else "missing, though the manifest lists it"
    return None if sha256_of(path) == sha256 else "changed since it was written"
