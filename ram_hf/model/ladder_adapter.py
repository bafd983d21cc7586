"""Recover: the local attention stream and the Ladder Local Adapter (LLA) beside CLIP's frozen vision layers."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers.modeling_layers import GradientCheckpointingLayer
from transformers.models.clip.modeling_clip import CLIPAttention, CLIPEncoderLayer

from .clip_attention import Heads, attend, keys_and_values, split_heads, to_layer


class LadderLocalAdapter(nn.Module):
    """Ladder Local Adapter (LLA, arXiv 2503.15337): refines the patches of the local stream by the labels.

    A 1x1 and a 3x3 convolution read the main stream's patch map, each attends to the label features without parameters
    of its own, a spatial gate weighs the two, and a 1x1 convolution leads back to the vision width.

    Args:
        vision_width: width W of CLIP's vision tower.
        projection_dim: joint width D of images and labels.
        gate_kernel_size: side of the gate's convolution, in patches, odd.
    """

    def __init__(self, vision_width: int, projection_dim: int, gate_kernel_size: int):
        super().__init__()
        self.point_conv = nn.Conv2d(vision_width, projection_dim, kernel_size=1, bias=False)
        self.point_batch_norm = nn.BatchNorm2d(projection_dim)
        self.point_query_norm = nn.LayerNorm(projection_dim)
        self.area_conv = nn.Conv2d(vision_width, projection_dim, kernel_size=3, padding=1, bias=False)
        self.area_batch_norm = nn.BatchNorm2d(projection_dim)
        self.area_query_norm = nn.LayerNorm(projection_dim)
        self.label_norm = nn.LayerNorm(projection_dim)
        self.gate_conv = nn.Conv2d(2, 2, kernel_size=gate_kernel_size, padding=gate_kernel_size // 2, bias=False)
        self.output_conv = nn.Conv2d(projection_dim, vision_width, kernel_size=1, bias=False)

    def forward(self, patches: Tensor, label_features: Tensor, grid: tuple[int, int]) -> Tensor:
        """Refine patches.

        Args:
            patches: tokens of the main stream without the class token, shape (B, P, W).
            label_features: projected, not normalised, shape (L, D).
            grid: rows and columns of the patch map; their product is P.

        Returns:
            What the local stream gains, shape (B, P, W).
        """
        # Tokens viewed as a map are a channels-last image: no copy on the way in or out.
        patch_map = patches.unflatten(1, grid).permute(0, 3, 1, 2)  # (B, W, rows, columns)
        point = F.gelu(_normalize(self.point_batch_norm, self.point_conv(patch_map))).flatten(2).mT  # (B, P, D)
        area = F.gelu(_normalize(self.area_batch_norm, self.area_conv(patch_map))).flatten(2).mT  # (B, P, D)

        label_values = self.label_norm(label_features)  # (L, D)
        point = point + _attend_to_labels(self.point_query_norm(point), label_values)
        area = area + _attend_to_labels(self.area_query_norm(area), label_values)

        # Mean and maximum over the 2 D channels of both streams, without laying them side by side.
        mean = (point.mean(dim=-1) + area.mean(dim=-1)) / 2
        maximum = torch.maximum(point.amax(dim=-1), area.amax(dim=-1))
        gate = self.gate_conv(
            torch.stack([mean, maximum], dim=1).unflatten(2, grid)
        ).sigmoid()  # (B, 2, rows, columns)
        point_gate, area_gate = gate.flatten(2).unsqueeze(-1).unbind(dim=1)  # (B, P, 1) each
        gated = (point * point_gate + area * area_gate).unflatten(1, grid).permute(0, 3, 1, 2)
        return self.output_conv(gated).flatten(2).mT


class TwoStreamLayer(GradientCheckpointingLayer):
    """One frozen CLIP layer with the local stream beside it. Holds no parameters: the CLIP layer is passed in."""

    def forward(
        self,
        main: Tensor,
        local: Tensor,
        extra_tokens: Tensor | None = None,
        *,
        clip_layer: CLIPEncoderLayer,
        local_attention: str = "value",
        output_attentions: bool = False,
    ) -> tuple[Tensor, Tensor, Tensor | None]:
        """Run `clip_layer` on both streams: main (B, 1 + P, W), class token first, and local (B, P, W).

        Args:
            main: CLIP's own tokens.
            local: those of the local stream.
            extra_tokens: learned tokens that the main stream sees in this layer alone, shape (E, W).
            clip_layer: the frozen layer.
            local_attention: what the local stream compares patches by; see [`attend_locally`].
            output_attentions: return the main stream's attention weights too.

        Returns:
            The two streams, and the main stream's attention weights or None; see [`main_stream_layer`].
        """
        main, heads, weights = main_stream_layer(
            clip_layer, main, extra_tokens=extra_tokens, output_attentions=output_attentions
        )
        return main, local.to(main.device) + attend_locally(clip_layer.self_attn, heads, local_attention), weights


class LadderLayer(nn.Module):
    """What a ladder layer adds to a frozen CLIP layer: ladder tokens in the main stream, LLA in the local stream.

    Gradient checkpointing covers the CLIP layer alone: computing the adapter again would count its batch twice in the
    statistics of its batch norms.

    Args:
        vision_width: width W of CLIP's vision tower.
        projection_dim: joint width D.
        num_tokens: number of ladder tokens; 0 for none.
        gate_kernel_size: side of the adapter's gate, in patches.
    """

    def __init__(self, vision_width: int, projection_dim: int, num_tokens: int, gate_kernel_size: int):
        super().__init__()
        self.tokens = nn.Parameter(torch.empty(num_tokens, vision_width)) if num_tokens else None
        self.streams = TwoStreamLayer()
        self.adapter = LadderLocalAdapter(vision_width, projection_dim, gate_kernel_size)

    def forward(
        self,
        main: Tensor,
        local: Tensor,
        label_features: Tensor,
        *,
        grid: tuple[int, int],
        clip_layer: CLIPEncoderLayer,
        local_attention: str = "value",
        output_attentions: bool = False,
    ) -> tuple[Tensor, Tensor, Tensor | None]:
        """Run `clip_layer` with both streams.

        Args:
            main: CLIP's own tokens, class token first, shape (B, 1 + P, W).
            local: tokens of the local stream, patches alone, shape (B, P, W).
            label_features: shape (L, D).
            grid: rows and columns of the patch map.
            clip_layer: the frozen layer; passed in, so that it is not registered twice.
            local_attention: what the local stream compares patches by; see [`attend_locally`].
            output_attentions: return the main stream's attention weights too.

        Returns:
            The two streams after the layer, and the attention weights or None; see [`main_stream_layer`].
        """
        main, local, weights = self.streams(
            main,
            local,
            self.tokens,
            clip_layer=clip_layer,
            local_attention=local_attention,
            output_attentions=output_attentions,
        )
        # The paper's local stream has a class token too, which nothing reads: no other token attends to it.
        return main, local + self.adapter(main[:, 1:], label_features, grid), weights


def main_stream_layer(
    layer: CLIPEncoderLayer,
    main: Tensor,
    *,
    extra_tokens: Tensor | None = None,
    output_attentions: bool = False,
) -> tuple[Tensor, Heads, Tensor | None]:
    """Run one CLIP layer, operation by operation as CLIP does, and keep its keys and values.

    Args:
        layer: a layer of CLIP's vision tower.
        main: shape (B, N, W).
        extra_tokens: learned tokens that this layer alone sees, shape (E, W).
        output_attentions: return the attention weights too.

    Returns:
        The tokens after the layer, (B, N, W), keys and values of the N tokens, and the attention weights,
        (B, heads, N, E + N), or None.
    """
    main = to_layer(layer, main)
    normed = layer.layer_norm1(main)
    queries = split_heads(layer.self_attn.q_proj(normed), layer.self_attn)
    all_heads, heads = keys_and_values(layer, normed, extra_tokens)
    attended, weights = attend(layer.self_attn, queries, *all_heads, output_weights=output_attentions)
    main = main + layer.self_attn.out_proj(attended)
    return main + layer.mlp(layer.layer_norm2(main)), heads, weights


def local_stream_layer(layer: CLIPEncoderLayer, main: Tensor, local: Tensor, local_attention: str) -> Tensor:
    """Advance the local stream (B, P, W) alone, where nothing reads the main stream (B, 1 + P, W) afterwards."""
    attention, normed = layer.self_attn, layer.layer_norm1(main)
    values = split_heads(attention.v_proj(normed), attention)
    keys = values if local_attention == "value" else split_heads(attention.k_proj(normed), attention)
    return local + attend_locally(attention, Heads(keys, values), local_attention)


def attend_locally(attention: CLIPAttention, heads: Heads, local_attention: str) -> Tensor:
    """What the local stream gains in a layer: patches attend to what is like them.

    `out_proj(softmax(a a^T / sqrt(d_head)) v)`, where a are the values v themselves ("value", arXiv 2503.15337) or the
    keys ("key").

    Args:
        attention: CLIP's attention module; its output projection is used.
        heads: of the main stream, class token first, N = 1 + P. The class token is attended to and asks nothing
            itself.
        local_attention: "value" or "key".

    Returns:
        Shape (B, P, W).
    """
    alike = heads.values if local_attention == "value" else heads.keys
    attended, _ = attend(attention, alike[:, :, 1:], alike, heads.values)
    return attention.out_proj(attended)


def _normalize(batch_norm: nn.BatchNorm2d, patch_map: Tensor) -> Tensor:
    """Batch norm in the precision of its statistics, which stay in float32 beside half-precision weights."""
    return batch_norm(patch_map.to(batch_norm.running_var.dtype)).to(patch_map.dtype)


def _attend_to_labels(queries: Tensor, values: Tensor) -> Tensor:
    """Parameter-free attention of patches (B, P, D) to labels (L, D), which serve as keys and values."""
    flat = queries.reshape(1, 1, -1, queries.shape[-1])
    labels = values[None, None]
    return F.scaled_dot_product_attention(flat, labels, labels).view(queries.shape)


__all__ = [
    "LadderLayer",
    "LadderLocalAdapter",
    "TwoStreamLayer",
    "attend_locally",
    "local_stream_layer",
    "main_stream_layer",
]
