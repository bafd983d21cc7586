"""What the small CLIPs of this package share: how one is built, optimized, and goes on where it was stopped."""

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import NamedTuple

import torch
from torch import nn
from transformers import CLIPConfig, CLIPModel, CLIPTokenizer
from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil
from transformers.utils import logging

from ..atomic import whole_files
from ..model.processing_ram import RamProcessor
from ..pretrained import load_model
from ..training.checkpoints import Checkpoint, find_newest, load_checkpoint, save_checkpoint

logger = logging.get_logger(__name__)

PIXEL_MEAN = PIXEL_STD = 0.5
LARGEST_LOGIT_SCALE = 100.0  # as CLIP


@dataclass(frozen=True, kw_only=True)
class ClipSizes:
    """Sizes of both towers: images and patches in pixels, texts in tokens."""

    image_size: int
    patch_size: int
    vision_width: int
    vision_layers: int
    vision_heads: int
    text_width: int
    text_layers: int
    text_heads: int
    projection_dim: int
    context_length: int


def read_sizes(values: Mapping[str, int]) -> ClipSizes:
    """Sizes as a configuration holds them.

    Raises:
        ValueError: when a size is missing or unknown, or is not a positive integer.
    """
    names = {field.name for field in fields(ClipSizes)}
    if values.keys() != names:
        raise ValueError(f"`sizes` must name {sorted(names)}, got {sorted(values)}.")
    for name, value in values.items():
        if type(value) is not int or value < 1:
            raise ValueError(f"`sizes.{name}` must be a positive integer, got {value!r}.")
    return ClipSizes(**values)


def make_clip(tokenizer: CLIPTokenizer, sizes: ClipSizes, *, logit_scale: float) -> CLIPModel:
    """A CLIP of random weights, for training."""
    config = CLIPConfig(
        projection_dim=sizes.projection_dim,
        logit_scale_init_value=math.log(logit_scale),
        vision_config={
            "image_size": sizes.image_size,
            "patch_size": sizes.patch_size,
            "hidden_size": sizes.vision_width,
            "intermediate_size": 4 * sizes.vision_width,
            "num_hidden_layers": sizes.vision_layers,
            "num_attention_heads": sizes.vision_heads,
            "projection_dim": sizes.projection_dim,
        },
        text_config={
            "vocab_size": len(tokenizer),
            "max_position_embeddings": sizes.context_length,
            "hidden_size": sizes.text_width,
            "intermediate_size": 4 * sizes.text_width,
            "num_hidden_layers": sizes.text_layers,
            "num_attention_heads": sizes.text_heads,
            "projection_dim": sizes.projection_dim,
            "bos_token_id": tokenizer.bos_token_id,
            "eos_token_id": tokenizer.eos_token_id,
            "pad_token_id": tokenizer.pad_token_id,
        },
    )
    return CLIPModel(config).train()


class WrittenClip(NamedTuple):
    """A CLIP that was written, or the one inside a RAM, to be trained further with its own tokenizer."""

    clip: CLIPModel
    tokenizer: CLIPTokenizer


def open_clip(name_or_path: str, sizes: ClipSizes) -> WrittenClip:
    """Load a CLIP, or that of a RAM, for training; with another `image_size` its positions are interpolated.

    Raises:
        FileNotFoundError: when there is no such model.
        ValueError: when its sizes are others than `sizes`, or it cannot be loaded; see [`load_model`].
    """
    model, processor = load_model(name_or_path, dtype=torch.float32)
    resize_images(model.clip, sizes.image_size)
    wanted, found = asdict(sizes), asdict(_sizes_of(model.clip.config))
    if differing := [name for name in wanted if wanted[name] != found[name]]:
        told = ", ".join(f"{name} {wanted[name]} where the model has {found[name]}" for name in differing)
        raise ValueError(f"`sizes` does not fit {name_or_path!r}: {told}. Give `sizes` the model's values.")
    return WrittenClip(model.clip.requires_grad_(True).train(), processor.tokenizer)


def resize_images(clip: CLIPModel, image_size: int) -> None:
    """Give a CLIP a position for each patch of larger or smaller images, by its own interpolation.

    Args:
        clip: changed in place.
        image_size: side of the images that it takes from now on, pixels.
    """
    embeddings = clip.vision_model.embeddings
    num_patches = (image_size // embeddings.patch_size) ** 2
    if num_patches != embeddings.num_patches:
        like = torch.empty(1, 1 + num_patches, embeddings.embed_dim)
        positions = embeddings.interpolate_pos_encoding(like, image_size, image_size)[0].detach()
        embeddings.position_embedding = nn.Embedding.from_pretrained(positions, freeze=False)
        embeddings.position_ids = torch.arange(len(positions), device=positions.device)[None]
        embeddings.num_patches, embeddings.num_positions = num_patches, len(positions)
    embeddings.image_size = clip.config.vision_config.image_size = image_size


def _sizes_of(config: CLIPConfig) -> ClipSizes:
    vision, text = config.vision_config, config.text_config
    return ClipSizes(
        image_size=vision.image_size,
        patch_size=vision.patch_size,
        vision_width=vision.hidden_size,
        vision_layers=vision.num_hidden_layers,
        vision_heads=vision.num_attention_heads,
        text_width=text.hidden_size,
        text_layers=text.num_hidden_layers,
        text_heads=text.num_attention_heads,
        projection_dim=config.projection_dim,
        context_length=text.max_position_embeddings,
    )


def make_processor(tokenizer: CLIPTokenizer, sizes: ClipSizes) -> RamProcessor:
    """Squashes whole images to the size that the CLIP takes."""
    tokenizer.model_max_length = sizes.context_length
    size = {"height": sizes.image_size, "width": sizes.image_size}
    image_processor = CLIPImageProcessorPil(
        size=size, do_center_crop=False, image_mean=[PIXEL_MEAN] * 3, image_std=[PIXEL_STD] * 3
    )
    return RamProcessor(image_processor, tokenizer)


def make_optimizers(
    module: nn.Module, clip: CLIPModel, *, matrix_learning_rate: float, learning_rate: float, weight_decay: float
) -> list[torch.optim.Optimizer]:
    """Muon for the matrices inside the layers of `clip`, AdamW for all else of `module`, which holds it.

    In the first 200 steps of 512 small scenes Muon took the loss to 4.2, AdamW to 5.0: with an hour to spend that is
    the difference between a CLIP that knows its world and one that does not.
    """
    layers = [*clip.vision_model.encoder.layers, *clip.text_model.encoder.layers]
    matrices = [parameter for layer in layers for parameter in layer.parameters() if parameter.dim() == 2]
    taken = {id(parameter) for parameter in matrices}
    others = [parameter for parameter in module.parameters() if id(parameter) not in taken]
    muon = torch.optim.Muon(
        [{"params": matrices, "peak_lr": matrix_learning_rate, "name": "matrices"}],
        weight_decay=weight_decay,
        adjust_lr_fn="match_rms_adamw",
    )
    adamw = torch.optim.AdamW(
        [{"params": others, "peak_lr": learning_rate, "name": "others"}], betas=(0.9, 0.98), weight_decay=0.0
    )
    return [muon, adamw]


def save_state(output_dir: Path, step: int, module: nn.Module, optimizers: list[torch.optim.Optimizer]) -> None:
    """Write a checkpoint of a run that `step` follows from: its data are made anew from their number.

    Raises:
        OSError: when it cannot be written.
    """
    states = [optimizer.state_dict() for optimizer in optimizers]
    save_checkpoint(output_dir / "checkpoints", Checkpoint(step, module.state_dict(), {}, states, [], {}), keep=2)


def load_state(
    output_dir: Path, module: nn.Module, optimizers: list[torch.optim.Optimizer], *, otherwise: str | None = None
) -> int:
    """Go on from the newest checkpoint of a run, or from `otherwise`; returns the steps that were done.

    Raises:
        ValueError: when the checkpoint is damaged.
    """
    newest = find_newest(output_dir / "checkpoints") or otherwise
    if newest is None:
        return 0
    checkpoint = load_checkpoint(newest)
    module.load_state_dict(checkpoint.weights)
    for optimizer, state in zip(optimizers, checkpoint.optimizers, strict=True):
        peaks = [group["peak_lr"] for group in optimizer.param_groups]  # rates are this run's own
        optimizer.load_state_dict(state)
        for group, peak in zip(optimizer.param_groups, peaks, strict=True):
            group["peak_lr"] = peak
    logger.warning("Going on from %s.", newest)
    return checkpoint.step


def save_clip(output_dir: Path, clip: CLIPModel, processor: RamProcessor) -> None:
    """Write what `CLIPModel.from_pretrained` and `RamModel.from_clip` take.

    Raises:
        NoRoomError: when the disk is full.
    """
    # A tokenizer is saved with the options of its last call, and whoever loads it would have texts cut as in training.
    processor.tokenizer.backend_tokenizer.no_truncation()
    processor.tokenizer.backend_tokenizer.no_padding()
    with whole_files(output_dir) as unfinished:
        clip.save_pretrained(unfinished)
        processor.save_pretrained(unfinished)


__all__ = [
    "LARGEST_LOGIT_SCALE",
    "PIXEL_MEAN",
    "PIXEL_STD",
    "ClipSizes",
    "WrittenClip",
    "load_state",
    "make_clip",
    "make_optimizers",
    "make_processor",
    "open_clip",
    "read_sizes",
    "resize_images",
    "save_clip",
    "save_state",
]
