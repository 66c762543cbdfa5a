"""Names as they can be drawn, and figures that are complete or absent."""

import pytest

from pipeline.evaluate import style


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("ka", "ka"),
        ("$x$", "$x$"),
        ("\u0ce6", "U+0CE6"),
        ("a\nb", "aU+000Ab"),
        ("x" * 24, "x" * 24),
        ("x" * 25, "x" * 23 + "…"),
        ("\n" * 5, "U+000AU+000AU+000AU+000…"),
    ],
)
def test_names_as_drawn(name, expected):
    assert style.shorten(name) == expected


def test_failure_while_drawing_leaves_the_old_figure(tmp_path):
    path = tmp_path / "figure.png"
    path.write_bytes(b"old")
    with pytest.raises(RuntimeError), style.drawing(path, 2, 2):
        raise RuntimeError
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]
