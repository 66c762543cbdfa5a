"""Checksums of a shard: CRC-32C of each page, which readers verify, and SHA-256 of the whole.

A record's own CRC detects a flipped bit, but not a record in the place of another. A page's CRC, kept in the manifest,
detects both, and one call over 256 KiB runs at the speed of memory while one call per record does not.
"""

import hashlib

import google_crc32c
import numpy as np

PAGE_BYTES = 1 << 18  # large enough that a random read costs a disk little, small enough that a window mixes many
_CRC_BYTES = 4


def page_rows(stride: int) -> int:
    """Records of a page, for records of `stride` bytes; the last page of a shard may have fewer."""
    return max(1, PAGE_BYTES // stride)


class ShardDigest:
    """Checksums of a shard's bytes as they come, `stride` bytes per record."""

    def __init__(self, stride: int) -> None:
        self._page_bytes = page_rows(stride) * stride
        self._sha256 = hashlib.sha256()
        self._crcs: list[int] = []
        self._left = 0  # bytes missing from the last page

    def update(self, data: np.ndarray | memoryview | bytes) -> None:
        """The next bytes of the file."""
        data = np.frombuffer(data, np.uint8)
        self._sha256.update(data.data)
        while len(data):
            if not self._left:
                self._crcs.append(0)
                self._left = self._page_bytes
            part, data = data[: self._left], data[self._left :]
            self._crcs[-1] = google_crc32c.extend(self._crcs[-1], part)
            self._left -= len(part)

    @property
    def sha256(self) -> str:
        """Of all bytes, in hexadecimal."""
        return self._sha256.hexdigest()

    @property
    def page_crc32c(self) -> str:
        """CRC-32C of each page in turn, eight hexadecimal digits per page."""
        return np.array(self._crcs, ">u4").tobytes().hex()


def parse_page_crcs(text: str, num_pages: int) -> np.ndarray:
    """uint32 [num_pages] from the text of `ShardDigest.page_crc32c`.

    Raises:
        ValueError: the text has another form or number of pages.
    """
    data = bytes.fromhex(text)
    if len(data) != num_pages * _CRC_BYTES or data.hex() != text:
        raise ValueError(f"{len(data) // _CRC_BYTES} page checksums, expected {num_pages}")
    return np.frombuffer(data, ">u4").astype(np.uint32)


def wrong_page(pages: np.ndarray, page_bytes: int, crcs: np.ndarray) -> int | None:
    """Index of the first page, among the whole pages in uint8 [bytes], whose CRC is not that of uint32 [n], or None."""
    for page, crc in enumerate(crcs.tolist()):
        if google_crc32c.value(pages[page * page_bytes : (page + 1) * page_bytes]) != crc:
            return page
    return None
