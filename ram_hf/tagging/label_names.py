"""Names of labels as people write them, and as a model reads them. Standard library alone."""

import unicodedata


def as_written(label: str) -> str:
    """A label with every kind of space as a space, its letters composed; joiners stay: words and emoji need them.

    Raises:
        ValueError: when it holds a control character, or ends a line.
    """
    text = "".join(" " if char == "\t" or unicodedata.category(char) == "Zs" else char for char in label)
    for char in text:
        # What XML cannot hold, what ends a line, and bytes of no Unicode.
        if unicodedata.category(char) in ("Cc", "Zl", "Zp", "Cs") or ord(char) & 0xFFFE == 0xFFFE:
            raise ValueError(f"A label holds a control character, {char!r}: {label!r}.")
    return unicodedata.normalize("NFC", text).strip()


def as_read(label: str) -> str:
    """What CLIP's tokenizer makes of a label, small letters and one space: where equal, labels are one to it."""
    return " ".join(label.lower().split())


__all__ = ["as_read", "as_written"]
