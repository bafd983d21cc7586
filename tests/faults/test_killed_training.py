"""Training killed at random moments and started again ends in the same weights as if it had never stopped."""

import json
import random
import shutil

import pytest
import torch
from safetensors.torch import load_file

from ram_hf.training.checkpoints import find_newest, load_checkpoint
from tests.training.conftest import (  # noqa: F401  (fixtures)
    clip_folder,
    corpus,
    corpus_rows,
    options,
    write_config,
)

pytestmark = pytest.mark.slow
NUM_KILLS, KILLS_OF_A_RUN, SEED = 20, 4, 7


def test_killed_and_started_again_is_bit_identical(server, options, tmp_path):  # noqa: F811
    folder = tmp_path / "run"
    options |= {"eval_split": "train", "eval_steps": 6, "keep_checkpoints": 1}
    argv = ["train", "--config", write_config(options, tmp_path / "run.yaml")]
    undisturbed = server.run(argv, folder)
    assert undisturbed.status == 0, undisturbed.said
    expected = {name: load_file(folder / name / "model.safetensors") for name in (".", "best")}
    names = files_of(folder)

    moments = random.Random(SEED)
    killed = 0
    while killed < NUM_KILLS:
        shutil.rmtree(folder)
        story = []
        for number in range(KILLS_OF_A_RUN):
            by_time = moments.random() < 0.3
            if by_time:
                how = {"kill_after": moments.uniform(0, undisturbed.seconds)}
            else:
                how = {"kill_at": moments.randrange(1, undisturbed.changes // (1 + number) + 1)}
            run = server.run(argv, folder, **how)
            story.append((how, run.status))
            assert run.status in (0, -9), (story, run.said)
            killed += run.status == -9
            if newest := find_newest(folder / "checkpoints"):
                load_checkpoint(newest)
        print(story)
        last = server.run(argv, folder)
        assert last.status == 0, (story, last.said)
        for name, weights in expected.items():
            found = load_file(folder / name / "model.safetensors")
            assert found.keys() == weights.keys()
            assert all(torch.equal(found[key], weights[key]) for key in weights), (name, story)
        logged = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
        assert [row["step"] for row in logged if "loss" in row] == list(range(1, 13)), story
        assert files_of(folder) == names, story


def files_of(folder) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*")}
