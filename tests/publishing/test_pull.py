"""`ram-hf pull`, and a model by its name and revision: from the Hub, and then without a network."""

import errno
import os

import pytest
import torch
from huggingface_hub import HfApi, constants
from PIL import Image

from ram_hf import RamModel, RamTaggingPipeline, cli
from ram_hf.pretrained import load_model

from ..hub_server import READ_TOKEN, WRITE_TOKEN


@pytest.fixture
def repo(hub, tiny_model, tiny_processor):
    """A repository with a tag of its first model, and another model on main."""
    tagger = RamTaggingPipeline(tiny_model, tiny_processor)
    tagger.push_to_hub("user/repo", token=WRITE_TOKEN)
    HfApi(token=WRITE_TOKEN).create_tag("user/repo", tag="v1")
    tiny_model.temperatures.local_temperature.data.fill_(0.5)
    tagger.push_to_hub("user/repo", token=WRITE_TOKEN)
    tiny_model.temperatures.local_temperature.data.fill_(2e-3)
    return hub.repo("user/repo")


def local_temperature(name, **options):
    return round(load_model(name, **options)[0].temperatures.local_temperature.item(), 4)


def test_a_revision_is_named_with_the_model(repo, tmp_path, capsys):
    assert local_temperature("user/repo") == local_temperature("user/repo@main") == 0.5
    assert local_temperature("user/repo@v1") == local_temperature("user/repo", revision="v1") == 0.002
    assert local_temperature(f"user/repo@{repo.find('v1')}") == 0.002
    with pytest.raises(ValueError, match="names a revision, and so does `revision`: 'main'"):
        load_model("user/repo@v1", revision="main")
    Image.new("RGB", (40, 40)).save(tmp_path / "image.png")
    assert cli.main(["tag", str(tmp_path / "image.png"), "--labels", "dog, cat", "--model", "user/repo@v1"]) == 0
    assert cli.main(["tag", str(tmp_path / "image.png"), "--labels", "dog, cat", "--model", "user/repo@v3"]) == 1
    assert "There is no branch, tag or commit 'v3' of 'user/repo'" in capsys.readouterr().err


def test_what_was_pulled_is_used_without_a_network(repo, hub, monkeypatch, capsys):
    repo.is_private = True
    monkeypatch.setenv("HF_TOKEN", READ_TOKEN)
    assert cli.main(["pull", "user/repo@v1"]) == 0
    assert cli.main(["pull", "user/repo", "--revision", "main"]) == 0
    assert capsys.readouterr().out.count("snapshots") == 2
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    asked = len(hub.requests)
    assert local_temperature("user/repo@v1") == 0.002
    assert local_temperature("user/repo") == 0.5
    assert len(hub.requests) == asked


def test_adapters_alone_come_with_their_clip(hub, tiny_model, tiny_processor, tmp_path, monkeypatch, capsys):
    api = HfApi(token=WRITE_TOKEN)
    tiny_model.clip.push_to_hub("user/clip", token=WRITE_TOKEN)
    commit = hub.repo("user/clip").find("main")
    model = RamModel.from_clip("user/clip", for_training=True)
    model.save_pretrained(tmp_path / "small", adapters_only=True)
    tiny_processor.save_pretrained(tmp_path / "small")
    api.create_repo("user/small")
    api.upload_folder(repo_id="user/small", folder_path=tmp_path / "small")
    api.upload_file(path_or_fileobj=b"later", path_in_repo="model.safetensors", repo_id="user/clip")
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "fresh"))
    assert cli.main(["pull", "user/small"]) == 0
    assert capsys.readouterr().out.splitlines()[1].endswith(commit)
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    loaded, _ = load_model("user/small")
    assert all(torch.equal(tensor, model.state_dict()[name]) for name, tensor in loaded.state_dict().items())


def test_pickles_are_not_pulled(repo, hub, capsys):
    api = HfApi(token=WRITE_TOKEN)
    api.upload_file(path_or_fileobj=b"pickle", path_in_repo="pytorch_model.bin", repo_id="user/repo")
    assert cli.main(["pull", "user/repo"]) == 0
    assert not [request for request in hub.requests if request.method == "GET" and request.path.endswith(".bin")]
    api.delete_file("model.safetensors", "user/repo")
    assert cli.main(["pull", "user/repo"]) == 1
    assert "holds no weights as safetensors; pickles are never opened" in capsys.readouterr().err


def fetched(requests):
    return [each for each in requests if each.method == "GET" and ("/resolve/" in each.path or "/store/" in each.path)]


def test_a_download_that_breaks_off_goes_on(repo, hub, monkeypatch, capsys):
    """In the middle of a file while it runs, and file by file when it is run again."""
    monkeypatch.setattr("time.sleep", lambda seconds: None)  # which the client does between its attempts
    monkeypatch.setattr(constants, "DOWNLOAD_CHUNK_SIZE", 1000)
    hub.drop("/store/", method="GET", after=5000)
    assert cli.main(["pull", "user/repo@v1"]) == 0
    assert "bytes=5000-" in [each.headers.get("range") for each in hub.requests]
    monkeypatch.setattr(constants, "HF_HUB_CACHE", constants.HF_HUB_CACHE + "-other")
    hub.drop("/store/", method="GET", times=100)
    start = len(hub.requests)
    assert cli.main(["pull", "user/repo"]) == 1
    told = capsys.readouterr().err.splitlines()[-1]
    assert told.startswith("ram-hf: error: The connection to the Hub broke off")
    assert told.endswith("Run the same again: what has arrived whole is kept.")
    there = {each.path for each in fetched(hub.requests[start:]) if "/resolve/" in each.path}
    hub.failures.clear()
    start = len(hub.requests)
    assert cli.main(["pull", "user/repo"]) == 0
    again = [each.path for each in fetched(hub.requests[start:]) if "/resolve/" in each.path]
    assert there
    assert not there & set(again)
    assert local_temperature("user/repo") == 0.5


def test_a_full_disk_is_named_with_what_is_kept(repo, capsys, monkeypatch):
    def fill(*_, **__):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr("huggingface_hub.snapshot_download", fill)
    assert cli.main(["pull", "user/repo"]) == 1
    told = capsys.readouterr().err
    assert f"Cannot write {constants.HF_HUB_CACHE!r}: No space left on device. Make room" in told
    assert "what has arrived is kept" in told


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("ram-photo", "'ram-photo' comes with the package"),
        ("https://huggingface.co/user/repo", "Did you mean 'user/repo'?"),
        ("user/repo/", "Did you mean 'user/repo'?"),
        ("user/rep", "The Hub has no model 'user/rep', or none that you may see. Check the name"),
    ],
)
def test_what_cannot_be_pulled_is_told(repo, capsys, name, message):
    assert cli.main(["pull", name]) == 1
    assert message in capsys.readouterr().err
