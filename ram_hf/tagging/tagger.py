"""Squares of pixels to tags."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ..model.calibration import shift_odds
from ..model.mean_direction import mean_direction
from ..model.modeling_ram import RamModel, RamOutput
from ..model.processing_ram import RamProcessor
from ..model.refine import REFINES_NO_PROBABILITY, refine_scores
from ..model.regions import heat_map
from .index import StoredFeatures
from .reader import SquareSize
from .scoring import PROBABILITY
from .stored_scores import needs_patches, score_stored
from .vocabulary import Vocabulary

_NAMES_AT_ONCE = 1024


class Tagger:
    """A model with its label list encoded: calling it tags a batch.

    Args:
        model: the model; moved to `device` and put into evaluation mode.
        processor: its processor, which squashes pictures.
        vocabulary: what is looked for and reported.
        label_template: sentence around a label, or several, or a set's name; None for the processor's own.
        top_k: at most this many labels found in each picture; None for all.
        threshold: only labels that score at least this, where the vocabulary has no other; None for all.
        score: "probability" for each label's own, or "paper"; None for probabilities where the model is calibrated.
        expected_labels: of probabilities: how many of the labels a picture has on average, where that is known.
        refine: how many of a picture's best labels to judge again, see [`look_again`]; None for none.
        device: where to compute.
        with_heat_maps: say also where each tag is.

    Attributes:
        square: what pictures must be squashed to.

    Raises:
        ValueError: when the processor crops pictures instead of squashing them, a label does not fit the model, or
            probabilities are to be refined.
    """

    def __init__(
        self,
        model: RamModel,
        processor: RamProcessor,
        vocabulary: Vocabulary,
        *,
        label_template: str | Sequence[str] | None = None,
        top_k: int | None = None,
        threshold: float | None = None,
        score: str | None = None,
        expected_labels: float | None = None,
        refine: int | None = None,
        device: str | torch.device = "cpu",
        with_heat_maps: bool = False,
    ):
        self.square = SquareSize.of(processor)
        self.model = model.to(device).eval()
        self.processor = processor
        self.vocabulary = vocabulary
        self.top_k, self.threshold = top_k, threshold
        self.with_heat_maps = with_heat_maps
        self._gives_probabilities = model.is_calibrated if score is None else score == PROBABILITY
        if refine is not None and self._gives_probabilities:
            raise ValueError(REFINES_NO_PROBABILITY)
        self._refine = refine
        self._shift: float | None = None
        if expected_labels is not None:
            calibration = model.calibration
            self._shift = calibration.prior_shift(expected_labels, len(vocabulary.matched))
        self._label_features = candidate_features(model, processor, vocabulary, label_template)

    @property
    def is_adapted(self) -> list[bool]:
        """Whether the model knows each column by its looks: see `RamModel.adapt`."""
        return self.model.is_adapted_to(self._label_features).tolist()

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

    def _report(self, output: RamOutput) -> list[list[dict[str, Any]]]:
        plan: Any = output.transport_plan
        scores = self._scores_of(output)
        plans = plan.float().cpu().numpy() if self.with_heat_maps else [None] * len(scores)
        return [self._tags(*of_one) for of_one in zip(scores, plans, strict=True)]

    @torch.inference_mode()
    def score(self, pixels: Sequence[np.ndarray]) -> np.ndarray:
        """Scores of the vocabulary's columns, shape (pictures, columns), of pixels as above."""
        return self._scores_of(self._match(pixels))

    def _match(self, pixels: Sequence[np.ndarray]) -> RamOutput:
        inputs = self.processor.image_processor(list(pixels), do_resize=False, return_tensors="pt")
        pixel_values = inputs["pixel_values"].to(self._label_features.device)
        if self._gives_probabilities:
            features = self.model.encode_images(pixel_values)
            return self.model.score_stored(features, self._label_features, output_transport_plan=self.with_heat_maps)
        output: RamOutput = self.model(
            pixel_values,
            label_features=self._label_features,
            output_transport_plan=self.with_heat_maps or self._refine is not None,
            output_probabilities=False,
        )
        if self._refine is not None:
            output.scores = refine_scores(
                self.model, pixel_values, self._label_features, output, num_labels=self._refine
            )
        return output

    def _scores_of(self, output: RamOutput) -> np.ndarray:
        tensor: Any = output.probabilities if self._gives_probabilities else output.scores
        if self._shift is not None:
            tensor = shift_odds(tensor, self._shift)
        scores: np.ndarray = tensor.float().cpu().numpy()
        return scores

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
    model: RamModel,
    processor: RamProcessor,
    vocabulary: Vocabulary,
    label_template: str | Sequence[str] | None = None,
) -> Tensor:
    """Label features of a vocabulary's columns: of several names the mean direction, of one name its own.

    Several templates are averaged for each name first.

    The highest of the names' probabilities ranks the same (`benchmarks/label_names.py`, docs/vocabulary.md), and costs
    a column for each name.

    Returns:
        Features, not normalised, shape (columns, D).

    Raises:
        ValueError: when a name is too long for the model.
    """
    names = [name for each in vocabulary.candidates for name in each]
    features = encode_names(model, processor, names, label_template)
    of_columns = features.split(list(map(len, vocabulary.candidates)))
    return torch.stack([each[0] if len(each) == 1 else mean_direction(each) for each in of_columns])


def encode_names(
    model: RamModel, processor: RamProcessor, names: Sequence[str], label_template: str | Sequence[str] | None = None
) -> Tensor:
    """Label features of names, not normalised, shape (names, D), some of them at once: a list may be long."""
    parts = [names[begin : begin + _NAMES_AT_ONCE] for begin in range(0, len(names), _NAMES_AT_ONCE)]
    with torch.inference_mode():
        inputs = (processor(labels=part, label_template=label_template).to(model.device) for part in parts)
        return torch.cat([model.get_label_features(**each) for each in inputs])


__all__ = ["Tagger", "candidate_features", "encode_names", "refuse_stored"]
