"""What an error of the Hub means, in a sentence that says what to do; and no token in any of them."""

import re
from collections.abc import Iterator

from huggingface_hub.errors import (
    EntryNotFoundError,
    GatedRepoError,
    HfHubHTTPError,
    OfflineModeIsEnabled,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)

_TOKEN = re.compile(r"hf_[A-Za-z0-9]{6,}|(?<=Bearer )[^\s'\"]+")
_GO_ON = "Run the same again: files that have arrived whole are kept."
_HTTP_CLIENTS = ("httpx", "httpx2", "httpcore", "httpcore2")  # which one depends on the release of huggingface_hub


def explain(error: BaseException) -> str | None:
    """What an error of the Hub, or one that it caused, means; None for any other error."""
    for each in _causes(error):
        if isinstance(each, HfHubHTTPError):
            return redacted(_of_an_answer(each))
        if isinstance(each, OfflineModeIsEnabled):
            return "HF_HUB_OFFLINE is set, and this needs the Hub: `ram-hf pull` fetches what is used without it."
        if type(each).__module__.partition(".")[0] in _HTTP_CLIENTS:
            reason = redacted(str(each)) or type(each).__name__
            return f"The connection to the Hub broke off or cannot be had ({reason}). {_GO_ON}"
    return None


def redacted(text: str) -> str:
    """A text without the tokens that stand in it."""
    return _TOKEN.sub("[token]", text)


def _of_an_answer(error: HfHubHTTPError) -> str:
    status, address = error.response.status_code, str(error.response.request.url).partition("?")[0]
    if isinstance(error, GatedRepoError):
        return f"{address} is gated: ask for access on its page, and log in with `hf auth login` or HF_TOKEN."
    if isinstance(error, RevisionNotFoundError):
        return f"There is no such branch, tag or commit: {address}."
    if isinstance(error, EntryNotFoundError):
        return f"There is no such file: {address}."
    if isinstance(error, RepositoryNotFoundError):
        return (
            f"The Hub has no such repository, or none that you may see: {address}. Check the name; private ones need "
            "`hf auth login` or HF_TOKEN."
        )
    if status == 401:
        return "The Hub does not know your token: get a new one, and log in with `hf auth login` or set HF_TOKEN."
    if status == 403:
        return f"Your token may not do this: {address}. Use one with write access, and a name that is yours."
    if status == 429:
        wait = error.response.headers.get("Retry-After")
        when = f"in {wait} seconds" if wait else "in some minutes"
        return f"The Hub takes no more requests for now (429), and does {when}. {_GO_ON}"
    if status >= 500:
        return f"The Hub is out of order ({status}). {_GO_ON}"
    return f"The Hub refuses this ({status}): {error.server_message or error}"


def _causes(error: BaseException) -> Iterator[BaseException]:
    cause: BaseException | None = error
    while cause is not None:
        yield cause
        cause = cause.__cause__


__all__ = ["explain", "redacted"]
