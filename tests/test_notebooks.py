"""The notebooks run from top to bottom, as they are, and show what came of it."""

import json
import runpy
from pathlib import Path

import nbclient
import nbformat
import pytest

NOTEBOOKS = sorted((Path(__file__).parents[1] / "notebooks").glob("*.ipynb"))


def test_there_are_notebooks():
    assert {path.stem for path in NOTEBOOKS} >= {"quickstart", "your_own_labels", "inside_the_plan"}


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_can_be_read_without_running_it(path):
    """Its outputs are those of one run, from top to bottom, without what belongs to a machine: `notebooks/run.py`."""
    cells = [cell for cell in nbformat.read(path, as_version=4).cells if cell.cell_type == "code"]
    assert [cell.execution_count for cell in cells] == list(range(1, len(cells) + 1))
    assert not any("execution" in cell.metadata for cell in cells)
    assert any(cell.outputs for cell in cells)
    streams = json.dumps([output for cell in cells for output in cell.outputs if output.output_type == "stream"])
    of_a_machine = ("site-packages", "it/s", "%|", "\\r", "Warning", "/tmp/")
    assert [mark for mark in of_a_machine if mark in streams] == []


def test_what_is_kept_of_a_run_is_without_bars():
    file = Path(__file__).parents[1] / "notebooks" / "run.py"
    without_bars = runpy.run_path(str(file))["without_bars"]
    told = "What trains: adapters 2.\n  0%|          | 0/75 [00:00<?, ?step/s]Training 75 steps.\n"
    told += "100%|██████████| 75/75 [01:29<00:00,  1.20s/step, images/s=20.7, loss=11.2770]\n"
    assert without_bars(told) == "What trains: adapters 2.\nTraining 75 steps.\n"
    table = "plain: 100% of [12] | labels\n"
    assert without_bars(table) == table


@pytest.mark.slow
@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_runs(path):
    notebook = nbformat.read(path, as_version=4)
    nbclient.NotebookClient(notebook, timeout=300, resources={"metadata": {"path": str(path.parent)}}).execute()
