"""`ram-hf pull`: a model from the Hub into the cache, with all that use without a network needs."""

import argparse
import sys
from pathlib import Path

# What other frameworks and training leave beside the weights; pickles are never opened, so they need not come.
_LEFT_OUT = [
    "*.bin",
    "*.pt",
    "*.pth",
    "*.pkl",
    "*.pickle",
    "*.ckpt",
    "*.h5",
    "*.msgpack",
    "*.onnx",
    "*.ot",
    "*.tflite",
]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `ram-hf pull` to a parser."""
    parser.add_argument("repo", metavar="REPO", help="a RAM or a CLIP on the Hub: owner/name or owner/name@revision")
    parser.add_argument("--revision", metavar="R", help="branch, tag or commit (default: main)")


def run(args: argparse.Namespace) -> int:
    """Run `ram-hf pull`."""
    for folder in pull(args.repo, args.revision):
        sys.stdout.write(f"{folder}\n")
    return 0


def pull(repo: str, revision: str | None = None) -> list[Path]:
    """Fetch a model: weights, configuration, processor and code; of a repository of adapters alone also their CLIP.

    Files that an interrupted call has fetched whole are kept, and the next one goes on with the others.

    Args:
        repo: "owner/name", or "owner/name@revision".
        revision: branch, tag or commit.

    Returns:
        The folders in the cache, the model's own first. With HF_HUB_OFFLINE=1 it is loaded by the same names.

    Raises:
        NoRoomError: when the disk of the cache is full.
        ValueError: when it is neither a RAM nor a CLIP, has no weights but pickles, or its adapters do not name their
            CLIP; and for a model of the package.
        ConnectionError, FileNotFoundError, PermissionError, ValueError: see [`plain_errors`].
    """
    from ..model.bundled import find_bundled
    from ..model.checkpoint_kind import kind_of_checkpoint, read_json_object
    from ..model.hub_names import split_revision

    name, revision = split_revision(repo, revision)
    if find_bundled(name) != name:
        raise ValueError(f"{name!r} comes with the package, and is used by that name without a network.")
    folder = _fetch(str(name), revision)
    kind_of_checkpoint(folder)
    if not any(folder.glob("*.safetensors")):
        raise ValueError(f"{name!r} holds no weights as safetensors; pickles are never opened, so none are fetched.")
    config = read_json_object(folder / "config.json")
    if config.get("base_model_fingerprint") is None:
        return [folder]
    base, commit = config.get("base_model_name_or_path"), config.get("base_model_revision")
    if base is None:
        raise ValueError(f"{name!r} holds adapters alone and does not name their CLIP: it lay in a folder.")
    return [folder, _fetch(base, commit)]


def _fetch(name: str, revision: str | None) -> Path:
    from huggingface_hub import constants, snapshot_download

    from ..atomic import telling_no_room
    from ..hub_errors import plain_errors

    kept = "Make room, or set HF_HOME to a folder on another disk, and run the same again: what has arrived is kept."
    with plain_errors(name), telling_no_room(constants.HF_HUB_CACHE, kept):
        return Path(snapshot_download(name, revision=revision, ignore_patterns=_LEFT_OUT))


__all__ = ["add_arguments", "pull", "run"]
