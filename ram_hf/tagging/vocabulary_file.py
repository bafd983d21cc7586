"""Vocabularies as people write them: YAML, each mistake told with its line; see docs/vocabulary.md.

Scalars are read as the text that they are: `no`, `2024` and `1.0` are names like any other.
"""

import itertools
import math
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import yaml

from ..model.suggestions import did_you_mean
from .label_names import as_written
from .vocabulary import Vocabulary
from .vocabulary_checks import VocabularyError, names_without_effect
from .vocabulary_fields import Label, Place

_NULL, _MERGE, _YAML = "tag:yaml.org,2002:null", "tag:yaml.org,2002:merge", "tag:yaml.org,2002:"
_MOST_NOTES = 10
_DEEPEST = 8  # levels of lists and fields; four are used
_Loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)  # ten times as fast, where PyYAML was built with it
_BELOW = "What belongs to one list stands exactly below one another."
_IN_QUOTES = 'A name that begins with a special character, or holds ": " or " #", goes in quotes.'


class ReadVocabulary(NamedTuple):
    """A vocabulary, and what is odd about its file, a line each."""

    vocabulary: Vocabulary
    notes: list[str]


def parse_vocabulary(text: str, name: str) -> ReadVocabulary:
    """Read a vocabulary.

    Args:
        text: YAML.
        name: of its file, for messages, which begin with `NAME:LINE: `.

    Raises:
        ValueError: when it is no YAML, a field is unknown, comes twice or is of the wrong type, or fields contradict
            each other.
    """
    reader = _Reader(name)
    root = reader.compose(text)
    try:
        vocabulary = reader.read(root)
    except VocabularyError as error:
        raise ValueError(reader.told(error)) from None
    notes = itertools.islice(names_without_effect(vocabulary), _MOST_NOTES)
    return ReadVocabulary(vocabulary, [reader.told(note) for note in notes])


class _Reader:
    """Nodes of a YAML file to fields, remembering the line of each."""

    def __init__(self, name: str):
        self._name = name
        self._lines: dict[Place, int] = {}

    def compose(self, text: str) -> yaml.Node:
        for number, row in enumerate(text.splitlines(), start=1):
            if "\t" in row[: len(row) - len(row.lstrip())]:
                raise ValueError(f"{self._name}:{number}: A tab stands before the text; YAML is indented with spaces.")
        try:
            self._refuse_depth(text)
            root = yaml.compose(text, Loader=_Loader)
        except yaml.MarkedYAMLError as error:
            raise ValueError(f"{self._name}:{_told(error)} {_BELOW} {_IN_QUOTES}") from None
        except yaml.reader.ReaderError as error:
            line = text.count("\n", 0, error.position) + 1
            raise ValueError(f"{self._name}:{line}: YAML holds no such character: {error.reason}.") from None
        if root is None:
            raise ValueError(f"{self._name} holds no label; write `labels:` and below it a name a line, as `  - dog`.")
        return root

    def _refuse_depth(self, text: str) -> None:
        """Refuse lists in lists without end, on which the loader would break down."""
        depth = 0
        for event in yaml.parse(text, Loader=_Loader):
            depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
            if depth > _DEEPEST:
                raise self._error(event, "A vocabulary has no lists in lists.")

    def told(self, error: VocabularyError) -> str:
        """A contradiction with the lines that it is in."""
        other = "" if error.other is None else f" (See line {self._line_of(error.other)}.)"
        return f"{self._name}:{self._line_of(error.place)}: {error}{other}"

    def read(self, root: yaml.Node) -> Vocabulary:
        readers: dict[str, Callable[[yaml.Node, Place], Any]] = {
            "labels": self._labels,
            "background": self._names,
            "exclude": self._names,
            "replace": self._replacements,
            "force": self._names,
            "threshold": self._threshold,
            "separator": self._separator,
        }
        fields = self._fields(root, (), readers, "a vocabulary")
        if "labels" not in fields:
            raise self._error(root, "There is no `labels`; write them as `labels: [dog, red car]`.")
        return Vocabulary(**fields)

    def _labels(self, node: yaml.Node, place: Place) -> tuple[Label, ...]:
        if isinstance(node, yaml.MappingNode):
            return tuple(self._label(*pair, place) for pair in self._pairs(node, place, "The label {!r} comes twice"))
        if isinstance(node, yaml.SequenceNode):
            return tuple(self._bare_label(item, place) for item in node.value)
        raise self._error(node, "`labels` takes a list, `labels: [dog, red car]`, or a name a line with its fields.")

    def _bare_label(self, node: yaml.Node, place: Place) -> Label:
        if isinstance(node, yaml.MappingNode):
            raise self._error(node, f"In a list are names alone; fields go below `dog:` without a dash. {_IN_QUOTES}")
        name = self._name_in(node)
        self._remember(node, (*place, name), f"The label {name!r} comes twice")
        return Label(name)

    def _label(self, name: str, node: yaml.Node, place: Place) -> Label:
        if isinstance(node, yaml.ScalarNode) and node.tag == _NULL:
            return Label(name)
        readers: dict[str, Callable[[yaml.Node, Place], Any]] = {
            "display": lambda node, _: self._name_in(node),
            "match": self._names,
            "parents": self._names,
            "threshold": self._threshold,
        }
        return Label(name, **self._fields(node, (*place, name), readers, f"the label {name!r}"))

    def _fields(
        self, node: yaml.Node, place: Place, readers: Mapping[str, Callable[[yaml.Node, Place], Any]], what: str
    ) -> dict[str, Any]:
        if not isinstance(node, yaml.MappingNode):
            raise self._error(node, f"{what[:1].upper()}{what[1:]} takes fields: {', '.join(readers)}. {_IN_QUOTES}")
        fields = {}
        for key, value in self._pairs(node, place, "`{}` comes twice"):
            if key not in readers:
                message = f"{what[:1].upper()}{what[1:]} has no field {key!r}. {did_you_mean(key, readers)}"
                raise VocabularyError(message, (*place, key))
            fields[key] = readers[key](value, (*place, key))
        return fields

    def _pairs(self, node: yaml.MappingNode, place: Place, twice: str) -> list[tuple[str, yaml.Node]]:
        """Keys and values; YAML's own loader keeps the last of two equal keys without a word."""
        pairs = []
        for key_node, value in node.value:
            if key_node.tag == _MERGE:
                raise self._error(key_node, "`<<` is not read here; write the fields out.")
            key = self._name_in(key_node)
            self._remember(key_node, (*place, key), twice.format(key))
            pairs.append((key, value))
        return pairs

    def _names(self, node: yaml.Node, place: Place) -> tuple[str, ...]:
        if not isinstance(node, yaml.SequenceNode):
            field, came = place[-1], node.value if isinstance(node, yaml.ScalarNode) else "red car"
            raise self._error(node, f"`{field}` takes a list of names: `{field}: [{came or 'red car'}]`.")
        for index, item in enumerate(node.value):
            self._remember(item, (*place, index))
        return tuple(self._name_in(item) for item in node.value)

    def _replacements(self, node: yaml.Node, place: Place) -> tuple[tuple[str, str], ...]:
        if not isinstance(node, yaml.MappingNode):
            raise self._error(node, "`replace` takes pairs, what is replaced first: `replace: {puppy: dog}`.")
        pairs = self._pairs(node, place, "{!r} is replaced twice")
        return tuple((old, self._name_in(new)) for old, new in pairs)

    def _threshold(self, node: yaml.Node, _: Place) -> float:
        text = self._scalar(node, "A threshold is a number")
        try:
            value = float(text)
        except ValueError:
            value = math.nan
        if not 0 <= value <= 1:
            raise self._error(node, f"A threshold is a number from 0 to 1, got {text!r}.")
        return value

    def _separator(self, node: yaml.Node, _: Place) -> str:
        text = self._scalar(node, "The separator is text")
        if not text or any(char in text for char in "\r\n"):
            raise self._error(node, f'The separator is text within a line, in quotes, as ", "; got {text!r}.')
        return text

    def _name_in(self, node: yaml.Node) -> str:
        text = self._scalar(node, "A name is text")
        try:
            name = as_written(text)
        except ValueError as error:
            raise self._error(node, str(error)) from None
        if not name:
            raise self._error(node, "A name is empty.")
        if node.tag == _NULL:
            raise self._error(node, f"{name!r} is YAML's word for nothing; a name of these letters goes in quotes.")
        return name

    def _scalar(self, node: yaml.Node, what: str) -> str:
        if not isinstance(node, yaml.ScalarNode):
            came = "a list" if isinstance(node, yaml.SequenceNode) else "fields"
            raise self._error(node, f"{what}, got {came}. {_IN_QUOTES}")
        if not node.tag.startswith(_YAML):
            raise self._error(node, f"Tags as {node.tag!r} are not read here. {_IN_QUOTES}")
        return str(node.value)

    def _remember(self, node: yaml.Node, place: Place, twice: str = "") -> None:
        if place in self._lines:
            raise self._error(node, f"{twice}. (See line {self._lines[place]}.)")
        self._lines[place] = _line(node.start_mark)

    def _error(self, node: yaml.Node | yaml.Event, message: str) -> ValueError:
        return ValueError(f"{self._name}:{_line(node.start_mark)}: {message}")

    def _line_of(self, place: Place) -> int:
        """The line of a place, or of the nearest one that has any."""
        while place and place not in self._lines:
            place = place[:-1]
        return self._lines.get(place, 1)


def _told(error: yaml.MarkedYAMLError) -> str:
    """The line of what cannot be read, why, and where that begins: what is never closed ends far below."""
    line, begin = (_line(mark) if mark else 1 for mark in (error.problem_mark, error.context_mark))
    problem = " ".join(str(error.problem or error.context).split())
    where = f", in what begins in line {begin}" if error.context_mark and begin != line else ""
    return f"{line}: This is no YAML: {problem}{where}."


def _line(mark: Any) -> int:
    return int(mark.line) + 1


__all__ = ["ReadVocabulary", "parse_vocabulary"]
