"""`ram-hf push`: a trained folder to the Hub. Only the standard library is imported until it runs."""

import argparse
import sys


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of the command."""
    parser.description = (
        "Send a trained model to the Hub: weights, configuration, processor, code, a handler for Inference Endpoints, "
        "and a card made from its run. What somebody wrote in the card stays."
    )
    parser.add_argument("folder", metavar="FOLDER", help="of a RAM model, as `ram-hf train` leaves it")
    parser.add_argument("repo", metavar="REPO", help="owner/name on the Hub; made if it is not there")
    parser.add_argument("--private", action="store_true", help="make the repository private")
    parser.add_argument("--revision", metavar="R", help="branch to push to; made if it is not there (default: main)")
    parser.add_argument("--message", metavar="M", help="of the commit")
    parser.add_argument("--license", metavar="ID", help="such as apache-2.0 (default: the card's, or its base's)")
    parser.add_argument(
        "--adapters-only", action="store_true", help="leave out the weights of the CLIP, which is on the Hub already"
    )


def run(args: argparse.Namespace) -> int:
    """Push, and print the address.

    Raises:
        OSError, ValueError: see [`push`].
    """
    from ..uploads import tell_on_stderr
    from .push import push

    url = push(
        args.folder,
        args.repo,
        private=args.private,
        revision=args.revision,
        message=args.message,
        license=args.license,
        adapters_only=args.adapters_only,
        tell=tell_on_stderr,
    )
    sys.stdout.write(f"{url}\n")
    return 0


__all__ = ["add_arguments", "run"]
