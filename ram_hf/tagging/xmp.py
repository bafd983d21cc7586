"""Keywords of an XMP packet, in the lists that photo managers read.

All of them know `dc:subject`. Where there is `lr:hierarchicalSubject`, darktable shows that one alone; where there is
`digiKam:TagsList`, so do digiKam and Immich. So words come to each list that exists, with the words above them where
it has levels; a new packet has `dc:subject` and `digiKam:TagsList`, and the third where there are levels to show.

Text is inserted into a packet that exists, so that every other byte of it stays: what programs write there (ratings,
edits, their own namespaces) is not ours to format anew. A form that nothing can be added to is refused.
"""

import re
from collections.abc import Mapping, Sequence
from typing import NamedTuple
from xml.parsers import expat
from xml.sax.saxutils import escape, quoteattr

_RDF = "http://www.w3.org/1999/02/22-rdf-syntax-ns#"
_DC = "http://purl.org/dc/elements/1.1/"
_OURS = "https://ram-hf.invalid/1.0/"  # an identifier, not an address; marks packets that were tagged
_SUBJECT = f"{_DC} subject"
_TAGS_LIST = "http://www.digikam.org/ns/1.0/ TagsList"
_LISTS = {  # name to show and to write, kind of list, what stands between the levels of a word
    _SUBJECT: ("dc:subject", "Bag", ""),
    "http://ns.adobe.com/lightroom/1.0/ hierarchicalSubject": ("lr:hierarchicalSubject", "Bag", "|"),
    _TAGS_LIST: ("digiKam:TagsList", "Seq", "/"),
}
_Places = Mapping[str, tuple[str, ...]]  # where each word stands in a tree: words above it, then itself
_KINDS = (f"{_RDF} Bag", f"{_RDF} Seq")
# What is between the tags' quotes may hold ">".
_START_TAG = re.compile(rb"""<([^\s/>]+)(?:[^>"']|"[^"]*"|'[^']*')*>""")
_SEPARATOR = "\x01"  # no XML holds it

_EMPTY_PACKET = f"""\
<?xpacket begin="\ufeff" id="W5M0MpCehiHzreSzNTczkc9d"?>
<x:xmpmeta xmlns:x="adobe:ns:meta/">
 <rdf:RDF xmlns:rdf="{_RDF}">
 </rdf:RDF>
</x:xmpmeta>
<?xpacket end="w"?>
"""


def is_marked(packet: bytes, mark: str = "") -> bool:
    """Whether [`add_keywords`] has been here with a mark that begins so."""
    return _OURS.encode() in packet and f"tagged{mark}".encode() in packet


def add_keywords(
    packet: bytes | None, keywords: Sequence[str], mark: str = "", *, above: Mapping[str, Sequence[str]] | None = None
) -> bytes:
    """Add keywords to a packet, or make one.

    Args:
        packet: content of an XMP file in UTF-8, or None.
        keywords: words to add to each list; those that it has already, on any level, are left out.
        mark: letters, digits and underscores that [`is_marked`] finds again.
        above: the keywords that one stands below, uppermost first, in the lists that have levels.

    Returns:
        The packet with the keywords behind those that it has, nothing removed.

    Raises:
        ValueError: when the packet is no XMP, not UTF-8, or has keywords in a form that nothing can be added to.
    """
    text = _EMPTY_PACKET.encode() if packet is None else packet
    found = _PacketMap(text)
    places = {word: (*(above or {}).get(word, ()), word) for word in keywords}
    insertions = [
        (words_there.gap, items)
        for words_there in found.lists.values()
        if (items := _items(words_there.missing(places), words_there.prefix))
    ]
    new_lists = _new_lists(found, places)
    is_new_mark = not is_marked(text, mark)
    if new_lists or is_new_mark:
        insertions.append((found.rdf_gap, _description(found, new_lists, mark if is_new_mark else None)))
    # From the end to the beginning, so that offsets stay right.
    for gap, content in sorted(insertions, key=lambda insertion: -insertion[0].begin):
        text = gap.filled(text, content.encode())
    if any(words_there.missing(places) for words_there in _PacketMap(text).lists.values()):
        raise ValueError("what was added to it cannot be read back")
    return text


def _items(words: Sequence[str], prefix: str) -> str:
    return "".join(f"<{prefix}li>{escape(word)}</{prefix}li>" for word in words)


def _new_lists(found: "_PacketMap", places: _Places) -> str:
    if _SUBJECT in found.lists or not places:
        return ""
    # No other list is made beside one that exists: it would hide the words of that.
    names = [_SUBJECT] if found.lists else [_SUBJECT, _TAGS_LIST]
    if not found.lists and any(len(place) > 1 for place in places.values()):
        names = list(_LISTS)
    lists = ""
    for name in names:
        written, kind, level_separator = _LISTS[name]
        items = _items(_List("rdf:", level_separator).missing(places), "rdf:")
        namespace = f"xmlns:{written.partition(':')[0]}={quoteattr(name.partition(' ')[0])}"
        lists += f"\n  <{written} {namespace}><rdf:{kind}>{items}</rdf:{kind}></{written}>"
    return f"{lists}\n "


def _description(found: "_PacketMap", content: str, mark: str | None) -> str:
    # Of its own prefixes: whatever stands around it, these are right.
    about = f'xmlns:rdf="{_RDF}" rdf:about={quoteattr(found.about)}'
    marking = "" if mark is None else f' xmlns:ram_hf="{_OURS}" ram_hf:tagged{mark}="True"'
    return f" <rdf:Description {about}{marking}>{content}</rdf:Description>\n "


class _Gap(NamedTuple):
    """Where the content of an element ends, in bytes; of one empty tag, what turns it into two."""

    begin: int
    end: int
    before: bytes = b""
    after: bytes = b""

    def filled(self, packet: bytes, content: bytes) -> bytes:
        return packet[: self.begin] + self.before + content + self.after + packet[self.end :]


class _List:
    """A list of words: those that it holds, the prefix of RDF in it (with its colon), and where more of them go."""

    gap: _Gap

    def __init__(self, prefix: str, level_separator: str):
        self.prefix = prefix
        self._level_separator = level_separator
        self._words: set[str] = set()

    def hold(self, word: str) -> None:
        self._words.add(word)
        if self._level_separator:
            self._words.update(word.split(self._level_separator))

    def missing(self, places: _Places) -> list[str]:
        """What is to be written, with its levels where the list has such, so that it holds all words on some level."""
        missing = [self._levels(place) for word, place in places.items() if word not in self._words]
        above = {place[:depth] for place in missing for depth in range(1, len(place))}
        return [self._level_separator.join(place) for place in missing if place not in above]

    def _levels(self, place: tuple[str, ...]) -> tuple[str, ...]:
        separator = self._level_separator
        if not separator or any(separator in level for level in place):  # which would look like more levels
            return place[-1:]
        return place


class _PacketMap:
    """Where things are in a packet.

    Attributes:
        lists: those of `_LISTS` that it has.
        rdf_gap: where the list of descriptions ends.
        about: what the descriptions speak of; mostly empty, which means the image.
    """

    def __init__(self, packet: bytes):
        self.lists: dict[str, _List] = {}
        self.rdf_gap = _Gap(0, 0)
        self.about = ""
        self._packet = packet
        self._path: list[str] = []
        self._gaps: list[_Gap | None] = []  # of the elements of the path that are one empty tag
        self._rdf_depth = 0
        self._word: list[str] = []
        self._parser = parser = expat.ParserCreate(namespace_separator=_SEPARATOR)
        parser.namespace_prefixes = True
        parser.XmlDeclHandler = self._check_encoding
        parser.StartDoctypeDeclHandler = self._refuse_doctype
        parser.StartElementHandler = self._start
        parser.CharacterDataHandler = self._characters
        parser.EndElementHandler = self._end
        try:
            packet.decode("utf-8")
            parser.Parse(packet, True)
        except (expat.ExpatError, UnicodeDecodeError) as error:
            raise ValueError(f"it is not XML in UTF-8 ({error})") from None
        if not self.rdf_gap.end:
            raise ValueError("it holds no rdf:RDF")

    @property
    def _level(self) -> int:
        """1 for a description, 2 for a property of it, 3 for its list, 4 for an item; 0 outside."""
        return len(self._path) - self._rdf_depth if self._rdf_depth else 0

    @property
    def _property(self) -> str | None:
        """Which of `_LISTS` the parser is in."""
        if self._level < 2 or self._path[self._rdf_depth] != f"{_RDF} Description":
            return None
        name = self._path[self._rdf_depth + 1]
        return name if name in _LISTS else None

    def _start(self, name: str, attributes: dict[str, str]) -> None:
        name, prefix = _split(name)
        values = {_split(key)[0]: value for key, value in attributes.items()}
        self._path.append(name)
        self._gaps.append(self._gap_of_empty_tag())
        if name == f"{_RDF} RDF" and len(self._path) <= 2:  # alone, or in the one wrapper that there may be
            if self.rdf_gap.end:
                raise ValueError("it holds rdf:RDF twice")
            self._rdf_depth = len(self._path)
        elif self._level == 1 and name == f"{_RDF} Description":
            self._start_description(values)
        elif self._property is not None:
            self._start_in_list(self._property, name, prefix, values)

    def _start_description(self, values: dict[str, str]) -> None:
        self.about = self.about or values.get(f"{_RDF} about", values.get("about", ""))
        for name, (shown, *_) in _LISTS.items():
            if name in values:
                raise ValueError(f"its {shown} is an attribute, where a list of words is expected")

    def _start_in_list(self, wanted: str, name: str, prefix: str, values: dict[str, str]) -> None:
        shown = _LISTS[wanted][0]
        if self._level == 2:
            if wanted in self.lists:
                raise ValueError(f"it holds {shown} twice")
            if f"{_RDF} parseType" in values:
                raise ValueError(f"its {shown} holds no list of words")
        elif self._level == 3:
            if name not in _KINDS or wanted in self.lists:
                raise ValueError(f"its {shown} holds no list of words, or more than that")
            self.lists[wanted] = _List(f"{prefix}:" if prefix else "", _LISTS[wanted][2])
        elif self._level == 4:
            if name != f"{_RDF} li":
                raise ValueError(f"its {shown} holds {name.split()[-1]}, where words are expected")
            self._word = []

    def _characters(self, data: str) -> None:
        self._word.append(data)

    def _end(self, _name: str) -> None:
        gap = self._gaps.pop() or _Gap(self._parser.CurrentByteIndex, self._parser.CurrentByteIndex)
        name, wanted = self._path[-1], self._property
        if wanted is not None and self._level == 4:
            self.lists[wanted].hold("".join(self._word).strip())
        elif wanted is not None and self._level == 3:
            self.lists[wanted].gap = gap
        elif wanted is not None and self._level == 2 and wanted not in self.lists:
            raise ValueError(f"its {_LISTS[wanted][0]} holds no list of words")
        elif name == f"{_RDF} RDF" and self._rdf_depth == len(self._path):
            self.rdf_gap, self._rdf_depth = gap, 0
        self._path.pop()

    def _gap_of_empty_tag(self) -> _Gap | None:
        tag = _START_TAG.match(self._packet, self._parser.CurrentByteIndex)
        if tag is None:  # as XML has none
            raise ValueError("a tag of it cannot be found")
        if not tag[0].endswith(b"/>"):
            return None
        return _Gap(tag.end() - len(b"/>"), tag.end(), b">", b"</" + tag[1] + b">")

    @staticmethod
    def _check_encoding(_version: str, encoding: str | None, _standalone: int) -> None:
        if encoding is not None and encoding.lower() != "utf-8":
            raise ValueError(f"it is in {encoding}, where XMP files are in UTF-8")

    @staticmethod
    def _refuse_doctype(*_: object) -> None:
        raise ValueError("it declares a document type, as no XMP does")  # its entities could grow without end


def _split(name: str) -> tuple[str, str]:
    """Namespace and name as one, and the prefix, of what the parser calls an element or attribute."""
    namespace, _, rest = name.partition(_SEPARATOR)
    local, _, prefix = rest.partition(_SEPARATOR)
    return (f"{namespace} {local}", prefix) if rest else (name, "")


__all__ = ["add_keywords", "is_marked"]
