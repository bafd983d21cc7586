"""Models that come with the package, by their names; which one is taken where none is named."""

import os
from pathlib import Path
from typing import TypeVar

DEFAULT_MODEL = "ram-photo"

_FOLDER = Path(__file__).parents[1] / "bundled"  # not there where this file travels without the package

_Name = TypeVar("_Name", bound=str | os.PathLike[str] | None)


def find_bundled(name_or_path: _Name) -> _Name | str:
    """Folder of the model that the package brings under a name, such as "ram-photo"; anything else as it came.

    A folder of that name in the working directory goes first, as with every name that `from_pretrained` takes.
    """
    if isinstance(name_or_path, str) and not os.path.exists(name_or_path) and _is_name(name_or_path):
        folder = _FOLDER / name_or_path
        if (folder / "config.json").is_file():
            return str(folder)
    return name_or_path


def _is_name(text: str) -> bool:
    return Path(text).name == text


__all__ = ["DEFAULT_MODEL", "find_bundled"]
