"""Where a run starts from: a CLIP or a RAM model with everything in it that trains, and its processor."""

from typing import Any

import torch

from ..model.configuration_ram import RamConfig
from ..model.modeling_ram import RamModel
from ..model.processing_ram import RamProcessor
from .arguments import RamTrainingArguments

# What a RAM checkpoint has fixed: its weights have this shape, or this value was only where they began.
_FIXED_IN_A_CHECKPOINT = ("ladder_layers", "prompt_layers", "aggregation_kernel_size", "local_temperature")
_LEARNED_TOKENS = {"ladder_tokens": 8, "prompt_tokens": 4}


def prepare_model(arguments: RamTrainingArguments) -> tuple[RamModel, RamProcessor]:
    """Load model and processor in float32, with ladder tokens and prompts, the backbone frozen.

    Args:
        arguments: `model`, `model_revision`, `ram_config`, `gradient_checkpointing`, `image_mean`, `image_std`.

    Raises:
        ValueError: when `ram_config` would change what a RAM checkpoint has fixed, or `image_size` is not the model's.
    """
    model, processor = _load(arguments)
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


def _load(arguments: RamTrainingArguments) -> tuple[RamModel, RamProcessor]:
    content, _ = RamConfig.get_config_dict(arguments.model, revision=arguments.model_revision)
    if content.get("model_type") == RamConfig.model_type:
        model = _load_ram(arguments)
    else:
        model = RamModel.from_clip(
            arguments.model,
            revision=arguments.model_revision,
            dtype=torch.float32,
            config={**_LEARNED_TOKENS, **arguments.ram_config},
        )
    return model, RamProcessor.from_pretrained(arguments.model, revision=arguments.model_revision)


def _load_ram(arguments: RamTrainingArguments) -> RamModel:
    model = RamModel.from_pretrained(arguments.model, revision=arguments.model_revision, dtype=torch.float32)
    wanted: dict[str, Any] = dict(arguments.ram_config)
    tokens = {name: wanted.pop(name, default) for name, default in _LEARNED_TOKENS.items()}
    for name in _FIXED_IN_A_CHECKPOINT:
        present = getattr(model.config, name)
        if wanted.pop(name, present) != present:
            raise ValueError(
                f"`ram_config` sets `{name}` but the RAM checkpoint {arguments.model!r} has {present!r}; "
                "start from a CLIP to choose it."
            )
    for name, value in wanted.items():
        setattr(model.config, name, value)
    model.config.validate_architecture()
    if not model.config.ladder_tokens and not model.config.prompt_tokens:  # training-free so far
        model.add_learned_tokens(**tokens)
    return model


__all__ = ["prepare_model"]
