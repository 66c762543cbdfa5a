import pytest

from pipeline.convert.csv.reader import CsvFile
from pipeline.convert.kinds import refuse_unreadable
from pipeline.convert.read_options import ReadOptions
from pipeline.convert.readers import find_reader
from pipeline.errors import InputError
from pipeline.format.records import RecordLayout
from tests.helpers.containers import OTHER_KINDS


@pytest.mark.parametrize("case", OTHER_KINDS)
def test_file_that_is_not_read_is_refused_by_what_it_is(tmp_path, case):
    data, message = OTHER_KINDS[case]
    path = tmp_path / "train"
    path.write_bytes(data)
    for read in (lambda: find_reader(path, ReadOptions()), lambda: CsvFile(path)):
        with pytest.raises(InputError) as caught:
            read()
        assert str(caught.value).startswith(f"{path}: {message}")
        assert "\n" not in str(caught.value)


def test_shard_of_ours_is_a_tfrecord_file(tmp_path):
    path = tmp_path / "train.tfrecord"
    path.write_bytes(RecordLayout(4).template.tobytes())
    with pytest.raises(InputError, match="a TFRecord file; import its folder with tools/import_tfrecord.py"):
        find_reader(path, ReadOptions())


def test_suffix_of_a_binary_file_is_named():
    with pytest.raises(InputError, match=r"^x.dat: a binary file \(.dat\) of a kind that is not read"):
        refuse_unreadable("x.dat", b"ab\0cd")


@pytest.mark.parametrize(
    "text", ["label,p0\n1,2\n", "BM,p0\n1,2\n", "", "  \n", "MATLAB\n1\n", "\ufefflabel,p0\n", "Obj,p\n", "(1,2)\n"]
)
def test_text_is_not_refused(tmp_path, text):
    refuse_unreadable("a", text.encode())
    path = tmp_path / "a"
    path.write_text(text, encoding="utf-8")
    assert find_reader(path, ReadOptions()) is None


def test_utf16_is_left_to_the_reader_of_tables(tmp_path):
    path = tmp_path / "a"
    path.write_bytes("label,p0\n1,2\n".encode("utf-16"))
    assert find_reader(path, ReadOptions()) is None


def test_missing_file_is_one_line(tmp_path):
    with pytest.raises(InputError, match="no.csv: No such file or directory"):
        find_reader(tmp_path / "no.csv", ReadOptions())
