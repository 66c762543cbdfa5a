"""Ids that are text, from the files of a conversion into the files beside the shards."""

import itertools
import pathlib
from collections.abc import Mapping, Sequence

from pipeline.convert.plan import Plan
from pipeline.convert.source import SourceFile, changed_error
from pipeline.errors import InputError, shorten
from pipeline.format import text_ids


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
                option = getattr(getattr(file, "reader", file), "id_option", "--id-column")
                raise InputError(
                    f"{here}: id {shorten(row_id)} is a duplicate, also used on {there}; if these are not ids, "
                    f"give {option} none"
                )
    are_text = [stop > start for start, stop in itertools.pairwise([*starts, len(rows)])]
    if len(set(are_text)) > 1:
        text, number = (files[are_text.index(kind)].path for kind in (True, False))
        raise InputError(f"{number}: its ids are numbers, but those of {text} are text; give --text-column for the ids")
    return rows


def _place(files: Sequence[SourceFile], starts: Sequence[int], row: int) -> str:
    """How messages name a row of the split, which is of the last file whose start is not after it."""
    number = max(k for k, start in enumerate(starts) if start <= row)
    return files[number].place_of(row - starts[number])
