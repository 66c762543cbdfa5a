"""The layout of a record, declared once and used in both directions.

A record is a `tf.train.Example` with three features: `image` (bytes, uint8, row-major H*W*C), `label` (int64 class
index, -1 if there is none) and `id` (int64). All records of a data set have one length, so a shard can be read as a
byte matrix [records, stride]; every other TFRecord reader sees ordinary examples. A varint changes length with its
value, so labels and ids are written as varints padded to the ten bytes that protobuf allows at most; decoders accept
the padding (https://protobuf.dev/programming-guides/encoding/#varints).

A shard is checked and read by pages of whole records. A record's own CRC detects a flipped bit, but not a record in the
place of another; a page's CRC, kept in the manifest, detects both.
"""

import dataclasses
import functools
import itertools
import struct

import google_crc32c
import numpy as np

IMAGE, LABEL, ID = "image", "label", "id"
UNLABELLED = -1
MAX_IMAGE_BYTES = 16 << 20  # 4096 x 4096; a reader allocates a template record of that size
# One CRC over 256 KiB runs at the speed of memory, one per record does not. A larger page would let a window of random
# pages mix fewer of them, a smaller one would cost a disk more per read.
PAGE_BYTES = 1 << 18
HEADER_BYTES = 12  # uint64 length and its masked CRC
FOOTER_BYTES = 4  # masked CRC of the payload

_VARINT_BYTES = 10
_BYTES_LIST, _INT64_LIST = 1, 3  # field numbers in tf.train.Feature
_CRC_MASK_DELTA = 0xA282EAD8  # tensorflow/core/lib/hash/crc32c.h


def page_rows(stride: int) -> int:
    """Records of a page, for records of `stride` bytes; the last page of a shard may have fewer."""
    return max(1, PAGE_BYTES // stride)


@dataclasses.dataclass(frozen=True)
class RecordLayout:
    """Where the bytes of a record lie, for images of `image_bytes` bytes."""

    image_bytes: int

    @functools.cached_property
    def _entries(self) -> dict[str, bytes]:
        """Feature name -> its bytes in the Example, with a value of zeros at their end."""
        lengths = {ID: _VARINT_BYTES, IMAGE: self.image_bytes, LABEL: _VARINT_BYTES}
        # Sorted keys, as TensorFlow's deterministic serialisation has them.
        return {key: _map_entry(key, bytes(length)) for key, length in lengths.items()}

    @functools.cached_property
    def template(self) -> np.ndarray:
        """uint8 [stride]: a record with every constant byte in place, zeros elsewhere."""
        payload = _field(1, b"".join(self._entries.values()))
        length = len(payload).to_bytes(8, "little")
        return np.frombuffer(length + masked_crc(length) + payload + bytes(FOOTER_BYTES), np.uint8)

    @property
    def stride(self) -> int:
        """Bytes of one record with its TFRecord frame."""
        return len(self.template)

    @functools.cached_property
    def slices(self) -> dict[str, slice]:
        """Feature name -> the bytes of its value within a record."""
        end, slices = self.stride - FOOTER_BYTES, {}
        for key, entry in reversed(self._entries.items()):
            slices[key] = slice(end - (self.image_bytes if key == IMAGE else _VARINT_BYTES), end)
            end -= len(entry)
        return slices

    @functools.cached_property
    def constant(self) -> np.ndarray:
        """bool [stride]: True where every record has the template's byte."""
        mask = np.ones(self.stride, bool)
        mask[-FOOTER_BYTES:] = False
        for part in self.slices.values():
            mask[part] = False
        return mask

    def encode(self, images: np.ndarray, labels: np.ndarray, ids: np.ndarray) -> np.ndarray:
        """Records uint8 [n, stride] of images uint8 [n, image_bytes], labels int64 [n], ids int64 [n]."""
        records = np.empty((len(images), self.stride), np.uint8)
        records[:] = self.template
        records[:, self.slices[IMAGE]] = images
        records[:, self.slices[LABEL]] = _encode_varints(labels)
        records[:, self.slices[ID]] = _encode_varints(ids)
        crcs = self._crcs(records)
        records[:, -FOOTER_BYTES:] = _mask(crcs).astype("<u4").view(np.uint8).reshape(-1, FOOTER_BYTES)
        return records

    def decode(self, records: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Views and values of records uint8 [n, stride]: images uint8 [n, image_bytes], labels and ids int64 [n]."""
        images = records[:, self.slices[IMAGE]]
        labels = _decode_varints(records[:, self.slices[LABEL]])
        ids = _decode_varints(records[:, self.slices[ID]])
        return images, labels, ids

    def first_corrupt(self, records: np.ndarray) -> int | None:
        """Index of the first of `corrupt` records, or None."""
        wrong = self.corrupt(records)
        return int(wrong.argmax()) if wrong.any() else None

    def corrupt(self, records: np.ndarray) -> np.ndarray:
        """bool [n]: whether a record's frame, keys or CRC are not as written, for records uint8 [n, stride]."""
        # The frame's length has its own CRC, which is part of the template, so it is compared and not computed.
        wrong = (records[:, self.constant] != self.template[self.constant]).any(axis=1)
        stored = np.ascontiguousarray(records[:, -FOOTER_BYTES:]).view("<u4").reshape(-1)
        return wrong | (_mask(self._crcs(np.ascontiguousarray(records))) != stored)

    def _crcs(self, records: np.ndarray) -> np.ndarray:
        """CRC-32C of each payload, uint32 [n]; `records` must be contiguous."""
        # The library takes one payload per call. No Python runs between the calls: that would cost three times as much.
        payloads = struct.iter_unpack(
            f"{HEADER_BYTES}x{self.stride - HEADER_BYTES - FOOTER_BYTES}s{FOOTER_BYTES}x", records.data
        )
        return np.fromiter(itertools.starmap(google_crc32c.value, payloads), np.uint32, len(records))


def _varint(value: int) -> bytes:
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes(out) + bytes([value])


def _field(number: int, payload: bytes) -> bytes:
    length_delimited = 2
    # One byte of tag: field numbers from 16 on would take two, and none here is that large.
    return bytes([number << 3 | length_delimited]) + _varint(len(payload)) + payload


def _map_entry(key: str, value: bytes) -> bytes:
    kind = _BYTES_LIST if key == IMAGE else _INT64_LIST
    return _field(1, _field(1, key.encode()) + _field(2, _field(kind, _field(1, value))))


def _encode_varints(values: np.ndarray) -> np.ndarray:
    # As protobuf does it, negative numbers are their two's complement in 64 bits.
    bits = values.astype(np.int64).view(np.uint64)[:, None] >> np.arange(0, 70, 7, dtype=np.uint64)
    out = (bits & np.uint64(0x7F)).astype(np.uint8)
    out[:, :-1] |= 0x80  # "more follows", also on groups of zeros: that is the padding
    return out


def _decode_varints(groups: np.ndarray) -> np.ndarray:
    bits = (groups & 0x7F).astype(np.uint64) << np.arange(0, 70, 7, dtype=np.uint64)
    return np.bitwise_or.reduce(bits, axis=1).view(np.int64)


def _mask(crcs: np.ndarray) -> np.ndarray:
    # TFRecord stores CRCs masked, because the CRC of data that embeds its own CRCs is weak (as LevelDB's log format).
    wide = crcs.astype(np.uint64)
    rotated = (wide >> np.uint64(15)) | (wide << np.uint64(17))
    return ((rotated + np.uint64(_CRC_MASK_DELTA)) & np.uint64(0xFFFFFFFF)).astype(np.uint32)


def masked_crc(data: bytes) -> bytes:
    """The checksum that a TFRecord frame has for these bytes."""
    crc = np.array([google_crc32c.value(data)], np.uint32)
    return _mask(crc).astype("<u4").tobytes()
