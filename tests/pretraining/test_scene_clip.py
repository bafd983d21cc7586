"""A CLIP from scratch on scenes, small enough to train in seconds."""

import json
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
import yaml
from accelerate.utils import DistributedType
from safetensors.torch import load_file
from transformers import CLIPModel

from ram_hf import RamModel, RamProcessor, cli
from ram_hf.pretraining.scene_clip import ClipPretrainingArguments, contrastive_loss, pretrain_clip
from tests.scene_source import write_bare_source

# As a configured machine, or a launcher for another program, leaves them behind.
AMBIENT = {"ACCELERATE_GRADIENT_ACCUMULATION_STEPS": "4", "ACCELERATE_MIXED_PRECISION": "bf16"}
AMBIENT |= {"ACCELERATE_DYNAMO_BACKEND": "EAGER", "ACCELERATE_SPLIT_BATCHES": "true"}

SIZES = {"image_size": 32, "patch_size": 8, "vision_width": 32, "vision_layers": 2, "vision_heads": 2}
SIZES |= {"text_width": 32, "text_layers": 2, "text_heads": 2, "projection_dim": 16, "context_length": 32}
OPTIONS = {
    "vocab_size": 600,
    "batch_size": 24,
    "num_workers": 0,
    "mixed_precision": "no",
    "compile": False,
    "warmup_steps": 2,
    "eval_steps": 100,
    "save_steps": 4,
    "log_steps": 1,
}
STAGES = [{"steps": 6, "image_size": 32}, {"steps": 6, "image_size": 32, "scene_share": 0.5}]


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    folder = tmp_path_factory.mktemp("scenes") / "source"
    write_bare_source(folder)
    return folder


@pytest.fixture
def arguments(source, tmp_path):
    output_dir = str(tmp_path / "clip")
    return ClipPretrainingArguments(source=str(source), output_dir=output_dir, sizes=SIZES, stages=STAGES, **OPTIONS)


def test_the_loss_is_clips_where_every_picture_has_a_thing_of_its_own():
    """With B captions of different things and no further labels it is the cross-entropy of CLIP, both ways."""
    torch.manual_seed(0)
    images, captions = torch.randn(5, 8), torch.randn(5, 8)
    named = torch.eye(5)
    # Label sentences that lie as far from every picture as can be: at this scale they take no part.
    images[:, -1], captions[:, -1] = 0, 0
    far = torch.zeros(5, 8)
    far[:, -1] = 1
    logits = 40 * F.normalize(images, dim=-1) @ F.normalize(captions, dim=-1).T
    ours = contrastive_loss(images, torch.cat([captions, far]), named, torch.tensor(40.0))
    # Each picture has two right texts, its caption and its label's sentence, which count alike.
    target = torch.arange(5)
    log_far = (
        torch.zeros(5, 5) - torch.logsumexp(torch.cat([logits, torch.zeros(5, 5)], dim=1), 1, keepdim=True)
    ).diag()
    log_own = torch.cat([logits, torch.zeros(5, 5)], dim=1).log_softmax(dim=1)[:, :5].diag()
    image_loss = -(log_own + log_far).mean() / 2
    text_loss = (F.cross_entropy(logits.T, target) + F.cross_entropy(torch.zeros(5, 5), target)) / 2
    torch.testing.assert_close(ours, (image_loss + text_loss) / 2)


def test_a_caption_of_two_things_is_wrong_for_a_picture_of_one():
    images = torch.eye(3)
    named = torch.tensor([[1.0, 0], [1, 1], [0, 1]])
    right = contrastive_loss(images, torch.cat([images, images[[0, 2]]]), named, torch.tensor(5.0))
    swapped = contrastive_loss(images[[1, 0, 2]], torch.cat([images, images[[0, 2]]]), named, torch.tensor(5.0))
    assert right < swapped


def test_it_learns_its_world_and_loads_as_a_clip(arguments):
    arguments.stages = [{"steps": 150, "image_size": 32, "object_sizes": [0.6, 0.9]}]
    judgement = pretrain_clip(arguments)
    assert judgement["top1"] > 0.6  # of 8 labels
    clip = CLIPModel.from_pretrained(arguments.output_dir)
    assert clip.config.vision_config.image_size == 32
    processor = RamProcessor.from_pretrained(arguments.output_dir)
    model = RamModel.from_clip(arguments.output_dir)
    assert model.get_label_features(**processor(labels=["apple", "sea"])).shape == (2, 16)
    lines = [json.loads(line) for line in Path(arguments.output_dir, "metrics.jsonl").read_text().splitlines()]
    assert lines[0]["loss"] > lines[-2]["loss"]
    assert lines[-1] == {"step": 150, **judgement}


def test_the_environment_changes_nothing(arguments, tmp_path, monkeypatch):
    arguments.stages = [{"steps": 3, "image_size": 32}]
    pretrain_clip(arguments)
    expected = load_file(f"{arguments.output_dir}/model.safetensors")
    for name, value in AMBIENT.items():
        monkeypatch.setenv(name, value)
    arguments.output_dir = str(tmp_path / "again")
    pretrain_clip(arguments)
    actual = load_file(f"{arguments.output_dir}/model.safetensors")
    assert all(torch.equal(actual[name], value) for name, value in expected.items())


def test_several_processes_and_shards_are_refused(arguments, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr("accelerate.Accelerator.num_processes", 2)
        with pytest.raises(ValueError, match="trained by one process"):
            pretrain_clip(arguments)
    monkeypatch.setattr("ram_hf.training.accelerators._SHARDED", (DistributedType.NO,))
    with pytest.raises(ValueError, match="Accelerate is configured for NO"):
        pretrain_clip(arguments)


def test_a_stopped_run_goes_on_to_the_same_weights(arguments, tmp_path, monkeypatch):
    pretrain_clip(arguments)
    whole = load_file(f"{arguments.output_dir}/model.safetensors")
    arguments.output_dir = str(tmp_path / "again")
    from ram_hf.pretraining import scene_clip

    save, steps = scene_clip.save_state, []

    def save_and_stop(folder, step, *args):
        save(folder, step, *args)
        steps.append(step)
        if step == 8:
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(scene_clip, "save_state", save_and_stop)
        with pytest.raises(KeyboardInterrupt):
            pretrain_clip(arguments)
    assert steps == [4, 8]
    pretrain_clip(arguments)
    for name, value in load_file(f"{arguments.output_dir}/model.safetensors").items():
        torch.testing.assert_close(value, whole[name], rtol=0, atol=0, msg=name)


def test_a_stage_says_what_it_lacks(source, tmp_path):
    with pytest.raises(ValueError, match=r"Stage 0 must hold `steps` and `image_size`.*got \['size', 'steps'\]"):
        ClipPretrainingArguments(source=str(source), output_dir="x", sizes=SIZES, stages=[{"steps": 1, "size": 32}])


@pytest.mark.parametrize(
    ("sizes", "message"),
    [
        ({"image_sise": 32}, r"`sizes` must name \['context_length', .*got \['image_sise'\]"),
        ({**SIZES, "patch_size": 8.0}, r"`sizes.patch_size` must be a positive integer, got 8.0"),
        ({**SIZES, "text_layers": 0}, r"`sizes.text_layers` must be a positive integer, got 0"),
    ],
)
def test_sizes_are_checked_by_name(source, sizes, message):
    with pytest.raises(ValueError, match=message):
        ClipPretrainingArguments(source=str(source), output_dir="x", sizes=sizes, stages=STAGES)


def test_the_shipped_configuration_is_read(source, tmp_path, monkeypatch):
    seen = []
    monkeypatch.setattr("ram_hf.pretraining.scene_clip.pretrain_clip", seen.append)
    argv = ["pretrain", "clip-on-scenes", "--config", "configs/ram_tiny/clip.yaml"]
    assert cli.main([*argv, "--source", str(source), "--output_dir", "out"]) == 0
    (arguments,) = seen
    assert (arguments.source, arguments.output_dir) == (str(source), "out")
    assert isinstance(arguments.matrix_learning_rate, float)
    assert arguments.stages[-1]["image_size"] == arguments.sizes["image_size"]


@pytest.mark.slow
def test_ctrl_c_saves_and_says_how_to_go_on(source, tmp_path):
    config = {"source": str(source), "output_dir": str(tmp_path / "clip"), **OPTIONS, "num_workers": 1}
    config |= {"sizes": SIZES, "stages": [{"steps": 100_000, "image_size": 32}]}
    (tmp_path / "clip.yaml").write_text(yaml.safe_dump(config))
    command = [sys.executable, "-m", "ram_hf", "pretrain", "clip-on-scenes", "--config", str(tmp_path / "clip.yaml")]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    log = tmp_path / "clip" / "metrics.jsonl"
    deadline = time.monotonic() + 120
    while not log.exists() and time.monotonic() < deadline:
        time.sleep(0.2)
    process.send_signal(signal.SIGINT)
    _, told = process.communicate(timeout=120)
    assert process.returncode == 130
    assert "run the same command again to go on" in told
    assert list((tmp_path / "clip" / "checkpoints").glob("step-*"))
