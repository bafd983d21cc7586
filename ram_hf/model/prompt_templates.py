"""Sentences that label names are put into: one, several whose features are averaged, or a set by its name."""

import re
from typing import Any

from .prompt_sets import PROMPT_SETS
from .suggestions import did_you_mean

_PLACE = re.compile(r"\{(?:label)?\}")  # of the label
_SHOWN = 120  # characters of a stranger's text in an error


def read_templates(given: Any, *, subject: str = "`label_template`") -> tuple[str, ...]:
    """The sentences that somebody asks for, each once.

    Args:
        given: a sentence with `{label}` or `{}` in the place of the name, the name of a set ("photo", "openai-7",
            "openai-80"), or a list of such. A sentence is no format string: whatever else stands in braces is refused.
        subject: what errors call it.

    Raises:
        ValueError: when there is none, or one is neither a sentence with a place for the label nor a set.
    """
    if isinstance(given, list | tuple) and not given:
        raise ValueError(f"{subject} must hold at least one sentence with {{label}}, got none.".lstrip())
    sentences: list[str] = []
    for each in given if isinstance(given, list | tuple) else [given]:
        if isinstance(each, str) and each in PROMPT_SETS:
            sentences += PROMPT_SETS[each]
        elif isinstance(each, str) and _is_sentence(each):
            sentences.append(each)
        else:
            raise ValueError(
                f"{subject} must be a sentence with {{label}} where the name belongs, and no other braces, the name "
                f"of a set, or a list of these; got {shortened(each)}.{_meant(each)}".lstrip()
            )
    return tuple(dict.fromkeys(sentences))


def fill(template: str, name: str) -> str:
    """The sentence with a label's name in each of its places."""
    return _PLACE.sub(lambda _: name, template)


def shortened(value: Any) -> str:
    """What somebody gave, as an error may show it."""
    text = repr(value)
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}..."


def _is_sentence(text: str) -> bool:
    pieces = _PLACE.split(text)
    return len(pieces) > 1 and not any(brace in piece for piece in pieces for brace in "{}")


def _meant(given: Any) -> str:
    """Which set may be meant by what holds no place for a label."""
    if not isinstance(given, str) or "{" in given:
        return ""
    return f" {did_you_mean(given[:_SHOWN], PROMPT_SETS)}"


__all__ = ["fill", "read_templates", "shortened"]
