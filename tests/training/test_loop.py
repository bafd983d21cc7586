"""Whole runs, most of them in processes of their own, as a user starts them."""

import fcntl
import json
import signal
import time
from pathlib import Path

import datasets
import psutil
import pytest
import torch
from accelerate.utils import DistributedType
from safetensors.torch import load_file

from ram_hf import RamModel, RamProcessor
from ram_hf.atomic import lock
from ram_hf.data.sources import DatasetSpec
from ram_hf.evaluation.by_name import evaluate
from ram_hf.training.arguments import RamTrainingArguments
from ram_hf.training.checkpoints import find_newest, load_checkpoint
from ram_hf.training.loop import train
from ram_hf.training.optimization import make_optimizers
from tests.training.conftest import start_training, write_config, write_shards


def logged(folder) -> list[dict]:
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]


def logged_steps(folder) -> list[int]:
    try:
        return [row["step"] for row in logged(folder) if "loss" in row]
    except (FileNotFoundError, ValueError):
        return []


def kill_at(config, folder, step: int, *, processes: int = 1, number=signal.SIGKILL) -> tuple[int, str]:
    """Send a signal to every process of a run as soon as it has logged this step."""
    process = start_training(config, processes=processes)
    deadline = time.monotonic() + 200
    while max(logged_steps(folder), default=0) < step:
        assert process.poll() is None, process.communicate()[0]
        assert time.monotonic() < deadline
        time.sleep(0.002)
    # torchrun gives its workers sessions of their own: each process is told by itself.
    for running in [*psutil.Process(process.pid).children(recursive=True), psutil.Process(process.pid)]:
        running.send_signal(number)
    output, _ = process.communicate(timeout=120)
    return process.returncode, output


def run_in_two(config) -> None:
    process = start_training(config, processes=2)
    output, _ = process.communicate(timeout=300)
    assert process.returncode == 0, output


@pytest.fixture(scope="module")
def unbroken(tmp_path_factory):
    """Final weights of runs that were never interrupted, by what distinguishes them."""
    return {}


def run_alone(server, config) -> str:
    """A run of one process to its end; returns what it said."""
    run = server.run(["train", "--config", config], config.parent)
    assert run.status == 0, run.said
    return run.said


def final_weights(server, options, folder, unbroken, key, **overrides):
    if key not in unbroken:
        config = write_config({**options, "output_dir": str(folder), **overrides}, folder.with_suffix(".yaml"))
        if key[0] == 1:
            run_alone(server, config)
        else:
            run_in_two(config)
        unbroken[key] = load_file(folder / "model.safetensors")
    return unbroken[key]


def test_a_run_trains_logs_evaluates_and_saves(options):
    report = train(
        RamTrainingArguments(
            **{
                **options,
                "max_steps": 60,
                "schedule_steps": 100,
                "eval_split": "train",
                "eval_steps": 30,
                "log_steps": 10,
            }
        )
    )
    folder = options["output_dir"]
    rows = logged(Path(folder))
    losses = [row["loss"] for row in rows if "loss" in row]
    assert [row["step"] for row in rows if "loss" in row] == [10, 20, 30, 40, 50, 60]
    assert losses[-1] < losses[0] - 0.3
    assert {"learning_rate/adapters", "learning_rate/tokens", "images_per_second"} <= set(rows[0])
    assert [row["step"] for row in rows if "gzsl/mAP" in row] == [30, 60]
    assert set(report.settings) == {"zsl", "gzsl"}
    model, processor = RamModel.from_pretrained(folder), RamProcessor.from_pretrained(folder)
    assert model.config.base_model_name_or_path is None  # a path of this machine tells nobody else anything
    with torch.no_grad():
        scores = model(**processor(images=torch.zeros(3, 20, 20), labels=["red", "blue"])).scores
    assert scores.shape == (1, 2)
    assert RamModel.from_pretrained(f"{folder}/best").config.ladder_tokens == 8
    assert find_newest(f"{folder}/checkpoints").name == "step-00000060"


@pytest.mark.slow
@pytest.mark.parametrize("streaming", [True, False], ids=["streamed", "map-style"])
@pytest.mark.parametrize("step", [4, 8])
def test_killed_and_resumed_is_bit_identical(server, options, tmp_path, unbroken, streaming, step):
    expected = final_weights(server, options, tmp_path / "whole", unbroken, (1, streaming), streaming=streaming)
    config = write_config({**options, "streaming": streaming}, tmp_path / "run.yaml")
    folder = tmp_path / "run"
    kill_at(config, folder, step)
    assert not (folder / "model.safetensors").exists()
    done = load_checkpoint(find_newest(folder / "checkpoints")).step
    assert done % 3 == 0
    assert done < 12
    assert "Going on from" in run_alone(server, config)
    actual = load_file(folder / "model.safetensors")
    assert actual.keys() == expected.keys()
    assert all(torch.equal(actual[name], expected[name]) for name in expected)
    assert logged_steps(folder) == list(range(1, 13))


@pytest.mark.slow
def test_killed_and_resumed_on_two_processes(server, options, two_shards, tmp_path, unbroken):
    options["dataset"] = str(two_shards)
    expected = final_weights(server, options, tmp_path / "whole", unbroken, (2, True))
    config = write_config(options, tmp_path / "run.yaml")
    kill_at(config, tmp_path / "run", 7, processes=2)
    run_in_two(config)
    actual = load_file(tmp_path / "run" / "model.safetensors")
    for name, value in expected.items():
        torch.testing.assert_close(actual[name], value, atol=1e-6, rtol=1e-6)


@pytest.mark.slow
def test_an_interrupted_run_saves_and_goes_on(server, options, tmp_path, unbroken):
    expected = final_weights(server, options, tmp_path / "whole", unbroken, (1, True), streaming=True)
    config = write_config({**options, "save_steps": 1000}, tmp_path / "run.yaml")
    status, output = kill_at(config, tmp_path / "run", 5, number=signal.SIGINT)
    assert status == 130, output
    assert "run the same command again to go on" in output
    assert "Traceback" not in output
    assert load_checkpoint(find_newest(tmp_path / "run" / "checkpoints")).step >= 5
    run_alone(server, config)
    actual = load_file(tmp_path / "run" / "model.safetensors")
    assert all(torch.equal(actual[name], expected[name]) for name in expected)


def test_divergence_stops_before_the_weights_are_spoiled(options):
    arguments = RamTrainingArguments(
        **{**options, "adapter_learning_rate": 1e20, "save_steps": 1, "warmup_steps": 1, "warmup_learning_rate": 0.0}
    )
    with pytest.raises(FloatingPointError, match=r"At step \d+ the (global|local) loss is nan"):
        train(arguments)
    checkpoint = load_checkpoint(find_newest(f"{options['output_dir']}/checkpoints"))
    assert checkpoint.step >= 1
    assert all(value.isfinite().all() for value in checkpoint.weights.values())


def test_a_gradient_that_is_not_finite_does_not_reach_the_weights(options, monkeypatch):
    real, norms = torch.nn.utils.clip_grad_norm_, iter([1.0, 1.0, float("inf")])
    monkeypatch.setattr(torch.nn.utils, "clip_grad_norm_", lambda *a: real(*a) * next(norms))
    options = {**options, "save_steps": 1, "max_steps": 4}
    with pytest.raises(FloatingPointError, match="At step 3 the norm of the gradient is inf"):
        train(RamTrainingArguments(**options))
    assert load_checkpoint(find_newest(f"{options['output_dir']}/checkpoints")).step == 2
    monkeypatch.undo()
    train(RamTrainingArguments(**options))  # and the checkpoint is good to go on from


def test_rates_can_be_lowered_on_the_way(options):
    train(RamTrainingArguments(**{**options, "max_steps": 3}))
    train(RamTrainingArguments(**{**options, "max_steps": 6, "token_learning_rate": 1e-9, "weight_decay": 0.5}))
    rates = [row["learning_rate/tokens"] for row in logged(Path(options["output_dir"]))]
    assert min(rates[1:3]) > 1e-3
    assert max(rates[3:]) < 1e-8
    checkpoint = load_checkpoint(find_newest(f"{options['output_dir']}/checkpoints"))
    assert checkpoint.optimizers[0]["param_groups"][0]["weight_decay"] == 0.5


def test_a_steep_rate_leaves_temperatures_positive(options, monkeypatch):
    def falling(*args, **kwargs):  # temperatures of these few pictures would grow
        optimizers = make_optimizers(*args, **kwargs)
        for group in optimizers[0].param_groups:
            group["maximize"] = group["name"] == "temperatures"
        return optimizers

    monkeypatch.setattr("ram_hf.training.loop.make_optimizers", falling)
    train(RamTrainingArguments(**{**options, "max_steps": 3, "temperature_learning_rate": 1.0, "warmup_steps": 0}))
    rows = logged(Path(options["output_dir"]))[:3]
    assert [row["local_temperature"] for row in rows] == pytest.approx([1e-3, 5e-4, 2.5e-4])
    assert rows[2]["global_temperature"] > 0


def test_a_new_run_in_the_same_folder_moves_the_old_one_aside(options):
    train(RamTrainingArguments(**{**options, "max_steps": 6}))
    train(RamTrainingArguments(**{**options, "max_steps": 3, "seed": 5, "resume": False}))
    folder = Path(options["output_dir"])
    assert find_newest(folder / "checkpoints").name == "step-00000003"
    assert find_newest(folder / "previous-1" / "checkpoints").name == "step-00000006"
    assert logged_steps(folder) == [1, 2, 3]
    assert logged_steps(folder / "previous-1") == list(range(1, 7))


def test_a_finished_run_started_again_changes_nothing(options):
    options = {**options, "max_steps": 3, "eval_split": "train"}
    first = train(RamTrainingArguments(**options))
    rows = logged(Path(options["output_dir"]))
    weights = load_file(f"{options['output_dir']}/model.safetensors")
    second = train(RamTrainingArguments(**options))
    assert second.to_dict() == first.to_dict()
    assert logged(Path(options["output_dir"])) == rows
    again = load_file(f"{options['output_dir']}/model.safetensors")
    assert all(torch.equal(again[name], value) for name, value in weights.items())


@pytest.mark.parametrize("precision", ["no", "bf16"])
def test_the_evaluation_in_training_is_that_of_the_saved_model(options, precision):
    options = {**options, "max_steps": 5, "eval_split": "train", "mixed_precision": precision}
    report = train(RamTrainingArguments(**options))
    evaluated = evaluate(
        options["output_dir"],
        DatasetSpec(options["dataset"], "train", label_column="labels"),
        seen=options["seen_labels"],
        unseen=options["unseen_labels"],
        num_workers=1,
    )
    assert report.to_dict() == evaluated.to_dict()


def test_top_3_of_all_labels_is_there_when_unseen_ones_are_fewer(options):
    report = train(RamTrainingArguments(**{**options, "max_steps": 1, "eval_split": "train"}))
    assert set(report.settings["gzsl"].top_k) == {3, 5}
    assert not report.settings["zsl"].top_k


@pytest.fixture
def broken_corpus(corpus_rows, tmp_path):
    rows = corpus_rows.cast_column("image", datasets.Image(decode=False)).to_list()
    rows[20]["image"] = {"bytes": b"not a picture", "path": "broken.png"}
    (tmp_path / "broken").mkdir()
    broken = datasets.Dataset.from_list(rows, features=corpus_rows.features)
    return write_shards(broken, tmp_path / "broken", 1)


def test_a_broken_picture_stops_the_run_and_keeps_what_was_learned(options, broken_corpus):
    options = {**options, "dataset": str(broken_corpus), "shuffle_buffer": 0, "save_steps": 100}
    with pytest.raises(ValueError, match=r"row 20 of epoch 0 .* is of no known format .*broken\.png"):
        train(RamTrainingArguments(**options))
    assert load_checkpoint(find_newest(f"{options['output_dir']}/checkpoints")).step == 5
    train(RamTrainingArguments(**{**options, "skip_broken": True}))
    assert logged_steps(Path(options["output_dir"])) == list(range(1, 13))


def test_accumulated_batches_count_as_one_step(options):
    train(RamTrainingArguments(**{**options, "gradient_accumulation_steps": 3, "max_steps": 2, "max_grad_norm": 0.1}))
    checkpoint = load_checkpoint(find_newest(f"{options['output_dir']}/checkpoints"))
    assert checkpoint.step == 2
    assert checkpoint.processes[0]["stream"] == {"epoch": 0, "row": 2 * 3 * 4}


def test_epochs_are_counted_in_rows(options):
    options.pop("max_steps")
    train(RamTrainingArguments(**{**options, "num_epochs": 1.0, "warmup_steps": 0}))
    assert logged_steps(Path(options["output_dir"])) == list(range(1, 11))  # 37 pictures, 4 a step


def test_a_ram_model_trains_on(options, tmp_path):
    train(RamTrainingArguments(**{**options, "max_steps": 2}))
    again = {**options, "model": options["output_dir"], "output_dir": str(tmp_path / "again"), "max_steps": 2}
    train(RamTrainingArguments(**again))
    assert RamModel.from_pretrained(again["output_dir"]).config.ladder_tokens == 8
    with pytest.raises(ValueError, match=r"`config` sets `ladder_layers` but the RAM checkpoint"):
        train(RamTrainingArguments(**{**again, "ram_config": {"ladder_layers": [1]}, "resume": False}))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"seen_labels": ["red", "red"]}, "`seen` names these labels more than once: 'red'"),
        ({"label_column": "tags"}, "tags"),
        ({"image_size": 64}, r"`image_size` is 64 but .* takes 32 pixels"),
        ({"schedule_steps": 12, "warmup_steps": 12}, "must be shorter than the schedule"),
        ({"model": "./nowhere"}, "nowhere"),
        ({"max_steps": 60, "schedule_steps": None, "schedule_epochs": 3.0}, "Set `schedule_steps` to at least 60"),
        ({"eval_split": "vall"}, "vall"),
        (
            {"eval_split": "train", "metric_for_best": "zls/mAP"},
            "`metric_for_best` is 'zls/mAP', but there are zsl/mAP",
        ),
    ],
)
def test_what_does_not_fit_is_said_before_training(options, change, message):
    with pytest.raises((ValueError, OSError), match=message):
        train(RamTrainingArguments(**{**options, **change}))
    assert not (Path(options["output_dir"]) / "metrics.jsonl").exists()


def test_another_runs_checkpoint_is_refused(options, clip_folder, tmp_path):
    train(RamTrainingArguments(**{**options, "max_steps": 3}))
    with pytest.raises(ValueError, match="holds other weights than this configuration asks for"):
        train(RamTrainingArguments(**{**options, "ram_config": {"ladder_tokens": 2}}))
    for change, message in (
        ({"seed": 7}, "was trained with `seed` 0, not 7"),
        ({"seen_labels": ["blue", "green", "dark", "bright"], "unseen_labels": ["red"]}, "`seen_labels` .*'red'"),
        ({"shuffle_buffer": 0}, "`shuffle_buffer` 8, not 0"),
    ):
        with pytest.raises(ValueError, match=message):
            train(RamTrainingArguments(**{**options, **change}))
    with pytest.raises(ValueError, match="was trained with `ema_decay`"):
        train(RamTrainingArguments(**{**options, "ema_decay": 0.0}))


def test_unknown_labels_take_the_asymmetric_loss_in_training(options, corpus_rows, tmp_path):
    """Columns of 1, 0 and -1: with an unknown in the first batch its loss is another one than without."""
    losses = []
    for unknown in (0, -1):
        folder = tmp_path / str(unknown)
        (folder / "data").mkdir(parents=True)
        rows = [
            {"image": row["image"], **{name: int(name in row["labels"]) for name in options["seen_labels"]}}
            for row in corpus_rows
        ]
        rows[2]["red"] = unknown
        datasets.Dataset.from_list(rows, features=column_features(options["seen_labels"])).to_parquet(
            folder / "data" / "train-00000-of-00001.parquet"
        )
        changes = {"dataset": str(folder / "data"), "output_dir": str(folder / "run"), "label_column": None}
        changes |= {"label_columns": options["seen_labels"], "unseen_labels": [], "shuffle_buffer": 0, "max_steps": 2}
        train(RamTrainingArguments(**{**options, **changes, "augment": False}))
        losses.append([row["loss"] for row in logged(folder / "run")])
    assert losses[0][0] > 2 * losses[1][0]
    assert losses[0][1] == pytest.approx(losses[1][1], rel=0.2)  # the second batch is known


def column_features(names) -> datasets.Features:
    return datasets.Features({"image": datasets.Image(), **{name: datasets.Value("int8") for name in names}})


@pytest.mark.parametrize(
    ("seen", "steps", "message"),
    [
        (
            ["Red", "GREEN", " dark"],
            40,
            r"'Red' \(did you mean 'red'\?\), 'GREEN' \(did you mean 'green'\?\), ' dark'",
        ),
        (["zebra", "horse"], 40, "'zebra', 'horse'. They have 'blue', 'bright', 'dark', 'green', 'red'"),
        (["zebra", "horse"], 2, "none of 8 images"),  # less than an epoch is enough to see it
    ],
)
def test_labels_that_no_image_has_end_the_run_before_anything_is_saved(options, seen, steps, message):
    options = {**options, "seen_labels": seen, "unseen_labels": [], "max_steps": steps, "save_steps": 11}
    with pytest.raises(ValueError, match=message):
        train(RamTrainingArguments(**options))
    assert not list(Path(options["output_dir"]).rglob("*.safetensors"))


def test_data_without_any_label_ends_the_run(options, corpus_rows, tmp_path):
    (tmp_path / "bare").mkdir()
    bare = corpus_rows.map(lambda row: {"labels": []}, features=corpus_rows.features)
    options["dataset"] = str(write_shards(bare, tmp_path / "bare", 1))
    with pytest.raises(ValueError, match="They have no label at all"):
        train(RamTrainingArguments(**options))


def test_a_misspelt_label_among_good_ones_is_told(options, caplog):
    options = {**options, "seen_labels": ["red", "grean", "dark"], "max_steps": 11}
    train(RamTrainingArguments(**options))
    assert "1 of 3 labels are on none of 40 images" in caplog.text
    assert "'grean' (did you mean 'green'?)" in caplog.text


def test_a_prepared_folder_tells_before_the_first_step(options, corpus_rows, tmp_path):
    (tmp_path / "prepared").mkdir()
    options["dataset"] = str(write_shards(corpus_rows, tmp_path / "prepared", 1))
    report = {"split": "train", "images": 37, "images_of_label": {"red": 9, "dark": 20}}
    (tmp_path / "prepared" / "report.json").write_text(json.dumps(report))
    options = {**options, "seen_labels": ["Red"], "unseen_labels": []}
    with pytest.raises(ValueError, match=r"none of 37 images .*did you mean 'red'"):
        train(RamTrainingArguments(**options))
    assert not logged_steps(Path(options["output_dir"]))


@pytest.mark.parametrize("eval_steps", [4, None], ids=["on the way", "at the end"])
def test_a_broken_image_in_the_evaluation_takes_nothing_away(options, broken_corpus, eval_steps):
    changes = {"eval_dataset": str(broken_corpus), "eval_split": "train", "eval_steps": eval_steps}
    options = {**options, **changes, "save_steps": 100, "max_steps": 6}
    checkpoints = Path(options["output_dir"]) / "checkpoints"
    for _ in range(2):  # and started again it stops again, at once
        with pytest.raises(ValueError, match=r"row 20.*is of no known format"):
            train(RamTrainingArguments(**options))
        assert load_checkpoint(find_newest(checkpoints)).step == (eval_steps or 6)
    if eval_steps is None:
        assert RamModel.from_pretrained(options["output_dir"])
    report = train(RamTrainingArguments(**options, skip_broken=True))
    assert report.settings["zsl"].num_images == 36
    assert report.settings["gzsl"].num_images_passed_over == 1
    assert "1 more could not be read and were passed over" in report.to_table()
    rows = logged(Path(options["output_dir"]))
    assert [row["step"] for row in rows if "gzsl/mAP" in row] == ([4, 6] if eval_steps else [6])
    facts = load_checkpoint(find_newest(checkpoints)).facts
    assert facts["judged"] == (4 if eval_steps else 0)
    assert (facts["best"] is not None) == bool(eval_steps)


@pytest.mark.parametrize("ambient", ["4", "1", None])
def test_the_environment_does_not_change_the_gradient(options, monkeypatch, caplog, ambient):
    if ambient is not None:
        monkeypatch.setenv("ACCELERATE_GRADIENT_ACCUMULATION_STEPS", ambient)
    train(RamTrainingArguments(**{**options, "max_steps": 1, "gradient_accumulation_steps": 2}))
    norm = logged(Path(options["output_dir"]))[0]["gradient_norm"]
    monkeypatch.delenv("ACCELERATE_GRADIENT_ACCUMULATION_STEPS", raising=False)
    assert ("but the configuration decides: gradients of 2 batch(es)" in caplog.text) == (ambient is not None)
    train(RamTrainingArguments(**{**options, "max_steps": 1, "gradient_accumulation_steps": 2, "resume": False}))
    assert logged(Path(options["output_dir"]))[0]["gradient_norm"] == pytest.approx(norm, rel=1e-5)


def test_sharded_training_is_refused(options, monkeypatch):
    monkeypatch.setattr("ram_hf.training.accelerators._SHARDED", (DistributedType.NO,))
    with pytest.raises(ValueError, match="Accelerate is configured for NO, but a run keeps the whole model"):
        train(RamTrainingArguments(**options))


def test_what_a_killed_run_had_begun_to_write_is_removed(options):
    folder = Path(options["output_dir"])
    begun = [folder / ".ram_hf-1-0.unfinished", folder / "best" / ".ram_hf-1-7.unfinished"]
    for path in begun:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    with begun[0].open() as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        train(RamTrainingArguments(**{**options, "max_steps": 1}))
        assert [path.exists() for path in begun] == [True, False]  # another process writes the first
    train(RamTrainingArguments(**{**options, "max_steps": 2}))
    assert not begun[0].exists()


def test_two_runs_do_not_share_a_folder(options):
    folder = Path(options["output_dir"])
    folder.mkdir()
    with lock(folder / ".training.lock"), pytest.raises(BlockingIOError, match=r"Another run .*training\.lock"):
        train(RamTrainingArguments(**options))
    assert not (folder / "metrics.jsonl").exists()
    (folder / ".training.lock").touch()  # as a killed run leaves it
    train(RamTrainingArguments(**{**options, "max_steps": 1}))
    assert not (folder / ".training.lock").exists()


@pytest.mark.parametrize("folder", ["run", "run/best"])
def test_the_trained_labels_become_the_reference(options, tmp_path, folder):
    """Read by the weights that were written, averaged; what lacks is the calibration."""
    train(RamTrainingArguments(**{**options, "max_steps": 3, "eval_split": "train", "eval_steps": 2}))
    model = RamModel.from_pretrained(tmp_path / folder)
    processor = RamProcessor.from_pretrained(tmp_path / folder)
    assert model.config.reference_labels == options["seen_labels"]
    assert not model.is_calibrated
    with torch.no_grad():
        expected = model.get_label_features(**processor(labels=options["seen_labels"]))
    assert torch.equal(model.reference.features, expected)


def test_training_on_drops_reference_and_calibration_of_before(options, tmp_path, clip_folder):
    model = RamModel.from_clip(clip_folder, config={"local_temperature": 2e-3})
    model.set_reference_labels(["sky"], torch.randn(1, 48))
    weights = {"evidence_weights": [1.0, 1.0], "statistics_weights": [0.0] * 6, "bias": 0.0, "threshold": 0.5}
    model.config.calibration = weights
    model.save_pretrained(tmp_path / "before")
    RamProcessor.from_pretrained(clip_folder).save_pretrained(tmp_path / "before")
    train(RamTrainingArguments(**{**options, "model": str(tmp_path / "before"), "max_steps": 2}))
    after = RamModel.from_pretrained(options["output_dir"])
    assert after.config.reference_labels == options["seen_labels"]
    assert after.config.calibration is None
    assert all(layer.adapter.output_conv.weight.any() for layer in after.ladder.values())  # there were none before
    assert list(after.ladder) == ["2", "3", "4"]
