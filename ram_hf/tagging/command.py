"""`ram-hf tag`: pictures and label names in, tags out."""

import argparse
import itertools
import os
import sys
from collections import Counter
from collections.abc import Generator, Sequence
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from ..model.bundled import DEFAULT_MODEL
from ..option_types import path, path_or_id, whole_number
from ..prompt_option import add_prompt_template_argument
from .picture_reading import add_exclude_argument, add_speed_arguments, progress_bar, read_pictures
from .score_options import add_score_arguments, scoring_of

if TYPE_CHECKING:
    from .outputs import Output, TaggedImage, TagOptions
    from .paths import FoundImages
    from .reader import ReadImage
    from .stored_images import StoredImage, StoredImages
    from .tagger import Tagger
    from .vocabulary import Vocabulary

_DESCRIPTION = """\
Tag pictures with any list of label names.

PATHS are files, folders (searched with all below them), globs, or - for a list of
names on standard input, one a line or NUL-separated (find ... -print0); or one index
of `ram-hf index`, whose pictures are tagged without being opened. Unless the tags go
to files (--output, --sidecar), the tags are printed: in columns on a terminal,
elsewhere one line PATH<TAB>LABEL<TAB>SCORE for each tag.
"""
_EPILOG = """\
A score says how a label ranks within this list of labels; the scores of all labels
of a picture sum to 1, so that a threshold belongs to its list.

Pictures that cannot be read never stop a run: the output says why, and so does the
end of the run. Originals are only read.

examples:
  ram-hf tag holiday.jpg --labels "beach, mountain, city, red car"
  ram-hf tag photos --labels-file labels.txt --output tags.jsonl
  ram-hf tag photos --labels-file labels.txt --output tags.jsonl --resume
  ram-hf tag photos --labels-file labels.yaml --threshold 0.2 --sidecar xmp
  find . -name '*.jpg' -print0 | ram-hf tag - --labels "cat, dog" --top-k 1
  ram-hf tag pictures.index --labels-file labels.txt --output tags.jsonl
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `ram-hf tag` to a parser."""
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.description, parser.epilog = _DESCRIPTION, _EPILOG
    parser.usage = "%(prog)s PATHS... --labels 'dog, red car' | --labels-file FILE [options]"
    parser.add_argument("paths", metavar="PATHS", nargs="+", help="files, folders, globs, or - for a list")

    add_exclude_argument(parser, below="PATHS")

    tags = parser.add_argument_group("tags")
    labels = tags.add_mutually_exclusive_group(required=True)
    labels.add_argument("--labels", metavar="NAMES", help="label names with commas between")
    labels.add_argument(
        "--labels-file",
        metavar="FILE",
        type=path,
        help="label names one a line, - for standard input, # begins a comment; or .yaml, where each label may have a "
        "name to show, parents, a threshold and more",
    )
    tags.add_argument(
        "--model",
        type=path_or_id,
        metavar="ID",
        help=f"a RAM or any CLIP, Hub id or folder (default: {DEFAULT_MODEL}, or the index's own)",
    )
    tags.add_argument(
        "--top-k",
        type=whole_number(1),
        metavar="N",
        help="at most N labels found in a picture (default: 5, without end with a threshold)",
    )
    add_score_arguments(tags)
    add_prompt_template_argument(tags)
    tags.add_argument(
        "--refine",
        type=whole_number(1),
        metavar="N",
        help="judge up to N of a picture's best labels again, each in a crop around what speaks for it, for up to N "
        "times more to compute; with the paper's score alone",
    )

    outputs = parser.add_argument_group("outputs", "Any of them, together too.")
    outputs.add_argument(
        "--output",
        type=path,
        metavar="FILE",
        help="tags.jsonl, .csv or .parquet with the columns path, tags and error",
    )
    outputs.add_argument(
        "--sidecar",
        choices=("txt", "xmp"),
        help="a file beside each picture: NAME.txt with the labels, as captions of training data; or .xmp for photo "
        "managers, which keeps what it holds and gains the tags",
    )
    outputs.add_argument(
        "--sidecar-name",
        choices=("extension", "stem"),
        help="how new .xmp files are called: NAME.EXT.xmp or NAME.xmp; one that exists under either name gains the "
        "tags (default: extension)",
    )
    outputs.add_argument(
        "--overlay", type=path, metavar="DIR", help="write each picture here with its tags and their heat maps drawn"
    )
    outputs.add_argument("--resume", action="store_true", help="go on: pass over pictures that the outputs hold")
    outputs.add_argument(
        "--strict-pictures",
        action="store_true",
        help="refuse pictures with a damaged end marker, checksum, profile or EXIF, whose pixels are all there",
    )
    outputs.add_argument("--strict", action="store_true", help="exit with 1 when a picture could not be read")

    speed = parser.add_argument_group("speed")
    add_speed_arguments(speed)
    speed.add_argument(
        "--dtype",
        choices=("float32", "bfloat16", "float16"),
        help="what the model computes in; bfloat16 is faster on GPUs and on CPUs that have it, and moves scores a "
        "little (default: that of the checkpoint)",
    )


def run(args: argparse.Namespace) -> int:
    """Run `ram-hf tag` with the arguments of [`add_arguments`].

    Returns:
        Exit status: 0; 1 when a picture failed and `--strict` is given; 130 when interrupted.

    Raises:
        OSError: when a path, a label file or a model is not there, or an output exists, or another run writes it.
        ValueError: when there are no labels or no pictures, or options do not go together.
    """
    from .label_lists import read_vocabulary
    from .locks import locked_outputs
    from .outputs import TagOptions
    from .overlay import leave_out_drawn
    from .paths import FoundImages, find_images
    from .scoring import HOW_TO_CALIBRATE, PAPER

    # All that can be wrong with the command is found before the model is loaded.
    _refuse_what_has_no_effect(args)
    vocabulary, notes = read_vocabulary(args.labels, args.labels_file, stdin=sys.stdin.buffer)
    if args.sidecar == "txt":
        _refuse_separators(vocabulary)
    stored = _open_index(args)
    if stored is not None:
        found = FoundImages(stored.paths, Counter(), [])
    else:
        found = find_images(args.paths, stdin=sys.stdin.buffer if "-" in args.paths else None, exclude=args.exclude)
    paths = found.paths
    options = TagOptions.of(scoring_of(args, _model_name(args, stored), vocabulary), args.top_k, args.refine)
    if args.refine is not None and options.score != PAPER:
        raise ValueError(
            "`--refine` judges the best labels of this list again, and a probability does not depend on what else is "
            "in the list: it goes with `--score paper` alone."
        )
    sys.stderr.write("".join(f"{note}\n" for note in (*notes, *_idle_options(args, found, options))))
    if args.overlay is not None:
        paths = leave_out_drawn(paths, args.overlay)
        if not paths:
            raise ValueError(f"All pictures are in {str(args.overlay)!r}, with their tags drawn by an earlier run.")
    with locked_outputs(file=args.output, folder=args.overlay, beside=paths if args.sidecar else ()):
        outputs = _make_outputs(args, options, paths)
        if not args.resume:
            for output in outputs:
                output.refuse_existing(paths)
        todo = _find_work(paths, outputs, args.batch_size)
        try:
            interrupted, failures = _tag(args, options, outputs, todo, stored)
        except BrokenPipeError:  # whoever reads the table has seen enough
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            return 1
    if passed_over := found.tell_passed_over():
        sys.stderr.write(passed_over + "\n")
    if interrupted:
        return 130
    if options.score == PAPER and args.score is None and len(failures) < len(todo.paths):
        sys.stderr.write(f"{HOW_TO_CALIBRATE}\n")
    return 1 if args.strict and failures else 0


def _refuse_what_has_no_effect(args: argparse.Namespace) -> None:
    if args.resume and not (args.output or args.sidecar or args.overlay):
        raise ValueError("`--resume` needs something to go on with: `--output`, `--sidecar` or `--overlay`.")
    if args.sidecar_name is not None and args.sidecar != "xmp":
        raise ValueError("`--sidecar-name` says how .xmp files are called: it needs `--sidecar xmp`.")
    if "-" in args.paths and args.labels_file == Path("-"):
        raise ValueError("Standard input can hold the names of pictures or the labels, not both.")


def _open_index(args: argparse.Namespace) -> "StoredImages | None":
    """The index that is given in the place of pictures."""
    from .index import is_index
    from .stored_images import StoredImages, refuse_indexes_among

    if len(args.paths) > 1 or not is_index(args.paths[0]):
        refuse_indexes_among(args.paths)
        return None
    about_files = (
        ("--exclude", args.exclude),
        ("--strict-pictures", args.strict_pictures),
        ("--refine", args.refine),
        ("--dtype", args.dtype),
    )
    for option, is_given in about_files:
        if is_given:
            raise ValueError(f"`{option}` is about files, and the pictures of an index are not opened.")
    if args.score == "paper":
        raise ValueError(
            "`--score paper` is of a picture and the whole list of labels together, and an index has no pictures."
        )
    return StoredImages(args.paths[0], beside=bool(args.sidecar or args.overlay))


def _model_name(args: argparse.Namespace, stored: "StoredImages | None") -> str:
    if args.model is not None:
        return str(args.model)
    return DEFAULT_MODEL if stored is None else stored.index.description.model


def _refuse_separators(vocabulary: "Vocabulary") -> None:
    separator = vocabulary.separator.strip() or vocabulary.separator
    for name in vocabulary.reported:
        if separator in name:
            mark = "a comma" if separator == "," else repr(separator)
            raise ValueError(f"The label {name!r} holds {mark}, which separates labels in a .txt file.")


def _idle_options(args: argparse.Namespace, found: "FoundImages", options: "TagOptions") -> list[str]:
    """What changes nothing, a line each."""
    from .scoring import PROBABILITY

    vocabulary = options.vocabulary
    lines = [f"`--exclude {pattern}` leaves out nothing." for pattern in found.idle_patterns]
    if args.top_k is not None and args.top_k > len(vocabulary.matched):
        lines.append(f"`--top-k {args.top_k}` is more than there are labels, {len(vocabulary.matched)}.")
    if args.threshold is not None and vocabulary.has_every_threshold:
        lines.append(f"`--threshold {args.threshold}` changes nothing: {str(args.labels_file)!r} says all thresholds.")
    if options.score == PROBABILITY and vocabulary.background:
        lines.append("`background` changes nothing: probabilities do not compete (`--score paper` does).")
    return lines


class _Work(NamedTuple):
    """Pictures to tag: the first `num_again` are held by the outputs, and only make the first batch what it was.

    The numbers of a picture depend in their last digits on its batch: so a run that was stopped and resumed writes
    what an undisturbed one does.
    """

    paths: list[str]
    num_again: int


def _find_work(paths: Sequence[str], outputs: Sequence["Output"], batch_size: int) -> _Work:
    is_held = [all(output.holds(path) for output in outputs) for path in paths]
    if all(is_held):
        return _Work([], 0)
    first = is_held.index(False)
    num_again = first % batch_size
    rest = [path for path, held in zip(paths[first:], is_held[first:], strict=True) if not held]
    return _Work([*paths[first - num_again : first], *rest], num_again)


def _tag(
    args: argparse.Namespace,
    options: "TagOptions",
    outputs: Sequence["Output"],
    work: _Work,
    stored: "StoredImages | None",
) -> tuple[bool, list["TaggedImage"]]:
    """Tag the pictures, write what comes of them, and tell how it went.

    Returns:
        Whether it was interrupted, and the pictures that could not be read.
    """
    from ..interruption import stop_signals

    num_done, interrupted = -work.num_again, False
    failures: list[TaggedImage] = []
    damaged: list[ReadImage | StoredImage] = []
    if work.paths:
        tagger = _make_tagger(args, options, stored)
        if tagger.model.visual_classifier is not None:
            sys.stderr.write(f"{_adapted_labels(tagger)}\n")
        read = _read(args, tagger, work.paths, stored)
        bar = progress_bar(
            len(work.paths), before=-work.num_again, shows=not (_prints_table(args) and sys.stdout.isatty())
        )
        with stop_signals() as stop_asked, closing(read), bar as progress:
            while batch := list(itertools.islice(read, args.batch_size)):
                if args.strict_pictures:
                    batch = [_refused_if_damaged(image) for image in batch]  # type: ignore[arg-type]
                images = _write(_tag_batch(tagger, batch, stored), outputs)
                num_done += len(images)
                first_new = max(0, len(images) - num_done)
                failures += [image for image in images[first_new:] if image.error]
                damaged += [image for image in batch[first_new:] if image.damage]
                progress.update(len(images))
                if interrupted := stop_asked() and num_done < len(work.paths) - work.num_again:
                    break
    for output in outputs:
        output.finish()
    _tell(num_done, failures, damaged, left=len(work.paths) - work.num_again - num_done if interrupted else 0)
    return interrupted, failures


def _write(images: Sequence["TaggedImage"], outputs: Sequence["Output"]) -> Sequence["TaggedImage"]:
    from ..atomic import NoRoomError

    try:
        for output in outputs:
            images = output.write(images)
    except NoRoomError as error:
        error.kept += " What was written before it is whole; with room made, the same command with `--resume` goes on."
        raise
    return images


def _refused_if_damaged(image: "ReadImage") -> "ReadImage":
    if image.damage is None:
        return image
    reason = f"it is damaged: {image.damage} (its pixels are all there: tagged without `--strict-pictures`)"
    return image._replace(pixels=None, error=reason, damage=None)


def _read(
    args: argparse.Namespace, tagger: "Tagger", paths: Sequence[str], stored: "StoredImages | None"
) -> "Generator[ReadImage | StoredImage, None, None]":
    if stored is not None:
        yield from stored.read(paths)
    else:
        yield from read_pictures(args, paths, tagger.square)


def _tag_batch(tagger: "Tagger", batch: Sequence[Any], stored: "StoredImages | None") -> Sequence["TaggedImage"]:
    from .outputs import TaggedImage

    readable = [image for image in batch if image.error is None]
    if stored is None or not readable:
        tags = iter(tagger([image.pixels for image in readable]))
    else:
        tags = iter(tagger.tag_stored(stored.features(readable)))
    return [TaggedImage(image.path, next(tags) if image.error is None else [], image.error) for image in batch]


def _make_tagger(args: argparse.Namespace, options: "TagOptions", stored: "StoredImages | None") -> "Tagger":
    from .loading import load_for_index, load_quietly, pick_device
    from .tagger import Tagger, refuse_stored

    if stored is None:
        model, processor = load_quietly(_model_name(args, stored), dtype=args.dtype)
    else:
        model, processor = load_for_index(stored.index, args.model)
        refuse_stored(model, has_patches=stored.index.has_patches, with_heat_maps=args.overlay is not None)
    return Tagger(
        model,
        processor,
        options.vocabulary,
        label_template=args.prompt_template,
        top_k=options.top_k,
        threshold=options.threshold,
        score=options.score,
        expected_labels=options.expected_labels,
        refine=options.refine,
        device=pick_device(args.device),
        with_heat_maps=args.overlay is not None,
    )


def _adapted_labels(tagger: "Tagger") -> str:
    """How many labels an adapted model knows by their looks, in a sentence."""
    adapted = tagger.is_adapted
    if any(adapted):
        return f"{sum(adapted):,} of the {len(adapted):,} labels are known by their looks, all others by their words."
    return "None of these labels is one that the model was adapted to, with the same names and prompt template."


def _make_outputs(args: argparse.Namespace, options: "TagOptions", paths: Sequence[str]) -> list["Output"]:
    from .overlay import Overlays
    from .table import Table
    from .writers import make_writer

    # In this order, so that what goes wrong beside a picture is told in the file of all.
    outputs: list[Output] = []
    if args.sidecar is not None:
        outputs.append(_make_sidecars(args, options, paths))
    if args.overlay is not None:
        outputs.append(Overlays(args.overlay, paths, options, resume=args.resume))
    if args.output is not None:
        outputs.append(make_writer(args.output, options, resume=args.resume))
    if _prints_table(args):
        outputs.append(Table(sys.stdout, paths, tuple(options.vocabulary.reported)))
    return outputs


def _make_sidecars(args: argparse.Namespace, options: "TagOptions", paths: Sequence[str]) -> "Output":
    from .sidecars import TextSidecars, XmpSidecars

    if args.sidecar == "txt":
        return TextSidecars(paths, options)
    return XmpSidecars(paths, options, name=args.sidecar_name or "extension", resume=args.resume)


def _prints_table(args: argparse.Namespace) -> bool:
    return not (args.output or args.sidecar or args.resume)


def _tell(
    num_done: int, failures: Sequence["TaggedImage"], damaged: Sequence["ReadImage | StoredImage"], *, left: int
) -> None:
    from .reasons import first_reasons

    num_tagged = num_done - len(failures)
    lines = [f"{num_tagged:,} picture{'s' * (num_tagged != 1)} tagged, {len(failures):,} failed"]
    lines += first_reasons([(image.path, image.error or "") for image in failures])
    if damaged:
        lines.append(f"{len(damaged):,} damaged, with all pixels there (`--strict-pictures` refuses such)")
        lines += first_reasons([(image.path, image.damage or "") for image in damaged])
    if left:
        lines.append(f"Interrupted with {left:,} pictures left; the same command with --resume goes on.")
    sys.stderr.write("\n".join(lines) + "\n")


__all__ = ["add_arguments", "run"]
