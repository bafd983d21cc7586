"""The first code that a newcomer copies must run."""

import re
from pathlib import Path

ROOT = Path(__file__).parents[1]


def test_quick_start_runs(tiny_model, tiny_processor, tmp_path, monkeypatch, capsys):
    """As printed, with a small CLIP on disk in the place of the one on the Hub."""
    tiny_model.clip.save_pretrained(tmp_path)
    tiny_processor.image_processor.save_pretrained(tmp_path)
    tiny_processor.tokenizer.save_pretrained(tmp_path)
    code = re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text(), flags=re.DOTALL)[0]
    assert code.count('"openai/clip-vit-base-patch16"') == 2
    monkeypatch.chdir(ROOT)
    capsys.readouterr()
    exec(code.replace("openai/clip-vit-base-patch16", str(tmp_path)), {})
    ((*tags,),) = eval(capsys.readouterr().out.splitlines()[-1])
    assert len(tags) == 3
    assert all(set(tag) == {"label", "score"} for tag in tags)
