"""The table of ways to load a repository by the package's presence, each cell in a fresh process."""

import json
import os
import subprocess
import sys

import pytest
from huggingface_hub import HfApi
from PIL import Image
from safetensors.torch import save_file
from transformers import pipeline

from ram_hf import RamTaggingPipeline

from .hub_server import WRITE_TOKEN

LABELS = ["dog", "red car", "tree"]
CARD = "---\nlibrary_name: transformers\npipeline_tag: zero-shot-image-classification\n---\n"
# How the package is there: what a program begins with, and its `trust_remote_code`.
PRESENCE = {
    "absent": ("import sys; sys.modules['ram_hf'] = None", "trust_remote_code=True"),
    "installed": ("", "trust_remote_code=True"),
    "imported": ("import ram_hf", ""),
    "imported, trusting": ("import ram_hf", "trust_remote_code=True"),
}
SCORES = "print(json.dumps([type(model).__module__, model(**load_file('inputs')).scores[0].tolist()]))"
TAGS = "print(json.dumps([type(tagger).__module__, tagger(image, candidate_labels=LABELS)]))"
# Lines that load, with REPO and TRUST in them, and what is printed.
WAYS = {
    "AutoModel": ("model = transformers.AutoModel.from_pretrained(REPO, TRUST)", SCORES),
    "AutoModelForZeroShotImageClassification": (
        "model = transformers.AutoModelForZeroShotImageClassification.from_pretrained(REPO, TRUST)",
        SCORES,
    ),
    "AutoProcessor": (
        "processor = transformers.AutoProcessor.from_pretrained(REPO, TRUST)",
        "print(json.dumps([type(processor).__module__, processor(labels=LABELS)['input_ids'].tolist()]))",
    ),
    "pipeline without a task": ("tagger = transformers.pipeline(model=REPO, TRUST)", TAGS),
    "pipeline of ours": ("tagger = transformers.pipeline('zero-shot-multi-label-tagging', REPO, TRUST)", TAGS),
    "pipeline of transformers": (
        "tagger = transformers.pipeline('zero-shot-image-classification', REPO, TRUST)",
        TAGS,
    ),
}


@pytest.fixture
def run(hub, tiny_model, tiny_processor, tmp_path):
    """Runs lines in a fresh process where the repository `user/repo` can be had."""
    RamTaggingPipeline(tiny_model, tiny_processor).push_to_hub("user/repo", token=WRITE_TOKEN)
    api = HfApi(token=WRITE_TOKEN)
    api.upload_file(path_or_fileobj=CARD.encode(), path_in_repo="README.md", repo_id="user/repo")
    image = Image.new("RGB", (40, 40), (200, 60, 30))
    image.save(tmp_path / "image.png")
    save_file({**tiny_processor(images=[image], labels=LABELS)}, tmp_path / "inputs")
    paths = os.pathsep.join(filter(None, [os.getcwd(), os.environ.get("PYTHONPATH")]))

    def run(lines, trust):
        lines = lines.replace("REPO", "'user/repo'").replace("TRUST", f"device_map='cpu', {trust}")
        lines = lines.replace("device_map='cpu', ", "") if "pipeline" in lines or "Processor" in lines else lines
        code = f"import json, torch\nfrom PIL import Image\nfrom safetensors.torch import load_file\n{lines}"
        return subprocess.run(
            [sys.executable, "-c", code],
            capture_output=True,
            text=True,
            timeout=300,
            check=False,
            cwd=tmp_path,
            stdin=subprocess.DEVNULL,
            env={**os.environ, "PYTHONPATH": paths},
        )

    return run


def expected(way, model, processor, tmp_path):
    image = Image.open(tmp_path / "image.png")
    if way.startswith("Auto"):
        inputs = processor(images=[image], labels=LABELS)
        return inputs["input_ids"].tolist() if way == "AutoProcessor" else model(**inputs).scores[0].tolist()
    if way == "pipeline of transformers":
        parts = {"tokenizer": processor.tokenizer, "image_processor": processor.image_processor}
        return pipeline("zero-shot-image-classification", model, **parts)(image, candidate_labels=LABELS)
    return RamTaggingPipeline(model, processor)(image, candidate_labels=LABELS)


@pytest.mark.slow
@pytest.mark.parametrize("presence", PRESENCE)
@pytest.mark.parametrize("way", WAYS)
def test_every_way_loads(way, presence, run, tiny_model, tiny_processor, tmp_path):
    beginning, trust = PRESENCE[presence]
    load, show = WAYS[way]
    preparation = f"import transformers\nLABELS = {LABELS!r}\nimage = Image.open('image.png')"
    result = run("\n".join([beginning, preparation, "torch.set_num_threads(1)", load, show]), trust)
    assert result.returncode == 0, result.stderr[-3000:]
    module, found = json.loads(result.stdout.splitlines()[-1])
    wanted = expected(way, tiny_model, tiny_processor, tmp_path)
    if way == "pipeline of transformers":
        assert module.startswith("transformers.")
        wanted, found = ({tag["label"]: tag["score"] for tag in tags} for tags in (wanted, found))
        assert found == pytest.approx(wanted, abs=1e-6)
        return
    assert module.startswith("ram_hf." if beginning == "import ram_hf" else "transformers_modules.")
    assert found == wanted


@pytest.mark.slow
@pytest.mark.parametrize("way", ["AutoModel", "AutoProcessor", "pipeline without a task"])
def test_code_of_a_repository_runs_only_when_it_is_trusted(way, run, hub, tmp_path):
    code = f"open({str(tmp_path / 'trace')!r}, 'w').close()\n".encode()
    repo = HfApi(token=WRITE_TOKEN)
    for name, content in hub.repo("user/repo").files().items():
        if name.endswith(".py"):
            changed = content.replace(b"\nimport ", b"\n" + code + b"import ", 1)
            repo.upload_file(path_or_fileobj=changed, path_in_repo=name, repo_id="user/repo")
    load = f"import transformers\n{WAYS[way][0]}"
    without = run(f"import sys; sys.modules['ram_hf'] = None\n{load}", "")
    assert without.returncode
    assert "trust_remote_code=True" in without.stderr
    assert run(f"import ram_hf\n{load}", "trust_remote_code=True").returncode == 0  # the installed classes
    assert not (tmp_path / "trace").exists()
    trusted = run(f"import sys; sys.modules['ram_hf'] = None\n{load}", "trust_remote_code=True")
    assert trusted.returncode == 0, trusted.stderr[-3000:]
    assert (tmp_path / "trace").exists()
