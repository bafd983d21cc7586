"""Training configuration: one dataclass, whose every field is a YAML key and an option. Standard library."""

import math
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import NoneType, UnionType
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

from ..model.hub_names import split_revision
from ..model.suggestions import did_you_mean

# Of each pair exactly one is set; one that is given on the command line takes the place of its partner in the YAML.
ALTERNATIVES = (("label_column", "label_columns"), ("max_steps", "num_epochs"))
LABEL_LISTS = ("seen_labels", "unseen_labels")
_PATHS = ("model", "dataset", "eval_dataset", "output_dir")
BALANCED = "balanced"  # of `label_weights`
_NEED_EVAL_SPLIT = (
    *("eval_dataset", "eval_steps", "max_eval_images", "metric_for_best", "boxes_column", "early_stopping_patience"),
)
_ABOVE_ZERO = (
    *("max_steps", "num_epochs", "per_device_batch_size", "gradient_accumulation_steps"),
    *("schedule_epochs", "schedule_steps", "max_grad_norm", "image_size", "eval_batch_size"),
    *("eval_steps", "max_eval_images", "early_stopping_patience", "save_steps", "keep_checkpoints", "log_steps"),
)
_AT_LEAST_ZERO = (
    *("adapter_learning_rate", "temperature_learning_rate", "token_learning_rate", "warmup_learning_rate"),
    *("weight_decay", "warmup_epochs", "warmup_steps", "num_workers", "shuffle_buffer", "seed"),
    "early_stopping_threshold",
)


def _about(text: str) -> dict[str, str]:
    return {"help": text}


@dataclass(kw_only=True)
class RamTrainingArguments:
    """Everything a training run is told; each field carries its own help text.

    Learning rates, momenta and schedule default to the published recipe (48 seen labels of COCO). Facts about the
    architecture stay in `RamConfig` and pass through `ram_config`.

    Raises:
        TypeError: when a value is of another type than its field.
        ValueError: when a number is out of its range, or two fields contradict each other.

    Example:
        >>> arguments = RamTrainingArguments(
        ...     model="openai/clip-vit-base-patch16", dataset="prepared/rap", output_dir="runs/rap",
        ...     label_column="labels", seen_labels="prepared/rap/labels.txt", max_steps=1000,
        ... )
    """

    model: str = field(
        metadata=_about("a CLIP or a RAM model: id on the Hub (also owner/name@revision) or local folder")
    )
    dataset: str = field(
        metadata=_about(
            "id on the Hub (also owner/name@revision), folder of shards or images, or a glob of data files; local "
            "paths are relative to the working directory"
        )
    )
    output_dir: str = field(metadata=_about("folder for checkpoints, logs and the trained model"))
    seen_labels: list[str] | str = field(
        default_factory=list,
        metadata=_about(
            "labels to train on: a list, or a text file with one a line (in a YAML, relative to the YAML's folder); "
            "on the command line one value is a file, several are labels"
        ),
    )
    unseen_labels: list[str] | str = field(
        default_factory=list,
        metadata=_about("labels that only evaluation uses, given as `seen_labels`; none by default"),
    )

    model_revision: str | None = field(default=None, metadata=_about("branch, tag or commit of `model` on the Hub"))
    ram_config: dict[str, Any] = field(
        default_factory=dict,
        metadata=_about(
            "fields of RamConfig that differ from its defaults, such as prompt_layers or local_temperature; a JSON "
            "object on the command line"
        ),
    )
    gradient_checkpointing: bool = field(
        default=False, metadata=_about("compute activations again in the backward pass: less memory, more time")
    )

    dataset_name: str | None = field(default=None, metadata=_about("configuration of `dataset` on the Hub"))
    dataset_revision: str | None = field(
        default=None, metadata=_about("branch, tag or commit of `dataset` on the Hub")
    )
    data_files: dict[str, Any] | None = field(
        default=None,
        metadata=_about(
            "file names or globs inside `dataset`, by split; without it `datasets` finds them. A JSON object on the "
            "command line"
        ),
    )
    split: str = field(default="train", metadata=_about("split to train on"))
    streaming: bool = field(
        default=True, metadata=_about("read the data as it is needed, instead of copying it to the local cache first")
    )
    image_column: str = field(default="image", metadata=_about("column with the images"))
    label_column: str | None = field(
        default=None, metadata=_about("column with the labels of an image; dots lead into structs")
    )
    label_columns: list[str] | None = field(
        default=None,
        metadata=_about("in place of `label_column`: columns of 1, 0, or -1 for unknown, each named as its label"),
    )
    label_separator: str | None = field(
        default=None, metadata=_about("what stands between the labels where `label_column` holds them in one string")
    )
    boxes_column: str | None = field(
        default=None, metadata=_about("column with boxes of labels: evaluation plays the pointing game too")
    )
    skip_broken: bool = field(
        default=False,
        metadata=_about(
            "pass over images that cannot be read, in training and in evaluation, with a warning, instead of stopping"
        ),
    )
    shuffle_buffer: int = field(
        default=1000, metadata=_about("images from which a stream draws the next one at random; 0 keeps its order")
    )
    num_workers: int = field(
        default=4, metadata=_about("threads of each process that decode images; 0: none beside the main one")
    )
    image_size: int | None = field(
        default=None,
        metadata=_about("side, in pixels, of the square that images are squashed to; None: the model's"),
    )
    image_mean: list[float] | None = field(
        default=None, metadata=_about("mean of red, green and blue, for pixels in [0, 1]; None: the processor's")
    )
    image_std: list[float] | None = field(
        default=None, metadata=_about("standard deviation of red, green and blue; None: the processor's")
    )
    augment: bool = field(
        default=True, metadata=_about("flip, shift, colour, distort and partly erase the training images at random")
    )

    max_steps: int | None = field(default=None, metadata=_about("optimizer steps to train for"))
    num_epochs: float | None = field(
        default=None, metadata=_about("in place of `max_steps`: passes over the data, which must tell its length")
    )
    per_device_batch_size: int = field(default=32, metadata=_about("images of one forward pass in each process"))
    gradient_accumulation_steps: int = field(
        default=1, metadata=_about("forward passes whose gradients are added up for one optimizer step")
    )
    gather_loss: bool = field(
        default=True,
        metadata=_about(
            "contrast each label with the images of all processes, so that the loss depends on the total batch alone"
        ),
    )
    label_weights: str | None = field(
        default=None,
        metadata=_about(
            "what the positives of each seen label count for in the loss: balanced (a label on n images counts for "
            "m / n, with m the mean over the labels, so that rare ones count as much as frequent ones), or a text "
            "file with a label, a tab and a number above 0 a line (in a YAML, relative to the YAML's folder), where "
            "the others count for 1; None: all alike"
        ),
    )
    mixed_precision: Literal["no", "fp16", "bf16"] | None = field(
        default=None, metadata=_about("precision of the forward pass; None: what `accelerate launch` says")
    )
    adapter_learning_rate: float = field(
        default=5e-6, metadata=_about("AdamW's peak learning rate for the Ladder Local Adapters")
    )
    temperature_learning_rate: float = field(
        default=5e-5, metadata=_about("AdamW's peak learning rate for the two temperatures")
    )
    token_learning_rate: float = field(
        default=1e-3, metadata=_about("peak learning rate of SGD with momentum for ladder tokens and prompts")
    )
    weight_decay: float = field(default=1e-4, metadata=_about("AdamW's weight decay"))
    warmup_learning_rate: float = field(
        default=5e-7, metadata=_about("learning rate at the first step of the warm-up, for every group")
    )
    warmup_epochs: float = field(default=3.0, metadata=_about("length of the linear warm-up; 0 for none"))
    warmup_steps: int | None = field(
        default=None, metadata=_about("takes the place of `warmup_epochs`; needed where the data has no length")
    )
    schedule_epochs: float = field(
        default=60.0,
        metadata=_about("epoch at which the cosine schedule reaches zero; training may end long before, as published"),
    )
    schedule_steps: int | None = field(
        default=None, metadata=_about("takes the place of `schedule_epochs`; needed where the data has no length")
    )
    ema_decay: float = field(
        default=0.9997, metadata=_about("decay, per step, of the moving average of the weights; 0 for no averaging")
    )
    max_grad_norm: float | None = field(
        default=None, metadata=_about("clip the norm of the gradient to this; None: no clipping")
    )
    seed: int = field(default=0, metadata=_about("seed of everything that is random"))

    eval_split: str | None = field(default=None, metadata=_about("split to evaluate on; None: no evaluation"))
    eval_dataset: str | None = field(
        default=None, metadata=_about("where `eval_split` is, if not in `dataset`; columns are named as in `dataset`")
    )
    eval_steps: int | None = field(
        default=None, metadata=_about("evaluate every so many optimizer steps; None: at the end only")
    )
    eval_batch_size: int = field(default=32, metadata=_about("images of one evaluation batch in each process"))
    max_eval_images: int | None = field(
        default=None, metadata=_about("evaluate on the first so many images; None: all")
    )
    metric_for_best: str | None = field(
        default=None,
        metadata=_about("metric whose highest value marks the model to keep as the best, such as zsl/mAP"),
    )
    early_stopping_patience: int | None = field(
        default=None,
        metadata=_about(
            "stop after so many evaluations in a row without a rise of `metric_for_best`; None: go on to the end"
        ),
    )
    early_stopping_threshold: float = field(
        default=0.0, metadata=_about("a smaller rise than this over the best so far counts as none, in [0, 1]")
    )

    save_steps: int = field(default=1000, metadata=_about("write a checkpoint every so many optimizer steps"))
    keep_checkpoints: int = field(default=2, metadata=_about("newest checkpoints to keep, besides the best"))
    resume: bool = field(
        default=True, metadata=_about("go on from the newest checkpoint in `output_dir`, if it has one")
    )
    log_steps: int = field(default=50, metadata=_about("log loss and learning rates every so many optimizer steps"))
    report_to: str = field(
        default="tensorboard", metadata=_about("tracker to log to, as Accelerate names it (wandb, ...), or none")
    )

    def __post_init__(self) -> None:
        for name, hint in field_types().items():
            setattr(self, name, coerced(name, getattr(self, name), hint))
        for name in _PATHS:  # no shell has put the home in the place of `~` in a YAML, nor in `--output_dir=~/run`
            if (value := getattr(self, name)) is not None:
                setattr(self, name, os.path.expanduser(value))
        for name in ("model", "dataset"):
            path, revision = split_revision(getattr(self, name), getattr(self, f"{name}_revision"))
            setattr(self, name, path)
            setattr(self, f"{name}_revision", revision)
        self._check_choices()
        self._check_ranges()
        _check_ram_config(self.ram_config)

    def _check_choices(self) -> None:
        for first, second in ALTERNATIVES:
            given = [name for name in (first, second) if getattr(self, name) is not None]
            if len(given) != 1:
                got = f"got {getattr(self, first)!r} and {getattr(self, second)!r}" if given else "neither is given"
                raise ValueError(f"Exactly one of `{first}` and `{second}` must be given; {got}.")
        if not self.seen_labels:
            raise ValueError("`seen_labels` is missing: give the labels to train on, as a list or as a text file.")
        if self.label_separator is not None and self.label_columns is not None:
            raise ValueError("`label_separator` is for `label_column`: it has no effect with `label_columns`.")
        if self.label_columns == []:
            raise ValueError("`label_columns` is empty: name the columns of 1, 0 and -1.")
        self._check_early_stopping()
        if self.eval_split is None and (useless := [name for name in _NEED_EVAL_SPLIT if getattr(self, name)]):
            raise ValueError(f"`{useless[0]}` has no effect without `eval_split`: say which split to evaluate on.")

    def _check_early_stopping(self) -> None:
        if self.early_stopping_threshold and self.early_stopping_patience is None:
            raise ValueError("`early_stopping_threshold` has no effect without `early_stopping_patience`.")
        if self.early_stopping_patience is not None and self.eval_split is not None and self.eval_steps is None:
            raise ValueError(
                "`early_stopping_patience` has no effect without `eval_steps`: say how often to evaluate."
            )

    def _check_ranges(self) -> None:
        for name in (*_ABOVE_ZERO, *_AT_LEAST_ZERO):
            if getattr(self, name) == math.inf:
                raise ValueError(f"`{name}` must be finite, got {getattr(self, name)}.")
        for name in _ABOVE_ZERO:
            value = getattr(self, name)
            if value is not None and not value > 0:
                raise ValueError(f"`{name}` must be above 0, got {value}.")
        for name in _AT_LEAST_ZERO:
            value = getattr(self, name)
            if value is not None and not value >= 0:
                raise ValueError(f"`{name}` must be at least 0, got {value}.")
        if not 0 <= self.ema_decay < 1:
            raise ValueError(f"`ema_decay` must be at least 0 and below 1, got {self.ema_decay}.")
        for name in ("image_mean", "image_std"):
            value = getattr(self, name)
            if value is not None and len(value) != 3:
                raise ValueError(f"`{name}` must hold three numbers, for red, green and blue; got {value}.")
        if self.image_std is not None and min(self.image_std) <= 0:
            raise ValueError(f"`image_std` must be above 0, got {self.image_std}.")
        self._check_schedule()

    def _check_schedule(self) -> None:
        """Past its end the cosine would rise again; across units (steps and epochs) only the loop can tell."""
        if self.schedule_steps is not None:
            end, inner = "schedule_steps", ["warmup_steps", "max_steps"]
        else:
            end, inner = "schedule_epochs", ["warmup_epochs", "num_epochs"]
            if self.warmup_steps is not None:
                inner.remove("warmup_epochs")
        for name in inner:
            value = getattr(self, name)
            if value is not None and value > getattr(self, end):
                raise ValueError(f"`{end}` must be at least `{name}`, got {getattr(self, end)} and {value}.")


def field_types() -> dict[str, Any]:
    """Type of each field of [`RamTrainingArguments`], by its name."""
    return get_type_hints(RamTrainingArguments)


def _check_ram_config(ram_config: Mapping[str, Any]) -> None:
    if not ram_config:
        return
    from ..model.configuration_ram import RamConfig

    # A transformers config keeps a misspelt key in silence, so the names are checked here.
    known = [name for name in RamConfig.__annotations__ if not name.startswith(("clip_", "base_model_"))]
    for name in ram_config:
        if name not in known:
            raise ValueError(f"`ram_config` has the unknown field `{name}`. {did_you_mean(name, known)}")


def coerced(name: str, value: Any, hint: Any) -> Any:
    """Return a value as the type that a hint asks for, where nothing is lost.

    Args:
        name: what it is the value of, for the message.
        value: as it came.
        hint: one of [`field_types`], or a part of one.

    Raises:
        TypeError: when it is of another type.
    """
    origin, args = get_origin(hint), get_args(hint)
    if origin in (Union, UnionType):
        if value is None and NoneType in args:
            return None
        for arg in args:
            try:
                return coerced(name, value, arg)
            except TypeError:
                continue
    elif origin is Literal:
        if value is False and "no" in args:
            return "no"  # an unquoted `no` in YAML
        if value in args:
            return value
    elif origin is list and isinstance(value, list | tuple):
        return [coerced(f"{name}[{index}]", entry, args[0]) for index, entry in enumerate(value)]
    elif origin is dict and isinstance(value, Mapping) and all(isinstance(key, str) for key in value):
        return dict(value)
    elif hint is str and isinstance(value, os.PathLike):
        return os.fspath(value)
    elif hint is float and type(value) in (int, float):
        return float(value)
    elif hint in (bool, int, str) and type(value) is hint:  # a bool is no number
        return value
    raise TypeError(f"`{name}` must be {_described(hint)}, got {value!r} ({type(value).__name__}).")


def _described(hint: Any) -> str:
    names = {str: "a string", int: "a whole number", float: "a number", bool: "true or false", NoneType: "null"}
    origin, args = get_origin(hint), get_args(hint)
    if origin in (Union, UnionType):
        return " or ".join(_described(arg) for arg in args)
    if origin is Literal:
        return "one of " + ", ".join(repr(arg) for arg in args)
    if origin is list:
        return f"a list (each entry {_described(args[0])})"
    return "a mapping" if origin is dict else names[hint]


__all__ = ["ALTERNATIVES", "BALANCED", "LABEL_LISTS", "RamTrainingArguments", "coerced", "field_types"]
