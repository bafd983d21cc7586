"""The attention of CLIP's layers, taken apart: heads, the kernel that the configuration names, learned extra keys."""

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor, nn
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS
from transformers.models.clip.modeling_clip import CLIPAttention, CLIPEncoderLayer, eager_attention_forward

_TAKE_ANY_MASK = ("eager", "sdpa")


class Heads(NamedTuple):
    """What a layer computes of its tokens, per head.

    Attributes:
        keys: (B, heads, N, d_head).
        values: (B, heads, N, d_head).
    """

    keys: Tensor
    values: Tensor


def split_heads(states: Tensor, attention: CLIPAttention) -> Tensor:
    """From (B, N, W) to (B, heads, N, d_head)."""
    return states.unflatten(-1, (-1, attention.head_dim)).transpose(1, 2)


def attend(
    attention: CLIPAttention,
    queries: Tensor,
    keys: Tensor,
    values: Tensor,
    mask: Tensor | None = None,
    *,
    output_weights: bool = False,
) -> tuple[Tensor, Tensor | None]:
    """Scaled dot-product attention by CLIP's own choice of kernel, so that `attn_implementation` keeps its meaning.

    Args:
        attention: whose configuration names the kernel. Flash and flex attention take no additive mask; where there is
            one, "sdpa" stands in for them.
        queries: shape (B, heads, N, d_head).
        keys: shape (B, heads, M, d_head).
        values: shape (B, heads, M, d_head).
        mask: added to the scores, broadcast to (B, heads, N, M).
        output_weights: return the weights too, which "eager" alone has: it stands in for the others.

    Returns:
        What was attended to, before the output projection, (B, N, heads * d_head), and the weights, (B, heads, N, M),
        or None.
    """
    implementation = "eager" if output_weights else attention.config._attn_implementation
    if mask is not None and implementation not in _TAKE_ANY_MASK:
        implementation = "sdpa"
    kernel: Callable = ALL_ATTENTION_FUNCTIONS.get_interface(implementation, eager_attention_forward)
    dropout = attention.dropout if attention.training else 0.0
    output, weights = kernel(attention, queries, keys, values, mask, scaling=attention.scale, dropout=dropout)
    return output.flatten(2), weights if output_weights else None


def keys_and_values(layer: CLIPEncoderLayer, normed: Tensor, extra_tokens: Tensor | None) -> tuple[Heads, Heads]:
    """Keys and values of tokens, behind those of learned tokens that this layer alone sees.

    As learned tokens are dropped after the layer, all they can do is serve the others as keys and values, and these
    are the same for the whole batch: nothing else is computed for them.

    Args:
        layer: a layer of either tower.
        normed: the tokens after `layer_norm1`, shape (B, N, W).
        extra_tokens: learned tokens before it, shape (E, W), or None.

    Returns:
        Those of all E + N, and those of the N tokens alone.
    """
    heads = _heads(layer, normed)
    if extra_tokens is None:
        return heads, heads
    extra = _heads(layer, layer.layer_norm1(extra_tokens.to(normed.dtype)[None]))  # of (1, E, W)
    return Heads(_prepend(extra.keys, heads.keys), _prepend(extra.values, heads.values)), heads


def to_layer(layer: CLIPEncoderLayer, states: Tensor) -> Tensor:
    """Move tokens to a layer's device: a device map does so only for layers that are called as a whole."""
    device = layer.layer_norm1.weight.device
    return states if device.type == "meta" else states.to(device)  # offloaded weights come to their inputs


def as_checkpoint_input(states: Tensor) -> Tensor:
    """States that a reentrant checkpoint can start from: it gives no gradient without one on an input.

    What requires a gradient already is left as it is, so that what was computed below gets its own.
    """
    return states if states.requires_grad or not torch.is_grad_enabled() else states.detach().requires_grad_()


def trains(*modules: nn.Module) -> bool:
    """Whether any weight of these takes a gradient: their own, or one that an adapter put beside them."""
    return any(weight.requires_grad for module in modules for weight in module.parameters())


def _heads(layer: CLIPEncoderLayer, normed: Tensor) -> Heads:
    attention = layer.self_attn
    return Heads(*(split_heads(project(normed), attention) for project in (attention.k_proj, attention.v_proj)))


def _prepend(extra: Tensor, states: Tensor) -> Tensor:
    return torch.cat([extra.expand(states.shape[0], -1, -1, -1), states], dim=2)


__all__ = [
    "Heads",
    "as_checkpoint_input",
    "attend",
    "keys_and_values",
    "split_heads",
    "to_layer",
    "trains",
]
