import dataclasses
import io
import json
import re
import tarfile

import datasets
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from ram_hf.data.sources import DatasetSpec, RowReader, open_dataset

from .conftest import COCO_CATEGORIES, MLRSNET_LABELS, PEDESTRIAN_LABELS, encoded_picture

LAYOUTS = {
    "strings_dataset": (
        {"label_column": "labels"},
        None,
        [["beach", "sea"], ["sea"], [], ["beach", "sand"], ["airport"]],
    ),
    "class_labels_dataset": ({"label_column": "label"}, MLRSNET_LABELS, [["airplane", "airport"], ["beach"], []]),
    "objects_dataset": (
        {"label_column": "objects.categories"},
        COCO_CATEGORIES,
        [["person", "car"], [], ["airplane", "bicycle"]],
    ),
    "truth_columns_dataset": (
        {"label_columns": PEDESTRIAN_LABELS},
        PEDESTRIAN_LABELS,
        [["Female", "Hat"], [], ["Hat", "Glasses"]],
    ),
}


def read_all(reader, dataset):
    return [reader.read(row) for row in reader.select(dataset)]


# --- layouts --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("streaming", [True, False])
@pytest.mark.parametrize("name", LAYOUTS)
def test_each_layout_is_read_from_parquet(name, streaming, request, tmp_path):
    request.getfixturevalue(name).to_parquet(tmp_path / "train.parquet")
    columns, names, labels = LAYOUTS[name]
    dataset = open_dataset(tmp_path / "train.parquet", split="train", streaming=streaming)
    assert isinstance(dataset, datasets.IterableDataset if streaming else datasets.Dataset)
    reader = RowReader.from_dataset(dataset, **columns)
    rows = read_all(reader, dataset)
    assert reader.label_names == names
    assert [row.labels for row in rows] == labels
    assert [row.image for row in rows] == [encoded_picture(seed) for seed in range(len(rows))]
    assert {row.boxes for row in rows} == {None}


@pytest.mark.parametrize("leaf", [datasets.Value("string"), datasets.ClassLabel(names=["cat", "dog"])])
def test_list_of_structs_is_read_as_a_struct_of_lists(leaf):
    features = datasets.Features({"image": datasets.Value("binary"), "objects": datasets.List({"categories": leaf})})
    dog, cat = ("dog", "cat") if leaf.dtype == "string" else (1, 0)
    objects = [[{"categories": dog}, {"categories": cat}, {"categories": dog}], [], None]
    dataset = datasets.Dataset.from_dict({"image": [b"x"] * 3, "objects": objects}, features=features)
    reader = RowReader(features, label_column="objects.categories")
    assert [row.labels for row in read_all(reader, dataset)] == [["dog", "cat"], [], []]


def test_single_class_label_and_unlabelled_rows():
    features = datasets.Features({"image": datasets.Value("string"), "label": datasets.ClassLabel(names=["a", "b"])})
    reader = RowReader(features, label_column="label")
    rows = [reader.read({"image": "x.jpg", "label": value}) for value in (1, -1, None)]
    assert [row.labels for row in rows] == [["b"], [], []]
    assert rows[0].image == rows[0].path == "x.jpg"


def test_stream_without_features_is_looked_at():
    stream = datasets.IterableDataset.from_generator(
        lambda: iter([{"image": b"x", "labels": ["dog"]}, {"image": b"y", "labels": []}])
    )
    assert stream.features is None
    reader = RowReader.from_dataset(stream, label_column="labels")
    assert [row.labels for row in read_all(reader, stream)] == [["dog"], []]


def test_boxes(boxes_dataset):
    reader = RowReader.from_dataset(boxes_dataset, label_column="labels", boxes_column="boxes")
    rows = read_all(reader, boxes_dataset)
    assert [row.boxes for row in rows] == boxes_dataset["boxes"][:]
    as_struct = {"label": ["dog"], "x0": [1.0], "y0": [2.0], "x1": [8.0], "y1": [9.0]}
    row = reader.read({"image": b"x", "labels": [], "boxes": as_struct})
    assert row.boxes == [{"label": "dog", "x0": 1.0, "y0": 2.0, "x1": 8.0, "y1": 9.0}]


def test_box_labels_may_be_class_labels():
    number = datasets.Value("float32")
    box = {"label": datasets.ClassLabel(names=["cat", "dog"]), "x0": number, "y0": number, "x1": number, "y1": number}
    features = datasets.Features({"image": datasets.Image(), "boxes": datasets.List(box)})
    reader = RowReader(features, label_column="boxes.label", boxes_column="boxes")
    boxes = [{"label": 1, "x0": 0.0, "y0": 0.0, "x1": 1.0, "y1": 1.0}]
    row = reader.read({"image": {"bytes": b"x", "path": "a.jpg"}, "boxes": boxes})
    assert row.labels == ["dog"]
    assert row.boxes == [{**boxes[0], "label": "dog"}]
    assert row.path == "a.jpg"


@pytest.mark.shared
def test_reference_rows(coco128):
    dataset = open_dataset(coco128, split="train")
    reader = RowReader.from_dataset(dataset, label_column="labels", boxes_column="boxes")
    rows = read_all(reader, dataset)
    assert len(rows) == 128
    assert sum(len(row.boxes) for row in rows) == 929
    assert all({box["label"] for box in row.boxes} == set(row.labels) for row in rows)
    assert rows[0].labels == ["bowl", "broccoli", "orange"]


FEATURES = datasets.Features(
    {
        "image": datasets.Image(),
        "caption": datasets.Value("string"),
        "ids": datasets.List(datasets.Value("int64")),
        "objects": {"bbox": datasets.List(datasets.Value("float32"))},
    }
)


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        (
            {"label_column": "labels"},
            "There is no label column 'labels': the columns are 'image', 'caption', 'ids', 'objects'.",
        ),
        (
            {"label_column": "objects.categories"},
            "There is no label column 'objects.categories': the columns are 'image', 'caption', 'ids', 'objects'; "
            "'objects' holds a struct of 'bbox'.",
        ),
        (
            {"label_column": "caption"},
            "The label column 'caption' holds string; expected a list of strings or of ClassLabel, or "
            "`label_separator` for a string of several, or `label_columns` for columns of 1, 0 and -1. "
            "The columns are 'image', 'caption', 'ids', 'objects'.",
        ),
        ({"label_column": "ids"}, "The label column 'ids' holds a list of int64; expected"),
        ({"label_column": "objects"}, "The label column 'objects' holds a struct of 'bbox'; expected"),
        ({"label_columns": ["Hat"]}, "There is no label column 'Hat': the columns are"),
        ({"label_columns": ["caption"]}, "'caption' holds string; expected numbers that are 1, 0 or -1."),
        ({"label_columns": ["a", "a"]}, "`label_columns` names a column twice: ['a', 'a']."),
        ({}, "Give either `label_column` or `label_columns`; the columns are 'image', 'caption'"),
        ({"label_column": "ids", "label_columns": ["ids"]}, "Give either `label_column` or `label_columns`"),
        (
            {"label_column": "caption", "image_column": "img"},
            "There is no image column 'img': the columns are 'image'",
        ),
        (
            {"label_column": "caption", "image_column": "ids"},
            "The image column 'ids' holds a list of int64; expected an Image, encoded bytes or paths.",
        ),
        (
            {"label_column": "caption", "boxes_column": "objects"},
            "The boxes column 'objects' holds a struct of 'bbox'; expected a list of {label, x0, y0, x1, y1}.",
        ),
    ],
)
def test_wrong_columns_are_named(columns, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        RowReader(FEATURES, **columns)


def test_wrong_values_are_named():
    features = datasets.Features({"image": datasets.Image(), "Hat": datasets.Value("uint8")})
    reader = RowReader(features, label_columns=["Hat"])
    with pytest.raises(ValueError, match="'Hat' must hold 1, 0, or -1 for unknown, got 2"):
        reader.read({"image": {"bytes": b"x", "path": None}, "Hat": 2})
    with pytest.raises(ValueError, match="no image in column 'image'"):
        reader.read({"image": {"bytes": None, "path": None}, "Hat": 1})
    with pytest.raises(ValueError, match=r"holds a decoded Image; read the rows of `reader.select"):
        reader.read({"image": Image.new("RGB", (2, 2)), "Hat": 1})


# --- opening --------------------------------------------------------------------------------------------------------


def count(dataset) -> int:
    return sum(1 for _ in dataset)


@pytest.mark.parametrize("streaming", [True, False])
def test_folder_of_parquet_shards_has_its_splits(parquet_shards, streaming):
    assert count(open_dataset(parquet_shards, split="train", streaming=streaming)) == 5
    assert count(open_dataset(parquet_shards, split="test", streaming=streaming)) == 5
    with pytest.raises(ValueError, match=r"has no split 'valid'; it has 'train', 'test'\.$"):
        open_dataset(parquet_shards, split="valid", streaming=streaming)


def test_globs_and_data_files(parquet_shards):
    stream = open_dataset(f"{parquet_shards}/train-*.parquet", split="validation")
    assert stream.num_shards == 2
    assert count(stream) == 5
    one = open_dataset(parquet_shards, split="train", data_files="train-00000-of-00002.parquet")
    assert count(one) == 3


@pytest.mark.parametrize("streaming", [True, False])
def test_saved_to_disk(strings_dataset, tmp_path, streaming):
    strings_dataset.save_to_disk(tmp_path / "one", num_shards=2)
    datasets.DatasetDict({"train": strings_dataset, "test": strings_dataset}).save_to_disk(tmp_path / "two")
    one = open_dataset(tmp_path / "one", split="train", streaming=streaming)
    assert count(one) == 5
    assert isinstance(one, datasets.Dataset) or one.num_shards == 2
    assert count(open_dataset(tmp_path / "two", split="test", streaming=streaming)) == 5
    with pytest.raises(ValueError, match=r"has no split 'valid'; it has 'train', 'test'\."):
        open_dataset(tmp_path / "two", split="valid", streaming=streaming)


def test_arrow_file(strings_dataset, tmp_path):
    strings_dataset.save_to_disk(tmp_path / "saved")
    stream = open_dataset(f"{tmp_path}/saved/*.arrow", split="train")
    reader = RowReader.from_dataset(stream, label_column="labels")
    assert read_all(reader, stream)[0].labels == ["beach", "sea"]


@pytest.mark.parametrize("streaming", [True, False])
def test_image_folder_with_metadata(tmp_path, streaming):
    folder = tmp_path / "train"
    folder.mkdir()
    lines = []
    for seed, labels in enumerate((["dog"], ["cat", "dog"], [])):
        (folder / f"{seed}.png").write_bytes(encoded_picture(seed))
        lines.append(json.dumps({"file_name": f"{seed}.png", "labels": labels}))
    (folder / "metadata.jsonl").write_text("\n".join(lines))
    dataset = open_dataset(tmp_path, split="train", streaming=streaming)
    rows = read_all(RowReader.from_dataset(dataset, label_column="labels"), dataset)
    assert [row.labels for row in rows] == [["dog"], ["cat", "dog"], []]
    assert [row.path.rsplit("/")[-1] for row in rows] == ["0.png", "1.png", "2.png"]


def test_webdataset_shards(tmp_path):
    for shard in range(2):
        with tarfile.open(tmp_path / f"train-{shard}.tar", "w") as tar:
            for key in range(2):
                for ending, content in (("png", encoded_picture(key)), ("json", b'{"labels": ["dog", "sea"]}')):
                    member = tarfile.TarInfo(f"{shard}{key}.{ending}")
                    member.size = len(content)
                    tar.addfile(member, io.BytesIO(content))
    for source in (tmp_path, f"{tmp_path}/*.tar"):
        stream = open_dataset(source, split="train")
        reader = RowReader.from_dataset(stream, image_column="png", label_column="json.labels")
        rows = read_all(reader, stream)
        assert [row.labels for row in rows] == [["dog", "sea"]] * 4
        assert rows[1].image == encoded_picture(1)


def test_what_is_not_there(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"^There is no folder or file '.*/missing'\.$"):
        open_dataset(tmp_path / "missing", split="train")
    with pytest.raises(FileNotFoundError, match=r"^There is no folder or file 'shards/train\.parquet'\.$"):
        open_dataset("shards/train.parquet", split="train")
    with pytest.raises(FileNotFoundError, match=r"^No file matches '.*\*\.tar'\.$"):
        open_dataset(f"{tmp_path}/*.tar", split="train")
    with pytest.raises(FileNotFoundError, match=r"^Found no data files of a known type in the folder '.*'\.$"):
        open_dataset(tmp_path, split="train")
    (tmp_path / "labels.xyz").write_text("dog")
    with pytest.raises(ValueError, match=r"^Data files must end alike, in one of .*; got \['\.xyz'\]\.$"):
        open_dataset(tmp_path / "labels.xyz", split="train")


def test_hub_out_of_reach(monkeypatch):
    monkeypatch.setattr(datasets.config, "HF_HUB_OFFLINE", True)
    with pytest.raises(ConnectionError) as error:
        open_dataset("nobody/nothing", split="train")
    assert str(error.value) == "Dataset 'nobody/nothing' is not in the local cache and the Hub cannot be reached."


@pytest.mark.parametrize(
    ("raised", "kind", "message"),
    [
        (
            ValueError("BuilderConfig 'x' not found. Available: ['a', 'b']"),
            ValueError,
            "Dataset 'owner/name' has no such configuration (`name`); it has 'a', 'b'.",
        ),
        (
            datasets.exceptions.DatasetNotFoundError("Dataset 'owner/name' doesn't exist on the Hub.\nMore"),
            FileNotFoundError,
            "Cannot open dataset 'owner/name': Dataset 'owner/name' doesn't exist on the Hub.",
        ),
        (
            ValueError("Bad split: dev. Available splits: ['train', 'val']"),
            ValueError,
            "Dataset 'owner/name' has no split 'dev'; it has 'train', 'val'.",
        ),
        (ValueError("Something else"), ValueError, "Something else"),
    ],
)
def test_errors_of_the_hub_become_one_sentence(raised, kind, message, monkeypatch):
    def load_dataset(*_, **__):
        raise raised

    monkeypatch.setattr(datasets, "load_dataset", load_dataset)
    with pytest.raises(kind) as error:
        open_dataset("owner/name", split="dev")
    assert str(error.value) == message


def test_minus_one_in_a_label_column_is_unknown():
    features = datasets.Features(
        {"image": datasets.Image(), **{name: datasets.Value("int8") for name in ("Hat", "Bag")}}
    )
    row = RowReader(features, label_columns=["Hat", "Bag"]).read(
        {"image": {"bytes": b"x", "path": None}, "Hat": -1, "Bag": 1}
    )
    assert row.labels == ["Bag"]
    assert row.unknown == ("Hat",)


def test_a_spec_opens_its_rows_with_their_reader(boxes_dataset, tmp_path):
    boxes_dataset.to_parquet(tmp_path / "train.parquet")
    spec = DatasetSpec(tmp_path / "train.parquet", "train", label_column="labels", boxes_column="boxes")
    rows, reader = spec.open()
    assert [reader.read(row) for row in rows] == read_all(reader, boxes_dataset)
    with pytest.raises(ValueError, match="There is no label column 'tags'"):
        dataclasses.replace(spec, label_column="tags").open()


def test_a_label_that_the_dataset_lacks_is_refused_where_it_knows_them_all():
    features = datasets.Features({"image": datasets.Image(), "label": datasets.ClassLabel(names=["dog", "cat"])})
    RowReader(features, label_column="label").check_labels(["cat"])
    with pytest.raises(ValueError, match=r"The dataset has no label 'dogs'\. Did you mean 'dog'\?"):
        RowReader(features, label_column="label").check_labels(["cat", "dogs"])


def write_jsonl(file, labels: list[list[str]]) -> None:
    file.write_text("".join(json.dumps({"image": "/a.jpg", "labels": each}) + "\n" for each in labels))


def write_parquet(file, labels: list[list[str]]) -> None:
    kind = pa.list_(pa.string() if any(labels) else pa.null())
    pq.write_table(pa.table({"image": ["/a.jpg"] * len(labels), "labels": pa.array(labels, kind)}), file)


@pytest.mark.parametrize("streaming", [True, False])
@pytest.mark.parametrize(("ending", "write"), [("jsonl", write_jsonl), ("parquet", write_parquet)])
@pytest.mark.parametrize("as_folder", [True, False])
def test_a_first_shard_without_any_label(tmp_path, streaming, ending, write, as_folder):
    write(tmp_path / f"train-0.{ending}", [[], []])
    write(tmp_path / f"train-1.{ending}", [["dog"], [], ["cat", "sun"]])
    source = tmp_path if as_folder else tmp_path / f"*.{ending}"
    dataset, reader = DatasetSpec(source, "train", label_column="labels", streaming=streaming).open()
    assert [reader.read(row).labels for row in dataset] == [[], [], ["dog"], [], ["cat", "sun"]]


@pytest.mark.parametrize("streaming", [True, False])
def test_a_shard_that_cannot_be_read_is_named(tmp_path, streaming):
    write_parquet(tmp_path / "train-1.parquet", [["dog"]])
    empty = pa.table({"image": pa.array([], pa.string()), "labels": pa.array([], pa.list_(pa.string()))})
    pq.write_table(empty, tmp_path / "train-0.parquet")
    for source in (tmp_path, tmp_path / "*.parquet"):
        with pytest.raises(ValueError, match=r"train-0\.parquet' has no rows"):
            open_dataset(source, split="train", streaming=streaming)
    whole = (tmp_path / "train-1.parquet").read_bytes()
    (tmp_path / "train-0.parquet").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(ValueError, match=r"train-0\.parquet' is no whole parquet file"):
        open_dataset(tmp_path, split="train", streaming=streaming)


def test_shards_that_do_not_fit_each_other_say_so(tmp_path):
    write_parquet(tmp_path / "train-0.parquet", [["dog"]])
    pq.write_table(pa.table({"image": [1], "labels": [3.5]}), tmp_path / "train-1.parquet")
    with pytest.raises(ValueError, match=r"cannot be read: .*cast"):
        open_dataset(tmp_path, split="train", streaming=False)


@pytest.mark.parametrize("streaming", [True, False])
@pytest.mark.parametrize(
    ("separator", "cell"), [("|", "red car| dog |"), (", ", "red car, dog"), (";", "red car;dog;dog")]
)
def test_a_string_of_labels(tmp_path, streaming, separator, cell):
    pq.write_table(pa.table({"image": ["/a.jpg"] * 2, "labels": [cell, ""]}), tmp_path / "train.parquet")
    spec = DatasetSpec(tmp_path, "train", label_column="labels", streaming=streaming, label_separator=separator)
    dataset, reader = spec.open()
    assert [reader.read(row).labels for row in dataset] == [["red car", "dog"], []]
    with pytest.raises(ValueError, match="`label_separator` for a string of several"):
        dataclasses.replace(spec, label_separator=None).open()


def test_ranges_of_shards(tmp_path):
    for number in range(12):
        write_parquet(tmp_path / f"part-{number:03d}.parquet", [[f"label {number}"]])
    dataset = open_dataset(tmp_path / "part-{002..010}.parquet", split="train")
    assert [row["labels"] for row in dataset] == [[f"label {number}"] for number in range(2, 11)]
    with pytest.raises(FileNotFoundError, match=r"There is no file '.*part-012\.parquet'"):
        open_dataset(tmp_path / "part-{010..013}.parquet", split="train")


def test_what_is_here_has_no_revisions(tmp_path):
    with pytest.raises(ValueError, match="is here and has no revisions: leave out 'v2'"):
        open_dataset(tmp_path, split="train", revision="v2")
