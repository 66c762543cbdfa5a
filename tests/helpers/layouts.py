"""Small files of the layouts that people have, each with what a conversion must make of them.

`LAYOUTS` has a function per layout: it writes files into a folder and returns a `Case`. Pixels are random, so that any
other order or range of them shows.
"""

import dataclasses
import pathlib
from collections.abc import Callable

import numpy as np

SIDE = 4
NUM_ROWS = 7
IMAGES = np.random.default_rng(5).integers(0, 256, (NUM_ROWS, SIDE, SIDE, 1)).astype(np.uint8)
IMAGES[0, 0, 0] = 255
COLORED = np.random.default_rng(6).integers(0, 256, (NUM_ROWS, SIDE, SIDE, 3)).astype(np.uint8)
COLORED[0, 0, 0] = 255
LABELS = [2, 0, 1, 1, 0, 2, 1]
ANIMALS = ["cat", "bird", "cow"]
NAMES = [ANIMALS[label] for label in LABELS]
PIXELS = [f"pixel{k}" for k in range(SIDE * SIDE)]
FLAT = IMAGES.reshape(NUM_ROWS, -1).tolist()


@dataclasses.dataclass(frozen=True)
class Case:
    """A command's arguments, and per split the images uint8 [n, H, W, C], the names of labels, and the ids if given.

    `says` are parts of what is printed about guesses.
    """

    args: list[str]
    images: np.ndarray
    labels: list[str] | None
    ids: list[int] | None = None
    says: tuple[str, ...] = ()
    split: str = "train"
    rows: tuple[int, ...] = tuple(range(NUM_ROWS))


Write = Callable[[pathlib.Path], Case]
LAYOUTS: dict[str, Write] = {}


def layout(name: str) -> Callable[[Write], Write]:
    """Add a function to `LAYOUTS`."""

    def add(write: Write) -> Write:
        LAYOUTS[name] = write
        return write

    return add


def text_of(header: list[str] | None, rows: list[list], separator: str = ",") -> str:
    """A table of text."""
    lines = [*([header] if header else []), *rows]
    return "".join(separator.join(map(str, line)) + "\n" for line in lines)


def write(folder: pathlib.Path, text: str, name: str = "train.csv") -> str:
    """--split for a file of this text."""
    (folder / name).write_text(text, encoding="utf-8")
    return f"--split={name.partition('.')[0]}={folder / name}"


def labelled(labels: list, rows: list[list]) -> list[list]:
    return [[label, *row] for label, row in zip(labels, rows, strict=True)]


NUMBERS = list(map(str, LABELS))
HEADER = ["label", *PIXELS]
TABLE = labelled(LABELS, FLAT)


@layout("plain integers")
def _(folder):
    return Case([write(folder, text_of(HEADER, TABLE))], IMAGES, NUMBERS)


@layout("whole numbers as floats")
def _(folder):
    rows = [[float(value) for value in row] for row in TABLE]
    return Case([write(folder, text_of(HEADER, rows))], IMAGES, NUMBERS)


@layout("scientific notation, as numpy.savetxt writes it")
def _(folder):
    rows = [[f"{value:.18e}" for value in row] for row in TABLE]
    args = [write(folder, text_of(None, rows)), "--no-header", "--label-column=0"]
    return Case(args, IMAGES, NUMBERS)


@layout("a float late in a file of integers")
def _(folder):
    text = text_of(HEADER, TABLE)
    return Case([write(folder, text.rstrip("\n") + ".0\n")], IMAGES, NUMBERS)


@layout("a header as numpy.savetxt writes it")
def _(folder):
    return Case([write(folder, "# " + text_of(HEADER, TABLE))], IMAGES, NUMBERS)


@layout("a blank after the comma")
def _(folder):
    return Case([write(folder, text_of(HEADER, TABLE, ", "))], IMAGES, NUMBERS)


@layout("pandas' index without a name")
def _(folder):
    rows = [[k, *row] for k, row in enumerate(TABLE, 10)]
    says = ("column 0 has no name", "taken as id")
    return Case([write(folder, text_of(["", *HEADER], rows))], IMAGES, NUMBERS, list(range(10, 10 + NUM_ROWS)), says)


@layout("pandas' index read and written again, ignored")
def _(folder):
    rows = [[3, *row] for row in TABLE]
    args = [write(folder, text_of(["Unnamed: 0", *HEADER], rows)), "--id-column=none"]
    return Case(args, IMAGES, NUMBERS, list(range(NUM_ROWS)), ("'Unnamed: 0'", "ignored"))


@layout("a table of R, with names of rows")
def _(folder):
    header = " ".join(f'"{name}"' for name in HEADER) + "\n"
    text = header + "".join(f'"{k}" {" ".join(map(str, row))}\n' for k, row in enumerate(TABLE, 1))
    says = ("column 0 has no name", "separated by blanks")
    return Case([write(folder, text)], IMAGES, NUMBERS, list(range(1, 1 + NUM_ROWS)), says)


@layout("a header that pandas made of a first row, label first")
def _(folder):
    header = ["0", *(f"0.{k}" for k in range(1, 12)), "23", "107", "23.1", "9", "0.12"]
    return Case([write(folder, text_of(header, TABLE)), "--label-column=0"], IMAGES, NUMBERS)


@layout("pandas' index, written and read twice")
def _(folder):
    rows = [[k, k, *row] for k, row in enumerate(TABLE, 10)]
    args = [write(folder, text_of(["", "Unnamed: 0", *HEADER], rows))]
    return Case(args, IMAGES, NUMBERS, list(range(10, 10 + NUM_ROWS)), ("taken as id",))


@layout("class names as labels")
def _(folder):
    says = ("labels are names", "'bird', 'cat', 'cow'")
    return Case([write(folder, text_of(HEADER, labelled(NAMES, FLAT)))], IMAGES, NAMES, says=says)


@layout("Devanagari: names in the last column, called character")
def _(folder):
    names = [f"character_{label:02d}_ಕ" for label in LABELS]
    rows = [[*row, name] for row, name in zip(FLAT, names, strict=True)]
    return Case([write(folder, text_of([*PIXELS, "character"], rows))], IMAGES, names, says=("labels are names",))


@layout("letters and digits as labels, the first one a digit")
def _(folder):
    names = ["1", "A", "2", "2", "A", "1", "2"]
    args = [write(folder, text_of(HEADER, labelled(names, FLAT))), "--text-column=label"]
    return Case(args, IMAGES, names, says=("labels are names",))


@layout("columns beside label and pixels, a text id")
def _(folder):
    header = ["file", "writer", "label", "character", *PIXELS]
    rows = [[f"img_{k}.png", "anna", *row[:1], "ka", *row[1:]] for k, row in enumerate(TABLE)]
    args = [write(folder, text_of(header, rows)), "--id-column=file", "--label-column=label"]
    return Case([*args, "--drop-column=writer", "--drop-column=character"], IMAGES, NUMBERS)


_FER_VALUES = ["Training", "Training", "PublicTest", "PrivateTest", "Training", "PublicTest", "Training"]
_FER = [[label, " ".join(map(str, row)), value] for label, row, value in zip(LABELS, FLAT, _FER_VALUES, strict=True)]


def _fer_rows(value):
    return tuple(k for k, other in enumerate(_FER_VALUES) if other == value)


@layout("an id that is not wanted")
def _(folder):
    rows = [[3, *row] for row in TABLE]
    args = [write(folder, text_of(["id", *HEADER], rows)), "--id-column=none"]
    return Case(args, IMAGES, NUMBERS, list(range(NUM_ROWS)))


@layout("a label that is not wanted")
def _(folder):
    args = [write(folder, text_of(HEADER, labelled(NAMES, FLAT)), "more.csv"), "--label-column=none"]
    return Case(args, IMAGES, None, split="more")


@layout("FER2013: all pixels in one cell, Usage names the split")
def _(folder):
    path = folder / "fer2013.csv"
    path.write_text(text_of(["emotion", "pixels", "Usage"], _FER))
    args = [f"--split={path}", "--split-column=Usage"]
    says = ("Training is train, PublicTest is val, PrivateTest is test", "has all pixels of an image")
    return Case(args, IMAGES, NUMBERS, says=says, rows=_fer_rows("Training"))


@layout("FER2013 with its splits given")
def _(folder):
    path = folder / "fer2013.csv"
    path.write_text(text_of(["emotion", "pixels", "Usage"], _FER))
    args = [f"--split={path}", "--split-column=Usage", "--split-map", "PublicTest=none", "PrivateTest=holdback"]
    says = ("Training is train, PrivateTest is holdback",)
    return Case(args, IMAGES, NUMBERS, says=says, split="holdback", rows=_fer_rows("PrivateTest"))


@layout("FER2013 as one split")
def _(folder):
    args = [write(folder, text_of(["emotion", "pixels", "Usage"], _FER)), "--drop-column=Usage"]
    return Case(args, IMAGES, NUMBERS, says=("column 'pixels' has all pixels",))


@layout("a list of Python in one cell")
def _(folder):
    rows = [[label, f'"{row}"'] for label, row in zip(LABELS, FLAT, strict=True)]
    args = [write(folder, text_of(["label", "image"], rows))]
    return Case(args, IMAGES, NUMBERS, says=("column 'image' has all pixels",))


@layout("floats in one cell")
def _(folder):
    rows = [[label, " ".join(f"{value / 255:.6f}" for value in row)] for label, row in zip(LABELS, FLAT, strict=True)]
    args = [write(folder, text_of(["label", "pixels"], rows)), "--pixel-range", "0", "1"]
    return Case(args, IMAGES, NUMBERS, says=("column 'pixels' has all pixels",))


@layout("semicolons")
def _(folder):
    return Case([write(folder, text_of(HEADER, TABLE, ";"))], IMAGES, NUMBERS, says=("semicolons",))


@layout("tabs")
def _(folder):
    return Case([write(folder, text_of(HEADER, TABLE, "\t"))], IMAGES, NUMBERS, says=("tabs",))


@layout("tabs, given")
def _(folder):
    return Case([write(folder, text_of(HEADER, TABLE, "\t")), "--separator=tab"], IMAGES, NUMBERS)


@layout("blanks, as in USPS")
def _(folder):
    rows = [[f"{label:.4f} ", *(f"{value:.4f}" for value in row)] for label, row in zip(LABELS, FLAT, strict=True)]
    args = [write(folder, text_of(None, rows, " ")), "--no-header", "--label-column=0"]
    return Case(args, IMAGES, NUMBERS, says=("blanks",))


@layout("Semeion: one-hot labels after the pixels, blanks")
def _(folder):
    rows = [
        [*map(float, row), *(int(label == k) for k in range(3)), ""] for row, label in zip(FLAT, LABELS, strict=True)
    ]
    args = [write(folder, text_of(None, rows, " ")), "--no-header", "--one-hot-labels=3"]
    return Case(args, IMAGES, NUMBERS, says=("columns 16 to 18 are the one-hot label",))


@layout("one-hot labels before the pixels")
def _(folder):
    rows = [[*(int(label == k) for k in range(3)), *row] for row, label in zip(FLAT, LABELS, strict=True)]
    args = [write(folder, text_of(["a", "b", "c", *PIXELS], rows)), "--one-hot-labels=3"]
    return Case(args, IMAGES, NUMBERS, says=("columns 0 to 2 are the one-hot",))


@layout("MADBase: labels in a second file, in order")
def _(folder):
    (folder / "labels.txt").write_text(text_of(None, [[label] for label in LABELS]))
    args = [write(folder, text_of(None, FLAT)), "--no-header", f"--labels=train={folder}/labels.txt"]
    return Case(args, IMAGES, NUMBERS, says=("in the order of its rows",))


@layout("labels in a second file with a header, of images without")
def _(folder):
    (folder / "labels.txt").write_text(text_of(["label"], [[name] for name in NAMES]))
    args = [write(folder, text_of(None, FLAT)), "--no-header", f"--labels=train={folder}/labels.txt"]
    return Case(args, IMAGES, NAMES, says=("in the order of its rows",))


@layout("labels in a second file without a header, of images with one")
def _(folder):
    (folder / "labels.txt").write_text(text_of(None, [[k, label] for k, label in enumerate(LABELS)]))
    args = [write(folder, text_of(PIXELS, FLAT)), f"--labels=train={folder}/labels.txt"]
    return Case(args, IMAGES, NUMBERS, says=("in the order of its rows",))


@layout("labels in a second file, by id")
def _(folder):
    order = [3, 1, 6, 0, 2, 5, 4]
    (folder / "labels.txt").write_text(text_of(["id", "label"], [[100 + k, NAMES[k]] for k in order]))
    rows = [[100 + k, *row] for k, row in enumerate(FLAT)]
    args = [write(folder, text_of(["id", *PIXELS], rows)), f"--labels=train={folder}/labels.txt"]
    return Case(args, IMAGES, NAMES, [100 + k for k in range(NUM_ROWS)], ("by id",))


@layout("labels in a second file, in a column of an unusual name")
def _(folder):
    rows = [[100 + k, name, "anna"] for k, name in enumerate(NAMES)]
    (folder / "labels.txt").write_text(text_of(["id", "kind", "writer"], rows))
    rows = [[100 + k, *row] for k, row in enumerate(FLAT)]
    args = [write(folder, text_of(["id", *PIXELS], rows)), f"--labels=train={folder}/labels.txt"]
    return Case([*args, "--label-column=kind"], IMAGES, NAMES, [100 + k for k in range(NUM_ROWS)], ("by id",))


_ENDED = "a separator ends every row, so the empty column {} is ignored"


@layout("a comma at the end of every line")
def _(folder):
    text = text_of(HEADER, TABLE).replace("\n", ",\n")
    return Case([write(folder, text)], IMAGES, NUMBERS, says=(_ENDED.format(17),))


@layout("a semicolon at the end of every row")
def _(folder):
    text = text_of(HEADER, TABLE, ";").replace("\n", ";\n").replace(";\n", "\n", 1)
    return Case([write(folder, text)], IMAGES, NUMBERS, says=(_ENDED.format(17),))


@layout("a comma at the end of the header")
def _(folder):
    return Case([write(folder, text_of(HEADER, TABLE).replace("\n", ",\n", 1))], IMAGES, NUMBERS)


@layout("a comma at the end of every row, no header, one-hot labels")
def _(folder):
    rows = [[*row, *(int(label == k) for k in range(3)), ""] for row, label in zip(FLAT, LABELS, strict=True)]
    args = [write(folder, text_of(None, rows)), "--no-header", "--one-hot-labels=3"]
    return Case(args, IMAGES, NUMBERS, says=(_ENDED.format(19), "columns 16 to 18 are the one-hot label"))


@layout("a comma at the end of every line of a file of labels")
def _(folder):
    (folder / "labels.txt").write_text(text_of(["label"], [[name] for name in NAMES]).replace("\n", ",\n"))
    args = [write(folder, text_of(PIXELS, FLAT)), f"--labels=train={folder}/labels.txt"]
    return Case(args, IMAGES, NAMES, says=("in the order of its rows",))


@layout("validation is stored as val")
def _(folder):
    splits = [write(folder, text_of(HEADER, TABLE), f"{name}.csv") for name in ("train", "validation")]
    return Case(splits, IMAGES, NUMBERS, says=("'validation' is stored as 'val'",), split="val")
