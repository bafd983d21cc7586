"""`ram-hf labels check`: what is odd about a file of labels, before thousands of pictures are tagged with it."""

import argparse
import itertools
import sys
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, NamedTuple

from ..model.bundled import DEFAULT_MODEL
from ..option_types import path, path_or_id, share, whole_number
from ..prompt_option import add_prompt_template_argument
from .picture_reading import add_batch_arguments
from .score_options import add_score_arguments, scoring_of

if TYPE_CHECKING:
    from ..model.modeling_ram import RamModel
    from ..model.processing_ram import RamProcessor
    from .label_lists import ReadVocabulary
    from .outputs import TagOptions
    from .vocabulary import Vocabulary

# From there on ram-photo no longer tells two things apart well; to the model in examples/ram-tiny nearly all pairs of
# names of one thing are that much alike, and no pair of two things. docs/vocabulary.md has the tables and commands.
_NEAR = 0.9
_SHOWN = 20
_WIDEST = 60  # characters of a name
_CHECK = """\
Read a file of labels as `ram-hf tag --labels-file` does, and tell what is odd about it: mistakes with their line,
names that change nothing, names too long for the model, labels that are nearly one to it, and with --images labels
that are found in none of your pictures. Exits with 0 where there is nothing to tell, else with 1.
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add `check` to the parser of `ram-hf labels`."""
    actions = parser.add_subparsers(required=True, metavar="ACTION", title="actions")
    check = actions.add_parser("check", help="tell what is odd about a file of labels", description=_CHECK)
    check.set_defaults(action=_check)
    check.add_argument("file", metavar="FILE", type=path, help="labels one a line, or .yaml; - for standard input")
    check.add_argument(
        "--model",
        type=path_or_id,
        default=DEFAULT_MODEL,
        metavar="ID",
        help=f"who is to read them (default: {DEFAULT_MODEL})",
    )
    check.add_argument(
        "--near",
        type=share,
        default=_NEAR,
        metavar="LIKENESS",
        help=f"tell of labels at least so much alike to the model, from 0 to 1 (default: {_NEAR})",
    )
    check.add_argument(
        "--images",
        action="append",
        metavar="PATH",
        default=[],
        help="file or folder of pictures to look for labels in",
    )
    check.add_argument("--top-k", type=whole_number(1), metavar="N", help="as `ram-hf tag` takes it")
    add_score_arguments(check)
    add_prompt_template_argument(check)
    add_batch_arguments(check)
    check.add_argument(
        "--show", type=whole_number(1), default=_SHOWN, metavar="N", help=f"so many of a kind (default: {_SHOWN})"
    )


def run(args: argparse.Namespace) -> int:
    """Run `ram-hf labels` with the arguments of [`add_arguments`].

    Returns:
        Exit status: 0, or 1 when there is something to tell.

    Raises:
        OSError: when a path or a model is not there.
        ValueError: when the file has a mistake, or the folder no picture.
    """
    status: int = args.action(args)
    return status


class _Finding(NamedTuple):
    """What is odd about some labels: what all have in common, how many there are, and a line each of the first."""

    title: str
    number: int
    lines: list[str]


def _check(args: argparse.Namespace) -> int:
    from .label_lists import read_vocabulary
    from .paths import find_images

    read = read_vocabulary(None, args.file, stdin=sys.stdin.buffer)
    paths = find_images(args.images).paths if args.images else []
    sys.stdout.write(_summary(args, read.vocabulary))
    found = 0
    for finding in _findings(args, read, paths):
        if finding.number:
            found += 1
            sys.stdout.write(_told(finding, args.show))
            sys.stdout.flush()
    if not found:
        sys.stdout.write("Nothing to tell.\n")
    return int(found > 0)


def _findings(args: argparse.Namespace, read: "ReadVocabulary", paths: Sequence[str]) -> Iterator[_Finding]:
    yield _Finding("Odd about the file:", len(read.notes), read.notes)
    from .label_checks import nearly_one, too_long
    from .loading import load_quietly, pick_device

    vocabulary, template = read.vocabulary, args.prompt_template
    model, processor = load_quietly(args.model)
    model = model.to(pick_device(args.device))
    long = too_long(vocabulary, processor, template)
    yield _Finding(
        f"Longer than the {processor.context_length} tokens that the model takes, so that `ram-hf tag` refuses them:",
        len(long),
        [f"{name[:_WIDEST]!r}: {number} tokens" for name, number in long.items()],
    )
    near, number = nearly_one(
        *(vocabulary, model, processor),
        at_least=args.near,
        most=args.show,
        label_template=template,
        without=tuple(long),
    )
    yield _Finding(
        f"Nearly one to the model, alike by {args.near:g} or more (`match` makes them names of one label):",
        number,
        [f"{likeness:.3f}  {first!r}, {second!r}" for likeness, first, second in near],
    )
    if paths and not long:
        yield _never_found(args, vocabulary, model, processor, paths)


def _never_found(
    args: argparse.Namespace,
    vocabulary: "Vocabulary",
    model: "RamModel",
    processor: "RamProcessor",
    paths: Sequence[str],
) -> _Finding:
    from .label_checks import look_for_labels
    from .outputs import TagOptions
    from .paths import printable
    from .tagger import Tagger

    options = TagOptions.of(scoring_of(args, args.model, vocabulary), args.top_k)
    tagger = Tagger(
        model,
        processor,
        options.vocabulary,
        label_template=args.prompt_template,
        score=options.score,
        expected_labels=options.expected_labels,
        device=model.device,
    )
    search = look_for_labels(tagger, options, paths, batch_size=args.batch_size)
    for name, error in itertools.islice(search.errors.items(), _SHOWN):
        sys.stderr.write(f"{printable(name)}: {printable(error)}\n")
    if not search.num_images:
        raise ValueError(f"None of {len(paths):,} pictures could be read.")
    return _Finding(
        f"Never found in {_count(search.num_images, 'picture')}{_limits(options)}:",
        len(search.never),
        [f"{label!r}: at most {score:.3g}, in {printable(where)}" for label, score, where in search.never],
    )


def _limits(options: "TagOptions") -> str:
    limits = [f"threshold {options.threshold}"] * (options.threshold is not None)
    limits += ["with the thresholds of the file"] * options.vocabulary.has_threshold
    limits += [f"among the best {options.top_k}"] * (options.top_k is not None)
    return f" ({', '.join(limits)})"


def _summary(args: argparse.Namespace, vocabulary: "Vocabulary") -> str:
    background = f", {len(vocabulary.background):,} of background" if vocabulary.background else ""
    num_names = sum(map(len, vocabulary.candidates))
    return (
        f"{args.file}: {_count(len(vocabulary.labels), 'label')}{background}; {num_names:,} names for {args.model}\n"
    )


def _told(finding: _Finding, most: int) -> str:
    lines = [f"  {line}\n" for line in finding.lines[:most]]
    if finding.number > most:
        lines.append(f"  and {finding.number - most:,} more (`--show {finding.number}`)\n")
    return f"\n{finding.title}\n{''.join(lines)}"


def _count(number: int, noun: str) -> str:
    return f"{number:,} {noun}{'s' * (number != 1)}"


__all__ = ["add_arguments", "run"]
