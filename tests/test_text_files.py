import codecs
import json

import pytest

from ram_hf.data.annotations import read_label_names, read_table
from ram_hf.data.label_set import read_label_list
from ram_hf.text_files import decode_text, read_text

TEXT = "# my labels\r\ngrün\r\n红色汽车\r\nگربه\r\n"  # noqa: RUF001
LABELS = ["grün", "红色汽车", "گربه"]
MARKS = {
    "utf-8": codecs.BOM_UTF8,
    "utf-16-le": codecs.BOM_UTF16_LE,
    "utf-16-be": codecs.BOM_UTF16_BE,
    "utf-32-le": codecs.BOM_UTF32_LE,
    "utf-32-be": codecs.BOM_UTF32_BE,
}


@pytest.mark.parametrize("encoding", MARKS)
def test_text_with_a_mark_is_read(encoding, tmp_path):
    file = tmp_path / "labels.txt"
    file.write_bytes(MARKS[encoding] + TEXT.encode(encoding))
    assert read_text(file) == TEXT
    assert read_label_list(file) == LABELS
    assert read_label_names(file) == {label: label for label in LABELS}


def test_text_without_a_mark_is_utf_8(tmp_path):
    (tmp_path / "labels.txt").write_bytes(TEXT.encode())
    assert read_label_list(tmp_path / "labels.txt") == LABELS


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (
            TEXT.encode("utf-16-le"),
            "but looks like UTF-16LE without a byte-order mark. Save it as UTF-8, or convert it: ",
        ),
        (TEXT.encode("utf-16-be"), "iconv -f UTF-16BE -t UTF-8 OLD > NEW"),
        ("dog\ncat\n".encode("utf-16-le"), "iconv -f UTF-16LE -t UTF-8 OLD > NEW"),
        (TEXT.encode("utf-32-le"), "iconv -f UTF-32LE -t UTF-8 OLD > NEW"),
        ("dog\n".encode("utf-32-be"), "iconv -f UTF-32BE -t UTF-8 OLD > NEW"),
        ("grün\n".encode("latin-1"), r"\(byte 0xfc at 2\). Save it as UTF-8, or convert it: iconv -f WINDOWS-1252"),
        ("猫\n".encode("shift-jis"), "is not text in UTF-8"),
        (b"\xff\xd8\xff\xe0\0\x10JFIF\0", "nor any other text"),
        (codecs.BOM_UTF16_LE + b"d", "is not text in UTF-8"),
    ],
)
def test_other_text_is_refused_with_how_to_convert_it(content, message, tmp_path):
    file = tmp_path / "labels.txt"
    file.write_bytes(content)
    with pytest.raises(ValueError, match=message) as raised:
        decode_text(content, "What came")
    assert str(raised.value).startswith("What came is not text in UTF-8")
    with pytest.raises(ValueError, match=r"The label file '.*labels\.txt' is not text in UTF-8"):
        read_label_list(file)


def test_tables_as_excel_writes_them(tmp_path):
    (tmp_path / "a.csv").write_bytes("path,labels\r\na.jpg,grün|红色汽车\r\n".encode("utf-16"))
    (tmp_path / "a.jsonl").write_bytes(
        (json.dumps({"path": "a.jpg", "labels": LABELS}, ensure_ascii=False) + "\r\n").encode("utf-16")
    )
    assert read_table(tmp_path / "a.csv", tmp_path).images[0].labels == LABELS[:2]
    assert read_table(tmp_path / "a.jsonl", tmp_path).images[0].labels == LABELS
