"""YAML files of `key: value` lines, as the commands take them."""

import os
import re
from pathlib import Path
from typing import Any

import yaml


def read_mapping(path: str | os.PathLike) -> dict[str, Any]:
    """The keys and values of a YAML file.

    Raises:
        FileNotFoundError: when there is no such file.
        ValueError: when it is not a YAML mapping.
    """
    path = Path(path).expanduser()
    if not path.is_file():
        raise FileNotFoundError(f"There is no configuration file {str(path)!r}.")
    try:
        values = yaml.load(path.read_text(encoding="utf-8"), Loader=_Loader)  # a SafeLoader
    except yaml.YAMLError as error:
        raise ValueError(f"{path} is not valid YAML: {error}") from error
    if not isinstance(values, dict):
        raise ValueError(f"{path} must hold `key: value` lines, got {type(values).__name__}.")
    return values


class _Loader(yaml.SafeLoader):
    """Reads 5e-6 as a number, as YAML 1.2 does; PyYAML follows YAML 1.1, where it lacks a dot and is a string."""


_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float", re.compile(r"^[-+]?(\d+\.?\d*|\.\d+)[eE][-+]?\d+$"), list("-+.0123456789")
)


__all__ = ["read_mapping"]
