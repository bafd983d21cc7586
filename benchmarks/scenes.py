"""Scenes a second: composed in memory at several sizes, and written by `ram-hf scenes`, in one process.

Run from the repository's root: `python benchmarks/scenes.py`. Each variant composes other scenes in every round; the
median round counts. Drawings are decoded before, which takes about a second once.
"""

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from ram_hf.scenes.corpus import write_scenes
from ram_hf.scenes.renderer import SceneRenderer

OBJECTS = {"one": (1, 1), "2 to 4": (2, 4), "1 to 6": (1, 6)}


def rates(render: Callable[[int], object], scenes: int, rounds: int) -> list[float]:
    """Scenes a second of each round."""
    found = []
    for number in range(rounds):
        start = time.perf_counter()
        for index in range(number * scenes, (number + 1) * scenes):
            render(index)
        found.append(scenes / (time.perf_counter() - start))
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--source", default="../shared/scenes", help="folder with the parts of scenes")
    parser.add_argument("--sizes", type=int, nargs="+", default=[64, 96], help="pixels")
    parser.add_argument("--licenses", default="permissive", choices=("permissive", "all"), help="parts to use")
    parser.add_argument("--scenes", type=int, default=500, help="scenes of a round")
    parser.add_argument("--rounds", type=int, default=5, help="timed rounds of each variant")
    options = parser.parse_args()

    print(f"{options.licenses} parts, rounds of {options.scenes} scenes, median of {options.rounds}\n")
    print("| pixels | objects | what | scenes/s |\n|---|---|---|---|")
    for size in options.sizes:
        for name, objects in OBJECTS.items():
            renderer = SceneRenderer(options.source, size=size, objects=objects, licenses=options.licenses)
            for concept in renderer.parts.concepts:
                for drawing in concept.drawings:
                    drawing.level(1.0)
            rate = statistics.median(rates(renderer.scene, options.scenes, options.rounds))
            print(f"| {size} | {name} | in memory | {rate:.0f} |")
        with tempfile.TemporaryDirectory() as folder:
            start = time.perf_counter()
            renderer = SceneRenderer(options.source, size=size, licenses=options.licenses)  # as cold as the command
            count = options.scenes * options.rounds
            write_scenes(renderer, Path(folder) / "scenes", images=count)
            print(f"| {size} | 1 to 6 | written, {count} cold | {count / (time.perf_counter() - start):.0f} |")


if __name__ == "__main__":
    main()
