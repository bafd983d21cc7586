"""`ram-hf adapt`: what labels look like, learned from the pictures of a folder that nobody has labelled."""

import argparse
import copy
import itertools
import os
import sys
import time
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING

from ..option_types import path, path_or_id, whole_number
from ..prompt_option import add_prompt_template_argument
from .picture_reading import add_exclude_argument, add_speed_arguments, progress_bar, read_pictures

if TYPE_CHECKING:
    from ..model.modeling_ram import RamModel
    from ..model.processing_ram import RamProcessor
    from .adapt_state import AdaptState
    from .patch_reader import PatchReader
    from .vocabulary import Vocabulary

_SECONDS_BETWEEN_SAVES = 30  # what a killed run reads again at most
_SHOWN = 20  # labels without patches that are named

_DESCRIPTION = """\
Learn from your own pictures what your labels look like. Nobody need have labelled
them: the patches that the model is surest of show it. The model that is written
knows these labels by their looks and all others by their words; `ram-hf tag`,
`ram-hf evaluate` and the pipeline take it as any other.

Pictures are read once. Stopped at any moment and run again, it goes on.
"""
_EPILOG = """\
How many patches each label got is printed. Pictures that cannot be read are passed
over, and told at the end.

examples:
  ram-hf adapt openai/clip-vit-base-patch16 ~/Pictures --labels-file labels.txt \\
      --output models/mine
  ram-hf tag ~/Pictures --model models/mine --labels-file labels.txt

A label is known again by how it is encoded: tag with the same names. A
--prompt-template becomes the model's own, so that it need not be said again.
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `ram-hf adapt` to a parser."""
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.description, parser.epilog = _DESCRIPTION, _EPILOG
    parser.add_argument("model", metavar="MODEL", type=path_or_id, help="a RAM or any CLIP, Hub id or folder")
    parser.add_argument("folder", metavar="FOLDER", type=path, help="pictures, searched with all below it")
    labels = parser.add_mutually_exclusive_group(required=True)
    labels.add_argument("--labels", metavar="NAMES", help="label names with commas between")
    labels.add_argument(
        "--labels-file",
        metavar="FILE",
        type=path,
        help="label names one a line, - for standard input; or .yaml, as `ram-hf tag` takes it",
    )
    parser.add_argument("--output", required=True, type=path, metavar="DIR", help="folder of the model; new or empty")
    add_exclude_argument(parser, below="FOLDER")
    parser.add_argument(
        "--patches-per-label",
        type=whole_number(1),
        default=64,
        metavar="K",
        help="patches that a label's looks are learned from, at most (default: 64)",
    )
    add_prompt_template_argument(parser)
    add_speed_arguments(parser)


def run(args: argparse.Namespace) -> int:
    """Run `ram-hf adapt` with the arguments of [`add_arguments`].

    Returns:
        Exit status: 0; 130 when interrupted.

    Raises:
        OSError: when the folder, the label file or the model is not there, or the output holds something, or another
            run writes it.
        ValueError: when there are no labels or no pictures, none can be read, or they show nothing.
    """
    from ..atomic import locked_folder
    from .label_lists import read_vocabulary
    from .paths import find_images, printable

    # All that can be wrong with the command is found before the model is loaded.
    vocabulary, notes = read_vocabulary(args.labels, args.labels_file, stdin=sys.stdin.buffer)
    if len(vocabulary.candidates) < 2:
        raise ValueError("A model is adapted to labels that it tells apart: give more than one.")
    if not args.folder.is_dir():
        what = "is not a folder" if args.folder.exists() else "is not there"
        raise NotADirectoryError(f"{printable(str(args.folder))!r} {what}.")
    _refuse_index(args.folder)
    if args.output.exists() and not args.output.is_dir():
        raise NotADirectoryError(f"{str(args.output)!r} is not a folder.")
    with locked_folder(args.output):
        _refuse_used(args.output)
        found = find_images([str(args.folder)], exclude=args.exclude)
        notes = [*notes, *(f"`--exclude {pattern}` leaves out nothing." for pattern in found.idle_patterns)]
        sys.stderr.write("".join(f"{note}\n" for note in notes))
        interrupted = _adapt(args, vocabulary, found.paths)
    if passed_over := found.tell_passed_over():
        sys.stderr.write(passed_over + "\n")
    return 130 if interrupted else 0


def _refuse_index(folder: Path) -> None:
    from .index import is_index

    if is_index(folder):
        raise ValueError(
            f"{str(folder)!r} is an index, which keeps patches as they are read with other labels: name the folder of "
            "the pictures."
        )


def _refuse_used(output: Path) -> None:
    from .adapt_state import AdaptState

    others = sorted(name for name in os.listdir(output) if not name.startswith("."))
    if others and not AdaptState.is_in(output):
        raise FileExistsError(f"{str(output)!r} holds other things, {others[0]!r} for one: choose a new folder.")


def _adapt(args: argparse.Namespace, vocabulary: "Vocabulary", paths: Sequence[str]) -> bool:
    """Read what is to be read, and write the model.

    Returns:
        Whether it was interrupted before the end.
    """
    from .adapt_state import AdaptState, fingerprint_of_run, number_of
    from .feature_encoder import feature_fingerprint
    from .loading import load_quietly, pick_device
    from .patch_reader import PatchReader
    from .reasons import first_reasons

    model, processor = load_quietly(args.model)
    unused = copy.deepcopy(processor)  # use leaves its padding in a tokenizer
    if args.prompt_template is not None:
        unused.label_template = args.prompt_template
    run_mark = fingerprint_of_run(
        feature_fingerprint(model, processor),
        vocabulary.candidates,
        patches_per_label=args.patches_per_label,
        prompt_template=args.prompt_template,
    )
    state = AdaptState.begin(args.output, run_mark)
    reader = PatchReader(
        model,
        processor,
        vocabulary,
        label_template=args.prompt_template,
        patches_per_label=args.patches_per_label,
        kept=state.kept,
        device=pick_device(args.device),
    )
    done = set(state.done)
    todo = [each for each in paths if number_of(each, args.folder) not in done]
    num_before = len(state.done)
    interrupted = _read(args, reader, state, todo)
    if interrupted:
        left = len(todo) - len(state.done) + num_before
        sys.stderr.write(f"Interrupted with {left:,} pictures left; the same command goes on.\n")
        return True
    if len(state.failures) == len(state.done):
        AdaptState.remove(args.output)
        shown = "\n".join(first_reasons(state.failures))
        raise ValueError(f"None of the {len(state.done):,} pictures can be read: {shown}")
    was_calibrated = model.is_calibrated
    reader.finish()
    if args.prompt_template is not None:
        _encode_reference_again(model, processor, args.prompt_template)
    _write(args, model, unused)
    AdaptState.remove(args.output)
    _tell(args, reader, state, was_calibrated=was_calibrated)
    return False


def _read(args: argparse.Namespace, reader: "PatchReader", state: "AdaptState", paths: Sequence[str]) -> bool:
    """Read pictures, keep what is sure, and save how far it came, from time to time and at the end.

    Returns:
        Whether it was interrupted before the end.
    """
    from ..interruption import stop_signals
    from .adapt_state import number_of

    read = read_pictures(args, paths, reader.square)
    num_done, interrupted, saved = 0, False, time.monotonic()
    with stop_signals() as stop_asked, closing(read), progress_bar(len(paths), before=len(state.done)) as progress:
        while batch := list(itertools.islice(read, args.batch_size)):
            reader.add([image.pixels for image in batch if image.pixels is not None])
            state.failures += [(image.path, image.error) for image in batch if image.error is not None]
            state.done += [number_of(image.path, args.folder) for image in batch]
            num_done += len(batch)
            progress.update(len(batch))
            if interrupted := stop_asked() and num_done < len(paths):
                break
            if time.monotonic() - saved > _SECONDS_BETWEEN_SAVES:
                _save(args.output, reader, state)
                saved = time.monotonic()
        if num_done:
            _save(args.output, reader, state)
    return interrupted


def _save(output: Path, reader: "PatchReader", state: "AdaptState") -> None:
    from ..atomic import NoRoomError

    state.kept = reader.kept()
    try:
        state.save(output)
    except NoRoomError as error:
        error.kept += " With room made, the same command goes on."
        raise


def _encode_reference_again(model: "RamModel", processor: "RamProcessor", label_template: Sequence[str]) -> None:
    """Put the reference labels into the sentences that become the model's own: labels are judged beside them."""
    import torch

    if names := model.config.reference_labels:
        inputs = processor(labels=names, label_template=label_template)
        with torch.no_grad():
            model.set_reference_labels(names, model.get_label_features(inputs["input_ids"].to(model.device)))


def _write(args: argparse.Namespace, model: "RamModel", processor: "RamProcessor") -> None:
    from ..atomic import whole_files
    from ..changed_model import write_changed_model
    from ..model.hub_names import split_revision

    source = os.fspath(split_revision(os.path.expanduser(args.model), None)[0])
    with whole_files(args.output) as unfinished:
        write_changed_model(unfinished, model, processor, source=source)


def _tell(args: argparse.Namespace, reader: "PatchReader", state: "AdaptState", *, was_calibrated: bool) -> None:
    """How many patches each label got on stdout, a line each, and the rest on stderr."""
    from .paths import printable
    from .reasons import first_reasons

    counts = reader.counts()
    of_labels = list(zip(map(printable, reader.names), counts, strict=True))
    sys.stdout.write("".join(f"{name}\t{count}\n" for name, count in of_labels))
    num_read, failures = len(state.done) - len(state.failures), state.failures
    lines = [f"{num_read:,} picture{'s' * (num_read != 1)} read, {len(failures):,} failed", *first_reasons(failures)]
    without = [name for name, count in of_labels if not count]
    lines.append(f"{len(counts) - len(without):,} of {len(counts):,} labels got patches, {sum(counts):,} in all.")
    if without:
        shown = ", ".join(without[:_SHOWN]) + f" and {len(without) - _SHOWN:,} more" * (len(without) > _SHOWN)
        lines.append(f"Without a patch, known by their words: {shown}.")
    if was_calibrated:
        lines.append("Its probabilities were of words alone: `ram-hf calibrate` fits them again.")
    lines.append(f"The model is in {str(args.output)!r}.")
    sys.stderr.write("\n".join(lines) + "\n")


__all__ = ["add_arguments", "run"]
