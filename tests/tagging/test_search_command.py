"""`ram-hf search`: what it prints, its page, and what it refuses."""

import copy
import json
import re
import sys
from urllib.parse import unquote

import pytest

from ram_hf.cli import main
from tests.fork_server import tree

from .hostile import photograph


@pytest.fixture
def search(tmp_path, monkeypatch, calibrated_folder):
    """An index of four pictures, one of them broken, and the command in its folder."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "photos").mkdir()
    for number, name in enumerate(["a", "b & <b>", "c"]):
        photograph(60, 40, seed=number).save(tmp_path / "photos" / f"{name}.png")
    (tmp_path / "photos" / "broken.png").write_bytes(b"nothing")
    assert main(["index", "photos", "--output", "index", "--model", str(calibrated_folder), "--workers", "0"]) == 0
    return lambda *words: main(["search", "index", *map(str, words)])


def test_lines_and_json(search, tmp_path, capsys, monkeypatch):
    capsys.readouterr()
    assert search("dog") == 0
    shown = capsys.readouterr()
    lines = [line.split("\t") for line in shown.out.splitlines()]
    assert sorted(name for name, _ in lines) == ["photos/a.png", "photos/b & <b>.png", "photos/c.png"]
    values = [float(value) for _, value in lines]
    assert values == sorted(values, reverse=True)
    assert shown.err == "3 of 4 pictures, by probability.\n"
    assert search("dog", "--json", "--top", 1) == 0
    row = json.loads(capsys.readouterr().out)
    assert row == {"path": lines[0][0], "probability": values[0], "state": "as indexed"}
    assert search("dog", "--threshold", (values[1] + values[2]) / 2) == 0
    assert len(capsys.readouterr().out.splitlines()) == 2
    assert search("dog", "--threshold", 1) == 0
    assert capsys.readouterr().out == ""
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True, raising=False)
    assert search("dog", "--top", 1) == 0
    assert capsys.readouterr().out.split() == [*lines[0][0].split(), f"{values[0]:.2f}"]


def test_changed_and_gone_files_are_marked(search, tmp_path, capsys):
    photograph(10, 10).save(tmp_path / "photos" / "a.png")
    (tmp_path / "photos" / "c.png").unlink()
    before = tree(tmp_path / "index")
    capsys.readouterr()
    assert search("dog", "--html", "found.html") == 0
    states = {line.split("\t")[0]: line.split("\t")[2:] for line in capsys.readouterr().out.splitlines()}
    assert states == {"photos/a.png": ["changed"], "photos/b & <b>.png": [], "photos/c.png": ["gone"]}
    page = (tmp_path / "found.html").read_text()
    assert page.count('<span class="state">gone</span>') == 2
    assert page.count("<img") == 2
    assert tree(tmp_path / "index") == before


def test_the_page_stands_alone(search, tmp_path):
    (tmp_path / "pages").mkdir()
    assert search("dog <script>", "--html", "pages/found.html") == 0
    page = (tmp_path / "pages" / "found.html").read_text()
    assert "<script" not in page
    assert "b &amp; &lt;b&gt;.png" in page
    assert not re.search(r"https?://", page)
    links = [unquote(link) for link in re.findall(r'href="([^"]*)"', page)]
    assert sorted(links) == ["../photos/a.png", "../photos/b & <b>.png", "../photos/c.png"]
    assert all((tmp_path / "pages" / link).exists() for link in links)
    assert page.count('<img loading="lazy"') == page.count("data:image/jpeg;base64,") == 3
    assert search("cat", "--html", "pages/found.html") == 0  # a page of an earlier search
    assert "<title>cat</title>" in (tmp_path / "pages" / "found.html").read_text()


def test_another_model(search, tmp_path, capsys, calibrated_model, tiny_processor):
    other = copy.deepcopy(calibrated_model)
    other.config.epsilon = 0.5
    other.config.calibration = None
    for folder in ("other", "same"):
        other.save_pretrained(tmp_path / folder)
        tiny_processor.save_pretrained(tmp_path / folder)
        other.config.epsilon = calibrated_model.config.epsilon
    assert search("dog", "--model", "other") == 1
    assert "and 'other' computes other features" in capsys.readouterr().err
    assert search("dog", "--model", "same") == 0
    assert "by the sum of global and local logit (the model is not calibrated)" in capsys.readouterr().err
    assert search("dog", "--model", "same", "--threshold", 0.5) == 1
    assert "`--threshold` is of probabilities" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "error"),
    [
        (["search", "gone", "dog"], "There is no index 'gone'"),
        (["search", "photos", "dog"], "'photos' is not an index"),
        (["search", "index", " "], "There is nothing to look for in ' '"),
        (["search", "index", "dog", "--html", "no/found.html"], "There is no folder for 'no/found.html'"),
        (["search", "index", "dog", "--html", "own.html"], "'own.html' exists, and is no page of `ram-hf search`"),
        (["search", "index", "x" * 500], "tokens with its template"),
    ],
)
def test_wrong_inputs(search, tmp_path, capsys, words, error):
    (tmp_path / "own.html").write_text("<html>mine</html>")
    assert main(words) == 1
    assert error in capsys.readouterr().err
    assert (tmp_path / "own.html").read_text() == "<html>mine</html>"
