"""Whether a processor is that of a model, told when they meet."""

from collections.abc import Mapping
from typing import Any

from transformers import CLIPConfig

_LARGEST_ID = 2  # CLIPs older than their end token's name say 2 and mean the largest id


def refuse_misfit(processor: Any, clip_config: CLIPConfig) -> None:
    """Refuse a processor that makes images of another size, or tokens of another vocabulary, than a model takes.

    Raises:
        ValueError: which says both.
    """
    side = clip_config.vision_config.image_size
    made = _made_size(processor.image_processor)
    if made not in (None, (side, side)):
        raise ValueError(
            f"The processor makes images of {made[0]} x {made[1]} pixels but the model takes {side} x {side}: they do "
            "not belong together. Use the model's own processor."
        )
    text, tokenizer = clip_config.text_config, processor.tokenizer
    ends_alike = text.eos_token_id in (_LARGEST_ID, tokenizer.eos_token_id)
    if len(tokenizer) > text.vocab_size or not ends_alike:
        raise ValueError(
            f"The tokenizer has {len(tokenizer)} tokens and ends a text with {tokenizer.eos_token_id}, but the model "
            f"has {text.vocab_size} and {text.eos_token_id}: they do not belong together. Use its own."
        )


def _made_size(image_processor: Any) -> tuple[int, int] | None:
    """Height and width of every image that leaves; None where it depends on the image."""
    crops = getattr(image_processor, "do_center_crop", False) and image_processor.crop_size
    size: Mapping[str, int | None] = dict(image_processor.crop_size if crops else image_processor.size)
    height, width = size.get("height"), size.get("width")
    return None if height is None or width is None else (height, width)


__all__ = ["refuse_misfit"]
