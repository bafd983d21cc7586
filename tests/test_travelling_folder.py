"""`ram_hf/model/` goes to the Hub beside the weights and must work there without the package."""

import ast
import importlib
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from PIL import Image
from transformers import AutoModel, pipeline

import ram_hf.model
from ram_hf.model.pipeline_ram import TASK

FOLDER = Path(ram_hf.model.__path__[0])
FILES = sorted(FOLDER.glob("*.py"))
# Standard library, and what every user of the model has.
ALLOWED = sys.stdlib_module_names | {"torch", "transformers", "huggingface_hub", "PIL", "numpy", "safetensors"}


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_imports_are_of_the_one_form_that_travels(path):
    tree = ast.parse(path.read_text())
    top_level = set(tree.body)
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            roots = {alias.name.partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.level == 0:
            roots = {node.module.partition(".")[0]}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 1, f"{path.name}: only `from .sibling import name` travels"
            assert (FOLDER / f"{node.module}.py").is_file(), f"{path.name}: from .{node.module}"
            roots = set()
        else:
            continue
        assert roots <= ALLOWED, f"{path.name} imports {roots - ALLOWED}"
        assert node in top_level, f"{path.name}: an import inside a function is demanded of every user all the same"


def test_a_saved_model_loads_where_ram_hf_cannot_be_imported(tiny_model, tiny_processor, tmp_path):
    folder = tmp_path / "model-1.0"
    tiny_model.save_pretrained(folder)
    tiny_processor.save_pretrained(folder)
    torch.save(
        tiny_model(**tiny_processor(images=torch.zeros(3, 9, 9), labels=["a", "b"])).scores, tmp_path / "scores"
    )
    code = f"""
import sys
sys.modules["ram_hf"] = None
import torch
from transformers import AutoModel, AutoProcessor
model = AutoModel.from_pretrained({str(folder)!r}, trust_remote_code=True)
processor = AutoProcessor.from_pretrained({str(folder)!r}, trust_remote_code=True)
scores = model(**processor(images=torch.zeros(3, 9, 9), labels=["a", "b"])).scores
torch.testing.assert_close(scores, torch.load({str(tmp_path / "scores")!r}))
print(type(model).__module__)
"""
    environment = {"HF_HOME": str(tmp_path / "home"), "HF_HUB_OFFLINE": "1", "PATH": "/usr/bin:/bin"}
    result = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=120, check=False, env=environment
    )
    assert result.returncode == 0, result.stderr
    assert result.stdout.startswith("transformers_modules.")


def test_subclasses_of_another_package_are_saved_without_their_code(tiny_model, tiny_processor, tmp_path, monkeypatch):
    """Theirs may import what does not travel; one that is registered by its author is saved as all are."""
    package = tmp_path / "another_package"
    (package / "inner").mkdir(parents=True)
    for folder in (package, package / "inner"):
        (folder / "__init__.py").touch()
    (package / "names.py").write_text("NAME = 'mine'\n")
    (package / "inner" / "classes.py").write_text(
        "import ram_hf\n"
        "from ..names import NAME\n"
        "from . import __doc__ as nothing\n"
        "class MyConfig(ram_hf.RamConfig): pass\n"
        "class MyModel(ram_hf.RamModel): pass\n"
        "class MyProcessor(ram_hf.RamProcessor): pass\n"
        "class MyPipeline(ram_hf.RamTaggingPipeline): pass\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    classes = importlib.import_module("another_package.inner.classes")
    model = classes.MyModel(tiny_model.config)
    model.load_state_dict(tiny_model.state_dict())
    processor = classes.MyProcessor(tiny_processor.image_processor, tiny_processor.tokenizer)
    tagger = classes.MyPipeline(model, processor=processor)
    for name, part in {"config": classes.MyConfig(), "model": model, "processor": processor, "tagger": tagger}.items():
        part.save_pretrained(tmp_path / name)
        assert not (tmp_path / name / "classes.py").exists()
    loaded = classes.MyModel.from_pretrained(tmp_path / "model")
    assert type(loaded) is classes.MyModel
    assert torch.equal(loaded.prompts["2"].tokens, model.prompts["2"].tokens)
    assert type(AutoModel.from_pretrained(tmp_path / "model")) is ram_hf.RamModel
    image = Image.new("RGB", (9, 9))
    scores = [each(image, ["a", "b"])[0]["score"] for each in (tagger, pipeline(TASK, model=str(tmp_path / "tagger")))]
    assert scores[0] == pytest.approx(scores[1])
    classes.MyModel.register_for_auto_class("AutoModel")
    assert classes.MyModel.is_remote_code()
    assert ram_hf.RamModel.is_remote_code()
