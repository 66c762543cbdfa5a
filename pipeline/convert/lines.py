"""Text cut into blocks of whole lines; each block knows where it ends and what all text up to there hashes to."""

import dataclasses
from collections.abc import Iterator
from typing import Any, BinaryIO

_UTF8_BOM = b"\xef\xbb\xbf"


@dataclasses.dataclass(frozen=True)
class Block:
    """Whole lines. `cut`: the file ended without the last newline. `problem`: what stopped the reading after them.

    `end` counts the bytes of text up to its end, and `digest` is a hashlib object of those bytes, or None.
    """

    data: bytes | bytearray
    end: int
    digest: Any = None
    cut: bool = False
    problem: str = ""


@dataclasses.dataclass(frozen=True)
class Sample:
    """The first bytes of a CSV: what they take on disk, and the mean line, 0 where there is only the header.

    `plain`: nothing but digits and commas, so that a pixel takes at most four bytes.
    """

    text_bytes: int
    disk_bytes: int
    line_bytes: float
    plain: bool
    compressed: bool


def cut_lines(stream: BinaryIO, block_bytes: int, line_limit: int, digest=None, offset: int = 0) -> Iterator[Block]:
    """Cut a stream into blocks of whole lines; a line over the limit ends it, so memory stays bounded.

    `digest`, a hashlib object or None, takes the bytes; it and `offset` are those of the text before the stream.
    """
    data = bytearray(max(block_bytes, len(_UTF8_BOM)))
    count = size = _fill(stream, data, 0)
    skip = len(_UTF8_BOM) if offset == 0 and data.startswith(_UTF8_BOM) else 0
    while count:
        stop = data.rfind(b"\n", size - count, size) + 1
        upto = _hashed(digest, data, size - count, stop, size)
        if stop:
            rest = data[stop:size]
            del data[stop:], data[:skip]
            offset += stop
            yield Block(data, offset, upto)
            data, size, skip = bytearray(len(rest) + block_bytes), len(rest), 0
            data[:size] = rest
        elif size == len(data):
            data += bytes(block_bytes)  # in place, so a long line costs no more than its length
        if size > line_limit:
            problem = f"longer than {line_limit} bytes, more than a row of these columns can take"
            yield Block(b"", offset + size, problem=problem)
            return
        count = _fill(stream, data, size)
        size += count
    if size > skip:
        yield Block(data[skip:size] + b"\n", offset + size, digest and digest.copy(), cut=True)


def sample_of(first: Block, header_bytes: int, disk_bytes: int, compressed: bool) -> Sample:
    """A sample from the first block of a file, which took `disk_bytes` of it."""
    rows = first.data[header_bytes:]
    lines = rows.count(b"\n") - 1
    plain = not rows.translate(None, b"0123456789,\r\n")
    return Sample(first.end, disk_bytes, len(rows) / lines if lines > 0 else 0, plain, compressed)


def _fill(stream: BinaryIO, data: bytearray, start: int) -> int:
    """Read into `data` from `start` on; the number of bytes, 0 at the end of the stream."""
    with memoryview(data)[start:] as free:
        return stream.readinto(free)


def _hashed(digest, data: bytearray, start: int, stop: int, size: int):
    """Give the bytes from `start` to `size` to the digest; a copy of it as it was at `stop`."""
    if digest is None:
        return None
    with memoryview(data) as view:
        digest.update(view[start:stop])
        upto = digest.copy()
        digest.update(view[max(start, stop) : size])
    return upto
