"""`ram_hf/model/` goes to the Hub beside the weights and must work there without the package."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest
import torch

import ram_hf.model

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
