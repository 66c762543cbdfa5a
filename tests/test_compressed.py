import bz2
import gzip
import lzma
import os
import zipfile

import pytest

from pipeline.convert import compressed
from pipeline.errors import InputError
from tests.helpers.containers import zipped

zstd = pytest.importorskip("backports.zstd")

TEXT = "".join(f"{k % 3},{k},{k + 1},0,255\n" for k in range(20)).encode()


PACKERS = {
    "gz": gzip.compress,
    "zip": lambda text: zipped({"readme.txt": "hello", "inner/a.CSV": text, "__MACOSX/a.csv": "junk"}),
    "stored zip": lambda text: zipped({"a.csv": text}, zipfile.ZIP_STORED),
    "bz2": bz2.compress,
    "xz": lzma.compress,
    "zst": lambda text: zstd.compress(
        text, options={zstd.CompressionParameter.checksum_flag: 1}
    ),  # as the command does
}


def read(path, data):
    path.write_bytes(data)
    with compressed.open_text(path) as (stream, seekable):
        return stream.readall(), seekable


@pytest.mark.parametrize("kind", PACKERS)
def test_compressed_text_is_read_by_content_not_by_name(tmp_path, kind):
    assert read(tmp_path / "a", PACKERS[kind](TEXT)) == (TEXT, False)


def test_only_file_of_a_zip_is_read_whatever_its_name(tmp_path):
    assert read(tmp_path / "a", zipped({"inner/a.data": TEXT})) == (TEXT, False)


def test_member_of_a_zip_is_chosen_by_name(tmp_path):
    (tmp_path / "a.zip").write_bytes(zipped({"train.csv": TEXT, "deep/test.csv": TEXT[:10]}))
    for member, text in (("train.csv", TEXT), ("deep/test.csv", TEXT[:10])):
        with compressed.open_text(f"{tmp_path}/a.zip:{member}") as (stream, seekable):
            assert (stream.readall(), seekable) == (text, False)
    with (
        pytest.raises(InputError, match="a.zip: has no member 'no.csv'; it holds 'train.csv', 'deep/test.csv'"),
        compressed.open_text(f"{tmp_path}/a.zip:no.csv"),
    ):
        pass


def test_name_with_a_colon_is_a_file_if_there_is_one(tmp_path):
    assert read(tmp_path / "a:b", TEXT) == (TEXT, True)
    (tmp_path / "a").write_bytes(TEXT)
    assert read(tmp_path / "a:b", TEXT) == (TEXT, True)
    with (
        pytest.raises(InputError, match="a:c: a is not a zip, so it has no member 'c'"),
        compressed.open_text(tmp_path / "a:c"),
    ):
        pass
    assert compressed.split_member(tmp_path / "none:c") == (tmp_path / "none:c", None)


def test_members_of_a_gzip_follow_one_another(tmp_path):
    assert read(tmp_path / "a", gzip.compress(TEXT[:50]) + gzip.compress(TEXT[50:])) == (TEXT, False)


def test_plain_text_can_be_entered_anywhere(tmp_path):
    assert read(tmp_path / "a.gz", TEXT) == (TEXT, True)


@pytest.mark.parametrize("kind", PACKERS)
@pytest.mark.parametrize("size", [8, -1, -20])
def test_truncated_file_is_one_line(tmp_path, kind, size):
    data = PACKERS[kind](os.urandom(500))[:size]
    with pytest.raises(InputError, match=r"^.*/a: corrupt (gzip|zip|bzip2|xz|zstd) file \(.*\); get it again$"):
        read(tmp_path / "a", data)


@pytest.mark.parametrize("kind", PACKERS)
def test_flipped_bit_is_one_line(tmp_path, kind):
    data = bytearray(PACKERS[kind](os.urandom(5000)))
    data[len(data) // 2] ^= 1
    with pytest.raises(InputError, match=r"^.*/a: corrupt .* file"):
        read(tmp_path / "a", bytes(data))


WHOLE = zipped({"a.csv": TEXT})
DIRECTORY = WHOLE.index(b"PK\x01\x02")


@pytest.mark.parametrize(
    ("data", "fragment"),
    [
        (WHOLE[: DIRECTORY - 1] + WHOLE[DIRECTORY:], "corrupt zip"),
        (zipped({"a.csv": TEXT, "b.csv": TEXT}), "a zip of 2 files ('a.csv', 'b.csv'); choose one, as "),
        (zipped({"a.txt": TEXT, "b.txt": TEXT}), "a zip of 2 files ('a.txt', 'b.txt'); choose one, as "),
        (zipped({}), "an empty zip; get it again"),
        (zipped({"a.csv": TEXT}, zipfile.ZIP_BZIP2), "method is not supported; unpack it, or zip it with deflate"),
    ],
)
def test_unusable_archive_is_one_line(tmp_path, data, fragment):
    with pytest.raises(InputError) as caught:
        read(tmp_path / "a", data)
    assert fragment in str(caught.value)


def test_encrypted_zip_is_one_line(tmp_path):
    data = bytearray(WHOLE)
    for place in (6, DIRECTORY + 8):
        data[place] |= 1
    with pytest.raises(InputError, match=r"cannot be unzipped \(.*password"):
        read(tmp_path / "a", bytes(data))


@pytest.mark.parametrize("kind", [kind for kind in PACKERS if kind != "stored zip"])
@pytest.mark.parametrize("text", [b"0,0,0,0,0\n" * 300_000, b"\n" * 3_000_000], ids=["rows", "blank lines"])
def test_bomb_stops_at_a_limit(tmp_path, monkeypatch, kind, text):
    monkeypatch.setattr(compressed, "_FREE_BYTES", 1 << 20)
    with pytest.raises(InputError, match="/a: unpacks to more than 200 times its size, as no data set of images does"):
        read(tmp_path / "a", PACKERS[kind](text))


def test_small_file_may_unpack_to_many_times_its_size(tmp_path):
    text = b"0,0,0,0,0\n" * 300_000
    assert len(gzip.compress(text)) * 200 < len(text)
    assert read(tmp_path / "a", gzip.compress(text)) == (text, False)
