"""`ram-hf prepare` on small sources made on the spot, each in its own format."""

import io
import json
import re
import subprocess
import sys
from pathlib import Path

import datasets
import numpy as np
import pytest
from PIL import Image
from scipy.io import savemat

from ram_hf import cli
from ram_hf.data import prepare
from ram_hf.data.annotations import AnnotatedImage, Annotations, read_coco, read_label_names, read_table
from ram_hf.data.prepare import write_shards
from ram_hf.data.sources import DatasetSpec


@pytest.fixture(autouse=True)
def _own_cache(tmp_path, monkeypatch):
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")


def picture(file: Path, *, seed: int = 0, form: str = "JPEG") -> Path:
    file.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(seed).integers(0, 256, size=(40, 50, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(file, form)
    return file


def truncate(file: Path) -> None:
    data = file.read_bytes()
    file.write_bytes(data[: len(data) // 2])


def command(*argv: object) -> int:
    return cli.main(["prepare", *map(str, argv), "--quiet"])


def rows(folder: Path, split: str = "train") -> list[dict]:
    files = sorted(map(str, folder.glob("*.parquet")))
    return datasets.load_dataset("parquet", data_files={split: files}, split=split).to_list()


def labels_by_path(folder: Path, split: str = "train") -> dict[str, list[str]]:
    return {row["path"]: row["labels"] for row in rows(folder, split)}


def lines(file: Path) -> list[str]:
    return file.read_text(encoding="utf-8").splitlines()


def cells(values: list[str]) -> np.ndarray:
    """A column of MATLAB cells."""
    column = np.empty((len(values), 1), dtype=object)
    column[:, 0] = values
    return column


@pytest.fixture
def images(tmp_path) -> Path:
    for seed in range(4):
        picture(tmp_path / "images" / f"{seed}.jpg", seed=seed)
    return tmp_path / "images"


@pytest.fixture
def table(tmp_path, images) -> Path:
    file = tmp_path / "table.csv"
    file.write_text("path,labels\n0.jpg,dog|red car\n1.jpg,\n2.jpg, tree |dog|dog\n3.jpg,tree\n")
    return file


def test_coco_keeps_boxes_and_distinct_labels(tmp_path, images):
    content = {
        "images": [
            {"id": 7, "file_name": "1.jpg", "width": 50, "height": 40},
            {"id": 3, "file_name": "0.jpg", "width": 50, "height": 40},
        ],
        "categories": [{"id": 18, "name": "dog"}, {"id": 1, "name": "person"}],
        "annotations": [
            {"id": 1, "image_id": 7, "category_id": 18, "bbox": [1.5, 2, 10, 20.25], "iscrowd": 0},
            {"id": 2, "image_id": 7, "category_id": 1, "bbox": [0, 0, 50, 40], "iscrowd": 0},
            {"id": 3, "image_id": 7, "category_id": 18, "bbox": [3, 4, 5, 6], "iscrowd": 1},
        ],
    }
    (tmp_path / "instances.json").write_text(json.dumps(content))
    assert command("coco", tmp_path / "instances.json", images, tmp_path / "out") == 0

    first, second = rows(tmp_path / "out")
    assert (first["path"], first["labels"]) == ("1.jpg", ["person", "dog"])
    assert first["boxes"][0] == {"label": "dog", "x0": 1.5, "y0": 2.0, "x1": 11.5, "y1": 22.25}
    assert [box["label"] for box in first["boxes"]] == ["dog", "person", "dog"]
    assert (second["labels"], second["boxes"]) == ([], [])
    assert lines(tmp_path / "out" / "labels.txt") == ["person", "dog"]


def test_coco_annotation_of_no_image(tmp_path, images, capsys):
    stray = {"id": 5, "image_id": 9, "category_id": 1, "bbox": [0, 0, 1, 1]}
    content = {"images": [], "categories": [{"id": 1, "name": "dog"}], "annotations": [stray]}
    (tmp_path / "instances.json").write_text(json.dumps(content))
    assert command("coco", tmp_path / "instances.json", images, tmp_path / "out") == 1
    assert "annotation 5 of image 9 and category 1" in capsys.readouterr().err


def test_ram_json(tmp_path, images):
    content = {"images": [["images/0.jpg", ["b", "a", "b"]], ["images/2.jpg", []]], "classes": ["a", "b", "c"]}
    (tmp_path / "test.json").write_text(json.dumps(content))
    assert command("ram-json", tmp_path / "test.json", tmp_path, tmp_path / "out", "--split", "test") == 0
    assert labels_by_path(tmp_path / "out", "test") == {"images/0.jpg": ["a", "b"], "images/2.jpg": []}
    assert lines(tmp_path / "out" / "labels.txt") == ["a", "b", "c"]
    assert datasets.load_dataset(str(tmp_path / "out"), split="test").num_rows == 2


def test_ram_json_with_an_unlisted_label(tmp_path, images, capsys):
    (tmp_path / "test.json").write_text(json.dumps({"images": [["0.jpg", ["persn"]]], "classes": ["person"]}))
    assert command("ram-json", tmp_path / "test.json", images, tmp_path / "out") == 1
    assert "'0.jpg' has the label 'persn'" in (message := capsys.readouterr().err)
    assert "Did you mean 'person'?" in message


@pytest.mark.parametrize(("name_field", "partition_field"), [("imagesname", "partion"), ("name", "partition")])
def test_rap(tmp_path, images, name_field, partition_field):
    partitions = np.empty((2, 1), dtype=object)
    partitions[0, 0] = {"train_index": np.array([[1, 3]]), "test_index": np.array([[2]])}
    partitions[1, 0] = {"train_index": np.array([[2]]), "test_index": np.array([[4, 1]])}
    content = {
        name_field: cells([f"{seed}.jpg" for seed in range(4)]),
        "attribute_eng": cells(["Female", "hs-Hat", "up-Black"]),
        "label": np.array([[1, 0, 1], [0, 0, 0], [0, 1, 2], [1, 1, 0]], dtype=np.uint8),
        partition_field: partitions,
        "position": np.zeros((4, 4)),
    }
    mat = tmp_path / "RAP_annotation.mat"
    savemat(mat, {"RAP_annotation": content})

    assert command("rap", mat, images, tmp_path / "train") == 0
    assert labels_by_path(tmp_path / "train") == {"0.jpg": ["Female", "up-Black"], "2.jpg": ["hs-Hat"]}
    assert command("rap", mat, images, tmp_path / "one", "--split", "test") == 0
    assert labels_by_path(tmp_path / "one", "test") == {"1.jpg": []}
    assert command("rap", mat, images, tmp_path / "test", "--split", "test", "--partition", 1) == 0
    assert list(labels_by_path(tmp_path / "test", "test")) == ["3.jpg", "0.jpg"]
    assert command("rap", mat, images, tmp_path / "all", "--split", "all") == 0
    assert len(rows(tmp_path / "all")) == 4


def test_rap_without_such_a_partition(tmp_path, images, capsys):
    partitions = np.empty((1, 1), dtype=object)
    partitions[0, 0] = {"train_index": np.array([[1]]), "test_index": np.array([[1]])}
    content = {"name": cells(["0.jpg"]), "attribute_eng": cells(["Female"]), "label": np.array([[1]])}
    savemat(tmp_path / "rap.mat", {"RAP_annotation": {**content, "partion": partitions}})
    assert command("rap", tmp_path / "rap.mat", images, tmp_path / "out", "--partition", 4) == 1
    assert "holds 1 partitions, counted from 0; got 4" in capsys.readouterr().err
    assert command("rap", tmp_path / "rap.mat", images, tmp_path / "out") == 0
    assert labels_by_path(tmp_path / "out") == {"0.jpg": ["Female"]}


def test_pa100k(tmp_path, images):
    content = {"attributes": cells(["Female", "Skirt&Dress"])}
    for split, names in (("train", ["0.jpg", "1.jpg"]), ("val", ["2.jpg"]), ("test", ["3.jpg"])):
        content[f"{split}_images_name"] = cells(names)
        content[f"{split}_label"] = np.array([[1, 1], [0, 1]], dtype=np.uint8)[: len(names)]
    savemat(tmp_path / "annotation.mat", content)
    assert command("pa100k", tmp_path / "annotation.mat", images, tmp_path / "train") == 0
    assert labels_by_path(tmp_path / "train") == {"0.jpg": ["Female", "Skirt&Dress"], "1.jpg": ["Skirt&Dress"]}
    assert command("pa100k", tmp_path / "annotation.mat", images, tmp_path / "val", "--split", "val") == 0
    assert labels_by_path(tmp_path / "val", "val") == {"2.jpg": ["Female", "Skirt&Dress"]}


def test_mat_without_the_fields(tmp_path, images, capsys):
    savemat(tmp_path / "other.mat", {"something": np.zeros(2)})
    assert command("pa100k", tmp_path / "other.mat", images, tmp_path / "out") == 1
    assert "holds no field 'attributes'; it has ['something']" in capsys.readouterr().err
    assert command("rap", tmp_path / "other.mat", images, tmp_path / "out") == 1
    assert "no struct `RAP_annotation`" in capsys.readouterr().err


@pytest.fixture
def nus_wide(tmp_path) -> Path:
    root = tmp_path / "nus"
    (root / "Labels").mkdir(parents=True)
    picture(root / "Flickr" / "actor" / "1.jpg")
    picture(root / "Flickr" / "zoo" / "2.jpg", seed=1)
    (root / "list.txt").write_text("actor\\1.jpg\r\nzoo\\2.jpg\r\n")
    (root / "Labels" / "Labels_tiger_Train.txt").write_text("0\n1\n")
    (root / "Labels" / "Labels_animal_Train.txt").write_text("0\n1\n")
    (root / "Labels" / "Labels_tiger_Test.txt").write_text("1\n")
    (root / "TagList1k.txt").write_text("red\ntiger\nactor\n")
    (root / "AllTags1k.txt").write_text("1\t1\t1\t\n1\t0\t0\t\n")
    return root


def test_nus_wide_tags_and_concepts(tmp_path, nus_wide):
    sources = ("--concepts", nus_wide / "Labels", "--tags", nus_wide / "AllTags1k.txt")
    status = command(
        *("nus-wide", nus_wide / "list.txt", nus_wide / "Flickr", tmp_path / "out", *sources),
        *("--tag-list", nus_wide / "TagList1k.txt"),
    )
    assert status == 0
    assert labels_by_path(tmp_path / "out") == {
        "actor/1.jpg": ["red", "actor"],  # its tag "tiger" gives way to the concept, which says no
        "zoo/2.jpg": ["red", "animal", "tiger"],
    }
    assert lines(tmp_path / "out" / "labels_tags.txt") == ["red", "actor"]
    assert lines(tmp_path / "out" / "labels_concepts.txt") == ["animal", "tiger"]
    assert lines(tmp_path / "out" / "labels.txt") == ["red", "actor", "animal", "tiger"]


@pytest.mark.parametrize(
    ("file", "text", "message"),
    [
        ("Labels/Labels_tiger_Train.txt", "0\n", "has 1 rows, but the image list has 2"),
        ("Labels/Labels_tiger_Train.txt", "0\n1\n1\n", "has more rows than the image list, which has 2"),
        ("Labels/Labels_tiger_Train.txt", "0\n2\n", "row 2: the mark must be 0 or 1, or -1 for unknown, got '2'"),
        ("AllTags1k.txt", "1 1 1\n1 0\n", "row 2: expected 3 columns of 0 or 1, got 2"),
    ],
)
def test_nus_wide_files_that_do_not_fit(tmp_path, nus_wide, capsys, file, text, message):
    (nus_wide / file).write_text(text)
    sources = ("--concepts", nus_wide / "Labels", "--tags", nus_wide / "AllTags1k.txt")
    tag_list = ("--tag-list", nus_wide / "TagList1k.txt")
    out = tmp_path / "out"
    assert command("nus-wide", nus_wide / "list.txt", nus_wide / "Flickr", out, *sources, *tag_list) == 1
    assert message in capsys.readouterr().err


def test_nus_wide_needs_a_source_of_labels(tmp_path, nus_wide, capsys):
    assert command("nus-wide", nus_wide / "list.txt", nus_wide, tmp_path / "out") == 1
    assert "needs a folder of concepts" in capsys.readouterr().err
    assert command("nus-wide", nus_wide / "list.txt", nus_wide, tmp_path / "out", "--concepts", tmp_path) == 1
    assert "no file Labels_<name>_Train.txt" in capsys.readouterr().err


@pytest.fixture
def voc(tmp_path, images) -> Path:
    folder = tmp_path / "Main"
    folder.mkdir()
    (folder / "test.txt").write_text("0\n1\n")
    (folder / "dog_test.txt").write_text("0  1\n1 -1\n")
    (folder / "diningtable_test.txt").write_text("0  0\n1  1\n")
    (folder / "dog_train.txt").write_text("2  1\n")
    return folder


def test_voc(tmp_path, voc, images):
    assert command("voc", voc, images, tmp_path / "out", "--split", "test") == 0
    assert labels_by_path(tmp_path / "out", "test") == {"0.jpg": ["dog"], "1.jpg": ["diningtable"]}
    unknown = {row["path"]: row["unknown_labels"] for row in rows(tmp_path / "out", "test")}
    assert unknown == {"0.jpg": ["diningtable"], "1.jpg": []}  # 0 is "hard to make out"
    assert lines(tmp_path / "out" / "labels.txt") == ["diningtable", "dog"]


@pytest.mark.parametrize(
    ("file", "text", "message"),
    [
        ("dog_test.txt", "0 1\n1 2\n", "dog_test.txt, row 2: expected a name and 1, 0 or -1, got '1 2'"),
        ("dog_test.txt", "0 1\n", "dog_test.txt lists other images than diningtable_test.txt"),
        ("dog_test.txt", "0 1\n1 1\n3 1\n", "dog_test.txt lists other images than diningtable_test.txt"),
    ],
)
def test_voc_files_that_do_not_fit(tmp_path, voc, images, capsys, file, text, message):
    (voc / file).write_text(text)
    assert command("voc", voc, images, tmp_path / "out", "--split", "test") == 1
    assert message in capsys.readouterr().err
    assert command("voc", voc, images, tmp_path / "out", "--split", "val") == 1
    assert "There is no file <label>_val.txt in the folder" in capsys.readouterr().err


def test_multiscene(tmp_path, images):
    file = tmp_path / "multiscene.csv"
    file.write_text("\ufeffimage,Apron,Lake Pond\n0.jpg,0,1\n1,1,1\n2.jpg,0.0,0\n", encoding="utf-8")
    assert command("multiscene", file, images, tmp_path / "out") == 0
    assert labels_by_path(tmp_path / "out") == {"0.jpg": ["Lake Pond"], "1.jpg": ["Apron", "Lake Pond"], "2.jpg": []}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("image,Apron\n0.jpg,2\n", "row 1: the mark of 'Apron' must be 0 or 1, or -1 for unknown, got '2'"),
        ("image,Apron\n0.jpg,1,0\n", "row 1: expected 1 labels of 0 or 1, got 2 cells"),
        ("image\n0.jpg\n", "must have a header"),
        ("", "must have a header"),
        ("image,Apron,Apron\n", "'Apron' is listed twice"),
        ("image,#1\n", "'#1' cannot stand on a line"),
    ],
)
def test_multiscene_with_errors(tmp_path, images, capsys, text, message):
    (tmp_path / "bad.csv").write_text(text)
    assert command("multiscene", tmp_path / "bad.csv", images, tmp_path / "out") == 1
    assert message in capsys.readouterr().err


def test_mlrsnet(tmp_path):
    for category in ("airport", "beach"):
        picture(tmp_path / "Images" / category / f"{category}_1.jpg")
    (tmp_path / "Labels").mkdir()
    (tmp_path / "Labels" / "beach.csv").write_text("image,sea,sand,airplane\nbeach_1.jpg,1,1,0\n")
    (tmp_path / "Labels" / "airport.csv").write_text("image,airplane,sand,sea\nairport_1.jpg,1,0,0\n")
    assert command("mlrsnet", tmp_path / "Labels", tmp_path / "Images", tmp_path / "out") == 0
    expected = {"airport/airport_1.jpg": ["airplane"], "beach/beach_1.jpg": ["sand", "sea"]}
    assert labels_by_path(tmp_path / "out") == expected


def test_mlrsnet_files_must_agree(tmp_path, capsys):
    (tmp_path / "a.csv").write_text("image,sea\n")
    (tmp_path / "b.csv").write_text("image,sand\n")
    assert command("mlrsnet", tmp_path, tmp_path, tmp_path / "out") == 1
    assert "they differ in ['sand', 'sea']" in capsys.readouterr().err


def test_table_as_csv(tmp_path, images, table):
    assert command("table", table, images, tmp_path / "out") == 0
    written = rows(tmp_path / "out")
    assert [row["labels"] for row in written] == [["dog", "red car"], [], ["dog", "tree"], ["tree"]]
    assert written[1]["image"]["bytes"] == (images / "1.jpg").read_bytes()
    assert "boxes" not in written[0]
    table.write_text('path,labels\n0.jpg,"dog, red car"\n')
    assert command("table", table, images, tmp_path / "comma", "--separator", ",") == 0
    assert labels_by_path(tmp_path / "comma") == {"0.jpg": ["dog", "red car"]}


def test_table_as_jsonl(tmp_path, images):
    file = tmp_path / "table.jsonl"
    file.write_text('{"path": "0.jpg", "labels": ["a|b", "é"]}\n\n{"path": "1.jpg", "labels": []}\n', encoding="utf-8")
    assert command("table", file, images, tmp_path / "out") == 0
    assert labels_by_path(tmp_path / "out") == {"0.jpg": ["a|b", "é"], "1.jpg": []}
    file.write_text('{"path": "0.jpg", "labels": "dog"}\n')
    with pytest.raises(ValueError, match=r"row 1: expected a `path` and `labels` \(a list of strings\), got the col"):
        read_table(file, images)


def test_table_of_another_kind(tmp_path, images):
    with pytest.raises(ValueError, match=r"must end in .csv, .tsv or .jsonl, got 'a.txt'"):
        read_table(tmp_path / "a.txt", images)
    (tmp_path / "a.csv").write_text("file,labels\n0.jpg,dog\n")
    with pytest.raises(ValueError, match=r"the columns \['file', 'labels'\] with None and \['dog'\]"):
        read_table(tmp_path / "a.csv", images)


def test_keep_and_rename_labels(tmp_path, images, table):
    (tmp_path / "keep.txt").write_text("# what we train on\ntree\nred car\tvehicle\n")
    assert command("table", table, images, tmp_path / "out", "--labels", tmp_path / "keep.txt") == 0
    assert lines(tmp_path / "out" / "labels.txt") == ["tree", "vehicle"]
    assert [row["labels"] for row in rows(tmp_path / "out")] == [["vehicle"], [], ["tree"], ["tree"]]


def test_keep_moves_boxes_along(tmp_path):
    boxes = [{"label": name, "x0": 0.0, "y0": 0.0, "x1": 1.0, "y1": 1.0} for name in ("dog", "cat")]
    image = AnnotatedImage("0.jpg", tmp_path / "0.jpg", ["dog", "cat"], boxes)
    kept = Annotations(["dog", "cat"], [image], has_boxes=True).keep({"cat": "animal"})
    assert kept.images[0].labels == ["animal"]
    assert [box["label"] for box in kept.images[0].boxes] == ["animal"]


def test_keep_refuses_unknown_names(tmp_path):
    with pytest.raises(ValueError, match=r"label 'cow' to keep is not in the source\. There are 'dog'"):
        Annotations(["dog"], []).keep({"cow": "cow"})
    (tmp_path / "keep.txt").write_text("a\tb\tc\n")
    with pytest.raises(ValueError, match="one name, or two with a tab"):
        read_label_names(tmp_path / "keep.txt")


def broken_source(images: Path) -> None:
    (images / "0.jpg").unlink()
    truncate(images / "2.jpg")


def test_broken_pictures_stop_the_run_and_leave_nothing(tmp_path, images, table, capsys):
    broken_source(images)
    before = sorted(tmp_path.rglob("*"))
    assert command("table", table, images, tmp_path / "new" / "deep" / "out", "--shard-size", 1) == 1
    message = capsys.readouterr().err
    assert "2 of 4 pictures cannot be read, 1 missing and 1 broken: 0.jpg (missing); 2.jpg (Cannot" in message
    assert "`--skip-broken`" in message
    assert sorted(tmp_path.rglob("*")) == before


def test_many_broken_pictures_are_counted(tmp_path):
    gone = Annotations(["a"], [AnnotatedImage(f"{i}.jpg", tmp_path / f"{i}.jpg", []) for i in range(300)])
    with pytest.raises(
        ValueError, match=r"300 of 300 pictures cannot be read, 300 missing and 0 broken: .*; and 295 more"
    ):
        write_shards(gone, tmp_path / "out")
    with pytest.raises(ValueError, match="There is no picture to write: the annotations name 300"):
        write_shards(gone, tmp_path / "out", skip_broken=True)
    assert not (tmp_path / "out").exists()


def test_broken_pictures_left_out_on_request(tmp_path, images, table, capsys):
    broken_source(images)
    assert command("table", table, images, tmp_path / "out", "--skip-broken") == 0
    assert list(labels_by_path(tmp_path / "out")) == ["1.jpg", "3.jpg"]
    report = json.loads((tmp_path / "out" / "report.json").read_text())
    assert report["left_out"]["missing"] == ["0.jpg"]
    assert list(report["left_out"]["broken"]) == ["2.jpg"]
    assert "truncated" in report["left_out"]["broken"]["2.jpg"]
    assert "Left out: 1 missing, 1 broken, first 0.jpg, 2.jpg; report.json" in capsys.readouterr().err


@pytest.mark.parametrize("content", [b"", b"no picture", b"\x89PNG\r\n\x1a\n\0\0"])
def test_any_file_that_is_no_picture_is_broken(tmp_path, content):
    (tmp_path / "a.png").write_bytes(content)
    data, failure = prepare._read_image(tmp_path / "a.png")
    assert (data, failure.startswith("Cannot read the file as an image: ")) == (b"", True)
    assert "_io" not in failure


def test_truncated_png_is_broken(tmp_path):
    truncate(picture(tmp_path / "a.png", form="PNG"))
    assert prepare._read_image(tmp_path / "a.png")[1] is not None
    assert prepare._read_image(tmp_path)[1] != "missing"  # a folder
    assert prepare._read_image(tmp_path / "a.png" / "b.png")[1] == "missing"


def test_report(tmp_path, images, table):
    assert command("table", table, images, tmp_path / "out", "--shard-size", 3) == 0
    assert json.loads((tmp_path / "out" / "report.json").read_text()) == {
        "split": "train",
        "images": 4,
        "images_without_label": 1,
        "images_of_label": {"dog": 2, "red car": 1, "tree": 2},
        "shards": ["train-00000-of-00002.parquet", "train-00001-of-00002.parquet"],
        "notes": [],
        "left_out": {"missing": [], "broken": {}},
    }


def test_shards_are_deterministic_and_read_as_a_folder(tmp_path, images, table):
    for name in ("a", "b"):
        assert command("table", table, images, tmp_path / name, "--shard-size", 3, "--num-workers", 2) == 0
    shards = sorted(file.name for file in (tmp_path / "a").glob("*.parquet"))
    assert len(shards) == 2
    for name in [*shards, "labels.txt", "report.json", "README.md"]:
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()

    whole = datasets.load_dataset(str(tmp_path / "a"), split="train")
    assert whole.features["image"] == datasets.Image()
    assert whole.features["labels"] == datasets.List(datasets.Value("string"))
    assert [row["path"] for row in whole] == ["0.jpg", "1.jpg", "2.jpg", "3.jpg"]
    assert np.array_equal(whole[2]["image"], Image.open(io.BytesIO((images / "2.jpg").read_bytes())))
    stream = datasets.load_dataset(str(tmp_path / "a"), split="train", streaming=True)
    assert stream.info.splits["train"].num_examples == 4  # so that an epoch of the stream has a length
    assert [row["labels"] for row in stream] == whole["labels"][:]


def test_an_existing_folder_must_be_empty(tmp_path, images, table, capsys):
    (tmp_path / "out").mkdir()
    assert command("table", table, images, tmp_path / "out") == 0
    assert command("table", table, images, tmp_path / "out") == 1
    assert "exists and is not an empty folder" in capsys.readouterr().err


def test_interrupted_run_leaves_nothing(tmp_path, images, table, monkeypatch):
    def interrupt(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(prepare, "_read_image", interrupt)
    before = sorted(tmp_path.iterdir())
    assert command("table", table, images, tmp_path / "out") == 130
    assert sorted(tmp_path.iterdir()) == before


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"shard_size": 0}, "`shard_size` and `num_workers` must be at least 1, got 0 and 4"),
        ({"num_workers": 0}, "must be at least 1, got 1000 and 0"),
        ({"split": "a/b"}, "`split` must be made of letters, digits, `_` and `.`, and not be 'all'; got 'a/b'"),
        ({"split": "all"}, "and not be 'all'; got 'all'"),
    ],
)
def test_write_shards_checks_its_arguments(tmp_path, options, message):
    with pytest.raises(ValueError, match=message):
        write_shards(Annotations([], []), tmp_path / "out", **options)


def test_missing_annotation_file(tmp_path, capsys):
    for form in ("coco", "ram-json", "rap", "pa100k", "multiscene"):
        assert command(form, tmp_path / "none.json", tmp_path, tmp_path / "out") == 1
        assert "none.json" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("form", "name", "content"),
    [
        ("coco", "a.json", b"{"),
        ("coco", "a.json", b'{"images": [{}], "annotations": [], "categories": []}'),
        ("coco", "a.json", b"[]"),
        ("ram-json", "a.json", b'{"images": [["0.jpg"]], "classes": []}'),
        ("ram-json", "a.json", b'{"images": [], "classes": [3]}'),
        ("rap", "a.mat", b"not a MATLAB file"),
        ("pa100k", "a.mat", b""),
        ("multiscene", "a.csv", b"image,\xff\n"),
        ("table", "a.csv", b'path,labels\n0.jpg,"dog\n'),
        ("table", "a.jsonl", b'{"path": \n'),
    ],
)
def test_source_of_another_form(tmp_path, images, capsys, form, name, content):
    (tmp_path / name).write_bytes(content)
    assert command(form, tmp_path / name, images, tmp_path / "out") == 1
    message = capsys.readouterr().err
    assert message.startswith("ram-hf: error: ")
    assert name in message


def test_help_loads_nothing_heavy():
    code = (
        "import argparse, sys; from ram_hf.data import command\n"
        "parser = argparse.ArgumentParser(); command.add_arguments(parser); parser.format_help()\n"
        "heavy = set(sys.modules) & {'torch', 'transformers', 'datasets', 'scipy', 'numpy', 'PIL', 'tqdm'}\n"
        "sys.exit(f'loaded {heavy}' if heavy else 0)"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)


@pytest.mark.parametrize("row", ["0.jpg,dog,cat,sun", "0.jpg,dog,cat", "0.jpg,,cat", '0.jpg,"dog","cat"'])
def test_cells_beyond_the_header_are_refused(tmp_path, row):
    (tmp_path / "a.csv").write_text(f"path,labels\n1.jpg,dog\n{row}\n")
    with pytest.raises(
        ValueError, match=r"row 2: the header names 2 columns, but there are [34] cells, \['0\.jpg'.*cat"
    ):
        read_table(tmp_path / "a.csv", tmp_path)


def test_empty_cells_beyond_the_header_hold_nothing(tmp_path):
    (tmp_path / "a.csv").write_text("path,labels\n1.jpg,dog,, \n")
    assert read_table(tmp_path / "a.csv", tmp_path).images[0].labels == ["dog"]


@pytest.mark.parametrize(
    ("cell", "labels"),
    [
        ("['dog', 'cat']", ["dog", "cat"]),
        ("['dog' 'red car']", ["dog", "red car"]),
        ("['dog'\n 'red car']", ["dog", "red car"]),
        ('[""dog"", ""it\'s""]', ["dog", "it's"]),
        ("('dog',)", ["dog"]),
        ("{'dog', 'cat'}", ["dog", "cat"]),
        ("['a|b, c']", ["a|b, c"]),
        ("[]", []),
        ("set()", []),
        ("nan", []),
        ("None", []),
        ("<NA>", []),
        ("(dog)", ["(dog)"]),
        ("nan|dog", ["nan", "dog"]),
        ("None of these", ["None of these"]),
    ],
)
def test_lists_and_blanks_as_programs_write_them(tmp_path, cell, labels):
    (tmp_path / "a.csv").write_text(f'path,labels\n0.jpg,"{cell}"\n')
    assert read_table(tmp_path / "a.csv", tmp_path).images[0].labels == labels


def test_lists_without_quotes_are_refused(tmp_path):
    (tmp_path / "a.csv").write_text('path,labels\n0.jpg,"[dog, cat]"\n')
    with pytest.raises(ValueError, match=r"row 1: the list '\[dog, cat\]' must have quotes"):
        read_table(tmp_path / "a.csv", tmp_path)


def test_a_row_without_label_in_jsonl(tmp_path):
    (tmp_path / "a.jsonl").write_text('{"path": "0.jpg", "labels": null}\n{"path": "1.jpg", "labels": NaN}\n')
    annotations = read_table(tmp_path / "a.jsonl", tmp_path)
    assert [image.labels for image in annotations.images] == [[], []]
    assert annotations.notes == [
        "1 rows say 'None' for their labels: they have none.",
        "1 rows say 'nan' for their labels: they have none.",
    ]


def test_what_was_read_otherwise_is_told(tmp_path, images, capsys):
    (tmp_path / "a.csv").write_text('path,labels\n0.jpg,nan\n1.jpg,nan\n2.jpg,"cat, dog"\n3.jpg,a;b|c\n')
    assert command("table", tmp_path / "a.csv", images, tmp_path / "out") == 0
    told = capsys.readouterr().err
    assert "2 rows say 'nan' for their labels" in told
    assert "1 labels hold ',', such as 'cat, dog': if it stands between labels, pass `--separator ','`" in told
    assert "1 labels hold ';', such as 'a;b'" in told
    assert len(json.loads((tmp_path / "out" / "report.json").read_text())["notes"]) == 3


@pytest.mark.parametrize("again", ["0.jpg", "./0.jpg", "a/../0.jpg"])
def test_rows_on_the_same_image_are_merged(tmp_path, images, capsys, again):
    (tmp_path / "a.csv").write_text(f"path,labels\n0.jpg,dog\n1.jpg,sun\n{again},cat|dog\n0.jpg,\n")
    assert command("table", tmp_path / "a.csv", images, tmp_path / "out") == 0
    assert labels_by_path(tmp_path / "out") == {"0.jpg": ["cat", "dog"], "1.jpg": ["sun"]}
    assert "2 rows name an image of an earlier row" in capsys.readouterr().err


def test_rows_are_merged_in_every_format(tmp_path, images):
    content = {"images": [["0.jpg", ["b"]], ["./0.jpg", ["a"]]], "classes": ["a", "b"]}
    (tmp_path / "ram.json").write_text(json.dumps(content))
    assert command("ram-json", tmp_path / "ram.json", images, tmp_path / "ram") == 0
    assert labels_by_path(tmp_path / "ram") == {"0.jpg": ["a", "b"]}
    (tmp_path / "marks.csv").write_text("image,a,b\n0,1,0\n0.jpg,0,1\n")
    assert command("multiscene", tmp_path / "marks.csv", images, tmp_path / "marks") == 0
    assert labels_by_path(tmp_path / "marks") == {"0.jpg": ["a", "b"]}
    boxes = [{"id": n, "image_id": n, "category_id": n, "bbox": [n, 0, 1, 1]} for n in (1, 2)]
    coco = {
        "images": [{"id": 1, "file_name": "0.jpg"}, {"id": 2, "file_name": "0.jpg"}],
        "categories": [{"id": 1, "name": "a"}, {"id": 2, "name": "b"}],
        "annotations": boxes,
    }
    (tmp_path / "coco.json").write_text(json.dumps(coco))
    assert command("coco", tmp_path / "coco.json", images, tmp_path / "coco") == 0
    (row,) = rows(tmp_path / "coco")
    assert row["labels"] == ["a", "b"]
    assert [box["x0"] for box in row["boxes"]] == [1, 2]


@pytest.mark.parametrize(
    "prefix", ["/mnt/nas/x/Images/", "/elsewhere/", "C:\\\\data\\\\Images\\\\", "//server/share/Images/"]
)
def test_absolute_paths_of_another_machine_are_found_under_the_folder(tmp_path, images, capsys, prefix):
    content = f'{{"images": [["{prefix}0.jpg", ["a"]], ["{prefix}1.jpg", []], ["2.jpg", []]], "classes": ["a"]}}'
    (tmp_path / "ram.json").write_text(content)
    assert command("ram-json", tmp_path / "ram.json", images, tmp_path / "out") == 0
    assert labels_by_path(tmp_path / "out") == {"0.jpg": ["a"], "1.jpg": [], "2.jpg": []}
    assert "2 paths were looked for under" in (told := capsys.readouterr().err)
    assert "0.jpg': '0.jpg' is there" in told


def test_the_longest_tail_is_taken(tmp_path):
    for seed, name in enumerate(("a.jpg", "train/a.jpg", "val/a.jpg")):
        picture(tmp_path / name, seed=seed)
    (tmp_path / "t.csv").write_text("path,labels\n/data/train/a.jpg,t\n/data/val/a.jpg,v\n")
    assert command("table", tmp_path / "t.csv", tmp_path, tmp_path / "out") == 0
    assert labels_by_path(tmp_path / "out") == {"train/a.jpg": ["t"], "val/a.jpg": ["v"]}
    (tmp_path / "t.csv").write_text("path,labels\n/data/test/a.jpg,t\n/data/dev/a.jpg,v\n")
    with pytest.raises(ValueError, match=r"one 'a\.jpg' for both"):
        read_table(tmp_path / "t.csv", tmp_path)


def test_absolute_paths_that_are_there_or_nowhere_stay(tmp_path, images):
    there, nowhere = images / "0.jpg", "/nowhere/9.jpg"
    (tmp_path / "t.csv").write_text(f"path,labels\n{there},a\n{nowhere},b\n")
    annotations = read_table(tmp_path / "t.csv", tmp_path)
    assert [image.file for image in annotations.images] == [there, Path(nowhere)]
    assert not annotations.notes


@pytest.mark.parametrize(
    "prefix", ["data/train/", "./images/", "..\\\\photos\\\\", "https://example.org/a/", "s3://b/"]
)
def test_a_folder_too_many_is_found_in_every_format(tmp_path, images, capsys, prefix):
    (tmp_path / "a.csv").write_text(f"path,labels\n{prefix}0.jpg,a\n{prefix}1.jpg,b\n".replace("\\\\", "\\"))
    assert command("table", tmp_path / "a.csv", images, tmp_path / "out") == 0
    assert labels_by_path(tmp_path / "out") == {"0.jpg": ["a"], "1.jpg": ["b"]}
    assert "2 paths were looked for under" in capsys.readouterr().err
    (tmp_path / "a.json").write_text(
        f'{{"images": [{{"id": 1, "file_name": "{prefix}0.jpg"}}], "annotations": [], "categories": []}}'
    )
    assert command("coco", tmp_path / "a.json", images, tmp_path / "coco") == 0
    assert list(labels_by_path(tmp_path / "coco")) == ["0.jpg"]


def test_a_single_missing_image_is_not_guessed(tmp_path, images, capsys):
    """`other/1.jpg` is missing; that there is a `1.jpg` says nothing where the other paths are right."""
    (tmp_path / "a.csv").write_text("path,labels\n0.jpg,a\nother/1.jpg,b\n")
    assert command("table", tmp_path / "a.csv", images, tmp_path / "out") == 1
    assert "1 of 2 pictures cannot be read, 1 missing and 0 broken: other/1.jpg" in capsys.readouterr().err


def test_the_papers_names_of_pa100k(tmp_path, images, capsys):
    """The method's own file has words where the dataset's names are run together; `--labels` takes either."""
    file = Path(__file__).parents[2] / "configs" / "labels" / "pa100k.txt"
    ours = [line for line in lines(file) if not line.startswith("#")]
    papers = [re.sub(r"(?<=[a-z])(?=[A-Z0-9])", " ", name).replace("&", " and ") for name in ours]
    assert {"Hand Bag", "Skirt and Dress", "Hold Objects In Front"} <= set(papers)
    content = {"images": [["/mnt/nas/x/Images/0.jpg", papers], ["/mnt/nas/x/Images/1.jpg", []]], "classes": papers}
    (tmp_path / "test.json").write_text(json.dumps(content))
    keep = ("--labels", file)
    assert command("ram-json", tmp_path / "test.json", images, tmp_path / "out", *keep) == 0
    assert labels_by_path(tmp_path / "out") == {"0.jpg": ours, "1.jpg": []}
    assert lines(tmp_path / "out" / "labels.txt") == ours
    told = capsys.readouterr().err
    different = sum(paper != our for paper, our in zip(papers, ours, strict=True))
    assert f"{different} labels to keep are spelt otherwise in the source" in told
    assert "'HandBag' as 'Hand Bag'" in told
    # And without `--labels` the folder keeps the paper's names, which `report.json` counts.
    assert command("ram-json", tmp_path / "test.json", images, tmp_path / "papers") == 0
    assert lines(tmp_path / "papers" / "labels.txt") == papers


def test_labels_to_keep_may_be_spelt_otherwise(tmp_path, images, capsys):
    source = {
        "images": [["0.jpg", ["Hand Bag", "Skirt and Dress"]]],
        "classes": ["Hand Bag", "Skirt and Dress", "Hat"],
    }
    (tmp_path / "ram.json").write_text(json.dumps(source))
    (tmp_path / "keep.txt").write_text("HandBag\nSkirt&Dress\nHat\n")
    keep = ("--labels", tmp_path / "keep.txt")
    assert command("ram-json", tmp_path / "ram.json", images, tmp_path / "out", *keep) == 0
    assert labels_by_path(tmp_path / "out") == {"0.jpg": ["HandBag", "Skirt&Dress"]}
    assert "2 labels to keep are spelt otherwise in the source: 'HandBag' as 'Hand Bag'" in capsys.readouterr().err
    both = Annotations(["hand bag", "Hand-Bag"], [])
    with pytest.raises(ValueError, match="'HandBag' to keep is not in the source"):
        both.keep({"HandBag": "HandBag"})
    with pytest.raises(ValueError, match="'Hat' is to be kept twice"):
        Annotations(["Hat"], []).keep({"hat": "hat", "Hat": "cap"})


def coco_source(tmp_path, *, name="0.jpg", category="cat", bbox=(1, 2, 3, 4), encoding="utf-8") -> Path:
    content = {
        "images": [{"id": 1, "file_name": name}],
        "categories": [{"id": 1, "name": category}],
        "annotations": [{"id": 7, "image_id": 1, "category_id": 1, "bbox": bbox}],
    }
    (tmp_path / "coco.json").write_text(json.dumps(content), encoding=encoding)
    return tmp_path / "coco.json"


@pytest.mark.parametrize(
    ("options", "path"),
    [
        ({"name": "images\\0.jpg"}, "images/0.jpg"),
        ({"name": "images/0.jpg", "encoding": "utf-8-sig"}, "images/0.jpg"),
        ({"name": "images/0.jpg", "category": "cat "}, "images/0.jpg"),
        ({"name": "images/0.jpg", "bbox": []}, "images/0.jpg"),
        ({"name": "images/0.jpg", "bbox": None}, "images/0.jpg"),
    ],
)
def test_coco_as_other_tools_write_it(tmp_path, images, options, path):
    assert command("coco", coco_source(tmp_path, **options), tmp_path, tmp_path / "out") == 0
    ((row,), report) = rows(tmp_path / "out"), json.loads((tmp_path / "out" / "report.json").read_text())
    assert (row["path"], row["labels"]) == (path, ["cat"])
    assert len(row["boxes"]) == (1 if options.get("bbox", True) else 0)
    assert len(report["notes"]) == (0 if row["boxes"] else 1)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"bbox": [1, 2, 3]}, r"coco\.json: annotation 7 of image 1: `bbox` must be"),
        ({"bbox": [1, 2, 3, "4"]}, r"coco\.json: annotation 7 of image 1: `bbox` must be"),
        ({"category": ""}, r"coco\.json: The label '' cannot stand"),
        ({"category": 3}, r"coco\.json: entry 0 of `categories` must have an `id` and a `name`, got .*3"),
    ],
)
def test_coco_errors_name_file_and_annotation(tmp_path, options, message):
    with pytest.raises(ValueError, match=message):
        read_coco(coco_source(tmp_path, **options), tmp_path)


def test_marks_may_be_truth_values_and_unknown(tmp_path, images):
    (tmp_path / "a.csv").write_text("image,a,b,c\n0.jpg,True,false,-1\n1.jpg,FALSE,1,0\n2.jpg,0,-1.0,-1\n")
    assert command("multiscene", tmp_path / "a.csv", images, tmp_path / "out") == 0
    written = rows(tmp_path / "out")
    assert [row["labels"] for row in written] == [["a"], ["b"], []]
    assert [row["unknown_labels"] for row in written] == [["c"], [], ["b", "c"]]
    (tmp_path / "keep.txt").write_text("c\tx\na\n")
    assert command("multiscene", tmp_path / "a.csv", images, tmp_path / "kept", "--labels", tmp_path / "keep.txt") == 0
    assert [row["unknown_labels"] for row in rows(tmp_path / "kept")] == [["x"], [], ["x"]]


@pytest.mark.parametrize("form", ["csv", "jsonl"])
def test_tables_may_say_unknown(tmp_path, images, form):
    text = {
        "csv": "path,labels,unknown_labels\n0.jpg,a,b|c\n1.jpg,b,\n0.jpg,c,\n",
        "jsonl": '{"path": "0.jpg", "labels": ["a"], "unknown_labels": ["b", "c"]}\n'
        '{"path": "1.jpg", "labels": ["b"]}\n{"path": "0.jpg", "labels": ["c"]}\n',
    }[form]
    (tmp_path / f"a.{form}").write_text(text)
    assert command("table", tmp_path / f"a.{form}", images, tmp_path / "out") == 0
    first, second = rows(tmp_path / "out")
    assert (first["labels"], first["unknown_labels"]) == (["a", "c"], ["b"])
    assert (second["labels"], second["unknown_labels"]) == (["b"], [])
    for streaming in (True, False):
        dataset, reader = DatasetSpec(tmp_path / "out", "train", label_column="labels", streaming=streaming).open()
        read = [reader.read(row) for row in dataset]
        assert [(row.labels, row.unknown) for row in read] == [(["a", "c"], ("b",)), (["b"], ())]
