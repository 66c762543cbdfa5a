"""The Python blocks of docs/api.md and README.md, run as they are, and the options of every command in the docs."""

import importlib
import pathlib
import re
import shlex

import pytest

from pipeline.errors import InputError
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


def command_lines() -> list[str]:
    """The commands in the indented blocks of README.md and docs/, with continued lines joined."""
    texts = [path.read_text(encoding="utf-8") for path in (ROOT / "README.md", *sorted(ROOT.glob("docs/*.md")))]
    lines = re.findall(
        r"^    (?:srun )?python ((?:train|tools/\w+)\.py .*)$", re.sub(r"\\\n *", "", "\n".join(texts)), re.M
    )
    return sorted({line.partition("  #")[0] for line in lines})


# launch.py works without files: it starts workers.
@pytest.mark.parametrize("line", [line for line in command_lines() if "launch.py" not in line])
def test_commands_of_the_docs_have_valid_options(line, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")  # there are no credentials, so nothing is sent
    script, *arguments = shlex.split(line)
    command = importlib.import_module(script.removesuffix(".py").replace("/", "."))
    # The files that it names do not exist.
    with pytest.raises((InputError, FileNotFoundError)) as caught:
        command.main(arguments)
    assert "--help" not in str(caught.value)
