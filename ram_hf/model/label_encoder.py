"""CLIP's frozen text tower, layer by layer, with learned prompts."""

import torch
from torch import Tensor, nn
from transformers.masking_utils import create_causal_mask
from transformers.modeling_layers import GradientCheckpointingLayer
from transformers.models.clip.modeling_clip import CLIPEncoderLayer

from .clip_attention import attend, keys_and_values, split_heads, to_layer


class PromptLayer(GradientCheckpointingLayer):
    """Prompts that one text layer sees right after the beginning-of-text token (arXiv 2503.15337, deep prompts).

    Args:
        text_width: width Wt of CLIP's text tower.
        num_tokens: number of prompts, at least 1.
        context_length: positions that the text tower takes; what the prompts push beyond it passes unchanged.
    """

    def __init__(self, text_width: int, num_tokens: int, context_length: int):
        super().__init__()
        self.tokens = nn.Parameter(torch.empty(num_tokens, text_width))
        self.context_length = context_length

    def forward(
        self, hidden_states: Tensor, *, clip_layer: CLIPEncoderLayer, end_positions: Tensor | None = None
    ) -> Tensor:
        """Run `clip_layer` with the prompts in.

        Args:
            hidden_states: shape (L, T, Wt).
            clip_layer: the frozen layer.
            end_positions: see [`text_layer`].

        Returns:
            Shape (L, T, Wt), or (L, Wt) with `end_positions`.
        """
        kept = self.context_length - self.tokens.shape[0]  # positions that the layer sees besides the prompts
        if end_positions is None:
            output = text_layer(clip_layer, hidden_states[:, :kept], prompts=self.tokens)
            return torch.cat([output, hidden_states[:, kept:]], dim=1)
        inside = end_positions.clamp(max=kept - 1)
        output = text_layer(clip_layer, hidden_states[:, :kept], prompts=self.tokens, end_positions=inside)
        unchanged = hidden_states[_rows(hidden_states), end_positions]
        return torch.where((end_positions < kept).unsqueeze(1), output, unchanged)


def text_layer(
    layer: CLIPEncoderLayer,
    hidden_states: Tensor,
    *,
    prompts: Tensor | None = None,
    end_positions: Tensor | None = None,
) -> Tensor:
    """One layer of CLIP's text tower, computed for nothing but what is read later.

    Padding needs no mask: it stands behind the end-of-text token, which attends to what precedes it only.

    Args:
        layer: a layer of CLIP's text tower.
        hidden_states: shape (L, T, Wt).
        prompts: learned tokens behind the first position, for this layer only, shape (E, Wt).
        end_positions: compute these positions alone, shape (L,): in the last layer nothing else is read.

    Returns:
        Shape (L, T, Wt), or (L, Wt) with `end_positions`.
    """
    hidden_states = to_layer(layer, hidden_states)
    normed = layer.layer_norm1(hidden_states)
    keys, values, _ = keys_and_values(layer, normed, prompts)
    positions = torch.arange(hidden_states.shape[1], device=hidden_states.device)
    if end_positions is None:
        readers = positions.unsqueeze(0)  # (1, T)
    else:
        readers = end_positions.to(hidden_states.device).unsqueeze(1)  # (L, 1)
        rows = _rows(hidden_states).unsqueeze(1)
        hidden_states, normed = hidden_states[rows, readers], normed[rows, readers]  # (L, 1, Wt)
    visible = positions <= readers.unsqueeze(-1)  # (1 or L, readers, T)
    if prompts is not None:  # the first position precedes the prompts, all others follow them
        sees_prompts = (readers > 0).unsqueeze(-1).expand(-1, -1, prompts.shape[0])
        visible = torch.cat([sees_prompts, visible], dim=-1)
    mask = torch.zeros_like(visible, dtype=normed.dtype).masked_fill(~visible, torch.finfo(normed.dtype).min)
    queries = split_heads(layer.self_attn.q_proj(normed), layer.self_attn)
    attended = attend(layer.self_attn, queries, keys, values, mask.unsqueeze(1))
    hidden_states = hidden_states + layer.self_attn.out_proj(attended)
    hidden_states = hidden_states + layer.mlp(layer.layer_norm2(hidden_states))
    return hidden_states if end_positions is None else hidden_states.squeeze(1)


def causal_layer(layer: CLIPEncoderLayer, hidden_states: Tensor) -> Tensor:
    """One layer of CLIP's text tower as CLIP itself runs it. Shape (L, T, Wt) in and out."""
    mask = create_causal_mask(
        config=layer.self_attn.config, inputs_embeds=hidden_states, attention_mask=None, past_key_values=None
    )
    return layer(hidden_states, mask, is_causal=True)


def _rows(states: Tensor) -> Tensor:
    return torch.arange(states.shape[0], device=states.device)


__all__ = ["PromptLayer", "causal_layer", "text_layer"]
