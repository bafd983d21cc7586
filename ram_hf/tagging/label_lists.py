"""The labels of a command line: names with commas between, a text with one a line, or a vocabulary in YAML."""

from pathlib import Path
from typing import BinaryIO

from ..data.label_set import label_lines, read_label_list
from ..option_types import refuse_files_among_labels
from ..text_files import decode_text, read_text
from .label_names import as_read, as_written
from .vocabulary import Vocabulary
from .vocabulary_file import ReadVocabulary, parse_vocabulary

_YAML_ENDINGS = (".yaml", ".yml")


def read_vocabulary(names: str | None, file: Path | None, *, stdin: BinaryIO | None = None) -> ReadVocabulary:
    """The vocabulary of label names with commas between them, or else of a file.

    Of plain names each counts once. Those that differ in capitals and spaces alone are one to the model: the first is
    kept, with a note of it.

    Args:
        names: label names with commas between them.
        file: where they are, when `names` is None: see [`parse_vocabulary`] for `.yaml`, else one a line; `-` is
            standard input.
        stdin: standard input.

    Raises:
        FileNotFoundError: when there is no such file.
        ValueError: when there is no label, one holds what no label can, or a vocabulary has a mistake.
    """
    if names is None and file is not None and file.suffix.lower() in _YAML_ENDINGS:
        if not file.is_file():
            raise FileNotFoundError(f"There is no label file {str(file)!r}.")
        return parse_vocabulary(read_text(file), str(file))
    labels, notes = _merged([as_written(label) for label in _plain_names(names, file, stdin)])
    return ReadVocabulary(Vocabulary.of(labels), notes)


def _plain_names(names: str | None, file: Path | None, stdin: BinaryIO | None) -> list[str]:
    if names is None:
        if file == Path("-"):
            return label_lines(decode_text(stdin.read() if stdin else b"", "Standard input"), "Standard input")
        return read_label_list(file)  # type: ignore[arg-type]  # one of the two is given
    labels = [name.strip() for name in names.split(",")]
    labels = [label for label in labels if label]
    if not labels:
        raise ValueError(f"There is no label in `--labels {names!r}`; write for example --labels 'dog, red car'.")
    refuse_files_among_labels(labels, "--labels-file {}")
    return labels


def _merged(labels: list[str]) -> tuple[list[str], list[str]]:
    """The first of labels that are one to the tokenizer, where two would share its score; and a note of each other."""
    first: dict[str, str] = {}
    notes = []
    for label in labels:
        kept = first.setdefault(as_read(label), label)
        if kept != label:
            notes.append(f"The label {label!r} is {kept!r} to the model: they are one.")
    return list(first.values()), notes


__all__ = ["read_vocabulary"]
