"""Scenes from a small source made on the spot: a few coloured shapes, two photographs a licence, some stamps."""

import io
import itertools
import json
import pickle
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import datasets
import numpy as np
import pyarrow.parquet as pq
import pytest
from PIL import Image

from ram_hf import cli
from ram_hf.data.sources import RowReader, open_dataset
from ram_hf.scenes import backgrounds, corpus
from ram_hf.scenes import renderer as scenes
from ram_hf.scenes.backgrounds import Backgrounds, recolour
from ram_hf.scenes.corpus import write_scenes
from ram_hf.scenes.draws import Draws
from ram_hf.scenes.parts import Drawing, Photo, read_parts
from ram_hf.scenes.renderer import SceneRenderer
from tests.scene_source import COLOURS, UNSEEN, encoded, shape, write_bare_source, write_table

IDENTITY = (1, 0, 0, 0, 0, 1, 0, 0, 0, 0, 1, 0)


def photo(colour: tuple[int, int, int]) -> bytes:
    return encoded(Image.new("RGB", (128, 128), colour))


def background_row(name: str, license: str, *, colour=(0, 0, 0), visible=()) -> dict:
    return {
        "background_id": name,
        "image": photo(colour),
        "license": license,
        "author": "someone",
        "visible_labels": list(visible),
    }


def stamp_row(concept: str, stamp_id: str, license: str = "GPL-2.0") -> dict:
    row = {"concept_id": concept, "stamp_id": stamp_id, "image": shape(COLOURS[concept], size=128)}
    return {**row, "box": [3, 18, 93, 78], "license": license, "author": "a friend"}


@pytest.fixture
def bare_source(tmp_path) -> Path:
    write_bare_source(tmp_path / "source")
    return tmp_path / "source"


@pytest.fixture
def source(bare_source) -> Path:
    stamps = [stamp_row("apple", f"fruit-{number}") for number in range(4)]
    stamps += [stamp_row("leaf", "leaf"), stamp_row("sea", "sea", "Public domain")]
    write_table(bare_source / "stamps.parquet", stamps)
    backgrounds = [
        background_row(f"{license[:3]}_{name}_{crop}", license)
        for license in ("CC0-1.0", "GPL-2.0-or-later")
        for name in ("dune", "moss", "rock", "wood")
        for crop in ("t0", "b1")
    ]
    backgrounds.append(background_row("sky_t0", "CC0-1.0", visible=["ice"]))
    write_table(bare_source / "backgrounds.parquet", backgrounds)
    return bare_source


@pytest.fixture
def plain_colours(monkeypatch):
    """Nothing is recoloured, so that pixels tell whose they are."""
    monkeypatch.setattr(scenes, "recolour", lambda *args, **limits: IDENTITY)
    monkeypatch.setattr(backgrounds, "recolour", lambda *args, **limits: IDENTITY)


def same(first: scenes.Scene, second: scenes.Scene) -> bool:
    return np.array_equal(first.image, second.image) and first[1:] == second[1:]


def pixels_of(scene: scenes.Scene, label: str) -> np.ndarray:
    """Where the picture has the label's colour, shape (height, width), bool; blended edges are left out."""
    return (np.abs(scene.image.astype(int) - COLOURS[label]) <= 3).all(axis=2)


# --- what a scene holds ---------------------------------------------------------------------------------------------


def test_scene_says_what_it_holds(source):
    renderer = SceneRenderer(source, size=64, licenses="all", stamps="mixed")
    counts = set()
    for index in range(60):
        scene = renderer.scene(index)
        counts.add(len(scene.labels))
        assert scene.image.shape == (64, 64, 3)
        assert scene.image.dtype == np.uint8
        assert len(set(scene.labels)) == len(scene.labels) == len(scene.visible)
        assert [box["label"] for box in scene.boxes] == scene.labels
        for box, visible in zip(scene.boxes, scene.visible, strict=True):
            assert 0 <= box["x0"] < box["x1"] <= 64
            assert 0 <= box["y0"] < box["y1"] <= 64
            assert 0.6 <= visible <= 1
    assert counts == {1, 2, 3, 4, 5, 6}


@pytest.mark.usefixtures("plain_colours")
def test_boxes_and_visible_shares_are_those_of_the_pixels(source):
    """The picture is read back by colour: black photographs, no textures, shapes of one colour each."""
    renderer = SceneRenderer(source, size=160, texture_share=0, licenses="all", objects=(2, 6))
    for index in range(40):
        scene = renderer.scene(index)
        areas = []
        for label, box in zip(scene.labels, scene.boxes, strict=True):
            mine = pixels_of(scene, label)
            rows, columns = np.flatnonzero(mine.any(axis=1)), np.flatnonzero(mine.any(axis=0))
            found = (columns[0], rows[0], columns[-1] + 1, rows[-1] + 1)
            expected = (box["x0"], box["y0"], box["x1"], box["y1"])
            # A turned rectangle ends in a point of a few blended pixels.
            np.testing.assert_allclose(found, expected, atol=6)
            assert found[0] >= expected[0]
            assert found[3] <= expected[3]
            areas.append(mine.sum())
        assert all(first >= 0.85 * second for first, second in itertools.pairwise(areas))  # largest first


@pytest.mark.usefixtures("plain_colours")
def test_a_whole_object_is_wholly_visible_and_has_the_size_asked_for(source):
    renderer = SceneRenderer(source, size=96, texture_share=0, objects=(1, 1), object_sizes=(0.5, 0.5))
    for index in range(30):
        scene = renderer.scene(index)
        [box], [visible] = scene.boxes, scene.visible
        if min(box["x0"], box["y0"]) > 0 and max(box["x1"], box["y1"]) < 96:
            assert visible == 1
            assert pixels_of(scene, scene.labels[0]).sum() == pytest.approx(48 * 32, rel=0.12)  # blended edges


@pytest.mark.parametrize("seed", range(8))
def test_canvas_keeps_every_object_visible(seed):
    """The canvas' books against a recount from all masks, which knows nothing of them."""
    rng = np.random.default_rng(seed)
    canvas = scenes._Canvas(Image.new("RGB", (40, 40)))
    placed = []
    for _ in range(200):
        mask = np.zeros(rng.integers(4, 30, size=2), dtype=bool)
        mask[1:-1, 1:-1] = rng.random((mask.shape[0] - 2, mask.shape[1] - 2)) < 0.8
        sprite = scenes._Sprite(
            Image.new("RGB", mask.shape[::-1]), Image.fromarray((mask * 255).astype(np.uint8)), mask
        )
        x, y = (int(place) for place in rng.integers(-20, 40, size=2))
        if len(placed) < 12 and canvas.put(sprite, x, y):
            placed.append((mask, x, y))
    assert len(placed) > 3
    owner = np.full((120, 120), -1)
    for number, (mask, x, y) in enumerate(placed):
        owner[40 + y : 40 + y + mask.shape[0], 40 + x : 40 + x + mask.shape[1]][mask] = number
    owner = owner[40:80, 40:80]
    np.testing.assert_array_equal(owner, canvas.owner)
    for number, (mask, _, _) in enumerate(placed):
        count = (owner == number).sum()
        assert count == canvas.visible[number]
        assert count >= 0.6 * mask.sum()
        x0, y0, x1, y1 = canvas.box(number)
        inside = np.zeros_like(owner, dtype=bool)
        inside[y0:y1, x0:x1] = True
        assert not ((owner == number) & ~inside).any()


@pytest.mark.usefixtures("plain_colours")
def test_scaled_edges_have_no_fringe(source):
    """White shapes on white: what is invisible, and black, must not bleed in."""
    write_table(source / "backgrounds.parquet", [background_row("snow_t0", "CC0-1.0", colour=(250, 250, 250))])
    renderer = SceneRenderer(source, concepts=["chalk"], texture_share=0, objects=(1, 1))
    for index in range(20):
        assert renderer.scene(index).image.min() >= 247


@pytest.mark.usefixtures("plain_colours")
def test_objects_shun_what_has_their_own_colour(source, monkeypatch):
    halves = Image.new("RGB", (128, 128), COLOURS["leaf"])
    halves.paste((30, 30, 30), (64, 0, 128, 128))
    row = {**background_row("half_t0", "CC0-1.0"), "image": encoded(halves)}
    write_table(source / "backgrounds.parquet", [row])
    monkeypatch.setattr(backgrounds, "_CROPS", (1.0,))
    options = {"concepts": ["leaf"], "texture_share": 0, "objects": (1, 1), "object_sizes": (0.2, 0.2)}

    def on_dark_half(renderer) -> int:
        scenes_ = (renderer.scene(index) for index in range(60))
        return sum(scene.image.sum(axis=2).std(axis=0).max() > 60 for scene in scenes_)  # some column has both

    shunning = on_dark_half(SceneRenderer(source, **options))
    monkeypatch.setattr(scenes, "_LEAST_CONTRAST", 0.0)
    careless = on_dark_half(SceneRenderer(source, **options))
    assert careless < 45
    assert shunning >= 57


def test_render_takes_its_own_options(source):
    """A curriculum from one renderer."""
    renderer = SceneRenderer(source, size=64, objects=(2, 6), captions="all")
    rng = np.random.default_rng(0)
    for _ in range(20):
        scene = renderer.render(rng, objects=(1, 1), object_sizes=(0.9, 0.9), captions="salient")
        assert len(scene.labels) == 1
    assert len({len(renderer.render(rng).labels) for _ in range(60)} - {1}) == 5
    with pytest.raises(ValueError, match="`objects` must be a range within 1 to 12, got 0 to 2"):
        renderer.render(rng, objects=(0, 2))


def test_salient_captions_name_the_largest(source):
    renderer = SceneRenderer(source, size=64, objects=(3, 6), captions="salient")
    rendered = [renderer.scene(index) for index in range(60)]
    assert all(scene.labels[0] in scene.caption for scene in rendered)  # the synonyms hold the label
    assert not any(label in scene.caption for scene in rendered for label in scene.labels[2:])


def test_default_sizes_fall_with_the_number():
    sizes = [scenes.default_object_sizes(count) for count in range(1, 13)]
    assert sizes[0] == (0.475, 0.95)
    assert sizes == sorted(sizes, reverse=True)


# --- drawings -------------------------------------------------------------------------------------------------------


def drawing(width: int = 60, height: int = 30) -> Drawing:
    """Left half red, right half blue."""
    image = Image.new("RGBA", (96, 96), (0, 0, 0, 0))
    image.paste((255, 0, 0, 255), (10, 10, 10 + width // 2, 10 + height))
    image.paste((0, 0, 255, 255), (10 + width // 2, 10, 10 + width, 10 + height))
    return Drawing(encoded(image), [10, 10, 10 + width, 10 + height], license="MIT", origin="test")


@pytest.mark.parametrize("side", [14, 25, 60, 110])
@pytest.mark.parametrize("angle", [0.0, 0.4, -1.2])
def test_sprite_keeps_its_shape(side, angle):
    sprite = scenes._Sprite.draw(drawing(), side, angle=angle, flip=False, matrix=IDENTITY)
    area = np.asarray(sprite.alpha, dtype=float).sum() / 255
    assert area == pytest.approx(side * side / 2, rel=0.06)
    rows, columns = np.nonzero(sprite.mask)
    longer = columns * np.cos(angle) + rows * np.sin(angle)  # turned clockwise
    shorter = rows * np.cos(angle) - columns * np.sin(angle)
    assert (np.ptp(longer), np.ptp(shorter)) == pytest.approx((side, side / 2), abs=2.5)


def test_sprite_mirrors():
    plain, mirrored = (
        np.asarray(scenes._Sprite.draw(drawing(), 60, angle=0.0, flip=flip, matrix=IDENTITY).rgb)[16]
        for flip in (False, True)
    )
    assert plain[10].tolist() == mirrored[-11].tolist() == [255, 0, 0]
    assert plain[-11].tolist() == mirrored[10].tolist() == [0, 0, 255]


def test_drawing_gives_the_smallest_copy_that_need_not_grow():
    picture = drawing()
    assert picture.size == (60, 30)
    assert picture.level(2.0)[0].size == picture.level(0.51)[0].size == (62, 32)
    assert picture.level(0.5)[0].size == (31, 16)
    assert picture.level(0.5)[1] == 0.5
    assert picture.level(0.01)[1] == 0.5  # a quarter would have 8 rows


def test_recolouring_is_mild_and_leaves_grey_grey():
    draws = Draws(np.random.default_rng(0))
    for _ in range(200):
        matrix = np.reshape(recolour(draws, hue=9, brightness=(0.85, 1.15), contrast=(0.85, 1.15)), (3, 4))
        grey = matrix @ [128, 128, 128, 1]
        assert np.ptp(grey) < 2
        red = matrix @ [200, 30, 30, 1]
        assert red[0] > 2 * max(red[1:].max(), 0)  # still red


# --- backgrounds ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", range(5))
def test_every_texture_varies(kind):
    backgrounds = Backgrounds([], size=48)
    backgrounds._fields = backgrounds._fields[kind : kind + 1]
    draws = Draws(np.random.default_rng(kind))
    pictures = [np.asarray(backgrounds.draw(draws)) for _ in range(12)]
    assert all(picture.shape == (48, 48, 3) for picture in pictures)
    assert np.median([picture.std(axis=(0, 1)).mean() for picture in pictures]) > 8
    assert len({picture.tobytes() for picture in pictures}) == 12


@pytest.mark.parametrize("size", [32, 96, 300])
def test_photographs_are_cropped_at_any_size(size):
    ramp = np.broadcast_to(np.arange(256, dtype=np.uint8)[:, None, None], (256, 256, 3))
    backgrounds = Backgrounds([Photo(encoded(Image.fromarray(ramp.copy())), "CC0-1.0", "ramp")], size=size)
    crops = [np.asarray(backgrounds._crop(Draws(np.random.default_rng(seed)))) for seed in range(20)]
    spans = [int(crop[-1, 0, 0]) - int(crop[0, 0, 0]) for crop in crops]
    assert all(crop.shape == (size, size, 3) for crop in crops)
    assert min(spans) == pytest.approx(0.45 * 255, abs=8)
    assert max(spans) == pytest.approx(255, abs=8)


def test_texture_share_falls_with_the_number_of_photographs():
    photos = [Photo(photo((0, 0, 0)), "CC0-1.0", "black")] * 20
    shares = [Backgrounds(photos[:count], size=32).texture_share for count in (0, 2, 20)]
    assert shares == pytest.approx([1.0, 0.9, 0.3])
    assert Backgrounds([], size=32, texture_share=0.0).texture_share == 1.0
    with pytest.raises(ValueError, match=r"`texture_share` must be in \[0, 1\], got 2"):
        Backgrounds(photos, size=32, texture_share=2)


# --- the same again -------------------------------------------------------------------------------------------------


def test_a_scene_follows_from_its_number(source):
    first, second = (SceneRenderer(source, seed=5, licenses="all", stamps="mixed") for _ in range(2))
    forward = [first.scene(index) for index in range(12)]
    backward = [second.scene(index) for index in reversed(range(12))][::-1]
    assert all(map(same, forward, backward))
    streamed = first.scenes(start=4)
    assert all(same(next(streamed), forward[index]) for index in range(4, 12))


def test_threads_and_processes_compose_the_same(source):
    renderer = SceneRenderer(source, licenses="all", stamps="mixed")
    sent = pickle.loads(pickle.dumps(renderer))
    with ThreadPoolExecutor(4) as pool:
        threaded = list(pool.map(renderer.scene, range(40)))
    assert all(same(scene, sent.scene(index)) for index, scene in enumerate(threaded))


def test_seeds_and_splits_give_other_scenes(source):
    options = [{"seed": 0}, {"seed": 1}, {"seed": 0, "split": "test"}]
    pictures = {
        renderer.scene(index).image.tobytes()
        for renderer in (SceneRenderer(source, backgrounds="none", **option) for option in options)
        for index in range(10)
    }
    assert len(pictures) == 30


def test_draws():
    draws = Draws(np.random.default_rng(0))
    assert {draws.integer(2, 5) for _ in range(200)} == {2, 3, 4, 5}
    assert np.mean([draws.uniform(-1, 3) for _ in range(4000)]) == pytest.approx(1, abs=0.1)
    assert np.mean([draws.chance(0.25) for _ in range(4000)]) == pytest.approx(0.25, abs=0.03)
    assert sorted(draws.shuffled("abcde")) == list("abcde")
    assert len({tuple(draws.shuffled("abc")) for _ in range(100)}) == 6
    assert all(len(set(draws.sample(7, 6))) == 6 for _ in range(100))
    firsts = [draws.sample(4, 2)[0] for _ in range(4000)]
    np.testing.assert_allclose(np.bincount(firsts) / 4000, 0.25, atol=0.03)
    noise = draws.noise(50, 40)
    assert (noise.shape, noise.dtype) == ((50, 40), np.uint8)
    assert noise.mean() == pytest.approx(127.5, abs=6)


# --- what scenes are made of ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(("train_licenses", "test_licenses"), [("all", "all"), ("permissive", "all")])
def test_splits_share_no_photograph(source, train_licenses, test_licenses):
    train = read_parts(source, split="train", licenses=train_licenses)
    test = read_parts(source, split="test", licenses=test_licenses)
    assert {photo.origin for photo in train.photos}
    assert {photo.origin for photo in test.photos}
    assert not {photo.origin for photo in train.photos} & {photo.origin for photo in test.photos}


def test_a_lone_photograph_is_for_training(source):
    write_table(source / "backgrounds.parquet", [background_row("dune_t0", "CC0-1.0")])
    assert len(read_parts(source, split="train").photos) == 1
    assert SceneRenderer(source, split="test", size=32).texture_share == 1


def test_splits_share_stamps_only_where_there_is_one(source):
    train, test = (read_parts(source, split=split, stamps="only", licenses="all") for split in ("train", "test"))
    assert [concept.label for concept in train.concepts] == ["apple", "leaf", "sea"]
    counts = [[len(concept.stamps) for concept in parts.concepts] for parts in (train, test)]
    assert counts == [[2, 1, 1], [2, 1, 1]]


def test_photographs_that_show_a_label_are_left_out(source):
    origins = [photo.origin for split in ("train", "test") for photo in read_parts(source, split=split).photos]
    assert not any("sky" in origin for origin in origins)
    assert len(origins) == 8


def test_permissive_parts(source):
    parts = read_parts(source, stamps="mixed")
    assert {drawing.license for concept in parts.concepts for drawing in concept.drawings} == {
        "Apache-2.0",
        "MIT",
        "Public domain",
    }
    assert {photo.license for photo in parts.photos} == {"CC0-1.0"}
    assert "icons noto: 8 (Apache-2.0)" in parts.attributions
    assert not any("openmoji" in line or "GPL" in line for line in parts.attributions)
    assert any("openmoji" in line for line in read_parts(source, licenses="all").attributions)


def test_two_renderings_are_one_style(source):
    for style in ("fluent-emoji", "fluent-emoji-flat"):
        concept = read_parts(source, styles=[style]).concepts[0]
        assert {family: len(drawings) for family, drawings in concept.styles.items()} == {"fluent-emoji": 2}
    assert list(read_parts(source, styles=["noto"]).concepts[0].styles) == ["noto"]


def test_concepts_are_chosen_by_split_list_or_file(source, tmp_path):
    (tmp_path / "labels.txt").write_text("# mine\nleaf\nice\n")
    expected = {
        "all": list(COLOURS),
        "seen": [name for name in COLOURS if name not in UNSEEN],
        "unseen": list(UNSEEN),
        str(tmp_path / "labels.txt"): ["leaf", "ice"],
    }
    for option, labels in expected.items():
        assert [concept.label for concept in read_parts(source, concepts=option).concepts] == labels
    renderer = SceneRenderer(source, concepts=["ice", "leaf"], objects=(1, 2))
    assert (renderer.seen_labels, renderer.unseen_labels) == (["leaf"], ["ice"])
    assert {label for index in range(30) for label in renderer.scene(index).labels} == {"leaf", "ice"}


def test_no_backgrounds_file_is_needed(bare_source):
    renderer = SceneRenderer(bare_source, size=32)
    assert renderer.texture_share == 1
    assert len({renderer.scene(index).image.tobytes() for index in range(10)}) == 10


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"styles": ["notto"]}, "There is no icon style 'notto' in the source. Did you mean 'noto'"),
        ({"styles": ["xyz"]}, "There is no icon style 'xyz' in the source. There are 'fluent-emoji', "),
        ({"styles": ["openmoji"]}, "'openmoji' is under CC-BY-SA-4.0, which licenses='permissive' leaves out"),
        ({"concepts": ["aple"]}, "There is no concept 'aple' in the source. Did you mean 'apple'"),
        ({"concepts": ["ice"]}, "up to 6 different objects need as many concepts; the options leave 1"),
        ({"concepts": "unseen", "stamps": "only"}, "None of the 2 concepts has a picture with stamps='only'"),
        ({"objects": (3, 2)}, "`objects` must be a range within 1 to 12, got 3 to 2"),
        ({"object_sizes": (0.0, 0.5)}, r"`object_sizes` must be a range within 0 to 1, got \(0.0, 0.5\)"),
        ({"size": 8}, "`size` must be at least 32 pixels, got 8"),
        ({"seed": -1}, "`seed` must not be negative, got -1"),
        ({"captions": "none"}, "`captions` must be 'salient' or 'all', got 'none'"),
        ({"split": "val"}, "`split` must be one of 'train', 'test', got 'val'"),
        ({"stamps": "some"}, "`stamps` must be one of 'none', 'only', 'mixed', got 'some'"),
    ],
)
def test_wrong_options(source, options, message):
    with pytest.raises(ValueError, match=message):
        SceneRenderer(source, **options)


def test_too_many_objects_for_the_room(source, monkeypatch):
    monkeypatch.setattr(scenes, "_SMALLEST_OBJECT", 32.0)
    renderer = SceneRenderer(source, size=32, objects=(8, 8))
    with pytest.raises(ValueError, match="8 objects find no room in 32 pixels"):
        renderer.scene(0)


@pytest.mark.parametrize("name", ["concepts.json", "icons.parquet", "stamps.parquet"])
def test_missing_files(source, name):
    (source / name).unlink()
    with pytest.raises(FileNotFoundError, match=f"The source of scenes has no file '{name}'"):
        SceneRenderer(source, stamps="mixed")


def test_wrong_files(source):
    with pytest.raises(FileNotFoundError, match="There is no folder"):
        SceneRenderer(source / "nowhere")
    icons = pq.read_table(source / "icons.parquet").drop_columns("style")
    pq.write_table(icons, source / "icons.parquet")
    with pytest.raises(ValueError, match="has no column 'style'; it has 'concept_id', 'image', 'box'"):
        SceneRenderer(source)
    (source / "icons.parquet").write_bytes(b"nonsense")
    with pytest.raises(ValueError, match="is no parquet file"):
        SceneRenderer(source)
    concepts = json.loads((source / "concepts.json").read_text())
    (source / "concepts.json").write_text(json.dumps([*concepts, concepts[0]]))
    with pytest.raises(ValueError, match="several concepts with the same concept_id: 'apple'"):
        SceneRenderer(source)
    (source / "concepts.json").write_text('[{"concept_id": "a"}]')
    with pytest.raises(ValueError, match=r"must hold a list of \{concept_id, label, synonyms, split\}"):
        SceneRenderer(source)


# --- the command ----------------------------------------------------------------------------------------------------


def command(*argv: object) -> int:
    return cli.main(["scenes", *map(str, argv), "--quiet"])


def contents(folder: Path) -> dict[str, bytes]:
    return {file.name: file.read_bytes() for file in folder.iterdir()}


def test_command_writes_what_other_readers_read(source, tmp_path):
    out = tmp_path / "out"
    options = ("--size", 48, "--seed", 3, "--split", "test", "--objects", "1-3", "--shard-size", 8)
    assert command(source, out, "--images", 20, *options) == 0
    assert sorted(file.name for file in out.glob("*.parquet")) == [f"test-{n:05d}-of-00003.parquet" for n in range(3)]

    dataset = open_dataset(out, split="test")
    reader = RowReader.from_dataset(dataset, label_column="labels", boxes_column="boxes")
    rows = [reader.read(row) for row in reader.select(dataset)]
    captions = [row["caption"] for row in open_dataset(out, split="test")]
    renderer = SceneRenderer(source, size=48, seed=3, split="test", objects=(1, 3))
    assert len(rows) == 20
    for index, (row, caption) in enumerate(zip(rows, captions, strict=True)):
        scene = renderer.scene(index)
        assert (row.labels, row.boxes, caption) == (scene.labels, scene.boxes, scene.caption)
        with Image.open(io.BytesIO(row.image)) as image:
            assert image.size == (48, 48)
            assert np.abs(np.asarray(image).astype(int) - scene.image).mean() < 6


def test_command_says_what_it_wrote(source, tmp_path, capsys):
    out = tmp_path / "out"
    assert command(source, out, "--images", 30, "--size", 32) == 0
    assert "30 scenes of 8 labels in 1 shards" in capsys.readouterr().err
    assert (out / "labels_unseen.txt").read_text().split() == list(UNSEEN)
    assert (out / "labels_seen.txt").read_text().split() == [name for name in COLOURS if name not in UNSEEN]
    report = json.loads((out / "report.json").read_text())
    rows = datasets.load_dataset(str(out), split="train", streaming=True)
    assert rows.info.splits["train"].num_examples == report["images"] == 30
    counts = dict.fromkeys(COLOURS, 0)
    for row in rows:
        for label in row["labels"]:
            counts[label] += 1
    assert report["images_of_label"] == counts
    assert "icons noto: 8 (Apache-2.0)" in (out / "README.md").read_text()
    assert command(source, tmp_path / "seen", "--images", 1, "--size", 32, "--concepts", "seen") == 0
    assert not (tmp_path / "seen" / "labels_unseen.txt").exists()


def test_command_gives_the_same_bytes_again(source, tmp_path):
    options = ("--images", 12, "--licenses", "all", "--stamps", "mixed", "--captions", "salient")
    for name, more in (("a", ()), ("b", ()), ("shards", ("--shard-size", 5))):
        assert command(source, tmp_path / name, *options, *more) == 0
    assert contents(tmp_path / "a") == contents(tmp_path / "b")
    whole, parts = (
        [row for file in sorted((tmp_path / name).glob("*.parquet")) for row in pq.read_table(file).to_pylist()]
        for name in ("a", "shards")
    )
    assert whole == parts


def test_errors_leave_nothing_behind(source, tmp_path, capsys, monkeypatch):
    used = tmp_path / "used"
    used.mkdir()
    (used / "file").touch()
    assert command(source, used, "--images", 3) == 1
    assert "is not an empty folder" in capsys.readouterr().err
    assert command(source, tmp_path / "out", "--images", 0) == 2
    assert "at least 1, got '0'" in capsys.readouterr().err
    assert command(source, tmp_path / "out", "--images", 3, "--shard-size", 0) == 2
    assert command(source, tmp_path / "out", "--images", 3, "--styles", "notto") == 1
    assert "Did you mean 'noto'" in capsys.readouterr().err

    def interrupt(*args):
        raise KeyboardInterrupt

    renderer = SceneRenderer(source)
    monkeypatch.setattr(corpus, "_report", interrupt)
    with pytest.raises(KeyboardInterrupt):
        write_scenes(renderer, tmp_path / "new" / "out", images=3)
    assert sorted(file.name for file in tmp_path.iterdir()) == ["source", "used"]


def test_command_line(source, tmp_path):
    argv = ["scenes", str(source), str(tmp_path / "out"), "--images", "2", "--size", "32", "--quiet"]
    assert cli.main([*argv, "--objects", "2", "--object-sizes", "0.3-0.4"]) == 0
    table = pq.read_table(tmp_path / "out" / "train-00000-of-00001.parquet")
    assert [len(labels) for labels in table["labels"].to_pylist()] == [2, 2]
    assert cli.main([*argv, "--objects", "many"]) == 2


def test_help_loads_the_standard_library_alone():
    code = (
        "import sys\nfrom ram_hf.cli import make_parser\nmake_parser('scenes')\n"
        "print([name for name in ('numpy', 'PIL', 'datasets', 'pyarrow', 'tqdm') if name in sys.modules])"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    assert result.stdout.strip() == "[]"


# --- the reference data ---------------------------------------------------------------------------------------------


@pytest.fixture(scope="session")
def reference(shared_dir) -> Path:
    folder = shared_dir / "scenes"
    if not folder.is_dir():
        pytest.skip(f"the reference data is not there: no folder {folder}")
    return folder


@pytest.mark.shared
def test_reference_counts(reference):
    renderer = SceneRenderer(reference)
    assert (len(renderer.seen_labels), len(renderer.unseen_labels)) == (218, 110)
    everything = SceneRenderer(reference, stamps="mixed", licenses="all")
    assert (len(everything.seen_labels), len(everything.unseen_labels)) == (267, 117)
    assert len(SceneRenderer(reference, stamps="only", licenses="all").parts.concepts) == 114
    assert all("openmoji" not in line and "GPL" not in line for line in renderer.parts.attributions)


@pytest.mark.shared
def test_reference_drawings_stay_recognisable_when_small(reference):
    """Even at 16 pixels each drawing is more than a stroke."""
    parts = read_parts(reference, stamps="mixed", licenses="all")
    for concept in parts.concepts:
        for part in concept.drawings:
            sprite = scenes._Sprite.draw(part, 16, angle=0.0, flip=False, matrix=IDENTITY)
            assert sprite.mask.sum() >= 20, (concept.label, part.origin)


@pytest.mark.shared
def test_reference_scenes(reference):
    renderer = SceneRenderer(reference, split="test", stamps="mixed", licenses="all")
    labels = set()
    for index in range(200):
        scene = renderer.scene(index)
        labels.update(scene.labels)
        assert min(scene.visible) >= 0.6
        assert all(min(box["x1"] - box["x0"], box["y1"] - box["y0"]) >= 2 for box in scene.boxes)
    assert len(labels) > 250
