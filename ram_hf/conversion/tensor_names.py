"""What the published training code calls a tensor, and what it is called here."""

import re

from torch import Tensor

_INDEX = r"(0|[1-9][0-9]{0,8})(?![0-9])"
VISION_LAYER = rf"visual\.transformer\.resblocks\.{_INDEX}"
TEXT_LAYER = rf"transformer\.resblocks\.{_INDEX}"

# Their name of a module inside a layer -> ours, for what moves unchanged.
_LAYER_PARTS = {
    "ln_1": "layer_norm1",
    "ln_2": "layer_norm2",
    "mlp.c_fc": "mlp.fc1",
    "mlp.c_proj": "mlp.fc2",
    "attn.out_proj": "self_attn.out_proj",
}
_ADAPTER_PARTS = {
    "conv_adapter_layers1.0": "point_conv",
    "conv_adapter_layers1.1": "point_batch_norm",
    "adapter_norm_q1": "point_query_norm",
    "conv_adapter_layers2.0": "area_conv",
    "conv_adapter_layers2.1": "area_batch_norm",
    "adapter_norm_q2": "area_query_norm",
    "adapter_norm_kv": "label_norm",
    "conv_adapter_layers": "gate_conv",
    "conv_adapter_final": "output_conv",
}
_TOP_LEVEL = {
    "visual.conv1.weight": "clip.vision_model.embeddings.patch_embedding.weight",
    "visual.class_embedding": "clip.vision_model.embeddings.class_embedding",
    "visual.positional_embedding": "clip.vision_model.embeddings.position_embedding.weight",
    "visual.ln_pre.weight": "clip.vision_model.pre_layrnorm.weight",
    "visual.ln_pre.bias": "clip.vision_model.pre_layrnorm.bias",
    "visual.ln_post.weight": "clip.vision_model.post_layernorm.weight",
    "visual.ln_post.bias": "clip.vision_model.post_layernorm.bias",
    "token_embedding.weight": "clip.text_model.embeddings.token_embedding.weight",
    "positional_embedding": "clip.text_model.embeddings.position_embedding.weight",
    "ln_final.weight": "clip.text_model.final_layer_norm.weight",
    "ln_final.bias": "clip.text_model.final_layer_norm.bias",
    "logit_scale": "clip.logit_scale",
}
_TRANSPOSED = {  # they compute `x @ projection`
    "visual.proj": "clip.visual_projection.weight",
    "text_projection": "clip.text_projection.weight",
}


def rename_tensor(name: str, tensor: Tensor) -> dict[str, Tensor]:
    """One of their tensors as ours: usually one, three for a stacked projection, none for an unknown name.

    Raises:
        ValueError: when a stacked projection cannot be of three.
    """
    if name in _TOP_LEVEL:
        return {_TOP_LEVEL[name]: tensor}
    if name in _TRANSPOSED:
        return {_TRANSPOSED[name]: tensor.T.contiguous() if tensor.dim() == 2 else tensor}
    if name in ("temperature", "temperature_loc"):
        kind = "global" if name == "temperature" else "local"
        return {f"temperatures.{kind}_temperature": tensor.reshape(())}
    if match := re.fullmatch(VISION_LAYER + r"\.(.+)", name):
        index, part = match.groups()
        if part == "adapt_embeds":
            return {f"ladder.{index}.tokens": tensor}
        if part.startswith("conv_adapter."):
            module, _, leaf = part.removeprefix("conv_adapter.").rpartition(".")
            return (
                {f"ladder.{index}.adapter.{_ADAPTER_PARTS[module]}.{leaf}": tensor} if module in _ADAPTER_PARTS else {}
            )
        return _rename_layer(f"clip.vision_model.encoder.layers.{index}", part, tensor)
    if match := re.fullmatch(TEXT_LAYER + r"\.(.+)", name):
        index, part = match.groups()
        if part == "deep_embeds":
            return {f"prompts.{index}.tokens": tensor}
        return _rename_layer(f"clip.text_model.encoder.layers.{index}", part, tensor)
    return {}


def _rename_layer(layer: str, part: str, tensor: Tensor) -> dict[str, Tensor]:
    if match := re.fullmatch(r"attn\.(?:qkv\.|in_proj_)(weight|bias)", part):
        if tensor.dim() == 0 or tensor.shape[0] % 3:
            raise ValueError(f"{part} must stack queries, keys and values, got shape {tuple(tensor.shape)}.")
        pieces = zip("qkv", tensor.chunk(3), strict=True)
        return {f"{layer}.self_attn.{letter}_proj.{match.group(1)}": piece.contiguous() for letter, piece in pieces}
    module, _, leaf = part.rpartition(".")
    return {f"{layer}.{_LAYER_PARTS[module]}.{leaf}": tensor} if module in _LAYER_PARTS else {}


__all__ = ["TEXT_LAYER", "VISION_LAYER", "rename_tensor"]
