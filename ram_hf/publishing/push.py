"""A trained folder to the Hub: checked, put together anew without anything of this machine, and sent in one commit."""

import os
import shutil
import tempfile
from pathlib import Path

from ..hub_errors import plain_errors
from ..model.bundled import find_bundled
from ..model.checkpoint_kind import kind_of_checkpoint
from ..model.pipeline_ram import RamTaggingPipeline
from ..model.pushing import renew_card
from ..model.weight_files import as_stored
from ..pretrained import load_model
from ..uploads import Tell, open_repo, refuse_without_token, upload

_BESIDE_THE_MODEL = ("README.md", "LICENSE*", "NOTICE*")


def push(
    folder: str | os.PathLike[str],
    repo: str,
    *,
    private: bool = False,
    revision: str | None = None,
    message: str | None = None,
    license: str | None = None,
    adapters_only: bool = False,
    tell: Tell,
) -> str:
    """Send the model in a folder to the Hub, with its processor, its code and its card.

    Args:
        folder: of a RAM model; or the name of one that comes with the package.
        repo: "owner/name"; made if it is not there.
        private: make it private.
        revision: branch; made if it is not there.
        message: of the commit.
        license: for the card, in place of what it says already.
        adapters_only: leave out the base CLIP's weights.
        tell: is told what is going on.

    Returns:
        Address of the repository.

    Raises:
        ConnectionError: when the Hub cannot be reached.
        FileNotFoundError: when there is no model in the folder, or no such owner on the Hub.
        PermissionError: when there is no token, or it may not write there.
        ValueError: when the model is not whole or not a RAM, its card is broken, or the repository cannot have its
            name.
    """
    source = _model_folder(folder, repo)
    refuse_without_token(repo)
    with tempfile.TemporaryDirectory() as temporary:
        staged = Path(temporary)
        tell(f"Reading {os.fspath(folder)}")
        model, processor = load_model(source)
        weights = as_stored(source, model.state_dict())  # a bundle is loaded wider than it is kept
        options = {"adapters_only": True} if adapters_only else {}
        RamTaggingPipeline(model, processor).save_pretrained(staged, state_dict=weights, **options)
        for pattern in _BESIDE_THE_MODEL:
            for file in source.glob(pattern):
                shutil.copy(file, staged)
        repo_id = open_repo(repo, private=private, revision=revision)
        with plain_errors(repo_id):
            keeps_words = renew_card(
                staged,
                repo_id,
                config=model.config,
                source=source,
                revision=revision,
                license=license,
                adapters_only=adapters_only,
            )
        if keeps_words:
            tell(f"The words of the card at {repo_id} stay; those of the folder's README.md are left behind.")
        return upload(staged, repo_id, message=message or "Upload RAM model", revision=revision, tell=tell)


def _model_folder(folder: str | os.PathLike[str], repo: str) -> Path:
    path = Path(find_bundled(os.fspath(folder)))
    if not path.is_dir():
        turned = " It is `ram-hf push FOLDER REPO`, in this order." if Path(repo).is_dir() else ""
        raise FileNotFoundError(f"There is no folder {os.fspath(folder)!r}.{turned}")
    if not (path / "config.json").is_file():
        near = [each for each in (path / "best", path.parent, path.parent.parent) if (each / "config.json").is_file()]
        hint = f"There is one in {str(near[0])!r}." if near else "Name the folder that `ram-hf train` wrote to."
        raise FileNotFoundError(f"There is no model in {os.fspath(folder)!r}: it has no config.json. {hint}")
    if kind_of_checkpoint(path) == "clip":
        raise ValueError(
            f"{os.fspath(folder)!r} holds a CLIP and no RAM model: train one on it, or push it training-free with "
            "`RamModel.from_clip(...).push_to_hub(...)`."
        )
    return path


__all__ = ["push"]
