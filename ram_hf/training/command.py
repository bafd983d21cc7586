"""`ram-hf train`: every key of the YAML file as an option, which takes the place of what the file says.

Only the standard library is imported until it runs.
"""

import argparse
import json
from dataclasses import Field, fields
from types import NoneType, UnionType
from typing import Any, Literal, Union, get_args, get_origin

from .arguments import ALTERNATIVES, LABEL_LISTS, RamTrainingArguments, field_types


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add an option for each field of [`RamTrainingArguments`]; only those that are given are in the result."""
    parser.add_argument("--config", metavar="YAML", help="file that holds any of the options below by their names")
    hints = field_types()
    for item in fields(RamTrainingArguments):
        _add_option(parser, item, hints[item.name])


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
    values = {} if args.config is None else read_config(args.config)
    for alternatives in ALTERNATIVES:
        if given.keys() & set(alternatives):
            for name in alternatives:
                values.pop(name, None)
    values.update(given)
    if missing := [f"--{name}" for name in ("model", "dataset", "output_dir") if name not in values]:
        raise ValueError(f"The following options are required: {', '.join(missing)}. See `ram-hf train --help`.")
    return RamTrainingArguments(**values)


def true_or_false(text: str) -> bool:
    """Read a truth value from the command line; argparse shows this name when it cannot."""
    for value, words in ((True, ("true", "yes", "1")), (False, ("false", "no", "0"))):
        if text.lower() in words:
            return value
    raise ValueError(text)


def json_object(text: str) -> dict[str, Any]:
    """Read a JSON object from the command line; argparse shows this name when it cannot."""
    value = json.loads(text)
    if not isinstance(value, dict):
        raise ValueError(text)
    return value


def _add_option(parser: argparse.ArgumentParser, item: Field, hint: Any) -> None:
    kinds = [hint] if get_origin(hint) not in (Union, UnionType) else [k for k in get_args(hint) if k is not NoneType]
    about = item.metadata["help"]
    if isinstance(item.default, bool | int | float | str):
        about += f" (default: {item.default})"
    parser.add_argument(
        *_spellings(item.name), dest=item.name, default=argparse.SUPPRESS, help=about, **_reading(kinds[0])
    )
    if item.default is True:
        parser.add_argument(
            *_spellings(f"no_{item.name}"),
            dest=item.name,
            default=argparse.SUPPRESS,
            help=f"turn `{item.name}` off",
            action="store_false",
        )


def _reading(kind: Any) -> dict[str, Any]:
    """How argparse reads a value of this type."""
    if kind is bool:
        return {"type": true_or_false, "nargs": "?", "const": True}
    if get_origin(kind) is Literal:
        return {"choices": get_args(kind)}
    if get_origin(kind) is list:
        return {"type": get_args(kind)[0], "nargs": "+"}
    return {"type": json_object if get_origin(kind) is dict else kind}


def _spellings(name: str) -> list[str]:
    return list(dict.fromkeys([f"--{name}", f"--{name.replace('_', '-')}"]))


__all__ = ["add_arguments", "read_arguments", "run"]
