import io
import os
import sys
from pathlib import Path

import pytest

from ram_hf.tagging.paths import escape_path, find_images, printable, unescape_path


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("b.jpg", "a.PNG", "notes.txt", ".hidden.jpg", "sub/c.webp", "sub/deep/d.tiff", ".cache/e.jpg"):
        path = tmp_path / "photos" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    return tmp_path / "photos"


EVERYTHING = ["photos/a.PNG", "photos/b.jpg", "photos/sub/c.webp", "photos/sub/deep/d.tiff"]


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["photos"], EVERYTHING),
        (["photos/sub", "photos"], [*EVERYTHING[2:], *EVERYTHING[:2]]),
        (["photos/notes.txt"], ["photos/notes.txt"]),  # a given file is tried whatever its name
        (["photos/b.jpg", "./photos/b.jpg", "photos"], ["photos/b.jpg", *EVERYTHING[:1], *EVERYTHING[2:]]),
        (["photos/*.jpg"], ["photos/b.jpg"]),
        (["photos/**/*.tiff"], ["photos/sub/deep/d.tiff"]),
        (["photos/*.txt"], ["photos/notes.txt"]),
        (["phot*/**"], EVERYTHING),
        (["photos/[ab].*"], EVERYTHING[:2]),
    ],
)
def test_what_is_found(folder, arguments, expected):
    assert find_images(arguments) == expected


def test_a_file_whose_name_looks_like_a_glob(folder):
    (folder / "x[1].jpg").touch()
    assert find_images(["photos/x[1].jpg"]) == ["photos/x[1].jpg"]


@pytest.mark.parametrize("separator", [b"\n", b"\0"])
def test_names_on_standard_input(folder, separator):
    names = [b"photos/b.jpg", b"photos/sub", b"gone.jpg", b""]
    expected = ["photos/b.jpg", *EVERYTHING[2:], "gone.jpg"]
    assert find_images(["-"], stdin=io.BytesIO(separator.join(names))) == expected


def test_names_with_newlines_and_bytes_that_are_no_unicode(tmp_path):
    names = [b"new\nline.jpg", b"latin-\xe9.jpg", "schön.jpg".encode()]
    for name in names:
        try:
            Path(os.fsdecode(os.fsencode(tmp_path) + b"/" + name)).touch()
        except OSError:
            pytest.skip("this file system takes only Unicode")
    paths = find_images([str(tmp_path)])
    assert sorted(os.path.basename(os.fsencode(path)) for path in paths) == sorted(names)
    listed = find_images(["-"], stdin=io.BytesIO(b"\0".join(os.fsencode(path) for path in paths)))
    assert listed == paths


def test_symbolic_link_loops_end(folder):
    (folder / "sub" / "up").symlink_to(folder, target_is_directory=True)
    (folder / "again").symlink_to(folder / "sub", target_is_directory=True)
    (folder / "itself").symlink_to(folder / "itself")
    (folder / "itself.jpg").symlink_to(folder / "itself.jpg")
    elsewhere = folder.parent / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / "z.jpg").touch()
    (folder / "link").symlink_to(elsewhere, target_is_directory=True)
    expected = [*EVERYTHING[:2], "photos/itself.jpg", "photos/link/z.jpg", *EVERYTHING[2:]]
    assert find_images(["photos"]) == expected


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        (["photos", "gone"], FileNotFoundError, "There is no file or folder 'gone'"),
        (["gone/*.jpg"], FileNotFoundError, r"Nothing matches 'gone/\*.jpg'"),
        (["photos/none"], ValueError, "There is no picture in 'photos/none'; looked for .avif"),
        (["-"], ValueError, "There is no picture in '-'"),
    ],
)
def test_what_is_not_there(folder, arguments, error, message):
    (folder / "none").mkdir()
    with pytest.raises(error, match=message):
        find_images(arguments, stdin=io.BytesIO())


def test_folders_that_cannot_be_listed(folder, monkeypatch):
    """A given one is an error, one within is told with the pictures. (The superuser can list every folder.)"""
    scandir = os.scandir

    def refusing(path):
        if str(path).endswith("sub"):
            raise PermissionError(13, "Permission denied", path)
        return scandir(path)

    monkeypatch.setattr(os, "scandir", refusing)
    assert find_images(["photos"]) == ["photos/a.PNG", "photos/b.jpg", "photos/sub"]
    with pytest.raises(PermissionError, match="Permission denied: 'photos/sub'"):
        find_images(["photos/sub"])


def test_escaped_paths_are_valid_unicode_and_come_back():
    ordinary = ["photos/a b.jpg", "schön/日本.png", "C:\\photos\\a.jpg", "new\nline.jpg"]
    odd = ["latin-\udce9.jpg", "back\\slash-\udcff.jpg", "looks\\xe9.jpg", "\\\\x\\x41\\\udc80", "\\x"]
    for path in ordinary + odd:
        text = escape_path(path)
        text.encode("utf-8")
        assert unescape_path(text) == path
        assert (text == path) == (path in ordinary)
    assert len({escape_path(path) for path in ["\udce9", "\\xe9", "\\\\xe9"]}) == 3


def test_printable_paths_stay_in_one_line_and_steer_no_terminal():
    assert printable("a\nb\t\x1b[31m\udcff é.jpg") == "a\\nb\\t\\x1b[31m\\xff é.jpg"


@pytest.mark.skipif(sys.platform == "win32", reason="no byte paths there")
def test_an_escaped_path_leads_to_its_file(tmp_path):
    name = os.fsdecode(b"\xff\\x.jpg")
    try:
        (tmp_path / name).write_text("here")
    except OSError:
        pytest.skip("this file system takes only Unicode")
    assert Path(unescape_path(escape_path(str(tmp_path / name)))).read_text() == "here"
