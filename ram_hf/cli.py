"""The `ram-hf` command: each room brings its own, in `command.py`; what they share is here.

Only the standard library is imported until a command runs, so that `--help` is instant.
"""

import argparse
import io
import itertools
import os
import sys
import traceback
from collections.abc import Sequence
from importlib import import_module
from typing import Any, NoReturn

from .interruption import interruption_after_imports
from .model.suggestions import did_you_mean

# The module has `add_arguments(parser)` and `run(args)`, which returns the exit status.
COMMANDS = {
    "tag": ("ram_hf.tagging.command", "tag files and folders with any list of labels"),
    "train": ("ram_hf.training.command", "train on a dataset (in several processes: accelerate launch)"),
    "index": ("ram_hf.tagging.index_command", "encode pictures once, to search and tag them without opening them"),
    "search": ("ram_hf.tagging.search_command", "find the pictures of an index that show what a text says"),
    "evaluate": ("ram_hf.evaluation.command", "judge a model on a dataset"),
    "adapt": ("ram_hf.tagging.adapt_command", "learn what labels look like from pictures that nobody has labelled"),
    "calibrate": ("ram_hf.evaluation.calibrate_command", "give a model probabilities, fitted to a dataset"),
    "prepare": ("ram_hf.data.command", "turn pictures and annotations on disk into shards"),
    "labels": ("ram_hf.tagging.labels_command", "check a file of labels before pictures are tagged with it"),
    "push": ("ram_hf.publishing.command", "send a trained model to the Hub, with a card made from its run"),
    "scenes": ("ram_hf.scenes.command", "compose a corpus of pictures with known labels and boxes"),
    "pull": ("ram_hf.publishing.pull", "fetch a model from the Hub with all that use without a network needs"),
    "convert": ("ram_hf.conversion.command", "import a checkpoint of the method's published training code"),
    "pretrain": ("ram_hf.pretraining.command", "make a small CLIP from scratch, and a bundle of what it becomes"),
}
_DEBUG = "--debug"


class UsageError(ValueError):
    """A command line that cannot be read."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run `ram-hf`.

    Returns:
        The exit status: 0 for success, 1 for an error and 2 for a command line that cannot be read, each told in one
        line, 130 for an interruption.
    """
    _open_streams()
    argv = list(sys.argv[1:] if argv is None else argv)
    words = [word for word in argv if word != _DEBUG]
    try:
        name = _command_name(words)
        args = make_parser(name).parse_args(words[1:])
        with interruption_after_imports():
            return import_module(COMMANDS[name][0]).run(args)
    except KeyboardInterrupt as interruption:
        sys.stderr.write(f"ram-hf: {str(interruption) or 'interrupted'}\n")
        return 130
    except Exception as error:
        try:
            _tell(error, with_traceback=_DEBUG in argv)
        except RuntimeError:  # torch's signal handler, which learns of the end of a loader's worker in between
            _tell(error, with_traceback=_DEBUG in argv)
        return 2 if isinstance(error, UsageError) else 1


def _tell(error: Exception, *, with_traceback: bool) -> None:
    traceback_text = _traceback(error) if with_traceback else ""
    message = " ".join(_message(error).split()) or type(error).__name__  # some libraries' messages are paragraphs
    sys.stderr.write(f"{traceback_text}ram-hf: error: {message}\n")


def _message(error: Exception) -> str:
    if "huggingface_hub" not in sys.modules:
        return str(error)
    from .hub_errors import PLAIN, explain, redacted

    return redacted((None if type(error) in PLAIN else explain(error)) or str(error))


def _traceback(error: Exception) -> str:
    """Of an error; without the tokens that may stand in what the Hub's client raises."""
    text = "".join(traceback.format_exception(error))
    if "huggingface_hub" not in sys.modules:
        return text
    from .hub_errors import redacted

    return redacted(text)


def _open_streams() -> None:
    """A closed stream becomes the null device; what an output cannot spell is escaped."""
    for name, flags, mode in (("stdin", os.O_RDONLY, "r"), ("stdout", os.O_WRONLY, "w"), ("stderr", os.O_WRONLY, "w")):
        stream = getattr(sys, name)
        if stream is None:
            setattr(sys, name, os.fdopen(os.open(os.devnull, flags), mode))
        elif mode == "w" and isinstance(stream, io.TextIOWrapper) and stream.errors == "strict":
            stream.reconfigure(errors="backslashreplace")


def make_parser(name: str) -> argparse.ArgumentParser:
    """The parser of one command, by its name in `COMMANDS`; the other rooms are not imported.

    It raises [`UsageError`] for what it cannot read.
    """
    module, line = COMMANDS[name]
    parser = _Parser(prog=f"ram-hf {name}", description=f"{line[:1].upper()}{line[1:]}.")
    import_module(module).add_arguments(parser)
    parser.add_argument(_DEBUG, action="store_true", help="show the traceback of an error")
    return parser


class _Parser(argparse.ArgumentParser):
    """Raises its errors: argparse would print a page of usage, with the message below it, and exit.

    An option that comes twice is one too: argparse would forget the first without a word.
    """

    def __init__(self, **kwargs: Any):
        super().__init__(allow_abbrev=False, **kwargs)  # also of the commands within a command

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> tuple[Any, list[str]]:
        self._refuse_repeated(args or ())
        namespace, unknown = super().parse_known_args(args, namespace)
        for option in unknown:
            if option.startswith("--"):
                option = option.partition("=")[0]
                known = [name for name in self._option_string_actions if name.startswith("--")]
                self.error(f"there is no option {option!r}. {did_you_mean(option, known)}")
        return namespace, unknown

    def _refuse_repeated(self, words: Sequence[str]) -> None:
        seen = set()
        for word in itertools.takewhile(lambda word: word != "--", words):
            option = word.partition("=")[0]
            action = self._option_string_actions.get(option) if word.startswith("--") else None
            if action is None or not isinstance(action, argparse._StoreAction):
                continue
            if action.dest in seen:
                self.error(f"{option} is given twice")
            seen.add(action.dest)

    def error(self, message: str) -> NoReturn:
        ending = "" if message[-1] in ".?" else "."
        raise UsageError(f"{message[:1].upper()}{message[1:]}{ending} See `{self.prog} --help`.")


def _command_name(words: Sequence[str]) -> str:
    """The first word; shows the commands and exits where help is asked for.

    Raises:
        UsageError: when it is no command; the message has the nearest one.
    """
    if words[:1] in (["-h"], ["--help"]):
        _show_commands()
    if not words:
        raise UsageError(f"Name a command: {', '.join(COMMANDS)}. See `ram-hf --help`.")
    if words[0] not in COMMANDS:
        raise UsageError(f"There is no command {words[0]!r}. {did_you_mean(words[0], COMMANDS)} See `ram-hf --help`.")
    return words[0]


def _show_commands() -> NoReturn:
    parser = argparse.ArgumentParser(
        prog="ram-hf", description="Recover and Match: tag pictures with any list of label names."
    )
    commands = parser.add_subparsers(metavar="COMMAND")
    for name, (_, line) in COMMANDS.items():
        commands.add_parser(name, help=line)
    parser.print_help()
    parser.exit()


if __name__ == "__main__":
    sys.exit(main())
