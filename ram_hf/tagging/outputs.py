"""What is known of a picture after its turn, and what its row in an output must look like."""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any, NamedTuple, Protocol

from .paths import escape_path
from .scoring import PAPER, Scoring
from .vocabulary import Vocabulary

DEFAULT_TOP_K = 5


class TaggedImage(NamedTuple):
    """A picture's tags, or why there are none.

    Attributes:
        path: the file, as it was given.
        tags: what is forced, then best first, each {"label": str, "score": float}, and where asked for "heat_map":
            array (rows, columns) in [0, 1], of all that was found.
        error: None, or one line.
    """

    path: str
    tags: list[dict[str, Any]]
    error: str | None = None

    def failed(self, reason: str) -> "TaggedImage":
        """The same picture with a reason why something went wrong after it was tagged."""
        return self._replace(error=" ".join(reason.split()))

    def to_row(self) -> dict[str, Any]:
        """The row of files: {"path": see [`escape_path`], "tags": [{"label", "score"}, ...], "error": str or None}."""
        tags = [{"label": tag["label"], "score": _rounded(tag["score"])} for tag in self.tags]
        return {"path": escape_path(self.path), "tags": tags, "error": self.error and escape_path(self.error)}


class Output(Protocol):
    """Where tags go. Nothing is written before the first `write`."""

    def refuse_existing(self, paths: Sequence[str]) -> None:
        """Raise FileExistsError when tagging `paths` would overwrite anything; not called when resuming."""

    def holds(self, path: str) -> bool:
        """Whether an earlier run has written this picture with these options, so that resuming passes over it."""

    def write(self, images: Sequence[TaggedImage]) -> Sequence[TaggedImage]:
        """Write a batch, without the pictures that are held; a run that is killed after it loses nothing of it.

        Returns:
            The pictures, and where one could not be written, why.

        Raises:
            OSError: when none of those to come could be written either.
        """

    def finish(self) -> None:
        """Complete what was written, also when the run was interrupted."""


class TagOptions(NamedTuple):
    """What decides on a picture's tags, for recognising an output that was begun with other options."""

    vocabulary: Vocabulary
    top_k: int | None
    threshold: float | None
    score: str = PAPER
    expected_labels: float | None = None
    refine: int | None = None

    @classmethod
    def of(cls, scoring: Scoring, top_k: int | None, refine: int | None = None) -> "TagOptions":
        """Options as they are given, where neither number need be: tags are few by one of them."""
        if top_k is None and scoring.threshold is None and not scoring.vocabulary.has_every_threshold:
            top_k = DEFAULT_TOP_K
        return cls(scoring.vocabulary, top_k, scoring.threshold, scoring.score, scoring.expected_labels, refine)

    @property
    def mark(self) -> str:
        """Letters and digits that stand for these options, for outputs that do not show them."""
        options = [asdict(self.vocabulary), *self[1:]]
        return hashlib.sha256(json.dumps(options).encode()).hexdigest()[:12]

    def can_give(self, labels: Sequence[str]) -> bool:
        """Whether a picture's tags can have these labels."""
        return self._problem_of(labels) is None

    def check(self, row: dict[str, Any], file: str) -> None:
        """Raise ValueError when a row cannot have come of these options; that of another model may pass."""
        if row["error"] is not None:
            return
        problem = self._problem_of([tag["label"] for tag in row["tags"]])
        for tag in row["tags"] if problem is None else ():
            least = self.vocabulary.least_score(tag["label"], self.threshold)
            if tag["score"] < _rounded(least):
                problem = f"scores below this run's threshold of {least}"
        if problem is not None:
            raise ValueError(
                f"{file!r} holds {problem}. Resume with the options it was begun with, or choose another file."
            )

    def _problem_of(self, labels: Sequence[str]) -> str | None:
        vocabulary = self.vocabulary
        foreign = [label for label in labels if label not in vocabulary.reported]
        if foreign:
            return f"the label {foreign[0]!r}, which is not among the labels of this run"
        if lacking := vocabulary.lacking_beside(labels):
            return f"pictures without {lacking[0]!r}, which this run gives them"
        most = vocabulary.most_tags(self.top_k)
        is_exact = vocabulary.is_plain and not vocabulary.has_threshold and self.threshold is None
        if len(labels) > most or (is_exact and len(labels) < most):
            return f"pictures with {len(labels)} tags, where this run gives {most}"
        return None


def _rounded(score: float) -> float:
    """A score as rows hold it."""
    return float(f"{score:.6g}")


__all__ = ["DEFAULT_TOP_K", "Output", "TagOptions", "TaggedImage"]
