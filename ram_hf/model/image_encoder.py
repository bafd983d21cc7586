"""Recover: images through CLIP's frozen vision tower, with the local stream and the ladder beside it."""

from typing import NamedTuple

import torch
from torch import Tensor, nn
from transformers import CLIPModel

from .clip_attention import as_checkpoint_input, trains
from .configuration_ram import RamConfig, last_layers
from .ladder_adapter import TwoStreamLayer, attend_locally, local_stream_layer, main_stream_layer
from .layer_record import LayerRecord
from .own_weight import own_weight
from .patch_repair import aggregate_similar, repair_outliers


class EncodedImages(NamedTuple):
    """Result of [`ImageEncoder.encode`], not normalised.

    Attributes:
        image_features: (B, D), the projected class token.
        patch_features: (B, P, D), patches row by row.
        tokens: (B, 1 + P, W), the main stream behind the last layer, class token first.
    """

    image_features: Tensor
    patch_features: Tensor
    tokens: Tensor


class ImageEncoder(nn.Module):
    """Encodes images as a whole, and patch by patch.

    Holds no parameters: CLIP and the ladder (a [`LadderLayer`] for each layer that has one, by the layer's index as a
    string) are passed in, so that neither is registered twice. B images, P patches, vision width W, joint width D.

    Args:
        config: of the model, which says how the local stream attends and whether its patches are mended.
    """

    def __init__(self, config: RamConfig) -> None:
        super().__init__()
        self.config = config
        self.plain_layer = TwoStreamLayer()

    def encode_whole(
        self,
        clip: CLIPModel,
        ladder: nn.ModuleDict,
        pixel_values: Tensor,
        interpolate_pos_encoding: bool,
        record: LayerRecord,
    ) -> tuple[Tensor, Tensor]:
        """The main stream alone: features (B, D) of the class token, and all tokens (B, 1 + P, W)."""
        main = _embed(clip, pixel_values, interpolate_pos_encoding)
        record.add(main)
        for index, layer in enumerate(clip.vision_model.encoder.layers):
            tokens = own_weight(ladder[str(index)], "tokens") if str(index) in ladder else None
            main, _, weights = main_stream_layer(layer, main, extra_tokens=tokens, output_attentions=record.attentions)
            record.add(main, weights)
        return _project(clip, main[:, 0]), main

    def encode_below(
        self,
        clip: CLIPModel,
        ladder: nn.ModuleDict,
        pixel_values: Tensor,
        interpolate_pos_encoding: bool,
        record: LayerRecord,
    ) -> tuple[Tensor, Tensor]:
        """Both streams below the first ladder layer, where student and teacher are the same computation.

        Returns:
            Main stream (B, 1 + P, W), class token first, and local stream (B, P, W).
        """
        main = _embed(clip, pixel_values, interpolate_pos_encoding)
        if self.plain_layer.gradient_checkpointing and trains(clip.vision_model):
            main = as_checkpoint_input(main)
        record.add(main)
        local = main[:, 1:]
        for layer in clip.vision_model.encoder.layers[: _first_ladder_layer(clip, ladder)]:
            options = {"clip_layer": layer, "local_attention": self.config.local_attention}
            main, local, weights = self.plain_layer(main, local, output_attentions=record.attentions, **options)
            record.add(main, weights)
        return main, local

    def encode(
        self,
        clip: CLIPModel,
        ladder: nn.ModuleDict,
        streams: tuple[Tensor, Tensor],
        label_features: Tensor,
        grid: tuple[int, int],
        record: LayerRecord,
    ) -> EncodedImages:
        """The layers from the first ladder layer on, with the ladder.

        Args:
            clip: whose vision tower reads.
            ladder: see [`ImageEncoder`].
            streams: from [`encode_below`].
            label_features: shape (L, D); the adapters read them.
            grid: rows and columns of the patch map.
            record: that [`encode_below`] has begun.
        """
        main, local = streams
        middle_tokens = main[:, 1:]
        if self.plain_layer.gradient_checkpointing:
            main = as_checkpoint_input(main)
        first = _first_ladder_layer(clip, ladder)
        for index, layer in enumerate(clip.vision_model.encoder.layers[first:], start=first):
            options = {"clip_layer": layer, "local_attention": self.config.local_attention}
            options["output_attentions"] = record.attentions
            if str(index) in ladder:
                main, local, weights = ladder[str(index)](main, local, label_features, grid=grid, **options)
            else:
                main, local, weights = self.plain_layer(main, local, **options)
            record.add(main, weights)
        patch_features = _project(clip, local)
        if self.config.repair_outliers:
            patch_features = repair_outliers(patch_features, grid)
        if self.config.aggregate_similar:
            patch_features = aggregate_similar(patch_features, middle_tokens.to(patch_features.device))
        return EncodedImages(_project(clip, main[:, 0]), patch_features, main)

    @torch.no_grad()
    def encode_for_teacher(self, clip: CLIPModel, ladder: nn.ModuleDict, streams: tuple[Tensor, Tensor]) -> Tensor:
        """Patch features (B, P, D) of the same frozen CLIP without ladder; `streams` are of [`encode_below`]."""
        main, local = streams
        *layers, last = clip.vision_model.encoder.layers[_first_ladder_layer(clip, ladder) :]
        for layer in layers:
            main, heads, _ = main_stream_layer(layer, main)
            gained = attend_locally(layer.self_attn, heads, self.config.local_attention)
            local = local.to(main.device) + gained
        return _project(clip, local_stream_layer(last, main, local, self.config.local_attention))


def _embed(clip: CLIPModel, pixel_values: Tensor, interpolate_pos_encoding: bool) -> Tensor:
    vision = clip.vision_model
    embedded = vision.embeddings(pixel_values, interpolate_pos_encoding=interpolate_pos_encoding)
    tokens: Tensor = vision.pre_layrnorm(embedded)
    return tokens


def _project(clip: CLIPModel, tokens: Tensor) -> Tensor:
    features: Tensor = clip.visual_projection(clip.vision_model.post_layernorm(tokens))
    return features


def _first_ladder_layer(clip: CLIPModel, ladder: nn.ModuleDict) -> int:
    # Without a ladder, where one would begin: there `aggregate_similar` finds its tokens, with and without training.
    return min([*map(int, ladder)] or last_layers(clip.config.vision_config.num_hidden_layers))


__all__ = ["EncodedImages", "ImageEncoder"]
