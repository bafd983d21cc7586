"""Names of the labels, split into those seen in training and those that are not."""

import logging
import os
import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from ..model.suggestions import did_you_mean
from ..text_files import decode_text

logger = logging.getLogger(__name__)

LabelList = Sequence[str] | str | os.PathLike


@dataclass(frozen=True)
class LabelSet:
    """The candidate labels of an experiment.

    Args:
        seen: names that training uses, in the order of the model's columns.
        unseen: names that only evaluation uses; may be empty, as may `seen` where nothing is trained.

    Raises:
        ValueError: when there is no label at all, a name is blank, comes twice, or is both seen and unseen.

    Example:
        >>> labels = LabelSet(seen=("dog", "cat"), unseen=("zebra",))
        >>> labels.names
        ('dog', 'cat', 'zebra')
        >>> labels.index("zebra")
        2
    """

    seen: tuple[str, ...]
    unseen: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if not self.names:
            raise ValueError("A label set needs at least one label; `seen` and `unseen` are both empty.")
        if any(not name.strip() for name in self.names):
            raise ValueError(f"A label is blank: {next(name for name in self.names if not name.strip())!r}.")
        for field, names in (("seen", self.seen), ("unseen", self.unseen)):
            if repeated := [name for name, count in Counter(names).items() if count > 1]:
                raise ValueError(f"`{field}` names these labels more than once: {_quoted(repeated)}.")
        if both := [name for name in self.unseen if name in set(self.seen)]:
            raise ValueError(f"These labels are in `seen` and in `unseen`: {_quoted(both)}.")

    @classmethod
    def from_options(cls, seen: LabelList, unseen: LabelList = ()) -> "LabelSet":
        """Build a label set from lists of names or from text files (see [`read_label_list`]).

        Labels that are one to the model are told: where one of them is right, the other one ranks as high.
        """
        labels = cls(tuple(read_label_list(seen)), tuple(read_label_list(unseen)))
        for first, second in one_to_the_model(labels.names):
            logger.warning("The labels %r and %r are one to the model: take one of them.", first, second)
        return labels

    @property
    def names(self) -> tuple[str, ...]:
        """All names, the seen ones first: the order of columns when seen and unseen labels are ranked together."""
        return self.seen + self.unseen

    def __len__(self) -> int:
        return len(self.seen) + len(self.unseen)

    def index(self, name: str) -> int:
        """Column of a label in `names`.

        Raises:
            ValueError: when there is no such label; the message has the nearest one.
        """
        try:
            return self._columns[name]
        except KeyError:
            hint = did_you_mean(name, self.names)
            raise ValueError(f"There is no label {name!r} among the {len(self)} labels. {hint}") from None

    @cached_property
    def _columns(self) -> dict[str, int]:
        return {name: column for column, name in enumerate(self.names)}


def read_label_list(value: LabelList) -> list[str]:
    """Read label names from a list of names or from a text file.

    Args:
        value: list of names; or path of a text file with one name a line, where blank lines and lines that begin
            with `#` are skipped.

    Raises:
        FileNotFoundError: when there is no such file.
        TypeError: when an entry is not a string.
        ValueError: when the file holds no label, or is in no encoding that can be told.
    """
    if not isinstance(value, str | os.PathLike):
        names = list(value)
        if wrong := [name for name in names if not isinstance(name, str)]:
            raise TypeError(f"A label must be a string, got {wrong[0]!r} of type {type(wrong[0]).__name__}.")
        return names
    path = Path(value).expanduser()
    if not path.is_file():
        raise FileNotFoundError(f"There is no label file {str(path)!r}; give a list for the names themselves.")
    name = f"The label file {str(path)!r}"
    return label_lines(decode_text(path.read_bytes(), name), name)


def label_lines(text: str, name: str) -> list[str]:
    """Label names of a text with one a line, without blank lines and those that begin with `#`.

    Raises:
        ValueError: when there is none; `name` is what the message calls the text.
    """
    names = [line.strip() for line in text.splitlines() if line.strip() and not line.strip().startswith("#")]
    if not names:
        raise ValueError(f"{name} holds no label.")
    return names


def one_to_the_model(names: Iterable[str]) -> list[tuple[str, str]]:
    """Labels with the earlier one that CLIP's tokenizer makes the same of: it knows small letters and one space."""
    first: dict[str, str] = {}
    pairs = [(first.setdefault(" ".join(name.lower().split()), name), name) for name in names]
    return [(earlier, name) for earlier, name in pairs if earlier != name]


def plain_name(name: str) -> str:
    """A name without what people write in many ways: case, blanks, hyphens, underscores, and `&` or `and`."""
    return re.sub(r"[\s_-]+", "", name.casefold().replace("&", "and")) or name


def _quoted(names: Iterable[str]) -> str:
    return ", ".join(repr(name) for name in names)


__all__ = ["LabelList", "LabelSet", "label_lines", "one_to_the_model", "plain_name", "read_label_list"]
