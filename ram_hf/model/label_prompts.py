"""Learned prompts in the frozen text tower."""

import torch
from torch import Tensor, nn
from transformers.masking_utils import create_causal_mask
from transformers.modeling_layers import GradientCheckpointingLayer
from transformers.models.clip.modeling_clip import CLIPEncoderLayer


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

    def forward(self, hidden_states: Tensor, *, clip_layer: CLIPEncoderLayer) -> Tensor:
        """Insert the prompts, run `clip_layer`, remove them. Shape (L, T, Wt) in and out."""
        num_prompts = self.tokens.shape[0]
        kept = self.context_length - num_prompts  # positions that the layer sees besides the prompts
        begin, words, rest = hidden_states[:, :1], hidden_states[:, 1:kept], hidden_states[:, kept:]
        prompts = self.tokens.to(hidden_states.dtype).expand(hidden_states.shape[0], -1, -1)
        output = causal_layer(clip_layer, torch.cat([begin, prompts, words], dim=1))
        return torch.cat([output[:, :1], output[:, 1 + num_prompts :], rest], dim=1)


def causal_layer(clip_layer: CLIPEncoderLayer, hidden_states: Tensor) -> Tensor:
    """Run one layer of CLIP's text tower as CLIP does. Shape (L, T, Wt) in and out.

    Padding needs no mask: it stands behind the end-of-text token, which attends to what precedes it only.
    """
    mask = create_causal_mask(
        config=clip_layer.self_attn.config, inputs_embeds=hidden_states, attention_mask=None, past_key_values=None
    )
    return clip_layer(hidden_states, mask, is_causal=True)


__all__ = ["PromptLayer", "causal_layer"]
