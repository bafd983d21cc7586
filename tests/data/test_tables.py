"""Tables, lists and COCO files as people's programs write them: read, or refused by what is wrong with them."""

import json
from pathlib import Path

import pytest

from ram_hf.data.annotations import read_coco, read_multiscene, read_ram_json, read_table
from ram_hf.data.label_set import LabelSet
from ram_hf.text_files import read_text


def write(file: Path, content: str | bytes) -> Path:
    file.write_bytes(content if isinstance(content, bytes) else content.encode())
    return file


@pytest.mark.parametrize(
    "content",
    [
        "path;labels\r\n0.jpg;dog|red car\r\n1.jpg;sun\r\n",
        "path\tlabels\n0.jpg\tdog|red car\n1.jpg\tsun\n",
        "sep=;\r\npath;labels\r\n0.jpg;dog|red car\r\n1.jpg;sun\r\n",
        "\ufeffPath, Labels \r\n0.jpg,dog|red car\r\n\r\n1.jpg,sun\r\n",
        '"path","labels"\n"0.jpg","dog|red car"\n"1.jpg","sun"',
        "path\tlabels\n0.jpg\tdog|red car\n1.jpg\tsun\n".encode("utf-16"),
        "path,labels\n0.jpg,dog|red car\n1.jpg,sun\n".encode("utf-32"),
        ",path,labels\n0,0.jpg,dog|red car\n1,1.jpg,sun\n",  # pandas' index
    ],
)
def test_a_table_as_programs_write_it(tmp_path, content):
    images = read_table(write(tmp_path / "a.csv", content), tmp_path).images
    assert [(image.name, image.labels) for image in images] == [("0.jpg", ["dog", "red car"]), ("1.jpg", ["sun"])]
    assert read_table(write(tmp_path / "a.tsv", content), tmp_path).images == images


@pytest.mark.parametrize("content", ["image; red car ;dog\n0.jpg;1;0\n", "sep=\t\nimage\tred car\tdog\n0.jpg\t1\t0\n"])
def test_marks_as_programs_write_them(tmp_path, content):
    found = read_multiscene(write(tmp_path / "a.csv", content), tmp_path)
    assert found.labels == ["red car", "dog"]
    assert found.images[0].labels == ["red car"]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("path,labels,labels\n0.jpg,dog,cat\n", r"the header names 'labels' 2 times"),
        ("path,label1,label2\n0.jpg,dog,cat\n", r"row 1: expected a `path` and `labels` .*'label1', 'label2'"),
        ("path,dog,cat\n0.jpg,1,0\n", "a column of 0 and 1 for each label is the format `multiscene`"),
        ("0.jpg,dog\n1.jpg,cat\n", r"got the columns \['0.jpg', 'dog'\]"),
        ("path,labels\n", "a.csv names no picture"),
        ("", "a.csv names no picture"),
        ('path,labels\n0.jpg,""dog""\n', "a.csv, line 2: ',' expected"),
        ("path,labels\n0.jpg,do\x00g\n", r"is not text in UTF-8 \(it holds zero bytes\), nor any other text"),
        (b"path,labels\n0.jpg,caf\xe9\n", r"a.csv' is not text in UTF-8 \(byte 0xe9 at 21\). Save it as UTF-8"),
    ],
)
def test_a_table_that_cannot_be_read(tmp_path, content, message):
    with pytest.raises(ValueError, match=message):
        read_table(write(tmp_path / "a.csv", content), tmp_path)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ('[{"path": "0.jpg", "labels": ["a"]}]', "line 1 holds a list; expected one object a line"),
        ('{"path": "0.jpg", "labels": []}\n{"path": \n', "line 2 is no JSON"),
        ('{"path": null, "labels": ["a"]}\n', "with None and"),
        ('{"path": "0.jpg", "labels": [1, 2]}\n', r"with '0.jpg' and \[1, 2\]"),
    ],
)
def test_lines_that_cannot_be_read(tmp_path, content, message):
    with pytest.raises(ValueError, match=message):
        read_table(write(tmp_path / "a.jsonl", content), tmp_path)


def test_nulls_among_labels_are_counted(tmp_path):
    found = read_table(write(tmp_path / "a.jsonl", '{"path": "0.jpg", "labels": [" a ", null, null]}\n'), tmp_path)
    assert found.images[0].labels == ["a"]
    assert found.notes == ["2 labels are null: they are left out."]


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ("image,dog,cat\n0.jpg,,1\n", "mark of 'dog' must be .* got ''"),
        ("image,dog,\n0.jpg,1,\n", "column 3 .* no name"),
    ],
)
def test_marks_that_cannot_be_read(tmp_path, row, message):
    with pytest.raises(ValueError, match=message):
        read_multiscene(write(tmp_path / "a.csv", row), tmp_path)


def test_names_in_other_capitals_are_found(tmp_path):
    for name in ("0.jpg", "a.PNG", "A.png"):
        (tmp_path / name).touch()
    found = read_table(write(tmp_path / "t.csv", "path,labels\n0.JPG,dog\na.png,cat\n"), tmp_path)
    assert [image.name for image in found.images] == ["0.jpg", "a.png"]  # of two, none is guessed
    assert "1 paths were looked for" in found.notes[0]
    (tmp_path / "5.TIF").touch()
    assert read_multiscene(write(tmp_path / "m.csv", "image,dog\n5,1\n"), tmp_path).images[0].name == "5.TIF"


def test_labels_that_are_one_to_the_model_are_told(tmp_path, caplog):
    content = "path,labels\n0.jpg,dog\n1.jpg,Dog\n2.jpg,hot  dog\n3.jpg,hot dog\n"
    notes = read_table(write(tmp_path / "t.csv", content), tmp_path).notes
    assert ["'Dog' and 'dog'" in notes[0], "'hot  dog' and 'hot dog'" in notes[1], len(notes)] == [True, True, 2]
    write(tmp_path / "labels.txt", "dog\r\ncat \r\nDOG\r\n".encode("utf-16"))
    assert LabelSet.from_options(tmp_path / "labels.txt").names == ("dog", "cat", "DOG")
    assert "'dog' and 'DOG' are one to the model" in caplog.text
    with pytest.raises(ValueError, match="is not text in UTF-8"):
        read_text(write(tmp_path / "labels.txt", b"caf\xe9"))


def coco(tmp_path, **changes) -> Path:
    content = {
        "images": [{"id": 1, "file_name": "0.jpg"}, {"id": 2, "file_name": "b/0.jpg"}],
        "categories": [{"id": 2, "name": "cat"}, {"id": 10, "name": "dog"}],
        "annotations": [{"id": 7, "image_id": 1, "category_id": 2, "bbox": [0, 0, 5, 5], "segmentation": None}],
    }
    return write(tmp_path / "coco.json", json.dumps({**content, **changes}))


def test_ids_may_be_numbers_or_strings(tmp_path):
    images = [{"id": "1", "file_name": "0.jpg"}, {"id": "2", "file_name": "b/0.jpg"}]
    categories = [{"id": "10", "name": "dog"}, {"id": 2, "name": "cat"}]
    expected = read_coco(coco(tmp_path), tmp_path)
    assert expected.labels == ["cat", "dog"]
    assert read_coco(coco(tmp_path, images=images, categories=categories), tmp_path) == expected


def test_categories_of_one_name_are_one_label(tmp_path):
    categories = [{"id": 1, "name": "fish"}, {"id": 2, "name": "fish "}]
    assert read_coco(coco(tmp_path, categories=categories), tmp_path).labels == ["fish"]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"images": [{"id": 1, "file_name": n} for n in ("0.jpg", "1.jpg")]},
            "id 1 twice, for '0.jpg' and for '1.jpg'",
        ),
        ({"categories": [{"id": 2, "name": n} for n in ("dog", "cat")]}, "id 2 twice, for 'dog' and for 'cat'"),
        ({"images": [{"id": 1, "filename": "0.jpg"}]}, "entry 0 of `images` must have an `id` and a `file_name`"),
        ({"images": [{"id": 1, "file_name": ""}]}, "coco.json: an image has an empty name"),
        ({"categories": [{"id": 2}]}, "entry 0 of `categories` must have an `id` and a `name`"),
        ({"annotations": [{"id": 7, "category_id": 2}]}, "annotation 7 of image None"),
        (
            {"annotations": [{"id": 7, "image_id": 1, "category_id": 2, "bbox": [0, 0, float("nan"), 5]}]},
            "`bbox` must",
        ),
        ({"annotations": [{"id": 7, "image_id": 1, "category_id": 2, "bbox": [0, 0, -5, 5]}]}, "`bbox` must"),
        ({"categories": {"2": "cat"}}, "of 'categories' there is dict"),
    ],
)
def test_coco_that_cannot_be_read(tmp_path, changes, message):
    with pytest.raises(ValueError, match=message):
        read_coco(coco(tmp_path, **changes), tmp_path)


def test_the_papers_files_may_have_blanks_around_labels(tmp_path):
    content = {"images": [["0.jpg", ["a ", " b"]]], "classes": ["a", "b "]}
    found = read_ram_json(write(tmp_path / "r.json", json.dumps(content)), tmp_path)
    assert (found.labels, found.images[0].labels) == (["a", "b"], ["a", "b"])
    content["images"] = [["0.jpg", [0]]]
    with pytest.raises(ValueError, match=r"must be \[path, \[label, ...\]\], got \['0.jpg', \[0\]\]"):
        read_ram_json(write(tmp_path / "r.json", json.dumps(content)), tmp_path)
