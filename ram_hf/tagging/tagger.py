"""Squares of pixels to tags."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from ..model.modeling_ram import RamModel
from ..model.processing_ram import RamProcessor
from ..model.regions import heat_map
from .index import StoredFeatures
from .reader import SquareSize
from .stored_scores import needs_patches, score_stored
from .vocabulary import Vocabulary

_NAMES_AT_ONCE = 1024


class Tagger:
    """A model with its label list encoded: calling it tags a batch.

    Args:
        model: the model; moved to `device` and put into evaluation mode.
        processor: its processor, which squashes pictures.
        vocabulary: what is looked for and reported.
        label_template: sentence around a label; None for the processor's own.
        top_k: at most this many labels found in each picture; None for all.
        threshold: only labels that score at least this, where the vocabulary has no other; None for all.
        device: where to compute.
        with_heat_maps: say also where each tag is.

    Raises:
        ValueError: when the processor crops pictures instead of squashing them, or a label does not fit the model.
    """

    def __init__(
        self,
        model: RamModel,
        processor: RamProcessor,
        vocabulary: Vocabulary,
        *,
        label_template: str | None = None,
        top_k: int | None = None,
        threshold: float | None = None,
        device: str | torch.device = "cpu",
        with_heat_maps: bool = False,
    ):
        if not processor.squash:
            raise ValueError("The processor of this model crops pictures; tagging files needs `squash=True`.")
        self.model = model.to(device).eval()
        self.processor = processor
        self.vocabulary = vocabulary
        self.top_k, self.threshold = top_k, threshold
        self.with_heat_maps = with_heat_maps
        self._label_features = candidate_features(model, processor, vocabulary, label_template)

    @property
    def square(self) -> SquareSize:
        """What pictures must be squashed to."""
        settings = self.processor.image_processor
        return SquareSize(settings.size["height"], int(settings.resample))

    @torch.inference_mode()
    def __call__(self, pixels: Sequence[np.ndarray]) -> list[list[dict[str, Any]]]:
        """Tag pictures.

        Args:
            pixels: for each picture an array (side, side, 3), uint8, squashed to [`square`].

        Returns:
            For each picture its tags as [`Vocabulary.report`] orders them: {"label": str, "score": float}, and with
            heat maps, of what was found, "heat_map": array (rows, columns) in [0, 1], the column of the transport
            plan that it comes of over its largest entry.

        Raises:
            ValueError: when a score is not finite.
        """
        if not pixels:
            return []
        return self._report(self._match(pixels))

    @torch.inference_mode()
    def tag_stored(self, stored: StoredFeatures) -> list[list[dict[str, Any]]]:
        """Tag images of which an index has the features; returns what calling the tagger does."""
        features, device = self._label_features, self._label_features.device
        output = score_stored(self.model, stored, features, device, output_transport_plan=self.with_heat_maps)
        return self._report(output)

    def _report(self, output: Any) -> list[list[dict[str, Any]]]:
        plans = output.transport_plan.float().cpu().numpy() if self.with_heat_maps else None
        scores = _scores_of(output)
        return [
            self._tags(*of_one)
            for of_one in zip(scores, [None] * len(scores) if plans is None else plans, strict=True)
        ]

    @torch.inference_mode()
    def score(self, pixels: Sequence[np.ndarray]) -> np.ndarray:
        """Scores of the vocabulary's columns, shape (pictures, columns), of pixels as above."""
        return _scores_of(self._match(pixels))

    def _match(self, pixels: Sequence[np.ndarray]) -> Any:
        inputs = self.processor.image_processor(list(pixels), do_resize=False, return_tensors="pt")
        return self.model(
            inputs["pixel_values"].to(self._label_features.device),
            label_features=self._label_features,
            output_transport_plan=self.with_heat_maps,
        )

    def _tags(self, scores: np.ndarray, plan: np.ndarray | None) -> list[dict[str, Any]]:
        """Tags of one image by its scores (columns,) and its plan (P, columns)."""
        found = self.vocabulary.report(scores, top_k=self.top_k, threshold=self.threshold)
        tags: list[dict[str, Any]] = [{"label": tag.label, "score": tag.score} for tag in found]
        for tag, (*_, column) in zip(tags, found, strict=True):
            if plan is not None and column is not None:
                tag["heat_map"] = heat_map(plan[:, column], grid=self.model.config.patch_grid())
        return tags


def refuse_stored(model: RamModel, *, has_patches: bool, with_heat_maps: bool) -> None:
    """Refuse to tag from an index what takes more than it has.

    Raises:
        ValueError: when the model is not calibrated, or the index lacks the patches that probabilities or heat maps
            are made of.
    """
    if not model.is_calibrated:
        raise ValueError(
            "This model is not calibrated: its scores are of a picture and the whole list of labels together, and an "
            "index has no pictures. `ram-hf calibrate` gives it probabilities, which an index can answer."
        )
    if not has_patches and (with_heat_maps or needs_patches(model)):
        raise ValueError(
            "The index has no patches, of which this model's probabilities are made"
            + " and heat maps are drawn" * with_heat_maps
            + ". `ram-hf search` ranks pictures without them; for tags make an index without `--without-patches`."
        )


def candidate_features(
    model: RamModel, processor: RamProcessor, vocabulary: Vocabulary, label_template: str | None = None
) -> Tensor:
    """Label features of a vocabulary's columns: of several names the mean direction, of one name its own.

    Of the ways to join names this ranks no worse than the others and costs an image nothing, where a column for each
    name would make the list longer: `benchmarks/label_names.py`, docs/vocabulary.md.

    Returns:
        Features, not normalised, shape (columns, D).

    Raises:
        ValueError: when a name is too long for the model.
    """
    names = [name for each in vocabulary.candidates for name in each]
    features = encode_names(model, processor, names, label_template)
    return torch.stack([_joined(each) for each in features.split(list(map(len, vocabulary.candidates)))])


def encode_names(
    model: RamModel, processor: RamProcessor, names: Sequence[str], label_template: str | None = None
) -> Tensor:
    """Label features of names, not normalised, shape (names, D), some of them at once: a list may be long."""
    parts = [names[begin : begin + _NAMES_AT_ONCE] for begin in range(0, len(names), _NAMES_AT_ONCE)]
    with torch.inference_mode():
        inputs = (processor(labels=part, label_template=label_template).to(model.device) for part in parts)
        return torch.cat([model.get_label_features(**each) for each in inputs])


def _scores_of(output: Any) -> np.ndarray:
    """Probabilities (images, columns) of a model that is calibrated, else scores."""
    tensor = output.scores if output.probabilities is None else output.probabilities
    scores: np.ndarray = tensor.float().cpu().numpy()
    return scores


def _joined(features: Tensor) -> Tensor:
    """The mean of directions (names, D), as long as the features are on average."""
    if len(features) == 1:
        return features[0]
    lengths = features.float().norm(dim=-1, keepdim=True)
    direction = F.normalize((features.float() / lengths).mean(dim=0), dim=-1)
    return (direction * lengths.mean()).to(features.dtype)


__all__ = ["Tagger", "candidate_features", "encode_names", "refuse_stored"]
