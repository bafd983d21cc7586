"""Options of a command in a YAML file."""

import argparse
from pathlib import Path

import pytest

from ram_hf import cli
from ram_hf.config_option import with_config


@pytest.fixture
def read(tmp_path):
    """The arguments of `ram-hf evaluate` with a YAML of this text and these words."""

    def arguments(text: str, *words: str) -> argparse.Namespace:
        (tmp_path / "evaluate.yaml").write_text(text)
        config = ["--config", str(tmp_path / "evaluate.yaml")]
        return with_config(cli.make_parser("evaluate").parse_args([*words, *config]))

    return arguments


def test_what_is_given_counts_before_the_file_and_the_file_before_the_defaults(read):
    text = "model: m\ndataset: d\nbatch_size: 7\nsplit: val\nskip_broken: true\nlabel_columns: [a, b]\n"
    args = read(text)
    assert (args.model, args.dataset, args.batch_size, args.split, args.num_workers) == ("m", "d", 7, "val", 4)
    assert (args.skip_broken, args.no_streaming, args.label_columns) == (True, False, ["a", "b"])
    args = read(text, "other", "--batch-size", "32", "--label-columns", "c")
    assert (args.model, args.dataset, args.batch_size, args.label_columns) == ("other", "d", 32, ["c"])
    args = read(text, "other", "rows")
    assert (args.model, args.dataset) == ("other", "rows")


@pytest.mark.parametrize("text", ["prompt_template: openai-7", "prompt_template: [openai-7]"])
def test_what_may_be_given_more_than_once_may_be_a_list(read, text):
    assert read(f"model: m\ndataset: d\n{text}\n").prompt_template == ["openai-7"]


def test_label_files_lie_beside_the_yaml_and_others_in_the_working_directory(read, tmp_path):
    args = read("model: m\ndataset: d\nseen: labels.txt\nunseen: /elsewhere.txt\njson: report.json\n")
    assert (args.seen, args.unseen, args.json) == (
        tmp_path / "labels.txt",
        Path("/elsewhere.txt"),
        Path("report.json"),
    )
    assert read("model: m\ndataset: d\nseen: a.txt\n", "--seen", "b.txt").seen == Path("b.txt")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("batch_sise: 3", "unknown key `batch_sise`. Did you mean 'batch_size'?"),
        ("batch_size: 0", "`batch_size` must be a whole number of at least 1, got '0'"),
        ("batch_size: [1, 2]", "`batch_size` must be one value, got "),
        ("batch_size:", "`batch_size` must be one value, got None"),
        ("skip_broken: 3", "`skip_broken` must be true or false, got 3"),
        ("label_columns: []", "`label_columns` must be a value or a list of them"),
        ("prompt_template: openai7", "`prompt_template` must be a sentence .* Did you mean 'openai-7'?"),
        ("config: other.yaml", "unknown key `config`"),
        ("- model", "must hold `key: value` lines, got list"),
        ("model: [", "is not valid YAML"),
        ("dataset: d", "evaluate.yaml does not say MODEL: add it there, or to the command"),
        ("split: val", "does not say MODEL and DATASET"),
    ],
)
def test_what_is_wrong_with_the_file_is_told(read, text, message):
    with pytest.raises(ValueError, match=message):
        read(text)


def test_without_a_file_everything_is_as_it_was():
    args = with_config(cli.make_parser("evaluate").parse_args(["m", "--split", "val", "d"]))
    assert (args.model, args.dataset, args.split, args.batch_size, args.image_column) == ("m", "d", "val", 32, "image")
    with pytest.raises(cli.UsageError, match="required: DATASET"):
        cli.make_parser("evaluate").parse_args(["m"])


def test_a_file_that_is_not_there_is_told(capsys):
    assert cli.main(["evaluate", "--config", "/nowhere.yaml"]) == 1
    assert "There is no configuration file '/nowhere.yaml'" in capsys.readouterr().err
