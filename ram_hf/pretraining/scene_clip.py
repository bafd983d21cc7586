"""A small CLIP from scratch, on captioned scenes that are composed as it goes.

This is how `ram-tiny` (`examples/ram-tiny`) got the CLIP below it: `ram-hf pretrain clip-on-scenes --config FILE`.
A CLIP for real images takes other means; this one knows a small world within an hour on two CPU cores.
"""

import itertools
import math
import signal
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from accelerate.utils import set_seed
from torch import Tensor
from torch.utils.data import DataLoader
from transformers import CLIPModel, CLIPTokenizer

from ..evaluation.ranking import mean_average_precision
from ..interruption import stop_signals
from ..model.processing_ram import DEFAULT_LABEL_TEMPLATE, RamProcessor
from ..scenes.renderer import SceneRenderer
from ..training.accelerators import make_single_accelerator
from ..training.attention import attention_for_training
from ..training.logbook import Logbook
from ..training.optimization import cosine_with_warmup, set_learning_rates
from .scene_pairs import PairBatch, ScenePairs, train_tokenizer
from .small_clip import (
    LARGEST_LOGIT_SCALE,
    PIXEL_MEAN,
    PIXEL_STD,
    load_state,
    make_clip,
    make_optimizers,
    make_processor,
    read_sizes,
    save_clip,
    save_state,
)

_JUDGED_SCENES, _JUDGED_AT_ONCE = 512, 128  # of each kind, from the training split
_JUDGED_SEED = 2**32  # no batch's


@dataclass(kw_only=True)
class ClipPretrainingArguments:
    """Everything the run is told.

    Raises:
        ValueError: when a stage has an unknown or a missing key, or `sizes`.
    """

    source: str = field(metadata={"help": "folder with the parts of scenes"})
    output_dir: str = field(metadata={"help": "folder for checkpoints, log and the trained CLIP"})
    sizes: dict[str, int] = field(metadata={"help": "the fields of ClipSizes"})
    stages: list[dict[str, Any]] = field(
        metadata={
            "help": "what is learned in turn: {steps, image_size, scene_share, object_sizes}; small pictures of "
            "single things cost little and come first"
        }
    )
    vocab_size: int = field(default=2000, metadata={"help": "tokens of the byte-pair vocabulary"})
    logit_scale: float = field(default=30.0, metadata={"help": "factor on similarities at the start; it is learned"})
    batch_size: int = field(default=512, metadata={"help": "pictures of a step"})
    text_length: int = field(default=16, metadata={"help": "tokens to which sentences are padded or cut in training"})
    matrix_learning_rate: float = field(default=1e-2, metadata={"help": "Muon's, for the matrices inside the layers"})
    learning_rate: float = field(default=2e-3, metadata={"help": "AdamW's, for everything else"})
    weight_decay: float = field(default=0.05, metadata={"help": "of the matrices inside the layers"})
    warmup_steps: int = field(default=50, metadata={"help": "linear warm-up; a cosine to zero follows"})
    mixed_precision: str = field(default="bf16", metadata={"help": "no or bf16"})
    compile: bool = field(default=True, metadata={"help": "compile the towers; needs a C++ compiler"})
    num_workers: int = field(default=1, metadata={"help": "processes that compose scenes"})
    seed: int = field(default=0, metadata={"help": "seed of everything that is random"})
    eval_steps: int = field(default=500, metadata={"help": "judge the CLIP every so many steps"})
    save_steps: int = field(default=250, metadata={"help": "write a checkpoint every so many steps"})
    log_steps: int = field(default=50, metadata={"help": "log every so many steps"})

    def __post_init__(self) -> None:
        read_sizes(self.sizes)
        known = {"steps", "image_size", "scene_share", "object_sizes"}
        for number, stage in enumerate(self.stages):
            if not {"steps", "image_size"} <= stage.keys() <= known:
                raise ValueError(
                    f"Stage {number} must hold `steps` and `image_size`, and may hold `scene_share` and "
                    f"`object_sizes`, got {sorted(stage)}."
                )


def pretrain_clip(arguments: ClipPretrainingArguments) -> dict[str, float]:
    """Train a CLIP from scratch; `output_dir` ends as a folder that `CLIPModel.from_pretrained` takes.

    A run that was stopped goes on from its newest checkpoint, with the same scenes as if it had never stopped.

    Returns:
        What [`judge_clip`] says of it at the end.

    Raises:
        FloatingPointError: when the loss is not finite.
        KeyboardInterrupt: when interrupted or terminated; a checkpoint is written first.
        ValueError: in several processes, which would each train alone.
    """
    # Prepare.
    accelerator = make_single_accelerator(arguments.mixed_precision)
    set_seed(arguments.seed)
    output_dir = Path(arguments.output_dir)
    output_dir.mkdir(parents=True, exist_ok=True)
    sizes = read_sizes(arguments.sizes)
    renderer = SceneRenderer(arguments.source, size=sizes.image_size)
    tokenizer = train_tokenizer(renderer, vocab_size=arguments.vocab_size, seed=arguments.seed)
    processor = make_processor(tokenizer, sizes)
    model = make_clip(tokenizer, sizes, logit_scale=arguments.logit_scale).to(accelerator.device)
    optimizers = make_optimizers(
        model,
        model,
        matrix_learning_rate=arguments.matrix_learning_rate,
        learning_rate=arguments.learning_rate,
        weight_decay=arguments.weight_decay,
    )
    total_steps = sum(stage["steps"] for stage in arguments.stages)
    schedule = cosine_with_warmup(
        warmup_steps=arguments.warmup_steps, total_steps=total_steps, warmup_learning_rate=0.0
    )
    step = load_state(output_dir, model, optimizers)
    logbook = Logbook(output_dir, accelerator, first_step=step, total_steps=total_steps)
    encode_images, encode_texts = _encoders(model, compiled=arguments.compile)

    with closing(logbook), stop_signals() as stop_asked:
        for batch in _batches(arguments, tokenizer, step):
            # Step.
            rates = set_learning_rates(optimizers, schedule, step)
            with accelerator.autocast(), attention_for_training(model, accelerator):
                pixels = batch.pixels.to(accelerator.device).float() / 255
                image_features = encode_images((pixels - PIXEL_MEAN) / PIXEL_STD)
                text_features = encode_texts(batch.input_ids.to(accelerator.device))
            scale = model.logit_scale.exp().clamp(max=LARGEST_LOGIT_SCALE)
            loss = contrastive_loss(image_features, text_features, batch.named.to(accelerator.device), scale)
            value = loss.item()
            if not math.isfinite(value):
                raise FloatingPointError(f"At step {step + 1} the loss is {value}. Go on with lower learning rates.")
            loss.backward()
            for optimizer in optimizers:
                optimizer.step()
                optimizer.zero_grad()
            step += 1

            # Log, judge, save.
            logbook.advance(arguments.batch_size)
            if step % arguments.log_steps == 0 or step == total_steps:
                rates = {f"learning_rate/{name}": rate for name, rate in rates.items()}
                logbook.write(step, {"loss": value, "logit_scale": scale.item(), **rates})
            if step % arguments.eval_steps == 0 and step < total_steps:
                _log_judgement(step, judge_clip(model, processor, renderer), logbook)
            stopped = stop_asked()
            if stopped or step % arguments.save_steps == 0 or step == total_steps:
                save_state(output_dir, step, model, optimizers)
            if stopped and step < total_steps:
                raise KeyboardInterrupt(f"stopped at step {step}; run the same command again to go on")

    save_clip(output_dir, model, processor)
    judgement = judge_clip(model, processor, renderer)
    _log_judgement(step, judgement, logbook)
    return judgement


def contrastive_loss(image_features: Tensor, text_features: Tensor, named: Tensor, logit_scale: Tensor) -> Tensor:
    """CLIP's loss (arXiv 2103.00020), with every label as a candidate beside the captions of the batch.

    A text is right for an image when the image's own caption names all that it names; where several are right
    each counts alike (arXiv 2004.11362, L_out). Labels that no image of the batch has are negatives only.

    Args:
        image_features: shape (B, D).
        text_features: of the B captions and then of the L label sentences, shape (B + L, D).
        named: 1 where a caption names the label, shape (B, L).
        logit_scale: factor on cosine similarities.

    Returns:
        Scalar, the mean over both directions.
    """
    image_embeds = F.normalize(image_features.float(), dim=-1)
    text_embeds = F.normalize(text_features.float(), dim=-1)
    logits = logit_scale * image_embeds @ text_embeds.T  # (B, B + L)
    named_by_text = torch.cat([named, torch.eye(named.shape[1], device=named.device)])
    right = (named @ named_by_text.T == named_by_text.sum(dim=1)).float()  # (B, B + L)
    image_loss = -(right * logits.log_softmax(dim=1)).sum(dim=1) / right.sum(dim=1)
    images = right.sum(dim=0)
    text_loss = -(right * logits.log_softmax(dim=0)).sum(dim=0)[images > 0] / images[images > 0]
    return (image_loss.mean() + text_loss.mean()) / 2


@torch.no_grad()
def judge_clip(model: CLIPModel, processor: RamProcessor, renderer: SceneRenderer) -> dict[str, float]:
    """How well a CLIP knows scenes that it was not trained on, zero-shot, over all labels of a renderer.

    Args:
        model: the CLIP.
        processor: of the CLIP.
        renderer: composes the scenes, with random numbers that no batch of [`ScenePairs`] has.

    Returns:
        `top1`: share of single objects whose label ranks first; `mAP`: on scenes of 2 to 4 objects.
    """
    labels = [concept.label for concept in renderer.parts.concepts]
    was_training = model.training
    model.eval()
    inputs = processor(labels=labels).to(model.device)
    label_embeds = F.normalize(model.get_text_features(**inputs).pooler_output.float(), dim=-1)
    found = {}
    for name, objects in (("top1", (1, 1)), ("mAP", (2, 4))):
        scores, targets = [], torch.zeros(_JUDGED_SCENES, len(labels))
        for first in range(0, _JUDGED_SCENES, _JUDGED_AT_ONCE):
            images = []
            for number in range(first, first + _JUDGED_AT_ONCE):
                scene = renderer.render(np.random.default_rng([_JUDGED_SEED, number]), objects=objects)
                images.append(scene.image)
                targets[number, [labels.index(label) for label in scene.labels]] = 1
            pixel_values = processor(images=images)["pixel_values"].to(model.device)
            image_embeds = F.normalize(model.get_image_features(pixel_values).pooler_output.float(), dim=-1)
            scores.append((model.logit_scale.exp() * image_embeds @ label_embeds.T).softmax(dim=-1).cpu())
        ranked = torch.cat(scores)
        if name == "top1":
            found[name] = float(targets.gather(1, ranked.argmax(dim=1, keepdim=True)).mean())
        else:
            found[name] = mean_average_precision(ranked.numpy(), targets.numpy()).mean
    model.train(was_training)
    return found


def _encoders(model: CLIPModel, *, compiled: bool) -> list[Callable[[Tensor], Tensor]]:
    def encode_images(pixel_values: Tensor) -> Tensor:
        return model.get_image_features(pixel_values, interpolate_pos_encoding=True).pooler_output

    def encode_texts(input_ids: Tensor) -> Tensor:
        return model.get_text_features(input_ids).pooler_output

    # Every stage has images of one size: a graph for each beats one for all.
    return [torch.compile(f, dynamic=False) if compiled else f for f in (encode_images, encode_texts)]


def _batches(arguments: ClipPretrainingArguments, tokenizer: CLIPTokenizer, done: int) -> Iterator[PairBatch]:
    """The batches of all stages, from step `done` on."""
    first = 0
    for stage in arguments.stages:
        end = first + stage["steps"]
        if done < end:
            pairs = ScenePairs(
                SceneRenderer(arguments.source, size=stage["image_size"]),
                tokenizer,
                label_template=DEFAULT_LABEL_TEMPLATE,
                batch_size=arguments.batch_size,
                text_length=arguments.text_length,
                scene_share=stage.get("scene_share", 0.0),
                object_sizes=tuple(stage["object_sizes"]) if "object_sizes" in stage else None,
                seed=arguments.seed,
                start=max(first, done),
            )
            loader = DataLoader(
                pairs, batch_size=None, num_workers=arguments.num_workers, worker_init_fn=_leave_interruptions
            )
            try:
                yield from itertools.islice(loader, end - max(first, done))
            except (ConnectionError, EOFError) as error:  # PyTorch has not noticed yet, and the pipe has
                raise RuntimeError(
                    f"A DataLoader worker was killed ({error or 'its pipe ended'}), maybe for want of memory; the "
                    "same command goes on from the newest checkpoint."
                ) from error
        first = end


def _leave_interruptions(_worker: int) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the workers too, and is the main process's to act on


def _log_judgement(step: int, judgement: dict[str, float], logbook: Logbook) -> None:
    logbook.write_plain(step, judgement)
    logbook.show(f"Step {step}: " + ", ".join(f"{name} {value:.3f}" for name, value in judgement.items()))
    logbook.restart_clock()


__all__ = ["ClipPretrainingArguments", "contrastive_loss", "judge_clip", "pretrain_clip"]
