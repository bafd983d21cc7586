"""The text side: labels through CLIP's frozen tower with learned prompts, and what of it is remembered."""

from collections.abc import Callable, Mapping
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import CLIPModel, CLIPTextConfig
from transformers.masking_utils import create_causal_mask
from transformers.modeling_layers import GradientCheckpointingLayer
from transformers.models.clip.modeling_clip import CLIPEncoderLayer

from .clip_attention import as_checkpoint_input, attend, keys_and_values, split_heads, to_layer, trains
from .input_checks import check_input_ids
from .last_result import LastResult
from .layer_record import LayerRecord
from .mean_direction import mean_direction
from .reading import reads_freely

_LABELS_AT_ONCE = 1024  # without gradients labels are encoded in pieces, so that 100,000 of them fit into memory
# On a CPU in pieces of one shape, filled up, and so by length: how a matrix product rounds depends on its shape, and
# what a label's features are must not depend, not by a bit, on which others are encoded with it.
_ROWS, _POSITIONS = 32, 8


class LabelEncoder(nn.Module):
    """Encodes labels, and remembers what need not be computed, nor asked of the device, again.

    Holds no parameters: CLIP and the prompts are passed in, so that neither is registered twice.
    """

    gradient_checkpointing = False  # transformers sets it, here as in the layers

    def __init__(self) -> None:
        super().__init__()
        self._features = LastResult()
        self._frozen_states = LastResult()
        self._teacher_features = LastResult()

    def encode(
        self, clip: CLIPModel, prompts: nn.ModuleDict, input_ids: Tensor, attention_mask: Tensor | None = None
    ) -> Tensor:
        """Labels as the model reads them; see `RamModel.get_label_features`.

        Args:
            clip: the CLIP whose text tower reads.
            prompts: a [`PromptLayer`] for each layer that has one, by the layer's index as a string.
            input_ids: token ids, padded on the right, shape (L, T), or of K templates (L, K, T).
            attention_mask: of the same shape; only checked.

        Returns:
            Features, not normalised, shape (L, D); of several templates the mean direction.

        Raises:
            ValueError: when `input_ids` or `attention_mask` are not what the text tower takes.
        """
        check_input_ids(input_ids, attention_mask, clip.config.text_config)
        if torch.is_grad_enabled() or torch.compiler.is_compiling():  # a graph has no memory
            return _of_labels(self._encode(clip, prompts, input_ids), input_ids)
        # Prompts take part by content where they are: moving averages and broadcasts write them through `.data`.
        tokens = [layer.tokens for layer in prompts.values() if layer.tokens.device.type != "meta"]
        features: Tensor = self._features.get(
            [input_ids, *tokens],
            [clip.text_model, clip.text_projection, prompts],
            lambda: _of_labels(self._encode_in_pieces(clip, prompts, input_ids.flatten(0, -2)), input_ids),
        )
        return features.clone()  # the caller may change what he gets

    def encode_all_positions(
        self,
        clip: CLIPModel,
        prompts: nn.ModuleDict,
        input_ids: Tensor,
        attention_mask: Tensor | None,
        record: LayerRecord,
    ) -> tuple[Tensor, Tensor]:
        """Labels as the model reads them, computed as CLIP's own tower does: all of them, nothing remembered.

        Returns:
            What [`encode`] gives, (L, D), and the tokens behind the final norm, (L, T, Wt).
        """
        check_input_ids(input_ids, attention_mask, clip.config.text_config, one_template=True)
        text = clip.text_model
        _, end_positions = _trim(input_ids, clip.config.text_config)
        states = text.embeddings(input_ids)
        if self.gradient_checkpointing:
            states = as_checkpoint_input(states)
        record.add(states)
        for index, layer in enumerate(text.encoder.layers):
            run = _runner(prompts, index)
            states, weights = run(states, clip_layer=layer, output_attentions=record.attentions)
            record.add(states, weights)
        states = text.final_layer_norm(states)
        return clip.text_projection(states[_rows(states), end_positions.to(states.device)]), states

    @torch.no_grad()
    def encode_for_teacher(self, clip: CLIPModel, prompts: nn.ModuleDict, input_ids: Tensor) -> Tensor:
        """The labels as the teacher encodes them, without prompts, (L, D): computed once per label list."""
        first = _first_prompt_layer(clip, prompts)

        def compute() -> Tensor:
            return _of_labels(_finish(clip, {}, *self._states_below(clip, first, input_ids), first=first), input_ids)

        features: Tensor = self._teacher_features.get([input_ids], [clip.text_model, clip.text_projection], compute)
        return features

    def clear(self) -> None:
        """Forget what is remembered."""
        for memory in (self._features, self._frozen_states, self._teacher_features):
            memory.clear()

    def _encode_in_pieces(self, clip: CLIPModel, prompts: nn.ModuleDict, input_ids: Tensor) -> Tensor:
        if self.training or not reads_freely(input_ids):
            return torch.cat([self._encode(clip, prompts, piece) for piece in input_ids.split(_LABELS_AT_ONCE)])
        _, end_positions = _trim(input_ids, clip.config.text_config)
        lengths = end_positions // _POSITIONS
        order = lengths.argsort(stable=True)
        pieces = []
        for rows in order.split(lengths[order].unique_consecutive(return_counts=True)[1].tolist()):
            for row_numbers in rows.split(_ROWS):
                filled = row_numbers[torch.arange(_ROWS) % len(row_numbers)]
                piece = self._encode(clip, prompts, input_ids[filled], multiple=_POSITIONS)
                pieces.append(piece[: len(row_numbers)])
        return torch.cat(pieces)[order.argsort()]

    def _encode(self, clip: CLIPModel, prompts: nn.ModuleDict, input_ids: Tensor, *, multiple: int = 1) -> Tensor:
        first = _first_prompt_layer(clip, prompts)
        states, end_positions = self._states_below(clip, first, input_ids, multiple=multiple)
        if self.gradient_checkpointing:
            states = as_checkpoint_input(states)
        return _finish(clip, prompts, states, end_positions, first=first)

    def _states_below(
        self, clip: CLIPModel, first: int, input_ids: Tensor, *, multiple: int = 1
    ) -> tuple[Tensor, Tensor]:
        """What prompts never change: in training computed once per label list.

        Returns:
            Hidden states before layer `first` (L, T, Wt) and positions of the end-of-text tokens (L,), where each of
            several templates counts as a label.
        """
        text = clip.text_model
        is_trained = trains(text)

        def compute() -> tuple[Tensor, Tensor]:
            ids, end_positions = _trim(input_ids.flatten(0, -2), clip.config.text_config, multiple=multiple)
            states = text.embeddings(ids)
            if self.gradient_checkpointing and is_trained:
                states = as_checkpoint_input(states)
            for layer in text.encoder.layers[:first]:
                states = causal_layer(layer, states)
            return states, end_positions

        if is_trained:
            self.clear()
        if is_trained or not self.training:
            return compute()
        states: tuple[Tensor, Tensor] = self._frozen_states.get(
            [input_ids], [clip.text_model, clip.text_projection], compute
        )
        return states


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
        self,
        hidden_states: Tensor,
        *,
        clip_layer: CLIPEncoderLayer,
        end_positions: Tensor | None = None,
        output_attentions: bool = False,
    ) -> tuple[Tensor, Tensor | None]:
        """Run `clip_layer` with the prompts in; arguments and result are those of [`text_layer`]."""
        kept = self.context_length - self.tokens.shape[0]  # positions that the layer sees besides the prompts
        inside = None if end_positions is None else end_positions.clamp(max=kept - 1)
        output, weights = text_layer(
            hidden_states[:, :kept],
            clip_layer=clip_layer,
            prompts=self.tokens,
            end_positions=inside,
            output_attentions=output_attentions,
        )
        if end_positions is None:
            return torch.cat([output, hidden_states[:, kept:]], dim=1), weights
        unchanged = hidden_states[_rows(hidden_states), end_positions]
        return torch.where((end_positions < kept).unsqueeze(1), output, unchanged), weights


def text_layer(
    hidden_states: Tensor,
    *,
    clip_layer: CLIPEncoderLayer,
    prompts: Tensor | None = None,
    end_positions: Tensor | None = None,
    output_attentions: bool = False,
) -> tuple[Tensor, Tensor | None]:
    """One layer of CLIP's text tower, computed for nothing but what is read later.

    Padding needs no mask: it stands behind the end-of-text token, which attends to what precedes it only.

    Args:
        hidden_states: shape (L, T, Wt).
        clip_layer: a layer of CLIP's text tower.
        prompts: learned tokens behind the first position, for this layer only, shape (E, Wt).
        end_positions: compute these positions alone, shape (L,): in the last layer nothing else is read.
        output_attentions: return the attention weights too.

    Returns:
        The states, (L, T, Wt), or (L, Wt) with `end_positions`, and the attention weights, (L, heads, T, E + T), or
        None.
    """
    layer = clip_layer
    hidden_states = to_layer(layer, hidden_states)
    normed = layer.layer_norm1(hidden_states)
    (keys, values), _ = keys_and_values(layer, normed, prompts)
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
    attended, weights = attend(
        layer.self_attn, queries, keys, values, mask.unsqueeze(1), output_weights=output_attentions
    )
    hidden_states = hidden_states + layer.self_attn.out_proj(attended)
    hidden_states = hidden_states + layer.mlp(layer.layer_norm2(hidden_states))
    return hidden_states if end_positions is None else hidden_states.squeeze(1), weights


def causal_layer(layer: CLIPEncoderLayer, hidden_states: Tensor) -> Tensor:
    """One layer of CLIP's text tower as CLIP itself runs it. Shape (L, T, Wt) in and out."""
    mask = create_causal_mask(
        config=layer.self_attn.config, inputs_embeds=hidden_states, attention_mask=None, past_key_values=None
    )
    return layer(hidden_states, mask, is_causal=True)


def _of_labels(features: Tensor, input_ids: Tensor) -> Tensor:
    """Features of labels (L, D) of those of their sentences, (L, D) or (L * K, D)."""
    if input_ids.dim() == 2:
        return features
    return mean_direction(features.unflatten(0, input_ids.shape[:2]))


def _first_prompt_layer(clip: CLIPModel, prompts: nn.ModuleDict) -> int:
    # Without prompts the last layer counts as the first of them, so that there is a layer to finish with.
    return min([*map(int, prompts), clip.config.text_config.num_hidden_layers - 1])


def _runner(prompts: Mapping[str, nn.Module] | nn.ModuleDict, index: int) -> Callable[..., Any]:
    """What runs a text layer: its prompts, or the layer as it is."""
    if str(index) in prompts:
        return prompts[str(index)]
    return text_layer


def _finish(
    clip: CLIPModel,
    prompts: Mapping[str, nn.Module] | nn.ModuleDict,
    states: Tensor,
    end_positions: Tensor,
    *,
    first: int,
) -> Tensor:
    """The text layers from `first` on, the final norm and the projection. Returns (L, D)."""
    text = clip.text_model
    last = len(text.encoder.layers) - 1
    for index, layer in enumerate(text.encoder.layers[first:], start=first):
        ends = end_positions if index == last else None  # the last layer is read at the end of the text alone
        run = _runner(prompts, index)
        states, _ = run(states, clip_layer=layer, end_positions=ends)
    features: Tensor = clip.text_projection(text.final_layer_norm(states))
    return features


def _trim(input_ids: Tensor, text_config: CLIPTextConfig, *, multiple: int = 1) -> tuple[Tensor, Tensor]:
    """Cut padding behind the longest label, which changes nothing (attention is causal), and find the ends.

    What is left is as long as a multiple of `multiple`, or as the context.
    """
    end_token = text_config.eos_token_id
    # As in CLIP: checkpoints older than its configuration's end token say 2 and mean the largest id.
    is_end = input_ids == (input_ids.amax(dim=1, keepdim=True) if end_token == 2 else end_token)
    end_positions = is_end.int().argmax(dim=1)
    if torch.compiler.is_compiling():
        return input_ids, end_positions
    has_end = is_end.any(dim=1)
    # The device is asked once.
    low, high, all_have_end, last_end = torch.stack(
        [*input_ids.aminmax(), has_end.all(), end_positions.max()]
    ).tolist()
    if low < 0 or high >= text_config.vocab_size:
        raise ValueError(
            f"`input_ids` must lie in [0, {text_config.vocab_size}), got {low if low < 0 else high}. "
            "Use the tokenizer that belongs to this model."
        )
    if not all_have_end:
        row = has_end.tolist().index(False)
        raise ValueError(
            f"Label {row} of `input_ids` has no end-of-text token ({end_token}): {input_ids[row].tolist()}. "
            "Use the tokenizer that belongs to this model, with its special tokens."
        )
    length = min(-(-(last_end + 1) // multiple) * multiple, text_config.max_position_embeddings)
    return F.pad(input_ids[:, :length], (0, max(0, length - input_ids.shape[1]))), end_positions


def _rows(states: Tensor) -> Tensor:
    return torch.arange(states.shape[0], device=states.device)


__all__ = ["LabelEncoder", "PromptLayer", "causal_layer", "text_layer"]
