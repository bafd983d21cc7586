"""Weights as they come from a folder or the Hub: no pickle is opened, and nothing stale is loaded."""

import pickle
from pathlib import Path

import pytest
import torch
from huggingface_hub import HfApi
from transformers import pipeline

from ram_hf import RamModel
from ram_hf.model.loaded_weights import PickleRefusedError
from ram_hf.model.pipeline_ram import TASK
from ram_hf.pretrained import load_model

from ..hub_server import WRITE_TOKEN


class Bomb:
    """What leaves a file behind when a pickle of it is opened."""

    def __init__(self, trace: Path) -> None:
        self.trace = trace

    def __reduce__(self):
        return Path.touch, (self.trace,)


@pytest.fixture
def bomb(tmp_path, monkeypatch):
    """Pickled bytes, and a check that nobody opened them."""

    def refuse(*_, **__):
        pytest.fail("a pickle is opened")

    content = pickle.dumps(Bomb(tmp_path / "trace"))
    for opener in ("load", "loads", "Unpickler"):
        monkeypatch.setattr(pickle, opener, refuse)
    monkeypatch.setattr(torch, "load", refuse)
    yield content
    assert not (tmp_path / "trace").exists()


def put(where, model, processor, content, tmp_path, *, weights):
    """A folder, or a repository made of it, with pickles beside its weights or in their place."""
    folder = tmp_path / "folder"
    model.save_pretrained(folder)
    processor.save_pretrained(folder)
    for name in ("pytorch_model.bin", "training_args.bin", "optimizer.pt", "model.pkl"):
        (folder / name).write_bytes(content)
    if not weights:
        (folder / "model.safetensors").unlink()
    if where == "folder":
        return str(folder)
    HfApi(token=WRITE_TOKEN).create_repo("user/repo")
    HfApi(token=WRITE_TOKEN).upload_folder(repo_id="user/repo", folder_path=folder)
    return "user/repo"


@pytest.mark.parametrize("where", ["folder", "hub"])
@pytest.mark.parametrize("kind", ["ram", "clip"])
def test_pickles_alone_are_refused_with_the_reason(where, kind, hub, tiny_model, tiny_processor, bomb, tmp_path):
    model = tiny_model if kind == "ram" else tiny_model.clip
    name = put(where, model, tiny_processor, bomb, tmp_path, weights=False)
    load = RamModel.from_pretrained if kind == "ram" else RamModel.from_clip
    for attempt in (load, load_model, lambda name: pipeline(TASK, model=name)):
        with pytest.raises(PickleRefusedError, match=r"holds no weights but pickles\. .*runs the code in it"):
            attempt(name)
    assert not [request for request in hub.requests if request.method == "GET" and ".bin" in request.path]


@pytest.mark.parametrize("where", ["folder", "hub"])
def test_pickles_beside_weights_are_left_alone(where, hub, tiny_model, tiny_processor, bomb, tmp_path):
    name = put(where, tiny_model, tiny_processor, bomb, tmp_path, weights=True)
    load_model(name)
    pipeline(TASK, model=name)
    with pytest.raises(PickleRefusedError, match="`use_safetensors=False` asks for pickles"):
        RamModel.from_pretrained(name, use_safetensors=False)
    pickles = (".bin", ".pt", ".pkl")
    assert not [request for request in hub.requests if request.method == "GET" and request.path.endswith(pickles)]


def test_a_folder_without_any_weights_is_told_as_such(tiny_model, tmp_path):
    tiny_model.config.save_pretrained(tmp_path)
    with pytest.raises(OSError, match=r"model\.safetensors"):
        RamModel.from_pretrained(tmp_path)


@pytest.mark.parametrize("variant", [None, "fp16"])
@pytest.mark.parametrize("sizes", [("50GB", "300KB"), ("300KB", "50GB"), ("300KB", "200KB")])
def test_what_was_saved_last_is_what_is_loaded(sizes, variant, tiny_model, tmp_path):
    for step, size in enumerate(sizes):
        tiny_model.temperatures.local_temperature.data.fill_(0.25 * (step + 1))
        tiny_model.save_pretrained(tmp_path, max_shard_size=size, variant=variant)
    assert RamModel.from_pretrained(tmp_path, variant=variant).temperatures.local_temperature.item() == 0.5
