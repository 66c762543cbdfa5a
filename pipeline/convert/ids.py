"""Ids of a conversion's rows: none occurs twice in a split, and those that are text go into files beside the shards."""

import functools
import itertools
import operator
import pathlib
from collections.abc import Mapping, Sequence

import numpy as np

from pipeline.convert.plan import Plan
from pipeline.convert.source import SourceFile, changed_error
from pipeline.convert.table import Reader, TableFile
from pipeline.convert.task import TaskResult
from pipeline.errors import InputError, shorten
from pipeline.format import text_ids
from pipeline.remote import file_bytes


def write_text_ids(plan: Plan, inputs: Mapping[str, Sequence[SourceFile]], directory: pathlib.Path) -> dict[str, str]:
    """Write the ids of each input split whose ids are text; its name -> SHA-256 of the file.

    Raises:
        InputError: an id occurs twice in a split or has a line break, or only some files of a split have text as ids.
    """
    hashes = {}
    for split, files in inputs.items():
        ids = _distinct_ids(files)
        if ids and len(ids) != sum(task.num_rows for task in plan.tasks if task.split == split):
            raise changed_error(files[0].path)
        if ids:
            hashes[split] = text_ids.write_text_ids(directory, split, ids)
    return hashes


def check_ids(
    plan: Plan, inputs: Mapping[str, Sequence[SourceFile]], results: Sequence[TaskResult], directory: pathlib.Path
) -> None:
    """Raise InputError for an id, a number, that occurs twice in an input split."""
    layout = plan.rules.layout
    for split, files in inputs.items():
        of_split = [result for task, result in zip(plan.tasks, results, strict=True) if task.split == split]
        # The usual case: ascending ids are distinct, so no shard needs to be read.
        if functools.reduce(operator.add, (result.ids for result in of_split)).increasing:
            continue
        ids = []
        for shard in (shard for result in of_split for shard in result.all_shards):
            ids.append(layout.decode(file_bytes(directory / shard.name).reshape(-1, layout.stride))[2])
        values, counts = np.unique(np.concatenate(ids), return_counts=True)
        if (counts > 1).any():
            raise _duplicate_error(files, values[counts > 1])


def _duplicate_error(files: Sequence[SourceFile], values: np.ndarray) -> InputError:
    """The error for the first row whose id, one of `values`, an earlier row has."""
    # Reading everything again for this rare error is cheaper than keeping the place of every id.
    seen: dict[int, tuple[SourceFile, int]] = {}
    for file in files:
        first = 0
        for block in file.read(file.first_row, None):
            rows = file.parse(block)
            ids = np.empty(0, np.int64) if rows.ids is None else rows.ids
            for row in np.flatnonzero(np.isin(ids, values)).tolist():
                place, value = (file, first + row), int(ids[row])
                if value in seen:
                    here, there = (source.place_of(number) for source, number in (place, seen[value]))
                    return duplicate_id(value, here, there, _option(file))
                seen[value] = place
            first += len(rows.images)
    return changed_error(files[0].path)  # the shards have a duplicate, the files no longer do


def duplicate_id(row_id: object, here: str, there: str, option: str = "--id-column") -> InputError:
    """The error for an id that two rows have, at these places."""
    return InputError(
        f"{here}: id {shorten(row_id)} is a duplicate, also used on {there}; if these are not ids, give {option} none"
    )


def _option(file: SourceFile) -> str:
    """The option that chooses a file's ids."""
    return file.reader.id_option if isinstance(file, TableFile) else Reader.id_option


def _distinct_ids(files: Sequence[SourceFile]) -> dict[str, int]:
    """Id -> row of the split, in the order of the rows; empty if ids are numbers."""
    rows: dict[str, int] = {}
    starts: list[int] = []
    for file in files:
        starts.append(len(rows))
        for row_id in itertools.chain.from_iterable(block.tolist() for block in file.text_ids()):
            row = len(rows)
            first = rows.setdefault(row_id, row)
            if not row_id or "\n" in row_id or "\r" in row_id:
                raise InputError(f"{_place(files, starts, row)}: id {shorten(row_id)} is empty or has a line break")
            if first != row:
                here, there = _place(files, starts, row), _place(files, starts, first)
                raise duplicate_id(row_id, here, there, _option(file))
    are_text = [stop > start for start, stop in itertools.pairwise([*starts, len(rows)])]
    if len(set(are_text)) > 1:
        text, number = (files[are_text.index(kind)].path for kind in (True, False))
        raise InputError(f"{number}: its ids are numbers, but those of {text} are text; give --text-column for the ids")
    return rows


def _place(files: Sequence[SourceFile], starts: Sequence[int], row: int) -> str:
    """How messages name a row of the split, which is of the last file whose start is not after it."""
    number = max(k for k, start in enumerate(starts) if start <= row)
    return files[number].place_of(row - starts[number])
