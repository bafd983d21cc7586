"""Which names are of the Hub, and which of this machine alone."""

import os
import re

_REPO = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*")


def hub_id(name: str | os.PathLike[str] | None) -> str | None:
    """The name where it is of a repository on the Hub ("owner/name"); None for a path, and for no name at all."""
    text = "" if name is None else os.fspath(name)
    return text if _REPO.fullmatch(text) and not os.path.exists(text) else None


__all__ = ["hub_id"]
