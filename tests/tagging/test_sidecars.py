import os

import pytest

from ram_hf.tagging.outputs import TaggedImage, TagOptions
from ram_hf.tagging.sidecars import TextSidecars, XmpSidecars
from ram_hf.tagging.vocabulary import Vocabulary

from .test_xmp import XMP, keywords

OPTIONS = TagOptions(Vocabulary.of(["dog", "cat", "owl", "red car"]), None, 0.1)


def tagged(path, *labels) -> TaggedImage:
    return TaggedImage(str(path), [{"label": label, "score": 0.5} for label in labels])


def test_text_sidecars(tmp_path):
    photo = tmp_path / "photo.one.JPG"
    photo.write_bytes(b"picture")
    before = photo.stat().st_mtime_ns
    sidecars = TextSidecars([], OPTIONS)
    sidecars.refuse_existing([str(photo)])
    images = [tagged(photo, "dog", "red car"), TaggedImage(str(tmp_path / "broken.jpg"), [], "why")]
    assert sidecars.write(images) == images
    assert (tmp_path / "photo.one.txt").read_text() == "dog, red car\n"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["photo.one.JPG", "photo.one.txt"]
    assert (photo.read_bytes(), photo.stat().st_mtime_ns) == (b"picture", before)
    assert [sidecars.holds(image.path) for image in images] == [True, False]
    with pytest.raises(
        FileExistsError, match=r"1 of 2 pictures have a .txt file beside them, the first is '.*one.JPG'"
    ):
        TextSidecars([], OPTIONS).refuse_existing([image.path for image in images])


def test_a_caption_of_somebodys_own_stays(tmp_path):
    (tmp_path / "photo.txt").write_text("mine")
    image = tagged(tmp_path / "photo.jpg", "dog")
    (told,) = TextSidecars([image.path], OPTIONS).write([image])
    assert told.error == "photo.txt has words that are not of this run; it stays"
    assert (tmp_path / "photo.txt").read_text() == "mine"


def test_two_pictures_of_one_name(tmp_path):
    images = [tagged(tmp_path / "photo.jpg", "dog"), tagged(tmp_path / "photo.png", "cat")]
    first, second = TextSidecars([image.path for image in images], OPTIONS).write(images)
    assert (first.error, second.error) == (None, "photo.txt belongs to another picture of the same name")
    assert second.tags == images[1].tags
    assert (tmp_path / "photo.txt").read_text() == "dog\n"
    assert XmpSidecars([image.path for image in images], OPTIONS).write(images) == images
    assert keywords((tmp_path / "photo.png.xmp").read_bytes()) == ["cat"]


def test_xmp_sidecars(tmp_path):
    sidecar = tmp_path / "photo.jpg.xmp"
    sidecar.write_text(XMP, encoding="utf-8")
    sidecar.chmod(0o640)
    image = tagged(tmp_path / "photo.jpg", "cat")
    sidecars = XmpSidecars([image.path], OPTIONS)
    sidecars.refuse_existing([image.path])
    assert not sidecars.holds(image.path)
    assert sidecars.write([image]) == [image]
    assert XmpSidecars([image.path], OPTIONS, resume=True).holds(image.path)
    assert keywords(sidecar.read_bytes()) == ["Grand père", "dog", "cat"]
    assert sidecar.stat().st_mode & 0o777 == 0o640
    before = sidecar.stat().st_mtime_ns
    sidecars.write([image])
    assert sidecar.stat().st_mtime_ns == before
    assert list(tmp_path.iterdir()) == [sidecar]


def test_what_cannot_be_written_is_the_pictures_error(tmp_path):
    (tmp_path / "a.jpg.xmp").write_text("no xml")
    (tmp_path / "b.jpg.xmp").mkdir()
    long = tmp_path / ("x" * 250 + ".jpg")
    results = XmpSidecars([], OPTIONS).write(
        [tagged(path, "dog") for path in (tmp_path / "a.jpg", tmp_path / "b.jpg", long)]
    )
    assert results[0].error.startswith("cannot add to a.jpg.xmp: it is not XML in UTF-8")
    assert results[1].error == "cannot write b.jpg.xmp: Is a directory"
    assert results[2].error.endswith(": File name too long")
    assert (tmp_path / "a.jpg.xmp").read_text() == "no xml"
    (result,) = TextSidecars([], OPTIONS).write([tagged(tmp_path / "gone" / "photo.jpg", "dog")])
    assert result.error == "cannot write photo.txt: No such file or directory"


def test_a_planted_link_is_not_written_through(tmp_path):
    target = tmp_path / "target"
    target.write_text("precious")
    (tmp_path / f".ram_hf-{os.getpid()}.unfinished").symlink_to(target)
    (tmp_path / "photo.txt").symlink_to(tmp_path / "nowhere")
    TextSidecars([], OPTIONS).write([tagged(tmp_path / "photo.jpg", "dog")])
    assert target.read_text() == "precious"
    assert not (tmp_path / "nowhere").exists()
    assert (tmp_path / "photo.txt").read_text() == "dog\n"


def test_a_sidecar_by_its_stem_is_not_hidden_by_a_new_one(tmp_path):
    (tmp_path / "photo.xmp").write_text(XMP, encoding="utf-8")
    image = tagged(tmp_path / "photo.jpg", "cat")
    for name in ("extension", "stem"):
        assert XmpSidecars([image.path], OPTIONS, name=name).write([image]) == [image]
        assert os.listdir(tmp_path) == ["photo.xmp"]
        assert keywords((tmp_path / "photo.xmp").read_bytes()) == ["Grand père", "dog", "cat"]
    assert XmpSidecars([image.path], OPTIONS, resume=True).holds(image.path)


def test_the_sidecar_that_photo_managers_read_first_gains_the_tags(tmp_path):
    for name in ("photo.xmp", "photo.jpg.xmp"):
        (tmp_path / name).write_text(XMP, encoding="utf-8")
    image = tagged(tmp_path / "photo.jpg", "cat")
    assert XmpSidecars([image.path], OPTIONS, name="stem").write([image]) == [image]
    assert keywords((tmp_path / "photo.jpg.xmp").read_bytes()) == ["Grand père", "dog", "cat"]
    assert (tmp_path / "photo.xmp").read_text(encoding="utf-8") == XMP


@pytest.mark.parametrize("exists", [False, True])
def test_two_pictures_of_one_stem(tmp_path, exists):
    """Keywords of one would be read as those of the other."""
    if exists:
        (tmp_path / "photo.xmp").write_text(XMP, encoding="utf-8")
    images = [tagged(tmp_path / "photo.jpg", "cat"), tagged(tmp_path / "photo.png", "owl")]
    paths = [image.path for image in images]
    for _ in range(2):
        sidecars = XmpSidecars(paths, OPTIONS, name="stem")
        first, second = sidecars.write(images)
        assert (first.error, second.error) == (None, "photo.xmp belongs to another picture of the same name")
        assert os.listdir(tmp_path) == ["photo.xmp"]
        assert "owl" not in keywords((tmp_path / "photo.xmp").read_bytes())
        assert [XmpSidecars(paths, OPTIONS, name="stem", resume=True).holds(path) for path in paths] == [True, False]


def test_a_link_to_a_sidecar_stays_one(tmp_path):
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "real.xmp").write_text(XMP, encoding="utf-8")
    (tmp_path / "photo.jpg.xmp").symlink_to(tmp_path / "elsewhere" / "real.xmp")
    image = tagged(tmp_path / "photo.jpg", "cat")
    assert XmpSidecars([image.path], OPTIONS).write([image]) == [image]
    assert (tmp_path / "photo.jpg.xmp").is_symlink()
    assert keywords((tmp_path / "elsewhere" / "real.xmp").read_bytes()) == ["Grand père", "dog", "cat"]


@pytest.mark.parametrize(
    ("caption", "options", "is_right"),
    [
        (b"dog, cat\n", OPTIONS, True),
        (b"\n", OPTIONS, True),
        (b"dog, zebra\n", OPTIONS, False),
        (b"\xff", OPTIONS, False),
        (b"dog, cat\n", OPTIONS._replace(top_k=1), False),
        (b"dog, cat\n", OPTIONS._replace(top_k=2, threshold=None), True),
        (b"dog, cat\n", OPTIONS._replace(top_k=3, threshold=None), False),
    ],
)
def test_captions_of_other_options_are_noticed(tmp_path, caption, options, is_right):
    (tmp_path / "photo.txt").write_bytes(caption)
    image = tagged(tmp_path / "photo.jpg", "dog")
    sidecars = TextSidecars([image.path], options)
    assert sidecars.holds(image.path) == is_right
    (told,) = sidecars.write([image])
    assert (told.error is None) == is_right
    assert (tmp_path / "photo.txt").read_bytes() == caption


def test_going_on_with_two_pictures_of_one_caption_equals_one_run(tmp_path):
    images = [tagged(tmp_path / "photo.jpg", "dog"), tagged(tmp_path / "photo.png", "cat")]
    paths = [image.path for image in images]
    whole = TextSidecars(paths, OPTIONS).write(images)
    resumed = TextSidecars(paths, OPTIONS)
    assert [resumed.holds(path) for path in paths] == [True, False]
    assert resumed.write(images[1:]) == whole[1:]


def test_xmp_of_other_options(tmp_path):
    other = OPTIONS._replace(vocabulary=Vocabulary.of(["owl", "fox"]))
    images = [tagged(tmp_path / "a.jpg", "dog"), tagged(tmp_path / "b.jpg", "cat")]
    paths = [image.path for image in images]
    XmpSidecars(paths, OPTIONS).write(images)
    for changed in (other, OPTIONS._replace(top_k=3), OPTIONS._replace(threshold=0.2)):
        with pytest.raises(ValueError, match=r"a.jpg.xmp' was tagged with other labels, `--top-k` or `--threshold`"):
            XmpSidecars(paths, changed, resume=True)
    again = XmpSidecars(paths, other)
    assert not again.holds(paths[0])
    again.write([tagged(paths[0], "owl")])  # and then it was stopped
    assert keywords((tmp_path / "a.jpg.xmp").read_bytes()) == ["dog", "owl"]
    resumed = XmpSidecars(paths, other, resume=True)
    assert [resumed.holds(path) for path in paths] == [True, False]
