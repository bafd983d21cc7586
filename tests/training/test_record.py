"""What a run leaves beside its model for the card, and that it is nothing of this machine."""

import getpass
import json
import socket
from pathlib import Path

import pytest

from ram_hf.data.label_set import LabelSet
from ram_hf.model.card import make_card
from ram_hf.model.run_record import read_run
from ram_hf.training.arguments import RamTrainingArguments
from ram_hf.training.loop import train
from ram_hf.training.record import run_record


def local_words(*folders: Path) -> list[str]:
    return [str(Path.home()), str(Path.cwd()), socket.gethostname(), f"/{getpass.getuser()}/", *map(str, folders)]


def test_a_run_leaves_the_facts_of_its_card(options, tmp_path, clip_folder, corpus):
    options |= {"eval_split": "train", "eval_steps": 6, "max_steps": 12}
    train(RamTrainingArguments(**options))
    for folder in (tmp_path / "run", tmp_path / "run" / "best"):
        content = (folder / "training.json").read_text() + (folder / "evaluation.json").read_text()
        for word in local_words(tmp_path, clip_folder, corpus):
            assert word not in content
        run = read_run(folder)
        assert run.steps in ((12,) if folder.name == "run" else (6, 12))
        assert list(run.seen_labels) == options["seen_labels"]
        assert list(run.unseen_labels) == ["blue"]
        assert run.arguments["adapter_learning_rate"] == 1e-3
        assert {"model", "dataset", "output_dir", "num_workers"}.isdisjoint(run.arguments)
        assert {result.metric_name for result in run.results} >= {"ZSL mAP", "GZSL mAP", "GZSL OF1@3"}
        assert json.loads((folder / "evaluation.json").read_text())["evaluated"] == {
            "dataset": None, "config": None, "split": "train", "revision": None,
        }  # fmt: skip
        card = str(make_card("me/ram", run=run))
        assert "data that is not on the Hub, with 4 labels" in card
        for word in local_words(tmp_path, clip_folder, corpus):
            assert word not in card


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({"model": "ram-photo", "dataset": "me/street", "dataset_name": "de", "data_files": {"train": "a/*.parquet"}},
         {"model": "ram-photo", "dataset": "me/street", "dataset_name": "de", "data_files": {"train": "a/*.parquet"}}),
        ({"model": "openai/clip-vit-base-patch16", "dataset": "/data/secret", "data_files": {"train": "/data/x"}},
         {"model": "openai/clip-vit-base-patch16"}),
        ({"model": "~/clips/mine", "dataset": "data/*.parquet", "dataset_revision": "main", "eval_split": "test",
          "eval_dataset": "../secret"}, {"eval_split": "test"}),
    ],
)  # fmt: skip
def test_paths_stay_here_and_ids_of_the_hub_do_not(given, expected):
    labels = LabelSet(("dog",))
    arguments = RamTrainingArguments(
        output_dir="out", label_column="labels", seen_labels=["dog"], max_steps=3, **given
    )
    kept = run_record(arguments, labels, steps=3, processes=2)["arguments"]
    about_data = ("model", "dataset", "dataset_name", "dataset_revision", "data_files", "eval_dataset", "eval_split")
    assert {name: kept[name] for name in about_data if name in kept} == expected
