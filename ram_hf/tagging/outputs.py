"""What is known of a picture after its turn, and what its row in an output must look like."""

import hashlib
import json
from collections.abc import Sequence
from typing import Any, NamedTuple, Protocol

from .paths import escape_path


class TaggedImage(NamedTuple):
    """A picture's tags, or why there are none.

    Attributes:
        path: the file, as it was given.
        tags: best first, each {"label": str, "score": float}, and where asked for "heat_map": array (rows, columns)
            in [0, 1].
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
        tags = [{"label": tag["label"], "score": float(f"{tag['score']:.6g}")} for tag in self.tags]
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

    labels: tuple[str, ...]
    top_k: int | None
    threshold: float | None

    @property
    def mark(self) -> str:
        """Letters and digits that stand for these options, for outputs that do not show them."""
        return hashlib.sha256(json.dumps(self).encode()).hexdigest()[:12]

    @property
    def most(self) -> int:
        """How many tags a picture can have, and without a threshold has."""
        return min(self.top_k or len(self.labels), len(self.labels))

    def can_give(self, labels: Sequence[str]) -> bool:
        """Whether a picture's tags can have these labels."""
        is_number_right = len(labels) <= self.most and (self.threshold is not None or len(labels) == self.most)
        return is_number_right and set(labels) <= set(self.labels)

    def check(self, row: dict[str, Any], file: str) -> None:
        """Raise ValueError when a row cannot have come of these options; that of another model may pass."""
        if row["error"] is not None:
            return
        labels = [tag["label"] for tag in row["tags"]]
        foreign = [label for label in labels if label not in self.labels]
        if foreign:
            problem = f"the label {foreign[0]!r}, which is not among the labels of this run"
        elif len(labels) > self.most or (self.threshold is None and len(labels) < self.most):
            problem = f"pictures with {len(labels)} tags, where this run gives {self.most}"
        elif self.threshold is not None and any(tag["score"] < self.threshold for tag in row["tags"]):
            problem = f"scores below this run's threshold of {self.threshold}"
        else:
            return
        raise ValueError(
            f"{file!r} holds {problem}. Resume with the options it was begun with, or choose another file."
        )


__all__ = ["Output", "TagOptions", "TaggedImage"]
