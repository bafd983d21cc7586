"""Nothing of this machine, and no token, is in anything that goes to the Hub."""

import base64
import getpass
import json
import os
import socket
from pathlib import Path

import pytest
from huggingface_hub import HfApi

from ram_hf import RamModel, RamProcessor, RamTaggingPipeline

from .hub_server import WRITE_TOKEN


def sent(hub):
    """All that was sent, and all that the encodings in it hold."""
    for request in hub.requests:
        yield f"{request.method} {request.path} {request.query}".encode()
        yield request.body
        for line in request.body.splitlines() if b'"content"' in request.body or b'"sample"' in request.body else ():
            content = json.loads(line)
            parts = [content.get("value", {}), *content.get("files", [])] if isinstance(content, dict) else []
            for part in parts:
                for name in {"content", "sample"} & part.keys():
                    yield base64.b64decode(part[name])


@pytest.mark.parametrize("adapters_only", [False, True])
def test_nothing_local_is_pushed(adapters_only, hub, tiny_model, tiny_processor, tmp_path, monkeypatch):
    home = tmp_path / "home" / "someone-local"
    home.mkdir(parents=True)
    for name, value in {"HOME": str(home), "USER": "someone-local", "LOGNAME": "someone-local"}.items():
        monkeypatch.setenv(name, value)
    assert getpass.getuser() == "someone-local"
    monkeypatch.setenv("HF_TOKEN", WRITE_TOKEN)
    monkeypatch.chdir(home)
    tiny_model.clip.save_pretrained(home / "clip")
    tiny_processor.save_pretrained(home / "clip")
    model = RamModel.from_clip(home / "clip", for_training=True)
    processor = RamProcessor.from_pretrained(home / "clip")
    model.save_pretrained(home / "trained")
    processor.save_pretrained(home / "trained")
    model, processor = RamModel.from_pretrained("trained"), RamProcessor.from_pretrained("trained")
    model.config.base_model_name_or_path = str(home / "clip")
    if adapters_only:
        model.save_pretrained(home / "small", adapters_only=True)
        processor.save_pretrained(home / "small")
        HfApi().create_repo("user/repo")
        HfApi().upload_folder(repo_id="user/repo", folder_path=home / "small")
    else:
        RamTaggingPipeline(model, processor).push_to_hub("user/repo")
        model.push_to_hub("user/model")
        processor.push_to_hub("user/processor")
    everything = b"\n".join(sent(hub)) + b"\n".join(hub.large_files.values())
    assert b"recover_and_match" in everything
    assert b"global_temperature" in everything
    local = [tmp_path, Path.home(), Path(__file__).parents[1], "someone-local", WRITE_TOKEN, os.getcwd()]
    host = socket.gethostname()
    for text in [*local, *([host] if len(host) > 4 and host != "localhost" else [])]:
        assert str(text).encode() not in everything, text
    for name in (b"is_local", b"local_files_only"):
        assert not any(
            name in content
            for repo in hub.repos.values()
            for path, content in repo.files().items()
            if path.endswith(".json")
        )
