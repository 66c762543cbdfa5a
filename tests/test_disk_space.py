import gzip
import io
import zipfile

import pytest
from pipeline.convert.csv_source import CsvSource
from pipeline.convert.disk_space import Need, check_space, estimate_need

from pipeline.errors import InputError

STRIDE = 1000
ROWS = 3000


def _rows(line):
    return ("label," + ",".join(f"p{k}" for k in range(100)) + "\n" + line * ROWS).encode()


def _zipped(data):
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("a.csv", data)
    return file.getvalue()


TEXTS = {
    "wide": _rows("3" + ",255" * 100 + "\n"),
    "narrow": _rows("3" + ",0" * 100 + "\n"),
    "quoted": _rows("3" + ',"255"' * 100 + "\r\n"),
    "narrow, then wide": _rows("3" + ",0" * 100 + "\n") + b"".join([b"3" + b",255" * 100 + b"\n"] * ROWS),
}


@pytest.mark.parametrize("case", TEXTS)
@pytest.mark.parametrize("pack", [bytes, gzip.compress, _zipped])
def test_the_least_is_never_more_than_the_rows_take(tmp_path, case, pack):
    (tmp_path / "a.csv").write_bytes(pack(TEXTS[case]))
    taken = (TEXTS[case].count(b"\n") - 1) * STRIDE
    need = estimate_need([CsvSource(tmp_path / "a.csv")], STRIDE)
    assert need.least <= taken
    assert need.least > 0.4 * taken
    if case != "narrow, then wide":
        assert need.likely == pytest.approx(taken, rel=0.02)


def test_several_files_add_up(tmp_path):
    for name in ("a.csv", "b.csv"):
        (tmp_path / name).write_bytes(TEXTS["wide"])
    one, two = (
        estimate_need([CsvSource(tmp_path / name) for name in names], STRIDE)
        for names in (["a.csv"], ["a.csv", "b.csv"])
    )
    assert two == Need(2 * one.least, 2 * one.likely)


def test_a_file_with_a_header_alone_needs_nothing(tmp_path):
    (tmp_path / "a.csv").write_text("label,p0,p1,p2,p3\n")
    assert estimate_need([CsvSource(tmp_path / "a.csv")], STRIDE) == Need(0, 0)


def test_what_was_written_before_is_not_asked_for_again(tmp_path):
    (tmp_path / "a.part").write_bytes(bytes(1000))
    check_space("data", tmp_path, Need(1000, 1000))
    with pytest.raises(InputError, match="data: about 2000000.0 GB are needed, at least 1000000.0 GB, but .* are free"):
        check_space("data", tmp_path, Need(10**15, 2 * 10**15))
