"""What a person who made a typo may have meant."""

import difflib
from collections.abc import Iterable

_SHOWN = 10


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """One sentence for the end of an error: the nearest of the known names, or the first of them.

    Args:
        name: what came.
        known: what would be right.

    Returns:
        "Did you mean 'dog'?", or "There are 'cat', 'dog', ..." when none is near.
    """
    known = list(known)
    if nearest := difflib.get_close_matches(name, known, n=1):
        return f"Did you mean {nearest[0]!r}?"
    shown = ", ".join(repr(each) for each in known[:_SHOWN])
    return f"There are {shown}, ..." if len(known) > _SHOWN else f"There are {shown or 'none'}."


__all__ = ["did_you_mean"]
