"""`ram-hf evaluate --push`: results come into a card on the Hub, and nothing else of it changes."""

import io

import datasets
import pytest
from huggingface_hub import HfApi, ModelCard
from PIL import Image

from ram_hf import cli
from ram_hf.model.card import generated_part

REPO = "user/street"


@pytest.fixture
def shards(tmp_path):
    rows = []
    for colour in ("red", "green", "blue", "red"):
        file = io.BytesIO()
        Image.new("RGB", (20, 20), colour).save(file, "PNG")
        rows.append({"image": {"bytes": file.getvalue(), "path": None}, "labels": [colour]})
    features = datasets.Features({"image": datasets.Image(), "labels": datasets.List(datasets.Value("string"))})
    folder = tmp_path / "secret"
    folder.mkdir()
    datasets.Dataset.from_list(rows, features=features).to_parquet(folder / "test-00000-of-00001.parquet")
    (tmp_path / "labels.txt").write_text("red\ngreen\nblue\n")
    return folder


def evaluate(model, shards, *options):
    return cli.main(["evaluate", str(model), str(shards), "--seen", str(shards.parent / "labels.txt"), *options])


def card_of(hub, revision="main"):
    return ModelCard(hub.repo(REPO).files(revision)["README.md"].decode())


def test_results_come_into_the_card(logged_in, trained, shards, tmp_path):
    assert cli.main(["push", str(trained), REPO]) == 0
    before = card_of(logged_in)
    assert evaluate(trained, shards, "--push", REPO) == 0
    after = card_of(logged_in)
    assert len(after.data.eval_results) > len(before.data.eval_results)
    assert "a data set that is not on the Hub: split `test`, 4 images" in generated_part(after)
    assert str(tmp_path) not in str(after)
    assert "secret" not in str(after)
    head, tail = before.text.split("## Results")[0], before.text.split("## Training")[1]
    assert after.text.startswith(head)
    assert after.text.endswith(tail)
    assert evaluate(trained, shards, "--push", REPO, "--create-pr") == 0
    assert str(card_of(logged_in)) == str(after)


def test_a_card_of_other_words_stays(logged_in, trained, shards):
    HfApi().create_repo(REPO)
    HfApi().upload_file(path_or_fileobj=b"Words.\n", path_in_repo="README.md", repo_id=REPO)
    assert evaluate(trained, shards, "--push", REPO, "--create-pr") == 0
    assert logged_in.repo(REPO).files("main")["README.md"] == b"Words.\n"
    proposed = card_of(logged_in, logged_in.repo(REPO).pull_requests["refs/pr/1"])
    assert proposed.text == "Words.\n"
    assert {result.metric_type for result in proposed.data.eval_results} >= {"mean_average_precision", "f1"}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--push", "user/strets"], "There is no repository 'user/strets'"),
        (["--create-pr"], "`--create-pr` has no effect without `--push REPO`"),
    ],
)
def test_what_cannot_be_is_told_before_the_work(logged_in, shards, capsys, options, message):
    assert evaluate("nowhere", shards, *options) == 1
    assert message in capsys.readouterr().err
