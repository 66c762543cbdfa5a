import pytest

from pipeline.convert.config import ConvertConfig
from pipeline.convert.inputs import open_inputs
from pipeline.errors import InputError
from tests.helpers.conversion import GOOD, make_config, table, write_sources


def open_texts(folder, texts, **options):
    return open_inputs(make_config(write_sources(folder, texts), folder / "data", **options)).files


def test_files_are_grouped_by_split_in_the_order_given(tmp_path):
    inputs = open_texts(tmp_path, {"train": [GOOD, GOOD], "test": table(3, "id")})
    names = {name: [file.path.name for file in files] for name, files in inputs.items()}
    assert names == {"train": ["train0.csv", "train1.csv"], "test": ["test0.csv"]}


@pytest.mark.parametrize(
    ("texts", "options", "fragments"),
    [
        (
            {"train": [GOOD, table(3, "id")]},
            {},
            ["train1.csv: has no label, but", "train0.csv of the same split 'train' has one"],
        ),
        ({"train": [table(3, "id"), GOOD]}, {}, ["train0.csv: has no label, but"]),
        ({"train": GOOD, "test": "label,p0\n1,2\n"}, {}, ["test0.csv, line 1", "1 pixel columns", "has 4"]),
        ({"train": GOOD, "test": GOOD.replace("p", "q")}, {}, ["test0.csv, line 1", "'q0'", "'p0'"]),
        ({"train": GOOD}, {"label_column": "lable"}, ["'lable' for --label-column", "'label'"]),
        (
            {"train": table(3, "kind")},
            {"label_column": "lable", "id_column": "kind"},
            ["no column 'lable' for --label-column", "it has 'kind', 'p0'"],
        ),
        ({"train": GOOD}, {"id_column": "key"}, ["'key'", "--id-column"]),
    ],
)
def test_files_that_disagree_are_one_line(tmp_path, texts, options, fragments):
    with pytest.raises(InputError) as caught:
        open_texts(tmp_path, texts, **options)
    assert all(fragment in str(caught.value) for fragment in fragments), caught.value


def test_file_given_twice_is_an_error_also_under_another_name(tmp_path):
    path, link = tmp_path / "a.csv", tmp_path / "b.csv"
    path.write_text(GOOD)
    link.symlink_to(path)
    with pytest.raises(InputError, match="b.csv: given twice, for split 'train' and for split 'test'"):
        open_inputs(ConvertConfig(splits=(("train", path), ("test", link)), out=tmp_path / "data"))
