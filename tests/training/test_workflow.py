"""What a company with a folder of labelled pictures does: prepare, train, evaluate, each by the command line."""

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.training.conftest import write_config


def run_cli(*arguments):
    command = [sys.executable, "-m", "ram_hf", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=200, check=False)


@pytest.mark.slow
def test_prepare_train_evaluate(clip_folder, tmp_path):
    rng = np.random.default_rng(0)
    (tmp_path / "pictures").mkdir()
    rows = []
    for index in range(24):
        colour = ("red", "green", "blue")[index % 3]
        pixels = rng.integers(0, 60, (20, 30, 3), dtype=np.uint8)
        pixels[..., index % 3] += 180
        Image.fromarray(pixels).save(tmp_path / "pictures" / f"{index}.png")
        rows.append({"path": f"{index}.png", "labels": [colour, "picture"]})
    annotations = tmp_path / "rows.jsonl"
    annotations.write_text("".join(json.dumps(row) + "\n" for row in rows))

    prepared = run_cli("prepare", "table", annotations, tmp_path / "pictures", tmp_path / "shards", "--quiet")
    assert prepared.returncode == 0, prepared.stderr
    config = write_config(
        {
            "model": str(clip_folder),
            "dataset": str(tmp_path / "shards"),
            "output_dir": str(tmp_path / "run"),
            "label_column": "labels",
            "seen_labels": str(tmp_path / "shards" / "labels.txt"),
            "num_epochs": 1,
            "warmup_steps": 1,
            "per_device_batch_size": 8,
            "report_to": "none",
        },
        tmp_path / "config.yaml",
    )
    trained = run_cli("train", "--config", config, "--seed", "1")
    assert trained.returncode == 0, trained.stderr
    (tmp_path / "seen.txt").write_text("red\ngreen\npicture\n")
    (tmp_path / "unseen.txt").write_text("blue\n")
    for model in (tmp_path / "run", clip_folder):  # a plain CLIP is judged training-free
        evaluated = run_cli(
            *("evaluate", model, tmp_path / "shards", "--split", "train", "--per-label"),
            *(
                "--seen",
                tmp_path / "seen.txt",
                "--unseen",
                tmp_path / "unseen.txt",
                "--json",
                tmp_path / "report.json",
            ),
        )
        assert evaluated.returncode == 0, evaluated.stderr
        assert "mAP" in evaluated.stdout
        report = json.loads((tmp_path / "report.json").read_text())
        assert report["gzsl"]["num_images"] == 24
        assert [label["num_positives"] for label in report["gzsl"]["labels"]] == [8, 8, 24, 8]


def test_errors_are_one_line(tmp_path):
    for arguments, status, message in (
        (("train", "--config", "nowhere.yaml"), 1, "There is no configuration file 'nowhere.yaml'"),
        (("train", "--max_step", "3"), 2, "Did you mean '--max_steps'"),
        (("evaluate", "./nowhere", tmp_path / "nothing"), 1, "nothing"),
    ):
        result = run_cli(*arguments)
        assert result.returncode == status
        assert result.stderr.splitlines()[-1].startswith("ram-hf: error: ")
        assert message in result.stderr
        assert "Traceback" not in result.stderr


@pytest.mark.parametrize("epochs", ["1", pytest.param(None, marks=pytest.mark.slow)])
def test_readme_trains_on_a_small_folder(tmp_path, epochs):
    """As printed, on the bundled model; the short run only sees that every command works."""
    root = Path(__file__).parents[2]
    section = (root / "README.md").read_text().split("\n### A small folder of your own\n")[1]
    commands = re.search(r"```bash\n(.*?)```", section, flags=re.DOTALL).group(1).splitlines()
    shutil.copytree(root / "examples", tmp_path / "examples")
    environment = {**os.environ, "PYTHONPATH": str(root), "HF_HOME": str(tmp_path / "cache"), "OMP_NUM_THREADS": "1"}
    precisions = []
    for command in commands:
        program, *arguments = shlex.split(command)
        assert program == "ram-hf"
        if epochs is not None and arguments[0] == "train":
            arguments += ["--num_epochs", epochs, "--warmup_epochs", "0"]
        done = subprocess.run(
            [sys.executable, "-m", "ram_hf", *arguments],
            **{"cwd": tmp_path, "env": environment, "capture_output": True, "text": True, "check": False},
        )
        assert done.returncode == 0, done.stderr
        precisions += [float(number) for number in re.findall(r"^mAP +([\d.]+)$", done.stdout, flags=re.MULTILINE)]
        assert ("So few steps" in done.stderr) == (arguments[0] == "train" and epochs is not None)
    before, after = precisions
    if epochs is None:
        assert after > before + 20
