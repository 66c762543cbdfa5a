"""Invalid input by the thousand: hypothesis strategies for CSVs, shards and manifests, and a check of the outcome."""

import bz2
import contextlib
import copy
import csv
import gzip
import hashlib
import io
import json
import lzma
import pathlib
import resource
import signal
import zipfile
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import hypothesis.strategies as st
import msgspec
from backports import zstd

from pipeline.cli import EXIT_BAD_INPUT, run_command

SECONDS = 60  # no small input takes a hundredth of that
MEMORY_BYTES = 1 << 30  # beyond what the process has; the inputs are some kilobytes
_LONGEST_LINE = 500


@contextlib.contextmanager
def bounded() -> Iterator[None]:
    """A hang becomes a TimeoutError, and memory beyond the budget a MemoryError."""

    def late(signum: int, frame: Any) -> None:
        raise TimeoutError(f"still running after {SECONDS} s")

    limits = resource.getrlimit(resource.RLIMIT_AS)
    statm = pathlib.Path("/proc/self/statm")
    if statm.exists():  # Linux; elsewhere only time is bounded
        used = int(statm.read_text().split()[0]) * resource.getpagesize()
        resource.setrlimit(resource.RLIMIT_AS, (used + MEMORY_BYTES, limits[1]))
    before = signal.signal(signal.SIGALRM, late)
    signal.alarm(SECONDS)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)
        resource.setrlimit(resource.RLIMIT_AS, limits)


def run(main: Callable[[Sequence[str] | None], int | None], argv: Sequence[str]) -> int:
    """Exit code of a command, run as `run_command` runs it; with 2 it must print one error on stderr, else none.

    Any other exception than InputError passes and fails the test.
    """
    error = io.TextIOWrapper(io.BytesIO(), encoding="utf-8")
    before = signal.getsignal(signal.SIGTERM)
    try:
        with bounded(), contextlib.redirect_stderr(error), contextlib.redirect_stdout(io.TextIOWrapper(io.BytesIO())):
            run_command(lambda _: main(argv))
    except SystemExit as end:
        code = end.code or 0
    finally:
        signal.signal(signal.SIGTERM, before)
    error.seek(0)
    lines = error.read().splitlines()
    expected = 1 if code == EXIT_BAD_INPUT else 0
    assert sum(line.startswith("error: ") for line in lines) == expected, lines  # the others say what was guessed
    assert all(len(line) < _LONGEST_LINE for line in lines), lines
    assert code in (0, 1, EXIT_BAD_INPUT)
    return code


# CSVs

_ROWS = b"".join(b"%d,%d,%d,%d,%d\n" % (k % 3, k, 255 - k, k * 7 % 256, 9) for k in range(12))
_CSVS = st.sampled_from(
    [
        b"label,p0,p1,p2,p3\n" + _ROWS,
        b"id,p0,p1,p2,p3\n" + b"".join(b"%d,1,2,3,%d\n" % (100 + k, k) for k in range(12)),
        b"label,1x1,1x2,2x1,2x2\r\n" + _ROWS.replace(b"\n", b"\r\n"),
        b'"label","p0","p1","p2","p3"\n' + _ROWS.replace(b"255", b'"255"'),
    ]
)
# fmt: off
_SCRAPS = st.one_of(
    st.sampled_from([
        b"\0", b'"', b"'", b",", b"\n", b"\r", b"\r\n", b"\n\n", b" ", b" " * 40 + b"\n", b"\t", b";", b"-1", b"+1",
        b"256", b"1e3", b"0x1", b"1.0", b"nan", b"\xff", b"\xfe\xff", b"\xef\xbb\xbf", b"\xc3\xa9", b"\xd9\xa3",
        b"\x1a", b"label", b"9" * 19, b"9" * 5000, b"0" * 50, b"," * 3000, b"x" * 300_000, b"\n" * 5000,
        b'"' * 1001, b"1," * 70_000,
    ]),
    st.binary(min_size=1, max_size=6),
)
# fmt: on


def _zip(data: bytes, method: int) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", method) as archive:
        archive.writestr(zipfile.ZipInfo("a.csv"), data, method)
    return file.getvalue()


_PACKERS: dict[str, Callable[[bytes], bytes]] = {
    "plain": bytes,
    "gz": lambda data: gzip.compress(data, mtime=0),
    "zip": lambda data: _zip(data, zipfile.ZIP_DEFLATED),
    "stored": lambda data: _zip(data, zipfile.ZIP_STORED),
    "bz2": bz2.compress,
    "xz": lzma.compress,
    "zst": lambda data: zstd.compress(data, options={zstd.CompressionParameter.checksum_flag: 1}),
}


@st.composite
def invalid_csvs(draw) -> bytes:
    """A file: a valid CSV with some mistakes, plain or packed, and then perhaps corrupt as a whole."""
    data = draw(_CSVS)
    for _ in range(draw(st.integers(1, 3))):
        data = draw(st.one_of(mutated(data), _mutated_lines(data)))
    packing = draw(st.sampled_from(["plain", *_PACKERS]))
    data = _PACKERS[packing](data)
    return draw(mutated(data)) if packing != "plain" and draw(st.booleans()) else data


@st.composite
def mutated(draw, data: bytes) -> bytes:
    """Bytes with one change: cut, a bit flipped, a scrap put in or in place of some, some bytes lost or doubled."""
    at = draw(st.integers(0, max(len(data) - 1, 0)))
    end = min(len(data), at + draw(st.integers(1, 40)))
    kind = draw(st.sampled_from(["cut", "flip", "insert", "replace", "lose", "double", "zeros"]))
    if kind == "flip" and data:
        return data[:at] + bytes([data[at] ^ 1 << draw(st.integers(0, 7))]) + data[at + 1 :]
    scrap = {"cut": None, "lose": b"", "double": data[at:end] * 2, "zeros": bytes(end - at)}.get(kind, b"?")
    if scrap is None:
        return data[:at]
    if scrap == b"?" or kind in ("insert", "replace"):
        scrap = draw(_SCRAPS)
    return data[:at] + scrap + data[at if kind == "insert" else end :]


@st.composite
def _mutated_lines(draw, data: bytes) -> bytes:
    """Lines lost, doubled or blank, which may leave a valid CSV."""
    lines = data.splitlines(keepends=True) or [b""]
    at = draw(st.integers(0, len(lines) - 1))
    lines[at : at + 1] = draw(st.sampled_from([[], lines[at : at + 1] * 2, [b"\n", lines[at]], [lines[at], b" \n"]]))
    return b"".join(lines)


def read_plainly(data: bytes) -> list[list[str]]:
    """The fields of each line of a CSV that was accepted, by other means than the converter's."""
    if data.startswith(b"PK"):
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            data = archive.read(next(name for name in archive.namelist() if name.lower().endswith(".csv")))
    for magic, module in ((b"\x1f\x8b", gzip), (b"BZh", bz2), (b"\xfd7zXZ", lzma), (b"\x28\xb5\x2f\xfd", zstd)):
        if data.startswith(magic):
            data = module.decompress(data)
    lines = data.removeprefix(b"\xef\xbb\xbf").decode().replace("\r\n", "\n").removesuffix("\r").split("\n")
    return list(csv.reader(line for line in lines if line.strip()))


# Other tables of text

_CELLS = [[k % 3, k, 255 - k, k * 7 % 256, 9] for k in range(12)]


def _table(header: str, rows: Sequence[Sequence[Any]], separator: str = ",") -> bytes:
    lines = [header.split(","), *rows]
    return "".join(separator.join(map(str, line)) + "\n" for line in lines).encode()


_FER_ROWS = [[row[0], " ".join(map(str, row[1:])), ("Training", "PublicTest")[row[1] % 2]] for row in _CELLS]
_ONE_HOT_ROWS = [[*row[1:], *(int(row[0] == k) for k in range(3))] for row in _CELLS]
_TABLES: list[tuple[bytes, list[str]]] = [
    (_table("label,p0,p1,p2,p3", _CELLS, ";"), []),
    (_table("label,p0,p1,p2,p3", _CELLS, "\t"), ["--pixel-range", "0", "255"]),
    (_table("id,label,p0,p1,p2,p3", [[f"i{row[1]}", "abc"[row[0]], *row[1:]] for row in _CELLS]), []),
    (_table("emotion,pixels,Usage", _FER_ROWS), ["--split-column", "Usage"]),
    (_table("label,w,p0,p1,p2,p3", [[row[0], "w", *row[1:]] for row in _CELLS]), ["--drop-column", "w"]),
    (_table(",label,p0,p1,p2,p3", [[k, *row] for k, row in enumerate(_CELLS)]), ["--layout", "CHW"]),
    (_table("p0,p1,p2,p3,a,b,c", _ONE_HOT_ROWS, " "), ["--one-hot-labels", "3"]),
]


@st.composite
def invalid_tables(draw) -> tuple[bytes, list[str]]:
    """A file that pandas reads, with some mistakes, and the options that would read it without them."""
    data, args = draw(st.sampled_from(_TABLES))
    for _ in range(draw(st.integers(1, 3))):
        data = draw(st.one_of(mutated(data), _mutated_lines(data)))
    return data, args


# Shards

Files = dict[str, bytes]


@st.composite
def mutated_shards(draw, files: Files, names: Sequence[str], stride: int) -> Files:
    """The files of a data set with one to three changes to its shards."""
    files = dict(files)
    for _ in range(draw(st.integers(1, 3))):
        name, other = draw(st.sampled_from(names)), draw(st.sampled_from(names))
        data = files.get(name, b"")
        kind = draw(st.sampled_from(["bytes", "bytes", "records", "swap", "copy", "lose", "rename", "extra"]))
        if kind == "bytes":
            files[name] = draw(mutated(data))
        elif kind == "records":
            files[name] = draw(_mutated_records(data, stride))
        elif kind == "swap" and name in files and other in files:
            files[name], files[other] = files[other], files[name]
        elif kind == "copy" and other in files:
            files[name] = files[other]
        elif kind == "lose":
            files.pop(name, None)
        elif kind == "rename" and name in files:
            files[draw(st.sampled_from(["a.tfrecord", ".b.tfrecord", f"{name}.tfrecord-old"]))] = files.pop(name)
        elif kind == "extra":
            files["foreign.tfrecord"] = draw(st.binary(max_size=20))
    return files


@st.composite
def _mutated_records(draw, data: bytes, stride: int) -> bytes:
    records = [data[k : k + stride] for k in range(0, len(data), stride)]
    at = draw(st.integers(0, max(len(records) - 1, 0)))
    kind = draw(st.sampled_from(["lose", "double", "move", "cut", "overwrite"]))
    if kind == "lose":
        del records[at : at + 1]
    elif kind == "double":
        records[at:at] = records[at : at + 1]
    elif kind == "move":
        records.append(records.pop(at) if records else b"")
    elif kind == "cut":
        del records[at:]
    else:
        records[at : at + 1] = records[:1]
    return b"".join(records)


# Manifests

_LONG = "x" * 1_000_000
# fmt: off
_VALUES = st.one_of(
    st.sampled_from([
        None, True, False, 0, 1, -1, 2, 7, 255, 10**9, 10**15, 2**31, 2**63 - 1, 2**63, 10**30, 10**400, -(10**400),
        0.0, -0.5, 0.5, 1.0, 1e308, float("inf"), float("nan"), "", "a", "train", "..", "../up", "/etc/passwd",
        "../../tmp/x.tfrecord", "a/b.tfrecord", ".tfrecord", "a\nb.tfrecord", "a\r.tfrecord", "\ud800", "\0",
        "x" * 300 + ".tfrecord", _LONG, "manifest.json", "0" * 64, "00000000",
        [], [[]], {}, {"a": 1}, [1] * 100_000, [[[[[[[[]]]]]]]],
    ]),
    st.integers(),
    st.text(max_size=5),
    st.floats(),
)
# fmt: on


@st.composite
def hostile_manifests(draw, text: str) -> bytes:
    """A manifest with one to three changes to its fields or its text, often with a hash of itself that holds."""
    if draw(st.integers(0, 4)) == 0:
        return draw(mutated(text.encode()))
    raw = json.loads(text)
    for _ in range(draw(st.integers(1, 3))):
        _change(draw, raw)
    if draw(st.booleans()):
        raw.pop("own_sha256", None)
        with contextlib.suppress(OverflowError, UnicodeEncodeError):  # of values that are refused whatever the hash
            fields = msgspec.json.format(msgspec.json.encode(raw, order="sorted"), indent=1) + b"\n"
            raw["own_sha256"] = hashlib.sha256(fields).hexdigest()
    return json.dumps(raw, indent=1, sort_keys=True).encode()


def _change(draw, raw: dict) -> None:
    place = raw
    while True:
        keys = sorted(place) if isinstance(place, dict) else range(len(place))
        key = draw(st.sampled_from(keys))
        if not isinstance(place[key], (dict, list)) or not place[key] or draw(st.integers(0, 5)) == 0:
            break
        place = place[key]
    kind = draw(st.sampled_from(["set", "set", "set", "nudge", "lose", "add", "rename"]))
    if kind == "lose":
        del place[key]
    elif kind == "nudge" and isinstance(place[key], int):
        place[key] += draw(st.sampled_from([-1, 1, 8]))
    elif kind == "add" and isinstance(place, list):
        place.append(copy.deepcopy(draw(st.one_of(_VALUES, st.just(place[key])))))
    elif kind == "rename" and isinstance(place, dict):
        place[draw(st.sampled_from(["", "x", "train", "a\nb", "\ud800", _LONG]))] = place.pop(key)
    else:
        place[key] = copy.deepcopy(draw(_VALUES))  # the next change may go into it
    if not raw:
        raw["version"] = 3
