"""The label list of a command line."""

import sys
import unicodedata
from pathlib import Path

from ..data.label_set import read_label_list


def read_labels(names: str | None, file: Path | None) -> list[str]:
    """Label names from a text with commas between, or else from a file of one a line, each once, in order.

    Labels that differ in capitals and spaces alone are one to the model: the first is kept, with a word of it.

    Raises:
        FileNotFoundError: when there is no such file.
        ValueError: when there is no label, or one holds what no label can.
    """
    if names is not None:
        labels = [name.strip() for name in names.split(",")]
        labels = [label for label in labels if label]
        if not labels:
            raise ValueError(f"There is no label in `--labels {names!r}`; write for example --labels 'dog, red car'.")
    else:
        labels = read_label_list(file)  # type: ignore[arg-type]  # one of the two is given
    return _merged([_as_written(label) for label in labels])


def _as_written(label: str) -> str:
    """A label with every kind of space as a space, its letters composed; joiners stay: words and emoji need them."""
    text = "".join(" " if char == "\t" or unicodedata.category(char) == "Zs" else char for char in label)
    for char in text:
        # What XML cannot hold, what ends a line, and bytes of no Unicode.
        if unicodedata.category(char) in ("Cc", "Zl", "Zp", "Cs") or ord(char) & 0xFFFE == 0xFFFE:
            raise ValueError(f"A label holds a control character, {char!r}: {label!r}.")
    return unicodedata.normalize("NFC", text).strip()


def _merged(labels: list[str]) -> list[str]:
    """Keep the first of labels that are one to the tokenizer: small letters, one space; two would share its score."""
    first: dict[str, str] = {}
    for label in labels:
        kept = first.setdefault(" ".join(label.lower().split()), label)
        if kept != label:
            sys.stderr.write(f"The label {label!r} is {kept!r} to the model: they are one.\n")
    return list(first.values())


__all__ = ["read_labels"]
