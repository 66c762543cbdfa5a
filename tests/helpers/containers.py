"""Small files of the layouts in which people have images: arrays, image files, Parquet; and files that are neither."""

import gzip
import io
import json
import pathlib
import struct
import zipfile

import numpy as np
from PIL import Image

from pipeline.convert.readers import find_reader
from pipeline.convert.table import TableFile
from tests.helpers.datasets import bars

IMAGES, LABELS = bars(range(30))
COLOR = np.stack([IMAGES, IMAGES // 2, 255 - IMAGES], axis=-1)
CLASSES = ("ant", "bee", "cat")
NAMES = [CLASSES[label] for label in LABELS]
_IDX_TYPES = {"uint8": 0x08, "int8": 0x09, "int16": 0x0B, "int32": 0x0C, "float32": 0x0D, "float64": 0x0E}


def idx(array: np.ndarray) -> bytes:
    """An array as MNIST's files have it."""
    header = bytes([0, 0, _IDX_TYPES[array.dtype.name], array.ndim]) + struct.pack(f">{array.ndim}I", *array.shape)
    return header + array.astype(array.dtype.newbyteorder(">")).tobytes()


def npz(path: pathlib.Path, **arrays: np.ndarray) -> pathlib.Path:
    """An .npz as numpy.savez_compressed writes it, under any name."""
    with path.open("wb") as file:
        np.savez_compressed(file, **arrays)
    return path


def npy(array: np.ndarray) -> bytes:
    """An array as numpy.save writes it."""
    data = io.BytesIO()
    np.save(data, array)
    return data.getvalue()


def picture(image: np.ndarray, kind: str = "PNG", **options) -> bytes:
    """An encoded image."""
    data = io.BytesIO()
    Image.fromarray(image).save(data, kind, **options)
    return data.getvalue()


def write_pictures(folder: pathlib.Path, images, kind: str = "png", by_class: bool = True) -> pathlib.Path:
    """FOLDER/CLASS/ROW.png, or FOLDER/ROW.png."""
    for row, image in enumerate(images):
        parent = folder / NAMES[row] if by_class else folder
        parent.mkdir(parents=True, exist_ok=True)
        (parent / f"{row}.{kind}").write_bytes(picture(image, {"jpg": "JPEG"}.get(kind, kind.upper())))
    return folder


def write_list(path: pathlib.Path, header: str, rows) -> pathlib.Path:
    """A CSV of texts."""
    path.write_text("\n".join([header, *rows]) + "\n")
    return path


def hub_metadata(class_names=CLASSES) -> dict:
    """What Hugging Face's `datasets` writes into the schema of a Parquet file."""
    label = {"names": list(class_names), "_type": "ClassLabel"}
    return {"huggingface": json.dumps({"info": {"features": {"image": {"_type": "Image"}, "label": label}}})}


def zipped(members: dict[str, bytes], method: int = zipfile.ZIP_DEFLATED) -> bytes:
    """A zip of names and contents."""
    data = io.BytesIO()
    with zipfile.ZipFile(data, "w", method) as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return data.getvalue()


def read(path, options, split: str = "train"):
    """Images uint8 [n, H, W, C], labels and ids as the reader of a file has them, through the converter's TableFile."""
    reader = find_reader(pathlib.Path(path), options, split)
    names = reader.class_names or sorted({label for block in reader.labels() for label in block})
    table = TableFile(reader, options, {name: place for place, name in enumerate(names)})
    scan = table.scan(0, None)
    rows = [table.parse(block) for block in table.read(table.first_row, None)]
    images = np.concatenate([block.images for block in rows]).reshape(-1, *table.image_shape)
    labels = np.concatenate([block.labels for block in rows]) if reader.has_labels else None
    np.testing.assert_array_equal(scan.labels, np.full(len(images), -1) if labels is None else labels)
    ids = np.concatenate([block.ids for block in reader.blocks()]) if reader.has_ids else None
    if ids is not None:
        np.testing.assert_array_equal(np.concatenate(list(reader.ids())), ids)
    return images, labels, ids


GIT_LFS = b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a2146\nsize 12345\n"
PAGE = b"\n<!DOCTYPE html>\n<html><head><title>Sign in</title></head></html>\n"
TAR = b"train.csv".ljust(257, b"\0") + b"ustar\x0000" + bytes(300)
PICKLE = b"\x80\x04\x95\x0b\x00\x00\x00\x00\x00\x00\x00]\x94(K\x01K\x02e."
OTHER_KINDS = {
    "Git LFS pointer": (GIT_LFS, "a Git LFS pointer, not the file itself; run: git lfs pull"),
    "web page": (PAGE, "a web page, not data, so probably a failed download; get it again"),
    "HDF5": (b"\x89HDF\r\n\x1a\n" + bytes(90), "an HDF5 file; save its arrays with numpy.savez"),
    "MATLAB": (b"MATLAB 5.0 MAT-file, Platform: GLNXA64".ljust(128) + bytes(9), "a MATLAB file; load it with scipy"),
    "pickle": (PICKLE, "a pickle, which can run code when it is loaded, so it is not read; save its arrays"),
    "PNG": (picture(IMAGES[0]), "a single PNG image; give a folder of images"),
    "JPEG": (picture(IMAGES[0], "JPEG"), "a single JPEG image; give a folder of images"),
    "7z": (b"7z\xbc\xaf\x27\x1c rest", "a 7z archive; unpack it and give what is inside"),
    "RAR": (b"Rar!\x1a\x07 rest", "a RAR archive; unpack it"),
    "tar": (TAR, "a tar archive; unpack it"),
    "gzip in a zip": (zipped({"a.gz": gzip.compress(b"1")}), "a gzip file within an archive; unpack it"),
    "tar.gz": (gzip.compress(TAR), "a tar archive; unpack it"),
    "ARFF": (b"@RELATION x\n@ATTRIBUTE a REAL\n@DATA\n1\n", "an ARFF file; remove its lines up to @data"),
    "LIBSVM": (b"3 12:0.5 13:1 40:0.25\n", "LIBSVM's sparse text; load it with sklearn.datasets.load_svmlight_file"),
    "JSON": (b'{"label": 1}', "JSON; give CSV, IDX, .npy"),
    "SQLite": (b"SQLite format 3\0" + bytes(90), "an SQLite database; write its table as CSV"),
    "Excel": (zipped({"[Content_Types].xml": b"x", "xl/workbook.xml": b"x"}), "an Excel workbook; save it as CSV"),
    "PyTorch": (zipped({"archive/data.pkl": PICKLE, "archive/version": b"3"}), "a PyTorch file, a pickle"),
    "zip of images": (
        zipped({f"cat/{k}.png": b"x" for k in range(3)}),
        "a zip of 3 images; unpack it and give the folder",
    ),
    "unknown": (b"\x01\x02\x00\x03" * 9, "a binary file of a kind that is not read; give CSV, IDX"),
}
