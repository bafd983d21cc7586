"""The YAML file of a training run."""

import os
from pathlib import Path
from typing import Any

from ..model.suggestions import did_you_mean
from ..yaml_options import read_mapping
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
    values = read_mapping(path)
    hints = field_types()
    for key in values:
        if key not in hints:
            raise ValueError(f"{path}: unknown key `{key}`. {did_you_mean(str(key), hints)}")
    checked = {key: coerced(f"{path}: {key}", value, hints[key]) for key, value in values.items()}
    for name in (*LABEL_LISTS, "label_weights"):
        if isinstance(checked.get(name), str) and checked[name] != BALANCED:
            checked[name] = str(path.parent / Path(checked[name]).expanduser())
    return checked


__all__ = ["read_config"]
