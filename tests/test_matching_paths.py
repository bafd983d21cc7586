import os

import pytest

from ram_hf.matching_paths import matching_paths

NAMES = (
    "p [2020]/a.jpg",
    "p [2020]/b [1].jpg",
    "p 2/c.jpg",
    "x1/d.jpg",
    "x2/e.jpg",
    "deep/q [a]/f.jpg",
    "deep/q a/g.jpg",
)


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in NAMES:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    return tmp_path


@pytest.mark.parametrize(
    ("pattern", "expected"),
    [
        ("p [2020]/*.jpg", ["p [2020]/a.jpg", "p [2020]/b [1].jpg"]),
        ("p [2020]/", ["p [2020]/"]),
        ("p [2020]/b [1]*", ["p [2020]/b [1].jpg"]),
        ("p*/b [1].jpg", ["p [2020]/b [1].jpg"]),
        ("**/q [a]/*", ["deep/q [a]/f.jpg"]),
        ("x[12]/*.jpg", ["x1/d.jpg", "x2/e.jpg"]),
        ("[xp]?/*.jpg", ["x1/d.jpg", "x2/e.jpg"]),
        ("p [0-9]/*", ["p 2/c.jpg"]),
        ("./x[!1]/*", ["./x2/e.jpg"]),
        ("p [2020]/*.png", []),
        ("[", []),
    ],
)
def test_brackets_are_letters_where_a_name_has_them(folder, pattern, expected):
    assert matching_paths(pattern) == expected
    absolute = matching_paths(os.path.join(os.getcwd(), pattern))
    assert [os.path.relpath(path) for path in absolute] == [os.path.normpath(path) for path in expected]
