"""`ram-hf index`: what it encodes, keeps, knows again and drops, and what it refuses."""

import copy
import json
import os
import shutil
import sys

import numpy as np
import pytest
import torch

from ram_hf.cli import main
from ram_hf.tagging import reader
from ram_hf.tagging.feature_encoder import FeatureEncoder
from ram_hf.tagging.index import ImageIndex, IndexedImage
from ram_hf.tagging.index_changes import FoundFile, find_changes
from tests.fork_server import tree

from .hostile import photograph, save_photographs


@pytest.fixture
def index(tmp_path, monkeypatch, calibrated_folder):
    """Run the command in a folder of its own; returns its exit status."""
    monkeypatch.chdir(tmp_path)

    def run(*arguments, output="index", model=calibrated_folder):
        given = [*map(str, arguments), "--output", output, "--workers", "0", "--batch-size", "2"]
        return main(["index", *given, *(["--model", str(model)] if model else [])])

    return run


@pytest.fixture
def encoded(monkeypatch):
    """How many images were encoded so far."""
    counts = []
    encode = FeatureEncoder.__call__
    monkeypatch.setattr(
        FeatureEncoder, "__call__", lambda self, pixels: counts.append(len(pixels)) or encode(self, pixels)
    )
    return lambda: sum(counts)


def test_holds_what_the_model_computes(index, tmp_path, calibrated_model, tiny_processor, capsys):
    files = save_photographs(tmp_path / "photos" / "below", 5)
    (tmp_path / "photos" / "broken.jpg").write_bytes(b"")
    assert index("photos") == 0
    told = capsys.readouterr().err
    assert "6 pictures in 'index': 6 encoded, 0 kept" in told
    assert "broken.jpg: the file is empty" in told
    opened = ImageIndex(tmp_path / "index")
    assert opened.description.folders == (str(tmp_path / "photos"),)
    assert opened.description.complete
    images = opened.images()
    assert [image.path for image in images] == [*(f"below/000{number}.jpg" for number in range(5)), "broken.jpg"]
    assert [image.error for image in images] == [None] * 5 + ["the file is empty"]
    assert images[0][2:6] == (files[0].stat().st_size, files[0].stat().st_mtime_ns, 60, 40)
    with torch.no_grad():
        expected = calibrated_model.encode_images(tiny_processor(images=list(map(str, files)))["pixel_values"])
    found = opened.features(np.arange(6))
    for name in expected._fields:
        stored, computed = torch.from_numpy(getattr(found, name)), getattr(expected, name)
        torch.testing.assert_close(stored[:5].float(), computed, rtol=2e-3, atol=2e-3)
        assert not stored[5].any()


def test_run_again_nothing_is_done(index, tmp_path, encoded, capsys):
    save_photographs(tmp_path / "photos", 5)
    assert index("photos") == 0
    before, count = tree(tmp_path / "index"), encoded()
    assert index("photos", model=None) == 0  # the index's own
    assert tree(tmp_path / "index") == before
    assert encoded() == count == 5
    assert "0 encoded, 5 kept" in capsys.readouterr().err


def test_new_changed_moved_and_gone(index, tmp_path, encoded):
    files = save_photographs(tmp_path / "photos", 6)
    assert index("photos") == 0
    before = {image.path: image for image in ImageIndex(tmp_path / "index").images()}
    features = ImageIndex(tmp_path / "index").features(np.arange(6))
    photograph(50, 50, seed=9).save(files[0])  # changed
    files[1].unlink()
    (tmp_path / "photos" / "moved").mkdir()
    os.rename(files[2], tmp_path / "photos" / "moved" / files[2].name)
    photograph(30, 20, seed=10).save(tmp_path / "photos" / "new.png")
    count = encoded()
    assert index("photos") == 0
    assert encoded() - count == 2
    opened = ImageIndex(tmp_path / "index")
    images = {image.path: image for image in opened.images()}
    assert images.keys() == {"0000.jpg", "moved/0002.jpg", "0003.jpg", "0004.jpg", "0005.jpg", "new.png"}
    assert images["moved/0002.jpg"] == before["0002.jpg"]._replace(path="moved/0002.jpg")
    assert images["0000.jpg"][4:6] == (50, 50)
    number = [image.path for image in opened.images()].index("moved/0002.jpg")
    assert np.array_equal(opened.features(np.array([number])).patch_embeds[0], features.patch_embeds[2])


def test_a_folder_that_was_moved_is_known_again(index, tmp_path, encoded):
    save_photographs(tmp_path / "photos", 3)
    assert index("photos") == 0
    os.rename(tmp_path / "photos", tmp_path / "elsewhere")
    assert index("elsewhere") == 0
    assert encoded() == 3
    assert ImageIndex(tmp_path / "index").description.folders == (str(tmp_path / "elsewhere"),)


def test_folders_are_added_and_never_lost(index, tmp_path, encoded, capsys):
    save_photographs(tmp_path / "a", 3)
    save_photographs(tmp_path / "b", 2)
    assert index("a") == 0
    assert index("b") == 1
    assert f"is also of the folder '{tmp_path / 'a'}': name it too" in capsys.readouterr().err
    assert index("b", "a") == 0
    assert encoded() == 5
    assert [image[:2] for image in ImageIndex(tmp_path / "index").images()] == [
        *((0, f"000{number}.jpg") for number in range(3)),
        *((1, f"000{number}.jpg") for number in range(2)),
    ]
    for file in (tmp_path / "a").iterdir():
        file.unlink()
    assert index("a", "b") == 1
    assert "There is no picture in" in capsys.readouterr().err
    shutil.rmtree(tmp_path / "a")
    assert index("b") == 1
    assert "which is not there now: name it too" in capsys.readouterr().err
    assert len(ImageIndex(tmp_path / "index")) == 5


def test_what_could_not_be_read_is_tried_again(index, tmp_path, monkeypatch, capsys):
    files = save_photographs(tmp_path / "photos", 3)
    read = reader.load_image

    def refuse(path, **options):
        if path == str(files[1]):
            raise PermissionError(13, "Permission denied")
        return read(path, **options)

    monkeypatch.setattr(reader, "load_image", refuse)
    assert index("photos", "--strict") == 1
    assert "0001.jpg: Permission denied" in capsys.readouterr().err
    before = tree(tmp_path / "index")
    assert index("photos") == 0
    assert tree(tmp_path / "index") == before
    monkeypatch.setattr(reader, "load_image", read)
    assert index("photos", "--strict") == 0
    assert not any(image.error for image in ImageIndex(tmp_path / "index").images())
    assert len(ImageIndex(tmp_path / "index")) == 3


def test_without_patches_is_small(index, tmp_path, capsys):
    save_photographs(tmp_path / "photos", 2)
    assert index("photos", "--without-patches") == 0
    assert not ImageIndex(tmp_path / "index").has_patches
    assert index("photos") == 1
    assert "has no patches: pass `--without-patches`" in capsys.readouterr().err
    assert index("photos", output="other") == 0
    assert index("photos", "--without-patches", output="other") == 1
    assert "`--without-patches` is for a new index" in capsys.readouterr().err


def test_another_model_is_refused_by_name(index, tmp_path, calibrated_model, tiny_processor, capsys):
    save_photographs(tmp_path / "photos", 2)
    assert index("photos") == 0
    before = tree(tmp_path / "index")
    with torch.no_grad():
        features = calibrated_model.get_label_features(**tiny_processor(labels=["a", "b"]))
    other = copy.deepcopy(calibrated_model)
    other.set_reference_labels(["a", "b"], features)
    other.save_pretrained(tmp_path / "other")
    tiny_processor.save_pretrained(tmp_path / "other")
    assert index("photos", model=tmp_path / "other") == 1
    assert f"and '{tmp_path / 'other'}' computes other features" in capsys.readouterr().err
    assert tree(tmp_path / "index") == before
    recalibrated = copy.deepcopy(calibrated_model)
    recalibrated.config.calibration = {**recalibrated.config.calibration, "bias": 1.0}
    recalibrated.save_pretrained(tmp_path / "other")
    assert index("photos", model=tmp_path / "other") == 0  # the features are the same


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        (["gone"], "'gone' is not there"),
        (["photos/0000.jpg"], "'photos/0000.jpg' is not a folder: an index is of folders"),
        (["empty"], "There is no picture in"),
        (["photos", "--model", "MODEL"], "This model has no reference labels"),
    ],
)
def test_wrong_inputs(index, tmp_path, model_folder, capsys, arguments, error):
    save_photographs(tmp_path / "photos", 1)
    (tmp_path / "empty").mkdir()
    assert index(*(str(model_folder) if word == "MODEL" else word for word in arguments), model=None) == 1
    assert error in capsys.readouterr().err
    assert not (tmp_path / "index").exists()


def test_folders_of_others_are_left_alone(index, tmp_path, capsys):
    save_photographs(tmp_path / "photos", 1)
    assert index("photos", output="photos") == 1
    assert "holds other things, '0000.jpg' for one" in capsys.readouterr().err
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "index.json").write_text(json.dumps({"pages": 3}))
    assert index("photos", output="other") == 1
    assert "is not an index" in capsys.readouterr().err
    (tmp_path / "file").write_text("")
    assert index("photos", output="file") == 1
    assert "'file' is not a folder" in capsys.readouterr().err


def test_names_of_no_unicode(index, tmp_path):
    folder = tmp_path / "photos"
    folder.mkdir()
    try:
        photograph(30, 20).save(os.fsdecode(os.fsencode(folder) + b"/caf\xe9.png"))
    except OSError:
        pytest.skip("no such names here")
    assert index("photos") == 0
    assert ImageIndex(tmp_path / "index").images()[0].path == r"caf\xe9.png"


def test_two_alike_are_not_taken_for_moved():
    """Two files of the same size, time and name: which of them was moved cannot be told."""
    gone = [IndexedImage(0, "a/x.jpg", 5, 7), IndexedImage(0, "b/x.jpg", 5, 7)]
    new = [FoundFile("/p/c/x.jpg", (0, "c/x.jpg"), 5, 7)]
    assert find_changes(gone, new).places == [None, None]
    assert find_changes(gone, new).todo == new
    assert find_changes(gone[:1], new).places == [(0, "c/x.jpg")]
    other_name = [FoundFile("/p/y.jpg", (0, "y.jpg"), 5, 7)]
    assert find_changes(gone[:1], other_name).places == [None]


def test_pyarrow_that_is_missing_is_told_first(index, tmp_path, monkeypatch, capsys):
    save_photographs(tmp_path / "photos", 1)
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    assert index("photos", model="gone") == 1
    assert "An index needs pyarrow: pip install 'ram_hf[tag]'" in capsys.readouterr().err
    assert not (tmp_path / "index").exists()
