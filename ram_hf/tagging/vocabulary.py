"""The label list of a command line."""

from pathlib import Path

from ..data.label_set import read_label_list


def read_labels(names: str | None, file: Path | None) -> list[str]:
    """Label names from a text with commas between, or else from a file of one a line, each once, in order.

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
        try:
            labels = read_label_list(file)  # type: ignore[arg-type]  # one of the two is given
        except UnicodeDecodeError as error:
            raise ValueError(f"The label file {str(file)!r} is not text in UTF-8: {error}.") from None
    for label in labels:
        if not label.isprintable():  # among them control characters, which XML cannot hold, and bytes of no Unicode
            raise ValueError(f"A label holds a character that cannot be printed: {label!r}.")
    return list(dict.fromkeys(labels))


__all__ = ["read_labels"]
