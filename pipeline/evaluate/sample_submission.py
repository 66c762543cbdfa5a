"""The form of a submission: its header, ids and order, as given or as a sample submission has them."""

import csv
import dataclasses
import io
import pathlib
from collections.abc import Iterable, Iterator, Sequence

import numpy as np

from pipeline.convert.compressed import open_text
from pipeline.convert.csv.columns import ID_NAMES
from pipeline.convert.second_labels import without_suffixes
from pipeline.errors import InputError, shorten
from pipeline.evaluate.sources import Source


@dataclasses.dataclass(frozen=True)
class Sample:
    """A sample submission: the header, which column has the ids, and the ids with the line of each.

    `numbers` is int64 [n] if all ids are whole numbers, otherwise None.
    """

    path: pathlib.Path
    header: tuple[str, str]
    id_column: int
    ids: tuple[str, ...]
    lines: tuple[int, ...]
    numbers: np.ndarray | None

    def rows(self, ids: np.ndarray) -> np.ndarray:
        """int64 [n]: the row of each line, by the ids [n] of rows, which are distinct.

        Raises:
            InputError: an id of the sample is not among them, or one of them is not in the sample.
        """
        wanted = self._keys(ids)
        places = {row_id: row for row, row_id in enumerate(ids.tolist())}
        bare = tuple(without_suffixes(self.ids))
        if places.keys().isdisjoint(wanted) and len(set(bare)) == len(bare):
            wanted = dataclasses.replace(self, ids=bare, numbers=_numbers(bare))._keys(ids)
        missing = [line for line, row_id in enumerate(wanted) if row_id not in places]
        if missing:
            kind = "" if ids.dtype == object or self.numbers is not None else ", whose ids are numbers"
            raise InputError(
                f"{self.path}, line {self.lines[missing[0]]}: id {shorten(self.ids[missing[0]])} is not among the "
                f"{len(ids):,} rows to predict{kind} ({len(missing):,} in all); give the sample of these rows"
            )
        if len(places) > len(wanted):
            listed = set(wanted)
            extra = next(row_id for row_id in ids.tolist() if row_id not in listed)
            raise InputError(
                f"{self.path}: lacks {len(places) - len(wanted):,} of the {len(places):,} rows to predict, such as id "
                f"{shorten(extra)}; give the sample of these rows"
            )
        return np.array([places[row_id] for row_id in wanted], np.int64)

    def _keys(self, ids: np.ndarray) -> Sequence:
        """The ids of the sample as those of rows are: texts or numbers."""
        return self.ids if ids.dtype == object or self.numbers is None else self.numbers.tolist()

    def lines_of(self, labels: Iterable[str]) -> Iterator[tuple[str, str]]:
        """The cells of each line, with labels in the order of the sample."""
        for pair in zip(self.ids, labels, strict=True):
            yield pair if self.id_column == 0 else pair[::-1]


@dataclasses.dataclass(frozen=True)
class Form:
    """How a submission names rows: header, number of the first row if rows have no ids, or all as in a sample.

    Raises:
        InputError: two of them exclude each other.
    """

    columns: tuple[str, str] | None = None
    first_id: int | None = None
    sample: Sample | None = None

    def __post_init__(self) -> None:
        if self.sample is not None and (self.columns or self.first_id is not None):
            raise InputError("--like gives header and ids, so omit --columns and --first-id")

    @property
    def header(self) -> tuple[str, str]:
        if self.sample is not None:
            return self.sample.header
        return self.columns or ("id", "label")

    def offset(self, source: Source) -> int:
        """What to add to the numbers of rows without ids.

        Raises:
            InputError: the first id is given, but rows have ids; or the sample's ids are not numbers, and rows have no
                ids.
        """
        if self.first_id is not None and not source.numbered:
            raise InputError(f"--first-id {self.first_id}: the rows of {source.name} have ids of their own; omit it")
        if self.sample is None or not source.numbered:
            return self.first_id or 0
        if self.sample.numbers is None:
            raise InputError(
                f"{self.sample.path}, line {self.sample.lines[0]}: id {shorten(self.sample.ids[0])} is text, but the "
                f"rows of {source.name} have no ids; name their column with --id-column, or convert them with it"
            )
        return int(self.sample.numbers.min())


def read_sample(path: pathlib.Path) -> Sample:
    """Read a sample submission, plain or compressed: a header and two columns, the ids and any labels.

    Raises:
        InputError: it is missing, has other columns, no header, no rows, or an id twice.
    """
    with open_text(path) as (stream, _), io.TextIOWrapper(io.BufferedReader(stream), "utf-8-sig", newline="") as text:
        reader = csv.reader(text)
        try:
            rows = [(reader.line_num, [cell.strip() for cell in row]) for row in reader if any(row)]
        except (csv.Error, UnicodeDecodeError) as error:
            raise InputError(f"{path}: not a CSV in UTF-8 ({error})") from error
    if len(rows) < 2:
        raise InputError(f"{path}: has no rows; a sample submission has a header and a line per id")
    wrong = next(((line, row) for line, row in rows if len(row) != 2), None)
    if wrong is not None:
        advice = "; --probabilities writes a column per class" if len(wrong[1]) > 2 else ""
        raise InputError(f"{path}, line {wrong[0]}: {len(wrong[1])} columns, expected an id and a label{advice}")
    header = tuple(rows[0][1])
    if all(cell.lstrip("-").isdecimal() for cell in header):
        raise InputError(f"{path}: its first line is not a header; give one with --columns ID LABEL instead of --like")
    id_column = 1 if header[1].lower() in ID_NAMES and header[0].lower() not in ID_NAMES else 0
    ids, lines = [row[id_column] for _, row in rows[1:]], [line for line, _ in rows[1:]]
    first: dict[str, int] = {}
    for line, row_id in zip(lines, ids, strict=True):
        if first.setdefault(row_id, line) != line:
            raise InputError(f"{path}, line {line}: id {shorten(row_id)} is a duplicate, also on line {first[row_id]}")
    return Sample(path, (header[0], header[1]), id_column, tuple(ids), tuple(lines), _numbers(ids))


def _numbers(ids: Sequence[str]) -> np.ndarray | None:
    # Eighteen digits fit into 64 bits.
    if not all(row_id.isascii() and row_id.isdecimal() and len(row_id) <= 18 for row_id in ids):
        return None
    numbers = np.array([int(row_id) for row_id in ids], np.int64)
    return numbers if len(set(numbers.tolist())) == len(ids) else None
