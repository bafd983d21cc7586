"""Where a run starts from: a CLIP or a RAM model with everything in it that trains, and its processor."""

import torch

from ..model.modeling_ram import RamModel
from ..model.processing_ram import RamProcessor
from ..pretrained import load_model
from .arguments import RamTrainingArguments


def prepare_model(arguments: RamTrainingArguments) -> tuple[RamModel, RamProcessor]:
    """Load model and processor in float32, with everything in it that trains, the backbone frozen.

    Args:
        arguments: `model`, `model_revision`, `ram_config`, `gradient_checkpointing`, `image_mean`, `image_std`.

    Raises:
        ValueError: when `ram_config` would change what a RAM checkpoint has fixed, or `image_size` is not the model's.
    """
    model, processor = load_model(
        arguments.model,
        revision=arguments.model_revision,
        dtype=torch.float32,
        config=arguments.ram_config,
        for_training=True,
    )
    # They belong to the weights as they were: the written model has those of its own training.
    model.reference = model.config.reference_labels = model.config.calibration = None
    model.visual_classifier = model.config.adapted_labels = None
    if arguments.gradient_checkpointing:
        # transformers 5.23 renames the method and warns of the old name, which is the only one in 5.17.
        enable = getattr(model, "activation_checkpointing_enable", None) or model.gradient_checkpointing_enable
        enable()
    if arguments.image_mean is not None:
        processor.image_processor.image_mean = arguments.image_mean
    if arguments.image_std is not None:
        processor.image_processor.image_std = arguments.image_std
    image_size = model.clip.config.vision_config.image_size
    if arguments.image_size not in (None, image_size):
        raise ValueError(f"`image_size` is {arguments.image_size} but {arguments.model!r} takes {image_size} pixels.")
    return model, processor


__all__ = ["prepare_model"]
