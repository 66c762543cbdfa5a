"""Files that are refused at first, and the options that then read them."""

import numpy as np

from tests.helpers.layouts import COLORED, FLAT, LABELS, NAMES, NUM_ROWS, PIXELS, labelled, text_of

HEADER = ["label", *PIXELS]
UNIT = labelled(LABELS, (np.array(FLAT) / 255).tolist())
TABLE = labelled(LABELS, FLAT)
COLOR_PIXELS = [f"pixel{k}" for k in range(48)]
COLOR_TABLE = labelled(LABELS, COLORED.reshape(NUM_ROWS, -1).tolist())
WRITER = text_of(["label", "writer", *PIXELS], [[row[0], 3, *row[1:]] for row in TABLE])
ROLES = ["a", "a", "a", "b", "b", "b", "b"]
USAGE = text_of([*HEADER, "Usage"], [[*row, role] for row, role in zip(TABLE, ROLES, strict=True)])
TRAINING = USAGE.replace(",a\n", ",Training\n").replace(",b\n", ",PublicTest\n")
TEXT_LATE = text_of(HEADER, [*TABLE, ["x", *FLAT[0]]])
IDS_LATE = text_of(["id", *HEADER], [[1, *TABLE[0]], ["b", *TABLE[1]]])
HIGH = text_of(HEADER, labelled(LABELS, (np.array(FLAT) * 4).tolist()))

CELLS = labelled(LABELS, [[" ".join(map(str, row))] for row in FLAT])

# Text, arguments, what the refusal names, and the arguments that then read the file.
REFUSALS = {
    "a table without a header": (
        text_of([0, *range(len(PIXELS), 0, -1)], [[1, *row[1:]] for row in TABLE]),
        [],
        ["out of order", "if this line is data, use --no-header"],
        ["--no-header", "--label-column", "0"],
    ),
    "cells of pixels beside the name of a split": (
        text_of(["emotion", "pixels", "Usage"], [[*row, "Training"] for row in CELLS]),
        [],
        ["column 'Usage': 'Training' is the name of a split", "--split-column Usage", "--drop-column Usage"],
        ["--drop-column", "Usage"],
    ),
    "cells of pixels beside a number": (
        text_of(["emotion", "pixels", "writer"], [[*row, 3] for row in CELLS]),
        [],
        ["column 'pixels' has several numbers", "--drop-column writer"],
        ["--drop-column", "writer"],
    ),
    "pixels of 0 to 1": (
        text_of(HEADER, UNIT),
        [],
        ["train.csv, line 2: column 'pixel1': '0.", "values here run from 0", "--pixel-range 0 1 "],
        ["--pixel-range", "0", "1"],
    ),
    "pixels of -1 to 1": (
        text_of(HEADER, labelled(LABELS, (np.array(FLAT) / 127.5 - 1).tolist())),
        [],
        ["train.csv, line 2: column 'pixel", "--pixel-range -1 1 "],
        ["--pixel-range", "-1", "1"],
    ),
    "pixels of 0 to 1 between semicolons": (
        text_of(HEADER, UNIT, ";"),
        [],
        ["train.csv, line 2: pixel 1 (counted from 0): 0.", "--pixel-range 0 1 "],
        ["--pixel-range", "0", "1"],
    ),
    "larger pixels": (HIGH, [], ["is outside 0..255", "--pixel-range 0 1023"], ["--pixel-range", "0", "1023"]),
    "a range that is too small": (HIGH, ["--pixel-range", "0", "9"], ["outside --pixel-range 0 9"], None),
    "a half": (text_of(HEADER, TABLE) + "1" + ",12.5" * 16, [], ["line 9", "'12.5' is not a plain integer"], None),
    "an extra column": (WRITER, [], ["extra column 'writer'", "--drop-column"], ["--drop-column=writer"]),
    "two labels": (
        WRITER.replace("writer", "character"),
        [],
        ["'label' and 'character'", "--label-column", "--drop-column"],
        ["--drop-column=character"],
    ),
    "a column of splits": (TRAINING, [], ["extra column 'Usage'", "--split-column"], ["--split-column=Usage"]),
    "an option for a column that no file has": (
        text_of(HEADER, TABLE),
        ["--drop-column=writer"],
        ["no column 'writer' for --drop-column; it has 'label', 'pixel0', 'pixel1', ..."],
        None,
    ),
    "a column of splits, not named": (
        TRAINING.replace(",".join(PIXELS), ",".join("abcdefghijklmnop")),
        [],
        ["line 2: column 'Usage': 'Training' is the name of a split", "--split-column Usage", "--drop-column Usage"],
        ["--split-column=Usage"],
    ),
    "a column of splits with unusual names": (
        USAGE,
        ["--split-column=Usage"],
        ["column 'Usage' has 'a', 'b'", "--split-map VALUE=NAME"],
        ["--split-map", "a=train", "b=none"],
    ),
    "a column of splits has val, and a fraction is to be drawn": (
        TRAINING,
        ["--split-column=Usage", "--val-fraction=0.5"],
        ["--val-fraction takes rows out of 'train' for a new split 'val'", "the data have: train, val; omit it"],
        None,
    ),
    "no row of a split is left": (
        TRAINING,
        ["--split-column=Usage", "--split-map", "Training=none", "PublicTest=none"],
        ["column 'Usage' leaves no row"],
        None,
    ),
    "a name among numbers as labels": (
        TEXT_LATE,
        [],
        ["line 9", "'x' is not a plain non-negative integer", "--text-column label"],
        ["--text-column=label"],
    ),
    "a name among numbers as labels, between tabs": (
        TEXT_LATE.replace(",", "\t"),
        [],
        ["line 9: column 'label': 'x'", "--text-column label"],
        ["--text-column=label"],
    ),
    "a name among numbers as ids": (IDS_LATE, [], ["line 3", "'b'", "--text-column id"], ["--text-column=id"]),
    "a label below 0": (
        text_of(HEADER, labelled([-1, *LABELS[1:]], FLAT)),
        [],
        ["line 2: column 'label': '-1' is not a plain non-negative integer", "--text-column label"],
        ["--text-column=label"],
    ),
    "a header taken for data": (
        "a,b\n1,2\n",
        ["--no-header", "--label-column=0"],
        ["line 1: column 1 (counted from 0): 'b' is not a plain", "omit --no-header", "--drop-column 1"],
        None,
    ),
    "a comment": ("# from somewhere\n" + text_of(HEADER, TABLE), [], ["train.csv, line 1: a comment"], None),
    "a decimal comma": (
        text_of(HEADER, [[1, "0,5", *FLAT[0][1:]]], ";"),
        [],
        ["line 2: column 'pixel0': '0,5' is written with a decimal comma"],
        None,
    ),
    "columns of several kinds": (
        text_of(["writer", "page", *HEADER], [[3, 4, *row] for row in TABLE]),
        [],
        ["extra columns 'writer', 'page': not pixels like 'pixel0'", "--drop-column 'writer' --drop-column 'page', or"],
        ["--drop-column=writer", "--drop-column=page"],
    ),
    "an index that repeats": (
        text_of(["", *HEADER], [[3, *row] for row in TABLE]),
        [],
        ["line 3: id 3 is a duplicate", "--id-column none"],
        ["--id-column=none"],
    ),
    "text among pixels": (
        text_of(["label", *"abcdefghijklmnop", "writer"], [[*row, "anna"] for row in TABLE]),
        [],
        ["line 2: column 'writer': 'anna' is not a plain integer", "--drop-column writer"],
        ["--drop-column=writer"],
    ),
    "names in a column of an unusual name": (
        text_of(["kind", *"abcdefghijklmnop"], labelled(NAMES, FLAT)),
        [],
        ["line 2: column 'kind': 'cow' is not a plain integer", "--label-column", "--drop-column kind"],
        ["--label-column=kind"],
    ),
    "text among pixels further down": (
        text_of(["label", *"abcdefghijklmno", "writer"], [*TABLE, [*TABLE[0][:-1], "anna"]], ";"),
        [],
        ["line 9: column 'writer': 'anna' is not a number", "--drop-column writer"],
        None,
    ),
    "text among pixels between tabs": (
        text_of(["label", *"abcdefghijklmnop", "writer"], [[*row, "anna"] for row in TABLE], "\t"),
        [],
        ["line 2: column 'writer': 'anna' is not", "--drop-column writer"],
        ["--drop-column=writer"],
    ),
    "three planes given as torch does": (
        text_of(["label", *COLOR_PIXELS], COLOR_TABLE),
        ["--image-shape", "3", "4", "5"],
        ["--image-shape 4 5 3 --layout CHW", "--layout HWC"],
        None,
    ),
    "colors without a shape": (
        text_of(["label", *COLOR_PIXELS], COLOR_TABLE),
        [],
        ["48 pixel columns", "--image-shape 4 4 3", "--layout CHW for planes"],
        ["--image-shape", "4", "4", "3"],
    ),
    "many channels": (
        text_of(["label", *COLOR_PIXELS], COLOR_TABLE),
        ["--image-shape", "2", "2", "12"],
        ["12 channels", "--layout HWC"],
        None,
    ),
    "no labels": (
        text_of(PIXELS, FLAT),
        [],
        ["no labels, which 'train' needs", "--label-column", "--labels train=FILE"],
        ["--labels=train={folder}/labels.csv"],
    ),
    "too few labels": (
        text_of(PIXELS, [*FLAT, FLAT[0]]),
        ["--labels=train={folder}/labels.csv"],
        ["labels.csv: 7 labels, but", "train.csv has more rows"],
        None,
    ),
    "too many labels": (
        text_of(PIXELS, FLAT[1:]),
        ["--labels=train={folder}/labels.csv"],
        ["labels.csv: 7 labels, but", "train.csv has 6 rows"],
        None,
    ),
    "labels twice": (
        text_of(HEADER, TABLE),
        ["--labels=train={folder}/labels.csv"],
        ["train.csv: has labels itself", "--drop-column label"],
        ["--drop-column=label"],
    ),
    "one-hot labels that are not": (
        text_of(HEADER, TABLE),
        ["--one-hot-labels=3"],
        ["neither the last nor the first 3 of 17 columns", "--one-hot-labels"],
        None,
    ),
    "one-hot labels, one row of which is not": (
        text_of([*PIXELS, "a", "b"], [[*row, 1, k // 6] for k, row in enumerate(FLAT)]),
        ["--one-hot-labels=2"],
        ["line 8: its one-hot label is not a single 1"],
        None,
    ),
    "no header": (
        text_of(None, [[3.0, *[0.0] * 15, 255.0], [4.0, *map(float, range(16))]]),
        [],
        ["is repeated", "--no-header"],
        ["--no-header", "--label-column=0"],
    ),
    "a row that is too short": (text_of(HEADER, TABLE, ";") + "1;2\n", [], ["line 9: column 'pixel1' is empty"], None),
    "a row that is too long": (text_of(HEADER, TABLE, ";") + "1;" * 30 + "\n", [], ["train.csv: ", "17 columns"], None),
    "a cell of fewer pixels": ("label,pixels\n1,1 2 3 4\n1,1 2 3\n", [], ["line 3: 3 pixels, another row has 4"], None),
    "a cell of text": ("label,pixels\n1,1 2 3 4\n1,1 2 3 x\n", [], ["line 3: pixel 'x' is not a number"], None),
    "a cell that ends in text": ("label,pixels\n1,1 2 3 4x\n", [], ["line 2: pixel '4x' is not a number"], None),
    "a value behind the comma that ends the first row": (
        text_of([*HEADER, ""], [[*row, "x" if k else ""] for k, row in enumerate(TABLE)]),
        [],
        ["line 3: column 17 (counted from 0): 'x', but it is empty in the first row", "--drop-column 17"],
        ["--drop-column=17"],
    ),
    "colons between the values": (
        text_of(HEADER, TABLE, ":"),
        [],
        ["train.csv, line 1: values seem to be separated by ':'; give --separator ':'"],
        ["--separator=:"],
    ),
    "another separator than the one given": (
        text_of(HEADER, TABLE, ";"),
        ["--separator=tab"],
        ["line 1: values are separated by semicolons; omit --separator"],
        ["--separator=;"],
    ),
    "pixels outside the given range": (
        text_of(HEADER, TABLE),
        ["--pixel-range", "0", "1"],
        ["is outside --pixel-range 0 1; values here run from 0 to 255: --pixel-range 0 255 scales"],
        ["--pixel-range", "0", "255"],
    ),
    "no label in a row": (
        text_of(HEADER, labelled([*NAMES[:6], ""], FLAT)),
        [],
        ["line 8: column 'label' is empty"],
        None,
    ),
}
