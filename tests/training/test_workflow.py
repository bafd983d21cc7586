"""What a company with a folder of labelled pictures does: prepare, train, evaluate, each by the command line."""

import json
import re
import shlex
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.training.conftest import write_config


@pytest.mark.slow
def test_prepare_train_evaluate(server, clip_folder, tmp_path):
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

    def run(*arguments) -> str:
        done = server.run(arguments, tmp_path)
        assert done.status == 0, done.said
        return done.said

    run("prepare", "table", annotations, tmp_path / "pictures", tmp_path / "shards", "--quiet")
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
    run("train", "--config", config, "--seed", "1")
    (tmp_path / "seen.txt").write_text("red\ngreen\npicture\n")
    (tmp_path / "unseen.txt").write_text("blue\n")
    for model in (tmp_path / "run", clip_folder):  # a plain CLIP is judged training-free
        settings = ("--seen", tmp_path / "seen.txt", "--unseen", tmp_path / "unseen.txt")
        options = (*settings, "--split", "train", "--per-label", "--json", tmp_path / "report.json")
        assert "mAP" in run("evaluate", model, tmp_path / "shards", *options)
        report = json.loads((tmp_path / "report.json").read_text())
        assert report["gzsl"]["num_images"] == 24
        assert [label["num_positives"] for label in report["gzsl"]["labels"]] == [8, 8, 24, 8]


def test_errors_are_one_line(server, tmp_path):
    for arguments, status, message in (
        (("train", "--config", "nowhere.yaml"), 1, "There is no configuration file 'nowhere.yaml'"),
        (("train", "--max_step", "3"), 2, "Did you mean '--max_steps'"),
        (("evaluate", "./nowhere", tmp_path / "nothing"), 1, "nothing"),
    ):
        result = server.run(arguments, tmp_path)
        assert result.status == status
        assert result.said.splitlines()[-1].startswith("ram-hf: error: ")
        assert message in result.said
        assert "Traceback" not in result.said


@pytest.mark.parametrize("epochs", ["1", pytest.param(None, marks=pytest.mark.slow)])
def test_readme_trains_on_a_small_folder(server, tmp_path, epochs):
    """As printed, on the bundled model; the short run only sees that every command works."""
    root = Path(__file__).parents[2]
    section = (root / "README.md").read_text().split("\n### A small folder of your own\n")[1]
    commands = re.search(r"```bash\n(.*?)```", section, flags=re.DOTALL).group(1).splitlines()
    shutil.copytree(root / "examples", tmp_path / "examples")
    precisions = []
    for command in commands:
        program, *arguments = shlex.split(command)
        assert program == "ram-hf"
        if epochs is not None and arguments[0] == "train":
            arguments += ["--num_epochs", epochs, "--warmup_epochs", "0"]
        done = server.run(arguments, tmp_path, cwd=tmp_path)
        assert done.status == 0, done.said
        precisions += [float(number) for number in re.findall(r"^mAP +([\d.]+)$", done.said, flags=re.MULTILINE)]
        assert ("So few steps" in done.said) == (arguments[0] == "train" and epochs is not None)
    before, after = precisions
    if epochs is None:
        assert after > before + 20
