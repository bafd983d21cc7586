"""What a search found as one HTML file that needs nothing else: small pictures are in it, and lead to the files."""

import base64
import io
import os
from collections.abc import Sequence
from html import escape
from pathlib import Path
from typing import NamedTuple
from urllib.parse import quote

from ..atomic import write_whole
from .paths import printable
from .reader import load_image

_MARK = '<meta name="generator" content="ram-hf search">'
_SIDE = 320  # pixels of a small picture, at most
_STYLE = """
:root { color-scheme: light dark; }
body { margin: 2rem; font: 1rem/1.4 system-ui, sans-serif; }
h1 { font-size: 1.4rem; margin: 0; }
p { margin: .3rem 0 1.5rem; opacity: .7; }
ul { list-style: none; margin: 0; padding: 0; display: grid; gap: 1.2rem;
  grid-template-columns: repeat(auto-fill, minmax(13rem, 1fr)); }
a { color: inherit; text-decoration: none; }
a:hover .name { text-decoration: underline; }
.box { height: 13rem; display: flex; align-items: center; justify-content: center; overflow: hidden;
  background: rgb(128 128 128 / .12); border-radius: .4rem; padding: 0 .5rem; text-align: center; }
.box img { width: 100%; height: 100%; object-fit: contain; }
.value { font-weight: 600; font-variant-numeric: tabular-nums; }
.state { color: #b3541e; }
.name { overflow-wrap: anywhere; font-size: .85rem; }
"""


class FoundImage(NamedTuple):
    """An image that was found.

    Attributes:
        path: its file.
        value: its probability or score, as it is shown.
        state: empty, or what became of it since the index was made.
    """

    path: str
    value: str
    state: str


def refuse_foreign_page(file: Path) -> None:
    """Raise FileExistsError where a file is that no search has written; FileNotFoundError where no folder is."""
    if not file.absolute().parent.is_dir():
        raise FileNotFoundError(f"There is no folder for {str(file)!r}.")
    if file.exists() and (file.is_dir() or _MARK.encode() not in file.read_bytes()[:1000]):
        raise FileExistsError(f"{str(file)!r} exists, and is no page of `ram-hf search`: choose another name.")


def write_page(file: Path, title: str, note: str, found: Sequence[FoundImage]) -> None:
    """Write the page, in the place of one of an earlier search.

    Args:
        file: the page; links are relative to its folder.
        title: what was looked for.
        note: a line below it.
        found: best first.

    Raises:
        OSError: when it cannot be written; what was there stays.
    """
    items = "\n".join(_item(image, file.absolute().parent) for image in found)
    page = f"""<!DOCTYPE html>
<html lang="en"><head><meta charset="utf-8">{_MARK}
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; img-src data:; style-src 'unsafe-inline'">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{escape(printable(title))}</title><style>{_STYLE}</style></head>
<body><h1>{escape(printable(title))}</h1><p>{escape(note)}</p>
<ul>
{items}
</ul></body></html>
"""
    write_whole(file, page)


def _item(image: FoundImage, folder: Path) -> str:
    name, state = escape(printable(image.path)), escape(image.state)
    small = _small(image.path)
    if small is None:
        picture = f'<span class="state">{state or "cannot be read"}</span>'
    else:
        picture = f'<img loading="lazy" alt="{name}" src="data:image/jpeg;base64,{small}">'
    return (
        f'<li><a href="{_link(image.path, folder)}"><div class="box">{picture}</div>'
        f'<span class="value">{escape(image.value)}</span> <span class="state">{state}</span>'
        f'<div class="name">{name}</div></a></li>'
    )


def _link(path: str, folder: Path) -> str:
    try:
        relative = os.path.relpath(path, folder)
    except ValueError:  # on another drive of Windows
        return escape(Path(path).as_uri())
    return quote(os.fsencode(relative.replace(os.sep, "/")))


def _small(path: str) -> str | None:
    try:
        image = load_image(path, draft_size=_SIDE)
    except (OSError, ValueError, MemoryError):
        return None
    image.thumbnail((_SIDE, _SIDE))
    file = io.BytesIO()
    image.save(file, "JPEG", quality=80)
    return base64.b64encode(file.getvalue()).decode()


__all__ = ["FoundImage", "refuse_foreign_page", "write_page"]
