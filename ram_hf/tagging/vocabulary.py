"""A list of labels with what belongs to each: what the model is asked, and what of its answer is reported."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import numpy as np

from .vocabulary_checks import VocabularyError, refuse_contradictions
from .vocabulary_fields import Label, VocabularyFields


class Tag(NamedTuple):
    """What is reported of an image.

    Args:
        label: name to show.
        score: in [0, 1]; 1 for what is forced.
        column: of the scores that it comes of; None for what is forced.
    """

    label: str
    score: float
    column: int | None


@dataclass(frozen=True)
class Vocabulary(VocabularyFields):
    """The labels of a run, and how scores become tags.

    Columns are what the model scores: labels with a name to match, in their order, then the background.

    Args:
        labels: see [`Label`].
        background: names that compete for an image and are never reported.
        exclude: names that are never reported, of labels or of parents; what they imply is.
        replace: pairs of a name and what is reported instead, with the parents of that.
        force: names that every image has.
        threshold: from which score labels are reported that have none of their own, from 0 to 1.
        separator: what stands between the tags of a caption.

    Raises:
        VocabularyError: when a name comes twice, is blank, or fields contradict each other.

    Example:
        >>> vocabulary = Vocabulary((Label("dog", "Hund", parents=("animal",)), Label("tree")), background=("sky",))
        >>> [tag[:2] for tag in vocabulary.report([0.5, 0.1, 0.4], threshold=0.2)]
        [('Hund', 0.5), ('animal', 0.5)]
    """

    def __post_init__(self) -> None:
        refuse_contradictions(self)
        if not self.reported:
            raise VocabularyError("Every label is excluded: nothing would be reported.", ("exclude",))

    @classmethod
    def of(cls, names: Sequence[str]) -> "Vocabulary":
        """The vocabulary of a plain list of names."""
        return cls(tuple(map(Label, names)))

    @cached_property
    def candidates(self) -> tuple[tuple[str, ...], ...]:
        """Names that the model is given for each column."""
        return (*(label.matched for label in self.matched), *((name,) for name in self.background))

    @cached_property
    def reported(self) -> Mapping[str, tuple[int, ...]]:
        """All names that can be shown, with the columns that give them."""
        columns: dict[str, list[int]] = {name: [] for name in self._forced}
        for column, names in enumerate(self._given):
            for name in names:
                columns.setdefault(name, []).append(column)
        return {name: tuple(givers) for name, givers in columns.items()}

    @cached_property
    def has_threshold(self) -> bool:
        """Whether any label has a threshold from here."""
        return self.threshold is not None or any(label.threshold is not None for label in self.matched)

    @cached_property
    def has_every_threshold(self) -> bool:
        """Whether each label that is looked for has a threshold from here."""
        return self.threshold is not None or all(label.threshold is not None for label in self.matched)

    @cached_property
    def is_plain(self) -> bool:
        """Whether each column is reported under a name of its own and nothing else is, as with a list of names."""
        own = {names for names in self._given if len(names) == 1}
        return not self.force and len(own) == len(self.candidates)

    def report(
        self, scores: Sequence[float] | np.ndarray, *, top_k: int | None = None, threshold: float | None = None
    ) -> list[Tag]:
        """The tags of an image: what is forced, then what was found, best first, each with what it implies behind it.

        Every name comes once, with the highest score of what gives it.

        Args:
            scores: one for each column, shape (columns,).
            top_k: at most so many labels that are found; what they imply and what is forced does not count.
            threshold: only labels that score at least this, where the vocabulary says nothing else.

        Raises:
            ValueError: when the number of scores is wrong, or one is not finite.
        """
        tags = {name: Tag(name, 1.0, None) for name in self._forced}
        for column in self.found(scores, top_k=top_k, threshold=threshold):
            for name in self._given[column]:
                tags.setdefault(name, Tag(name, float(scores[column]), column))
        return list(tags.values())

    def found(
        self, scores: Sequence[float] | np.ndarray, *, top_k: int | None = None, threshold: float | None = None
    ) -> list[int]:
        """The columns that [`report`] is made of, best first; arguments and errors as there."""
        scores = np.asarray(scores, dtype=np.float64)
        if scores.shape != (len(self.candidates),):
            raise ValueError(f"There are {len(self.candidates)} columns, and scores of shape {scores.shape}.")
        if not np.isfinite(scores).all():
            raise ValueError(
                "The scores of an image are not finite: the model's weights or numbers are broken, or too large for "
                "its precision (try float32)."
            )
        least = np.where(np.isnan(self._thresholds), self._general(threshold), self._thresholds)
        passing = np.flatnonzero(scores >= least)
        names: set[str] = set()
        columns = []
        # Equal scores by name, so that the order of the labels changes nothing.
        for column in passing[np.lexsort((self._ranks[passing], -scores[passing]))].tolist():
            own = self._own[column]
            if own is not None and own not in names:
                if len(names) == top_k:
                    break
                names.add(own)
            columns.append(column)
        return columns

    def gives(self, column: int) -> tuple[str, ...]:
        """The names to show that a column reports: its own, then what that implies; none of the background."""
        return self._given[column]

    def most_tags(self, top_k: int | None) -> int:
        """How many tags a picture can have."""
        if top_k is None:
            return len(self.reported)
        return min(len(self._always) + sum(self._family_sizes[:top_k]), len(self.reported))

    def lacking_beside(self, names: Sequence[str]) -> list[str]:
        """What every report that shows these names shows too, and is not among them."""
        shown = set(names)
        implied = (each for name in names for each in self._families[name])
        return [name for name in (*self._forced, *implied) if name not in shown]

    def least_score(self, name: str, threshold: float | None) -> float:
        """The lowest score that a shown name can be reported with, given the threshold of [`report`]."""
        general = self._general(threshold)
        own = [float(self._thresholds[column]) for column in self.reported[name]]
        return min((general if np.isnan(each) else each for each in own), default=1.0)

    def levels_above(self, name: str) -> tuple[str, ...]:
        """Where a shown name stands in a tree of keywords: names above it by each first parent, uppermost first."""
        names = [self._by_shown.get(name, name)]
        while (label := self.by_name.get(names[-1])) and label.parents:
            parent = self._replaced(label.parents[0])
            if parent in names:  # a parent that is replaced by its child
                break
            names.append(parent)
        return tuple(self._shown(each) for each in reversed(names[1:]) if each not in self._excluded)

    # --- of each column ---------------------------------------------------------------------------------------------

    @cached_property
    def _given(self) -> tuple[tuple[str, ...], ...]:
        """What each column reports: its name to show, then what that implies."""
        labels = tuple(self._family(label.name) for label in self.matched)
        return labels + ((),) * len(self.background)

    @cached_property
    def _own(self) -> tuple[str | None, ...]:
        """The name that each column reports for itself; None where that is never reported."""
        names = [self._replaced(label.name) for label in self.matched]
        own = tuple(None if name in self._excluded else self._shown(name) for name in names)
        return own + (None,) * len(self.background)

    @cached_property
    def _ranks(self) -> np.ndarray:
        order = sorted(range(len(self.candidates)), key=lambda column: self.candidates[column])
        ranks = np.empty(len(order), dtype=np.int64)
        ranks[order] = np.arange(len(order))
        return ranks

    @cached_property
    def _thresholds(self) -> np.ndarray:
        """From which score each column counts: NaN where it has no own, infinite where it is never reported."""
        own = [np.nan if label.threshold is None else label.threshold for label in self.matched]
        thresholds = np.array(own + [np.inf] * len(self.background))
        thresholds[[not names for names in self._given]] = np.inf
        return thresholds

    def _general(self, threshold: float | None) -> float:
        if self.threshold is not None:
            threshold = self.threshold
        return -np.inf if threshold is None else threshold

    # --- of each name -----------------------------------------------------------------------------------------------

    @cached_property
    def _forced(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys(name for forced in self.force for name in self._family(forced)))

    @cached_property
    def _families(self) -> Mapping[str, tuple[str, ...]]:
        """What each shown name is reported with, itself first."""
        return {name: self._family(self._by_shown.get(name, name)) for name in self.reported}

    @cached_property
    def _family_sizes(self) -> list[int]:
        """How many names each column reports that has one of its own, the most first."""
        columns = zip(self._given, self._own, strict=True)
        return sorted((len(names) for names, own in columns if own is not None), reverse=True)

    @cached_property
    def _always(self) -> frozenset[str]:
        """Names that do not count as found: those forced, and those that an excluded label implies."""
        columns = zip(self._given, self._own, strict=True)
        return frozenset(self._forced).union(*(names for names, own in columns if own is None))

    @cached_property
    def _replacements(self) -> Mapping[str, str]:
        return dict(self.replace)

    @cached_property
    def _excluded(self) -> frozenset[str]:
        return frozenset(self.exclude)

    @cached_property
    def _by_shown(self) -> Mapping[str, str]:
        return {label.shown: label.name for label in self.labels}

    def _replaced(self, name: str) -> str:
        while name in self._replacements:
            name = self._replacements[name]
        return name

    def _shown(self, name: str) -> str:
        return self.by_name[name].shown if name in self.by_name else name

    def _family(self, name: str) -> tuple[str, ...]:
        """What a name reports: itself to show, then its parents, nearest first; without what is excluded."""
        names = [self._replaced(name)]
        for each in names:  # grows
            for parent in self.by_name[each].parents if each in self.by_name else ():
                if self._replaced(parent) not in names:
                    names.append(self._replaced(parent))
        return tuple(self._shown(each) for each in names if each not in self._excluded)


__all__ = ["Label", "Tag", "Vocabulary"]
