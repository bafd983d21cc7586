"""Vocabularies as people write them, and each mistake with its line."""

import re
import time

import pytest

from ram_hf.tagging.label_lists import read_vocabulary
from ram_hf.tagging.vocabulary import Label, Vocabulary
from ram_hf.tagging.vocabulary_file import parse_vocabulary

WHOLE = """\
separator: "; "
threshold: 0.2
labels:
  dog:
    display: Hund
    match: [dog, hound]
    parents: [animal]
    threshold: 0.4
  cat:
  "red: car": {display: rotes Auto}
  animal: {display: Tier, match: []}
background: [wall, sky]
exclude: [cat]
replace: {puppies: dog}
force: [holiday2024]
"""


def test_every_field():
    vocabulary, notes = parse_vocabulary(WHOLE, "labels.yaml")
    assert vocabulary == Vocabulary(
        (
            Label("dog", "Hund", ("dog", "hound"), ("animal",), 0.4),
            Label("cat"),
            Label("red: car", "rotes Auto"),
            Label("animal", "Tier", ()),
        ),
        background=("wall", "sky"),
        exclude=("cat",),
        replace=(("puppies", "dog"),),
        force=("holiday2024",),
        threshold=0.2,
        separator="; ",
    )
    assert notes == ["labels.yaml:14: 'puppies' is no label and no parent: it changes nothing."]


def test_scalars_are_the_text_that_they_are():
    text = "labels: [no, yes, on, 2024, 1.0, 1e3, 0x10, 12:30:45, 2024-01-01, true, .inf, 'null', '~']"
    vocabulary, _ = parse_vocabulary(text, "a.yaml")
    assert [label.name for label in vocabulary.labels] == re.findall(r"[^\[, \]']+", text.partition(" ")[2])


@pytest.mark.parametrize(
    ("text", "line", "message"),
    [
        # What is no YAML, or not ours.
        ("labels:\n\t- dog\n", 2, "A tab stands before the text; YAML is indented with spaces."),
        ("labels:\n  - dog\n  - red: car: big\n", 3, "This is no YAML: .* goes in quotes."),
        ("labels:\n  - @home\n", 2, "This is no YAML: .* goes in quotes."),
        ("labels:\n  - *dog\n", 2, "This is no YAML: .* goes in quotes."),
        ("labels: [dog, cat\n", 2, "This is no YAML"),
        ('labels:\n  - "dog\n  - cat\n', 4, "This is no YAML: .*, in what begins in line 2"),
        ("labels: [dog]\n---\nlabels: [cat]\n", 2, "This is no YAML: but found another document"),
        ("labels:\n  - dog\n  - a\x07b\n", 3, "YAML holds no such character"),
        ('labels:\n  - dog\n  - "a\\nb"\n', 3, r"A label holds a control character, '\\n'"),
        ("labels:\n  - !person anna\n", 2, "Tags as '!person' are not read here"),
        ("a: &a {display: x}\nlabels:\n", 1, "A vocabulary has no field 'a'"),
        ("labels:\n  dog: &a\n    threshold: 0.3\n  cat:\n    <<: *a\n", 5, "`<<` is not read here"),
        ("labels:\n  " + "[" * 3000 + "]" * 3000, 2, "A vocabulary has no lists in lists"),
        ("labels:\n  " + "[" * 100_000, 2, "A vocabulary has no lists in lists"),
        ("labels: &a\n - *a\n", 1, "A name is text, got a list"),
        # Fields.
        ("- dog\n- cat\n", 1, "A vocabulary takes fields: labels, background,"),
        ("threshold: 0.2\n", 1, "There is no `labels`; write them as"),
        ("labels: [dog]\nbackgroud: [wall]\n", 2, "A vocabulary has no field 'backgroud'. Did you mean 'background'?"),
        (
            "labels:\n  dog:\n    treshold: 1\n",
            3,
            "The label 'dog' has no field 'treshold'. Did you mean 'thr",
        ),
        ("labels:\n  dog:\n    display: a\n    display: b\n", 4, r"`display` comes twice. \(See line 3.\)"),
        ("labels: [dog]\nforce: [a]\nlabels: [cat]\n", 3, r"`labels` comes twice. \(See line 1.\)"),
        # Types.
        ("labels: dog, cat\n", 1, "`labels` takes a list"),
        ("labels:\n", 1, "`labels` takes a list"),
        ("labels: []\n", 1, "There is no label."),
        ("labels:\n  dog: Hund\n", 2, "The label 'dog' takes fields: display, match, parents, threshold."),
        ("labels:\n  dog: [hound]\n", 2, "The label 'dog' takes fields"),
        ("labels:\n  - dog:\n      display: Hund\n", 2, "In a list are names alone; .* goes in quotes"),
        ("labels:\n  - dog: big\n", 2, "In a list are names alone; .* goes in quotes"),
        ("labels:\n  - [dog, cat]\n", 2, "A name is text, got a list"),
        ("labels:\n  dog:\n    match: puppy\n", 3, r"`match` takes a list of names: `match: \[puppy\]`"),
        ("labels:\n  dog:\n    parents: {a: b}\n", 3, r"`parents` takes a list of names: `parents: \[red car\]`"),
        ("labels:\n  dog:\n    display: [Hund]\n", 3, "A name is text, got a list"),
        ("labels: [dog]\nreplace: [puppy, dog]\n", 2, "`replace` takes pairs"),
        ("labels: [dog]\nreplace:\n  puppy: [dog]\n", 3, "A name is text, got a list"),
        ("labels:\n  dog:\n    threshold: 40%\n", 3, "A threshold is a number from 0 to 1, got '40%'"),
        ("labels: [dog]\nthreshold: 1.5\n", 2, "A threshold is a number from 0 to 1, got '1.5'"),
        ("labels: [dog]\nthreshold: nan\n", 2, "A threshold is a number from 0 to 1, got 'nan'"),
        ("labels: [dog]\nthreshold: [0.1]\n", 2, "A threshold is a number, got a list"),
        ("labels: [dog]\nseparator:\n", 2, "The separator is text within a line"),
        # Names.
        ("labels:\n  - dog\n  -\n", 3, "A name is empty"),
        ("labels:\n  - dog\n  - ' '\n", 3, "A name is empty"),
        ("labels:\n  - dog\n  - null\n", 3, "'null' is YAML's word for nothing"),
        ("labels:\n  dog:\n    display: ''\n", 3, "A name is empty"),
        ("labels:\n  dog:\n  cat:\n  dog:\n", 4, r"The label 'dog' comes twice. \(See line 2.\)"),
        ("labels:\n  - dog\n  - cat\n  - dog\n", 4, r"The label 'dog' comes twice. \(See line 2.\)"),
        ("labels: [dog, dog]\n", 1, "comes twice"),
        ("labels:\n  - dog\n  - Dog\n", 3, r"'Dog' as 'dog', which is one to it, already.* \(See line 2.\)"),
        ("labels: [dog]\nreplace:\n  a: b\n  a: c\n", 4, r"'a' is replaced twice. \(See line 3.\)"),
        ("labels: [dog]\nexclude:\n - a\n - a\n", 4, r"'a' comes twice in `exclude`. \(See line 3.\)"),
        ("labels:\n  dog:\n    parents:\n    - a\n    - a\n", 5, r"twice among the parents of 'dog'. \(See line 4.\)"),
        # Contradictions.
        ("labels:\n  dog:\n    match: [pup]\n  pup:\n", 4, r"The model is given 'pup' twice already.*\(See line 3.\)"),
        ("labels:\n  - dog\nbackground:\n  - wall\n  - dog\n", 5, r"given 'dog' twice already.*\(See line 2.\)"),
        ("labels:\n  dog: {match: [a]}\nbackground: [dog]\n", 3, "'dog' is a label too; background is never reported"),
        ("labels:\n  a: {display: X}\n  b:\n    display: X\n", 4, r"are both shown as 'X'.*\(See line 2.\)"),
        ("labels:\n  a: {display: b}\n  b:\n", 3, r"'a' and 'b' are both shown as 'b'.*\(See line 2.\)"),
        (
            "labels:\n  dog: {display: Hund}\n  pug: {parents: [Hund]}\n",
            3,
            "is what is shown of the label 'dog'; write",
        ),
        ("labels:\n  dog: {display: Hund}\nexclude: [Hund]\n", 3, "is what is shown of the label 'dog'; write 'dog'"),
        ("labels:\n  a: {parents: [b]}\n  b:\n    parents: [c]\n  c: {parents: [a]}\n", 2, "'a' > 'b' > 'c' > 'a'"),
        ("labels:\n  a: {parents: [a]}\n", 2, "'a' implies itself: 'a' > 'a'"),
        ("labels: [a]\nreplace:\n  b: c\n  c: b\n", 3, "'b' is replaced by itself: 'b' > 'c' > 'b'"),
        ("labels:\n  a: {match: []}\n", 1, "nothing is looked for"),
        ("labels:\n  b:\n  a: {match: [], threshold: 0.1}\n", 3, "'a' has nothing to match"),
        ("labels: [a]\nexclude: [b]\nforce: [b]\n", 3, r"'b' is forced and excluded. \(See line 2.\)"),
        (
            "labels: [a]\nreplace: {b: c}\nexclude: [c]\nforce: [b]\n",
            4,
            "'b', reported as 'c', is forced and excluded",
        ),
        ("labels: [a]\nbackground: [b]\nforce: [b]\n", 3, r"'b' is background.*\(See line 2.\)"),
        ("labels:\n  a: {parents: [b]}\nbackground: [b]\n", 2, r"'b' is background.*\(See line 3.\)"),
        ("labels: [a]\nexclude: [a]\n", 2, "Every label is excluded"),
    ],
)
def test_mistakes_are_told_with_their_line(text, line, message):
    with pytest.raises(ValueError, match=f"^labels.yaml:{line}: .*{message}"):
        parse_vocabulary(text, "labels.yaml")


@pytest.mark.parametrize("text", ["", "# labels\n", "---\n"])
def test_an_empty_file(text):
    with pytest.raises(ValueError, match=r"labels.yaml(:\d)? ?.*(holds no label|takes fields: labels)"):
        parse_vocabulary(text, "labels.yaml")


@pytest.mark.parametrize(
    ("fields", "notes"),
    [
        ("exclude: [aninal]", ["2: 'aninal' is no label and no parent: it changes nothing. Did you mean 'animal'?"]),
        ("exclude: [wolf]", ["2: 'wolf' is no label and no parent: it changes nothing."]),
        (
            "replace: {red cat: dog}",
            ["2: 'red cat' is no label and no parent: it changes nothing. Did you mean 'red car'?"],
        ),
        ("force: [holiday2024]", []),
        ("force: [animall]", ["2: 'animall' is no label: it is forced as it stands. Did you mean 'animal'?"]),
        ("exclude: [animal, wall]\nforce: [dog]\nbackground: [wall]\nreplace: {dog: pet}", []),
    ],
)
def test_names_that_appear_nowhere_are_told(fields, notes):
    text = f"labels: {{dog: {{parents: [animal]}}, red car: }}\n{fields}\n"
    assert parse_vocabulary(text, "a.yaml").notes == [f"a.yaml:{note}" for note in notes]


def test_a_file_in_every_encoding_of_editors(tmp_path):
    for encoding in ("utf-8", "utf-8-sig", "utf-16"):
        (tmp_path / "labels.YML").write_text("labels: [käse]\n", encoding=encoding)
        vocabulary, _ = read_vocabulary(None, tmp_path / "labels.YML")
        assert [label.name for label in vocabulary.labels] == ["käse"]
    with pytest.raises(FileNotFoundError, match=r"There is no label file '.*gone.yaml'"):
        read_vocabulary(None, tmp_path / "gone.yaml")


def test_ten_thousand_labels_with_fields_are_read_in_seconds():
    entry = "  label {0}:\n    display: name {0}\n    match: [word {0}, other {0}]\n    parents: [kind {1}]\n"
    text = "labels:\n" + "".join(entry.format(number, number % 100) for number in range(10_000))
    start = time.perf_counter()
    vocabulary, _ = parse_vocabulary(text, "a.yaml")
    assert len(vocabulary.reported) == 10_100
    assert time.perf_counter() - start < 30
