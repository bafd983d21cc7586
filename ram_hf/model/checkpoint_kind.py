"""RAM or CLIP: what a configuration, or the checkpoint of a name, is of."""

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from transformers import CLIPModel, PreTrainedConfig
from transformers.utils import cached_file
from transformers.utils.hub import extract_commit_hash

from .bundled import find_bundled
from .configuration_ram import RamConfig
from .hub_names import intended_id
from .loaded_weights import load_and_remember, refuse_incomplete

_HUB_OPTIONS = ("revision", "subfolder", "token", "cache_dir", "local_files_only", "force_download", "proxies")


def kind_of(config: PreTrainedConfig | Mapping[str, Any] | None) -> Literal["ram", "clip"] | None:
    """Which of the two models a configuration describes; None for any other.

    By the name of its type and not by its class: beside a checkpoint's own code each of our classes exists twice.
    """
    model_type = config.get("model_type") if isinstance(config, Mapping) else getattr(config, "model_type", None)
    if model_type == RamConfig.model_type:
        return "ram"
    return "clip" if model_type == "clip" else None


def kind_of_checkpoint(name_or_path: str | os.PathLike[str], **options: Any) -> Literal["ram", "clip"]:
    """Which of the two models lies under a name; `options` are those of `from_pretrained`.

    Raises:
        FileNotFoundError: when a path that can only be local does not exist.
        ValueError: when it is neither, or its `config.json` cannot be read.
    """
    refuse_missing_folder(name_or_path)
    if os.path.isfile(name_or_path):
        raise ValueError(f"{os.fspath(name_or_path)!r} is a file: name the folder, with weights and `config.json`.")
    name_or_path = find_bundled(name_or_path)
    options = {**hub_options(options), "_raise_exceptions_for_missing_entries": not os.path.isdir(name_or_path)}
    file = cached_file(name_or_path, "config.json", **options)
    content = {} if file is None else read_json_object(file)
    kind = kind_of(content)
    if kind is None:
        name, model_type = os.fspath(name_or_path), content.get("model_type")
        if model_type is None:
            raise ValueError(f"{name!r} holds no `config.json` that names its model type.")
        raise ValueError(f"{name!r} is a {model_type!r} checkpoint, neither a RAM nor a CLIP with a ViT tower.")
    return kind


def load_clip(name_or_path: str | os.PathLike[str], **options: Any) -> tuple[CLIPModel, str | None]:
    """Load a CLIP with its revision, which is the commit itself where it comes from the Hub.

    Raises:
        FileNotFoundError: when a path that can only be local does not exist.
        ValueError: when it is no CLIP, or its weights are incomplete or do not fit its configuration.
    """
    if kind_of_checkpoint(name_or_path, **options) == "ram":
        raise ValueError(f"{os.fspath(name_or_path)!r} is a RAM model already: load it with `from_pretrained`.")
    clip, _ = load_and_remember(CLIPModel.from_pretrained, name_or_path, **options)
    refuse_incomplete(clip, name_or_path)
    commit = extract_commit_hash(cached_file(name_or_path, "config.json", **hub_options(options)), None)
    return clip, commit or options.get("revision")


def refuse_missing_folder(name_or_path: str | os.PathLike[str] | None) -> None:
    """Say that a folder does not exist, where the Hub client would speak of repository names and connections."""
    if name_or_path is None or os.path.exists(name_or_path):
        return
    text = os.fspath(name_or_path)
    looks_local = text.startswith((".", "~", os.sep)) or text.count("/") > 1 or isinstance(name_or_path, os.PathLike)
    if looks_local:
        hint = f" Did you mean {intended!r}, on the Hub?" if (intended := intended_id(text)) else ""
        raise FileNotFoundError(f"There is no folder {text!r}.{hint}")


def read_json_object(file: str | os.PathLike[str]) -> dict[str, Any]:
    """Read a JSON file that holds one object, as configurations do.

    Raises:
        ValueError: when it cannot be read, is no JSON in UTF-8, or holds something else.
    """
    try:
        content = json.loads(Path(file).read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        reason = " ".join(str(error).split())
        raise ValueError(
            f"{os.fspath(file)!r} cannot be read as JSON in UTF-8 ({reason}): it is damaged or cut short. "
            "Get the file again."
        ) from error
    if not isinstance(content, dict):
        raise ValueError(f"{os.fspath(file)!r} holds a {type(content).__name__} where an object was expected.")
    return content


def hub_options(options: Mapping[str, Any]) -> dict[str, Any]:
    """Those options of a `from_pretrained` that tell where a file lies and who asks for it."""
    return {name: options[name] for name in _HUB_OPTIONS if name in options}


__all__ = ["hub_options", "kind_of", "kind_of_checkpoint", "load_clip", "read_json_object", "refuse_missing_folder"]
