"""Seconds from starting the command to its first answer, against what importing and loading take by themselves.

Run from the repository's root: `python benchmarks/start_up.py`. Medians of fresh processes, started in turn.
"""

import argparse
import os
import statistics
import subprocess
import sys
import time

from ram_hf.model.bundled import DEFAULT_MODEL, find_bundled

LOADING = """
from transformers import CLIPModel, PreTrainedModel, ProcessorMixin
from ram_hf import RamModel
RamModel.from_pretrained({model!r})
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--model", default=DEFAULT_MODEL, help="model to load")
    parser.add_argument("--picture", default="examples/pictures/photo-cat.jpg", help="picture to tag")
    parser.add_argument("--rounds", type=int, default=7, help="fresh processes of each kind")
    options = parser.parse_args()
    os.environ["HF_HUB_OFFLINE"] = "1"
    folder = str(find_bundled(options.model))
    ram = [sys.executable, "-m", "ram_hf"]
    commands = {
        "python -c pass": [sys.executable, "-c", "pass"],
        "ram-hf --help": [*ram, "--help"],
        "import transformers, load the weights": [sys.executable, "-c", LOADING.format(model=folder)],
        "ram-hf tag one.jpg": [*ram, "tag", options.picture, "--labels", "cat, dog, car", "--model", folder],
    }
    seconds: dict[str, list[float]] = {name: [] for name in commands}
    for _ in range(options.rounds):
        for name, command in commands.items():
            start = time.perf_counter()
            subprocess.run(command, check=True, capture_output=True)
            seconds[name].append(time.perf_counter() - start)
    medians = {name: statistics.median(values) for name, values in seconds.items()}
    for name, value in medians.items():
        print(f"{name:40} {value:6.2f} s")
    load, tag = list(medians.values())[-2:]
    print(f"{'tag over import and load':40} {tag / load:6.2f}")


if __name__ == "__main__":
    main()
