"""What docs/vocabulary.md shows is what happens."""

import dataclasses
import re
from pathlib import Path

import pytest

from ram_hf.cli import main
from ram_hf.tagging.vocabulary_fields import Label, VocabularyFields
from ram_hf.tagging.vocabulary_file import parse_vocabulary

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "vocabulary.md").read_text(encoding="utf-8")


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", PAGE, flags=re.DOTALL)


def test_the_example_is_the_file_and_uses_every_field():
    (example,) = blocks("yaml")
    assert example == (ROOT / "examples" / "scenes" / "labels.yaml").read_text(encoding="utf-8")
    vocabulary, notes = parse_vocabulary(example, "labels.yaml")
    assert notes == []
    fields = {field.name for field in (*dataclasses.fields(VocabularyFields), *dataclasses.fields(Label))} - {"name"}
    assert fields == set(re.findall(r"^\| `(\w+)` \|", PAGE, flags=re.MULTILINE))
    assert all(re.search(rf"\b{field}:", example) for field in fields - {"separator"})
    assert {"Eule", "Tier", "clock", "example", "food"} - set(vocabulary.reported) == {"food"}


def test_the_output_is_what_is_printed(monkeypatch, capsys):
    monkeypatch.chdir(ROOT)
    command, *expected = blocks("console")[0].splitlines()
    assert main(command.removeprefix("$ ram-hf ").split()) == 0
    printed = [line.split("\t") for line in capsys.readouterr().out.splitlines()]
    assert [line[:2] for line in printed] == [line.split("\t")[:2] for line in expected]
    scores = [float(line.split("\t")[2]) for line in expected]
    assert [float(line[2]) for line in printed] == pytest.approx(scores, rel=1e-3)


def test_the_mistake_is_told_as_shown():
    told = blocks("console")[1].splitlines()[1].removeprefix("ram-hf: error: ")
    text = "labels:\n" + "\n" * 9 + "  dog:\n    parent: [animal]\n"
    with pytest.raises(ValueError, match=f"^{re.escape(told)}$"):
        parse_vocabulary(text, "labels.yaml")


def test_the_python_runs(capsys):
    (code,) = blocks("python")
    exec(code)
    assert capsys.readouterr().out.strip() == code.rpartition("# ")[2].strip()
