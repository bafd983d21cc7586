"""Reading the training configuration: YAML, command line, and what is refused."""

from dataclasses import fields
from pathlib import Path

import pytest

from ram_hf.training.arguments import RamTrainingArguments
from ram_hf.training.config_file import read_config
from tests.training.conftest import parse_arguments

REQUIRED = {"model": "a/clip", "dataset": "a/dataset", "output_dir": "runs/a", "label_column": "labels"}
MINIMAL = {**REQUIRED, "seen_labels": ["dog", "cat"], "max_steps": 10}
YAML = """
model: a/clip
dataset: a/dataset
output_dir: runs/a
label_column: objects.categories
seen_labels: seen.txt
unseen_labels: [zebra]
num_epochs: 6
adapter_learning_rate: 5e-6
ram_config: {local_temperature: 2e-4, prompt_layers: [6, 7]}
image_mean: [0, 0.5, 1]
streaming: true
mixed_precision: no
"""


@pytest.fixture
def config(tmp_path) -> Path:
    file = tmp_path / "experiment.yaml"
    file.write_text(YAML)
    return file


def arguments(**overrides) -> RamTrainingArguments:
    return RamTrainingArguments(**{**MINIMAL, **overrides})


def write(file: Path, text: str) -> list[str]:
    file.write_text(text)
    return ["--config", str(file)]


def test_defaults_are_the_published_recipe():
    recipe = arguments()
    assert (recipe.adapter_learning_rate, recipe.temperature_learning_rate, recipe.token_learning_rate) == (
        *(5e-6, 5e-5),
        1e-3,
    )
    assert (recipe.weight_decay, recipe.warmup_learning_rate, recipe.ema_decay) == (1e-4, 5e-7, 0.9997)
    assert (recipe.warmup_epochs, recipe.schedule_epochs, recipe.per_device_batch_size) == (3, 60, 32)


def test_every_field_has_help():
    for field in fields(RamTrainingArguments):
        assert field.metadata["help"], field.name


def test_yaml(config, tmp_path):
    read = parse_arguments(["--config", str(config)])
    assert read.seen_labels == str(tmp_path / "seen.txt")
    assert read.unseen_labels == ["zebra"]
    assert (read.num_epochs, read.max_steps) == (6.0, None)
    assert read.adapter_learning_rate == 5e-6
    assert read.ram_config == {"local_temperature": 2e-4, "prompt_layers": [6, 7]}
    assert read.image_mean == [0.0, 0.5, 1.0]
    assert (read.streaming, read.mixed_precision, read.resume) == (True, "no", True)


def test_an_absolute_label_file_stays(tmp_path, config):
    config.write_text(YAML.replace("seen.txt", "/data/seen.txt"))
    assert read_config(config)["seen_labels"] == "/data/seen.txt"


def test_command_line_overrides_yaml(config):
    options = "--model b --max_steps 7 --adapter-learning-rate 1e-3 --streaming false --no_resume --image_mean 1 1 1"
    read = parse_arguments(["--config", str(config), *options.split(), '--ram_config={"prompt_layers": [1]}'])
    assert (read.model, read.dataset) == ("b", "a/dataset")
    assert (read.max_steps, read.num_epochs) == (7, None)  # the one takes the place of the other
    assert (read.adapter_learning_rate, read.streaming, read.resume) == (1e-3, False, False)
    assert read.image_mean == [1.0, 1.0, 1.0]
    assert read.ram_config == {"prompt_layers": [1]}


def test_options_may_come_before_the_config(config):
    read = parse_arguments(["--label_columns", "hat", "glasses", "--unseen_labels", "a", "b", f"--config={config}"])
    assert (read.label_column, read.label_columns) == (None, ["hat", "glasses"])
    assert read.unseen_labels == ["a", "b"]


def test_one_label_value_on_the_command_line_is_a_file(config):
    assert parse_arguments(["--config", str(config), "--seen_labels", "other.txt"]).seen_labels == "other.txt"


def test_without_a_yaml():
    options = [f"--{name}={value}" for name, value in REQUIRED.items()]
    read = parse_arguments([*options, "--seen_labels", "dog", "cat", "--max_steps", "10"])
    assert read == arguments()


@pytest.mark.parametrize("field", fields(RamTrainingArguments), ids=lambda field: field.name)
def test_every_key_reaches_the_command_line(field, config):
    text, expected = {
        "data_files": ('{"a": "b"}', {"a": "b"}),
        "ram_config": ('{"epsilon": 1}', {"epsilon": 1}),
        "mixed_precision": ("bf16", "bf16"),
        "ema_decay": ("0.5", 0.5),
        "schedule_epochs": ("61", 61.0),
        "label_columns": ("1", ["1"]),
    }.get(field.name, ("1", None))
    count = 3 if field.name in ("image_mean", "image_std") else 1
    more = [] if field.name == "eval_split" else ["--eval_split", "validation"]
    more += [] if field.name == "eval_steps" else ["--eval_steps", "5"]
    more += ["--early_stopping_patience", "1"] if field.name == "early_stopping_threshold" else []
    read = parse_arguments(["--config", str(config), f"--{field.name}", *[text] * count, *more])
    value = getattr(read, field.name)
    assert value == expected if expected else value in (1, "1", [1.0, 1.0, 1.0])


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("max_step: 3", r"unknown key `max_step`\. Did you mean 'max_steps'\?"),
        ("metric_for_best_model: mAP", r"unknown key `metric_for_best_model`\. Did you mean 'metric_for_best'\?"),
        ("zzz: 3", r"unknown key `zzz`\."),
        ("3: 3", r"unknown key `3`\."),
    ],
)
def test_unknown_key_in_yaml(config, line, message):
    config.write_text(f"{YAML}{line}\n")
    with pytest.raises(ValueError, match=message):
        parse_arguments(["--config", str(config)])


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (["--max_step", "3"], r"There is no option '--max_step'\. Did you mean '--max_steps'\?"),
        (["--max-stepz=3"], r"There is no option '--max-stepz'\. Did you mean '--max-steps'\?"),
        (["--no_gather_los"], r"There is no option '--no_gather_los'\. Did you mean '--no_gather_loss'"),
        (["--max_steps", "many"], "max-steps: invalid int value: 'many'"),
        (["--max_steps"], "max-steps: expected one argument"),
        (["--streaming", "perhaps"], "streaming: Truthy value expected: got perhaps"),
        (["--mixed_precision", "fp4"], "invalid choice: 'fp4'"),
        (["--ram_config", "[1]"], r"ram-config: invalid json_object value: '\[1\]'"),
        (["stray"], "Unrecognized arguments: stray"),
    ],
)
def test_errors_on_the_command_line(config, argv, message):
    with pytest.raises(ValueError, match=message):
        parse_arguments(["--config", str(config), *argv])


def test_missing_options():
    with pytest.raises(ValueError, match="required: --dataset, --output_dir"):
        parse_arguments(["--model", "a"])
    with pytest.raises(ValueError, match="--config: expected one argument"):
        parse_arguments(["--config"])


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("max_steps: 3.5", r"max_steps` must be a whole number or null, got 3.5 \(float\)"),
        ("max_steps: true", r"max_steps` must be a whole number or null, got True \(bool\)"),
        ("seed: '3'", r"seed` must be a whole number, got '3' \(str\)"),
        ("weight_decay: small", r"weight_decay` must be a number, got 'small' \(str\)"),
        ("augment: 1", r"augment` must be true or false, got 1 \(int\)"),
        ("image_column: 3", r"image_column` must be a string, got 3 \(int\)"),
        ("image_std: 0.5", r"image_std` must be a list \(each entry a number\) or null, got 0.5 \(float\)"),
        (
            "seen_labels: [dog, 3]",
            r"seen_labels` must be a list \(each entry a string\) or a string, got \['dog', 3\]",
        ),
        ("mixed_precision: fp4", r"must be one of 'no', 'fp16', 'bf16' or null, got 'fp4' \(str\)"),
        ("ram_config: 3", r"ram_config` must be a mapping, got 3 \(int\)"),
        ("data_files: {3: a}", r"data_files` must be a mapping or null, got {3: 'a'} \(dict\)"),
        ("schedule_epochs:", r"schedule_epochs` must be a number, got None \(NoneType\)"),
    ],
)
def test_wrong_types_in_yaml(tmp_path, line, message):
    argv = write(tmp_path / "a.yaml", f"{line}\n")
    with pytest.raises(TypeError, match=rf"a\.yaml: .*{message}"):
        parse_arguments(argv)


@pytest.mark.parametrize(
    ("text", "message"), [("- a\n", "got list"), ("", "got NoneType"), ("a: [", "not valid YAML")]
)
def test_yaml_of_another_form(tmp_path, text, message):
    with pytest.raises(ValueError, match=message):
        parse_arguments(write(tmp_path / "a.yaml", text))


def test_missing_yaml(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"no configuration file '.*none\.yaml'"):
        parse_arguments(["--config", str(tmp_path / "none.yaml")])


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        ({"num_epochs": 3}, "Exactly one of `max_steps` and `num_epochs` must be given; got 10 and 3.0"),
        ({"max_steps": None}, "`max_steps` and `num_epochs` must be given; neither is given"),
        ({"label_columns": ["a"]}, r"`label_column` and `label_columns` must be given; got 'labels' and \['a'\]"),
        ({"label_column": None}, "`label_column` and `label_columns` must be given; neither"),
        ({"label_column": None, "label_columns": []}, "`label_columns` is empty"),
        ({"seen_labels": []}, "`seen_labels` is missing"),
        ({"eval_steps": 5}, "`eval_steps` has no effect without `eval_split`"),
        ({"metric_for_best": "zsl/mAP"}, "`metric_for_best` has no effect"),
        ({"early_stopping_patience": 2}, "`early_stopping_patience` has no effect without `eval_split`"),
        ({"early_stopping_patience": 2, "eval_split": "test"}, "no effect without `eval_steps`"),
        ({"early_stopping_threshold": 0.1}, "no effect without `early_stopping_patience`"),
        ({"early_stopping_patience": 0, "eval_split": "test", "eval_steps": 5}, "must be above 0, got 0"),
        (
            {"early_stopping_threshold": -0.1, "early_stopping_patience": 2, "eval_split": "t", "eval_steps": 5},
            "at least",
        ),
        ({"max_steps": 0}, "`max_steps` must be above 0, got 0"),
        ({"max_grad_norm": float("nan")}, "`max_grad_norm` must be above 0, got nan"),
        ({"weight_decay": -1}, "`weight_decay` must be at least 0, got -1"),
        ({"ema_decay": 1}, "`ema_decay` must be at least 0 and below 1, got 1.0"),
        ({"image_mean": [0.5]}, r"`image_mean` must hold three numbers, .* got \[0.5\]"),
        ({"image_std": [0.5, 0, 1]}, "`image_std` must be above 0"),
        ({"warmup_epochs": 61}, "`schedule_epochs` must be at least `warmup_epochs`, got 60.0 and 61.0"),
        ({"max_steps": None, "num_epochs": 61}, "`schedule_epochs` must be at least `num_epochs`"),
        ({"schedule_steps": 9}, "`schedule_steps` must be at least `max_steps`, got 9 and 10"),
        ({"schedule_steps": 10, "warmup_steps": 11}, "`schedule_steps` must be at least `warmup_steps`"),
        ({"ram_config": {"prompt_layer": [1]}}, r"unknown field `prompt_layer`\. Did you mean 'prompt_layers'"),
        ({"ram_config": {"clip_config": {}}}, "unknown field `clip_config`"),
    ],
)
def test_rules_between_fields(overrides, message):
    with pytest.raises(ValueError, match=message):
        arguments(**overrides)


def test_types_are_checked_in_python_too(tmp_path):
    with pytest.raises(TypeError, match="`max_steps` must be a whole number or null, got '10'"):
        arguments(max_steps="10")
    assert arguments(output_dir=tmp_path).output_dir == str(tmp_path)


def test_help_names_every_option(capsys):
    with pytest.raises(SystemExit) as stopped:
        parse_arguments(["--help"])
    assert stopped.value.code == 0
    shown = capsys.readouterr().out
    for field in fields(RamTrainingArguments):
        assert f"--{field.name}" in shown


def test_a_tilde_in_a_yaml_is_the_home(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("USERPROFILE", str(tmp_path))
    read = arguments(model="~/clip", dataset="~/data", output_dir="~/run")
    assert (read.model, read.dataset, read.output_dir) == tuple(
        str(tmp_path / name) for name in ("clip", "data", "run")
    )
