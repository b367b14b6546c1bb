"""The notebook of the first flight runs from its first cell to its last."""

import os
from pathlib import Path
from typing import Any

import pytest

from ..conftest import ROUGHLY

EXAMPLES = Path(__file__).parents[2] / "examples"
NOTEBOOK = EXAMPLES / "first_flight.ipynb"

nbformat = pytest.importorskip("nbformat", reason="nbformat is not installed")


SMALL = """env_steps=64, overrides=[
    "train.num_envs=4", "train.rollout_length=8", "train.iterations_per_chunk=2", "train.eval_episodes=1",
    "agent.units=4", "agent.layers=1", "agent.epochs=1", "agent.minibatches=2"]"""


def notebook() -> Any:
    return nbformat.read(NOTEBOOK, as_version=4)


def test_the_notebook_is_stored_without_outputs() -> None:
    cells = [cell for cell in notebook().cells if cell.cell_type == "code"]
    assert len(cells) >= 5
    assert [cell.outputs for cell in cells] == [[] for _ in cells]
    assert {cell.execution_count for cell in cells} == {None}


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # of the libraries that execute notebooks
def test_the_notebook_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    nbclient = pytest.importorskip("nbclient", reason="nbclient is not installed")
    pytest.importorskip("ipykernel", reason="ipykernel is not installed")
    source = str(EXAMPLES.parent / "src")
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([source, os.environ.get("PYTHONPATH", "")]))
    monkeypatch.setenv("XLA_FLAGS", ROUGHLY)  # quicker
    book = notebook()
    (trains,) = (cell for cell in book.cells if "env_steps=65_536" in cell.source)
    trains.source = trains.source.replace("env_steps=65_536", SMALL)
    done = nbclient.NotebookClient(
        book, timeout=1200, kernel_name="python3", resources={"metadata": {"path": str(tmp_path)}}
    ).execute()
    printed = "".join(
        output.get("text", "") for cell in done.cells if cell.cell_type == "code" for output in cell.outputs
    )
    assert "success" in printed and "after 25" in printed and "environment steps: 64\n" in printed
    pictures = [o for cell in done.cells for o in cell.get("outputs", []) if "image/png" in o.get("data", {})]
    assert len(pictures) == 1
