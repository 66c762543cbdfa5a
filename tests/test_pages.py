import hashlib

import google_crc32c
import numpy as np
import pytest

from pipeline.format.pages import PAGE_BYTES, ShardDigest, page_rows, parse_page_crcs, wrong_page


@pytest.mark.parametrize(("stride", "rows"), [(1, PAGE_BYTES), (869, 301), (PAGE_BYTES, 1), (PAGE_BYTES + 1, 1)])
def test_page_holds_whole_records(stride, rows):
    assert page_rows(stride) == rows


@pytest.mark.parametrize("portion", [1, 3, 70])
def test_checksums_do_not_depend_on_the_portions_bytes_come_in(portion):
    stride = PAGE_BYTES // 4
    data = np.random.default_rng(0).integers(0, 256, stride * 70, np.uint8)
    digest = ShardDigest(stride)
    for start in range(0, 70, portion):
        digest.update(memoryview(data[start * stride : (start + portion) * stride]))
    crcs = parse_page_crcs(digest.page_crc32c, 18)
    assert crcs.tolist() == [
        google_crc32c.value(bytes(data[k : k + 4 * stride])) for k in range(0, len(data), 4 * stride)
    ]
    assert digest.sha256 == hashlib.sha256(data).hexdigest()
    assert wrong_page(data, 4 * stride, crcs) is None
    data[9 * 4 * stride] ^= 1
    assert wrong_page(data, 4 * stride, crcs) == 9


@pytest.mark.parametrize("text", ["", "0123abc", "0123abcd0123abcd", "0123ABCD", "0123 abcd", "0123abcg", "é"])
def test_other_text_than_that_many_checksums_is_refused(text):
    with pytest.raises(ValueError, match="checksums|hexadecimal"):
        parse_page_crcs(text, 1)
