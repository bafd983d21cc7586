"""`ram-hf index`: encode the pictures of folders once, to search and tag them later without opening them."""

import argparse
import itertools
import math
import os
import sys
from collections.abc import Sequence
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from ..model.bundled import DEFAULT_MODEL
from ..option_types import path, path_or_id, whole_number
from .picture_reading import add_exclude_argument, add_speed_arguments, progress_bar, read_pictures

if TYPE_CHECKING:
    from .feature_encoder import FeatureEncoder
    from .index import IndexDescription, IndexedImage, IndexWriter
    from .index_changes import Changes, FoundFile
    from .reader import ReadImage, SquareSize

_SHARD_BYTES = 2**25  # what a killed run computes again at most, and a rewritten shard costs
_LARGEST_SHARD = 4096

_DESCRIPTION = """\
Encode the pictures of folders once. `ram-hf search INDEX "red car"` and `ram-hf tag
INDEX` then answer for any label without opening a picture.

Run again it encodes what is new or changed, knows again what was moved, and drops
what is gone; stopped at any moment and run again, it goes on.
"""
_EPILOG = """\
A file counts as unchanged while its size and time of change are the same, and as
moved where one new file has its size, time and name. Pictures that cannot be read
are kept with the reason, and tried again by the next run.

examples:
  ram-hf index ~/Pictures --output pictures.index
  ram-hf search pictures.index "a dog on the beach" --html found.html
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `ram-hf index` to a parser."""
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.description, parser.epilog = _DESCRIPTION, _EPILOG
    parser.add_argument(
        "folders", metavar="FOLDER", nargs="+", type=path, help="folders, searched with all below them"
    )
    parser.add_argument("--output", required=True, type=path, metavar="INDEX", help="folder of the index")
    add_exclude_argument(parser, below="FOLDER")
    parser.add_argument(
        "--model",
        type=path_or_id,
        metavar="ID",
        help=f"a calibrated RAM (default: the index's own, or {DEFAULT_MODEL})",
    )
    parser.add_argument(
        "--without-patches",
        action="store_true",
        help="keep the whole picture's features alone: a fiftieth of the size; small things are found less well",
    )
    parser.add_argument("--strict", action="store_true", help="exit with 1 when a picture cannot be read")
    add_speed_arguments(parser)
    parser.add_argument(
        "--shard-size",
        type=whole_number(1),
        metavar="N",
        help="pictures in one file, as many as a killed run encodes again (default: some 32 MB of them)",
    )


def run(args: argparse.Namespace) -> int:
    """Run `ram-hf index` with the arguments of [`add_arguments`].

    Returns:
        Exit status: 0; 1 when a picture cannot be read and `--strict` is given; 130 when interrupted.

    Raises:
        ImportError: when pyarrow is not installed.
        OSError: when a folder or model is not there, or another run writes the index.
        ValueError: when a folder holds no picture, or the index is of other folders, another model or another kind.
    """
    from ..atomic import locked_folder
    from .index import import_pyarrow
    from .paths import find_images, printable

    import_pyarrow()
    for folder in args.folders:
        if not folder.is_dir():
            what = "is not a folder: an index is of folders" if folder.exists() else "is not there"
            raise NotADirectoryError(f"{printable(str(folder))!r} {what}.")
    named = [os.path.abspath(folder) for folder in args.folders]
    if args.output.exists() and not args.output.is_dir():
        raise NotADirectoryError(f"{str(args.output)!r} is not a folder.")
    with locked_folder(args.output):
        _refuse_foreign_folder(args.output)
        found = find_images(named, exclude=args.exclude)
        sys.stderr.write("".join(f"`--exclude {pattern}` leaves out nothing.\n" for pattern in found.idle_patterns))
        status = _bring_up_to_date(args, named, found.paths)
    if passed_over := found.tell_passed_over():
        sys.stderr.write(passed_over + "\n")
    return status


def _refuse_foreign_folder(output: Path) -> None:
    from .index import BASIS_FILE, DESCRIPTION_FILE

    left_by_a_killed_run = ("README.md", BASIS_FILE)
    others = [name for name in os.listdir(output) if not name.startswith(".") and name not in left_by_a_killed_run]
    if others and DESCRIPTION_FILE not in others:
        raise FileExistsError(
            f"{str(output)!r} holds other things, {sorted(others)[0]!r} for one: choose a new folder for the index."
        )


def _bring_up_to_date(args: argparse.Namespace, named: Sequence[str], paths: Sequence[str]) -> int:
    from .index import DESCRIPTION_FILE, ImageIndex, change_places
    from .index_changes import find_changes, find_files, join_folders, refuse_emptied

    old = ImageIndex(args.output) if (args.output / DESCRIPTION_FILE).exists() else None
    indexed = old.images() if old else []
    folders = join_folders(named, old.description.folders if old else (), args.output)
    files = find_files(paths, folders)
    refuse_emptied(folders, indexed, files)
    encoder, description = _make_encoder(args, folders, old.description if old else None)
    changes = _with_mended(args, encoder.square, find_changes(indexed, files), indexed, files)
    if not old or changes.todo or not old.description.complete:
        description.write(args.output, encoder.basis)
    change_places(args.output, description, changes.places)
    interrupted, failures = _encode(args, encoder, description, changes)
    if not interrupted:
        replace(description, complete=True).write(args.output, encoder.basis)
    _tell(args, len(ImageIndex(args.output)), changes, indexed, failures)
    if interrupted:
        sys.stderr.write("Interrupted; the same command goes on.\n")
        return 130
    return 1 if args.strict and failures else 0


def _make_encoder(
    args: argparse.Namespace, folders: tuple[str, ...], old: "IndexDescription | None"
) -> tuple["FeatureEncoder", "IndexDescription"]:
    from .feature_encoder import FeatureEncoder, feature_fingerprint
    from .index import IndexDescription, read_basis
    from .loading import load_quietly, pick_device

    name = args.model or (old.model if old else DEFAULT_MODEL)
    model, processor = load_quietly(name)
    basis = read_basis(args.output, old) if old else None
    encoder = FeatureEncoder(model, processor, device=pick_device(args.device), basis=basis)
    num_patches = 0 if args.without_patches else math.prod(model.config.patch_grid())
    description = IndexDescription(
        os.path.abspath(name) if os.path.isdir(name) else name,
        feature_fingerprint(model, processor),
        model.clip.config.projection_dim,
        num_patches,
        folders,
    )
    if old is not None:
        _refuse_other_kind(old, description, args.output)
    return encoder, description


def _refuse_other_kind(old: "IndexDescription", new: "IndexDescription", output: Path) -> None:
    if old.fingerprint != new.fingerprint:
        raise ValueError(
            f"The index {str(output)!r} was made by the model {old.model!r}, and {new.model!r} computes other "
            "features: leave out `--model`, or choose another `--output`."
        )
    if old.num_patches and not new.num_patches:
        raise ValueError(f"The index {str(output)!r} has patches: `--without-patches` is for a new index.")
    if new.num_patches and not old.num_patches:
        raise ValueError(f"The index {str(output)!r} has no patches: pass `--without-patches`, or make a new one.")


def _with_mended(
    args: argparse.Namespace,
    square: "SquareSize",
    changes: "Changes",
    indexed: Sequence["IndexedImage"],
    files: Sequence["FoundFile"],
) -> "Changes":
    """Also encode what could not be read before, and now can though it did not change: a permission was given."""
    at = {file.place: file for file in files}
    broken = [number for number, image in enumerate(indexed) if image.error and changes.places[number] in at]
    again = [at[changes.places[number]] for number in broken]  # type: ignore[index]
    places, todo = list(changes.places), list(changes.todo)
    with closing(read_pictures(args, [file.path for file in again], square)) as read:
        for number, file, image in zip(broken, again, read, strict=True):
            if image.error is None:
                places[number] = None
                todo.append(file)
    return changes._replace(places=places, todo=todo)


def _encode(
    args: argparse.Namespace, encoder: "FeatureEncoder", description: "IndexDescription", changes: "Changes"
) -> tuple[bool, list[tuple[str, str]]]:
    """Encode and write what is to do.

    Returns:
        Whether it was interrupted before the end, and what could not be read, with the reasons.
    """
    from ..interruption import stop_signals
    from .index import IndexWriter

    todo, failures, num_done, interrupted = changes.todo, [], 0, False
    shard_size = args.shard_size or _shard_size(description, args.batch_size)
    writer = IndexWriter(args.output, description, shard_size=shard_size)
    read = read_pictures(args, [file.path for file in todo], encoder.square)
    with stop_signals() as stop_asked, closing(read), progress_bar(len(todo)) as progress:
        while batch := list(itertools.islice(read, args.batch_size)):
            _add(writer, encoder, todo[num_done : num_done + len(batch)], batch)
            failures += [(image.path, image.error) for image in batch if image.error is not None]
            num_done += len(batch)
            progress.update(len(batch))
            if interrupted := stop_asked() and num_done < len(todo):
                break
        writer.flush()
    return interrupted, failures


def _add(
    writer: "IndexWriter", encoder: "FeatureEncoder", files: Sequence["FoundFile"], batch: Sequence["ReadImage"]
) -> None:
    """Encode a batch, and give it to the writer with zeros for what could not be read."""
    from .index import IndexedImage
    from .paths import escape_path

    images = []
    for file, image in zip(files, batch, strict=True):
        width, height = image.size
        error = image.error and escape_path(image.error)
        images.append(IndexedImage(*file.place, file.size, file.modified_ns, width, height, error))
    is_whole = [image.pixels is not None for image in batch]
    writer.add(images, encoder([image.pixels for image in batch if image.pixels is not None]).spread(is_whole))


def _shard_size(description: "IndexDescription", batch_size: int) -> int:
    """Whole batches, so that a run that is killed and goes on computes in the batches of an undisturbed one."""
    most = min(_SHARD_BYTES // description.bytes_per_image, _LARGEST_SHARD)
    return max(most // batch_size, 1) * batch_size


def _tell(
    args: argparse.Namespace,
    num_indexed: int,
    changes: "Changes",
    indexed: Sequence["IndexedImage"],
    failures: Sequence[tuple[str, str]],
) -> None:
    from .reasons import first_reasons

    kept = sum(place is not None for place in changes.places)
    moved = changes.num_moved(indexed)
    lines = [
        f"{num_indexed:,} picture{'s' * (num_indexed != 1)} in {str(args.output)!r}: "
        f"{num_indexed - kept:,} encoded, {kept:,} kept ({moved:,} of them moved), "
        f"{len(indexed) - kept:,} dropped or encoded again, {len(failures):,} failed"
    ]
    lines += first_reasons(failures)
    sys.stderr.write("\n".join(lines) + "\n")


__all__ = ["add_arguments", "run"]
