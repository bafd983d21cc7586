"""`ram-hf search`: which pictures of an index show what a text says."""

import argparse
import json
import os
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING

from ..option_types import path, path_or_id, share, whole_number
from ..prompt_option import add_prompt_template_argument

if TYPE_CHECKING:
    from .index import ImageIndex
    from .search import Hit, LabelSearch
    from .search_page import FoundImage

_DESCRIPTION = """\
Find pictures by what they show, in an index that `ram-hf index` made. No picture is
opened, but for small ones in the page of --html.

Of several texts all must be there: their probabilities are multiplied. On a terminal
the pictures are printed in columns, elsewhere one line PATH<TAB>PROBABILITY each, and
<TAB>changed or <TAB>gone where the file is no longer what was indexed.
"""
_EPILOG = """\
examples:
  ram-hf search pictures.index "red car"
  ram-hf search pictures.index "a dog on the beach" --top 100 --html found.html
  ram-hf search pictures.index dog snow --threshold 0.5
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `ram-hf search` to a parser."""
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.description, parser.epilog = _DESCRIPTION, _EPILOG
    parser.add_argument("index", metavar="INDEX", type=path, help="folder of the index")
    parser.add_argument("texts", metavar="TEXT", nargs="+", help="what the pictures show, as a label says it")
    parser.add_argument("--top", type=whole_number(1), default=20, metavar="N", help="pictures at most (default: 20)")
    parser.add_argument(
        "--threshold", type=share, metavar="P", help="only pictures of at least this probability, from 0 to 1"
    )
    parser.add_argument("--html", type=path, metavar="FILE", help="also write a page with small pictures")
    parser.add_argument("--json", action="store_true", help="print a JSON object a line")
    parser.add_argument(
        "--model", type=path_or_id, metavar="ID", help="where the index's model is now (default: where it was)"
    )
    add_prompt_template_argument(parser)


def run(args: argparse.Namespace) -> int:
    """Run `ram-hf search` with the arguments of [`add_arguments`].

    Returns:
        Exit status: 0, also when nothing is found; 1 when whoever reads what is printed has gone.

    Raises:
        OSError: when the index or its model is not there, or the page cannot be written.
        ValueError: when it is no index, its model computes other features, or a text is no label.
    """
    from .index import ImageIndex
    from .loading import load_for_index
    from .search_page import refuse_foreign_page, write_page

    if blank := [text for text in args.texts if not text.strip()]:
        raise ValueError(f"There is nothing to look for in {blank[0]!r}: write for example 'red car'.")
    if args.html is not None:
        refuse_foreign_page(args.html)
    index = ImageIndex(args.index)
    model, processor = load_for_index(index, args.model)
    from .search import LabelSearch

    search = LabelSearch(index, model, processor)
    if args.threshold is not None and not search.gives_probabilities:
        raise ValueError(f"`--threshold` is of probabilities, and pictures are ranked by {search.ranking}.")
    hits = search.best(search.encode(args.texts, template=args.prompt_template), args.top)
    hits = [hit for hit in hits if hit.value >= (args.threshold or -float("inf"))]
    found = [_found(index, hit) for hit in hits]
    note = f"{len(found):,} of {len(index):,} pictures, by {search.ranking}."
    if not index.description.complete:
        note += " The index is not complete: the command that made it goes on where it was stopped."
    if args.html is not None:
        write_page(args.html, " + ".join(args.texts), note, found)
    try:
        _print(found, search, as_json=args.json)
    except BrokenPipeError:  # whoever reads has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    sys.stderr.write(note + "\n")
    return 0


def _found(index: "ImageIndex", hit: "Hit") -> "FoundImage":
    from .index_changes import state_of
    from .search_page import FoundImage

    (image,) = index.images(hit.number, hit.number + 1)
    path = index.path_of(image)
    return FoundImage(path, f"{hit.value:.6g}", state_of(path, image) or "")


def _print(found: Sequence["FoundImage"], search: "LabelSearch", *, as_json: bool) -> None:
    from .paths import escape_path, printable

    kind = "probability" if search.gives_probabilities else "score"
    width = max((len(printable(image.path)) for image in found), default=0)
    for image in found:
        if as_json:
            row = {"path": escape_path(image.path), kind: float(image.value), "state": image.state or "as indexed"}
            line = json.dumps(row, ensure_ascii=False)
        elif sys.stdout.isatty():
            line = f"{printable(image.path):{min(width, 60)}}  {float(image.value):.2f}  {image.state}".rstrip()
        else:
            line = "\t".join([printable(image.path), image.value, *([image.state] if image.state else [])])
        sys.stdout.write(line + "\n")
    sys.stdout.flush()


__all__ = ["add_arguments", "run"]
