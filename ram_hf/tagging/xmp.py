"""Keywords of an XMP packet, as photo managers read them: `dc:subject`, a bag of words.

Text is inserted into a packet that exists, so that every other byte of it stays: what programs write there (ratings,
edits, their own namespaces) is not ours to format anew.
"""

from collections.abc import Sequence
from xml.parsers import expat
from xml.sax.saxutils import escape, quoteattr

_RDF = "http://www.w3.org/1999/02/22-rdf-syntax-ns#"
_DC = "http://purl.org/dc/elements/1.1/"
_OURS = "https://ram-hf.invalid/1.0/"  # an identifier, not an address; marks packets that were tagged
_LISTS = tuple(f"{_RDF} {name}" for name in ("Bag", "Seq"))

_EMPTY_PACKET = f"""\
<?xpacket begin="\ufeff" id="W5M0MpCehiHzreSzNTczkc9d"?>
<x:xmpmeta xmlns:x="adobe:ns:meta/">
 <rdf:RDF xmlns:rdf="{_RDF}">
 </rdf:RDF>
</x:xmpmeta>
<?xpacket end="w"?>
"""


def is_marked(packet: bytes) -> bool:
    """Whether [`add_keywords`] has been here."""
    return _OURS.encode() in packet


def add_keywords(packet: bytes | None, keywords: Sequence[str]) -> bytes:
    """Add keywords to a packet, or make one.

    Args:
        packet: content of an XMP file in UTF-8, or None.
        keywords: words to add; those that are there already are left out.

    Returns:
        The packet with the keywords behind those that it has, nothing removed.

    Raises:
        ValueError: when the packet is no XMP, not UTF-8, or has keywords in a form that nothing can be added to.
    """
    text = _EMPTY_PACKET.encode() if packet is None else packet
    found = _PacketMap(text)
    new = [keyword for keyword in dict.fromkeys(keywords) if keyword not in found.keywords]
    items = "".join(f"<{found.prefix}li>{escape(keyword)}</{found.prefix}li>" for keyword in new)
    subject = ""
    if items and found.list_end is None:
        bag = f"{found.prefix}Bag"
        subject = f'\n  <dc:subject xmlns:dc="{_DC}"><{bag}>{items}</{bag}></dc:subject>\n '
    # From the end to the beginning, so that offsets stay right.
    if subject or not is_marked(text):
        text = _insert(text, found.rdf_end, _description(found, subject))
    if items and found.list_end is not None:
        text = _insert(text, found.list_end, items)
    return text


def _insert(text: bytes, offset: int, insertion: str) -> bytes:
    return text[:offset] + insertion.encode() + text[offset:]


def _description(found: "_PacketMap", content: str) -> str:
    name = f"{found.prefix}Description"
    about = f"{found.prefix}about={quoteattr(found.about)}"
    return f' <{name} {about} xmlns:ram_hf="{_OURS}" ram_hf:tagged="True">{content}</{name}>\n '


class _PacketMap:
    """Where things are in a packet.

    Attributes:
        keywords: the words of `dc:subject`.
        list_end: where the list of keywords ends, in bytes; None when there is none.
        rdf_end: where the list of descriptions ends, in bytes.
        prefix: of RDF's namespace, with its colon.
        about: what the descriptions speak of; mostly empty, which means the picture.
    """

    def __init__(self, packet: bytes):
        self.keywords: list[str] = []
        self.list_end: int | None = None
        self.rdf_end = 0
        self.prefix, self.about = "rdf:", ""
        self._packet = packet
        self._path: list[str] = []
        self._word: list[str] | None = None
        self._parser = parser = expat.ParserCreate(namespace_separator=" ")
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
        if not self.rdf_end:
            raise ValueError("it holds no rdf:RDF")

    def _start(self, name: str, attributes: dict[str, str]) -> None:
        name, prefix = _split(name)
        self._path.append(name)
        if name == f"{_RDF} RDF":
            self.prefix = f"{prefix}:" if prefix else ""
        elif name == f"{_RDF} Description" and self._parent == f"{_RDF} RDF":
            values = {_split(key)[0]: value for key, value in attributes.items()}
            self.about = values.get(f"{_RDF} about", self.about)
            if f"{_DC} subject" in values:
                raise ValueError("its dc:subject is an attribute, where a list of words is expected")
        elif self._is_word():
            self._word = []

    def _characters(self, data: str) -> None:
        if self._word is not None:
            self._word.append(data)

    def _end(self, _name: str) -> None:
        name = self._path[-1]
        if self._is_word() and self._word is not None:
            self.keywords.append("".join(self._word).strip())
            self._word = None
        elif self._parent == f"{_DC} subject" and name in _LISTS:
            self.list_end = self._end_tag()
        elif name == f"{_DC} subject" and self.list_end is None:
            raise ValueError("its dc:subject holds no list of words")
        elif name == f"{_RDF} RDF":
            self.rdf_end = self._end_tag()
        self._path.pop()

    def _end_tag(self) -> int:
        offset = self._parser.CurrentByteIndex
        if self._packet[offset : offset + 2] != b"</":
            raise ValueError(f"its {self._path[-1].split()[-1]} is one empty tag, which nothing can be added to")
        return offset

    @property
    def _parent(self) -> str | None:
        return self._path[-2] if len(self._path) > 1 else None

    def _is_word(self) -> bool:
        return self._path[-3:-1] in ([f"{_DC} subject", kind] for kind in _LISTS) and self._path[-1] == f"{_RDF} li"

    @staticmethod
    def _check_encoding(_version: str, encoding: str | None, _standalone: int) -> None:
        if encoding is not None and encoding.lower() not in ("utf-8", "us-ascii"):
            raise ValueError(f"it is in {encoding}, where XMP files are in UTF-8")

    @staticmethod
    def _refuse_doctype(*_: object) -> None:
        raise ValueError("it declares a document type, as no XMP does")  # its entities could grow without end


def _split(name: str) -> tuple[str, str]:
    """Namespace and name as one, and the prefix, of what the parser calls an element or attribute."""
    namespace, _, rest = name.partition(" ")
    local, _, prefix = rest.partition(" ")
    return (f"{namespace} {local}", prefix) if rest else (name, "")


__all__ = ["add_keywords", "is_marked"]
