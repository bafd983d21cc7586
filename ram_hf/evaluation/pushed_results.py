"""What an evaluation found, added to the card of a model on the Hub."""

import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ..hub_errors import plain_errors
from ..model.card import read_card, with_results
from ..model.eval_results import results_of_report
from ..model.pushing import CARD, remote_card
from ..uploads import Tell, upload


def push_results(content: Mapping[str, Any], repo: str, *, create_pr: bool = False, tell: Tell) -> str:
    """Add results to the card of a repository, in the place of earlier ones on the same rows; its words stay.

    Args:
        content: what was found, from [`report_content`].
        repo: "owner/name", which is there.
        create_pr: propose it, as one does where one may not write.
        tell: is told what is going on.

    Returns:
        Address of the repository, or of the pull request.

    Raises:
        ConnectionError, FileNotFoundError, PermissionError, ValueError: see [`plain_errors`], and where the card that
            is there cannot be read.
    """
    with plain_errors(repo), tempfile.TemporaryDirectory() as temporary:
        card = remote_card(repo) or read_card("", f"of {repo!r}")
        with_results(card, results_of_report(content), repo).save(Path(temporary) / CARD)
        return upload(temporary, repo, message="Add evaluation results", create_pr=create_pr, tell=tell)


__all__ = ["push_results"]
