"""The table of ways to load a repository by the package's presence, each cell in a fork that has loaded nothing."""

import itertools
import json
import os
import subprocess
import sys
from typing import NamedTuple

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

# Imports, and then runs each of the programs in a fork of its own, with an empty cache: what one loads, no other has.
FORKS = """
import json, os, shutil, sys, traceback
import torch, transformers
from PIL import Image
from safetensors.torch import load_file
from transformers import AutoModel, AutoProcessor, CLIPModel, CLIPProcessor, pipeline  # which takes longest

for number, program in enumerate(sys.argv[1:]):
    shutil.rmtree(os.environ["HF_HOME"], ignore_errors=True)
    sys.stdout.flush()
    if pid := os.fork():
        status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
        open(f"{number}.status", "w").write(str(status))
        continue
    os.environ["TRACE"] = f"{number}.trace"
    for descriptor, name in ((1, "out"), (2, "err")):
        os.dup2(os.open(f"{number}.{name}", os.O_WRONLY | os.O_CREAT), descriptor)
    status = 0
    try:
        exec(program)
    except BaseException:
        traceback.print_exc()
        status = 1
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status)
"""


class Run(NamedTuple):
    """What came of a program; `left_trace`: whether changed code of the repository has run."""

    status: int
    out: str
    err: str
    left_trace: bool


@pytest.fixture
def run_each(hub, tiny_model, tiny_processor, tmp_path):
    """Runs programs after a beginning, each on its own, where the repository `user/repo` can be had."""
    RamTaggingPipeline(tiny_model, tiny_processor).push_to_hub("user/repo", token=WRITE_TOKEN)
    api = HfApi(token=WRITE_TOKEN)
    api.upload_file(path_or_fileobj=CARD.encode(), path_in_repo="README.md", repo_id="user/repo")
    image = Image.new("RGB", (40, 40), (200, 60, 30))
    image.save(tmp_path / "image.png")
    save_file({**tiny_processor(images=[image], labels=LABELS)}, tmp_path / "inputs")
    paths = os.pathsep.join(filter(None, [os.getcwd(), os.environ.get("PYTHONPATH")]))
    numbers = itertools.count()

    def run_each(beginning, trust, programs) -> list[Run]:
        folder = tmp_path / f"run{next(numbers)}"
        folder.mkdir()
        for name in ("image.png", "inputs"):
            (folder / name).symlink_to(tmp_path / name)
        done = subprocess.run(
            [sys.executable, "-c", f"{beginning}\n{FORKS}", *(with_trust(program, trust) for program in programs)],
            capture_output=True,
            text=True,
            timeout=300,
            check=False,
            cwd=folder,
            stdin=subprocess.DEVNULL,
            env={**os.environ, "PYTHONPATH": paths},
        )
        assert done.returncode == 0, done.stderr[-3000:]
        return [
            Run(
                int((folder / f"{number}.status").read_text()),
                *((folder / f"{number}.{name}").read_text() for name in ("out", "err")),
                (folder / f"{number}.trace").exists(),
            )
            for number in range(len(programs))
        ]

    return run_each


def with_trust(program: str, trust: str) -> str:
    takes_device = "pipeline" not in program and "Processor" not in program
    options = f"device_map='cpu', {trust}" if takes_device else trust
    return program.replace("REPO", "'user/repo'").replace("TRUST", options)


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
def test_every_way_loads(presence, run_each, tiny_model, tiny_processor, tmp_path):
    beginning, trust = PRESENCE[presence]
    preparation = f"torch.set_num_threads(1)\nLABELS = {LABELS!r}\nimage = Image.open('image.png')"
    programs = ["\n".join([preparation, load, show]) for load, show in WAYS.values()]
    for way, result in zip(WAYS, run_each(beginning, trust, programs), strict=True):
        assert result.status == 0, (way, result.err[-3000:])
        module, found = json.loads(result.out.splitlines()[-1])
        wanted = expected(way, tiny_model, tiny_processor, tmp_path)
        if way == "pipeline of transformers":
            assert module.startswith("transformers.")
            wanted, found = ({tag["label"]: tag["score"] for tag in tags} for tags in (wanted, found))
            assert found == pytest.approx(wanted, abs=1e-6)
            continue
        assert module.startswith("ram_hf." if beginning == "import ram_hf" else "transformers_modules."), way
        assert found == wanted, way


@pytest.mark.slow
def test_code_of_a_repository_runs_only_when_it_is_trusted(run_each, hub):
    repo = HfApi(token=WRITE_TOKEN)
    for name, content in hub.repo("user/repo").files().items():
        if name.endswith(".py"):
            code = b"import os\nopen(os.environ['TRACE'], 'w').close()\n"
            changed = content.replace(b"\nimport ", b"\n" + code + b"import ", 1)
            repo.upload_file(path_or_fileobj=changed, path_in_repo=name, repo_id="user/repo")
    loads = [WAYS[way][0] for way in ("AutoModel", "AutoProcessor", "pipeline without a task")]
    absent = PRESENCE["absent"][0]
    for without in run_each(absent, "", loads):
        assert without.status
        assert "trust_remote_code=True" in without.err
        assert not without.left_trace
    for installed in run_each("import ram_hf", "trust_remote_code=True", loads):  # the installed classes
        assert installed.status == 0, installed.err[-3000:]
        assert not installed.left_trace
    for trusted in run_each(absent, "trust_remote_code=True", loads):
        assert trusted.status == 0, trusted.err[-3000:]
        assert trusted.left_trace
