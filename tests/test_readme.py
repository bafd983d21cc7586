"""The first code that a newcomer copies must run."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


@pytest.fixture
def run_example(tiny_model, tiny_processor, tmp_path, monkeypatch, capsys):
    """Runs the example under a heading as printed, with a small CLIP on disk in the place of the one on the Hub."""
    tiny_model.clip.save_pretrained(tmp_path)
    tiny_processor.image_processor.save_pretrained(tmp_path)
    tiny_processor.tokenizer.save_pretrained(tmp_path)
    monkeypatch.chdir(ROOT)

    def run(heading: str) -> tuple[dict, str]:
        section = (ROOT / "README.md").read_text().split(f"\n## {heading}\n")[1]
        code = re.search(r"```python\n(.*?)```", section, flags=re.DOTALL).group(1)
        assert '"openai/clip-vit-base-patch16"' in code
        capsys.readouterr()
        names = {}
        exec(code.replace("openai/clip-vit-base-patch16", str(tmp_path)), names)
        return names, capsys.readouterr().out.splitlines()[-1]

    return run


def test_quick_start_runs(run_example):
    _, printed = run_example("Tag a picture")
    ((*tags,),) = eval(printed)
    assert len(tags) == 3
    assert all(set(tag) == {"label", "score"} for tag in tags)


def test_pipeline_example_runs(run_example):
    names, printed = run_example("Pipeline")
    assert len(names["tags"]) == 2
    assert printed.startswith(names["tags"][0]["label"])
