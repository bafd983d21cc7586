"""What `import ram_hf` costs and loads, each in a fresh process."""

import subprocess
import sys

import pytest

from ram_hf.cli import COMMANDS

HEAVY = ("torch", "transformers", "datasets", "accelerate", "evaluate", "gradio", "onnxruntime", "ray", "PIL", "numpy")
OPTIONAL = ("datasets", "evaluate", "gradio", "onnxruntime", "ray", "torchvision", "scipy", "sklearn", "matplotlib")


def run_python(code: str) -> str:
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120, check=False)
    assert result.returncode == 0, result.stderr
    return result.stdout.strip()


def test_import_is_light():
    code = (
        "import sys, time\nstart = time.perf_counter()\nimport ram_hf\nseconds = time.perf_counter() - start\n"
        f"print([m for m in {HEAVY!r} if m in sys.modules], seconds)"
    )
    loaded, seconds = run_python(code).rsplit(" ", 1)
    assert loaded == "[]"
    assert float(seconds) < 0.2


def test_the_model_needs_torch_transformers_and_pillow_alone():
    """The optional packages are blocked, so that a picture is scored without any of them."""
    code = f"""
import sys
for name in {OPTIONAL!r}:
    sys.modules[name] = None
import torch
from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil
from ram_hf import RamModel, RamProcessor, RamTaggingPipeline
from tests.conftest import make_config, make_tokenizer
processor = RamProcessor(CLIPImageProcessorPil(size={{"height": 32, "width": 32}}), make_tokenizer())
model = RamModel(make_config()).eval()
print(len(RamTaggingPipeline(model, processor)(torch.zeros(3, 9, 9), "dog, car", return_regions=True)))
"""
    assert run_python(code) == "2"


@pytest.mark.parametrize(
    "imports",
    [
        "import ram_hf\nfrom transformers import AutoConfig, AutoModel, AutoProcessor",
        "from transformers import AutoConfig, AutoModel, AutoProcessor\nimport ram_hf",
        "import transformers\nimport ram_hf\nfrom transformers import AutoConfig, AutoModel, AutoProcessor",
        "from ram_hf import RamModel\nfrom transformers import AutoConfig, AutoModel, AutoProcessor",
        "from transformers import CLIPModel\nfrom ram_hf import RamProcessor\n"
        "from transformers import AutoConfig, AutoModel, AutoProcessor",
        "import ram_hf\nfrom transformers import pipeline, AutoConfig, AutoModel, AutoProcessor",
        "from ram_hf import RamTaggingPipeline\nfrom transformers import AutoConfig, AutoModel, AutoProcessor",
        "from transformers import pipeline, AutoConfig, AutoModel, AutoProcessor\nimport ram_hf",
    ],
)
def test_auto_classes_find_ram_whatever_is_imported_first(imports, tmp_path, tiny_model, tiny_processor):
    tiny_model.save_pretrained(tmp_path)
    tiny_processor.save_pretrained(tmp_path)
    code = f"""
{imports}
from transformers import AutoModelForZeroShotImageClassification
folder = {str(tmp_path)!r}
print(type(AutoConfig.from_pretrained(folder)).__module__)
print(type(AutoModel.from_pretrained(folder)).__module__)
print(type(AutoModelForZeroShotImageClassification.from_pretrained(folder)).__module__)
print(type(AutoProcessor.from_pretrained(folder)).__module__)
from transformers.pipelines import PIPELINE_REGISTRY
print(PIPELINE_REGISTRY.check_task("zero-shot-multi-label-tagging")[1]["impl"].__module__)
import sys
print([type(finder).__module__ for finder in sys.meta_path].count("ram_hf.registration"))
"""
    expected = ["configuration_ram", "modeling_ram", "modeling_ram", "processing_ram", "pipeline_ram"]
    assert run_python(code).split() == [*(f"ram_hf.model.{module}" for module in expected), "0"]


def test_auto_classes_and_pipeline_know_the_models_of_the_package():
    code = """
import ram_hf
from transformers import AutoConfig, AutoModel, AutoProcessor, AutoTokenizer, pipeline
from transformers.models.auto.image_processing_auto import AutoImageProcessor  # the oldest wants torchvision elsewhere
AutoConfig.from_pretrained(pretrained_model_name_or_path="ram-photo")
AutoProcessor.from_pretrained("ram-photo"), AutoTokenizer.from_pretrained("ram-photo")
AutoImageProcessor.from_pretrained("ram-photo")
own = AutoModel.from_pretrained("ram-photo")
tagger = pipeline("zero-shot-multi-label-tagging", model="ram-photo")
stock = pipeline("zero-shot-image-classification", model="ram-photo")
print(type(own).__name__, type(tagger).__name__, type(tagger.processor).__name__, type(stock.model).__name__)
"""
    assert run_python(code) == "RamModel RamTaggingPipeline RamProcessor RamModel"


@pytest.mark.parametrize("model", ['"ram-photo"', "None"])
def test_a_pipeline_of_a_model_of_the_package_asks_the_hub_nothing(hub, model):
    """Where none is named, it is the one that every command takes then."""
    code = f"""
import ram_hf
from transformers import pipeline
tagger = pipeline("zero-shot-multi-label-tagging", model={model})
print(tagger.model.config._name_or_path.endswith("ram_hf/bundled/ram-photo"), tagger.model.is_calibrated)
"""
    assert run_python(code) == "True True"
    assert [request.path for request in hub.requests] == []


def test_unknown_names_are_an_attribute_error():
    import ram_hf

    with pytest.raises(AttributeError, match="has no attribute 'RamModell'"):
        _ = ram_hf.RamModell
    assert {"RamModel", "RamProcessor", "RamTaggingPipeline", "convert_original_checkpoint"} <= set(dir(ram_hf))


def test_loaders_are_left_as_they_were():
    """After registration nothing of the import hook remains on the modules that it watched."""
    code = (
        "import ram_hf\nfrom ram_hf import RamModel\nimport sys\n"
        "print({type(m.__loader__).__name__ for n, m in list(sys.modules.items())"
        " if n.startswith(('transformers', 'ram_hf')) and getattr(m, '__loader__', None)})"
    )
    assert "_WatchedLoader" not in run_python(code)


@pytest.mark.parametrize("command", sorted(COMMANDS.keys() - {"train"}))  # whose options transformers lists
def test_a_command_imports_the_standard_library_alone_until_it_runs(command):
    code = f"""
import sys
before = set(sys.modules)
from ram_hf.cli import make_parser
make_parser({command!r})
loaded = {{name.partition(".")[0] for name in set(sys.modules) - before}}
print(sorted(loaded - sys.stdlib_module_names - {{"ram_hf"}}), [name for name in {HEAVY!r} if name in sys.modules])
"""
    assert run_python(code) == "[] []"
