"""What each part of the method is worth, on scenes: trains RAM without one part at a time, and judges all of it.

Run from the repository's root, with the CLIP that `make ram-tiny` leaves:
`python benchmarks/ablation.py --clip runs/ram-tiny/clip`. Whatever is done already is kept: start it again to go on.
The table goes to `table.md` and to standard output, the plots beside it. Rates and lengths are the configuration's;
the rates were chosen on seen labels alone, as the test scenes are for this table.
"""

import argparse
import json
import statistics
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ram_hf import RamModel, RamProcessor
from ram_hf.data.batches import PrepareRow, evaluation_batches
from ram_hf.data.label_set import LabelSet
from ram_hf.data.sources import RowReader, open_dataset
from ram_hf.data.transforms import EvalTransform
from ram_hf.evaluation.pointing import PointingGame, pointing_hits
from ram_hf.evaluation.report import evaluate_scores
from ram_hf.scenes.corpus import write_scenes
from ram_hf.scenes.renderer import SceneRenderer
from ram_hf.training.arguments import RamTrainingArguments
from ram_hf.training.config_file import read_config
from ram_hf.training.loop import train

# A row over all patches alike: every patch holds the same mass, and no cost matters.
UNIFORM_ROWS = {"patch_marginal_temperature": 1e6}
PATCH_AVERAGE = {**UNIFORM_ROWS, "epsilon": 1e6}
# What is trained: options of the training that differ from the full method's.
TRAINED: dict[str, tuple[str, dict[str, Any]]] = {
    "d": ("full RAM", {}),
    "e": ("without LLA (its convolutions stay zero)", {"adapter_learning_rate": 0.0}),
    "f": ("without KCOT (patch average)", {"ram_config": {**PATCH_AVERAGE, "teacher_weight": 0.0}}),
    "g": ("without the teacher's constraint", {"ram_config": {"teacher_weight": 0.0}}),
    "h": ("without label presence (uniform rows)", {"ram_config": UNIFORM_ROWS}),
}
# What is not: the CLIP alone, its patches averaged, and the method as training begins with it. (What is best without
# training is another form: benchmarks/training_free.py.)
PAPERS_FORM = {
    "local_attention": "value",
    "aggregation": "transport",
    "score_combination": "mean",
    "global_weight": 0.5,
}
UNTRAINED: dict[str, tuple[str, dict[str, Any]]] = {
    "b": ("CLIP, patch scores averaged", {**PAPERS_FORM, **PATCH_AVERAGE}),
    "c": ("RAM in the paper's form, untrained", PAPERS_FORM),
}
# d with plans that are not normalised. Over a temperature divided by the number of trained labels they give the same
# logits there, so that a training of its own would only show how badly AdamW moves so small a temperature.
UNNORMALISED = {"i": "`normalize_plan` off"}
CORPORA: dict[str, dict[str, Any]] = {
    "test": {"seed": 11},
    "photos": {"seed": 12, "stamps": "only", "licenses": "all"},
    "style": {"seed": 13, "styles": ["openmoji"], "licenses": "all", "backgrounds": "cc0"},
}
TITLES = {
    "test": "Drawings of the training styles, other compositions",
    "photos": "Photo cut-outs only (no photograph was trained on)",
    "style": "A style left out of training (OpenMoji)",
}
LABEL_COUNTS = (10, 65, 300)
PARTS = ("score", "global", "local")


def write_corpora(options: argparse.Namespace) -> None:
    """Compose the training scenes, of seen labels, and the test scenes, of all."""
    wanted = {"train": {"concepts": "seen", "seed": options.train_seed}, **CORPORA}
    for name, settings in wanted.items():
        folder = options.work / "scenes" / name
        if not folder.exists():
            is_train = name == "train"
            renderer = SceneRenderer(options.source, size=64, split="train" if is_train else "test", **settings)
            write_scenes(renderer, folder, images=options.train_scenes if is_train else options.test_scenes)


def train_variant(options: argparse.Namespace, name: str, seed: int) -> Path:
    """Train a variant, unless that is done; returns its folder."""
    folder, scenes = options.work / "models" / f"{name}-{seed}", options.work / "scenes" / "train"
    places = {"model": options.clip, "dataset": scenes, "seen_labels": scenes / "labels_seen.txt"}
    train_changed(options.config, TRAINED[name][1], folder, places=places, seed=seed, steps=options.steps)
    return folder


def train_changed(
    config: str | Path,
    changes: Mapping[str, Any],
    folder: Path,
    *,
    places: Mapping[str, Path],
    seed: int,
    steps: int | None,
) -> None:
    """Train as a configuration says, but for some options, unless that is done.

    Args:
        config: YAML of the training.
        changes: options that differ; those of `ram_config` are put over the configuration's.
        folder: of the trained model.
        places: where `model`, `dataset` and `seen_labels` are.
        seed: of the training.
        steps: of the training and of its schedule; None for the configuration's.
    """
    if (folder / "model.safetensors").exists():
        return
    values = read_config(config)
    changed = {name: value for name, value in changes.items() if name != "ram_config"}
    ram_config = {**values.pop("ram_config", {}), **changes.get("ram_config", {})}
    values.update({**changed, "ram_config": ram_config, "seed": seed, "output_dir": str(folder)})
    values.update({name: str(place) for name, place in places.items()})
    if steps is not None:
        values.update(max_steps=steps, schedule_steps=steps)
    train(RamTrainingArguments(**values))


class Corpus:
    """The batches of a corpus of scenes, decoded once and kept."""

    def __init__(self, folder: Path, processor: RamProcessor, labels: list[str]):
        dataset = open_dataset(str(folder), split="test", streaming=False)
        reader = RowReader.from_dataset(dataset, label_column="labels", boxes_column="boxes")
        prepare = PrepareRow(reader, EvalTransform.of(processor), label_names=labels)
        self.batches = [batch for _, batch in evaluation_batches(reader.select(dataset), prepare, batch_size=100)]
        self.targets = torch.cat([batch["labels"] for batch in self.batches]).numpy().astype(np.int8)


@torch.inference_mode()
def rank(model: RamModel, features: torch.Tensor, corpus: Corpus) -> Iterator[tuple[dict[str, Any], Any]]:
    """What a model says of each batch; the layers compute in bf16, as in training, and the matching in float32."""
    for batch in corpus.batches:
        with torch.autocast(batch["pixel_values"].device.type, dtype=torch.bfloat16):
            output = model(batch["pixel_values"], label_features=features, output_transport_plan=True)
        yield batch, output


def scores_by_part(outputs) -> dict[str, np.ndarray]:
    """The score, and its two halves."""
    found: dict[str, list[np.ndarray]] = {part: [] for part in PARTS}
    for output in outputs:
        found["score"].append(output.scores.numpy())
        found["global"].append(output.global_logits.softmax(dim=-1).numpy())
        found["local"].append(output.local_logits.softmax(dim=-1).numpy())
    return {part: np.concatenate(values) for part, values in found.items()}


def judge(model: RamModel, processor: RamProcessor, corpus: Corpus, labels: list[str], num_seen: int) -> dict:
    """ZSL and GZSL of each part of the score, and the pointing game of the plan's columns and of the similarity's."""
    with torch.inference_mode():
        features = model.eval().get_label_features(**processor(labels=labels))
    grid = model.config.patch_grid(*corpus.batches[0]["pixel_values"].shape[-2:])
    games = {"plan": PointingGame(len(labels)), "similarity": PointingGame(len(labels))}
    result: dict[str, float] = {}
    for setting, columns in {"zsl": slice(num_seen, None), "gzsl": slice(None)}.items():
        outputs = []
        for batch, output in rank(model, features[columns], corpus):
            outputs.append(output)
            if setting == "gzsl":
                play(games, batch, output, grid, labels)
        for part, scores in scores_by_part(outputs).items():
            report = evaluate_scores(scores, corpus.targets[:, columns], label_names=labels[columns])
            result[f"{setting}/mAP/{part}"] = report.mean_average_precision
            result.update({f"{setting}/F1@{k}/{part}": report.top_k[k].overall_f1 for k in (3, 5)})
    result.update({f"pointing/{name}": game.accuracy for name, game in games.items()})
    return result


def play(games: dict[str, PointingGame], batch: dict[str, Any], output, grid: tuple[int, int], labels: list[str]):
    """Play the pointing game on each picture of a batch."""
    similarity = output.patch_embeds @ output.label_embeds.T
    for number, (boxes, size) in enumerate(zip(batch["boxes"], batch["sizes"], strict=True)):
        for name, columns in (("plan", output.transport_plan[number]), ("similarity", similarity[number])):
            games[name].update(*pointing_hits(columns, grid=grid, size=size, boxes=boxes, label_names=labels))


def judge_label_counts(model: RamModel, processor: RamProcessor, corpus: Corpus, labels: list[str]) -> dict:
    """Mean AP and F1@3 when only so many labels are asked for, drawn at random, the same for all models."""
    result: dict[str, float] = {}
    for count in LABEL_COUNTS:
        columns = np.random.default_rng(count).permutation(len(labels))[:count]
        asked = [labels[column] for column in columns]
        with torch.inference_mode():
            features = model.eval().get_label_features(**processor(labels=asked))
        for part, scores in scores_by_part(output for _, output in rank(model, features, corpus)).items():
            report = evaluate_scores(scores, corpus.targets[:, columns], label_names=asked, ks=(3,))
            result[f"{count}/mAP/{part}"] = report.mean_average_precision
            result[f"{count}/F1@3/{part}"] = report.top_k[3].overall_f1
    return result


def leave_plans_as_they_are(model: RamModel, *, num_trained: int) -> None:
    """Turn `normalize_plan` off; the local temperature gives the same scores for as many labels as trained on."""
    model.config.normalize_plan = False
    with torch.no_grad():
        model.temperatures.local_temperature.div_(num_trained)


def judged(options: argparse.Namespace, name: str, seed: int | None, corpora: dict[str, Corpus], label_set) -> dict:
    """All numbers of one model, from `results/` when they are there."""
    file = options.work / "results" / (f"{name}.json" if seed is None else f"{name}-{seed}.json")
    if not file.exists():
        processor = RamProcessor.from_pretrained(options.clip)
        if seed is None:
            model = RamModel.from_clip(options.clip, config=UNTRAINED[name][1])
        else:
            model = RamModel.from_pretrained(train_variant(options, "d" if name in UNNORMALISED else name, seed))
        if name in UNNORMALISED:
            leave_plans_as_they_are(model, num_trained=len(label_set.seen))
        found: dict[str, Any] = {
            corpus: judge(model, processor, rows, label_set.names, len(label_set.seen))
            for corpus, rows in corpora.items()
        }
        if name == "d" or name in UNNORMALISED:
            found["label_counts"] = judge_label_counts(model, processor, corpora["test"], label_set.names)
        found["settings"] = {"local_temperature": model.temperatures.local_temperature.item()}
        found["settings"]["global_temperature"] = model.temperatures.global_temperature.item()
        file.parent.mkdir(parents=True, exist_ok=True)
        partial = file.with_suffix(".partial")
        partial.write_text(json.dumps(found, indent=1))
        partial.replace(file)
    return json.loads(file.read_text())


# --- what is told ----------------------------------------------------------------------------------------------------

# Letter, title, whose results, and which part of the score counts: the global part of an untrained RAM is CLIP itself.
ROWS = (
    ("a", "CLIP zero-shot, global only", "c", "global"),
    ("b", "CLIP, patch scores averaged", "b", "local"),
    ("c", UNTRAINED["c"][0], "c", "score"),
    *((letter, title, letter, "score") for letter, (title, _) in TRAINED.items()),
    *((letter, title, letter, "score") for letter, title in UNNORMALISED.items()),
)
COLUMNS = ("ZSL mAP", "global", "local", "GZSL mAP", "global", "local", "F1@3", "F1@5", "points: plan", "similarity")


def keys(part: str) -> list[str]:
    """Where the numbers of a row stand in the results, in the order of the columns."""
    ranking = [f"{setting}/mAP/{each}" for setting in ("zsl", "gzsl") for each in (part, "global", "local")]
    return [*ranking, f"gzsl/F1@3/{part}", f"gzsl/F1@5/{part}", "pointing/plan", "pointing/similarity"]


def told(values: list[float]) -> str:
    """Percent: mean and standard deviation over the seeds."""
    mean = f"{100 * statistics.mean(values):.1f}"
    return mean if len(values) == 1 else f"{mean} ± {100 * statistics.stdev(values):.1f}"


def to_table(results: dict[str, list[dict]]) -> str:
    """All numbers in Markdown."""
    lines = []
    for corpus in CORPORA:
        lines += [f"\n{TITLES[corpus]}:\n", "| | model | " + " | ".join(COLUMNS) + " |"]
        lines.append("|---|---|" + "---|" * len(COLUMNS))
        for letter, title, name, part in ROWS:
            if name in results:
                cells = [told([result[corpus][key] for result in results[name]]) for key in keys(part)]
                lines.append(f"| {letter} | {title} | " + " | ".join(cells) + " |")
    if "i" in results and "d" in results:
        lines += ["\n`normalize_plan` by the number of labels asked for, mAP and F1@3:\n"]
        header = [f"{count} labels: {what}" for count in LABEL_COUNTS for what in ("mAP", "F1@3", "F1@3, local")]
        lines += ["| | " + " | ".join(header) + " |", "|---|" + "---|" * len(header)]
        for title, name in (("on", "d"), ("off", "i")):
            found = [result["label_counts"] for result in results[name]]
            numbers = [f"{count}/{key}" for count in LABEL_COUNTS for key in ("mAP/score", "F1@3/score", "F1@3/local")]
            lines.append(f"| {title} | " + " | ".join(told([each[key] for each in found]) for key in numbers) + " |")
    return "\n".join(lines).strip() + "\n"


def plot(results: dict[str, list[dict]], file: Path) -> None:
    """Bars of the main numbers on the test scenes, with the spread over the seeds."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    rows = [row for row in ROWS if row[2] in results]
    figure, axes = plt.subplots(1, 3, figsize=(13, 4), sharey=True, layout="constrained")
    for axis, title, index in zip(axes, ("ZSL mAP", "GZSL mAP", "pointing by similarity"), (0, 3, 9), strict=True):
        values = [[100 * result["test"][keys(part)[index]] for result in results[name]] for _, _, name, part in rows]
        spread = [statistics.stdev(each) if len(each) > 1 else 0 for each in values]
        colours = ["#999999" if row[2] in UNTRAINED else "#0072B2" if row[0] == "d" else "#56B4E9" for row in rows]
        axis.barh(range(len(rows)), [statistics.mean(each) for each in values], xerr=spread, color=colours)
        axis.set(title=f"{title}, %", yticks=range(len(rows)), yticklabels=[f"{row[0]}: {row[1]}" for row in rows])
        axis.invert_yaxis()
    axes[0].invert_yaxis()
    axes[0].set_ylim(len(rows) - 0.5, -0.5)
    figure.savefig(file, dpi=110)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--clip", type=Path, default=Path("runs/ram-tiny/clip"), help="the CLIP below all of it")
    parser.add_argument("--source", default="../shared/scenes", help="folder with the parts of scenes")
    parser.add_argument("--config", default="configs/ram_tiny/ram.yaml", help="how RAM is trained")
    parser.add_argument("--work", type=Path, default=Path("runs/ablation"), help="where everything is kept")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2], help="of the trainings")
    parser.add_argument(
        "--variants",
        nargs="+",
        default=[*UNTRAINED, *TRAINED, *UNNORMALISED],
        help="rows to make; a comes with c, i needs d",
    )
    parser.add_argument("--steps", type=int, help="of each training; the configuration's by default")
    parser.add_argument("--train-scenes", type=int, default=20_000, help="scenes of seen labels to train on")
    parser.add_argument("--train-seed", type=int, default=1, help="seed of those scenes")
    parser.add_argument("--test-scenes", type=int, default=2000, help="scenes of each test corpus")
    options = parser.parse_args()

    write_corpora(options)
    processor = RamProcessor.from_pretrained(options.clip)
    scenes = options.work / "scenes" / "test"
    label_set = LabelSet.from_options(str(scenes / "labels_seen.txt"), str(scenes / "labels_unseen.txt"))
    corpora = {name: Corpus(options.work / "scenes" / name, processor, label_set.names) for name in CORPORA}
    results: dict[str, list[dict]] = {}
    for name in UNTRAINED:
        if name in options.variants:
            results[name] = [judged(options, name, None, corpora, label_set)]
    for seed in options.seeds:  # one of each first: a table with every row is there early
        for name in (*TRAINED, *UNNORMALISED):
            if name in options.variants:
                results.setdefault(name, []).append(judged(options, name, seed, corpora, label_set))
                (options.work / "table.md").write_text(to_table(results))
    print(to_table(results))
    plot(results, options.work / "ablation.png")


if __name__ == "__main__":
    main()
