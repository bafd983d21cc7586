"""Folders and files to the Hub, with its refusals told in one line each."""

import os
import sys
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Literal

from huggingface_hub import HfApi, get_token
from huggingface_hub.utils import validate_repo_id

from .hub_errors import LOG_IN, plain_errors
from .model.suggestions import did_you_mean

RepoType = Literal["model", "dataset"]
Tell = Callable[[str], None]


def tell_on_stderr(line: str) -> None:
    """What commands hand in as `tell`."""
    sys.stderr.write(f"{line}\n")


def open_repo(repo: str, repo_type: RepoType = "model", *, private: bool = False, revision: str | None = None) -> str:
    """Make a repository and its branch where they are not there yet.

    Args:
        repo: "owner/name", or a name of one's own.
        repo_type: what it is of.
        private: make it private; one that is there must be.
        revision: branch.

    Returns:
        Its full name, "owner/name".

    Raises:
        ConnectionError, FileNotFoundError, PermissionError, ValueError: see [`plain_errors`]; and a PermissionError
            when it is there, and public where `private` was asked for.
    """
    api = HfApi()
    with plain_errors(repo):
        name = api.create_repo(repo, repo_type=repo_type, private=private or None, exist_ok=True).repo_id
        if private and not api.repo_info(name, repo_type=repo_type).private:
            raise PermissionError(
                f"{name!r} is there already, and public: make it private in its settings, or push without `--private`."
            )
        if revision is not None:
            api.create_branch(name, repo_type=repo_type, branch=revision, exist_ok=True)
    return name


def upload(
    folder: str | os.PathLike,
    repo_id: str,
    repo_type: RepoType = "model",
    *,
    message: str,
    revision: str | None = None,
    create_pr: bool = False,
    leave_out: tuple[str, ...] = (),
    tell: Tell,
) -> str:
    """Send every file of a folder in one commit. Where it broke off, what arrived is not sent again.

    Args:
        folder: of the files.
        repo_id: where they go, a repository that is there.
        repo_type: what it is of.
        message: of the commit.
        revision: branch that is there; None for the main one.
        create_pr: propose the commit instead of making it.
        leave_out: names of files that stay here.
        tell: is told how much goes where.

    Returns:
        Address of what came of it: the pull request, or the files.

    Raises:
        ConnectionError, FileNotFoundError, PermissionError, ValueError: see [`plain_errors`].
    """
    files = [file for file in Path(folder).rglob("*") if file.is_file() and file.name not in leave_out]
    tell(f"Sending {len(files)} files, {_size(sum(file.stat().st_size for file in files))}, to {repo_id}")
    with plain_errors(repo_id):
        commit = HfApi().upload_folder(
            repo_id=repo_id,
            repo_type=repo_type,
            folder_path=Path(folder),
            commit_message=message,
            revision=revision,
            create_pr=create_pr,
            ignore_patterns=list(leave_out) or None,
        )
    if commit.pr_url is not None:
        return commit.pr_url
    return f"{commit.repo_url}/tree/{revision}" if revision else str(commit.repo_url)


def refuse_without_token(repo: str) -> None:
    """Raise what [`plain_errors`] would before any work is done: for want of a token, or of a possible name.

    Raises:
        PermissionError: when there is no token.
        ValueError: when no repository can have that name.
    """
    with plain_errors(repo):
        validate_repo_id(repo)
    if get_token() is None:
        raise PermissionError(
            f"There is no token for the Hub, so nothing can go to {repo!r}: {LOG_IN}; give it write access."
        )


def refuse_missing_repo(repo: str, repo_type: RepoType = "model") -> None:
    """Raise FileNotFoundError where there is no such repository, with the nearest of the same owner."""
    with plain_errors(repo):
        if HfApi().repo_exists(repo, repo_type=repo_type):
            return
    names: list[str] = []
    with suppress(Exception):  # only for the hint
        owner = repo.partition("/")[0]
        listing = HfApi().list_models(author=owner) if repo_type == "model" else HfApi().list_datasets(author=owner)
        names = [each.id for each in listing]
    hint = did_you_mean(repo, names) if names else "`ram-hf push` makes one."
    raise FileNotFoundError(f"There is no repository {repo!r} that you may see. {hint}")


def _size(num_bytes: float) -> str:
    for unit in ("bytes", "kB", "MB"):
        if num_bytes < 1000:
            return f"{num_bytes:.3g} {unit}"
        num_bytes /= 1000
    return f"{num_bytes:.3g} GB"


__all__ = ["open_repo", "refuse_missing_repo", "refuse_without_token", "tell_on_stderr", "upload"]
