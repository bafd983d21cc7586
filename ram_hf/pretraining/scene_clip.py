"""A small CLIP from scratch, on captioned scenes that are composed as it goes.

This is how the bundled `ram-tiny` got the CLIP below it: `ram-hf pretrain clip-on-scenes --config FILE`.
A CLIP for real images takes other means; this one knows a small world within an hour on two CPU cores.
"""

import itertools
import math
import signal
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from accelerate import Accelerator
from accelerate.utils import set_seed
from torch import Tensor
from torch.utils.data import DataLoader
from transformers import CLIPConfig, CLIPModel, CLIPTokenizer
from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil
from transformers.utils import logging

from ..atomic import whole_files
from ..evaluation.ranking import mean_average_precision
from ..interruption import stop_signals
from ..model.processing_ram import DEFAULT_LABEL_TEMPLATE, RamProcessor
from ..scenes.renderer import SceneRenderer
from ..training.checkpoints import Checkpoint, find_newest, load_checkpoint, save_checkpoint
from ..training.logbook import Logbook
from ..training.optimization import cosine_with_warmup, set_learning_rates
from .scene_pairs import PairBatch, ScenePairs, train_tokenizer

logger = logging.get_logger(__name__)

_PIXEL_MEAN = _PIXEL_STD = 0.5
_LARGEST_LOGIT_SCALE = 100.0  # as CLIP
_JUDGED_SCENES, _JUDGED_AT_ONCE = 512, 128  # of each kind, from the training split
_JUDGED_SEED = 2**32  # no batch's


@dataclass(kw_only=True)
class ClipPretrainingArguments:
    """Everything the run is told; the sizes fit `ram-tiny`.

    Raises:
        ValueError: when a stage has an unknown or a missing key.
    """

    source: str = field(metadata={"help": "folder with the parts of scenes"})
    output_dir: str = field(metadata={"help": "folder for checkpoints, log and the trained CLIP"})
    stages: list[dict[str, Any]] = field(
        metadata={
            "help": "what is learned in turn: {steps, image_size, scene_share, object_sizes}; small pictures of "
            "single things cost little and come first"
        }
    )
    image_size: int = field(default=64, metadata={"help": "side of the pictures that the CLIP takes, pixels"})
    patch_size: int = field(default=8, metadata={"help": "side of a patch, pixels"})
    vision_width: int = field(default=192, metadata={"help": "hidden size of the vision tower"})
    vision_layers: int = field(default=6, metadata={"help": "layers of the vision tower"})
    vision_heads: int = field(default=3, metadata={"help": "attention heads of the vision tower"})
    text_width: int = field(default=128, metadata={"help": "hidden size of the text tower"})
    text_layers: int = field(default=4, metadata={"help": "layers of the text tower"})
    text_heads: int = field(default=2, metadata={"help": "attention heads of the text tower"})
    projection_dim: int = field(default=128, metadata={"help": "joint width"})
    context_length: int = field(default=32, metadata={"help": "longest text, tokens"})
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
    accelerator = Accelerator(cpu=not torch.accelerator.is_available(), mixed_precision=arguments.mixed_precision)
    if accelerator.num_processes > 1:
        raise ValueError("A CLIP is trained by one process; start it without `accelerate launch`.")
    set_seed(arguments.seed)
    output_dir = Path(arguments.output_dir)
    output_dir.mkdir(parents=True, exist_ok=True)
    renderer = SceneRenderer(arguments.source, size=arguments.image_size)
    processor = _make_processor(renderer, arguments)
    model = _make_clip(processor.tokenizer, arguments).to(accelerator.device)
    # On a CPU torch's fused attention is slow in bf16, in its gradient most: about half of a step went there.
    model.set_attn_implementation("eager" if accelerator.device.type == "cpu" else "sdpa")
    optimizers = _make_optimizers(model, arguments)
    total_steps = sum(stage["steps"] for stage in arguments.stages)
    schedule = cosine_with_warmup(
        warmup_steps=arguments.warmup_steps, total_steps=total_steps, warmup_learning_rate=0.0
    )
    step = _resume(output_dir / "checkpoints", model, optimizers)
    logbook = Logbook(output_dir, accelerator, first_step=step, total_steps=total_steps)
    encode_images, encode_texts = _encoders(model, compiled=arguments.compile)

    with closing(logbook), stop_signals() as stop_asked:
        for batch in _batches(arguments, processor.tokenizer, step):
            # Step.
            rates = set_learning_rates(optimizers, schedule, step)
            with accelerator.autocast():
                pixels = batch.pixels.to(accelerator.device).float() / 255
                image_features = encode_images((pixels - _PIXEL_MEAN) / _PIXEL_STD)
                text_features = encode_texts(batch.input_ids.to(accelerator.device))
            scale = model.logit_scale.exp().clamp(max=_LARGEST_LOGIT_SCALE)
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
                _save(output_dir / "checkpoints", step, model, optimizers)
            if stopped and step < total_steps:
                raise KeyboardInterrupt(f"stopped at step {step}; run the same command again to go on")

    model.set_attn_implementation("sdpa")
    with whole_files(output_dir) as unfinished:
        model.save_pretrained(unfinished)
        processor.save_pretrained(unfinished)
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


def _make_processor(renderer: SceneRenderer, arguments: ClipPretrainingArguments) -> RamProcessor:
    tokenizer = train_tokenizer(renderer, vocab_size=arguments.vocab_size, seed=arguments.seed)
    tokenizer.model_max_length = arguments.context_length
    size = {"height": arguments.image_size, "width": arguments.image_size}
    image_processor = CLIPImageProcessorPil(
        size=size, do_center_crop=False, image_mean=[_PIXEL_MEAN] * 3, image_std=[_PIXEL_STD] * 3
    )
    return RamProcessor(image_processor, tokenizer)


def _make_clip(tokenizer: CLIPTokenizer, arguments: ClipPretrainingArguments) -> CLIPModel:
    config = CLIPConfig(
        projection_dim=arguments.projection_dim,
        logit_scale_init_value=math.log(arguments.logit_scale),
        vision_config={
            "image_size": arguments.image_size,
            "patch_size": arguments.patch_size,
            "hidden_size": arguments.vision_width,
            "intermediate_size": 4 * arguments.vision_width,
            "num_hidden_layers": arguments.vision_layers,
            "num_attention_heads": arguments.vision_heads,
            "projection_dim": arguments.projection_dim,
        },
        text_config={
            "vocab_size": len(tokenizer),
            "max_position_embeddings": arguments.context_length,
            "hidden_size": arguments.text_width,
            "intermediate_size": 4 * arguments.text_width,
            "num_hidden_layers": arguments.text_layers,
            "num_attention_heads": arguments.text_heads,
            "projection_dim": arguments.projection_dim,
            "bos_token_id": tokenizer.bos_token_id,
            "eos_token_id": tokenizer.eos_token_id,
            "pad_token_id": tokenizer.pad_token_id,
        },
    )
    return CLIPModel(config).train()


def _make_optimizers(model: CLIPModel, arguments: ClipPretrainingArguments) -> list[torch.optim.Optimizer]:
    """Muon for the matrices inside the layers, AdamW for the rest.

    In the first 200 steps of 512 small images Muon took the loss to 4.2, AdamW to 5.0: with an hour to spend that is
    the difference between a CLIP that knows its world and one that does not.
    """
    layers = [*model.vision_model.encoder.layers, *model.text_model.encoder.layers]
    matrices = [parameter for layer in layers for parameter in layer.parameters() if parameter.dim() == 2]
    taken = {id(parameter) for parameter in matrices}
    others = [parameter for parameter in model.parameters() if id(parameter) not in taken]
    muon = torch.optim.Muon(
        [{"params": matrices, "peak_lr": arguments.matrix_learning_rate, "name": "matrices"}],
        weight_decay=arguments.weight_decay,
        adjust_lr_fn="match_rms_adamw",
    )
    adamw = torch.optim.AdamW(
        [{"params": others, "peak_lr": arguments.learning_rate, "name": "others"}], betas=(0.9, 0.98), weight_decay=0.0
    )
    return [muon, adamw]


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


def _resume(folder: Path, model: CLIPModel, optimizers: Sequence[torch.optim.Optimizer]) -> int:
    newest = find_newest(folder)
    if newest is None:
        return 0
    checkpoint = load_checkpoint(newest)
    model.load_state_dict(checkpoint.weights)
    for optimizer, state in zip(optimizers, checkpoint.optimizers, strict=True):
        peaks = [group["peak_lr"] for group in optimizer.param_groups]  # rates are this run's own
        optimizer.load_state_dict(state)
        for group, peak in zip(optimizer.param_groups, peaks, strict=True):
            group["peak_lr"] = peak
    logger.warning("Going on from %s.", newest)
    return checkpoint.step


def _save(folder: Path, step: int, model: CLIPModel, optimizers: Sequence[torch.optim.Optimizer]) -> None:
    states = [optimizer.state_dict() for optimizer in optimizers]
    save_checkpoint(folder, Checkpoint(step, model.state_dict(), {}, states, [], {}), keep=2)


def _log_judgement(step: int, judgement: dict[str, float], logbook: Logbook) -> None:
    logbook.write_plain(step, judgement)
    logbook.show(f"Step {step}: " + ", ".join(f"{name} {value:.3f}" for name, value in judgement.items()))
    logbook.restart_clock()


__all__ = ["ClipPretrainingArguments", "contrastive_loss", "judge_clip", "pretrain_clip"]
