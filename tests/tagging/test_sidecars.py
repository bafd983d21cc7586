import os
import xml.etree.ElementTree as ET

import pytest

from ram_hf.tagging.outputs import TaggedImage
from ram_hf.tagging.sidecars import TextSidecars, XmpSidecars
from ram_hf.tagging.xmp import add_keywords, is_marked

# As Lightroom and darktable write: history, ratings, processing instructions, odd white space, a second description.
XMP = """\ufeff<?xpacket begin="\ufeff" id="W5M0MpCehiHzreSzNTczkc9d"?>
<x:xmpmeta xmlns:x="adobe:ns:meta/" x:xmptk="XMP Core 5.6.0">
 <r:RDF xmlns:r="http://www.w3.org/1999/02/22-rdf-syntax-ns#">
  <r:Description r:about="" xmlns:xmp="http://ns.adobe.com/xap/1.0/" xmp:Rating="4"
     xmlns:darktable="http://darktable.sf.net/"   darktable:params="a&#10;b" />
  <!-- mine -->
  <r:Description r:about="" xmlns:dc="http://purl.org/dc/elements/1.1/">
   <dc:subject>
    <r:Bag>
     <r:li>Grand père</r:li>
     <r:li>dog</r:li>
    </r:Bag>
   </dc:subject>
   <dc:creator><r:Seq><r:li>me &amp; you</r:li></r:Seq></dc:creator>
  </r:Description>
 </r:RDF>
</x:xmpmeta>
<?xpacket end="w"?>   """


def keywords(packet: bytes) -> list[str]:
    """Read with another parser."""
    rdf, dc = "{http://www.w3.org/1999/02/22-rdf-syntax-ns#}", "{http://purl.org/dc/elements/1.1/}"
    subjects = list(ET.fromstring(packet).iter(f"{dc}subject"))
    assert len(subjects) <= 1
    return [item.text for subject in subjects for item in subject.iter(f"{rdf}li")]


def test_new_packet():
    packet = add_keywords(None, ["dog", "rød & <blå>", "dog"])
    assert keywords(packet) == ["dog", "rød & <blå>"]
    assert is_marked(packet)
    assert add_keywords(packet, ["dog"]) == packet
    assert keywords(add_keywords(packet, ["cat"])) == ["dog", "rød & <blå>", "cat"]
    assert keywords(add_keywords(None, [])) == []
    assert is_marked(add_keywords(None, []))


def test_merging_keeps_every_byte_that_was_there():
    old = XMP.encode()
    assert not is_marked(old)
    new = add_keywords(old, ["rød", "dog"])
    assert keywords(new) == ["Grand père", "dog", "rød"]
    assert is_marked(new)
    assert add_keywords(new, ["rød"]) == new
    kept = iter(new)
    assert all(byte in kept for byte in old)  # the old bytes are in the new ones, in order


def test_packet_without_keywords_gains_them():
    start, end = XMP.index("<dc:subject>"), XMP.index("</dc:subject>") + len("</dc:subject>")
    assert keywords(add_keywords((XMP[:start] + XMP[end:]).encode(), ["dog"])) == ["dog"]


@pytest.mark.parametrize(
    ("packet", "reason"),
    [
        (b"", "it is not XML in UTF-8"),
        (XMP[: len(XMP) // 2].encode(), "it is not XML in UTF-8"),
        (XMP.encode("utf-16"), "it is not XML in UTF-8"),
        (b'<?xml version="1.0" encoding="latin-1"?><a/>', "it is in latin-1"),
        (b"<svg/>", "it holds no rdf:RDF"),
        (b'<!DOCTYPE a [<!ENTITY b "ccc">]><a>&b;</a>', "it declares a document type"),
        (XMP.replace("<r:Bag>", "").replace("</r:Bag>", "").encode(), "its dc:subject holds no list of words"),
        (
            b'<r:RDF xmlns:r="http://www.w3.org/1999/02/22-rdf-syntax-ns#"/>',
            "its RDF is one empty tag, which nothing can be added to",
        ),
        (
            XMP.replace(
                '<r:Description r:about="" xmlns:dc', '<r:Description dc:subject="x" r:about="" xmlns:dc'
            ).encode(),
            "its dc:subject is an attribute",
        ),
    ],
)
def test_what_cannot_be_merged_is_refused(packet, reason):
    with pytest.raises(ValueError, match=reason):
        add_keywords(packet, ["dog"])


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
    assert XmpSidecars().write(images) == images
    assert keywords((tmp_path / "photo.png.xmp").read_bytes()) == ["cat"]


def test_xmp_sidecars(tmp_path):
    sidecar = tmp_path / "photo.jpg.xmp"
    sidecar.write_text(XMP, encoding="utf-8")
    sidecar.chmod(0o640)
    image = tagged(tmp_path / "photo.jpg", "cat")
    sidecars = XmpSidecars()
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
    results = XmpSidecars().write([tagged(path, "dog") for path in (tmp_path / "a.jpg", tmp_path / "b.jpg", long)])
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
