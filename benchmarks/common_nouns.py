"""Write `ram_hf/model/common_nouns.py`: the things that captions of photographs name most often.

Run from the repository's root: `python benchmarks/common_nouns.py`. The candidates are
the names that the photographs' labels and their parents have, and the seen labels of the scenes, in small letters: all
of them name things, places, or what is done in a photograph. Left out are

- plurals of other candidates ("zebras" beside "zebra"), and names with more than two words or with brackets;
- names of one or two words that are a candidate with a word before it ("park bench" beside "bench") unless at least 3
  captions have them;
- names of breeds and species (which have parents) and of two words that no caption has;
- characters of films and comics, and words that captions use for something else ("on top of").

The rest is ordered by the number of captions that hold the name or its plural, then by the number of labelled
photographs, then by the alphabet, and the first 1,000 stay, if there are as many. Of the photographs nothing is kept
but words and the order of their counts.
"""

import argparse
import json
import re
import textwrap
from collections import Counter
from collections.abc import Iterable
from pathlib import Path

import pyarrow.parquet as pq

COUNT = 1000
OFTEN = 3  # captions that make a name of two words one of its own
LEFT_OUT = {"garfield", "snoopy", "buddha", "top", "fly", "tick", "website"}
HEAD = '''"""Common nouns: labels to read images with where a model has none of its own.

Made by `benchmarks/common_nouns.py`, which tells how they are chosen: names of things, those first that captions of
photographs hold most often. They are names alone: `ram-hf calibrate` encodes them, or
`model.set_reference_labels(COMMON_NOUNS, model.get_label_features(**processor(labels=list(COMMON_NOUNS))))`.
"""

COMMON_NOUNS: tuple[str, ...] = tuple(
    """
'''
TAIL = '''
""".strip().replace("\\n", " ").split(", ")
)

__all__ = ["COMMON_NOUNS"]
'''


def plurals(name: str) -> set[str]:
    """How captions may write a name."""
    return {name, f"{name}s", f"{name}es", *([f"{name[:-1]}ies"] if name.endswith("y") else [])}


def caption_counts(captions: Iterable[str]) -> Counter[str]:
    """Captions by each run of one or two words that they hold."""
    counts: Counter[str] = Counter()
    for caption in captions:
        words = re.findall(r"[a-z'-]+", caption.lower())
        counts.update({" ".join(words[at : at + size]) for size in (1, 2) for at in range(len(words) - size + 1)})
    return counts


def read(folder: Path) -> tuple[Counter[str], Counter[str], dict[str, list[str]]]:
    """Photographs by label, captions by words, and parents."""
    labels: Counter[str] = Counter()
    captions: list[str] = []
    for file in sorted(folder.glob("train-*.parquet")):
        names = [name for name in pq.read_schema(file).names if name in ("labels", "caption")]
        table = pq.read_table(file, columns=names)
        for row in table["labels"].to_pylist():
            labels.update({name.lower() for name in row})
        if "caption" in names:
            captions += [caption for caption in table["caption"].to_pylist() if caption]
    parents = json.loads((folder / "hypernyms.json").read_text(encoding="utf-8"))
    return labels, caption_counts(captions), {name.lower(): above for name, above in parents.items()}


def choose(
    labels: Counter[str], captions: Counter[str], parents: dict[str, list[str]], drawn: Iterable[str]
) -> list[str]:
    """The common nouns, the most common first."""
    pool = {*labels, *drawn, *(parent for above in parents.values() for parent in above)}
    counts = {name: sum(captions[form] for form in plurals(name)) for name in pool}

    def stays(name: str) -> bool:
        words = name.split()
        if len(words) > 2 or not re.fullmatch(r"[a-z' -]+", name) or name in LEFT_OUT:
            return False
        if any(name in plurals(other) for other in pool if other != name):
            return False
        if len(words) == 2 and words[1] in pool and counts[name] < OFTEN:
            return False
        return bool(counts[name]) or (len(words) == 1 and name not in parents)

    return sorted(filter(stays, pool), key=lambda name: (-counts[name], -labels[name], name))[:COUNT]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--photographs", type=Path, default=Path("../shared/photos"), help="folder with the labels")
    parser.add_argument("--scenes", type=Path, default=Path("../shared/scenes"), help="folder with concepts.json")
    parser.add_argument("--output", type=Path, default=Path("ram_hf/model/common_nouns.py"), help="module to write")
    options = parser.parse_args()
    concepts = json.loads((options.scenes / "concepts.json").read_text(encoding="utf-8"))
    seen = [concept["label"].lower() for concept in concepts if concept["split"] == "seen"]
    nouns = choose(*read(options.photographs), seen)
    lines = textwrap.wrap(", ".join(nouns), 118, break_on_hyphens=False, break_long_words=False)
    options.output.write_text(HEAD + "\n".join(lines) + TAIL, encoding="utf-8")
    print(f"{len(nouns)} nouns, from {nouns[0]!r} to {nouns[-1]!r}")


if __name__ == "__main__":
    main()
