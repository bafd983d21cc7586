"""What is pushed scores the same to the bit when it is pulled, however it is stored and asked for."""

import sys

import pytest
import torch
from huggingface_hub import HfApi, constants
from PIL import Image
from transformers import AutoModel, pipeline

from ram_hf import RamModel, RamProcessor, RamTaggingPipeline
from ram_hf.model.pipeline_ram import TASK

from .hub_server import READ_TOKEN, WRITE_TOKEN

IMAGE = Image.new("RGB", (40, 30), (200, 60, 30))
LABELS = ["dog", "red car", "tree"]


def push(model, processor, tmp_path, path_in_repo="", **options):
    model.save_pretrained(tmp_path / "saved", **options)
    processor.save_pretrained(tmp_path / "saved")
    api = HfApi(token=WRITE_TOKEN)
    api.create_repo("user/repo", private=True, exist_ok=True)
    api.upload_folder(repo_id="user/repo", folder_path=tmp_path / "saved", path_in_repo=path_in_repo)


def scores(model, processor):
    with torch.no_grad():
        return model(**processor(images=[IMAGE], labels=LABELS).to(model.dtype)).scores


@pytest.mark.parametrize("load", [RamModel.from_pretrained, AutoModel.from_pretrained])
@pytest.mark.parametrize(
    ("options", "how"),
    [
        ({}, {}),
        ({"max_shard_size": "300KB"}, {}),
        ({"variant": "fp16"}, {"variant": "fp16"}),
        ({"variant": "fp16", "max_shard_size": "100KB"}, {"variant": "fp16"}),
        ({"path_in_repo": "models/ram"}, {"subfolder": "models/ram"}),
    ],
    ids=["whole", "sharded", "fp16", "fp16 sharded", "subfolder"],
)
def test_scores_are_the_same_to_the_bit(options, how, load, hub, tiny_model, tiny_processor, tmp_path):
    if "variant" in options:
        tiny_model = tiny_model.to(torch.float16)
        tiny_model.temperatures.float()
        for module in tiny_model.modules():
            if isinstance(module, torch.nn.BatchNorm2d):
                module.float()
    push(tiny_model, tiny_processor, tmp_path, **options)
    assert ("index" in str(sorted(hub.repo("user/repo").files()))) == ("max_shard_size" in options)
    how = {**how, "token": READ_TOKEN, "cache_dir": tmp_path / "cache"}
    model = load("user/repo", **how)
    of_processor = {name: value for name, value in how.items() if name != "variant"}
    processor = RamProcessor.from_pretrained("user/repo", **of_processor)
    assert model.dtype == tiny_model.dtype
    assert torch.equal(scores(model, processor), scores(tiny_model, tiny_processor))
    asked = len(hub.requests)
    model = load("user/repo", **how, local_files_only=True)
    assert len(hub.requests) == asked
    assert torch.equal(scores(model, processor), scores(tiny_model, tiny_processor))


def test_a_private_pipeline_of_a_revision(hub, tiny_model, tiny_processor, monkeypatch):
    tagger = RamTaggingPipeline(tiny_model, tiny_processor)
    expected = tagger(IMAGE, LABELS)
    tagger.push_to_hub("user/repo", private=True, token=WRITE_TOKEN)
    HfApi(token=WRITE_TOKEN).create_tag("user/repo", tag="v1")
    tiny_model.temperatures.local_temperature.data.fill_(0.5)
    other = RamProcessor(tiny_processor.image_processor, tiny_processor.tokenizer, label_template="{label}")
    RamTaggingPipeline(tiny_model, other).push_to_hub("user/repo", token=WRITE_TOKEN)
    if hasattr(
        sys.modules["transformers.pipelines"], "resolve_revision"
    ):  # older ones keep the token from the processor
        found = pipeline(TASK, model="user/repo", revision="v1", token=READ_TOKEN)
        assert found(IMAGE, LABELS) == expected
    with pytest.raises(OSError, match="user/repo"):
        pipeline(TASK, model="user/repo", revision="v1")
    monkeypatch.setenv("HF_TOKEN", READ_TOKEN)
    assert pipeline(TASK, model="user/repo", revision="v1")(IMAGE, LABELS) == expected
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    assert pipeline(TASK, model="user/repo", revision="v1")(IMAGE, LABELS) == expected


def test_an_upload_that_breaks_off_goes_on(hub, tiny_model, tiny_processor, monkeypatch):
    """In the middle of a file it is tried again; given up, what has arrived is not sent again."""
    monkeypatch.setattr("time.sleep", lambda seconds: None)  # which the client does between its attempts
    tagger = RamTaggingPipeline(tiny_model, tiny_processor)
    hub.drop("/store/", method="PUT", after=1000)
    hub.drop("/commit/", method="POST")
    with pytest.raises(Exception, match="disconnected"):
        tagger.push_to_hub("user/repo", token=WRITE_TOKEN)
    assert not hub.repo("user/repo").files()
    start = len(hub.requests)
    tagger.push_to_hub("user/repo", token=WRITE_TOKEN)
    assert not [request for request in hub.requests[start:] if request.method == "PUT"]
    assert "model.safetensors" in hub.repo("user/repo").files()
