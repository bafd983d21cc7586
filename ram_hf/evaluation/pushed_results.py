"""What an evaluation found, added to the card of a model on the Hub."""

import tempfile
from pathlib import Path

from huggingface_hub import hf_hub_download
from huggingface_hub.errors import RemoteEntryNotFoundError

from ..data.sources import DatasetSpec
from ..hub_errors import plain_errors
from ..model.card import read_card, with_results
from ..model.eval_results import results_of_report
from ..uploads import Tell, upload
from .report import EvaluationReport
from .report_file import report_content

_CARD = "README.md"


def push_results(
    report: EvaluationReport, rows: DatasetSpec, repo: str, *, create_pr: bool = False, tell: Tell
) -> str:
    """Add results to the card of a repository, in the place of earlier ones on the same rows; its words stay.

    Args:
        report: what was found.
        rows: what it is of.
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
        try:
            text = Path(hf_hub_download(repo, _CARD)).read_bytes().decode("utf-8-sig")
        except RemoteEntryNotFoundError:  # a repository without a card
            text = ""
        card = read_card(text, f"of {repo!r}")
        with_results(card, results_of_report(report_content(report, rows)), repo).save(Path(temporary) / _CARD)
        return upload(temporary, repo, message="Add evaluation results", create_pr=create_pr, tell=tell)


__all__ = ["push_results"]
