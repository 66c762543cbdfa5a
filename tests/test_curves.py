"""Curves of all kinds of histories, with and without rows of steps."""

import numpy as np
import pytest
from matplotlib.figure import Figure

from pipeline.evaluate.curves import CURVES, curves
from pipeline.evaluate.figures import BLUE
from tests.helpers.pictures import check_picture, count_pixels

EPOCH = {"epoch": 1, "step": 40, "loss": 0.9, "accuracy": 0.7, "val_loss": 0.8, "val_accuracy": 0.75}
RATES = {"learning_rate": 0.1, "images_per_second": 900.0}


@pytest.mark.parametrize(
    "history",
    [
        [EPOCH],
        [{**EPOCH, **RATES, "epoch": k} for k in range(1, 8)],
        [EPOCH, {**EPOCH, "epoch": 2, "val_loss": np.nan}],
        [{"epoch": 1, "step": 40, "loss": 0.0, "accuracy": 1.0}],
        [{**EPOCH, "val_loss": None, "val_accuracy": None}],
    ],
    ids=["one epoch", "seven", "a gap", "no validation, all right", "validation is None"],
)
def test_curves_without_steps(tmp_path, history):
    curves(history, [], tmp_path)
    names = [f"curve_{key}.png" for key in CURVES if key in history[0]]
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(names)
    for number, name in enumerate(names):
        (tmp_path / str(number)).mkdir()
        check_picture((tmp_path / name).rename(tmp_path / str(number) / name))


def test_a_curve_has_a_point_per_step(tmp_path):
    """Noise that an epoch's mean hides makes the line cover more of the picture."""
    history, blue = [{**EPOCH, **RATES, "epoch": k, "step": 40 * k} for k in (1, 2)], (0, 0x72, 0xB2)
    steps = [{"step": k, "loss": 0.9 + 0.5 * (k % 2), "accuracy": 0.7, **RATES} for k in range(1, 81)]
    curves(history, [], tmp_path)
    before = count_pixels(tmp_path / "curve_loss.png", blue)
    curves(history, steps, tmp_path)
    assert count_pixels(tmp_path / "curve_loss.png", blue) > 5 * before > 0 and BLUE == "#0072B2"


@pytest.mark.parametrize(("first", "last"), [(0.37, 0.31), (2.6, 0.36), (2.3, 0.0001)])
def test_the_axis_of_the_loss_has_plain_numbers(tmp_path, monkeypatch, first, last):
    labels, save = [], Figure.savefig

    def read_and_save(figure, *args, **kwargs):
        labels.extend(label.get_text() for label in figure.axes[0].yaxis.get_ticklabels(which="both"))
        save(figure, *args, **kwargs)

    monkeypatch.setattr(Figure, "savefig", read_and_save)
    curves([{"epoch": k, "step": 40 * k, "loss": loss} for k, loss in ((1, first), (2, last))], [], tmp_path)
    values = [float(label.replace("\N{MINUS SIGN}", "-")) for label in labels if label]
    assert sum(last <= value <= first for value in values) > 1
