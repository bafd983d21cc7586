"""`--config`: the options of a command in a YAML file, by their names. Only the standard library, until it is read."""

import argparse
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from .model.suggestions import did_you_mean
from .option_types import path


def add_config_argument(parser: argparse.ArgumentParser, *, beside: Sequence[str] = ()) -> None:
    """Add `--config` to a parser that has all its other options; [`with_config`] then reads it.

    Args:
        parser: of the command. What its positional arguments name may stand in the file too.
        beside: options whose files are looked for beside the YAML and not in the working directory.
    """
    options = {action.dest: action for action in parser._actions if action.default is not argparse.SUPPRESS}
    defaults = {name: action.default for name, action in options.items()}
    for action in options.values():
        if action.option_strings:
            action.default = argparse.SUPPRESS  # so that what is given is told from what is not
    parser.add_argument(
        "--config",
        action=_Config,
        metavar="YAML",
        type=path,
        default=None,
        help="file that holds any of these options, and MODEL and DATASET, by their names; what is given beside it "
        "counts instead",
    )
    parser.set_defaults(config_options=(options, defaults, tuple(beside)))


class _Config(argparse._StoreAction):
    """Takes the file's name; what is positional may then be left to the file."""

    def __call__(
        self, parser: argparse.ArgumentParser, namespace: argparse.Namespace, values: Any, option_string: Any = None
    ) -> None:
        super().__call__(parser, namespace, values, option_string)
        for action in parser._actions:
            if not action.option_strings:
                action.required = False


def with_config(args: argparse.Namespace) -> argparse.Namespace:
    """The arguments of a parser with [`add_config_argument`]: as given, else as in the file, else the defaults.

    Raises:
        FileNotFoundError: when there is no such file.
        ValueError: when it holds an unknown key or a value that its option does not take, or an argument is nowhere.
    """
    options, defaults, beside = args.config_options
    given = {name: value for name, value in vars(args).items() if name not in options or value is not None}
    from_file = {} if args.config is None else _read(args.config, options, beside)
    values = {**defaults, **from_file, **given}
    missing = [each.metavar for name, each in options.items() if not each.option_strings and values[name] is None]
    if missing:
        raise ValueError(f"{args.config} does not say {' and '.join(missing)}: add it there, or to the command.")
    return argparse.Namespace(**values)


def _read(file: Path, options: Mapping[str, argparse.Action], beside: Sequence[str]) -> dict[str, Any]:
    from .yaml_options import read_mapping

    values = {}
    for key, value in read_mapping(file).items():
        if key not in options:
            raise ValueError(f"{file}: unknown key `{key}`. {did_you_mean(str(key), options)}")
        try:
            values[key] = _as_option(options[key], value)
        except (argparse.ArgumentTypeError, ValueError) as error:
            raise ValueError(f"{file}: `{key}` {error}") from None
        if key in beside:
            values[key] = file.parent / values[key]
    return values


def _as_option(action: argparse.Action, value: Any) -> Any:
    """A value of the file as the command line would give it."""
    if action.nargs == 0:
        if not isinstance(value, bool):
            raise ValueError(f"must be true or false, got {value!r}")
        return value
    takes_several = action.nargs == "+" or isinstance(action, argparse._AppendAction)
    entries = value if takes_several and isinstance(value, list) else [value]
    if not entries or any(isinstance(entry, bool | list | dict) or entry is None for entry in entries):
        raise ValueError(f"must be {'a value or a list of them' if takes_several else 'one value'}, got {value!r}")
    convert: Any = action.type or str
    converted = [convert(str(entry)) for entry in entries]
    return converted if takes_several else converted[0]


__all__ = ["add_config_argument", "with_config"]
