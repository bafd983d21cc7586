"""The words of a model card that follow from the model and its run; see `card`."""

import html
import json
from collections.abc import Mapping, Sequence
from typing import Any

from huggingface_hub import EvalResult
from huggingface_hub.utils import yaml_dump

from .configuration_ram import RamConfig
from .eval_results import results_tables
from .hub_names import hub_id
from .run_record import CALIBRATED, RunRecord

RESULTS, TRAINING = "## Results", "## Training"  # sections in this order
_EXAMPLE_LABELS = ("dog", "red car", "tree")  # for models that tell of no labels

_WHAT_IT_IS = (
    "**Recover and Match** ([arXiv 2503.15337](https://arxiv.org/abs/2503.15337), CVPR 2025; not Recognize Anything, "
    "which also calls itself RAM): give it images and *any* list of label names, and it says which are there, how "
    "they rank, and where."
)

_SCORE = """\
## What a score means

Made of two softmaxes over the labels that are asked for, one from the whole image and one from its patches. The
scores of an image sum to 1 over that list, so they **rank** labels. They are no probability that a label is present:
the same label scores less in a longer list, something scores high even where nothing of the list is there, and a
threshold means nothing until the list is fixed."""

_PROBABILITY = "## What a probability means"

_LIMITS = """\
- It understands what its CLIP understands, in the language of its CLIP's captions. A word that CLIP does not know gets
  a score all the same.
- Labels that are not seen in training rank worse than those that are; judge it on images and labels of your own before
  you rely on it.
- It carries the biases of the data that its CLIP was trained on. Do not use it to judge people, nor where a wrong
  label does harm."""

_CITATION = """\
## Citation

"Recover and Match: Open-Vocabulary Multi-Label Recognition through Knowledge-Constrained Optimal Transport", CVPR
2025, arXiv 2503.15337. Card and code were made by `ram_hf`, written from the paper's equations."""


def generated_text(
    repo_id: str, config: RamConfig | None, run: RunRecord, results: Sequence[EvalResult], *, has_pipeline: bool
) -> str:
    """Markdown of the part of a card that is made and renewed.

    Args:
        repo_id: where the model goes to.
        config: of the model; None where a processor goes alone.
        run: what is known of its training.
        results: all results of the card.
        has_pipeline: whether the pipeline's code goes along.
    """
    sections = [_introduction(config, run), _usage(repo_id, run, has_pipeline=has_pipeline), _SCORE]
    sections += [
        _probabilities(config, run),
        results_text(results),
        _training(run),
        _labels(run),
        _limits(config),
        _CITATION,
    ]
    return "\n\n".join(section for section in sections if section)


def _introduction(config: RamConfig | None, run: RunRecord) -> str:
    base = base_model(config, run)
    link = f"[{base}](https://huggingface.co/{base})" if hub_id(base) else f"`{base}`"
    return _WHAT_IT_IS + (f" Made from {link}." if base else "")


def base_model(config: RamConfig | None, run: RunRecord) -> str | None:
    """What the model was made from: what the run started from, or the CLIP that was wrapped; None for a local one."""
    wrapped = hub_id(config.base_model_name_or_path) if config is not None else None
    return run.arguments.get("model") or wrapped


def _usage(repo_id: str, run: RunRecord, *, has_pipeline: bool) -> str:
    labels = json.dumps([*run.seen_labels, *run.unseen_labels][:3] or _EXAMPLE_LABELS, ensure_ascii=False)
    repo = json.dumps(repo_id)
    image = 'image = Image.new("RGB", (320, 240), "seagreen")  # yours: Image.open("street.jpg")'
    sections = ["## Use", "With `torch`, `transformers` and `Pillow`; nothing else need be installed."]
    if has_pipeline:
        sections += [
            f"""```python
from PIL import Image
from transformers import pipeline

tagger = pipeline("zero-shot-multi-label-tagging", model={repo}, trust_remote_code=True)
{image}
labels = {labels}
for tag in tagger(image, candidate_labels=labels, top_k=3, return_regions=True):
    print(tag["label"], round(tag["score"], 3), tag["box"])
```""",
            "Or model and processor by themselves:",
        ]
    sections.append(f"""```python
from PIL import Image
from transformers import AutoModel, AutoProcessor

model = AutoModel.from_pretrained({repo}, trust_remote_code=True).eval()
processor = AutoProcessor.from_pretrained({repo}, trust_remote_code=True)
{image}
labels = {labels}
outputs = model(**processor(images=image, labels=labels))
print(processor.post_process_tagging(outputs, labels, top_k=3)[0])
```""")
    return "\n\n".join(sections)


def _probabilities(config: RamConfig | None, run: RunRecord) -> str:
    if config is None or config.calibration is None:
        return ""
    words = (
        'The answer to "is this label in the image?" (`outputs.probabilities`): it is the same whatever else is asked '
        "for, all of an image's may be small, and of the labels with 0.7 about 70 % are there. Images are read with "
        f"{len(config.reference_labels or ()):,} reference labels, whatever is asked for. From "
        f"{config.calibration['threshold']:.3f} on F1 is best."
    )
    found = run.calibration
    if not isinstance(found.get(CALIBRATED), Mapping) or not found.get("bins"):
        return f"{_PROBABILITY}\n\n{words}"
    data, ece = found[CALIBRATED], found["ece"]
    words += (
        f" Fitted to {data['images']:,} images with {data['labels']:,} labels, each left out of the reference: so it "
        f"is of labels that the model does not know that the expected calibration error is {ece:.3f} and the Brier "
        f"score {found['brier']:.4f}. On images of another kind they are less to be trusted."
    )
    rows = [
        f"| {each['lowest']:.2f} to {each['highest']:.2f} | {each['mean_probability']:.3f} | "
        f"{each['share_present']:.3f} | {each['num_entries']:,} |"
        for each in found["bins"]
    ]
    table = "\n".join(["| probability | mean | share of images with the label | count |", "|---|---|---|---|", *rows])
    return f"{_PROBABILITY}\n\n{words}\n\n{table}"


def results_text(results: Sequence[EvalResult]) -> str:
    """Markdown of the section of results; empty without any."""
    tables = results_tables(results)
    return f"{RESULTS}\n\n{tables}\n\n{_metric_names(results)}" if tables else ""


def _metric_names(results: Sequence[EvalResult]) -> str:
    points = any((result.metric_name or "").endswith("transport_plan") for result in results)
    pointing = " pointing: how often the peak of a label's heat map lies in one of its boxes." if points else ""
    return (
        "mAP: mean over labels of the average precision. OP, OR, OF1@k: precision, recall and F1 of the k best labels "
        f"of each image, over all of them; CP, CR, CF1@k: mean over labels.{pointing}"
    )


def _training(run: RunRecord) -> str:
    if not run.arguments:
        return f"{TRAINING}\n\nNo run of `ram-hf train` is recorded in this repository."
    data = ", ".join(f"[{name}](https://huggingface.co/datasets/{name})" for name in run.datasets)
    words = f"Trained by `ram-hf train` on {data or 'data that is not on the Hub'}"
    if run.seen_labels:
        words += f", with {len(run.seen_labels):,} labels"
    if run.steps is not None:
        words += f", in {run.steps:,} steps"
    if run.processes > 1:
        words += f" of {run.processes} processes"
    versions = ", ".join(f"{name} {version}" for name, version in run.versions.items())
    words += f" ({versions})." if versions else "."
    return f"{TRAINING}\n\n{words}\n\n```yaml\n{yaml_dump(dict(run.arguments), sort_keys=False)}```"


def _labels(run: RunRecord) -> str:
    lists: Mapping[str, Sequence[str]] = {"seen in training": run.seen_labels, "unseen": run.unseen_labels}
    parts = []
    for name, labels in lists.items():
        if labels:
            listed = html.escape(", ".join(" ".join(label.split()) for label in labels), quote=False)
            parts.append(f"<details><summary>{len(labels):,} {name}</summary><p>{listed}</p></details>")
    if not parts:
        return ""
    return "\n\n".join(
        ["## Labels", "Any label can be asked for; these are the ones of its training and of its evaluation.", *parts]
    )


def _limits(config: RamConfig | None) -> str:
    lines = ["## Limits", ""]
    if config is not None:
        clip: Any = config.clip_config
        side = clip.vision_config.image_size
        rows, columns = config.patch_grid()
        lines.append(
            f"- The whole image is squashed to {side} x {side} pixels, so that small things vanish. Where a label is "
            f"comes as a map of {rows} x {columns} patches."
        )
    return "\n".join([*lines, _LIMITS])


__all__ = ["RESULTS", "TRAINING", "base_model", "generated_text", "results_text"]
