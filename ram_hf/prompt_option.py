"""The option that says which sentences a label is put into, the same in every command. Standard library alone."""

import argparse

from .model.prompt_sets import PROMPT_SETS
from .model.prompt_templates import read_templates


def add_prompt_template_argument(group: "argparse._ArgumentGroup | argparse.ArgumentParser") -> None:
    """Add `--prompt-template`, whose value is a list of sentences and names of sets, or None."""
    sets = ", ".join(PROMPT_SETS)
    group.add_argument(
        "--prompt-template",
        metavar="TEXT",
        action="append",
        type=_template,
        help=f"sentence around a label, as 'A photo of a {{label}}.', or the name of a set ({sets}); given more than "
        "once, the features are averaged (default: the model's own)",
    )


def _template(text: str) -> str:
    try:
        read_templates(text, subject="")
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None
    return text


__all__ = ["add_prompt_template_argument"]
