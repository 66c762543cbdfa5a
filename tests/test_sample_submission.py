"""Submissions in the form of a sample: its header, ids and order; files of images; ids that cannot be used."""

import csv

import numpy as np
import pytest
from PIL import Image

from pipeline.errors import InputError
from pipeline.evaluate.sample_submission import Form, read_sample
from pipeline.evaluate.saved_run import SavedRun
from pipeline.evaluate.sources import Source, open_images
from tests.helpers.saved_runs import NAMES, expected, expected_names, pixels, run_predict, write_csv, write_home
from tools import predict

SHUFFLED = np.random.default_rng(2).permutation(23)


def write_sample(path, ids, header="ImageId,Label", line="{},0"):
    path.write_text("\n".join([header, *(line.format(row_id) for row_id in ids)]) + "\n")
    return path


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    return write_home(tmp_path_factory.mktemp("home"))


def predict_csv(home, folder, sample, **columns):
    path = write_csv(folder / "rows.csv", **columns)
    return run_predict(home, folder, "--csv", path, "--like", sample, split=None)


def in_order(ids, order=range(23)):
    return [[str(row_id), expected_names(23)[row]] for row_id, row in zip(ids, order, strict=True)]


def test_rows_without_ids_count_from_the_first_id_of_the_sample(home, tmp_path):
    header, *lines = predict_csv(home, tmp_path, write_sample(tmp_path / "s.csv", range(1, 24)))
    assert header == ["ImageId", "Label"]
    assert lines == in_order(range(1, 24))


def test_order_of_the_sample_decides(home, tmp_path):
    sample = write_sample(tmp_path / "s.csv", 1000 + SHUFFLED)
    _, *lines = predict_csv(home, tmp_path, sample, ids=1000 + np.arange(23))
    assert lines == in_order(1000 + SHUFFLED, SHUFFLED)


def test_text_ids_and_an_id_column_on_the_right(home, tmp_path):
    names = [f"img_{k:02}.png" for k in range(23)]
    sample = write_sample(tmp_path / "s.csv", [names[k] for k in SHUFFLED], "label,filename", "0,{}")
    header, *lines = predict_csv(home, tmp_path, sample, ids=names)
    assert header == ["label", "filename"]
    assert [line[::-1] for line in lines] == in_order([names[k] for k in SHUFFLED], SHUFFLED)


@pytest.mark.parametrize("name", ["img_{}", "{}"])
def test_names_of_files_match_ids_without_the_suffix(home, tmp_path, name):
    ids = [name.format(100 + k) for k in range(23)]
    sample = write_sample(tmp_path / "s.csv", [f"{ids[k]}.jpg" for k in SHUFFLED])
    _, *lines = predict_csv(home, tmp_path, sample, ids=ids)
    assert lines == in_order([f"{ids[k]}.jpg" for k in SHUFFLED], SHUFFLED)


def test_split_is_matched_before_tensorflow_is_needed(home, tmp_path, monkeypatch):
    monkeypatch.setattr("pipeline.train.environment.import_tensorflow", lambda: pytest.fail("imported"))
    sample = write_sample(tmp_path / "s.csv", range(23))  # the ids are 1000, 1003, ...
    with pytest.raises(InputError, match=r"s\.csv, line 2: id '0' is not among the 23 rows to predict \(23 in all\)"):
        run_predict(home, tmp_path, "--like", sample, split="test")
    assert not (tmp_path / "out.csv").exists()


@pytest.mark.parametrize(
    ("ids", "message"),
    [
        ([*range(1000, 1022), 7], r"s\.csv, line 24: id '7' is not among the 23 rows to predict \(1 in all\)"),
        (range(1000, 1022), r"s\.csv: lacks 1 of the 23 rows to predict, such as id 1022"),
        ([*range(1000, 1023), 1003], r"s\.csv, line 25: id '1003' is a duplicate, also on line 5"),
        (
            [f"a{k}" for k in range(23)],
            r"s\.csv, line 2: id 'a0' is not among the 23 rows to predict, whose ids are nu",
        ),
    ],
    ids=["missing", "extra", "doubled", "text for numbers"],
)
def test_other_ids_than_those_of_the_sample_are_refused(tmp_path, ids, message):
    with pytest.raises(InputError, match=message) as error:
        read_sample(write_sample(tmp_path / "s.csv", ids)).rows(1000 + np.arange(23))
    assert "\n" not in str(error.value)


def test_ids_of_a_csv_that_the_sample_lacks_write_nothing(home, tmp_path):
    with pytest.raises(InputError, match=r"s\.csv: lacks 1 of the 23 rows to predict, such as id 22"):
        predict_csv(home, tmp_path, write_sample(tmp_path / "s.csv", range(22)), ids=range(23))
    assert not (tmp_path / "out.csv").exists()


def test_text_ids_for_rows_without_ids_are_refused(home, tmp_path):
    with pytest.raises(InputError, match=r"id 'a' is text, but the rows of rows\.csv have no ids; name their column"):
        predict_csv(home, tmp_path, write_sample(tmp_path / "s.csv", "abcdefghijklmnopqrstuvw"))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("id,label\n", "has no rows"),
        ("id,a,b\n1,0,0\n", r"line 1: 3 columns, expected an id and a label; --probabilities"),
        ("1,0\n2,0\n", "its first line is not a header; give one with --columns"),
    ],
)
def test_files_that_are_no_sample_are_refused(tmp_path, text, message):
    (tmp_path / "s.csv").write_text(text)
    with pytest.raises(InputError, match=message):
        read_sample(tmp_path / "s.csv")


def test_doubled_ids_of_a_csv_are_refused_with_both_lines(home, tmp_path):
    path = write_csv(tmp_path / "rows.csv", ids=[*range(22), 4])
    with pytest.raises(InputError, match=r"rows\.csv, line 24: id 4 is a duplicate, also used on .*line 6"):
        run_predict(home, tmp_path, "--csv", path, split=None)
    assert not (tmp_path / "out.csv").exists()


def test_header_and_first_id_without_a_sample(home, tmp_path):
    path = write_csv(tmp_path / "rows.csv")
    options = ["--columns", "ImageId", "Label", "--first-id", 1, "--probabilities", tmp_path / "p.csv"]
    header, *lines = run_predict(home, tmp_path, "--csv", path, *options, split=None)
    assert header == ["ImageId", "Label"]
    assert lines == in_order(range(1, 24))
    with (tmp_path / "p.csv").open(newline="") as file:
        header, first, *_ = csv.reader(file)
    assert header == ["ImageId", *NAMES] and first[0] == "1"


def test_first_id_is_for_rows_without_ids(tmp_path):
    source = Source("rows.csv", [], None, numbered=False)
    with pytest.raises(InputError, match=r"--first-id 1: the rows of rows\.csv have ids of their own"):
        Form(first_id=1).offset(source)
    sample = read_sample(write_sample(tmp_path / "s.csv", range(3)))
    with pytest.raises(InputError, match="--like gives header and ids"):
        Form(first_id=1, sample=sample)


def write_images(folder, rows=3):
    paths = [folder / f"{k}.png" for k in range(rows)]
    for path, image in zip(paths, pixels(rows).reshape(-1, 4, 3), strict=True):
        Image.fromarray(image).save(path)
    return paths


def test_image_files_are_listed_and_written_by_name(home, tmp_path, capsys):
    _, *lines = run_predict(home, tmp_path, "--images", *write_images(tmp_path), split=None)
    assert lines == [[f"{k}.png", name] for k, name in enumerate(expected_names(3))]
    table = capsys.readouterr().out.splitlines()[:3]
    probabilities = expected(pixels(3)).max(axis=1)
    assert table == [f"{k}.png  {expected_names(3)[k]}  {probabilities[k]:.1%}" for k in range(3)]


def saved_run(dark):
    return SavedRun("run", "data", (4, 3, 1), NAMES, dark)


def test_images_of_another_size_are_resized_only_if_asked(tmp_path):
    Image.fromarray(np.full((8, 6), 77, np.uint8)).save(tmp_path / "a.png")
    with pytest.raises(InputError, match=r"a\.png: an image of 8x6x1, but run was trained on 4x3x1; --resize"):
        open_images(saved_run(None), [tmp_path / "a.png"])
    source = open_images(saved_run(None), [tmp_path / "a.png"], resize=True)
    assert source.blocks[0][0].tolist() == [[77] * 12]
    assert source.notes == ["resized to 4 x 3 (bilinear, antialiased; proportions are not kept)"]


def test_background_is_compared_with_the_run_and_inverted_on_request(tmp_path):
    Image.fromarray(np.full((4, 3), 250, np.uint8)).save(tmp_path / "a.png")
    (note,) = open_images(saved_run(True), [tmp_path / "a.png"]).notes
    assert note.startswith("1 image of 1 with a light background, but the run was trained on dark ones; --invert")
    assert not open_images(saved_run(False), [tmp_path / "a.png"]).notes
    inverted = open_images(saved_run(True), [tmp_path / "a.png"], invert=True)
    assert inverted.blocks[0][0].tolist() == [[5] * 12]


def test_other_layouts_are_read_as_by_a_conversion(home, tmp_path, capsys):
    lines = [";".join(map(str, [f"img {k}", *values])) for k, values in enumerate(pixels(5).tolist())]
    header = ";".join(["id", *(f"pixel{k}" for k in range(12))])
    (tmp_path / "rows.csv").write_text("\n".join([header, *lines]) + "\n")
    _, *written = run_predict(home, tmp_path, "--csv", tmp_path / "rows.csv", split=None)
    assert written == [[f"img {k}", name] for k, name in enumerate(expected_names(5))]
    assert "semicolons" in capsys.readouterr().err


def test_labels_of_a_table_are_compared_with_the_classes_of_the_run(home, tmp_path):
    lines = [";".join(map(str, [label, *values])) for label, values in zip("0739", pixels(4).tolist(), strict=True)]
    (tmp_path / "rows.csv").write_text("\n".join([";".join(["label", *"abcdefghijkl"]), *lines]) + "\n")
    with pytest.raises(InputError, match=r"row 3 \(counted from 0\): label 9 is not one of the classes"):
        run_predict(home, tmp_path, "--csv", tmp_path / "rows.csv", split=None)


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (["--images", "a.png", "--split", "test"], "only data sets have splits"),
        (["--images", "a.png", "--separator", ";"], "--separator is for --csv"),
        (["--data", "d", "--resize"], "are for --images"),
        (["--data", "d", "--csv", "a.csv"], "not allowed with"),
        (["--data", "d"], "--out is missing"),
        (["--images", "a.png", "--grid", "a.png"], "given for two files"),
    ],
)
def test_options_that_do_not_fit_together_are_refused(more, message):
    with pytest.raises(InputError, match=message):
        predict.main(["--run", "none", *more])


def test_image_given_twice_is_refused(home, tmp_path):
    (path,) = write_images(tmp_path, 1)
    with pytest.raises(InputError, match=r"0\.png: given twice"):
        run_predict(home, tmp_path, "--images", path, path, split=None)
    with pytest.raises(InputError, match=r"none\.png: no such file$"):
        run_predict(home, tmp_path, "--images", path, tmp_path / "none.png", split=None)
