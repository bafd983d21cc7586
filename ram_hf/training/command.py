"""`ram-hf train`: every key of the YAML file as an option, which takes the place of what the file says.

Its options take transformers to list; `ram-hf --help` does not ask for them.
"""

import argparse
import json
from typing import Any, get_origin

from ..option_types import path, refuse_files_among_labels
from .arguments import ALTERNATIVES, LABEL_LISTS, RamTrainingArguments, field_types


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add an option for each field of [`RamTrainingArguments`]; only those that are given are in the result."""
    from transformers import HfArgumentParser

    parser.add_argument(
        "--config", metavar="YAML", type=path, help="file that holds any of the options below by their names"
    )
    # As argparse's `parents` do, but those are taken only where a parser is made.
    for option in HfArgumentParser(RamTrainingArguments, add_help=False)._actions:
        if isinstance(option.default, bool | int | float | str):
            option.help = f"{option.help} (default: {option.default})"
        option.default, option.required = argparse.SUPPRESS, False
        if get_origin(option.type) is dict:
            option.type = json_object
        parser._add_action(option)


def run(args: argparse.Namespace) -> int:
    """Train.

    Raises:
        FileNotFoundError, TypeError, ValueError: see [`read_arguments`] and [`train`].
    """
    from .loop import train

    train(read_arguments(args))
    return 0


def read_arguments(args: argparse.Namespace) -> RamTrainingArguments:
    """The configuration that a command line asks for.

    Args:
        args: from a parser with the options of [`add_arguments`]. They override the YAML file that `config` names.

    Raises:
        FileNotFoundError: when the YAML file does not exist.
        TypeError: when a value in the YAML file has the wrong type.
        ValueError: when a key of the file is unknown, a required option is missing, or two fields contradict each
            other.
    """
    from .config_file import read_config

    given = {name: value for name, value in vars(args).items() if name in field_types()}
    for name in LABEL_LISTS:
        if len(given.get(name, ())) == 1:
            given[name] = given[name][0]  # one value is a file
        else:
            refuse_files_among_labels(given.get(name, ()), f"--{name} {{}}")
    values = {} if args.config is None else read_config(args.config)
    for alternatives in ALTERNATIVES:
        if given.keys() & set(alternatives):
            for name in alternatives:
                values.pop(name, None)
    values.update(given)
    if missing := [f"--{name}" for name in ("model", "dataset", "output_dir") if name not in values]:
        raise ValueError(f"The following options are required: {', '.join(missing)}. See `ram-hf train --help`.")
    return RamTrainingArguments(**values)


def json_object(text: str) -> dict[str, Any]:
    """Read a JSON object from the command line; argparse shows this name when it cannot."""
    value = json.loads(text)
    if not isinstance(value, dict):
        raise ValueError(text)
    return value


__all__ = ["add_arguments", "read_arguments", "run"]
