"""Configuration of Recover and Match: the facts that the forward pass needs."""

import os
from collections.abc import Iterable, Mapping
from typing import Any

from huggingface_hub.dataclasses import strict
from transformers import CLIPConfig, CLIPTextConfig, CLIPVisionConfig, PreTrainedConfig
from transformers.activations import ACT2FN

from .bundled import find_bundled
from .calibration import Calibration
from .suggestions import did_you_mean

# Whether this file is a checkpoint's own copy, in a program that does not have the package.
_IS_SHIPPED = __name__.startswith("transformers_modules.")
_DEFAULT_NUM_LAYERS = 3  # the paper adapts the last three layers of each tower

# Lowest and highest value of each number, far from what anyone needs. Inside, float32 holds what the forward pass
# makes of it, and a stranger's file asks neither for all memory nor for all time. NaN lies in no range.
_LIMITS = {
    "ladder_tokens": (0, 4096),
    "aggregation_kernel_size": (1, 99),
    "epsilon": (1e-4, 1e9),
    "sinkhorn_tolerance": (0, 1),
    "sinkhorn_max_iterations": (1, 100_000),
    "patch_marginal_temperature": (1e-4, 1e9),
    "teacher_weight": (0, 1e6),
    "teacher_sharpness": (1e-6, 1e6),
    "local_temperature": (1e-6, 1e6),
    "global_weight": (0, 1),
}
_CHOICES = {
    "local_attention": ("value", "key"),
    "aggregation": ("transport", "max", "mean", "logsumexp"),
    "score_combination": ("mean", "product"),
}
_TOWER_LIMITS = {
    "hidden_size": (1, 2**16),
    "intermediate_size": (1, 2**18),
    "num_hidden_layers": (1, 1024),
    "num_attention_heads": (1, 2**10),
    "layer_norm_eps": (0, 1),
    "attention_dropout": (0, 1),
    "initializer_range": (0, 1e3),
    "initializer_factor": (0, 1e3),
}
_VISION_LIMITS = {**_TOWER_LIMITS, "num_channels": (1, 64), "image_size": (1, 2**14), "patch_size": (1, 2**14)}
_TEXT_LIMITS = {
    **_TOWER_LIMITS,
    "vocab_size": (2, 2**24),
    "max_position_embeddings": (2, 2**16),
    "eos_token_id": (0, 2**24),
}


@strict
class RamConfig(PreTrainedConfig):
    r"""Configuration of a [`RamModel`] (Recover and Match, arXiv 2503.15337).

    Args:
        clip_config (`CLIPConfig` or `dict`, *optional*):
            Shape of the wrapped CLIP; CLIP's own defaults (ViT-B/32) when left out.
        ladder_layers (`list[int]`, *optional*):
            Zero-based vision layers that carry ladder tokens and a Ladder Local Adapter; the last three by default,
            none in a model that `RamModel.from_clip` makes for use without training.
        prompt_layers (`list[int]`, *optional*):
            Zero-based text layers that see learned prompts; the last three by default.
        ladder_tokens (`int`, defaults to 8):
            Learned tokens appended in each ladder layer; 0 for none.
        prompt_tokens (`int`, defaults to 4):
            Learned prompts inserted after the beginning-of-text token in each prompt layer; 0 for none.
        aggregation_kernel_size (`int`, defaults to 3):
            Side, in patches, of the convolution that gates the two streams of the adapter; odd.
        epsilon (`float`, defaults to 0.1):
            Entropic regularisation of the transport problem, in the unit of the cost (dimensionless), above 0.
        sinkhorn_tolerance (`float`, defaults to 1e-3):
            Each image stops when the mean absolute change of its row scaling falls below this; 0 runs exactly
            `sinkhorn_max_iterations`, as exported graphs do.
        sinkhorn_max_iterations (`int`, defaults to 100):
            Upper limit of the number of Sinkhorn iterations.
        patch_marginal_temperature (`float`, defaults to 0.1):
            Temperature, in units of cosine similarity, of the softmax that says how much of a label each patch holds.
        teacher_weight (`float`, defaults to 0.05):
            Weight of the constraint toward the frozen teacher's plan, in training only; 0 leaves the teacher out.
        teacher_sharpness (`float`, defaults to 20):
            Factor on the teacher's label probabilities before they become a distribution over patches.
        local_temperature (`float`, defaults to 2e-3):
            Initial value of the local temperature tau_l; the published recipe takes 2e-4 for about 1000 labels.
        normalize_plan (`bool`, defaults to `True`):
            Divide each label's column of the plan by its mass, so that the local logits do not shrink with the number
            of labels. Converted checkpoints of the published code have it off.
        local_attention (`str`, defaults to `"value"`):
            What the local stream compares patches by: CLIP's values, as the paper does, or its keys (`"key"`).
        repair_outliers (`bool`, defaults to `False`):
            Replace the patches that stand out most by the mean of those around them; see [`repair_outliers`].
        aggregate_similar (`bool`, defaults to `False`):
            Let patches that look alike share what they know; see [`aggregate_similar`].
        aggregation (`str`, defaults to `"transport"`):
            How patches speak for a label: `"transport"` by the paper's plan; `"max"` and `"mean"` by the largest and
            the mean of the patches' probabilities; `"logsumexp"` by their logits, between the largest and the mean.
            See [`match_patches`].
        score_combination (`str`, defaults to `"mean"`):
            How the two halves of the score, softmaxes over the labels, are put together: `"mean"`, as the paper does,
            or `"product"`, which asks both. See [`combine_scores`].
        global_weight (`float`, defaults to 0.5):
            Share of the whole image in the score, in [0, 1]; the rest is the patches'.
        base_model_name_or_path (`str`, *optional*):
            The CLIP that this model was made from.
        base_model_revision (`str`, *optional*):
            Its revision on the Hub.
        base_model_fingerprint (`str`, *optional*):
            Of its weights, in a checkpoint of the adapters alone, which is joined with it when it is loaded.
        reference_labels (`list[str]`, *optional*):
            Names of the labels that images are read with when labels are judged each by itself; their features are a
            tensor of the model. See `RamModel.set_reference_labels`.
        adapted_labels (`list[str]`, *optional*):
            Names of the labels whose looks were learned from unlabelled images; what was learned is tensors of the
            model. See `RamModel.adapt`.
        calibration (`dict`, *optional*):
            The fields of a [`Calibration`], which `ram-hf calibrate` fits; without one there are no probabilities.

    Raises:
        StrictDataclassClassValidationError: (of huggingface_hub) when a layer index lies outside its tower, or a
            number outside its range. From a file or a dictionary it is a ValueError.
        ValueError: when `clip_config` is none of a CLIP.

    Example:
        >>> from ram_hf import RamConfig, RamModel
        >>> model = RamModel(RamConfig(ladder_layers=[9, 10, 11]))  # random weights in the shape of ViT-B/32
    """

    model_type = "recover_and_match"
    sub_configs = {"clip_config": CLIPConfig}  # noqa: RUF012  (transformers' own form)
    # What `Trainer.predict` would gather for every image, or cannot, as it has no row an image.
    keys_to_ignore_at_inference = [  # noqa: RUF012
        *("global_logits", "local_logits", "image_embeds", "patch_embeds", "label_embeds"),
        *("patch_marginal", "transport_plan", "global_loss", "local_loss"),
        *("logits_per_text", "text_embeds", "vision_model_output", "text_model_output"),
    ]

    clip_config: dict | CLIPConfig | None = None
    ladder_layers: list[int] | None = None
    prompt_layers: list[int] | None = None
    ladder_tokens: int = 8
    prompt_tokens: int = 4
    aggregation_kernel_size: int = 3
    epsilon: float | int = 0.1
    sinkhorn_tolerance: float | int = 1e-3
    sinkhorn_max_iterations: int = 100
    patch_marginal_temperature: float | int = 0.1
    teacher_weight: float | int = 0.05
    teacher_sharpness: float | int = 20.0
    local_temperature: float | int = 2e-3
    normalize_plan: bool = True
    local_attention: str = "value"
    repair_outliers: bool = False
    aggregate_similar: bool = False
    aggregation: str = "transport"
    score_combination: str = "mean"
    global_weight: float | int = 0.5
    base_model_name_or_path: str | None = None
    base_model_revision: str | None = None
    base_model_fingerprint: str | None = None
    reference_labels: list[str] | None = None
    adapted_labels: list[str] | None = None
    calibration: dict | None = None

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        cls._auto_class = None  # only a class that is registered itself is saved with its code

    def __post_init__(self, **kwargs: Any) -> None:
        if self.clip_config is None:
            self.clip_config = CLIPConfig()
        elif isinstance(self.clip_config, dict):
            self.clip_config = _clip_config(self.clip_config)
        if self.ladder_layers is None:
            self.ladder_layers = last_layers(self.clip_config.vision_config.num_hidden_layers)
        if self.prompt_layers is None:
            self.prompt_layers = last_layers(self.clip_config.text_config.num_hidden_layers)
        self.ladder_layers = sorted(self.ladder_layers)
        self.prompt_layers = sorted(self.prompt_layers)
        if not _IS_SHIPPED:
            # Names the pipeline's code in the folder. `pipeline()` would ask to trust it and run it, where the same
            # pipeline is installed.
            kwargs.pop("custom_pipelines", None)
        super().__post_init__(**kwargs)

    @property
    def vision_config(self) -> CLIPVisionConfig:
        """Shape of CLIP's vision tower, where code written for CLIP looks for it."""
        return self.clip_config.vision_config

    @property
    def text_config(self) -> CLIPTextConfig:
        """Shape of CLIP's text tower."""
        return self.clip_config.text_config

    def patch_grid(self, height: int | None = None, width: int | None = None) -> tuple[int, int]:
        """Rows and columns of patches of an image that size, in pixels; of the model's own where left out."""
        vision = self.clip_config.vision_config
        height = vision.image_size if height is None else height
        width = vision.image_size if width is None else width
        return height // vision.patch_size, width // vision.patch_size

    @classmethod
    def get_config_dict(
        cls, pretrained_model_name_or_path: str | os.PathLike[str], **kwargs: Any
    ) -> tuple[dict[str, Any], dict[str, Any]]:
        """Read a configuration from the Hub, a folder, or the package ("ram-photo")."""
        return super().get_config_dict(find_bundled(pretrained_model_name_or_path), **kwargs)

    @classmethod
    def from_dict(cls, config_dict: dict[str, Any], **kwargs: Any) -> "RamConfig":
        """Build from a dictionary; refuses that of another model, which would be kept silently.

        Raises:
            ValueError: which names the field that is wrong.
        """
        model_type = config_dict.get("model_type", cls.model_type)
        if model_type != cls.model_type:
            raise ValueError(
                f"This is the configuration of a {model_type!r} model by its `model_type`, not of {cls.model_type!r}. "
                "A CLIP checkpoint is wrapped by `RamModel.from_clip`."
            )
        try:
            return super().from_dict(config_dict, **kwargs)
        except Exception as error:  # a field of transformers' own can raise anything
            raise ValueError(f"The configuration is wrong: {_guilty_field(config_dict)}{_in_a_line(error)}") from error

    def to_diff_dict(self) -> dict[str, Any]:
        """What is saved: without paths of this machine, and with each Auto class that the model is loaded by."""
        content = super().to_diff_dict()
        for part, name in ((content, "base_model_name_or_path"), (content.get("clip_config", {}), "_name_or_path")):
            if _is_local(part.get(name)):
                del part[name]
        auto_map = content.get("auto_map", {})
        if "AutoModel" in auto_map:
            content["auto_map"] = {"AutoModelForZeroShotImageClassification": auto_map["AutoModel"], **auto_map}
        return content

    def validate_architecture(self) -> None:
        """Check the rules between fields; part of the `@strict` validation."""
        vision, text = self.clip_config.vision_config, self.clip_config.text_config
        for name in ("image_size", "patch_size"):
            if not isinstance(getattr(vision, name), int):
                raise ValueError(
                    f"`clip_config.vision_config.{name}` must be one int (CLIP's vision tower takes squares), "
                    f"got {getattr(vision, name)!r}."
                )
        _check_within(
            self.clip_config, {"projection_dim": (1, 2**16), "logit_scale_init_value": (-20, 20)}, "clip_config."
        )
        _check_tower(vision, _VISION_LIMITS, "clip_config.vision_config.")
        _check_tower(text, _TEXT_LIMITS, "clip_config.text_config.")
        if vision.patch_size > vision.image_size:
            raise ValueError(
                f"`clip_config.vision_config.patch_size` is {vision.patch_size}, more than the `image_size` of "
                f"{vision.image_size}."
            )
        _check_layers("ladder_layers", self.ladder_layers, vision.num_hidden_layers, "vision")
        _check_layers("prompt_layers", self.prompt_layers, text.num_hidden_layers, "text")
        # Two positions are CLIP's begin and end of text: a prompt may not push them out of the context.
        _check_within(self, {**_LIMITS, "prompt_tokens": (0, text.max_position_embeddings - 2)})
        for name, choices in _CHOICES.items():
            if getattr(self, name) not in choices:
                raise ValueError(f"`{name}` must be one of {', '.join(choices)}, got {getattr(self, name)!r}.")
        if self.calibration is not None:
            Calibration.from_dict(self.calibration)  # tells what is wrong with it
            if not self.reference_labels:
                raise ValueError("`calibration` belongs to `reference_labels`, and there are none.")
        if self.aggregation_kernel_size % 2 == 0:
            raise ValueError(
                f"`aggregation_kernel_size` must be odd, so that the gate keeps the size of the patch map, "
                f"got {self.aggregation_kernel_size}."
            )


def check_field_names(names: Iterable[str]) -> None:
    """Refuse a name that is no field of [`RamConfig`], which would be kept silently."""
    for name in names:
        if name not in RamConfig.__dataclass_fields__:
            known = RamConfig.__annotations__
            raise ValueError(f"`config` holds {name!r}, which is no field of RamConfig. {did_you_mean(name, known)}")


def _clip_config(fields: dict[str, Any]) -> CLIPConfig:
    try:
        return CLIPConfig(**fields)
    except Exception as error:  # its towers are made of whatever stands in them
        raise ValueError(f"`clip_config` is no configuration of a CLIP: {_in_a_line(error)}") from error


def _in_a_line(error: Exception) -> str:
    return " ".join(str(error).split()) or type(error).__name__


def _guilty_field(fields: dict[str, Any]) -> str:
    """The first field that cannot be had even alone, for the beginning of an error; the rest name themselves."""
    for name, value in fields.items():
        try:
            super(RamConfig, RamConfig).from_dict({name: value})
        except Exception as error:
            return "" if name in str(error) else f"`{name}`: "
    return ""


def _check_within(config: PreTrainedConfig, limits: Mapping[str, tuple[float, float]], prefix: str = "") -> None:
    for name, (low, high) in limits.items():
        value = getattr(config, name)
        if not isinstance(value, int | float) or not low <= value <= high:  # also of NaN
            raise ValueError(f"`{prefix}{name}` must be between {low:g} and {high:g}, got {value!r}.")


def _check_tower(
    tower: CLIPVisionConfig | CLIPTextConfig, limits: Mapping[str, tuple[float, float]], prefix: str
) -> None:
    _check_within(tower, limits, prefix)
    if tower.hidden_size % tower.num_attention_heads:
        raise ValueError(
            f"`{prefix}hidden_size` must be a multiple of `num_attention_heads`, got {tower.hidden_size} and "
            f"{tower.num_attention_heads}."
        )
    if tower.hidden_act not in ACT2FN:
        raise ValueError(
            f"`{prefix}hidden_act` is unknown: {tower.hidden_act!r}. {did_you_mean(tower.hidden_act, ACT2FN)}"
        )


def _is_local(name: str | None) -> bool:
    return bool(name) and (os.path.isabs(str(name)) or os.path.exists(str(name)) or str(name).startswith((".", "~")))


def last_layers(num_layers: int) -> list[int]:
    """The layers of a tower that a model adapts unless it is told others."""
    return list(range(num_layers)[-_DEFAULT_NUM_LAYERS:])  # not written out first: it may be huge


def _check_layers(name: str, layers: list[int] | None, num_layers: int, tower: str) -> None:
    layers = layers or []
    if len(set(layers)) != len(layers) or any(not 0 <= layer < num_layers for layer in layers):
        raise ValueError(
            f"`{name}` must hold distinct zero-based layer indices from 0 to {num_layers - 1} "
            f"(the {tower} tower has {num_layers} layers), got {layers}."
        )


__all__ = ["RamConfig", "check_field_names", "last_layers"]

# `save_pretrained` copies this folder and names its classes in `auto_map`: checkpoints load without this package.
RamConfig.register_for_auto_class()
