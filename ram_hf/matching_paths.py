"""Globs as people write them: where a name holds brackets, these are letters of it. Standard library alone."""

import glob
import os


def matching_paths(pattern: str) -> list[str]:
    """What a glob stands for, sorted; `**` is any number of folders.

    `[` opens a set of letters, as in `[ab].jpg`, but not where a file or folder has it in its name, as in
    `p [2020]/*.jpg`; nor where nothing else matches.
    """
    found = glob.glob(_with_names(pattern), recursive=True)
    return sorted(found or glob.glob(pattern.replace("[", "[[]"), recursive=True))


def _with_names(pattern: str) -> str:
    """The pattern with the brackets of names that exist escaped."""
    head, tail = os.path.split(pattern)
    if head == pattern:  # nothing, or the root
        return pattern
    head = _with_names(head)
    as_name = os.path.join(head, tail.replace("[", "[[]"))
    return as_name if "[" in tail and glob.glob(as_name, recursive=True) else os.path.join(head, tail)


__all__ = ["matching_paths"]
