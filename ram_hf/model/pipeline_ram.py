"""Zero-shot multi-label tagging as a transformers pipeline."""

import os
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import torch
from PIL import Image
from torch import Tensor
from torch.utils.data import Dataset, IterableDataset
from transformers import AutoModel, CLIPModel, Pipeline, PreTrainedModel
from transformers.dynamic_module_utils import custom_object_save
from transformers.utils import logging

from .calibration import shift_odds
from .checkpoint_kind import kind_of
from .configuration_ram import RamConfig
from .handler import TASK  # of all files there: what is imported here travels with the pipeline
from .images import is_one_image, read_image
from .loaded_weights import load_and_remember, refuse_incomplete
from .modeling_ram import RamModel, RamOutput
from .processing_ram import RamProcessor
from .processor_fit import refuse_misfit
from .prompt_templates import read_templates
from .pushing import PushesCard
from .refine import REFINES_NO_PROBABILITY, refine_scores
from .regions import label_region
from .suggestions import did_you_mean

# Which step of the pipeline reads which argument of a call.
_PREPROCESS_ARGUMENTS = ("on_error",)
_FORWARD_ARGUMENTS = ("candidate_labels", "prompt_template", "return_regions", "score", "refine")
_POSTPROCESS_ARGUMENTS = ("candidate_labels", "top_k", "threshold", "expected_labels_per_image")
_ARGUMENTS = sorted(
    {*_PREPROCESS_ARGUMENTS, *_FORWARD_ARGUMENTS, *_POSTPROCESS_ARGUMENTS, "batch_size", "num_workers"}
)
_ON_ERROR = ("raise", "skip")
_SCORES = ("probability", "paper")

logger = logging.get_logger(__name__)


class RamTaggingPipeline(PushesCard, Pipeline):
    """Tags images with any list of labels, and tells where each label is.

    Every argument of a call but the images may be given here already; a call overrides it.

    Args:
        model: a [`RamModel`], or a `CLIPModel`, which is wrapped as a training-free one. It is put into evaluation
            mode.
        processor: its [`RamProcessor`]; of a `CLIPProcessor` the parts are taken, to squash instead of crop. When left
            out, it is looked for where the model came from.
        tokenizer: refused, as the two below: they come with the processor.
        image_processor: refused.
        feature_extractor: refused.
        **kwargs: arguments of a call, and those of `transformers.Pipeline`: `device`, `batch_size`, `num_workers`.

    Raises:
        TypeError: when the model is neither RAM nor CLIP, or an argument is unknown.
        ValueError: when there is no processor or it is of another model, the model's checkpoint lacked some of its
            weights, or something is wrong with the labels.

    Example:
        >>> import ram_hf
        >>> from transformers import pipeline
        >>> tagger = pipeline("zero-shot-multi-label-tagging", model="openai/clip-vit-base-patch16")
        >>> tagger("street.jpg", candidate_labels=["dog", "red car", "tree"], top_k=2)
        [{'label': 'red car', 'score': 0.71}, {'label': 'tree', 'score': 0.2}]
    """

    _load_processor = None  # looked for, also when the model is an object: see `_as_ram_processor`
    _load_tokenizer = False
    _load_image_processor = False
    _load_feature_extractor = False
    _load_video_processor = False

    def __init__(
        self,
        model: PreTrainedModel,
        processor: Any = None,
        *,
        tokenizer: Any = None,
        image_processor: Any = None,
        feature_extractor: Any = None,
        **kwargs: Any,
    ) -> None:
        if any(part is not None for part in (tokenizer, image_processor, feature_extractor)):
            raise TypeError(
                "This pipeline takes image processor and tokenizer as one: pass "
                "`processor=RamProcessor(image_processor, tokenizer)`."
            )
        kwargs.pop("local_files_only", None)  # an option of loading that `pipeline()` hands on all the same
        model = _as_ram_model(model)
        processor = _as_ram_processor(processor, model.config)
        refuse_misfit(processor, model.clip.config)
        super().__init__(model, processor=processor, **kwargs)
        self.model.eval()
        self._label_inputs: tuple[tuple, dict[str, Tensor]] | None = None
        if "candidate_labels" in self._forward_params:
            self._tokenize(**self._forward_params)  # what is wrong with the labels is told here already

    def __call__(
        self,
        images: Any,
        candidate_labels: str | Iterable[str] | None = None,
        *,
        batch_size: int | None = None,
        num_workers: int | None = None,
        **kwargs: Any,
    ) -> Any:
        """Tag images.

        Labels are encoded once: the same labels with the same template cost nothing in the next call, until the
        model's weights change.

        Args:
            images: one image, as [`read_image`] takes it (PIL image, path, URL, bytes, array or tensor), or
                several: a list, a batch as one array, a generator, a column of a dataset, a `KeyDataset`.
            candidate_labels: label names, as a list or in one string with commas between them. Duplicates are
                allowed.
            batch_size: images that go through the model at once; 1 when left out.
            num_workers: processes that read images ahead, for several images only; 0 when left out.
            **kwargs: any of

                - top_k (`int`): at most this many labels for each image; all when None.
                - score (`str`): "probability", each label's own, whatever else is asked for, which a calibrated model
                  has and is the default there; or "paper", which ranks the given labels: it sums to 1 over them, so
                  that a threshold belongs to its list of labels.
                - threshold (`float` or `str`): only labels that score at least this. Of probabilities it may be the
                  name of a threshold that was found when the model was calibrated, "best-f1" or "precision=0.9", and
                  is the best for F1 when left out, so that an image may have no label at all; 0 gives all of them.
                - expected_labels_per_image (`float`): how many of the given labels an image has on average, where
                  that differs from the images of the calibration: moves all probabilities up or down.
                - prompt_template (`str` or list of them): sentence that a label name is put into, with `{label}` or
                  `{}` in its place; the name of a set of sentences ("openai-7", "openai-80"); or a list of these, of
                  whose features the mean counts; the processor's own when None.
                - refine (`int`): judge that many of an image's best labels again, each in a crop around its patches,
                  for up to as many more images to compute; with the paper's score alone. See [`look_again`].
                - return_regions (`bool`): tell also where each label is, see Returns.
                - on_error (`str`): "raise" ends the call at the first image that cannot be read; "skip" goes on, and
                  the result of that image is `{"error": str}`, why. (What an iterator raises itself ends the call
                  all the same: nobody knows what else it would have given.)

        Returns:
            For one image a list of `{"label": str, "score": float}`, best first; for a list or an array a list of
            such lists; else an iterator over them, which reads images when they are asked for. With `on_error="skip"`
            an image that cannot be read has `{"error": str}` in the place of its list.

            With `return_regions` each label has also a `heat_map`, float32 of shape (rows, columns) over the whole
            image with 1 as its largest entry, a `peak` `{"x", "y"}` and a `box` `{"xmin", "ymin", "xmax", "ymax"}`,
            in pixels of the upright image; see [`label_region`].

        Raises:
            TypeError: when an argument is unknown, a label is not a string, or an image is of an unknown kind.
            ValueError: when there are no labels, one is empty or too long, a template has no place for a label,
                `on_error` is neither "raise" nor "skip", `refine` is below 1 or asked of probabilities, or an image
                cannot be read.
            OSError: when there is no such file or address.
        """
        if candidate_labels is not None:
            kwargs["candidate_labels"] = _as_label_names(candidate_labels)
        preprocess_params, forward_params, postprocess_params = self._sanitize_parameters(**kwargs)
        self._check_call({**self._forward_params, **forward_params, **self._postprocess_params, **postprocess_params})
        on_error = {**self._preprocess_params, **preprocess_params}.get("on_error")
        inputs = _as_pipeline_inputs(images, skips=on_error == "skip")
        if isinstance(inputs, list) and not inputs:
            return []
        return super().__call__(inputs, batch_size=batch_size, num_workers=num_workers, **kwargs)

    def save_pretrained(self, save_directory: str | os.PathLike, **kwargs: Any) -> None:
        """Save model, processor and code, so that `pipeline` loads the folder with and without this package.

        Args:
            save_directory: the folder to write; made when it is not there.
            **kwargs: passed to the model's `save_pretrained`, for example `max_shard_size`.

        Raises:
            ValueError: when asked to push to the Hub, which is what [`push_to_hub`] does.
        """
        if kwargs.pop("push_to_hub", False):
            raise ValueError("Use `push_to_hub(repo_id)` of the pipeline: it pushes model, processor and code as one.")
        os.makedirs(save_directory, exist_ok=True)
        # A subclass of another package is saved as what it is made of: its own code need not travel.
        module = RamTaggingPipeline.__module__.rpartition(".")[-1]
        # Tells a program that does not have this package which file and class the task is. It is for the folder
        # only: what is saved of the model alone has no pipeline's code beside it.
        config = self.model.config
        config.custom_pipelines = {TASK: {"impl": f"{module}.{RamTaggingPipeline.__name__}", "pt": ["AutoModel"]}}
        try:
            custom_object_save(RamTaggingPipeline, save_directory)
            self.model.save_pretrained(save_directory, **kwargs)
        finally:
            del config.custom_pipelines
        self.processor.save_pretrained(save_directory)

    def _card_facts(self) -> tuple[RamConfig, str]:
        return self.model.config, self.model.config._name_or_path

    # --- the steps that transformers calls --------------------------------------------------------------------------

    def _sanitize_parameters(self, **kwargs: Any) -> tuple[dict[str, Any], dict[str, Any], dict[str, Any]]:
        for name in kwargs:
            if name not in _ARGUMENTS:
                raise TypeError(f"The tagging pipeline takes no argument {name!r}. {did_you_mean(name, _ARGUMENTS)}")
        labels = kwargs.pop("candidate_labels", None)
        if labels is not None:
            kwargs["candidate_labels"] = _as_label_names(labels)
        if kwargs.get("score") not in (None, *_SCORES):
            raise ValueError(f'`score` must be "probability" or "paper", got {kwargs["score"]!r}.')
        if kwargs.get("on_error", "raise") not in _ON_ERROR:
            raise ValueError(f'`on_error` must be "raise" or "skip", got {kwargs["on_error"]!r}.')
        refine = kwargs.get("refine")
        if refine is not None and (isinstance(refine, bool) or not isinstance(refine, int) or refine < 1):
            raise ValueError(f"`refine` must be how many labels to judge again, at least 1, or None; got {refine!r}.")
        preprocess_params = {name: value for name, value in kwargs.items() if name in _PREPROCESS_ARGUMENTS}
        forward_params = {name: value for name, value in kwargs.items() if name in _FORWARD_ARGUMENTS}
        postprocess_params = {name: value for name, value in kwargs.items() if name in _POSTPROCESS_ARGUMENTS}
        return preprocess_params, forward_params, postprocess_params

    def preprocess(self, image: Any, on_error: str = "raise") -> dict[str, Any]:
        """Read an image.

        Returns:
            `pixel_values` (1, 3, H, W); `size` (1, 2), width and height in pixels; and `error`, None or why it could
            not be read: then the pixels are white, as a batch has a place for each image.
        """
        if isinstance(image, Mapping):
            raise TypeError(
                f"An image was expected, and a row of a dataset came, with {', '.join(map(str, image))}. Pass a "
                'column of it: `dataset["image"]`, or `KeyDataset(dataset, "image")` of `transformers.pipelines`.'
            )
        error = None
        try:
            decoded = read_image(_given(image))
        except Exception as raised:  # decoders of damaged files raise nearly anything
            if on_error == "raise":
                raise
            error = " ".join(str(raised).split()) or type(raised).__name__
            decoded = Image.new("RGB", (2, 2), "white")
        pixel_values = self.processor(images=[decoded])["pixel_values"]
        return {"pixel_values": pixel_values, "size": torch.tensor([decoded.size]), "error": error}

    def _forward(
        self,
        model_inputs: dict[str, Any],
        candidate_labels: tuple[str, ...],
        prompt_template: str | Sequence[str] | None = None,
        return_regions: bool = False,
        score: str | None = None,
        refine: int | None = None,
    ) -> dict[str, Any]:
        label_features = self.model.get_label_features(**self._tokenize(candidate_labels, prompt_template))
        pixel_values = model_inputs["pixel_values"]
        # What is needed further on leaves the device.
        if self._gives_probabilities(score):
            features = self.model.encode_images(pixel_values)
            output = self.model.score_stored(features, label_features, output_transport_plan=return_regions)
            result = {"probabilities": output.probabilities}
        else:
            output = self.model(
                pixel_values,
                label_features=label_features,
                output_transport_plan=return_regions or refine is not None,
                output_probabilities=False,
            )
            scores = output.scores
            if refine is not None:
                scores = refine_scores(self.model, pixel_values, label_features, output, num_labels=refine)
            result = {"scores": scores}
        result.update({name: model_inputs[name] for name in ("size", "error")})
        if return_regions:
            result["transport_plan"] = output.transport_plan
        return result

    def postprocess(
        self,
        model_outputs: dict[str, Any],
        candidate_labels: tuple[str, ...],
        top_k: int | None = None,
        threshold: float | str | None = None,
        expected_labels_per_image: float | None = None,
    ) -> list[dict[str, Any]] | dict[str, str]:
        """Turn the scores (1, L) of one image into its labels, best first; of one that could not be read, tell why."""
        if model_outputs["error"] is not None:
            return {"error": model_outputs["error"]}
        lowest: Any = threshold
        probabilities = model_outputs.get("probabilities")
        if probabilities is not None:
            calibration = self.model.calibration
            lowest = calibration.thresholds_of(candidate_labels, threshold)
            if expected_labels_per_image is not None:
                shift = calibration.prior_shift(expected_labels_per_image, len(candidate_labels))
                probabilities = shift_odds(probabilities, shift)
        outputs = RamOutput(scores=model_outputs.get("scores"), probabilities=probabilities)
        (tags,) = self.processor.post_process_tagging(outputs, candidate_labels, top_k=top_k, threshold=lowest)
        if "transport_plan" in model_outputs:
            plan = model_outputs["transport_plan"][0].numpy()  # (P, L)
            columns = {label: index for index, label in enumerate(candidate_labels)}  # duplicates have equal columns
            width, height = model_outputs["size"][0].tolist()
            grid = self.model.config.patch_grid()
            for tag in tags:
                column = plan[:, columns[tag["label"]]]
                tag.update(label_region(column, grid=grid, size=(width, height)))
        return tags

    def _check_call(self, params: dict[str, Any]) -> None:
        """Tell what is wrong with a call before the first image is read."""
        if "candidate_labels" not in params:
            raise ValueError(
                '`candidate_labels` is missing: pass the label names, for example `candidate_labels=["dog", "car"]`.'
            )
        self._tokenize(**params)
        self._check_score(**params)
        if params.get("return_regions") and not self.processor.squash:
            raise ValueError(
                "`return_regions` needs a processor that shows the model the whole image: make it with "
                "`squash=True`, this one crops."
            )

    def _gives_probabilities(self, score: str | None) -> bool:
        return score == "probability" or (score is None and self.model.is_calibrated)

    def _check_score(
        self,
        candidate_labels: tuple[str, ...],
        score: str | None = None,
        threshold: float | str | None = None,
        expected_labels_per_image: float | None = None,
        refine: int | None = None,
        **_: Any,
    ) -> None:
        if self._gives_probabilities(score):
            if refine is not None:
                raise ValueError(f'{REFINES_NO_PROBABILITY} Pass `score="paper"` too.')
            calibration = self.model.calibration
            calibration.thresholds_of(candidate_labels, threshold)
            if expected_labels_per_image is not None:
                calibration.prior_shift(expected_labels_per_image, len(candidate_labels))
        elif isinstance(threshold, str) or expected_labels_per_image is not None:
            name = "threshold" if isinstance(threshold, str) else "expected_labels_per_image"
            raise ValueError(f"`{name}`={threshold or expected_labels_per_image!r} is for probabilities alone.")
        elif score is None:
            logger.warning_once(
                "This model is not calibrated: its scores rank the given labels and sum to 1 over them. "
                "`ram-hf calibrate` gives it probabilities."
            )

    def _tokenize(
        self, candidate_labels: tuple[str, ...], prompt_template: str | Sequence[str] | None = None, **_: Any
    ) -> dict[str, Tensor]:
        """Tokenise the labels, or return the very tensors of the last time: by these the model knows them again."""
        given = self.processor.label_template if prompt_template is None else prompt_template
        templates = read_templates(given, subject="`prompt_template`")
        key = (candidate_labels, templates)
        known = self._label_inputs
        if known is None or known[0] != key:
            label_inputs = self.processor(labels=candidate_labels, label_template=templates)
            known = self._label_inputs = (key, dict(label_inputs.to(self.device)))
        return known[1]


class TaggingAutoModel(AutoModel):
    """What `pipeline` loads a model with: `AutoModel`, which remembers what the checkpoint did not give."""

    @classmethod
    def from_pretrained(cls, pretrained_model_name_or_path: Any, *model_args: Any, **kwargs: Any) -> Any:
        """Load a RAM or a CLIP; see `AutoModel.from_pretrained`.

        Raises:
            ValueError: when a tensor is of another shape than the model's.
        """
        # Nothing is refused here: `pipeline` would go on with the next class that may load it, which does not look.
        model, _ = load_and_remember(AutoModel.from_pretrained, pretrained_model_name_or_path, *model_args, **kwargs)
        return model


def _as_ram_model(model: PreTrainedModel) -> PreTrainedModel:
    config = getattr(model, "config", None)
    kind = kind_of(config)
    refuse_incomplete(model, getattr(config, "_name_or_path", None) or None)
    if kind == "clip" and isinstance(model, CLIPModel):  # and not one of its towers
        return RamModel.from_clip(model)
    if kind != "ram":
        model_type = getattr(config, "model_type", None)
        found = f"a {type(model).__name__}" + (f" of type {model_type!r}" if model_type else "")
        raise TypeError(f"The tagging pipeline takes a RAM model, or a CLIP with a ViT tower, got {found}.")
    return model


def _as_ram_processor(processor: Any, config: RamConfig) -> Any:
    """The given processor, one made of its parts, or the one that lies where the model came from."""
    if processor is None:
        return _load_processor(config)
    if hasattr(processor, "label_template"):
        return processor
    return RamProcessor(processor.image_processor, processor.tokenizer)


def _load_processor(config: RamConfig) -> RamProcessor:
    name, revision = config._name_or_path, getattr(config, "_commit_hash", None)
    if not name:  # wrapped around a CLIP in this program
        name, revision = config.base_model_name_or_path, config.base_model_revision
    advice = "Pass one, for example `processor=RamProcessor.from_pretrained(...)` with the folder of its CLIP."
    if not name:
        raise ValueError(f"There is no `processor`, and the model does not tell where it came from. {advice}")
    try:
        return RamProcessor.from_pretrained(name, revision=revision or "main")
    except (OSError, ValueError) as error:
        reason = str(error).partition("\n")[0]
        raise ValueError(
            f"There is no `processor`, and none can be loaded from {name!r} ({reason}). {advice}"
        ) from error


def _as_label_names(labels: str | Iterable[str]) -> tuple[str, ...]:
    if isinstance(labels, str):
        return tuple(name.strip() for name in labels.split(",") if name.strip())
    if not isinstance(labels, Iterable):
        raise TypeError(f"`candidate_labels` must be a list of label names, got {type(labels).__name__}.")
    return tuple(labels)


def _as_pipeline_inputs(images: Any, *, skips: bool = False) -> Any:
    """One image or a dataset as it is, lists and arrays as a list, and what else can be iterated as a generator.

    With `skips`, what decodes its images as they are asked for raises no longer.
    """
    if isinstance(images, Dataset):
        return _OneByOne(images) if skips and not isinstance(images, IterableDataset) else images
    if is_one_image(images):
        return images
    if isinstance(images, list | tuple) or hasattr(images, "ndim"):
        return list(images)
    if skips and hasattr(images, "__getitem__") and hasattr(images, "__len__"):
        one_by_one = _OneByOne(images)
        return (one_by_one[index] for index in range(len(one_by_one)))
    return (image for image in images)


class _NotGiven(NamedTuple):
    """In the place of an image: what its dataset raised when it was asked for it."""

    error: Exception


class _OneByOne(Dataset):
    """A dataset that decodes its images itself, of which one may be broken."""

    def __init__(self, images: Any):
        self._images = images

    def __len__(self) -> int:
        return len(self._images)

    def __getitem__(self, index: int) -> Any:
        try:
            return self._images[index]
        except Exception as error:
            return _NotGiven(error)


def _given(image: Any) -> Any:
    if isinstance(image, _NotGiven):
        raise image.error
    return image


__all__ = ["TASK", "RamTaggingPipeline", "TaggingAutoModel"]
