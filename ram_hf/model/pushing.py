"""What goes to the Hub goes with its card, in place of transformers' empty template."""

import os
import shutil
from pathlib import Path
from typing import Any

from huggingface_hub import ModelCard, ModelCardData, hf_hub_download
from huggingface_hub.errors import (
    EntryNotFoundError,
    LocalEntryNotFoundError,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)

from .bundled import find_bundled
from .card import has_own_words, make_card, metadata, read_card
from .card_text import base_model
from .configuration_ram import RamConfig
from .eval_results import merged_results
from .run_record import CALIBRATION_DIAGRAM, CALIBRATION_FILE, RUN_FILE, find_run_file, read_run

CARD = "README.md"
_PIPELINE_CODE = "pipeline_ram.py"


class PushesCard:
    """Mixin of what has `push_to_hub`: its card is made from where the model came from, and goes along."""

    def _card_facts(self) -> tuple[RamConfig | None, str | os.PathLike[str] | None]:
        """Configuration of the model, None for a part that has none; and the folder or repository that it is from."""
        raise NotImplementedError

    def _upload_modified_files(
        self,
        working_dir: str | os.PathLike[str],
        repo_id: str,
        *args: Any,
        token: bool | str | None = None,
        revision: str | None = None,
        **kwargs: Any,
    ) -> Any:
        config, source = self._card_facts()
        renew_card(working_dir, repo_id, config=config, source=source, token=token, revision=revision)
        return super()._upload_modified_files(  # type: ignore[misc]
            working_dir, repo_id, *args, token=token, revision=revision, **kwargs
        )


def renew_card(
    folder: str | os.PathLike[str],
    repo_id: str,
    *,
    config: RamConfig | None,
    source: str | os.PathLike[str] | None,
    token: bool | str | None = None,
    revision: str | None = None,
    license: str | None = None,
    adapters_only: bool = False,
) -> bool:
    """Write the card of a repository into the folder that is about to go there, with the record of the run.

    The words on the Hub stay; where nobody wrote any there, those in the folder's `README.md` do.

    Args:
        folder: of the files that go to the Hub.
        repo_id: where they go.
        config: of the model; None where a processor goes alone.
        source: folder or repository that the model came from, with what its run left there.
        token: of the Hub.
        revision: branch to go to.
        license: takes the place of the card's.
        adapters_only: whether the base model's weights are left out.

    Returns:
        Whether words of the folder's `README.md` were left behind for those on the Hub.

    Raises:
        ConnectionError: when the Hub cannot be asked for the card that is there.
        ValueError: when a card or the run's record cannot be read.
    """
    folder = Path(folder)
    local = _local_card(folder / CARD)
    remote = remote_card(repo_id, token=token, revision=revision)
    own = local if remote is None or (has_own_words(local) and not has_own_words(remote)) else remote
    run_file = find_run_file(source, token=token)
    if config is None and run_file is None and remote is not None and metadata(remote).pipeline_tag:
        remote.save(folder / CARD)  # a processor knows less than the model's card that is there
        return False
    run = read_run(source, token=token)
    for name in (RUN_FILE, CALIBRATION_FILE, CALIBRATION_DIAGRAM):
        file = find_run_file(source, name, token=token)
        if file is not None and not (folder / name).exists():
            shutil.copy(file, folder / name)
    if own is not None:
        results = [metadata(card).eval_results or [] for card in (local, remote) if card is not None]
        metadata(own).eval_results = merged_results(results[0], results[-1]) or None
        metadata(own).license = license or metadata(own).license
    card = make_card(
        repo_id,
        config=config,
        run=run,
        own=own,
        license=ModelCardData(license=license) if license else _base_metadata(base_model(config, run), token),
        tags=[] if local is None else metadata(local).tags or [],
        has_pipeline=(folder / _PIPELINE_CODE).is_file(),
        adapters_only=adapters_only,
    )
    card.save(folder / CARD)
    return own is not local and has_own_words(local)


def _local_card(file: Path) -> ModelCard | None:
    return read_card(_read_as_it_is(file), repr(str(file))) if file.is_file() else None


def remote_card(repo_id: str, *, token: bool | str | None = None, revision: str | None = None) -> ModelCard | None:
    """The card of a repository; None where it has none, or is not there yet.

    Raises:
        ConnectionError: when the Hub cannot be asked.
        ValueError: when its metadata cannot be read.
    """
    try:
        file = hf_hub_download(repo_id, CARD, token=token, revision=revision)
    except LocalEntryNotFoundError as error:  # words that nobody saw must not be written over
        raise ConnectionError(f"The card of {repo_id!r} cannot be had: the Hub does not answer.") from error
    except (EntryNotFoundError, RepositoryNotFoundError, RevisionNotFoundError):
        return None
    return read_card(_read_as_it_is(file), f"of {repo_id!r}")


def _read_as_it_is(file: str | Path) -> str:
    with open(file, encoding="utf-8-sig", newline="") as lines:
        return lines.read()


def _base_metadata(base: str | None, token: bool | str | None) -> ModelCardData | None:
    """Metadata of the card of the model that this one was made from, where it can be had."""
    if base is None:
        return None
    folder = Path(find_bundled(base))
    try:
        if folder.is_dir():
            return metadata(read_card(_read_as_it_is(folder / CARD), base))
        return metadata(read_card(_read_as_it_is(hf_hub_download(base, CARD, token=token)), base))
    except Exception:  # no card, no access, no network: its licence is not known
        return None


__all__ = ["CARD", "PushesCard", "remote_card", "renew_card"]
