"""Labels as containers have them to those of a RawRows: int64, or an object array of str for names."""

from collections.abc import Sequence

import numpy as np

from pipeline.errors import InputError, shorten


def as_labels(where: str, values: np.ndarray) -> np.ndarray:
    """int64 [n], or object [n] of str, of labels [n], [n, 1] or, one-hot, [n, classes].

    `where` is the start of messages, such as "x.npz, array y_train".

    Raises:
        InputError: they are not one whole number or name per row.
    """
    if values.ndim == 2 and values.shape[1] == 1:
        values = values[:, 0]
    if values.ndim == 2:
        if (row := first_not_one_hot(values)) is not None:
            raise InputError(
                f"{where}: {values.shape[1]} labels per image, and those of row {row} (from 0) are not one-hot"
            )
        values = values.argmax(axis=1)
    if values.ndim != 1:
        shape = " x ".join(map(str, values.shape))
        raise InputError(f"{where}: labels of {shape} values; one number or name per image is needed")
    if values.dtype == object:
        return values
    if values.dtype.kind in "US":
        return as_names([_text(value) for value in values.tolist()])
    if values.dtype.kind not in "biuf":
        raise InputError(f"{where}: labels of type {values.dtype}; give whole numbers or names")
    numbers = values.astype(np.int64)
    wrong = numbers != values
    if wrong.any():
        row = int(wrong.argmax())
        raise InputError(f"{where}: label {shorten(values[row].item())} of row {row} (from 0) is not a whole number")
    return numbers


def as_names(texts: Sequence[str]) -> np.ndarray:
    """An object array [n] of str."""
    names = np.empty(len(texts), object)
    names[:] = texts
    return names


def _text(value: str | bytes) -> str:
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else value


def from_texts(texts: Sequence[str], keep_zeros: bool = False) -> np.ndarray:
    """int64 [n] if every text is a whole number, such as names of folders 0 to 9; else the texts as names.

    With `keep_zeros` codes such as 00042 are names, since a number would lose the zeros.
    """
    are_codes = keep_zeros and any(len(text) > 1 and text.startswith("0") for text in texts)
    if not are_codes and all(text.isascii() and text.isdigit() and len(text) <= 18 for text in texts):
        return np.array([int(text) for text in texts], np.int64)
    return as_names(texts)


def first_not_one_hot(values: np.ndarray) -> int | None:
    """The first row of labels [n, classes] that is not a single 1 among zeros."""
    wrong = ((values == 1).sum(axis=1) != 1) | ((values == 0).sum(axis=1) != values.shape[1] - 1)
    return int(wrong.argmax()) if wrong.any() else None
