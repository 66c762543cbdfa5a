"""docs/quickstart.ipynb, run from its first cell to its last as Jupyter does."""

import pathlib

import pytest

ROOT = pathlib.Path(__file__).parent.parent


def test_the_notebook_runs(tmp_path, monkeypatch):
    nbformat = pytest.importorskip("nbformat", reason="the extra test brings nbclient and ipykernel")
    nbclient = pytest.importorskip("nbclient", reason="the extra test brings nbclient and ipykernel")
    monkeypatch.setenv("PYTHONPATH", str(ROOT))  # of the kernel, which runs in a folder of its own
    monkeypatch.setenv("IPYTHONDIR", str(tmp_path / "ipython"))
    notebook = nbformat.read(ROOT / "docs/quickstart.ipynb", as_version=4)
    assert not any(cell.get("outputs") for cell in notebook.cells)  # a diff shows changes of the code alone
    nbclient.NotebookClient(notebook, timeout=300, resources={"metadata": {"path": str(tmp_path)}}).execute()
    text = "".join(output.get("text", "") for cell in notebook.cells for output in cell.get("outputs", ()))
    assert "audit of epoch 2: 720 of 720 examples, each once" in text
    assert (tmp_path / "runs/quickstart/model.keras").is_file()
