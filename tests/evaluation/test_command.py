"""`ram-hf evaluate` on models, splits and labels that are not what they should be."""

import json
import re
import shutil

import datasets
import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file

from ram_hf import RamModel, cli
from tests.conftest import make_config

FEATURES = datasets.Features({"image": datasets.Image(), "labels": datasets.List(datasets.Value("string"))})
LABELS = [["dog"], ["cat"], ["dog", "sun"]]


def encoded(seed: int, tmp_path) -> bytes:
    file = tmp_path / "image.png"
    pixels = np.random.default_rng(seed).integers(0, 256, (20, 30, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(file)
    return file.read_bytes()


def write_rows(folder, images: list[bytes]):
    folder.mkdir()
    rows = [
        {"image": {"bytes": image, "path": f"{number}.png"}, "labels": LABELS[number % 3]}
        for number, image in enumerate(images)
    ]
    datasets.Dataset.from_list(rows, features=FEATURES).to_parquet(folder / "test-00000-of-00001.parquet")
    return folder


@pytest.fixture(scope="module")
def images(tmp_path_factory):
    return [encoded(seed, tmp_path_factory.mktemp("images")) for seed in range(9)]


@pytest.fixture(scope="module")
def model(tmp_path_factory, tiny_processor):
    folder = tmp_path_factory.mktemp("model")
    torch.manual_seed(0)
    RamModel(make_config(ladder_tokens=2, prompt_tokens=2)).save_pretrained(folder)
    tiny_processor.save_pretrained(folder)
    return folder


ABOUT = {"dataset", "config", "split", "revision"}


@pytest.fixture
def run(model, images, tmp_path, capsys):
    """Evaluates, and returns status, standard output and what was said besides."""

    def evaluate(*options, labels=("dog", "cat"), folder=model, dataset=None):
        (tmp_path / "labels.txt").write_text("".join(f"{label}\n" for label in labels))
        dataset = write_rows(tmp_path / "data", images) if dataset is None else dataset
        options = ["--num-workers", "1", *map(str, options), "--seen", str(tmp_path / "labels.txt")]
        status = cli.main(["evaluate", str(folder), str(dataset), *options])
        return status, *capsys.readouterr()

    return evaluate


def test_the_report_is_told_and_written(run, tmp_path):
    status, told, _ = run("--json", tmp_path / "report.json", labels=("dog", "cat", "sun"))
    assert status == 0
    assert "mAP" in told
    report = json.loads((tmp_path / "report.json").read_text())
    assert [label["num_positives"] for label in report["plain"]["labels"]] == [6, 3, 3]


def test_other_templates_give_other_scores(run, images, tmp_path):
    def judged(*options):
        dataset = tmp_path / "data" if (tmp_path / "data").exists() else write_rows(tmp_path / "data", images)
        assert run(*options, "--json", tmp_path / "report.json", dataset=dataset)[0] == 0
        report = json.loads((tmp_path / "report.json").read_text())
        return [label["average_precision"] for label in report["plain"]["labels"]]

    plain = judged()
    assert json.loads((tmp_path / "report.json").read_text())["evaluated"].keys() == ABOUT
    assert judged("--prompt-template", "photo") == plain
    assert judged("--prompt-template", "openai-7", "--prompt-template", "{label}!") != plain
    about = json.loads((tmp_path / "report.json").read_text())["evaluated"]
    assert about["prompt_template"] == ["openai-7", "{label}!"]
    assert about.keys() == {*ABOUT, "prompt_template"}


def test_the_best_labels_are_judged_again(run, images, tmp_path):
    dataset = write_rows(tmp_path / "data", images)
    options = ("--json", tmp_path / "report.json")
    tables = [run(*options, *more, labels=("dog", "cat", "sun"), dataset=dataset) for more in ((), ("--refine", 2))]
    assert [status for status, *_ in tables] == [0, 0]
    assert tables[0][1] != tables[1][1]
    assert json.loads((tmp_path / "report.json").read_text())["evaluated"]["refine"] == 2


def with_weights(change):
    def spoil(folder):
        changed = [change(name, value) for name, value in load_file(folder / "model.safetensors").items()]
        weights = {name: value.contiguous() for name, value in changed if name is not None}
        save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})

    return spoil


def with_config(**fields):
    def spoil(folder):
        config = json.loads((folder / "config.json").read_text())
        (folder / "config.json").write_text(json.dumps({**config, **fields}))

    return spoil


def scaled(part: str, factor: float):
    return with_weights(lambda name, value: (name, value * factor if part in name else value))


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (with_weights(lambda name, value: (None if "adapter" in name else name, value)), "are incomplete.*adapter"),
        (with_weights(lambda name, value: (f"other.{name}", value)), "are incomplete"),
        (with_weights(lambda name, value: (name, value[:1] if "gate" in name else value)), "do not fit.*gate_conv"),
        (scaled("adapter", float("nan")), "hold NaN or infinite numbers: ladder"),
        (scaled("clip.visual_projection", float("inf")), "hold NaN or infinite numbers: clip.visual_projection"),
        (scaled("local_temperature", 0.0), "`temperatures.local_temperature` must be above 0 and finite, got 0.0"),
        (scaled("global_temperature", -1.0), "`temperatures.global_temperature` must be above 0 and finite, got -"),
        (scaled("global_temperature", float("nan")), "must be above 0 and finite, got nan"),
        (with_config(epsilon=1e-300), "`epsilon` must be between"),
        (with_config(patch_marginal_temperature=float("nan")), "`patch_marginal_temperature` must be between"),
        (lambda folder: (folder / "config.json").write_text("{"), "config.json' cannot be read as JSON"),
        (lambda folder: (folder / "model.safetensors").write_bytes(b"short"), "The weights of .* cannot be read"),
        (lambda folder: (folder / "tokenizer.json").unlink(), "The tokenizer has"),
        (lambda folder: (folder / "config.json").unlink(), "holds no `config.json`"),
        (shutil.rmtree, "There is no model"),
    ],
)
def test_a_bad_model_is_refused_and_no_number_printed(run, model, tmp_path, spoil, message):
    folder = shutil.copytree(model, tmp_path / "spoilt")
    spoil(folder)
    status, told, said = run(folder=folder)
    assert (status, told) == (1, "")
    last = said.splitlines()[-1]
    assert last.startswith("ram-hf: error: ")
    assert re.search(message, last), last


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--split", "tset"), "has no split 'tset'; it has 'test'"),
        (("--label-column", "label"), "There is no label column 'label': the columns are 'image', 'labels'"),
        (("--image-column", "img"), "There is no image column 'img'"),
        (("--label-columns", "dog"), "There is no label column 'dog'"),
        (("--boxes-column", "boxes"), "There is no boxes column 'boxes'"),
        (("--json", "/nowhere/report.json"), "There is no folder for '/nowhere/report.json'"),
        (("--json", "."), "`--json` names the folder '.'"),
    ],
)
def test_what_does_not_fit_is_said_before_the_model_is_loaded(run, options, message):
    status, told, said = run(*options, folder="/no/model")
    assert (status, told) == (1, "")
    assert message in said.splitlines()[-1]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--max-images", 0), "--max-images: must be a whole number of at least 1, got '0'"),
        (("--max-images", -3), "--max-images: must be a whole number of at least 1, got '-3'"),
        (("--batch-size", 0), "--batch-size: must be a whole number of at least 1, got '0'"),
    ],
)
def test_a_number_that_cannot_be_is_refused(run, options, message):
    status, told, said = run(*options, folder="/no/model")
    assert (status, told) == (2, "")
    assert message in said.splitlines()[-1]


def test_an_empty_split_is_named(run, tmp_path):
    (tmp_path / "empty").mkdir()
    pq.write_table(FEATURES.arrow_schema.empty_table(), tmp_path / "empty" / "test-00000-of-00001.parquet")
    status, told, said = run(dataset=tmp_path / "empty")
    assert (status, told) == (1, "")
    assert "test-00000-of-00001.parquet' has no rows" in said


@pytest.mark.parametrize("labels", [("Dog", "Cat"), ("dogs", "cat."), ("DOG",)])
def test_labels_that_do_not_meet_are_refused(run, labels):
    status, told, said = run(labels=labels)
    assert (status, told) == (1, "")
    assert "There is nothing to judge by: none of 9 images has one of the labels" in said
    assert "did you mean 'dog'?" in said


def test_a_single_label_that_no_image_has_is_told(run, caplog):
    status, told, _ = run(labels=("dog", "Cat"))
    assert status == 0
    assert "1 labels without a positive image left out of the means (Cat)" in told
    assert "1 of 2 labels are on none of 9 images: 'Cat' (did you mean 'cat'?)" in caplog.text


def test_a_prepared_folder_tells_before_the_model_is_loaded(run, images, tmp_path):
    folder = write_rows(tmp_path / "prepared", images)
    counts = {"split": "test", "images": 9, "images_of_label": {"dog": 6, "cat": 3}}
    (folder / "report.json").write_text(json.dumps(counts))
    status, _, said = run(labels=("Dog",), dataset=folder, folder="/no/model")
    assert status == 1
    assert "none of 9 images has one of the labels 'Dog' (did you mean 'dog'?)" in said


def test_broken_images_stop_it_or_are_counted(run, images, tmp_path):
    folder = write_rows(tmp_path / "broken", [*images[:4], b"no image", images[5], b"", *images[7:]])
    status, told, said = run(dataset=folder)
    assert (status, told) == (1, "")
    assert "Cannot prepare row 4: Cannot read the given bytes as an image: it is of no known format" in said
    status, told, _ = run("--skip-broken", "--json", tmp_path / "report.json", dataset=folder)
    assert status == 0
    assert "7 images; 2 labels; 2 more could not be read and were passed over" in told
    assert json.loads((tmp_path / "report.json").read_text())["plain"]["num_images_passed_over"] == 2


def test_nothing_but_broken_images_is_an_error(run, tmp_path):
    folder = write_rows(tmp_path / "broken", [b"no image"] * 4)
    status, told, said = run("--skip-broken", dataset=folder)
    assert (status, told) == (1, "")
    assert "none of them could be read" in said


def test_the_environment_changes_no_number(run, images, tmp_path, monkeypatch):
    folder = write_rows(tmp_path / "rows", images)
    expected = run("--json", tmp_path / "plain.json", dataset=folder)
    for name, value in {
        "ACCELERATE_MIXED_PRECISION": "bf16",
        "ACCELERATE_GRADIENT_ACCUMULATION_STEPS": "4",
        "ACCELERATE_DYNAMO_BACKEND": "EAGER",
    }.items():
        monkeypatch.setenv(name, value)
    assert run("--json", tmp_path / "ambient.json", dataset=folder)[:2] == expected[:2]
    assert (tmp_path / "ambient.json").read_text() == (tmp_path / "plain.json").read_text()
