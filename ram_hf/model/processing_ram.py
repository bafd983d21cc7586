"""Images and label names in, tensors out; scores in, labels out."""

import os
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from transformers import BatchFeature, ProcessorMixin
from transformers.processing_utils import ImagesKwargs, ProcessingKwargs, TextKwargs

from .bundled import find_bundled
from .images import is_one_image, read_image
from .prompt_sets import PROMPT_SETS
from .prompt_templates import fill, read_templates, shortened
from .pushing import PushesCard
from .suggestions import did_you_mean

(DEFAULT_LABEL_TEMPLATE,) = PROMPT_SETS["photo"]
_CLIP_CONTEXT = 77  # for tokenizers that do not say
_CHARACTERS = 100  # of one token: more in a label are measured, not tokenised
_NO_LIMIT = 1_000_000  # transformers puts a number above this where a tokenizer does not say


class RamProcessor(PushesCard, ProcessorMixin):
    """Prepares images and labels for [`RamModel`], and turns its scores into labels.

    Args:
        image_processor: CLIP's image processor.
        tokenizer: CLIP's tokenizer.
        label_template: sentence that a label name is put into, with `{label}` or `{}` in its place; the name of a set
            of them ("openai-7", "openai-80"); or a list of these. A label's features are the mean over its sentences.
            It is no format string: whatever else stands in braces is refused.
        squash: resize the whole image to the model's square, as the method does, instead of cropping the centre as
            CLIP does: what stands at the edge of an image is to be tagged too.

    Raises:
        ValueError: when a template has no place for the label, or anything else in braces, or there is none.

    Example:
        >>> processor = RamProcessor.from_pretrained("openai/clip-vit-base-patch16")
        >>> processor(images=["street.jpg"])["pixel_values"].shape
        torch.Size([1, 3, 224, 224])
        >>> processor(labels=["dog", "red car"])["input_ids"].shape
        torch.Size([2, 8])
    """

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        cls._auto_class = None  # only a class that is registered itself is saved with its code

    def __init__(
        self,
        image_processor: Any = None,
        tokenizer: Any = None,
        label_template: str | Sequence[str] = DEFAULT_LABEL_TEMPLATE,
        squash: bool = True,
        **kwargs: Any,
    ) -> None:
        read_templates(label_template)
        # Kept as it is given, for people to read in `processor_config.json`.
        self.label_template = label_template if isinstance(label_template, str) else list(label_template)
        self.squash = squash
        if squash and image_processor is not None:
            image_processor = _squashing(image_processor)
        super().__init__(image_processor, tokenizer, **kwargs)

    @classmethod
    def from_pretrained(
        cls, pretrained_model_name_or_path: str | os.PathLike[str], *args: Any, **kwargs: Any
    ) -> "RamProcessor":
        """Load from the Hub, a folder, or the package ("ram-photo"); see `ProcessorMixin.from_pretrained`."""
        return super().from_pretrained(find_bundled(pretrained_model_name_or_path), *args, **kwargs)

    def __call__(
        self,
        images: Any = None,
        text: str | Sequence[str] | None = None,
        labels: str | Sequence[str] | None = None,
        *,
        label_template: str | Sequence[str] | None = None,
        **kwargs: Any,
    ) -> BatchFeature:
        """Prepare images, labels or both.

        Args:
            images: one or a list of: PIL image, path, URL, bytes, NumPy array or tensor; or a batch as one array or
                tensor of four dimensions. See [`read_image`]. Lists in the list are read one after the other.
            text: sentences to tokenise as they are; for label names use `labels`.
            labels: label names; each is put into the template, or into each of several. Duplicates are allowed.
            label_template: used instead of the processor's own.
            **kwargs: what the processors of transformers take, as they take it: options of the tokenizer (`padding`,
                True when left out; `truncation`, `max_length`, `add_special_tokens`, ...), of the image processor
                (`size`, `do_normalize`, ...) and `return_tensors` ("pt" when left out, "np", or None for lists), each
                by itself or in the dictionaries `text_kwargs`, `images_kwargs` and `common_kwargs`.

        Returns:
            `pixel_values` (B, 3, H, W) when there are images; `input_ids` and `attention_mask` (L, T) when there are
            labels, padded to the longest; of K templates, more than one, (L, K, T).

        Raises:
            ValueError: when there is nothing to prepare, an image cannot be read, a label is empty or too long.
            TypeError: when labels are no list of strings, or an option is unknown or has no effect.
        """
        if images is None and text is None and labels is None:
            raise ValueError("Nothing to prepare: pass `images`, `labels` or both.")
        if text is not None and labels is not None:
            raise ValueError("Pass label names as `labels` or ready sentences as `text`, not both.")
        text_options, images_options = self._sort_options(kwargs, has_images=images is not None)
        data: dict[str, Any] = {}
        if images is not None:
            data.update(self._prepare_images(images, images_options))
        if labels is not None:
            names = _as_names(labels)
            templates = read_templates(self.label_template if label_template is None else label_template)
            sentences = [fill(template, name) for name in names for template in templates]
            data.update(self._tokenize(sentences, names, text_options))
        elif text is not None:
            names = _as_names(text)
            data.update(self._tokenize(names, names, text_options))
        return BatchFeature(data)

    @property
    def context_length(self) -> int:
        """How many tokens the text tower takes, with those of the beginning and the end."""
        length: int = self.tokenizer.model_max_length
        return _CLIP_CONTEXT if length > _NO_LIMIT else length

    def count_tokens(
        self, labels: str | Sequence[str], *, label_template: str | Sequence[str] | None = None
    ) -> list[int]:
        """How many tokens each label takes with its longest template, to compare with `context_length`.

        Args:
            labels: label names.
            label_template: used instead of the processor's own.

        Returns:
            One number for each label; of a label beyond all measure that of its beginning.

        Raises:
            ValueError: when a label is empty, or a template has no place for one.
        """
        templates = read_templates(self.label_template if label_template is None else label_template)
        most = _CHARACTERS * self.context_length
        sentences = [fill(template, name)[:most] for name in _as_names(labels) for template in templates]
        counts = [len(ids) for ids in self.tokenizer(sentences, truncation=False)["input_ids"]]
        return [max(of_label) for of_label in _grouped(counts, len(templates))]

    def save_pretrained(self, save_directory: str | os.PathLike[str], **kwargs: Any) -> Any:
        """Save image processor, tokenizer, template and code; see `ProcessorMixin.save_pretrained`."""
        for name in ("is_local", "local_files_only"):  # how it was loaded here is nobody else's affair
            self.tokenizer.init_kwargs.pop(name, None)
        parts = [self.__dict__, self.image_processor.__dict__]
        code = [part.get("auto_map") for part in parts]
        saved = super().save_pretrained(save_directory, **kwargs)
        for part, before in zip(parts, code, strict=True):  # which file holds the code is a matter of the folder
            part.pop("auto_map", None)
            if before is not None:
                part["auto_map"] = before
        return saved

    def post_process_tagging(
        self,
        outputs: Any,
        labels: Sequence[str],
        *,
        top_k: int | None = None,
        threshold: float | Sequence[float] | None = None,
    ) -> list[list[dict[str, Any]]]:
        """Turn probabilities into labels, best first, or scores where the model has no probabilities.

        A probability is each label's own. A score says how a label ranks within this label list (the scores of an
        image sum to 1): the same label scores less in a longer list, so a threshold belongs to its list.

        Args:
            outputs: [`RamOutput`] for B images.
            labels: the L label names, in the order in which they were encoded.
            top_k: at most this many labels for each image.
            threshold: only labels that score at least this, from 0 to 1; or such a number for each label.

        Returns:
            For each image a list of `{"label": str, "score": float}`.

        Raises:
            ValueError: when the number of labels is not that of the scores, `top_k` is below 1, `threshold` is not
                a number from 0 to 1, or a score is not finite.
        """
        scores = outputs.scores if outputs.probabilities is None else outputs.probabilities
        labels = _as_names(labels)
        if len(labels) != scores.shape[1]:
            raise ValueError(f"`labels` has {len(labels)} names but there are scores for {scores.shape[1]}.")
        if top_k is not None and top_k < 1:
            raise ValueError(f"`top_k` must be at least 1, got {top_k}.")
        lowest = _thresholds(threshold, len(labels))
        # Stable, so that duplicate labels keep their order.
        ranked_scores, order = scores.detach().float().cpu().sort(dim=1, descending=True, stable=True)
        if not ranked_scores.isfinite().all():
            image = int((~ranked_scores.isfinite()).any(dim=1).nonzero()[0])
            raise ValueError(
                f"The scores of image {image} are not finite: the model's weights or numbers are broken, or too large "
                "for its precision (try float32)."
            )
        return [
            [
                {"label": labels[index], "score": score}
                for score, index in zip(image_scores[:top_k], indices[:top_k], strict=True)
                if score >= lowest[index]
            ]
            for image_scores, indices in zip(ranked_scores.tolist(), order.tolist(), strict=True)
        ]

    def _card_facts(self) -> tuple[None, str | None]:
        return None, self.tokenizer.name_or_path

    def _sort_options(self, options: dict[str, Any], *, has_images: bool) -> tuple[dict[str, Any], dict[str, Any]]:
        """Options of the tokenizer and of the image processor, by the rules of transformers' processors."""
        of_text = set(TextKwargs.__annotations__)
        of_images = {*ImagesKwargs.__annotations__, *self.image_processor.valid_kwargs.__annotations__}
        dictionaries = {"text_kwargs": of_text, "images_kwargs": of_images, "common_kwargs": of_text | of_images}
        given = dict.fromkeys(options, of_text | of_images | set(dictionaries))
        for name in dictionaries.keys() & options.keys():
            given.update(dict.fromkeys(options[name], dictionaries[name]))
        for name, known in given.items():
            if name not in known:
                raise TypeError(f"The processor takes no option {name!r}. {did_you_mean(name, sorted(known))}")
        if not has_images:
            without_effect = sorted((options.keys() | options.get("images_kwargs", {})) & of_images - of_text)
            if without_effect:
                raise TypeError(f"Without images these options have no effect: {', '.join(without_effect)}.")
        merged = self._merge_kwargs(ProcessingKwargs, tokenizer_init_kwargs=self.tokenizer.init_kwargs, **options)
        if merged["images_kwargs"].get("do_rescale") is False:
            raise ValueError("`do_rescale=False` is not needed: float images in [0, 1] are recognised as such.")
        return (
            {"padding": True, "return_tensors": "pt", **merged["text_kwargs"]},
            {"return_tensors": "pt", **merged["images_kwargs"]},
        )

    def _prepare_images(self, images: Any, options: dict[str, Any]) -> dict[str, Any]:
        decoded = []
        for index, source in enumerate(_each(images)):
            try:
                decoded.append(read_image(source))
            except (ValueError, OSError) as error:
                raise ValueError(f"Image {index}: {error}") from error
            except TypeError as error:
                raise TypeError(f"Image {index}: {error}") from error
        if not decoded:
            raise ValueError("`images` is empty.")
        return dict(self.image_processor(decoded, **options))

    def _tokenize(self, sentences: list[str], names: list[str], options: dict[str, Any]) -> dict[str, Any]:
        """Tokenise the sentences of each name, as many of one as of another, the first name's first."""
        num_templates = len(sentences) // len(names)
        context_length = self.context_length
        options = dict(options)
        return_tensors = options.pop("return_tensors")
        if options.get("max_length") is None and (options.get("truncation") or options["padding"] == "max_length"):
            options["max_length"] = context_length
        most = _CHARACTERS * context_length
        for index, sentence in enumerate(sentences):
            if len(sentence) > most and not options.get("truncation"):
                label = index // num_templates
                raise ValueError(
                    f"Label {label} has {len(sentence)} characters with its template but the text tower takes "
                    f"{context_length} tokens: {shortened(names[label])}. Shorten it, or pass `truncation=True`."
                )
        sentences = [sentence[:most] for sentence in sentences]  # behind that nothing is read anyway
        encoded = self.tokenizer(sentences, **options)
        lengths = [sum(mask) for mask in encoded.get("attention_mask", [])] or list(map(len, encoded["input_ids"]))
        longest = max(range(len(lengths)), key=lengths.__getitem__)
        if lengths[longest] > context_length:
            label = longest // num_templates
            raise ValueError(
                f"Label {label} takes {lengths[longest]} tokens with its template but the text tower takes "
                f"{context_length}: {shortened(names[label])}. Shorten it, or pass `truncation=True`."
            )
        tensors = dict(encoded.convert_to_tensors(return_tensors))
        if num_templates == 1:
            return tensors
        return {name: _grouped(value, num_templates) for name, value in tensors.items()}


def _each(images: Any) -> Iterator[Any]:
    """The images of nested lists, as transformers' processors take them."""
    if is_one_image(images):
        yield images
        return
    for item in images:
        yield from _each(item) if isinstance(item, list | tuple) else (item,)


def _as_names(names: str | Iterable[str]) -> list[str]:
    if not isinstance(names, Iterable):
        raise TypeError(f"Labels must be a list of names, got {type(names).__name__}: {shortened(names)}.")
    names = [names] if isinstance(names, str) else list(names)
    if not names:
        raise ValueError("There are no labels: pass at least one label name.")
    for index, name in enumerate(names):
        if not isinstance(name, str):
            raise TypeError(f"Label {index} must be a string, got {type(name).__name__}: {shortened(name)}.")
        if not name.strip():
            raise ValueError(f"Label {index} is empty.")
        if any("\ud800" <= character <= "\udfff" for character in name):
            raise ValueError(f"Label {index} holds half of a character (a lone surrogate): {shortened(name)}.")
    return names


def _grouped(values: Any, size: int) -> Any:
    """A list, array or tensor in groups of `size`: (L * K, ...) as (L, K, ...)."""
    if isinstance(values, list):
        return [values[start : start + size] for start in range(0, len(values), size)]
    return values.reshape(-1, size, *values.shape[1:])


def _squashing(image_processor: Any) -> Any:
    """The same image processor, resizing to the square that it would have cropped to."""
    size, crop = dict(image_processor.size), dict(image_processor.crop_size or {})
    cropped_to = crop.get("height") if image_processor.do_center_crop else None
    side = size.get("height") or cropped_to or size.get("shortest_edge")
    settings = image_processor.to_dict()
    settings.update(size={"height": side, "width": side}, crop_size=None, do_center_crop=False)
    settings.pop("image_processor_type", None)
    return type(image_processor)(**settings)


def _thresholds(threshold: float | Sequence[float] | None, num_labels: int) -> Sequence[float]:
    """The lowest score of each label that is reported."""
    if threshold is None:
        return [0.0] * num_labels
    thresholds = [threshold] * num_labels if isinstance(threshold, int | float) else threshold
    if len(thresholds) != num_labels or not all(0 <= each <= 1 for each in thresholds):
        raise ValueError(
            "`threshold` must be a number from 0 to 1, as scores are, or one for each of the "
            f"{num_labels} labels, got {threshold}."
        )
    return thresholds


__all__ = ["DEFAULT_LABEL_TEMPLATE", "RamProcessor"]

RamProcessor.register_for_auto_class()
