import io
import os
import sys
from pathlib import Path

import pytest

from ram_hf.tagging import paths
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
    assert find_images(arguments).paths == expected


def test_a_file_whose_name_looks_like_a_glob(folder):
    (folder / "x[1].jpg").touch()
    assert find_images(["photos/x[1].jpg"]).paths == ["photos/x[1].jpg"]


@pytest.mark.parametrize("separator", [b"\n", b"\0"])
def test_names_on_standard_input(folder, separator):
    names = [b"photos/b.jpg", b"photos/sub", b"gone.jpg", b""]
    expected = ["photos/b.jpg", *EVERYTHING[2:], "gone.jpg"]
    assert find_images(["-"], stdin=io.BytesIO(separator.join(names))).paths == expected


def test_names_with_newlines_and_bytes_that_are_no_unicode(tmp_path):
    names = [b"new\nline.jpg", b"latin-\xe9.jpg", "schön.jpg".encode()]
    for name in names:
        try:
            Path(os.fsdecode(os.fsencode(tmp_path) + b"/" + name)).touch()
        except OSError:
            pytest.skip("this file system takes only Unicode")
    found = find_images([str(tmp_path)]).paths
    assert sorted(os.path.basename(os.fsencode(path)) for path in found) == sorted(names)
    listed = find_images(["-"], stdin=io.BytesIO(b"\0".join(os.fsencode(path) for path in found))).paths
    assert listed == found


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
    assert find_images(["photos"]).paths == expected


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        (["photos", "gone"], FileNotFoundError, "There is no file or folder 'gone'"),
        (["gone/*.jpg"], FileNotFoundError, r"Nothing matches 'gone/\*.jpg'"),
        (["photos/none"], ValueError, "There is no picture in 'photos/none'; looked for .apng .avif"),
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
    assert find_images(["photos"]).paths == ["photos/a.PNG", "photos/b.jpg", "photos/sub"]
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


def test_pictures_that_are_not_read_are_counted_and_named(folder, monkeypatch):
    monkeypatch.setattr(paths, "searched_extensions", lambda: frozenset((".jpg", ".png", ".webp", ".tiff")))
    for name in ("a.HEIC", "sub/b.heic", "c.jxl", "d.dng", "e.xmp", "f.mov"):
        (folder / name).touch()
    found = find_images(["photos", "photos/sub", "photos/*"])
    assert found.paths == EVERYTHING
    assert found.passed_over == {".heic": 2, ".jxl": 1, ".dng": 1}
    assert found.tell_passed_over() == (
        "4 pictures passed over, of formats that are not read: 1 .dng, 2 .heic, 1 .jxl. "
        "`pip install 'ram_hf[formats]'` adds HEIC and JPEG XL."
    )
    assert find_images(["photos/b.jpg"]).tell_passed_over() == ""
    (folder / "raw").mkdir()
    (folder / "raw" / "a.cr3").touch()
    with pytest.raises(ValueError, match=r"1 picture passed over, of formats that are not read: 1 \.cr3"):
        find_images(["photos/raw"])


def test_every_extension_of_a_format_that_is_read_is_searched(folder):
    for name in ("1.pnm", "2.j2k", "3.apng", "4.dib", "5.jpe"):
        (folder / "sub" / "deep" / name).touch()
    found = [os.path.basename(path) for path in find_images(["photos/sub/deep"]).paths]
    assert found == ["1.pnm", "2.j2k", "3.apng", "4.dib", "5.jpe", "d.tiff"]


def test_thumbnails_are_left_out(folder):
    for name in ("@eaDir/b.jpg/small.jpg", ".thumbnails/b.jpg", "sub/@eaDir/c.jpg"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).touch()
    assert find_images(["photos"]).paths == EVERYTHING
    assert find_images(["photos/**"]).paths == EVERYTHING
    assert find_images(["photos/@eaDir"]).paths == ["photos/@eaDir/b.jpg/small.jpg"]  # given itself


@pytest.mark.parametrize(
    ("patterns", "left"),
    [
        (["*.jpg"], [0, 2, 3]),
        (["deep"], [0, 1, 2]),
        (["sub/*"], [0, 1]),
        (["sub"], [0, 1]),
        (["*.webp", "b.*"], [0, 3]),
        (["photos"], [0, 1, 2, 3]),
    ],
)
def test_exclude(folder, patterns, left):
    assert find_images(["photos"], exclude=patterns).paths == [EVERYTHING[index] for index in left]
    assert find_images(["photos/b.jpg"], exclude=["*.jpg"]).paths == ["photos/b.jpg"]


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
@pytest.mark.parametrize("line", ["\n", "\r\n"])
def test_lists_as_editors_write_them(folder, encoding, line):
    content = line.join(["photos/b.jpg", "sch\u00f6n.jpg", ""]).encode(encoding)
    assert find_images(["-"], stdin=io.BytesIO(content)).paths == ["photos/b.jpg", "sch\u00f6n.jpg"]


def test_folders_with_brackets_in_their_names(folder):
    (folder / "p [2020]").mkdir()
    (folder / "p 5").mkdir()
    for name in ("p [2020]/a.jpg", "p 5/b.jpg"):
        (folder / name).touch()
    assert find_images(["photos/p [2020]/*.jpg"]).paths == ["photos/p [2020]/a.jpg"]
    assert find_images(["photos/p [2020]"]).paths == ["photos/p [2020]/a.jpg"]
    found = find_images(["photos"], exclude=["p [2020]"])
    assert found.paths == [*EVERYTHING[:2], "photos/p 5/b.jpg", *EVERYTHING[2:]]
    assert found.idle_patterns == []


def test_a_tilde_that_the_shell_left(folder, monkeypatch):
    monkeypatch.setenv("HOME", str(folder))
    monkeypatch.setenv("USERPROFILE", str(folder))
    assert find_images(["~/b.jpg"]).paths == [str(folder / "b.jpg")]
    assert find_images(["~/*.jpg"]).paths == [str(folder / "b.jpg")]
    (folder.parent / "~").mkdir()
    (folder.parent / "~" / "b.jpg").touch()
    assert find_images(["~/b.jpg"]).paths == ["~/b.jpg"]  # somebody's folder of that name


def test_patterns_that_leave_out_nothing(folder):
    found = find_images(["photos"], exclude=["*.jpg", "gone", "sub/", "*.bmp"])
    assert found.paths == EVERYTHING[:1]
    assert found.idle_patterns == ["gone", "*.bmp"]
