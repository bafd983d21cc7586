"""Which names are of the Hub, and which of this machine alone."""

import os
import re

_REPO = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*")
_WITH_REVISION = re.compile(r"(?P<name>[\w.-]+(?:/[\w.-]+)?)@(?P<revision>.+)")
_PAGE = re.compile(r"(?:https?://)?(?:www\.)?(?:huggingface\.co|hf\.co)/(?:models/|datasets/)?")


def hub_id(name: str | os.PathLike[str] | None) -> str | None:
    """The name where it is of a repository on the Hub ("owner/name"); None for a path, and for no name at all."""
    text = "" if name is None else os.fspath(name)
    return text if _REPO.fullmatch(text) and not os.path.exists(text) else None


def split_revision(
    name_or_path: str | os.PathLike[str], revision: str | None
) -> tuple[str | os.PathLike[str], str | None]:
    """Name and revision of "owner/name@revision"; a path, and a name without one, as they came.

    Raises:
        ValueError: when `revision` is another.
    """
    if not isinstance(name_or_path, str) or os.path.exists(name_or_path):
        return name_or_path, revision
    found = _WITH_REVISION.fullmatch(name_or_path)
    if found is None:
        return name_or_path, revision
    if revision not in (None, found["revision"]):
        raise ValueError(f"{name_or_path!r} names a revision, and so does `revision`: {revision!r}.")
    return found["name"], found["revision"]


def intended_id(text: str) -> str | None:
    """The "owner/name" in what cannot be one: the address of a page, slashes or spaces too many; None without any."""
    page = _PAGE.match(text.strip())
    if page is None and text.startswith((".", "~", os.sep)):
        return None  # a path
    parts = text.strip()[page.end() if page else 0 :].strip("/ ").split("/")
    name = "/".join("-".join(part.split()) for part in (parts[:2] if page else parts))
    return name if _REPO.fullmatch(name) and name != text else None


__all__ = ["hub_id", "intended_id", "split_revision"]
