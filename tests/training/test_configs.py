"""Every configuration that ships can be read, and says what the published recipe says."""

import subprocess
import sys
from pathlib import Path

import pytest
from accelerate.commands.config.config_args import load_config_from_file

from tests.training.conftest import parse_arguments

CONFIGS = Path(__file__).parents[2] / "configs"
EXPERIMENTS = sorted(CONFIGS.glob("*.yaml"))
# The names of COCO's 80 categories that the 48 and 17 labels are taken from, as its ClassLabel spells them.
COCO = """person|bicycle|car|motorcycle|airplane|bus|train|truck|boat|traffic light|fire hydrant|stop sign
parking meter|bench|bird|cat|dog|horse|sheep|cow|elephant|bear|zebra|giraffe|backpack|umbrella|handbag
tie|suitcase|frisbee|skis|snowboard|sports ball|kite|baseball bat|baseball glove|skateboard|surfboard
tennis racket|bottle|wine glass|cup|fork|knife|spoon|bowl|banana|apple|sandwich|orange|broccoli|carrot
hot dog|pizza|donut|cake|chair|couch|potted plant|bed|dining table|toilet|tv|laptop|mouse|remote|keyboard
cell phone|microwave|oven|toaster|sink|refrigerator|book|clock|vase|scissors|teddy bear|hair drier
toothbrush""".replace("\n", "|").split("|")


def read(name: str, *options: str):
    return parse_arguments(["--config", str(CONFIGS / f"{name}.yaml"), *options])


@pytest.mark.parametrize("name", ["ram_tiny", "ram_photo"])
def test_a_bundled_model_is_trained_for_as_long_as_its_schedule(name):
    arguments = read(f"{name}/ram")
    assert arguments.max_steps == arguments.schedule_steps
    tokens = {"ladder_tokens", "prompt_tokens"} if name == "ram_photo" else set()  # which that one goes without
    assert arguments.ram_config.keys() == {"epsilon", "teacher_weight", "local_temperature"} | tokens
    assert not arguments.unseen_labels  # it may not even rank them on the way


def labels(file: Path) -> list[str]:
    lines = file.read_text(encoding="utf-8").splitlines()
    return [line for line in lines if line and not line.startswith("#")]


def label_lists(arguments) -> list[list[str] | Path]:
    given = (arguments.seen_labels, arguments.unseen_labels)
    return [Path(value) if isinstance(value, str) else value for value in given]


def test_one_for_each_benchmark():
    assert [file.stem for file in EXPERIMENTS] == ["coco", "mlrsnet", "multiscene", "nus_wide", "pa100k", "rap"]


@pytest.mark.parametrize("name", [file.stem for file in EXPERIMENTS])
def test_experiment(name):
    arguments = read(name)
    assert (arguments.num_epochs, arguments.per_device_batch_size, arguments.image_size) == (6, 32, 224)
    assert (arguments.adapter_learning_rate, arguments.temperature_learning_rate) == (5e-6, 5e-5)
    assert (arguments.token_learning_rate, arguments.warmup_learning_rate) == (1e-3, 5e-7)
    assert (arguments.warmup_epochs, arguments.schedule_epochs, arguments.ema_decay) == (3, 60, 0.9997)
    assert arguments.image_mean == arguments.image_std == [0.5, 0.5, 0.5]
    assert arguments.output_dir == f"runs/{name}"
    has_unseen = bool(arguments.unseen_labels)
    assert arguments.metric_for_best == ("zsl/mAP" if has_unseen else "plain/mAP")
    for value in label_lists(arguments):
        prepared = isinstance(value, Path) and "prepared" in value.parts  # written by `ram-hf prepare`
        assert prepared or not isinstance(value, Path) or value.is_file()


@pytest.mark.parametrize("name", [file.stem for file in EXPERIMENTS])
def test_experiment_with_fewer_steps(name):
    assert read(name, "--max_steps", "100").num_epochs is None


@pytest.mark.parametrize(
    ("name", "count"),
    [
        *(("coco", 80), ("voc07", 20), ("nus81", 81), ("coco_seen", 48), ("coco_unseen", 17)),
        *(("rap", 51), ("pa100k", 26), ("multiscene", 36), ("mlrsnet", 60)),
    ],
)
def test_label_files(name, count):
    names = labels(CONFIGS / "labels" / f"{name}.txt")
    assert len(names) == len(set(names)) == count


def test_coco_labels():
    seen, unseen = (set(labels(CONFIGS / "labels" / f"coco_{name}.txt")) for name in ("seen", "unseen"))
    assert labels(CONFIGS / "labels" / "coco.txt") == COCO
    assert not seen & unseen
    assert seen | unseen <= set(COCO)


def test_pa100k_columns_are_its_labels():
    assert read("pa100k").label_columns == labels(CONFIGS / "labels" / "pa100k.txt")


def test_rap_names_lead_to_its_labels():
    from ram_hf.data.annotations import read_label_names

    renamed = read_label_names(CONFIGS / "labels" / "rap_names.tsv")
    assert list(renamed.values()) == labels(CONFIGS / "labels" / "rap.txt")


def test_nus_wide_differs_where_the_paper_says():
    assert read("nus_wide").ram_config == {"prompt_layers": [6, 7, 8, 9, 10, 11]}


@pytest.mark.parametrize("name", ["single", "cpu", "multi_gpu"])
def test_accelerate_reads(name):
    config = load_config_from_file(str(CONFIGS / "accelerate" / f"{name}.yaml"))
    assert config.num_processes == (1 if name == "single" else 2)
    assert config.mixed_precision == ("bf16" if name == "multi_gpu" else "no")


@pytest.mark.slow
def test_accelerate_starts_two_cpu_processes(tmp_path):
    script = tmp_path / "script.py"
    script.write_text(
        "import sys, torch\n"
        "from accelerate import Accelerator\n"
        "accelerator = Accelerator(cpu=True)\n"
        "ranks = accelerator.gather(torch.tensor([accelerator.process_index])).tolist()\n"
        "backend = torch.distributed.get_backend()\n"
        "accelerator.end_training()\n"  # gloo's threads abort a process that ends without
        "sys.exit(0 if sorted(ranks) == [0, 1] and backend == 'gloo' else f'{ranks} {backend}')\n"
    )
    config = CONFIGS / "accelerate" / "cpu.yaml"
    launch = [sys.executable, "-m", "accelerate.commands.launch", "--config_file", str(config)]
    subprocess.run([*launch, "--main_process_port", "0", str(script)], check=True, timeout=120)
