"""The audit as part of a conversion: its options, and what runs before the data set is published."""

import dataclasses
import pathlib
from typing import TYPE_CHECKING

from pipeline.cli import setting
from pipeline.errors import InputError
from pipeline.files import check_output_file

if TYPE_CHECKING:
    from pipeline.format.manifest import Manifest

_GROUP = "audit of what was converted"


@dataclasses.dataclass(frozen=True)
class AuditOptions:
    """Whether and how a conversion looks for duplicates, leaks and drift.

    Raises:
        InputError: two options exclude each other, or the file of details cannot be written.
    """

    audit: bool = setting(True, "do not look for duplicates and differences", flag="--no-audit", group=_GROUP)
    near_duplicates: bool = setting(False, "also look for rows that nearly equal one of train", group=_GROUP)
    details: pathlib.Path | None = setting(None, "a CSV to write: the rows concerned", metavar="FILE", group=_GROUP)
    refuse_leaks: bool = setting(False, "write nothing if two splits have an image in common", group=_GROUP)

    def __post_init__(self) -> None:
        if not self.audit and (self.near_duplicates or self.details or self.refuse_leaks):
            raise InputError("--no-audit excludes --near-duplicates, --details and --refuse-leaks; omit it")
        if self.details is not None:
            check_output_file(self.details)


class ConversionAudit:
    """A function of a complete but unpublished data set, which then has `lines` to print.

    Raises:
        InputError: when it is called, if leaks are to be refused and there is one.
    """

    def __init__(self, options: AuditOptions) -> None:
        self._options = options
        self.lines: list[str] = []

    def __call__(self, directory: pathlib.Path, manifest: "Manifest") -> None:
        if not self._options.audit:
            return
        from pipeline.data_audit.audit import audit  # after parsing, so that --help does not wait for NumPy

        result = audit(directory, manifest, self._options.near_duplicates)
        self.lines = result.lines()
        if self._options.details is not None:
            result.write_details(self._options.details)
        if self._options.refuse_leaks:
            result.check_leaks()
