"""What each part of the method is worth on photographs, and what the choices in its configuration rest on.

`python -m benchmarks.photo_ablation --clip runs/ram-photo/clip --photographs ../shared/photos [--held-back]`, from the
repository's root. Whatever is done already is kept: start it again to go on. What is found of each model goes to
`results.json` or `results-held-back.json` in the folder of the work, the table to standard output: mean and standard
deviation over the seeds. The same models are judged with `--held-back` and without it.
"""

import argparse
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from benchmarks.ablation import TRAINED, told, train_changed
from benchmarks.photo_sets import PhotoSet, open_sets
from benchmarks.photographs import CLIP, UNTRAINED, clip_rows, look, numbers
from ram_hf.pretrained import load_model
from ram_hf.pretraining.photo_rows import Nouns, write_multi_labels

TOKENS = {"token_learning_rate": 3e-4, "ram_config": {"ladder_tokens": 8, "prompt_tokens": 4}}
# What is trained: options that differ from the full method's, and what nouns are where no caption names them.
VARIANTS: dict[str, tuple[str, dict[str, Any], Nouns]] = {
    "full": ("full RAM", {}, "absent"),
    "without-lla": (*TRAINED["e"], "absent"),
    "without-kcot": (*TRAINED["f"], "absent"),
    "with-tokens": ("full RAM, with ladder tokens and prompts", TOKENS, "absent"),
    "augmented": ("full RAM, augmented", {"augment": True}, "absent"),
    "keys": ("full RAM, local attention by keys", {"ram_config": {"local_attention": "key"}}, "absent"),
    "nouns-unknown": ("full RAM, nouns unknown", {"max_grad_norm": 1.0}, "unknown"),  # its gradients begin large
    "nouns-left-out": ("full RAM, exact labels alone", {}, "left-out"),
}
MODELS = (CLIP, UNTRAINED)  # that are not trained
Numbers = dict[str, dict[str, float]]  # by set and column, as fractions


def rows_for(options: argparse.Namespace, nouns: Nouns) -> Path:
    """The rows that RAM is trained on, written unless they are there."""
    folder = options.work / "rows" / nouns
    if not folder.exists():
        words = json.loads((options.photographs / "labels.json").read_text(encoding="utf-8"))
        folder.parent.mkdir(parents=True, exist_ok=True)
        write_multi_labels(
            [options.photographs / "train-coco.parquet"],
            folder,
            seen_labels=words["seen"],
            exact_labels=words["exact"],
            nouns=nouns,
        )
    return folder


def train_variant(options: argparse.Namespace, name: str, seed: int) -> Path:
    """Train a variant, unless that is done; returns its folder."""
    _, changes, nouns = VARIANTS[name]
    folder, rows = options.work / "models" / f"{name}-{seed}", rows_for(options, nouns)
    places = {"model": options.clip, "dataset": rows, "seen_labels": rows / "labels_seen.txt"}
    train_changed(options.config, changes, folder, places=places, seed=seed, steps=options.steps)
    return folder


def judge_variant(options: argparse.Namespace, name: str, seed: int, sets: list[PhotoSet]) -> Numbers:
    """Train a variant, unless that is done, and judge it."""
    model, processor = load_model(train_variant(options, name, seed))
    return {photographs.name: numbers(photographs, look(model, processor, photographs)) for photographs in sets}


def judge_clip(clip: Path, sets: list[PhotoSet]) -> dict[str, Numbers]:
    """What is not trained: the CLIP by its softmax, and RAM's training-free mode."""
    model, processor = load_model(clip)
    found = {photographs.name: (photographs, clip_rows(model, processor, photographs)) for photographs in sets}
    return {row: {name: numbers(each, rows[row]) for name, (each, rows) in found.items()} for row in MODELS}


class Results:
    """What was found, in a JSON file that grows by one entry with each finished run."""

    def __init__(self, file: Path):
        self._file = file
        self.found: dict[str, Any] = json.loads(file.read_text(encoding="utf-8")) if file.exists() else {}

    def get(self, name: str, find: Callable[[], Any]) -> Any:
        """What stands there under a name; else it is found, and written."""
        if name not in self.found:
            self.found[name] = find()
            self._file.parent.mkdir(parents=True, exist_ok=True)
            partial = self._file.with_suffix(".partial")
            partial.write_text(json.dumps(self.found, indent=1), encoding="utf-8")
            partial.replace(self._file)
        return self.found[name]


def to_table(results: Mapping[str, list[Numbers]], sets: list[PhotoSet]) -> str:
    """Percent in Markdown: a table a set, a row for each title of `results`, mean and spread over its seeds."""
    lines = []
    for photographs in sets:
        titles = [column.title for column in photographs.columns]
        lines += [f"\n{photographs.name}, {len(photographs.images)} photographs:\n"]
        lines += ["| | seeds | " + " | ".join(titles) + " |", "|---|---|" + "---|" * len(titles)]
        for row, runs in results.items():
            found = [run[photographs.name] for run in runs]
            cells = [told([run[title] for run in found]) if title in found[0] else "-" for title in titles]
            lines.append(f"| {row} | {'-' if row in MODELS else len(runs)} | " + " | ".join(cells) + " |")
    return "\n".join(lines).strip() + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--clip", type=Path, default=Path("runs/ram-photo/clip"), help="the CLIP below all of it")
    parser.add_argument("--photographs", required=True, type=Path, help="folder with Parquet files and labels.json")
    parser.add_argument("--held-back", action="store_true", help="judge by rows held back from training files alone")
    parser.add_argument("--config", default="configs/ram_photo/ram.yaml", help="how RAM is trained")
    parser.add_argument("--work", type=Path, default=Path("runs/photo-ablation"), help="where everything is kept")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2], help="of the trainings")
    parser.add_argument("--variants", nargs="+", choices=VARIANTS, default=list(VARIANTS), help="rows to make")
    parser.add_argument("--steps", type=int, help="of each training; the configuration's by default")
    options = parser.parse_args()

    sets = open_sets(options.photographs, is_held_back=options.held_back)
    file = Results(options.work / ("results-held-back.json" if options.held_back else "results.json"))
    results: dict[str, list[Numbers]] = {
        row: [found] for row, found in file.get("clip", lambda: judge_clip(options.clip, sets)).items()
    }
    for seed in options.seeds:  # one of each first: a table with every row is there early
        for name in options.variants:
            found = file.get(f"{name}-{seed}", lambda name=name, seed=seed: judge_variant(options, name, seed, sets))
            results.setdefault(VARIANTS[name][0], []).append(found)
            (options.work / "table.md").write_text(to_table(results, sets), encoding="utf-8")
    print(to_table(results, sets))


if __name__ == "__main__":
    main()
