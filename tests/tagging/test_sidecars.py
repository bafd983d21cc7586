import os

import pytest

from ram_hf.tagging.outputs import TaggedImage
from ram_hf.tagging.sidecars import TextSidecars, XmpSidecars

from .test_xmp import XMP, keywords


def tagged(path, *labels) -> TaggedImage:
    return TaggedImage(str(path), [{"label": label, "score": 0.5} for label in labels])


def test_text_sidecars(tmp_path):
    photo = tmp_path / "photo.one.JPG"
    photo.write_bytes(b"picture")
    before = photo.stat().st_mtime_ns
    sidecars = TextSidecars()
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
        TextSidecars().refuse_existing([image.path for image in images])


def test_a_caption_of_somebodys_own_stays(tmp_path):
    (tmp_path / "photo.txt").write_text("mine")
    image = tagged(tmp_path / "photo.jpg", "dog")
    assert TextSidecars().write([image]) == [image]
    assert (tmp_path / "photo.txt").read_text() == "mine"


def test_two_pictures_of_one_name(tmp_path):
    images = [tagged(tmp_path / "photo.jpg", "dog"), tagged(tmp_path / "photo.png", "cat")]
    first, second = TextSidecars().write(images)
    assert (first.error, second.error) == (None, "photo.txt belongs to another picture of the same name")
    assert second.tags == images[1].tags
    assert (tmp_path / "photo.txt").read_text() == "dog\n"
    assert XmpSidecars([image.path for image in images]).write(images) == images
    assert keywords((tmp_path / "photo.png.xmp").read_bytes()) == ["cat"]


def test_xmp_sidecars(tmp_path):
    sidecar = tmp_path / "photo.jpg.xmp"
    sidecar.write_text(XMP, encoding="utf-8")
    sidecar.chmod(0o640)
    image = tagged(tmp_path / "photo.jpg", "cat")
    sidecars = XmpSidecars([image.path])
    sidecars.refuse_existing([image.path])
    assert not sidecars.holds(image.path)
    assert sidecars.write([image]) == [image]
    assert sidecars.holds(image.path)
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
    results = XmpSidecars([]).write([tagged(path, "dog") for path in (tmp_path / "a.jpg", tmp_path / "b.jpg", long)])
    assert results[0].error.startswith("cannot add to a.jpg.xmp: it is not XML in UTF-8")
    assert results[1].error == "cannot write b.jpg.xmp: Is a directory"
    assert results[2].error.endswith(": File name too long")
    assert (tmp_path / "a.jpg.xmp").read_text() == "no xml"
    (result,) = TextSidecars().write([tagged(tmp_path / "gone" / "photo.jpg", "dog")])
    assert result.error == "cannot write photo.txt: No such file or directory"


def test_a_planted_link_is_not_written_through(tmp_path):
    target = tmp_path / "target"
    target.write_text("precious")
    (tmp_path / f".ram_hf-{os.getpid()}.unfinished").symlink_to(target)
    (tmp_path / "photo.txt").symlink_to(tmp_path / "nowhere")
    TextSidecars().write([tagged(tmp_path / "photo.jpg", "dog")])
    assert target.read_text() == "precious"
    assert not (tmp_path / "nowhere").exists()
    assert (tmp_path / "photo.txt").read_text() == "dog\n"


def test_a_sidecar_by_its_stem_is_not_hidden_by_a_new_one(tmp_path):
    (tmp_path / "photo.xmp").write_text(XMP, encoding="utf-8")
    image = tagged(tmp_path / "photo.jpg", "cat")
    for name in ("extension", "stem"):
        assert XmpSidecars([image.path], name).write([image]) == [image]
        assert os.listdir(tmp_path) == ["photo.xmp"]
        assert keywords((tmp_path / "photo.xmp").read_bytes()) == ["Grand père", "dog", "cat"]
    assert XmpSidecars([image.path]).holds(image.path)


def test_the_sidecar_that_photo_managers_read_first_gains_the_tags(tmp_path):
    for name in ("photo.xmp", "photo.jpg.xmp"):
        (tmp_path / name).write_text(XMP, encoding="utf-8")
    image = tagged(tmp_path / "photo.jpg", "cat")
    assert XmpSidecars([image.path], "stem").write([image]) == [image]
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
        sidecars = XmpSidecars(paths, "stem")
        first, second = sidecars.write(images)
        assert (first.error, second.error) == (None, "photo.xmp belongs to another picture of the same name")
        assert os.listdir(tmp_path) == ["photo.xmp"]
        assert "owl" not in keywords((tmp_path / "photo.xmp").read_bytes())
        assert [XmpSidecars(paths, "stem").holds(path) for path in paths] == [True, False]


def test_a_link_to_a_sidecar_stays_one(tmp_path):
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "real.xmp").write_text(XMP, encoding="utf-8")
    (tmp_path / "photo.jpg.xmp").symlink_to(tmp_path / "elsewhere" / "real.xmp")
    image = tagged(tmp_path / "photo.jpg", "cat")
    assert XmpSidecars([image.path]).write([image]) == [image]
    assert (tmp_path / "photo.jpg.xmp").is_symlink()
    assert keywords((tmp_path / "elsewhere" / "real.xmp").read_bytes()) == ["Grand père", "dog", "cat"]
