"""The fields of a vocabulary, as its file says them."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

Place = tuple[str | int, ...]  # the way to a field: ("labels", "dog", "parents", 0)


@dataclass(frozen=True)
class Label:
    """A label of a [`Vocabulary`].

    Args:
        name: what the vocabulary calls it.
        display: what outputs show; the name when None.
        match: names given to the model, of whose features the mean counts; the name when None. Without any, it is
            never looked for, only implied.
        parents: what it implies; their labels, or names that stand for themselves.
        threshold: from which score it is reported, from 0 to 1; that of the vocabulary when None.
    """

    name: str
    display: str | None = None
    match: tuple[str, ...] | None = None
    parents: tuple[str, ...] = ()
    threshold: float | None = None

    @property
    def shown(self) -> str:
        """What outputs show."""
        return self.name if self.display is None else self.display

    @property
    def matched(self) -> tuple[str, ...]:
        """Names given to the model."""
        return (self.name,) if self.match is None else self.match


@dataclass(frozen=True)
class VocabularyFields:
    """What [`Vocabulary`] holds; its arguments are explained there."""

    labels: tuple[Label, ...]
    background: tuple[str, ...] = ()
    exclude: tuple[str, ...] = ()
    replace: tuple[tuple[str, str], ...] = ()
    force: tuple[str, ...] = ()
    threshold: float | None = None
    separator: str = ", "

    @cached_property
    def by_name(self) -> Mapping[str, Label]:
        """The labels by their names."""
        return {label.name: label for label in self.labels}

    @cached_property
    def matched(self) -> tuple[Label, ...]:
        """The labels that are looked for."""
        return tuple(label for label in self.labels if label.matched)


__all__ = ["Label", "Place", "VocabularyFields"]
