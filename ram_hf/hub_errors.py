"""What an error of the Hub means, in a sentence that says what to do next; and no token in any of them."""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import NamedTuple
from urllib.parse import unquote

from huggingface_hub.errors import (
    EntryNotFoundError,
    GatedRepoError,
    HfHubHTTPError,
    HFValidationError,
    LocalTokenNotFoundError,
    OfflineModeIsEnabled,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)

from .model.hub_names import intended_id

LOG_IN = "`hf auth login` keeps a token for all that follows (or set HF_TOKEN)"
PLAIN = (ConnectionError, FileNotFoundError, PermissionError, ValueError)  # as they are, they say what they mean

_TOKEN = re.compile(r"hf_[A-Za-z0-9]{6,}|(?<=Bearer )[^\s'\"]+")
_AGAIN = "Run the same again: what has arrived whole is kept."
_HTTP_CLIENTS = ("httpx", "httpx2", "httpcore", "httpcore2")  # which one depends on the release of huggingface_hub
_NAME = r"(?P<name>[^/]+(?:/[^/]+?)?)"
_ADDRESSES = (
    re.compile(rf"https?://[^/]+/(?P<kind>datasets/)?{_NAME}(?:/resolve/(?P<revision>[^/]+)/(?P<file>.+)|\.git/.*)"),
    re.compile(
        rf"https?://[^/]+/api/(?P<kind>models/|datasets/){_NAME}(?:/[a-z-]+/(?P<revision>[^/]+)(?:/.*)?|/refs)?"
    ),
)
_Told = tuple[type[OSError] | type[ValueError], str]


class _Place(NamedTuple):
    what: str  # with its quotes
    is_dataset: bool | None = None  # None: the address does not tell
    revision: str | None = None
    file: str | None = None


@contextmanager
def plain_errors(name: str | None = None) -> Iterator[None]:
    """Tell in a line what the client's paragraphs mean.

    Args:
        name: of the repository; without it, what the address that failed says.

    Raises:
        ConnectionError: when the Hub cannot be reached, is busy or broken: the same can be run again.
        FileNotFoundError: when there is no such repository, owner, branch or file.
        PermissionError: when there is no token, or it may not do this.
        ValueError: when no repository can have that name, or the Hub refuses what was sent.
    """
    try:
        yield
    except Exception as error:
        if type(error) in PLAIN or (plain := plain_error(error, name)) is None:
            raise
        raise plain from error


def explain(error: BaseException, name: str | None = None) -> str | None:
    """What an error of the Hub, or one that it caused, means; None for any other error."""
    plain = plain_error(error, name)
    return None if plain is None else str(plain)


def plain_error(error: BaseException, name: str | None = None) -> OSError | ValueError | None:
    """An error of Python's own type in the place of one of the Hub, or of one that it caused; None for any other."""
    for each in _causes(error):
        if found := _meaning(each, name):
            return found[0](redacted(found[1]))
    return None


def redacted(text: str) -> str:
    """A text without the tokens that stand in it."""
    return _TOKEN.sub("[token]", text)


def _causes(error: BaseException) -> Iterator[BaseException]:
    cause: BaseException | None = error
    while cause is not None:
        yield cause
        cause = cause.__cause__


def _meaning(error: BaseException, name: str | None) -> _Told | None:
    if isinstance(error, HfHubHTTPError):
        place = _place(str(error.response.request.url).partition("?")[0], name)
        return _of_what_is_not_there(error, place) or _of_a_status(error, place)
    if isinstance(error, HFValidationError):
        return ValueError, _of_a_name(error, name)
    if isinstance(error, LocalTokenNotFoundError):
        return PermissionError, f"There is no token for the Hub: {LOG_IN}."
    if isinstance(error, OfflineModeIsEnabled):
        what = f"{name!r} is not here" if name else "this needs the Hub"
        return (
            ConnectionError,
            f"HF_HUB_OFFLINE is set, and {what}: unset it; `ram-hf pull` fetches models beforehand.",
        )
    if type(error).__module__.partition(".")[0] in _HTTP_CLIENTS:
        reason, of = str(error) or type(error).__name__, f" for {name!r}" if name else ""
        return ConnectionError, f"The connection to the Hub broke off or cannot be had{of} ({reason}). {_AGAIN}"
    return None


def _place(address: str, name: str | None) -> _Place:
    for pattern in _ADDRESSES:
        if found := pattern.fullmatch(address):
            parts = {key: unquote(value) for key, value in found.groupdict().items() if value}
            is_dataset = parts.get("kind") == "datasets/"
            return _Place(repr(name or parts["name"]), is_dataset, parts.get("revision"), parts.get("file"))
    return _Place(repr(name) if name else address)


def _of_what_is_not_there(error: HfHubHTTPError, place: _Place) -> _Told | None:
    if isinstance(error, GatedRepoError):
        return PermissionError, f"{place.what} is gated: ask for access on its page, and log in: {LOG_IN}."
    if isinstance(error, RevisionNotFoundError):
        return FileNotFoundError, f"There is no branch, tag or commit {place.revision!r} of {place.what}."
    if isinstance(error, EntryNotFoundError):
        return FileNotFoundError, f"There is no file {place.file!r} in {place.what}."
    if isinstance(error, RepositoryNotFoundError) or error.response.status_code == 404:
        kind = "repository" if place.is_dataset is None else "data set" if place.is_dataset else "model"
        return FileNotFoundError, (
            f"The Hub has no {kind} {place.what}, or none that you may see. Check the name; for private ones {LOG_IN}."
        )
    return None


def _of_a_status(error: HfHubHTTPError, place: _Place) -> _Told:
    status = error.response.status_code
    said = f" The Hub says: {' '.join(error.server_message.split())}" if error.server_message else ""
    if status == 401:
        return PermissionError, (
            f"The Hub does not know your token, or needs one for {place.what}: get a new one; {LOG_IN}.{said}"
        )
    if status == 403 and error.response.request.method in ("GET", "HEAD"):
        return PermissionError, f"Your token may not read {place.what}: let it, or use another one; {LOG_IN}.{said}"
    if status == 403:
        return PermissionError, (
            f"Your token may not write to {place.what}: use one with write access, and a name that is yours.{said}"
        )
    if status == 429:
        wait = error.response.headers.get("Retry-After")
        when = f"in {wait} seconds" if wait else "in some minutes"
        return ConnectionError, (
            f"The Hub takes no more requests for now (429), and does {when}. {_AGAIN} It was about {place.what}."
        )
    if status >= 500:
        return ConnectionError, f"The Hub is out of order ({status}), asked for {place.what}. {_AGAIN}"
    return ValueError, f"The Hub refuses this to {place.what} ({status}).{said or f' {error}'}"


def _of_a_name(error: HFValidationError, name: str | None) -> str:
    if name is None:
        return f"That can be no name of a repository, which is 'owner/name'. {error}"
    intended = intended_id(name)
    hint = f" Did you mean {intended!r}?" if intended else ""
    return f"No repository can be named {name!r}: it is 'owner/name', of letters, digits, '-', '_' and '.'.{hint}"


__all__ = ["LOG_IN", "PLAIN", "explain", "plain_error", "plain_errors", "redacted"]
