"""A folder as `ram-hf train` leaves it, with all that a machine could betray."""

import json
from pathlib import Path

import pytest

from ram_hf import RamTaggingPipeline
from tests.hub_server import WRITE_TOKEN


@pytest.fixture
def trained(tmp_path, tiny_model, tiny_processor) -> Path:
    folder = tmp_path / "runs" / "street"
    RamTaggingPipeline(tiny_model, tiny_processor).save_pretrained(folder)
    config = json.loads((folder / "config.json").read_text())
    config["base_model_name_or_path"] = str(tmp_path / "clips" / "mine")  # as older versions wrote it
    config["clip_config"]["_name_or_path"] = str(tmp_path)
    (folder / "config.json").write_text(json.dumps(config))
    record = {
        "arguments": {"model": "user/clip", "dataset": "user/street", "max_steps": 9, "adapter_learning_rate": 1e-3},
        "seen_labels": ["dog", "red car"],
        "unseen_labels": ["tree"],
        "steps": 9,
    }
    (folder / "training.json").write_text(json.dumps(record))
    labels = [{"name": "dog", "num_positives": 2, "average_precision": 0.25}]
    report = {
        "evaluated": {"dataset": "user/street", "config": None, "split": "test", "revision": None},
        "plain": {"num_images": 8, "mAP": 0.25, "OF1@3": 0.5, "pointing": {}, "labels": labels},
    }
    (folder / "report.json").write_text(json.dumps(report))
    (folder / "NOTICE").write_text("Drawn by somebody.\n")
    for name in ("checkpoints/step-00000009/state.pt", "logs/events", "metrics.jsonl", ".training.lock", "notes.txt"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(str(tmp_path))
    return folder


@pytest.fixture
def logged_in(hub, monkeypatch):
    monkeypatch.setenv("HF_TOKEN", WRITE_TOKEN)
    return hub
