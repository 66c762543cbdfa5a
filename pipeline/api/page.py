"""RUN/report.html: one page with everything about a run, which needs no other file and no network.

It is a pure function of the files of the run directory, so it can be written again at any time.
"""

import base64
import csv
import importlib.resources
import json
import pathlib
import shlex
import struct
from collections.abc import Mapping, Sequence
from typing import Any

from pipeline.api.diagnosis import diagnose_accuracy, diagnose_speed
from pipeline.errors import InputError
from pipeline.evaluate.curves import CURVES
from pipeline.evaluate.metrics import FILE_NAME as EVALUATION_NAME
from pipeline.evaluate.report import FIGURES_NAME
from pipeline.evaluate.saved_run import CONFIG_NAME, SERIES_NAME
from pipeline.files import write_text
from pipeline.train.run_dir import HISTORY_NAME, STEPS_NAME

PAGE_NAME = "report.html"
_TEMPLATE, _SERIES_TEMPLATE = "page.html.j2", "series.html.j2"
_MAX_CLASSES = 50  # in a table
_MAX_GROUPS = 40
# Settings that say where results go, not what they are.
_PLACES = ("data", "run_dir", "fresh")


def write_page(run_dir: pathlib.Path) -> pathlib.Path:
    """Write report.html from config.json, evaluation.json, figures/ and the CSVs of a run; returns its path.

    Raises:
        InputError: one of the JSON files is missing, or a file cannot be read.
    """
    config, evaluation = (_read_json(run_dir / name) for name in (CONFIG_NAME, EVALUATION_NAME))
    try:
        values = _values(run_dir, config, evaluation)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise InputError(f"{run_dir}: not the files of one run ({error!r}); train again") from error
    return _write(run_dir, _TEMPLATE, values)


def write_series_page(run_dir: pathlib.Path, label: str) -> pathlib.Path:
    """Write report.html of a series from its series.json, a table with links to its runs; returns its path.

    Args:
        label: what the runs' predictions together are called: "ensemble" or "out of fold".

    Raises:
        InputError: series.json is missing or cannot be read.
    """
    series = _read_json(run_dir / SERIES_NAME)
    values = {"name": run_dir.resolve().name, "label": label, "joint": series[label.replace(" ", "_")]}
    return _write(run_dir, _SERIES_TEMPLATE, {**values, "runs": series["runs"], "splits": series["splits"]})


def _write(run_dir: pathlib.Path, template: str, values: Mapping[str, Any]) -> pathlib.Path:
    import jinja2

    environment = jinja2.Environment(autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True)
    environment.filters |= {"percent": "{:.2%}".format, "count": "{:,}".format}
    source = importlib.resources.files("pipeline.api").joinpath(template).read_text("utf-8")
    path = run_dir / PAGE_NAME
    write_text(path, environment.from_string(source).render(values))
    return path


def _values(run_dir: pathlib.Path, config: Mapping[str, Any], evaluation: Mapping[str, Any]) -> dict[str, Any]:
    """What the template shows."""
    data, splits, settings = config["data"], evaluation["splits"], config["settings"]
    history, steps = _read_rows(run_dir / HISTORY_NAME), _read_rows(run_dir / STEPS_NAME)
    judged = next((name for name in ("holdout", "val") if name in splits), None)
    return {
        "name": data["name"],
        "network": settings.get("model", ""),
        "judged": judged,
        "accuracy": splits[judged]["accuracy"] if judged else None,
        "facts": _facts(config, history),
        "speed": diagnose_speed(history, steps, settings.get("batch_size", 0)),
        "reason": diagnose_accuracy(history, splits, judged, settings.get("schedule", "")),
        "splits": splits,
        "groups": {name: _groups(split["groups"]) for name, split in splits.items() if split.get("groups")},
        "calibration": evaluation.get("calibration"),
        "classes": {name: split["classes"][:_MAX_CLASSES] for name, split in splits.items() if name != "train"},
        "confused": {name: split["confused_pairs"][:10] for name, split in splits.items() if name != "train"},
        "drift": ["; ".join(text["text"] for text in found.values()) for found in evaluation.get("drift", {}).values()],
        "curves": CURVES,
        "figure": lambda name: _inline(run_dir / FIGURES_NAME / f"{name}.png"),
        "predicted": _predicted(run_dir, splits),
        "command": _command(settings),
        "settings": {key: value for key, value in sorted(settings.items()) if key not in _PLACES},
        "card": _card(config),
    }


def _facts(config: Mapping[str, Any], history: Sequence[Mapping]) -> dict[str, str]:
    rows = config["data"]["num_examples"]
    facts = {
        "training rows": f"{config['holdout']['num_trained']:,} of {rows.get('train', 0):,}",
        "validation": {"split": "the split val"}.get(config["holdout"]["rows"], str(config["holdout"]["rows"])),
        "network": str(config["identity"]["network"]),
        "precision": str(config["precision"]),
        "devices": f"{config['strategy']['name']}: {', '.join(config['strategy']['devices'])}",
        "feed": f"{config['feed']['feed']}: {config['feed']['reason']}",
    }
    if history:
        seconds = sum(row["seconds"] or 0 for row in history)
        rates = sorted(row["images_per_second"] or 0 for row in history)
        facts["epochs"] = f"{len(history)}, {seconds:,.0f} s of training"
        facts["images/s"] = f"{rates[len(rates) // 2]:,.0f} (median of the epochs, {rates[0]:,.0f} to {rates[-1]:,.0f})"
    return facts


def _groups(groups: Mapping[str, Any]) -> dict[str, Any]:
    """The groups of lowest accuracy first."""
    order = sorted(range(len(groups["accuracies"])), key=groups["accuracies"].__getitem__)
    return {**groups, "lowest": [(number, groups["accuracies"][number]) for number in order[:_MAX_GROUPS]]}


def _predicted(run_dir: pathlib.Path, splits: Mapping[str, Any]) -> list[str]:
    """Splits without labels, of which only a grid of predictions was drawn."""
    names = sorted(path.stem.partition("_")[2] for path in (run_dir / FIGURES_NAME).glob("predictions_*.png"))
    return [name for name in names if name not in splits]


def _command(settings: Mapping[str, Any]) -> str:
    """A command that trains the same again: what differs from the defaults."""
    from pipeline.cli import flag_of
    from pipeline.train.config import TrainConfig

    data, run_dir = (shlex.quote(str(settings.get(name, ""))) for name in ("data", "run_dir"))
    defaults = TrainConfig(data=pathlib.Path("data"), run_dir=pathlib.Path("run"))
    words = ["python train.py", f"--data {data}", f"--run-dir {run_dir}"]
    for name, value in settings.items():
        if name in _PLACES or value is None or value == getattr(defaults, name, None):
            continue
        for item in value if isinstance(value, list) else [value]:
            words.append(flag_of(name) if item is True else f"{flag_of(name)} {shlex.quote(str(item))}")
    return " ".join(words)


def _card(config: Mapping[str, Any]) -> dict[str, str]:
    versions = ", ".join(f"{name} {version}" for name, version in config["versions"].items())
    return {
        "data": f"{config['data']['name']}, manifest SHA-256 {config['data']['manifest_sha256']}",
        "seed": str(config["identity"]["seed"]),
        "order of examples": str(config["identity"]["order"]),
        "versions": versions,
        "processor or GPU": ", ".join(config["hardware"]),
        "instructions": str(config["numerics"]["instructions"]),
    }


def _inline(path: pathlib.Path) -> dict[str, Any] | None:
    """A PNG as a data URL, with its width and height in pixels; None if there is none."""
    if not path.is_file():
        return None
    data = path.read_bytes()
    width, height = struct.unpack(">II", data[16:24])  # of the header, which comes first
    return {"url": f"data:image/png;base64,{base64.b64encode(data).decode()}", "width": width, "height": height}


def _read_json(path: pathlib.Path) -> Mapping[str, Any]:
    try:
        return json.loads(path.read_text("utf-8"))
    except (OSError, ValueError) as error:
        raise InputError(
            f"{path}: cannot be read ({error}); run the train.py command of this run to its end"
        ) from error


def _read_rows(path: pathlib.Path) -> list[dict[str, float | None]]:
    if not path.is_file():  # steps.csv of an older run
        return []
    with path.open(encoding="utf-8", newline="") as file:
        return [{name: float(text) if text else None for name, text in row.items()} for row in csv.DictReader(file)]
