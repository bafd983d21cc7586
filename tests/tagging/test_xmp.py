"""Keywords in XMP packets: every legal form stays legal and keeps what it holds, as programs and parsers read it."""

import json
import random
import shutil
import subprocess
import xml.etree.ElementTree as ET

import pytest

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


RDF = 'xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#"'
DC = 'xmlns:dc="http://purl.org/dc/elements/1.1/"'
RATING = 'xmlns:xmp="http://ns.adobe.com/xap/1.0/" xmp:Rating="4"'


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
        (XMP.replace("<dc:subject>", '<dc:subject r:parseType="Literal">').encode(), "its dc:subject holds no list"),
        (XMP.replace("r:Bag", "r:Alt").encode(), "its dc:subject holds no list"),
        (XMP.replace("r:li>dog</r:li", "r:_2>dog</r:_2").encode(), "its dc:subject holds _2, where words"),
        (XMP.replace("</dc:subject>", "<r:Bag/></dc:subject>").encode(), "or more than that"),
        (XMP.replace("</dc:subject>", "</dc:subject><dc:subject><r:Bag/></dc:subject>").encode(), "dc:subject twice"),
        (
            XMP.replace("</r:RDF>", "</r:RDF>")
            .replace("</x:xmp", f"<r:RDF {RDF.replace(':rdf', ':r')}/></x:xmp")
            .encode(),
            "rdf:RDF twice",
        ),
        (b'<a><b><r:RDF xmlns:r="http://www.w3.org/1999/02/22-rdf-syntax-ns#"/></b></a>', "it holds no rdf:RDF"),
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


def in_rdf(content: str) -> str:
    return f'<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF {RDF}>{content}</rdf:RDF></x:xmpmeta>'


def with_subject(content: str) -> str:
    return in_rdf(f'<rdf:Description rdf:about="" {RATING} {DC}>{content}</rdf:Description>')


LEGAL = {
    "empty bag": with_subject("<dc:subject><rdf:Bag/></dc:subject>"),
    "empty bag, quotes": with_subject("<dc:subject><rdf:Bag xmlns:a='/>' \n/></dc:subject>"),
    "instruction": with_subject("<dc:subject><rdf:Bag><?a </rdf:Bag>?></rdf:Bag></dc:subject>"),
    "seq": with_subject("<dc:subject><rdf:Seq><rdf:li>Rome</rdf:li></rdf:Seq></dc:subject>"),
    "a prefix of the bag's own": with_subject(
        f"<dc:subject><q:Bag {RDF.replace(':rdf', ':q')}><q:li>Rome</q:li></q:Bag></dc:subject>"
    ),
    "another prefix for dc": with_subject("<dc:subject><rdf:Bag/></dc:subject>")
    .replace("dc:", "d:")
    .replace(":dc", ":d"),
    "rdf as default": f'<RDF {RDF.replace(":rdf", "")} {RDF}><Description rdf:about="" {RATING} {DC}>'
    "<dc:subject><Bag><li>Rome</li></Bag></dc:subject></Description></RDF>",
    "another prefix for rdf": f'<x:xmpmeta xmlns:x="adobe:ns:meta/"><r:RDF {RDF.replace(":rdf", ":r")}/></x:xmpmeta>',
    "words of another image inside": with_subject(
        "<xmpMM:Pantry xmlns:xmpMM='http://ns.adobe.com/xap/1.0/mm/'><rdf:Bag><rdf:li><rdf:Description>"
        "<dc:subject><rdf:Bag><rdf:li>theirs</rdf:li></rdf:Bag></dc:subject></rdf:Description></rdf:li></rdf:Bag>"
        "</xmpMM:Pantry>"
    ),
    "carriage returns and a declaration": '<?xml version="1.0" encoding="UTF-8"?>\r\n'
    + with_subject("<dc:subject>\r\n<rdf:Bag\r\n/>\r\n</dc:subject>"),
}


# Whoever writes them: exiv2 finds nothing where RDF's prefix is another one, exiftool where it changes.
NOT_READ_BY_EXIFTOOL = {"a prefix of the bag's own", "rdf as default"}
NOT_READ_BY_EXIV2 = {*NOT_READ_BY_EXIFTOOL, "another prefix for rdf"}


@pytest.mark.parametrize("form", LEGAL)
@pytest.mark.parametrize(
    "wrapper", ["{}", '<?xpacket begin="" id="W5M0MpCehiHzreSzNTczkc9d"?>{}<?xpacket end="w"?>  ']
)
def test_every_legal_form_stays_legal_and_keeps_what_it_holds(form, wrapper, tmp_path):
    packet = LEGAL[form]
    old = (packet if packet.startswith("<?") else wrapper.format(packet)).encode()
    new = add_keywords(old, ["dog", "rød & <blå>"])
    kept = iter(new)
    assert all(byte in kept for byte in old)
    assert foreign(old) == foreign(new)
    assert add_keywords(new, ["dog", "rød & <blå>"]) == new
    again = add_keywords(new, ["cat"])
    assert top_keywords(again) == [*(word for word in top_keywords(old) if word), "dog", "rød & <blå>", "cat"]
    (tmp_path / "a.xmp").write_bytes(again)
    if form not in NOT_READ_BY_EXIFTOOL and shutil.which("exiftool"):
        assert {"dog", "rød & <blå>", "cat"} <= set(read_by_exiftool(tmp_path / "a.xmp", "XMP-dc:Subject"))
        assert "Rating" not in packet or read_by_exiftool(tmp_path / "a.xmp", "XMP-xmp:Rating") == ["4"]
    if form not in NOT_READ_BY_EXIV2 and shutil.which("exiv2"):
        shown = read_by_exiv2(tmp_path / "a.xmp", "Xmp.dc.subject")
        assert all(word in shown for word in ("dog", "rød & <blå>", "cat"))
        assert "Rating" not in packet or read_by_exiv2(tmp_path / "a.xmp", "Xmp.xmp.Rating").strip() == "4"


def top_keywords(packet: bytes) -> list[str]:
    """Words of the image itself, read with another parser."""
    rdf, dc = "{http://www.w3.org/1999/02/22-rdf-syntax-ns#}", "{http://purl.org/dc/elements/1.1/}"
    root = ET.fromstring(packet)
    node = root if root.tag == f"{rdf}RDF" else root.find(f"{rdf}RDF")
    items = node.iterfind(f"{rdf}Description/{dc}subject/*/{rdf}li")
    return [item.text for item in items if item.text]


def foreign(packet: bytes) -> list:
    """All that is not a keyword or a mark of ours: names, attributes and texts, with another parser."""
    found = []
    for node in ET.fromstring(packet).iter():
        attributes = {key: value for key, value in node.attrib.items() if "ram-hf" not in key}
        is_ours = node.text in ("dog", "rød & <blå>", "cat") or len(attributes) < len(node.attrib)
        if not is_ours and not node.tag.endswith(("subject", "Bag", "TagsList", "Seq")):
            found.append((node.tag, sorted(attributes.items()), (node.text or "").strip()))
    return found


def read_by_exiftool(file, name: str) -> list[str]:
    command = ["exiftool", "-json", "-Error", "-Warning", f"-{name}", file]
    (read,) = json.loads(subprocess.run(command, capture_output=True, check=True).stdout)
    assert not {"Error", "Warning"} & set(read), read
    value = read[name.partition(":")[2]]
    return [str(word) for word in (value if isinstance(value, list) else [value])]


def read_by_exiv2(file, name: str) -> str:
    result = subprocess.run(["exiv2", "-g", name, "-Pv", file], capture_output=True, text=True, check=False)
    assert "rror" not in result.stderr, result.stderr
    return result.stdout


def test_packets_made_at_random_keep_what_they_hold():
    """Pieces of every kind in any order: merged and read back, or refused."""
    pieces = (
        *(
            "<rdf:li>Rome</rdf:li>",
            "<rdf:li/>",
            "<!-- a -->",
            "<![CDATA[ ]]>",
            "<?b c?>",
            "\n",
            "&amp;",
            "<x:y a='>'/>",
        ),
        *("<rdf:Bag/>", "<rdf:Seq>", "</rdf:Seq>", "<rdf:Bag>", "</rdf:Bag>"),
        *("<dc:subject>", "</dc:subject>", "<dc:title>", "</dc:title>"),
    )
    chance = random.Random(0)
    num_merged = 0
    for _ in range(20_000):
        content = "".join(chance.choices(pieces, k=chance.randrange(9)))
        packet = with_subject(content).replace("<rdf:RDF ", "<rdf:RDF xmlns:x='x:' ").encode()
        try:
            new = add_keywords(packet, ["dog"])
        except ValueError:
            continue
        num_merged += 1
        assert foreign(packet) == foreign(new)
        assert top_keywords(new) == [*top_keywords(packet), "dog"]
        kept = iter(new)
        assert all(byte in kept for byte in packet)
    assert num_merged > 100


LR = 'xmlns:lr="http://ns.adobe.com/lightroom/1.0/"'
DIGIKAM = 'xmlns:digiKam="http://www.digikam.org/ns/1.0/"'
SUBJECT = f"<dc:subject {DC}><rdf:Bag><rdf:li>Rome</rdf:li></rdf:Bag></dc:subject>"
HIERARCHICAL = f"<lr:hierarchicalSubject {LR}><rdf:Bag><rdf:li>Places|Rome</rdf:li></rdf:Bag></lr:hierarchicalSubject>"
TAGS_LIST = f"<digiKam:TagsList {DIGIKAM}><rdf:Seq><rdf:li>Places/Rome</rdf:li></rdf:Seq></digiKam:TagsList>"


def words_of(packet: bytes) -> dict[str, list[str]]:
    """Words of each list, by its name without namespace."""
    items: dict[str, list[str]] = {}
    for node in ET.fromstring(packet).iter():
        name = node.tag.partition("}")[2]
        if name in ("subject", "hierarchicalSubject", "TagsList"):
            assert name not in items
            items[name] = [item.text for item in node.iter("{http://www.w3.org/1999/02/22-rdf-syntax-ns#}li")]
    return items


@pytest.mark.parametrize(
    ("lists", "expected"),
    [
        ("", {"subject": ["dog", "a/b"], "TagsList": ["dog", "a/b"]}),
        (SUBJECT, {"subject": ["Rome", "dog", "a/b"]}),
        (HIERARCHICAL, {"hierarchicalSubject": ["Places|Rome", "dog", "a/b"], "subject": ["dog", "a/b"]}),
        (
            SUBJECT + HIERARCHICAL + TAGS_LIST,
            {
                "subject": ["Rome", "dog", "a/b"],
                "hierarchicalSubject": ["Places|Rome", "dog", "a/b"],
                "TagsList": ["Places/Rome", "dog", "a/b"],
            },
        ),
        (
            SUBJECT + TAGS_LIST.replace("<rdf:li>Places/Rome</rdf:li>", "<rdf:li>Animals/dog</rdf:li>"),
            {"subject": ["Rome", "dog", "a/b"], "TagsList": ["Animals/dog", "a/b"]},
        ),
        (SUBJECT.replace("<rdf:Bag><rdf:li>Rome</rdf:li></rdf:Bag>", "<rdf:Bag/>"), {"subject": ["dog", "a/b"]}),
    ],
    ids=["none", "subject", "hierarchical", "all", "hierarchical that holds one", "empty"],
)
def test_words_come_to_each_list_that_some_program_reads(lists, expected, tmp_path):
    packet = in_rdf(f'<rdf:Description rdf:about="" {RATING}>{lists}</rdf:Description>').encode()
    new = add_keywords(packet, ["dog", "a/b"])
    assert words_of(new) == expected
    assert add_keywords(new, ["dog", "a/b"]) == new
    (tmp_path / "a.xmp").write_bytes(new)
    names = {
        "subject": ("XMP-dc:Subject", "Xmp.dc.subject"),
        "hierarchicalSubject": ("XMP-lr:HierarchicalSubject", "Xmp.lr.hierarchicalSubject"),
        "TagsList": ("XMP-digiKam:TagsList", "Xmp.digiKam.TagsList"),
    }
    for name, words in expected.items():
        if shutil.which("exiftool"):
            assert read_by_exiftool(tmp_path / "a.xmp", names[name][0]) == words
        if shutil.which("exiv2"):
            assert read_by_exiv2(tmp_path / "a.xmp", names[name][1]).strip() == ", ".join(words)


ABOVE = {"pug": ("animal", "dog"), "dog": ("animal",), "AC/DC": ("band",)}


@pytest.mark.parametrize(
    ("lists", "expected"),
    [
        (
            "",
            {
                "subject": ["pug", "dog", "animal", "AC/DC", "band"],
                "hierarchicalSubject": ["animal|dog|pug", "band|AC/DC"],
                "TagsList": ["animal/dog/pug", "AC/DC", "band"],
            },
        ),
        (SUBJECT, {"subject": ["Rome", "pug", "dog", "animal", "AC/DC", "band"]}),
        (
            HIERARCHICAL.replace("Places|Rome", "Tiere|dog"),
            {
                "hierarchicalSubject": ["Tiere|dog", "animal|dog|pug", "band|AC/DC"],
                "subject": ["pug", "dog", "animal", "AC/DC", "band"],
            },
        ),
        (
            SUBJECT + TAGS_LIST.replace("Places/Rome", "pets/pug"),
            {
                "subject": ["Rome", "pug", "dog", "animal", "AC/DC", "band"],
                "TagsList": ["pets/pug", "animal/dog", "AC/DC", "band"],
            },
        ),
    ],
    ids=["new lists", "no levels", "below another word", "where somebody put it"],
)
def test_words_stand_below_others_where_a_list_has_levels(lists, expected, tmp_path):
    packet = in_rdf(f'<rdf:Description rdf:about="" {RATING}>{lists}</rdf:Description>').encode()
    words = ["pug", "dog", "animal", "AC/DC", "band"]
    new = add_keywords(packet, words, above=ABOVE)
    assert words_of(new) == expected
    assert add_keywords(new, words, above=ABOVE) == new
    (tmp_path / "a.xmp").write_bytes(new)
    if shutil.which("exiv2") and "TagsList" in expected:
        assert read_by_exiv2(tmp_path / "a.xmp", "Xmp.digiKam.TagsList").strip() == ", ".join(expected["TagsList"])


def test_a_new_packet_has_the_lists_that_all_programs_read():
    assert words_of(add_keywords(None, ["dog"])) == {"subject": ["dog"], "TagsList": ["dog"]}
    assert words_of(add_keywords(None, [])) == {}


@pytest.mark.parametrize("name", ["lr:hierarchicalSubject", "digiKam:TagsList"])
def test_a_list_of_another_form_is_refused(name):
    attribute = in_rdf(f'<rdf:Description rdf:about="" {LR} {DIGIKAM} {name}="x"/>')
    with pytest.raises(ValueError, match=f"its {name} is an attribute"):
        add_keywords(attribute.encode(), ["dog"])
