"""What contradicts itself in a vocabulary, and where. Standard library alone."""

import difflib
from collections.abc import Collection, Iterator, Mapping, Sequence

from .label_names import as_read
from .vocabulary_fields import Place, VocabularyFields

_NEAR = 0.8  # of two names, for a hint where no name need be known: "holiday" is no typo of "holly"


class VocabularyError(ValueError):
    """A contradiction in a vocabulary.

    Args:
        message: what is wrong, and what would be right.
        place: the way to it: a field, the name or number in it, and so on: `("labels", "dog", "parents", 0)`.
        other: the way to what it contradicts.
    """

    def __init__(self, message: str, place: Place, other: Place | None = None):
        super().__init__(message)
        self.place, self.other = place, other


def refuse_contradictions(vocabulary: VocabularyFields) -> None:
    """Refuse a vocabulary that nobody can mean.

    Raises:
        VocabularyError: at the first contradiction.
    """
    if not vocabulary.labels:
        raise VocabularyError("There is no label.", ("labels",))
    _refuse_blanks(vocabulary)
    _refuse_repeated(vocabulary)
    _refuse_thresholds(vocabulary)
    _refuse_display_names(vocabulary)
    _refuse_circles({label.name: label.parents for label in vocabulary.labels}, "implies itself", "labels")
    _refuse_circles({old: (new,) for old, new in vocabulary.replace}, "is replaced by itself", "replace")
    _refuse_never_reported(vocabulary)
    if not vocabulary.matched:
        raise VocabularyError("No label has a name to match: nothing is looked for.", ("labels",))


def names_without_effect(vocabulary: VocabularyFields) -> Iterator[VocabularyError]:
    """Names that are written and change nothing, which may be typos: to tell, not to refuse."""
    parents = [parent for label in vocabulary.labels for parent in label.parents]
    targets = [new for _, new in vocabulary.replace]
    known = {*vocabulary.by_name, *parents, *vocabulary.background}
    unknown: list[tuple[str, Place]] = [
        (name, ("exclude", index))
        for index, name in enumerate(vocabulary.exclude)
        if name not in known and name not in targets
    ]
    unknown += [(old, ("replace", old)) for old, _ in vocabulary.replace if old not in known]
    for name, place in unknown:
        yield VocabularyError(f"{name!r} is no label and no parent: it changes nothing.{_hint(name, known)}", place)
    for index, name in enumerate(vocabulary.force):
        hint = "" if name in known or name in targets else _hint(name, known)
        if hint:
            yield VocabularyError(f"{name!r} is no label: it is forced as it stands.{hint}", ("force", index))


def _hint(name: str, known: Collection[str]) -> str:
    near = difflib.get_close_matches(name, known, n=1, cutoff=_NEAR)
    return f" Did you mean {near[0]!r}?" if near else ""


def _named(vocabulary: VocabularyFields) -> Iterator[tuple[str, Place]]:
    """Every name but those of labels themselves, with its place."""
    for label in vocabulary.labels:
        if label.display is not None:
            yield label.display, ("labels", label.name, "display")
        for index, name in enumerate(label.match or ()):
            yield name, ("labels", label.name, "match", index)
        for index, name in enumerate(label.parents):
            yield name, ("labels", label.name, "parents", index)
    for field in ("background", "exclude", "force"):
        for index, name in enumerate(getattr(vocabulary, field)):
            yield name, (field, index)
    for old, new in vocabulary.replace:
        yield old, ("replace", old)
        yield new, ("replace", old, "by")


def _refuse_blanks(vocabulary: VocabularyFields) -> None:
    own = ((label.name, ("labels", label.name)) for label in vocabulary.labels)
    for name, place in (*own, *_named(vocabulary)):
        if not name.strip():
            raise VocabularyError(f"A name is empty: {name!r}.", place)
    if not vocabulary.separator:
        raise VocabularyError("The separator is empty.", ("separator",))


def _refuse_repeated(vocabulary: VocabularyFields) -> None:
    _refuse_twice([(label.name, ("labels", label.name)) for label in vocabulary.labels], "The label {!r} comes twice.")
    _refuse_twice([(old, ("replace", old)) for old, _ in vocabulary.replace], "{!r} is replaced twice.")
    for field in ("background", "exclude", "force"):
        named = [(name, (field, index)) for index, name in enumerate(getattr(vocabulary, field))]
        _refuse_twice(named, f"{{!r}} comes twice in `{field}`.")
    for label in vocabulary.labels:
        parents = [(name, ("labels", label.name, "parents", index)) for index, name in enumerate(label.parents)]
        _refuse_twice(parents, f"{{!r}} comes twice among the parents of {label.name!r}.")
    _refuse_matched_twice(vocabulary)


def _refuse_twice(named: Sequence[tuple[str, Place]], message: str) -> None:
    first: dict[str, Place] = {}
    for name, place in named:
        if name in first:
            raise VocabularyError(message.format(name), place, first[name])
        first[name] = place


def _refuse_matched_twice(vocabulary: VocabularyFields) -> None:
    """Names that are one to the model would share a score, and halve it."""
    matched: list[tuple[str, Place]] = []
    for label in vocabulary.labels:
        for index, name in enumerate(label.matched):
            own = ("labels", label.name)
            matched.append((name, own if label.match is None else (*own, "match", index)))
    matched += [(name, ("background", index)) for index, name in enumerate(vocabulary.background)]
    first: dict[str, tuple[str, Place]] = {}
    for name, place in matched:
        earlier, there = first.setdefault(as_read(name), (name, place))
        if there != place:
            same = "twice" if earlier == name else f"as {earlier!r}, which is one to it,"
            raise VocabularyError(f"The model is given {name!r} {same} already; keep one of them.", place, there)


def _refuse_thresholds(vocabulary: VocabularyFields) -> None:
    thresholds: list[tuple[float | None, Place]] = [(vocabulary.threshold, ("threshold",))]
    for label in vocabulary.labels:
        place = ("labels", label.name, "threshold")
        thresholds.append((label.threshold, place))
        if label.threshold is not None and not label.matched:
            raise VocabularyError(f"{label.name!r} has nothing to match, so that it takes no threshold.", place)
    for threshold, where in thresholds:
        if threshold is not None and not 0 <= threshold <= 1:
            raise VocabularyError(f"A threshold is a number from 0 to 1, got {threshold}.", where)


def _refuse_display_names(vocabulary: VocabularyFields) -> None:
    """Two labels under one name, and names to show where the name of the label is wanted."""
    shown: dict[str, tuple[str, Place]] = {}
    place: Place
    for label in vocabulary.labels:
        place = ("labels", label.name) if label.display is None else ("labels", label.name, "display")
        name, there = shown.setdefault(label.shown, (label.name, place))
        if there != place:
            raise VocabularyError(
                f"{name!r} and {label.name!r} are both shown as {label.shown!r}; make them names to `match` of one "
                "label, or `replace` one by the other.",
                place,
                there,
            )
    for name, where in _named(vocabulary):
        if name in shown and name not in vocabulary.by_name and where[2:3] not in (("display",), ("match",)):
            own, there = shown[name]
            raise VocabularyError(f"{name!r} is what is shown of the label {own!r}; write {own!r} here.", where, there)


def _refuse_never_reported(vocabulary: VocabularyFields) -> None:
    background = {name: ("background", index) for index, name in enumerate(vocabulary.background)}
    excluded = {name: ("exclude", index) for index, name in enumerate(vocabulary.exclude)}
    for label in vocabulary.labels:
        if label.name in background:
            message = f"{label.name!r} is a label too; background is never reported."
            raise VocabularyError(message, background[label.name], ("labels", label.name))
    for name, place in _named(vocabulary):
        is_reported = place[0] in ("force", "replace") or place[2:3] == ("parents",)
        if is_reported and name in background:
            raise VocabularyError(f"{name!r} is background, which is never reported.", place, background[name])

    replacements = dict(vocabulary.replace)
    for index, name in enumerate(vocabulary.force):
        reported = name
        while reported in replacements:
            reported = replacements[reported]
        if reported in excluded:
            told = repr(name) if name == reported else f"{name!r}, reported as {reported!r},"
            raise VocabularyError(f"{told} is forced and excluded.", ("force", index), excluded[reported])


def _refuse_circles(next_ones: Mapping[str, tuple[str, ...]], what: str, field: str) -> None:
    """Depth first, without recursion: chains may be long."""
    done: set[str] = set()
    for start in next_ones:
        path, stack = [start], [iter(next_ones[start])]
        while stack and start not in done:
            following = next(stack[-1], None)
            if following is None:
                done.add(path.pop())
                stack.pop()
            elif following in path:
                circle = " > ".join(map(repr, [*path[path.index(following) :], following]))
                raise VocabularyError(f"{following!r} {what}: {circle}.", (field, following))
            elif following not in done and following in next_ones:
                path.append(following)
                stack.append(iter(next_ones[following]))


__all__ = ["VocabularyError", "names_without_effect", "refuse_contradictions"]
