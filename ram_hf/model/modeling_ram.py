"""Recover and Match (RAM, arXiv 2503.15337) around transformers' CLIPModel."""

import copy
import functools
import inspect
import math
import os
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import CLIPModel, PreTrainedModel
from transformers import initialization as init
from transformers.modeling_outputs import BaseModelOutputWithPooling
from transformers.utils import ModelOutput, can_return_tuple

from .adapters import leaving_out_clip, load_joined
from .aggregation import combine_scores
from .bundled import find_bundled
from .calibration import NOT_CALIBRATED, Calibration
from .checkpoint_kind import load_clip, refuse_missing_folder
from .configuration_ram import RamConfig, check_field_names, last_layers
from .image_encoder import EncodedImages, ImageEncoder
from .input_checks import (
    check_image_features,
    check_label_features,
    check_label_names,
    check_label_source,
    check_labels,
    check_pixel_values,
)
from .label_encoder import LabelEncoder, PromptLayer
from .ladder_adapter import LadderLayer
from .layer_record import LayerRecord, record_of
from .loaded_weights import load_and_remember, refuse_cold, remove_stale_weights
from .losses import label_loss
from .matching import MatchingTemperatures, match_patches
from .optimal_transport import teacher_cost
from .own_weight import own_weight
from .patch_collection import KeptPatches, PatchCollector
from .pushing import PushesCard
from .reference_labels import (
    LABELS_AT_ONCE,
    ImageFeatures,
    ReferenceLabels,
    Scales,
    describe_images,
    label_evidence,
    patch_scale,
)
from .visual_classifier import PATCHES_PER_LABEL, ClassifierTensors, Discriminants, VisualClassifier, fit_classifier

# What ranks best without training; docs/training_free.md tells how it was chosen, and what else was tried.
_TRAINING_FREE: dict[str, Any] = {
    "ladder_tokens": 0,
    "prompt_tokens": 0,
    "local_attention": "key",
    "aggregation": "max",
    "score_combination": "product",
    "global_weight": 0.4,
}
# Local over global temperature before training, chosen on scenes of seen labels. Of plans 2 to 8 are much alike; the
# published 2e-3 belongs to plans that are not normalised, where it is some 0.13 for COCO's 65 labels.
_TEMPERATURE_RATIOS = {"transport": 4.0, "max": 2.0, "mean": 1.0, "logsumexp": 2.0}


def _features_are_no_target(forward: Callable[..., Any]) -> Any:
    """Leave `label_features` out of the signature that libraries read.

    `Trainer` takes every argument with "label" in its name for a target, and gives no loss where one is missing.
    """
    signature = inspect.signature(forward)
    kept = [parameter for name, parameter in signature.parameters.items() if name != "label_features"]
    others = inspect.Parameter("kwargs", inspect.Parameter.VAR_KEYWORD)
    forward.__signature__ = signature.replace(parameters=[*kept, others])  # type: ignore[attr-defined]
    return forward


@dataclass
class RamOutput(ModelOutput):
    """Output of [`RamModel`] for B images, L labels, P patches and joint width D; it has all that `CLIPOutput` has.

    There are two numbers for each label. Its *score* is made of two softmaxes over the given labels, that of the whole
    image and that of its patches (the paper takes the mean): it sums to 1 per image and depends on the label list, so
    it ranks labels, and a fixed threshold means nothing until the list is fixed. Its *probability* is the answer to
    "is this label in the image?": it is the same whatever else is asked for, all of an image's may be small, and of
    the labels with 0.7 about 70 % are there. A model has probabilities when it is calibrated (`ram-hf calibrate`).

    Attributes:
        loss: scalar, when `labels` were given.
        scores: (B, L), in [0, 1], each row sums to 1.
        logits_per_image: (B, L), the logarithm of the scores; a softmax over them gives the scores back.
        global_logits: (B, L), cosine similarity of image and label over the global temperature.
        local_logits: (B, L), similarity of patches and label weighted by the plan, over the local temperature; where
            `aggregation` is another, the logarithm of what patches say together.
        image_embeds: (B, D), L2-normalised.
        patch_embeds: (B, P, D), L2-normalised.
        label_embeds: (L, D), L2-normalised.
        patch_marginal: (B, P), how much of any label each patch holds; each row sums to 1.
        transport_plan: (B, P, L), when asked for with `output_transport_plan=True`; each image's entries sum to 1, and
            each label's column says where it is. Where nothing is transported the column is the probability of the
            label in each patch, over its sum and the number of labels.
        global_loss: scalar, the part of the loss that is the global logits', when `labels` were given.
        local_loss: scalar, the other part.
        logits_per_text: (L, B), `logits_per_image` the other way round.
        text_embeds: (L, D), the `label_embeds` under CLIP's name for them.
        vision_model_output: the main stream: its tokens behind the last layer, `pooler_output` (B, D), and its hidden
            states and attentions where these were asked for; see `RamModel.get_image_features`.
        text_model_output: the same of the labels, see `RamModel.get_text_features`, where hidden states or attentions
            were asked for and the labels came as `input_ids`; else their features are all that is computed.
        probabilities: (B, L), in [0, 1], each label's by itself; None for a model that is not calibrated.
    """

    loss: Tensor | None = None
    scores: Tensor | None = None
    logits_per_image: Tensor | None = None
    global_logits: Tensor | None = None
    local_logits: Tensor | None = None
    image_embeds: Tensor | None = None
    patch_embeds: Tensor | None = None
    label_embeds: Tensor | None = None
    patch_marginal: Tensor | None = None
    transport_plan: Tensor | None = None
    global_loss: Tensor | None = None
    local_loss: Tensor | None = None
    logits_per_text: Tensor | None = None
    text_embeds: Tensor | None = None
    vision_model_output: BaseModelOutputWithPooling | None = None
    text_model_output: BaseModelOutputWithPooling | None = None
    probabilities: Tensor | None = None

    def to_tuple(self) -> tuple[Any, ...]:
        """What is not None, outputs of the towers as tuples too."""
        return tuple(value.to_tuple() if isinstance(value, ModelOutput) else value for value in self.values())


class RamPreTrainedModel(PushesCard, PreTrainedModel):
    """Weights, loading and initialisation of Recover and Match models."""

    config: RamConfig
    config_class = RamConfig
    base_model_prefix = "ram"
    main_input_name = "pixel_values"
    input_modalities = ("image", "text")
    supports_gradient_checkpointing = True
    accepts_loss_kwargs = False  # of `Trainer`, which counts tokens
    _supports_sdpa = True
    _supports_flash_attn = True
    _supports_flex_attn = True
    _supports_attention_backend = True
    _no_split_modules = ["CLIPTextEmbeddings", "CLIPEncoderLayer", "CLIPVisionEmbeddings", "LadderLayer"]  # noqa: RUF012
    # Variances of a trained adapter's channels exceed what float16 holds (65,504).
    _keep_in_fp32_modules_strict = ["temperatures", "point_batch_norm", "area_batch_norm"]  # noqa: RUF012
    _skip_keys_device_placement = ["clip_layer"]  # noqa: RUF012  (a device map would move the layer like an input)

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        cls._auto_class = None  # only a class that is registered itself is saved with its code

    @torch.no_grad()
    def _init_weights(self, module: nn.Module) -> None:
        # transformers 5 builds models without storage: every number of ours that a checkpoint may lack is set here,
        # for the module that owns it (transformers skips modules without parameters of their own).
        super()._init_weights(module)
        if isinstance(module, LadderLayer | PromptLayer):
            if module.tokens is not None:
                init.normal_(module.tokens, std=0.02)
        elif isinstance(module, MatchingTemperatures):
            # CLIP's own logit scale is not there yet: `from_clip` and checkpoints bring the right value.
            init.constant_(module.global_temperature, math.exp(-self.config.clip_config.logit_scale_init_value))
            init.constant_(module.local_temperature, self.config.local_temperature)
        elif isinstance(module, ReferenceLabels):
            init.zeros_(module.features)
        elif isinstance(module, VisualClassifier):
            for name in ClassifierTensors._fields:
                init.zeros_(getattr(module, name))

    def _card_facts(self) -> tuple[RamConfig, str]:
        return self.config, self.config._name_or_path

    def get_input_embeddings(self) -> nn.Module:
        """The embedding of CLIP's tokens, so that a vocabulary can grow; see `resize_token_embeddings`."""
        return self.clip.text_model.embeddings.token_embedding

    def set_input_embeddings(self, value: nn.Module) -> None:
        """Put another embedding of tokens into CLIP's text tower."""
        self.clip.text_model.embeddings.token_embedding = value

    def freeze_backbone(self) -> None:
        """Let CLIP's weights take no gradient: adapters, ladder tokens, prompts and temperatures alone train."""
        self.clip.requires_grad_(False)

    @classmethod
    def from_pretrained(
        cls, pretrained_model_name_or_path: str | os.PathLike[str] | None, *model_args: Any, **kwargs: Any
    ) -> Any:
        """Load a model from the Hub, a folder, or the package ("ram-photo"); see `PreTrainedModel.from_pretrained`.

        Tensors that the checkpoint lacks are random, with a warning; the pipeline and `ram-hf` refuse such a model.
        A checkpoint of the adapters alone is joined with its CLIP: the one that it names, or, where that lies
        elsewhere, `base_model` (a name, a folder, or a `CLIPModel` in memory).

        Raises:
            FileNotFoundError: when a path that can only be local does not exist.
            PickleRefusedError: when there are no weights but pickles, which are never opened.
            ValueError: when the checkpoint is not a RAM model (for a CLIP checkpoint use [`RamModel.from_clip`]), a
                tensor is of another shape than the model's, a temperature is not above zero, or the CLIP of adapters
                alone cannot be had or is another.
        """
        name_or_path = find_bundled(pretrained_model_name_or_path)
        refuse_missing_folder(name_or_path)
        with_info = kwargs.pop("output_loading_info", False)
        load = functools.partial(load_joined, super().from_pretrained, cls.config_class)
        model, info = load_and_remember(load, name_or_path, *model_args, **kwargs)
        refuse_cold(model, name_or_path)
        model.freeze_backbone()  # loading replaces the parameters that `__init__` froze
        return (model, info) if with_info else model

    def save_pretrained(
        self, save_directory: str | os.PathLike[str], *args: Any, adapters_only: bool = False, **kwargs: Any
    ) -> None:
        """Save the model with its code; see `PreTrainedModel.save_pretrained`.

        Args:
            save_directory: the folder to write; made when it is not there.
            *args: of transformers' own.
            adapters_only: leave out CLIP's weights, which [`from_pretrained`] then takes from where the model has
                them from: `config.base_model_name_or_path`, by its commit. It is loaded here to see that nothing of
                it was trained.
            **kwargs: of transformers' own: `max_shard_size`, `variant`, `state_dict`, `push_to_hub`, ...

        Raises:
            ValueError: when CLIP's own weights were trained, or there is no base to leave them to.
        """
        if not adapters_only:
            super().save_pretrained(save_directory, *args, **kwargs)
        else:
            weights = kwargs.pop("state_dict", None) or self.state_dict()
            kwargs["max_shard_size"] = "50GB"  # they are small
            with leaving_out_clip(self.config, weights, token=kwargs.get("token")) as own:
                super().save_pretrained(save_directory, *args, state_dict=own, **kwargs)
        remove_stale_weights(save_directory, kwargs.get("variant"))


class RamModel(RamPreTrainedModel):
    """Recover and Match: scores of any list of labels for images, and where each label is.

    CLIP is frozen. Ladder Local Adapters (LLA) beside its last vision layers recover what each patch shows; an
    optimal transport plan (Knowledge-Constrained Optimal Transport, KCOT) matches patches to labels.

    Args:
        config: shape of the model; the weights are random.
        clip: a CLIP to wrap instead of a random one; its weights are shared, not copied.

    Example:
        >>> model = RamModel.from_clip("openai/clip-vit-base-patch16").eval()
        >>> processor = RamProcessor.from_pretrained("openai/clip-vit-base-patch16")
        >>> label_features = model.get_label_features(**processor(labels=["dog", "red car"]))
        >>> output = model(**processor(images=images), label_features=label_features)
        >>> output.scores  # (images, labels)
    """

    def __init__(self, config: RamConfig, clip: CLIPModel | None = None):
        super().__init__(config)
        vision, text = config.clip_config.vision_config, config.clip_config.text_config
        joint_width = config.clip_config.projection_dim
        if clip is None:
            # In the default dtype, as all of ours: `from_pretrained(dtype=...)` sets that while it builds the model.
            clip = CLIPModel._from_config(config.clip_config, dtype=torch.get_default_dtype())
        else:
            for module in clip.modules():
                module._is_hf_initialized = True  # whoever made it: these weights are not ours to initialise
        self.clip = clip
        self.ladder, self.prompts = nn.ModuleDict(), nn.ModuleDict()
        for index in config.ladder_layers:
            self.ladder[str(index)] = LadderLayer(
                vision.hidden_size, joint_width, config.ladder_tokens, config.aggregation_kernel_size
            )
        for index in config.prompt_layers if config.prompt_tokens else ():
            self.prompts[str(index)] = PromptLayer(
                text.hidden_size, config.prompt_tokens, text.max_position_embeddings
            )
        self.label_encoder = LabelEncoder()
        self.image_encoder = ImageEncoder(config)
        # After CLIP, so that `model.dtype`, which is that of the first parameter, is CLIP's.
        self.temperatures = MatchingTemperatures()
        self.reference: ReferenceLabels | None = None
        if config.reference_labels:
            self.reference = ReferenceLabels(len(config.reference_labels), joint_width)
        self.visual_classifier: VisualClassifier | None = None
        if config.adapted_labels:
            self.visual_classifier = VisualClassifier(len(config.adapted_labels), joint_width)
            # Of this model alone: the list may name no module that is not there.
            self._keep_in_fp32_modules_strict = [*self._keep_in_fp32_modules_strict, "visual_classifier"]
        self.loss_function = label_loss  # of logits and labels; training in several processes gives another
        self.post_init()
        self.freeze_backbone()

    @classmethod
    def from_clip(
        cls,
        clip: str | os.PathLike[str] | CLIPModel,
        *,
        config: dict[str, Any] | None = None,
        for_training: bool = False,
        **kwargs: Any,
    ) -> "RamModel":
        """Wrap a CLIP checkpoint; useful at once, without training.

        Local stream and patches work from the start, in the form that ranks best without training; the paper's, with
        its transport plan, is what training begins with. There are no adapters, which would add nothing before they
        are trained, no ladder tokens and no prompts, until [`add_learned_tokens`] adds them for training. Nor are
        there reference labels and probabilities: `ram-hf calibrate` encodes a list of common nouns, and fits them.

        Args:
            clip: id on the Hub, folder or `CLIPModel` with a ViT tower. A `CLIPModel` is wrapped, not copied.
            config: fields of [`RamConfig`] to set, for example `{"aggregation": "transport"}`. Without a
                `local_temperature`, it is set by CLIP's own: of normalised plans to four times that, of the largest
                patch to twice.
            for_training: take the defaults of [`RamConfig`], which are the paper's, with adapters, ladder tokens and
                prompts. The adapters' last convolution is zero, so that they begin by adding nothing.
            **kwargs: passed to `CLIPModel.from_pretrained`: `revision`, `dtype`, `device_map`, `attn_implementation`.

        Returns:
            The model, in evaluation mode.

        Raises:
            FileNotFoundError: when a path that can only be local does not exist.
            ValueError: when the checkpoint is not a CLIP, or a field of `config` is unknown.
            TypeError: when `clip` is another model, or keyword arguments come with a `CLIPModel`, which is loaded
                already.
        """
        settings: dict[str, Any] = {**({} if for_training else _TRAINING_FREE), **(config or {})}
        check_field_names(settings)
        if not for_training and not settings["ladder_tokens"]:
            settings.setdefault("ladder_layers", [])
        if isinstance(clip, CLIPModel):
            if kwargs:
                raise TypeError(f"A CLIPModel is loaded already, so {sorted(kwargs)} can have no effect.")
            settings.setdefault("base_model_name_or_path", clip.config._name_or_path or None)
        elif not isinstance(clip, str | os.PathLike):
            raise TypeError(f"A CLIPModel, or the name of one, can be wrapped, not a {type(clip).__name__}.")
        else:
            settings.setdefault("base_model_name_or_path", os.fspath(clip))
            clip, revision = load_clip(clip, **kwargs)
            settings.setdefault("base_model_revision", revision)
        if clip.logit_scale.device.type == "meta":
            raise ValueError(
                "CLIP's root is offloaded, so its logit scale cannot be read. Wrap it in memory, save it, and load "
                "that with `RamModel.from_pretrained(..., device_map=...)`."
            )
        aggregation = settings.get("aggregation", "transport")
        if aggregation in _TEMPERATURE_RATIOS and (aggregation != "transport" or settings.get("normalize_plan", True)):
            temperature = _TEMPERATURE_RATIOS[aggregation] / clip.logit_scale.float().exp().item()
            settings.setdefault("local_temperature", temperature)
        # A configuration hands its attention implementation down: without it CLIP's own choice would be lost.
        settings["attn_implementation"] = clip.config._attn_implementation
        model = cls(RamConfig(clip_config=clip.config, **settings), clip=clip)
        _silence(model.ladder)
        with torch.no_grad():
            model.temperatures.global_temperature.copy_((-clip.logit_scale.float()).exp())
        device = clip.logit_scale.device
        for module in (model.ladder, model.prompts):
            module.to(device=device, dtype=clip.dtype)
        model.temperatures.to(device)
        return model.eval()

    def add_learned_tokens(
        self, *, ladder_tokens: int = 8, prompt_tokens: int = 4, ladder_layers: Sequence[int] | None = None
    ) -> None:
        """Give a training-free model its ladder tokens and prompts, randomly initialised, for training.

        Where it has no adapters it is given these too. They begin by adding nothing. Other sizes are those of its
        configuration. Call it before gradient checkpointing is enabled: what is new does not take part in that by
        itself.

        Args:
            ladder_tokens: number of tokens in each ladder layer; 0 for none.
            prompt_tokens: number of prompts in each prompt layer; 0 for none.
            ladder_layers: zero-based vision layers that are given adapters, where the model has none; none where
                empty, the last three when left out.

        Raises:
            ValueError: when the model has ladder tokens or prompts already, or adapters in other layers, or one of
                these numbers is outside its range.
        """
        if self.config.ladder_tokens or self.config.prompt_tokens:
            raise ValueError(
                f"The model has {self.config.ladder_tokens} ladder tokens and {self.config.prompt_tokens} prompts "
                "already: they would be lost."
            )
        config = copy.deepcopy(self.config)
        config.ladder_tokens, config.prompt_tokens = ladder_tokens, prompt_tokens
        if ladder_layers is None:
            ladder_layers = config.ladder_layers or last_layers(config.vision_config.num_hidden_layers)
        config.ladder_layers, config.prompt_layers = sorted(ladder_layers), sorted(config.prompt_layers or ())
        if self.ladder and config.ladder_layers != self.config.ladder_layers:
            raise ValueError(
                f"The model has adapters in layers {self.config.ladder_layers}, so they cannot be in "
                f"{config.ladder_layers}: leave `ladder_layers` out."
            )
        config.validate_architecture()  # before anything changes
        grown = RamModel(config, clip=self.clip)
        _silence(grown.ladder)
        for part in (grown.ladder, grown.prompts):
            part.to(device=self.device, dtype=self.dtype).train(self.training)
        for index, layer in self.ladder.items():  # what was there stays, in its own precision
            layer.tokens = grown.ladder[index].tokens
            grown.ladder[index] = layer
        self.ladder, self.prompts = grown.ladder, grown.prompts
        for field in ("ladder_layers", "prompt_layers", "ladder_tokens", "prompt_tokens"):
            setattr(self.config, field, getattr(config, field))

    @property
    def has_trained_adapters(self) -> bool:
        """Whether an adapter adds anything; none does before it is trained."""
        return any(own_weight(layer.adapter.output_conv, "weight").any() for layer in self.ladder.values())

    # --- labels -----------------------------------------------------------------------------------------------------

    def get_label_features(self, input_ids: Tensor, attention_mask: Tensor | None = None) -> Tensor:
        """Encode labels: CLIP's projected text features, with the learned prompts.

        Compute them once per label list and pass them as `label_features` as often as needed. Without gradients the
        last label list is remembered until the weights change, so that passing the same `input_ids` again is cheap.
        (A weight of CLIP that is written through `.data`, as merging an adapter that never ran does, does not tell:
        call [`clear_label_cache`] then.)

        Args:
            input_ids: token ids, padded on the right, shape (L, T); of K templates (L, K, T), whose mean direction is
                the label's.
            attention_mask: accepted because tokenizers return it; only checked. Padding stands behind the end-of-text
                token, which attends to what precedes it.

        Returns:
            Features, not normalised, shape (L, D).

        Raises:
            ValueError: when there are no labels, they are padded on the left, one is longer than the text context, or
                one has no end-of-text token.
        """
        return self.label_encoder.encode(self.clip, self.prompts, input_ids, attention_mask)

    @can_return_tuple
    def get_text_features(
        self,
        input_ids: Tensor,
        attention_mask: Tensor | None = None,
        output_hidden_states: bool | int | Sequence[int] | None = None,
        output_attentions: bool | None = None,
    ) -> BaseModelOutputWithPooling:
        """Encode labels as `CLIPModel.get_text_features` does: with all that the text tower computes.

        [`get_label_features`] gives the features alone, computes less and remembers them.

        Args:
            input_ids: token ids, padded on the right, shape (L, T).
            attention_mask: see [`get_label_features`].
            output_hidden_states: return the hidden states, (L, T, Wt) each, or those at these places in their list;
                by the configuration when None.
            output_attentions: return the attention weights, (L, heads, T, E + T) each, where E learned prompts of a
                layer come first; by the configuration when None.

        Returns:
            `pooler_output` (L, D), not normalised; `last_hidden_state` (L, T, Wt), `hidden_states`, `attentions`.

        Raises:
            ValueError: see [`get_label_features`].
        """
        record = record_of(self.config, self.clip.config.text_config, output_hidden_states, output_attentions)
        return self._encode_labels(input_ids, attention_mask, record)

    def _encode_labels(
        self, input_ids: Tensor, attention_mask: Tensor | None, record: LayerRecord
    ) -> BaseModelOutputWithPooling:
        features, tokens = self.label_encoder.encode_all_positions(
            self.clip, self.prompts, input_ids, attention_mask, record
        )
        return record.output(tokens, features)

    def clear_label_cache(self) -> None:
        """Forget remembered label features; needed only after weights of CLIP were written through `.data`."""
        self.label_encoder.clear()

    def _to_model(self, label_features: Tensor, device: torch.device) -> Tensor:
        check_label_features(label_features, self.clip.config.projection_dim)
        return label_features.to(device=device, dtype=self.clip.dtype)

    # --- images -----------------------------------------------------------------------------------------------------

    @can_return_tuple
    def get_image_features(
        self,
        pixel_values: Tensor,
        interpolate_pos_encoding: bool = False,
        output_hidden_states: bool | int | Sequence[int] | None = None,
        output_attentions: bool | None = None,
    ) -> BaseModelOutputWithPooling:
        """Encode whole images, as `CLIPModel.get_image_features` does. It does not depend on any label.

        Args:
            pixel_values: shape (B, 3, H, W).
            interpolate_pos_encoding: accept images of another size than the model's.
            output_hidden_states: return the hidden states, (B, 1 + P, W) each, or those at these places in their list;
                by the configuration when None.
            output_attentions: return the attention weights, (B, heads, 1 + P, E + 1 + P) each, where E ladder tokens
                of a layer come first; by the configuration when None.

        Returns:
            `pooler_output` (B, D), the projected class token, not normalised; `last_hidden_state` (B, 1 + P, W), class
            token first, `hidden_states`, `attentions`.

        Raises:
            ValueError: when `pixel_values` are of the wrong shape or not finite.
        """
        vision = self.clip.config.vision_config
        check_pixel_values(pixel_values, vision, any_size=interpolate_pos_encoding)
        record = record_of(self.config, vision, output_hidden_states, output_attentions)
        features, tokens = self.image_encoder.encode_whole(
            self.clip, self.ladder, pixel_values, interpolate_pos_encoding, record
        )
        return record.output(tokens, features)

    def get_patch_features(
        self, pixel_values: Tensor, label_features: Tensor, *, interpolate_pos_encoding: bool = False
    ) -> Tensor:
        """Encode patches. The adapters read the labels, so the features belong to this label list.

        Args:
            pixel_values: shape (B, 3, H, W).
            label_features: from [`get_label_features`], shape (L, D).
            interpolate_pos_encoding: accept images of another size than the model's.

        Returns:
            Features, not normalised, shape (B, P, D), patches row by row.

        Raises:
            ValueError: when an input is of the wrong shape or not finite.
        """
        check_pixel_values(pixel_values, self.clip.config.vision_config, any_size=interpolate_pos_encoding)
        label_features = self._to_model(label_features, pixel_values.device)
        _, encoded = self._encode_images(pixel_values, label_features, interpolate_pos_encoding, LayerRecord())
        return encoded.patch_features

    def _encode_images(
        self, pixel_values: Tensor, label_features: Tensor, interpolate_pos_encoding: bool, record: LayerRecord
    ) -> tuple[tuple[Tensor, Tensor], EncodedImages]:
        """Images with the ladder, and before it the streams below the ladder, where the teacher goes on."""
        grid = self.config.patch_grid(*pixel_values.shape[-2:])
        streams = self.image_encoder.encode_below(
            self.clip, self.ladder, pixel_values, interpolate_pos_encoding, record
        )
        return streams, self.image_encoder.encode(self.clip, self.ladder, streams, label_features, grid, record)

    # --- one label by itself -----------------------------------------------------------------------------------------

    @property
    def is_calibrated(self) -> bool:
        """Whether the model gives probabilities."""
        return self.reference is not None and self.config.calibration is not None

    @property
    def calibration(self) -> Calibration:
        """What makes probabilities of the model's evidence.

        Raises:
            ValueError: when the model is not calibrated.
        """
        if not self.is_calibrated:
            raise ValueError(NOT_CALIBRATED)
        return Calibration.from_dict(self.config.calibration or {})

    def set_reference_labels(self, names: Sequence[str], label_features: Tensor) -> None:
        """Set the labels that images are read with when labels are to be judged each by itself.

        The labels that the model was trained on are a good list, and common nouns (`ram_hf.COMMON_NOUNS`) for one
        without training. They are saved with the model. A calibration that the model had belongs to other labels, and
        is dropped. `ram-hf calibrate` sets them too.

        Args:
            names: R distinct label names.
            label_features: from [`get_label_features`], shape (R, D).

        Raises:
            ValueError: when names are missing or repeated, or there are features of another number of labels.
        """
        check_label_features(label_features, self.clip.config.projection_dim)
        check_label_names(names, label_features.shape[0])
        self.config.reference_labels, self.config.calibration = list(names), None
        self.reference = ReferenceLabels(*label_features.shape)
        self.reference.features = label_features.detach().clone()
        self.reference.to(self.clip.logit_scale.device, self.clip.dtype)

    def encode_images(self, pixel_values: Tensor, *, interpolate_pos_encoding: bool = False) -> ImageFeatures:
        """Encode images once and for all labels: what [`score_stored`] needs later, without the images.

        Args:
            pixel_values: shape (B, 3, H, W).
            interpolate_pos_encoding: accept images of another size than the model's.

        Returns:
            [`ImageFeatures`], which do not depend on any label that is asked for.

        Raises:
            ValueError: when the model has no reference labels, or the input is of the wrong shape or not finite.
        """
        check_pixel_values(pixel_values, self.clip.config.vision_config, any_size=interpolate_pos_encoding)
        streams = self.image_encoder.encode_below(
            self.clip, self.ladder, pixel_values, interpolate_pos_encoding, LayerRecord()
        )
        return self._describe(self._encode_with_reference(streams, pixel_values))

    def score_stored(
        self,
        features: ImageFeatures,
        label_features: Tensor,
        *,
        output_transport_plan: bool = False,
        labels_at_once: int = LABELS_AT_ONCE,
    ) -> RamOutput:
        """Judge labels, each by itself, for images that were encoded before.

        Adding, leaving out, repeating or permuting labels changes no label's numbers: not by a bit in float32 on a
        CPU.

        Args:
            features: from [`encode_images`].
            label_features: from [`get_label_features`], shape (L, D).
            output_transport_plan: return the plan (B, P, L) as well, whose columns are each label's own.
            labels_at_once: how many are computed side by side. Fewer than that cost as much; the bits are the same
                for the same number.

        Returns:
            [`RamOutput`] with `global_logits`, `local_logits`, `label_embeds`, and, where the model is calibrated,
            `probabilities`.

        Raises:
            ValueError: when the model has no reference labels, or an input is of the wrong shape.
        """
        check_image_features(features, self.clip.config.projection_dim)
        reference = self._reference_features(features.image_embeds.device)
        label_embeds = F.normalize(self._to_model(label_features, reference.device).float(), dim=-1)
        scales = self._scales(reference.device)
        evidence = label_evidence(
            features,
            label_embeds,
            F.normalize(reference.float(), dim=-1),
            self.config,
            scales,
            compared=functools.partial(self._compared, scales=scales),
            output_transport_plan=output_transport_plan,
            labels_at_once=labels_at_once,
        )
        probabilities = None
        if self.config.calibration is not None:
            probabilities = self.calibration.probabilities(
                evidence.global_logits, evidence.local_logits, features.statistics
            )
        return RamOutput(
            global_logits=evidence.global_logits,
            local_logits=evidence.local_logits,
            label_embeds=label_embeds,
            transport_plan=evidence.transport_plan,
            probabilities=probabilities,
        )

    def _encode_with_reference(self, streams: tuple[Tensor, Tensor], pixel_values: Tensor) -> EncodedImages:
        reference = self._reference_features(pixel_values.device)
        grid = self.config.patch_grid(*pixel_values.shape[-2:])
        return self.image_encoder.encode(self.clip, self.ladder, streams, reference, grid, LayerRecord())

    def _describe(self, encoded: EncodedImages) -> ImageFeatures:
        image_embeds, patch_embeds = (F.normalize(each.float(), dim=-1) for each in encoded[:2])
        reference_embeds = F.normalize(self._reference_features(image_embeds.device).float(), dim=-1)
        scales = self._scales(image_embeds.device)
        compared = functools.partial(self._compared, scales=scales)
        return describe_images(image_embeds, patch_embeds, reference_embeds, self.config, scales, compared=compared)

    def _reference_features(self, device: torch.device) -> Tensor:
        if self.reference is None:
            raise ValueError("This model has no reference labels: give it some with `set_reference_labels`.")
        return own_weight(self.reference, "features").to(device)

    # --- labels by their looks ---------------------------------------------------------------------------------------

    def adapt(
        self,
        images: Iterable[Tensor],
        label_features: Tensor,
        label_names: Sequence[str] | None = None,
        *,
        patches_per_label: int = PATCHES_PER_LABEL,
    ) -> Tensor:
        """Learn from unlabelled images what labels look like; patches are then compared with that, not with words.

        Images are read once, in the order that they come in, and memory depends on the labels and `patches_per_label`
        alone. What is learned is saved with the model and takes the place of words wherever one of these labels is
        asked for, known by its features; for all other labels it is estimated from their words. A calibration that
        the model had belongs to what patches said before, and is dropped.

        Args:
            images: batches of `pixel_values`, each of shape (B, 3, H, W); a generator will do.
            label_features: from [`get_label_features`], shape (L, D), more than one label.
            label_names: L distinct names to save with what was learned; numbers when left out.
            patches_per_label: how many patches a label's looks are learned from, at most.

        Returns:
            How many patches each label got, shape (L,). A label with none is known by its words.

        Raises:
            ValueError: when the model is in training mode, an input is of the wrong shape or not finite, there is one
                label only, names are missing or repeated, no image comes, or the images show nothing at all.
        """
        if self.training:
            raise ValueError("A model is adapted in evaluation mode: call `model.eval()` before.")
        names = [str(number) for number in range(len(label_features))] if label_names is None else list(label_names)
        self._check_adapted(names, label_features)
        collector = self.collect_patches(label_features, patches_per_label=patches_per_label)
        with torch.no_grad():
            for pixel_values in images:
                collector.add(self.get_patch_features(pixel_values, label_features))
        kept = collector.kept()
        self.set_visual_classifier(names, label_features, kept)
        return kept.labels.bincount(minlength=len(names))

    def collect_patches(
        self, label_features: Tensor, *, patches_per_label: int = PATCHES_PER_LABEL, kept: KeptPatches | None = None
    ) -> PatchCollector:
        """What [`adapt`] gives the patches of each batch to, where that is to be stopped and to go on.

        Args:
            label_features: from [`get_label_features`], shape (L, D).
            patches_per_label: how many are kept for a label, at most.
            kept: by an earlier collector.
        """
        scale = self._logit_scale(label_features.device)
        return PatchCollector(label_features, scale, patches_per_label=patches_per_label, kept=kept)

    def set_visual_classifier(self, names: Sequence[str], label_features: Tensor, kept: KeptPatches) -> None:
        """Learn what labels look like from patches that were collected; the end of [`adapt`].

        Args:
            names: L distinct label names.
            label_features: shape (L, D).
            kept: what [`collect_patches`] kept of the images.

        Raises:
            ValueError: see [`adapt`].
        """
        self._check_adapted(names, label_features)
        classifier = VisualClassifier(*label_features.shape)
        classifier.set(fit_classifier(kept, label_features))
        self.visual_classifier = classifier.to(self.clip.logit_scale.device)
        self.config.adapted_labels, self.config.calibration = list(names), None

    def is_adapted_to(self, label_features: Tensor) -> Tensor:
        """Which labels were among those of [`adapt`], by their features (L, D): booleans, shape (L,)."""
        if self.visual_classifier is None:
            return torch.zeros(len(label_features), dtype=torch.bool, device=label_features.device)
        return self.visual_classifier.is_adapted(F.normalize(label_features.float(), dim=-1))

    def _check_adapted(self, names: Sequence[str], label_features: Tensor) -> None:
        check_label_features(label_features, self.clip.config.projection_dim)
        check_label_names(names, len(label_features))
        if len(names) < 2:
            raise ValueError(f"A model is adapted to labels that it tells apart: give more than {names[0]!r} alone.")

    def _compared(self, label_embeds: Tensor, scales: Scales) -> Discriminants:
        """What patches are compared with, in units of the similarity. Training knows words alone."""
        if self.visual_classifier is None or self.training:
            return Discriminants(label_embeds, None)
        weights, biases = self.visual_classifier.discriminants(label_embeds)
        scale = patch_scale(self.config, scales)
        return Discriminants(weights / scale, None if biases is None else biases / scale)

    # --- all together -----------------------------------------------------------------------------------------------

    @_features_are_no_target
    @can_return_tuple
    def forward(
        self,
        pixel_values: Tensor,
        input_ids: Tensor | None = None,
        attention_mask: Tensor | None = None,
        label_features: Tensor | None = None,
        labels: Tensor | None = None,
        output_transport_plan: bool = False,
        interpolate_pos_encoding: bool = False,
        output_attentions: bool | None = None,
        output_hidden_states: bool | int | Sequence[int] | None = None,
        output_probabilities: bool | None = None,
        return_dict: bool | None = None,
    ) -> RamOutput:
        """Score every label for every image; with `labels`, also the loss.

        In training mode with `labels`, the plan is constrained toward the frozen teacher's.

        Args:
            pixel_values: shape (B, 3, H, W).
            input_ids: tokenised labels, shape (L, T) or (L, K, T); or pass `label_features`.
            attention_mask: of the same shape; see [`get_label_features`].
            label_features: from [`get_label_features`], shape (L, D).
            labels: 1 where the label is in the image, 0 where not, -1 where unknown, shape (B, L). With an unknown
                entry in the batch the loss is the asymmetric loss (arXiv 2009.14119) over the known ones, else the
                multi-matching contrastive loss.
            output_transport_plan: return the plan (B, P, L) as well.
            interpolate_pos_encoding: accept images of another size than the model's.
            output_attentions: see [`get_image_features`] and [`get_text_features`].
            output_hidden_states: see there.
            output_probabilities: whether to compute probabilities beside the scores; by default where the model is
                calibrated and in evaluation mode. Of a model with adapters the layers from the first ladder layer on
                then run twice, as probabilities are read with the reference labels; [`encode_images`] and
                [`score_stored`] give them alone.
            return_dict: False for a tuple of what is not None.

        Returns:
            [`RamOutput`].

        Raises:
            ValueError: when an input is missing, of the wrong shape or out of range, or probabilities are asked of a
                model that is not calibrated.
        """
        check_pixel_values(pixel_values, self.clip.config.vision_config, any_size=interpolate_pos_encoding)
        if output_probabilities is None:
            output_probabilities = self.is_calibrated and not self.training
        elif output_probabilities and not self.is_calibrated:
            raise ValueError(NOT_CALIBRATED)
        teach = labels is not None and self.training and self._has_teacher
        check_label_source(input_ids, label_features, teach=teach)
        vision_record, text_record = (
            record_of(self.config, tower, output_hidden_states, output_attentions)
            for tower in (self.clip.config.vision_config, self.clip.config.text_config)
        )
        text_output = None
        if label_features is None and text_record.is_wanted:
            text_output = self._encode_labels(input_ids, attention_mask, text_record)
            label_features = text_output.pooler_output
        elif label_features is None:
            label_features = self.get_label_features(input_ids, attention_mask)
        label_features = self._to_model(label_features, pixel_values.device)
        if labels is not None:
            check_labels(labels, (pixel_values.shape[0], label_features.shape[0]))

        # 1. Recover what each patch shows.
        streams, encoded = self._encode_images(pixel_values, label_features, interpolate_pos_encoding, vision_record)
        image_embeds, patch_embeds = (F.normalize(each.float(), dim=-1) for each in encoded[:2])
        label_embeds = F.normalize(label_features.to(image_embeds.device).float(), dim=-1)
        scales = self._scales(image_embeds.device)

        # 2. Match patches to labels.
        teacher_costs = self._teacher_costs(streams, input_ids, labels) if teach else None
        compared = self._compared(label_embeds, scales)
        local_logits, patch_marginal, plan = match_patches(
            patch_embeds,
            compared.weights,
            self.config,
            label_biases=compared.biases,
            logit_scale=scales.logit_scale,
            local_temperature=scales.local_temperature,
            teacher_costs=teacher_costs,
            output_transport_plan=output_transport_plan,
        )

        # 3. Score: from the whole image, and from the patches.
        with torch.autocast(pixel_values.device.type, enabled=False):
            global_logits = image_embeds @ label_embeds.T / scales.global_temperature
            scores, logits = combine_scores(global_logits, local_logits, self.config)
            loss = global_loss = local_loss = None
            if labels is not None:
                global_loss = self.loss_function(global_logits, labels)
                local_loss = self.loss_function(local_logits, labels)
                loss = global_loss + local_loss
        probabilities = None
        if output_probabilities:
            # Without adapters no patch depends on labels, and one encoding serves both.
            of_reference = self._encode_with_reference(streams, pixel_values) if self.ladder else encoded
            probabilities = self.score_stored(self._describe(of_reference), label_features).probabilities
        return RamOutput(
            loss=loss,
            scores=scores,
            logits_per_image=logits,
            global_logits=global_logits,
            local_logits=local_logits,
            image_embeds=image_embeds,
            patch_embeds=patch_embeds,
            label_embeds=label_embeds,
            patch_marginal=patch_marginal,
            transport_plan=plan,
            global_loss=global_loss,
            local_loss=local_loss,
            logits_per_text=logits.mT,
            text_embeds=label_embeds,
            vision_model_output=vision_record.output(encoded.tokens, encoded.image_features),
            text_model_output=text_output,
            probabilities=probabilities,
        )

    @property
    def _has_teacher(self) -> bool:
        return self.config.teacher_weight > 0 and self.config.aggregation == "transport"

    @torch.no_grad()
    def _teacher_costs(self, streams: tuple[Tensor, Tensor], input_ids: Tensor, labels: Tensor) -> Tensor:
        patch_features = self.image_encoder.encode_for_teacher(self.clip, self.ladder, streams)
        label_features = self.label_encoder.encode_for_teacher(self.clip, self.prompts, input_ids)
        patch_embeds = F.normalize(patch_features.float(), dim=-1)
        label_embeds = F.normalize(label_features.to(patch_embeds.device).float(), dim=-1)
        with torch.autocast(patch_embeds.device.type, enabled=False):
            return teacher_cost(
                patch_embeds @ label_embeds.T,
                logit_scale=self._logit_scale(patch_embeds.device),
                sharpness=self.config.teacher_sharpness,
                absent=labels == 0,  # where a label is unknown the teacher's word is all there is
            )

    def _logit_scale(self, device: torch.device) -> Tensor:
        return own_weight(self.clip, "logit_scale").detach().to(device).float().exp()

    def _scales(self, device: torch.device) -> Scales:
        names = ("global_temperature", "local_temperature")
        temperatures = (own_weight(self.temperatures, name).to(device).float() for name in names)
        return Scales(self._logit_scale(device), *temperatures)


def _silence(ladder: nn.ModuleDict) -> None:
    """Let adapters add nothing until they are trained."""
    for layer in ladder.values():
        nn.init.zeros_(layer.adapter.output_conv.weight)


__all__ = ["RamModel", "RamOutput", "RamPreTrainedModel"]

RamModel.register_for_auto_class("AutoModel")
