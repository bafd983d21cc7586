"""The YAML file of a training run."""

import os
import re
from pathlib import Path
from typing import Any

import yaml

from ..model.suggestions import did_you_mean
from .arguments import BALANCED, LABEL_LISTS, coerced, field_types


def read_config(path: str | os.PathLike) -> dict[str, Any]:
    """Read the keys that a YAML file sets, with their types checked; label files are resolved against its folder.

    Args:
        path: YAML file whose keys are fields of [`RamTrainingArguments`].

    Raises:
        FileNotFoundError: when the file does not exist.
        TypeError: when a value has the wrong type.
        ValueError: when the file is not a YAML mapping, or a key is unknown.
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
    hints = field_types()
    for key in values:
        if key not in hints:
            raise ValueError(f"{path}: unknown key `{key}`. {did_you_mean(str(key), hints)}")
    checked = {key: coerced(f"{path}: {key}", value, hints[key]) for key, value in values.items()}
    for name in (*LABEL_LISTS, "label_weights"):
        if isinstance(checked.get(name), str) and checked[name] != BALANCED:
            checked[name] = str(path.parent / Path(checked[name]).expanduser())
    return checked


class _Loader(yaml.SafeLoader):
    """Reads 5e-6 as a number, as YAML 1.2 does; PyYAML follows YAML 1.1, where it lacks a dot and is a string."""


_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float", re.compile(r"^[-+]?(\d+\.?\d*|\.\d+)[eE][-+]?\d+$"), list("-+.0123456789")
)


__all__ = ["read_config"]
