"""A worker that the system kills: the run goes on, or ends with a clear error; nothing is lost."""

import json
import os
import re
import subprocess
import sys
import time

import psutil
import pytest
import torch
import yaml
from safetensors.torch import load_file

from tests.conftest import LABELS
from tests.fork_server import ROOT
from tests.pretraining.test_scene_clip import OPTIONS, SIZES
from tests.scene_source import write_bare_source
from tests.tagging.hostile import save_photographs

pytestmark = pytest.mark.slow


def start(*words) -> subprocess.Popen:
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "ACCELERATE_USE_CPU": "1", "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-m", "ram_hf", *map(str, words)]
    return subprocess.Popen(command, env=environment, cwd=ROOT, stderr=subprocess.PIPE, text=True)


def lines_of(file) -> int:
    return file.read_bytes().count(b"\n") if file.exists() else 0


def is_called(process: psutil.Process, name: str) -> bool:
    try:
        return name in " ".join(process.cmdline())
    except psutil.Error:  # it has just been killed
        return False


def kill_workers(process, file, most: int, *, called: str) -> int:
    """Kill a worker whenever the file has grown."""
    seen, killed, deadline = 0, 0, time.monotonic() + 120
    while killed < most and process.poll() is None and time.monotonic() < deadline:
        workers = [child for child in psutil.Process(process.pid).children(True) if is_called(child, called)]
        if workers and lines_of(file) > seen:
            seen = lines_of(file)
            workers[killed % len(workers)].kill()
            killed += 1
        time.sleep(0.005)
    return killed


def test_tagging_goes_on_without_its_workers(model_folder, tmp_path):
    paths = save_photographs(tmp_path / "images", 240, size=(40, 30))
    output = tmp_path / "tags.jsonl"
    words = ["--labels", ",".join(LABELS), "--model", model_folder, "--batch-size", 4, "--workers", 2]
    process = start("tag", tmp_path / "images", *words, "--output", output)
    killed = kill_workers(process, output, 3, called="spawn_main")
    errors = process.communicate(timeout=120)[1]
    assert process.returncode == 0, errors
    assert killed == 3
    assert "240 pictures tagged, 0 failed" in errors
    assert [json.loads(line)["path"] for line in output.read_text().splitlines()] == [str(path) for path in paths]


def test_a_pretraining_without_its_worker_says_so_and_goes_on(server, tmp_path):
    """A worker of PyTorch's loader."""
    write_bare_source(tmp_path / "source")
    options = {
        **OPTIONS,
        "num_workers": 1,
        "batch_size": 12,
        "save_steps": 5,
        "sizes": SIZES,
        "source": str(tmp_path / "source"),
    }
    options |= {"stages": [{"steps": 60, "image_size": 32}], "output_dir": ""}
    (tmp_path / "clip.yaml").write_text(yaml.safe_dump(options))
    words = ["pretrain", "clip-on-scenes", "--config", tmp_path / "clip.yaml", "--output_dir"]
    process = start(*words, tmp_path / "run")
    killed = kill_workers(process, tmp_path / "run" / "metrics.jsonl", 1, called="ram_hf")
    errors = process.communicate(timeout=120)[1]
    assert killed == 1, errors
    assert process.returncode == 1, errors
    assert re.search("ram-hf: error: (A )?DataLoader worker .*(killed|exited)", errors, re.MULTILINE), errors
    for folder in ("run", "whole"):
        done = server.run([*words, tmp_path / folder], tmp_path)
        assert done.status == 0, done.said
    found, whole = (load_file(tmp_path / folder / "model.safetensors") for folder in ("run", "whole"))
    assert all(torch.equal(found[name], whole[name]) for name in whole)
