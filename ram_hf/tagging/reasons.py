"""What could not be done, and why, at the end of a run."""

from collections.abc import Sequence

from .paths import printable

_SHOWN = 10


def first_reasons(reasons: Sequence[tuple[str, str]]) -> list[str]:
    """A line for each path and what is to say of it; of many the first."""
    lines = [f"  {printable(path)}: {printable(reason)}" for path, reason in reasons[:_SHOWN]]
    if len(reasons) > _SHOWN:
        lines.append(f"  and {len(reasons) - _SHOWN:,} more")
    return lines


__all__ = ["first_reasons"]
