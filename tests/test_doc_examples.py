"""The Python blocks of docs/api.md and README.md, run as they are in one folder."""

import pathlib
import re

from tests.helpers.datasets import bars, write_csv

ROOT = pathlib.Path(__file__).parent.parent


def blocks(name: str) -> list[str]:
    return re.findall(r"^```python\n(.*?)^```$", (ROOT / name).read_text(encoding="utf-8"), re.DOTALL | re.MULTILINE)


def test_examples_run_as_they_are(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    write_csv(tmp_path / "train.csv", *bars(range(300)))
    write_csv(tmp_path / "test.csv", bars(range(300, 340))[0])
    examples = [*blocks("docs/api.md"), *blocks("README.md")]
    assert len(examples) == 6
    names: dict = {"__name__": "examples"}
    for example in examples:
        exec(compile(example, "an example", "exec"), names)  # noqa: S102
    out = capsys.readouterr().out
    assert "audit of epoch 2: 270 of 270 examples, each once" in out
    assert names["probabilities"].shape == (3, 3)
    assert names["train"].cardinality() == 5
