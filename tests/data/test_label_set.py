import re
import subprocess
import sys

import pytest

from ram_hf.data.label_set import LabelSet, read_label_list

LABELS = LabelSet(seen=("dog", "cat"), unseen=("zebra", "red car"))


def test_names_are_the_seen_then_the_unseen():
    assert LABELS.names == ("dog", "cat", "zebra", "red car")
    assert len(LABELS) == 4
    assert [LABELS.index(name) for name in LABELS.names] == [0, 1, 2, 3]


@pytest.mark.parametrize(
    ("seen", "unseen", "message"),
    [
        (("dog", "cat", "dog"), (), "`seen` names these labels more than once: 'dog'."),
        (("dog",), ("cat", "cat"), "`unseen` names these labels more than once: 'cat'."),
        (("dog", "cat"), ("zebra", "cat"), "These labels are in `seen` and in `unseen`: 'cat'."),
        ((), (), "A label set needs at least one label; `seen` and `unseen` are both empty."),
        (("dog", " "), (), "A label is blank: ' '."),
    ],
)
def test_wrong_sets_are_refused(seen, unseen, message):
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        LabelSet(seen, unseen)


def test_unknown_name_suggests_the_nearest():
    with pytest.raises(ValueError, match=r"no label 'zebr' among the 4 labels. Did you mean 'zebra'\?"):
        LABELS.index("zebr")
    with pytest.raises(ValueError, match=r"no label 'xyz' .* There are 'dog', 'cat', 'zebra', 'red car'\."):
        LABELS.index("xyz")


def test_label_file(tmp_path):
    path = tmp_path / "seen.txt"
    path.write_text("\ufeff# animals\ndog\n\n  red car \nc#\n", encoding="utf-8")
    assert read_label_list(path) == ["dog", "red car", "c#"]
    assert LabelSet.from_options(str(path), ["cat"]) == LabelSet(("dog", "red car", "c#"), ("cat",))


def test_label_list_errors(tmp_path):
    (tmp_path / "empty.txt").write_text("# nothing\n")
    with pytest.raises(ValueError, match="holds no label"):
        read_label_list(tmp_path / "empty.txt")
    with pytest.raises(FileNotFoundError, match="There is no label file 'dog'; give a list"):
        read_label_list("dog")
    with pytest.raises(TypeError, match="A label must be a string, got 3 of type int"):
        read_label_list(["dog", 3])


def test_importing_it_is_light():
    code = "import sys, ram_hf.data.label_set; print({'torch', 'datasets', 'transformers', 'PIL'} & set(sys.modules))"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout.strip() == "set()"
