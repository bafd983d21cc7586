"""Labels are drawn in a font that has their letters, or it is told that there is none."""

import logging
import shutil
from pathlib import Path

import pytest
from PIL import Image, ImageFont

from ram_hf import fonts
from ram_hf.visualize import draw_tags

matplotlib = pytest.importorskip("matplotlib", reason="it brings a font with Persian and Cyrillic letters")
DEJAVU = Path(matplotlib.get_data_path(), "fonts", "ttf", "DejaVuSans.ttf")


@pytest.fixture
def system_fonts(tmp_path, monkeypatch):
    """A system whose fonts are the files of a folder."""
    monkeypatch.setattr(fonts, "_folders", lambda: iter([tmp_path]))
    fonts._file_for.cache_clear()
    fonts._font_files.cache_clear()
    yield tmp_path
    fonts._file_for.cache_clear()
    fonts._font_files.cache_clear()


@pytest.mark.parametrize("text", ["سگ", "собака", "می‌خواهم", "red سگ"])
def test_a_font_of_the_system_is_taken_for_letters_that_pillows_lacks(system_fonts, text):
    (system_fonts / "a.ttf").write_bytes(b"damaged")
    shutil.copy(DEJAVU, system_fonts / "b.ttf")
    font = fonts.font_for(text, 20)
    assert Path(font.path).name == "b.ttf"
    assert font.size == 20


def test_pillows_own_font_is_kept_where_it_has_them(system_fonts):
    shutil.copy(DEJAVU, system_fonts / "b.ttf")
    assert fonts.font_for("red car 0.123", 20).getname() == ImageFont.load_default(20).getname()


def test_where_no_font_has_them_it_is_told_once(system_fonts, caplog):
    shutil.copy(DEJAVU, system_fonts / "b.ttf")
    with caplog.at_level(logging.WARNING):
        for _ in range(2):
            draw_tags(Image.new("RGB", (64, 64)), [{"label": "狗", "score": 0.5}])
    (told,) = [record.getMessage() for record in caplog.records]
    assert "No font here has the letters 狗" in told


def test_the_drawing_shows_the_letters(system_fonts):
    boxes = draw_tags(Image.new("RGB", (64, 64)), [{"label": "собака", "score": 0.5}])
    fonts._file_for.cache_clear()
    fonts._font_files.cache_clear()
    shutil.copy(DEJAVU, system_fonts / "b.ttf")
    assert draw_tags(Image.new("RGB", (64, 64)), [{"label": "собака", "score": 0.5}]).tobytes() != boxes.tobytes()
