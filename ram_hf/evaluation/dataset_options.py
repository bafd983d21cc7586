"""The options of commands that say which pictures and labels are read. Only the standard library, until they are."""

import argparse
from typing import TYPE_CHECKING, Any

from ..option_types import whole_number

if TYPE_CHECKING:
    from ..data.sources import DatasetSpec


def add_dataset_arguments(parser: argparse.ArgumentParser) -> None:
    """Add columns, revision, batches and what else [`dataset_spec`] and a loader take, but for the split."""
    parser.add_argument("--name", help="configuration of the dataset on the Hub")
    parser.add_argument("--revision", help="branch, tag or commit of the dataset on the Hub")
    parser.add_argument("--image-column", default="image", metavar="NAME", help="(default: image)")
    parser.add_argument("--label-column", metavar="NAME", help="dots lead into structs (default: labels)")
    parser.add_argument("--label-columns", nargs="+", metavar="NAME", help="columns of 1, 0 and -1, instead")
    parser.add_argument("--label-separator", metavar="TEXT", help="where the label column is one string of them")
    parser.add_argument("--batch-size", type=whole_number(1), default=32, metavar="N", help="(default: 32)")
    parser.add_argument(
        "--num-workers", type=whole_number(0), default=4, metavar="N", help="threads that decode (default: 4)"
    )
    parser.add_argument("--max-images", type=whole_number(1), metavar="N", help="only the first N pictures")
    parser.add_argument(
        "--skip-broken", action="store_true", help="pass over pictures that cannot be read, and count them"
    )
    parser.add_argument("--no-streaming", action="store_true", help="copy the dataset into the local cache first")


def dataset_spec(args: argparse.Namespace, **more: Any) -> "DatasetSpec":
    """The dataset that these options name; `more` are further fields of it.

    Raises:
        ValueError: when options do not go together.
    """
    if args.label_separator is not None and args.label_columns:
        raise ValueError("`--label-separator` is for one column of strings: it has no effect with `--label-columns`.")
    from ..data.sources import DatasetSpec

    return DatasetSpec(
        args.dataset,
        args.split,
        name=args.name,
        revision=args.revision,
        streaming=not args.no_streaming,
        image_column=args.image_column,
        label_column=args.label_column if args.label_column or args.label_columns else "labels",
        label_columns=args.label_columns,
        label_separator=args.label_separator,
        **more,
    )


__all__ = ["add_dataset_arguments", "dataset_spec"]
