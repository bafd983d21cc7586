"""What several processes share: the rows of an epoch and the loss over all of them."""

import json
import os
import subprocess
import sys

import pytest
import torch

from ram_hf.model.losses import multi_matching_loss
from tests.training.conftest import ROOT, write_config

SCRIPT = """
import json, sys
from accelerate import Accelerator
from accelerate.utils import gather_object
import torch
from ram_hf.data.sources import open_dataset
from ram_hf.data.streams import RowStream
from ram_hf.training.gathered_loss import gathered_label_loss

dataset, column, out = sys.argv[1:]
accelerator = Accelerator(cpu=True)
rank, world_size = accelerator.process_index, accelerator.num_processes
rows = open_dataset(dataset, split="train", streaming=True).select_columns([column])
stream = RowStream(rows, seed=3, shuffle_buffer=16, rank=rank, world_size=world_size)
seen = [[], []]
for item in stream.items():
    if item.epoch == 2:
        break
    seen[item.epoch].append(item.row[column])

torch.manual_seed(0)
logits, labels = torch.randn(4, 5) * 3, torch.randint(0, 2, (4, 5))
mine = slice(rank * 4 // world_size, (rank + 1) * 4 // world_size)
own = logits[mine].clone().requires_grad_()
loss = gathered_label_loss(own, labels[mine], label_weights=torch.arange(1.0, 6.0))
loss.backward()
found = gather_object([{"seen": seen, "loss": loss.item(), "gradient": own.grad.tolist()}])
if accelerator.is_main_process:
    json.dump(found, open(out, "w"))
accelerator.end_training()
"""


def run_script(tmp_path, dataset, column, processes) -> list[dict]:
    (tmp_path / "script.py").write_text(SCRIPT)
    out = tmp_path / f"{processes}.json"
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", str(processes)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    result = subprocess.run(
        [*command, str(tmp_path / "script.py"), str(dataset), column, str(out)],
        env=environment,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert result.returncode == 0, result.stderr
    return json.loads(out.read_text())


def check_rows(found, expected):
    for epoch in (0, 1):
        by_process = [sorted(process["seen"][epoch]) for process in found]
        assert sorted(row for rows in by_process for row in rows) == sorted(expected)
    orders = [process["seen"] for process in found]
    assert all(first != second for first, second in orders)  # shuffled anew


@pytest.mark.slow
def test_two_processes_share_rows_and_loss(corpus, tmp_path):
    found = run_script(tmp_path, corpus, "id", 2)
    check_rows(found, range(37))
    torch.manual_seed(0)
    logits, labels = (torch.randn(4, 5) * 3).requires_grad_(), torch.randint(0, 2, (4, 5))
    loss = multi_matching_loss(logits, labels, label_weights=torch.arange(1.0, 6.0))
    loss.backward()
    gradients = torch.cat([torch.tensor(process["gradient"]) for process in found])
    torch.testing.assert_close(gradients / 2, logits.grad)  # DDP takes the mean over the two
    assert [process["loss"] for process in found] == pytest.approx([loss.item()] * 2)


@pytest.mark.slow
@pytest.mark.shared
@pytest.mark.parametrize("processes", [1, 2])
def test_real_pictures_come_exactly_once_an_epoch(shared_dir, tmp_path, processes):
    import pyarrow.parquet

    path = shared_dir / "coco128" / "train.parquet"
    names = pyarrow.parquet.read_table(path, columns=["file_name"])["file_name"].to_pylist()
    assert len(set(names)) == 128
    check_rows(run_script(tmp_path, path, "file_name", processes), names)


def launch(options, folder, accelerate) -> tuple[int, str]:
    """`accelerate launch` on the CPU, with gloo; returns the exit status and what was said."""
    config = write_config(options, folder / "launched.yaml")
    launcher = [sys.executable, "-m", "accelerate.commands.launch"]
    launcher += ["--config_file", str(ROOT / "configs" / "accelerate" / accelerate), "--main_process_port", "0"]
    command = [*launcher, "-m", "ram_hf.train", "--config", str(config)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300, check=False)
    return done.returncode, done.stdout + done.stderr


@pytest.mark.slow
@pytest.mark.parametrize(("first", "second"), [(2, 1), (1, 2)])
def test_another_number_of_processes_is_refused_and_the_same_goes_on(server, options, tmp_path, first, second):
    def run(processes, **changes) -> tuple[int, str]:
        if processes == 2:
            return launch({**options, **changes}, tmp_path, "cpu.yaml")
        run = server.run(["train", "--config", write_config({**options, **changes}, tmp_path / "run.yaml")], folder)
        return run.status, run.said

    folder = tmp_path / "run"
    status, said = run(first, max_steps=3)
    assert status == 0, said[-3000:]
    before = {file: file.read_bytes() for file in folder.rglob("*") if file.is_file()}
    status, said = run(second, max_steps=6)
    assert status != 0
    assert f"was written by {first} process(es), not {second}" in said
    assert f"`accelerate launch --num_processes {first}`" in said
    assert {file: file.read_bytes() for file in folder.rglob("*") if file.is_file()} == before
    status, said = run(first, max_steps=6)
    assert status == 0, said[-3000:]
    assert "Going on from" in said
    assert f"on {first} process(es)" in said
    rows = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    assert [row["step"] for row in rows] == [1, 2, 3, 4, 5, 6]


@pytest.mark.slow
@pytest.mark.shared
def test_accelerate_launch_trains_on_real_pictures(server, shared_dir, options, tmp_path):
    """`accelerate launch` with one process and with two: the loss falls, and GZSL numbers are there."""
    parquet = shared_dir / "coco128" / "train.parquet"
    options |= {
        "dataset": str(parquet),
        "seen_labels": ["person", "car", "chair", "cup", "dining table", "bowl", "bottle", "truck", "book"],
        "unseen_labels": ["dog", "cat", "umbrella", "bicycle"],
        "max_steps": 40,
        "per_device_batch_size": 8,
        "save_steps": 40,
        "log_steps": 5,
        "eval_split": "train",
        "boxes_column": "boxes",
    }
    for processes, config in ((1, "single.yaml"), (2, "cpu.yaml")):
        options["output_dir"] = str(tmp_path / f"run{processes}")
        status, said = launch(options, tmp_path, config)
        assert status == 0, said[-3000:]
        assert f"on {processes} process(es)" in said
        rows = [json.loads(line) for line in (tmp_path / f"run{processes}" / "metrics.jsonl").read_text().splitlines()]
        losses = [row["loss"] for row in rows if "loss" in row]
        assert min(losses[-2:]) < losses[0]
        assert 0 < rows[-1]["gzsl/mAP"] <= 1
        assert 0 <= rows[-1]["gzsl/pointing/transport_plan"] <= 1
        # The number that is told is that of the model that is left behind.
        labels = tmp_path / "seen.txt", tmp_path / "unseen.txt"
        for file, key in zip(labels, ("seen_labels", "unseen_labels"), strict=True):
            file.write_text("\n".join(options[key]))
        words = ["evaluate", options["output_dir"], parquet, "--split", "train", "--seen", labels[0]]
        done = server.run([*words, "--unseen", labels[1], "--json", tmp_path / "report.json"], tmp_path)
        assert done.status == 0, done.said
        report = json.loads((tmp_path / "report.json").read_text())
        assert report["gzsl"]["mAP"] == rows[-1]["gzsl/mAP"]
