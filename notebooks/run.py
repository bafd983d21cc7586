"""Run notebooks from top to bottom and keep what they show: `python notebooks/run.py [NOTEBOOK ...]`, all by default.

A notebook is written once all of it has run. Whoever ends this before sees an AssertionError of nbclient about its
kernel manager, which it lets go of twice.
"""

import os
import re
import sys
from pathlib import Path

import nbclient
import nbformat

NOTEBOOKS = Path(__file__).parent
_BAR = re.compile(r" *\d+%\|[^\[\n]*\[[^\]\n]*\]\n?")  # of training, which asks for it whatever TQDM_DISABLE says


def without_bars(text: str) -> str:
    """What a cell printed, without progress bars: they tell the time."""
    return _BAR.sub("", text)


def run(path: Path) -> None:
    """Run a notebook in its folder, with what is the same in each run: no bars, no times."""
    notebook = nbformat.read(path, as_version=4)
    nbclient.NotebookClient(
        notebook,
        timeout=None,
        record_timing=False,
        coalesce_streams=True,
        resources={"metadata": {"path": str(path.parent)}},
    ).execute()
    for cell in notebook.cells:
        for output in cell.get("outputs", ()):
            if output.output_type == "stream":
                output.text = without_bars(output.text)
    nbformat.write(notebook, path)


def main() -> None:
    os.environ |= {"TQDM_DISABLE": "1", "PYTHONWARNINGS": "ignore:IProgress not found"}  # tqdm's, of a missing package
    for path in map(Path, sys.argv[1:]) if sys.argv[1:] else sorted(NOTEBOOKS.glob("*.ipynb")):
        print(path, flush=True)
        run(path)


if __name__ == "__main__":
    main()
