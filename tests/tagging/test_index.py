"""The format of an index: written, read by us, by pyarrow and by `datasets`, and what is no index."""

import json

import numpy as np
import pyarrow as pa
import pytest

from ram_hf.tagging.index import (
    FORMAT_VERSION,
    ImageIndex,
    IndexDescription,
    IndexedImage,
    IndexWriter,
    StoredFeatures,
    change_places,
    is_index,
    shard_files,
)

WIDTH, PATCHES = 6, 4
BASIS = np.eye(WIDTH, dtype=np.float32)


def describe(num_patches=PATCHES, **more) -> IndexDescription:
    return IndexDescription("some/model", "abc", WIDTH, num_patches, ("/photos",), **more)


def make_features(number: int, seed: int = 0) -> StoredFeatures:
    rng = np.random.default_rng(seed)
    return StoredFeatures(
        rng.normal(size=(number, WIDTH)).astype("f2"),
        rng.normal(size=(number, 6)).astype("f4"),
        rng.normal(size=(number, PATCHES, WIDTH)).astype("f2"),
        rng.normal(size=(number, PATCHES)).astype("f4"),
        rng.normal(size=(number, PATCHES)).astype("f4"),
        rng.integers(-127, 128, size=(number, 1 + PATCHES, WIDTH)).astype("i1"),
    )


def make_images(number: int, first: int = 0) -> list[IndexedImage]:
    return [
        IndexedImage(0, f"é/{index}.jpg", 2**40 + index, 2**60 + 1, 30, 20) for index in range(first, first + number)
    ]


@pytest.fixture
def index(tmp_path):
    """Eleven images in shards of four."""
    folder = tmp_path / "index"
    folder.mkdir()
    describe().write(folder, BASIS)
    writer = IndexWriter(folder, describe(), shard_size=4)
    features = make_features(11)
    for start, stop in ((0, 3), (3, 9), (9, 11)):
        writer.add(make_images(stop - start, start), StoredFeatures(*(each[start:stop] for each in features)))
    writer.flush()
    return folder


def test_round_trip(index):
    opened, features = ImageIndex(index), make_features(11)
    assert [file.name for file in shard_files(index)] == [f"images-0000{number}.arrow" for number in range(3)]
    assert len(opened) == 11
    assert opened.images() == make_images(11)
    assert opened.images(3, 9) == make_images(6, 3)
    numbers = np.array([0, 3, 4, 10])
    for name, found in opened.features(numbers)._asdict().items():
        assert found.dtype == getattr(features, name).dtype
        assert np.array_equal(found, getattr(features, name)[numbers]), name
    assert np.array_equal(opened.image_embeds(), features.image_embeds)
    assert np.array_equal(opened.statistics(), features.statistics)
    assert not opened.is_broken().any()


def test_last_shard_is_gone_on_with(index):
    """Stopped after eleven and gone on with: the same files as of nineteen at once."""
    writer = IndexWriter(index, describe(), shard_size=4)
    writer.add(make_images(8, 11), make_features(8, seed=1))
    writer.flush()
    assert [shard.num_rows for shard in ImageIndex(index)._shards] == [4, 4, 4, 4, 3]
    assert ImageIndex(index).images() == make_images(19)


def test_without_patches(tmp_path):
    describe(0).write(tmp_path, BASIS)
    writer = IndexWriter(tmp_path, describe(0), shard_size=4)
    writer.add(make_images(2), make_features(2))
    writer.flush()
    opened = ImageIndex(tmp_path)
    assert not opened.has_patches
    assert opened.features(np.array([1])).patch_embeds is None
    assert np.array_equal(opened.features(np.array([1])).image_embeds, make_features(2).image_embeds[1:])


def test_zeros_where_an_image_is_not_there():
    spread = make_features(2).spread([True, False, True])
    assert np.array_equal(spread.patch_embeds[[0, 2]], make_features(2).patch_embeds)
    assert not spread.patch_embeds[1].any()
    assert make_features(1)._replace(patch_rivals=None).spread([True]).patch_rivals is None


def test_dropped_and_moved(index):
    features = make_features(11)
    places = [(image.folder, image.path) for image in make_images(11)]
    before = {file.name: file.stat().st_mtime_ns for file in shard_files(index)}
    places[5] = None
    places[6] = (1, "elsewhere.jpg")
    places[8:] = [None] * 3
    change_places(index, describe(), places)
    opened = ImageIndex(index)
    kept = np.array([0, 1, 2, 3, 4, 6, 7])
    expected = [make_images(11)[number] for number in kept]
    expected[5] = expected[5]._replace(folder=1, path="elsewhere.jpg")
    assert opened.images() == expected
    assert np.array_equal(opened.features(np.arange(7)).patch_embeds, features.patch_embeds[kept])
    after = {file.name: file.stat().st_mtime_ns for file in shard_files(index)}
    assert after.keys() == {"images-00000.arrow", "images-00001.arrow"}
    assert after["images-00000.arrow"] == before["images-00000.arrow"]  # nothing of it changed
    writer = IndexWriter(index, describe(), shard_size=4)
    writer.add(make_images(2, 20), make_features(2))
    writer.flush()
    assert len(ImageIndex(index)) == 9


def test_read_by_datasets_and_by_pyarrow(index, tmp_path):
    from datasets import Dataset, load_dataset

    features = make_features(11)
    loaded = load_dataset(str(index), split="train", cache_dir=str(tmp_path / "cache"))
    assert loaded["path"] == [image.path for image in make_images(11)]
    assert np.array_equal(np.stack(loaded.with_format("numpy")["image_embeds"][:]), features.image_embeds)
    mapped = Dataset.from_file(str(index / "images-00002.arrow"))
    assert np.array_equal(
        mapped.with_format("numpy")[1]["patch_embeds"].reshape(PATCHES, WIDTH), features.patch_embeds[9]
    ) or np.array_equal(mapped.with_format("numpy")[1]["patch_embeds"], features.patch_embeds[9].ravel())
    with pa.memory_map(str(index / "images-00000.arrow")) as source:
        table = pa.ipc.open_stream(source).read_all()
        assert table.schema.field("image_embeds").type == pa.list_(pa.float16(), WIDTH)
        assert table.schema.field("patch_embeds").type == pa.list_(pa.float16(), PATCHES * WIDTH)
        assert table["size"].to_pylist() == [2**40 + number for number in range(4)]


def test_columns_are_mapped_and_not_read(index):
    (shard, *_) = ImageIndex(index)._shards
    before = pa.total_allocated_bytes()
    ImageIndex(index)
    assert pa.total_allocated_bytes() - before < 4096
    assert shard["patch_embeds"].num_chunks == 1


@pytest.mark.parametrize(
    ("content", "error"),
    [
        (None, "is not an index: it holds no 'index.json'"),
        ("{", "is not an index"),
        ("[]", "is not an index"),
        ('{"format": "a book"}', "is not an index"),
        (
            json.dumps({"format": "ram_hf index of images", "format_version": 99}),
            "has format 99, and this ram_hf reads",
        ),
        (json.dumps({"format": "ram_hf index of images", "format_version": 1}), "is damaged: 'model'"),
    ],
)
def test_what_is_no_index(tmp_path, content, error):
    assert FORMAT_VERSION == 1
    if content is not None:
        (tmp_path / "index.json").write_text(content)
    with pytest.raises(ValueError, match=error):
        ImageIndex(tmp_path)
    assert is_index(tmp_path) == ("has format" in error or "damaged" in error)
    with pytest.raises(FileNotFoundError, match="`ram-hf index FOLDER --output"):
        ImageIndex(tmp_path / "gone")


@pytest.mark.parametrize("damage", ["cut", "empty", "text", "other model"])
def test_damaged_shards_are_named(index, damage):
    file = index / "images-00001.arrow"
    content = file.read_bytes()
    if damage == "other model":
        describe(0).write(index, BASIS)
    else:
        file.write_bytes({"cut": content[: len(content) // 2], "empty": b"", "text": b"no shard\n" * 99}[damage])
    with pytest.raises(ValueError, match=r"images-0000\d.arrow' is damaged, or no shard of this index. Remove it"):
        ImageIndex(index)
