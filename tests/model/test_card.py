"""The card of a model: what is made from the run, and what stays."""

import json
import re

import pytest
import yaml
from huggingface_hub import EvalResult, ModelCard, ModelCardData
from huggingface_hub.repocard_data import model_index_to_eval_results

from ram_hf.model.card import generated_part, has_own_words, make_card, read_card, with_results
from ram_hf.model.eval_results import merged_results, results_of_report
from ram_hf.model.hub_names import hub_id, intended_id, split_revision
from ram_hf.model.run_record import RunRecord, read_run
from tests.conftest import RAM_TINY

TOP_3 = {"OP@3": 0.4, "OR@3": 0.3, "OF1@3": 0.343, "CP@3": 0.4, "CR@3": 0.2, "CF1@3": 0.27}


def make_report(*, dataset="me/street", split="test", precision=0.4251234):
    labels = [{"name": "dog", "num_positives": 3, "average_precision": 0.5}]
    setting = {"num_images": 1200, "mAP": precision, **TOP_3, "pointing": {}, "labels": labels}
    zsl = {**setting, "mAP": None, "pointing": {"transport_plan": {"accuracy": 0.884}}}
    return {
        "evaluated": {"dataset": dataset, "config": None, "split": split, "revision": None},
        "zsl": zsl,
        "gzsl": {**setting, "labels": labels * 2},
    }


def make_run(**overrides):
    facts = {
        "arguments": {
            "model": "openai/clip-vit-base-patch16",
            "dataset": "me/street",
            "max_steps": 300,
            "augment": True,
        },
        "seen_labels": ["dog", "red_car", "a *tree* & <b>"],
        "unseen_labels": ["zebra"],
        "steps": 300,
        "versions": {"torch": "2.9.0"},
        "results": results_of_report(make_report()),
    }
    return RunRecord(**{**facts, **overrides})


@pytest.fixture
def card(tiny_config) -> ModelCard:
    return make_card("me/ram-street", config=tiny_config, run=make_run(), has_pipeline=True)


def test_metadata_is_what_the_hub_reads(card):
    read = ModelCard(str(card)).data  # by the Hub client's own classes
    assert (read.library_name, read.pipeline_tag) == ("transformers", "zero-shot-image-classification")
    assert (read.base_model, read["base_model_relation"]) == ("openai/clip-vit-base-patch16", "finetune")
    assert read.datasets == ["me/street"]
    assert read.license == "unknown"
    assert {"recover-and-match", "open-vocabulary", "multi-label"} <= set(read.tags)
    assert read.model_name == "ram-street"
    assert read.metrics == ["precision", "recall", "f1", "pointing_game_accuracy", "mean_average_precision"]
    by_name = {result.metric_name: result for result in read.eval_results}
    assert by_name["GZSL mAP"].metric_value == 0.4251
    assert by_name["ZSL pointing, transport_plan"].metric_value == 0.884
    assert by_name["ZSL OF1@3"].metric_args == {"top_k": 3, "mean": "overall", "num_labels": 1}
    assert "ZSL mAP" not in by_name  # undefined, and not 0
    (entry,) = yaml.safe_load(str(card).split("---\n")[1])["model-index"][0]["results"]
    assert entry["dataset"] == {"name": "me/street", "type": "me/street", "split": "test", "args": {"images": 1200}}


def test_the_text_tells_of_the_run(card):
    text = generated_part(card)
    assert "[me/street](https://huggingface.co/datasets/me/street), with 3 labels, in 300 steps (torch 2.9.0)" in text
    block = re.search(r"```yaml\n(.*?)```", text, flags=re.DOTALL).group(1)
    assert yaml.safe_load(block) == dict(make_run().arguments)
    assert "<summary>3 seen in training</summary><p>dog, red_car, a *tree* &amp; &lt;b&gt;</p>" in text
    assert "<summary>1 unseen</summary><p>zebra</p>" in text
    assert "| mAP | - | 42.5 |" in text
    assert "32 x 32 pixels" in text
    assert text.count('labels = ["dog", "red_car", "a *tree* & <b>"]\n') == 2
    for heading in ("Use", "What a score means", "Results", "Training", "Labels", "Limits", "Citation"):
        assert text.count(f"## {heading}\n") == 1


def test_without_a_run_nothing_is_made_up(tiny_config):
    card = make_card("me/ram", config=tiny_config)
    assert {"base_model", "datasets", "model-index", "metrics"}.isdisjoint(card.data.to_dict())
    text = generated_part(card)
    assert "No run of `ram-hf train` is recorded" in text
    assert "## Results" not in text
    assert "pipeline(" not in text  # whose code is not there


@pytest.mark.parametrize("newline", ["\n", "\r\n"])
def test_own_words_and_metadata_stay(tiny_config, newline):
    own = (
        "---\nlicense: cc-by-4.0\nlanguage: de\ntags: [street]\nmodel-index:\n- name: mine\n  results:\n"
        "  - task: {type: retrieval}\n    dataset: {type: x, name: X}\n    metrics: [{type: recall, value: 0.5}]\n"
        "---\n\n# Street tagger\n\nMine: `a | b`.\n"
    ).replace("\n", newline)
    card = make_card("me/ram", config=tiny_config, own=read_card(own, "own"))
    behind = str(card) + f"{newline}## Thanks{newline}{newline}To all.{newline}"
    run = make_run()
    again = make_card("me/ram", config=tiny_config, run=run, own=read_card(behind, "own"))
    text = str(again)
    assert again.text.startswith(f"{newline}# Street tagger{newline}{newline}Mine: `a | b`.{newline}")
    assert text.endswith(f"## Thanks{newline}{newline}To all.{newline}")
    assert (again.data.license, again.data["language"]) == ("cc-by-4.0", "de")
    assert again.data.tags[0] == "street"
    assert "300 steps" in text
    assert text.count("## Use") == 1
    assert {result.task_type for result in again.data.eval_results} == {"retrieval", "zero-shot-image-classification"}
    assert again.data.model_name == "mine"
    assert str(make_card("me/ram", config=tiny_config, run=run, own=read_card(text, "own"))) == text
    assert (
        ("\r\n" in text) == ("\n" in text.replace("\r\n", ""))
        or newline == "\n"
        or "\n" not in re.sub("\r\n", "", text)
    )


def test_a_fresh_card_and_an_empty_template_hold_no_words_of_anybody(tiny_config):
    fresh = make_card("me/ram", config=tiny_config)
    assert fresh.text.startswith("\n# ram\n")
    assert not has_own_words(fresh)
    assert not has_own_words(None)
    described = (
        "This is the model card of a 🤗 transformers model that has been pushed on the Hub. This model card has been "
        "automatically generated."
    )
    empty = ModelCard.from_template(
        ModelCardData(tags=["x"], library_name="transformers"), model_description=described
    )
    assert not has_own_words(empty)
    made = make_card("me/ram", config=tiny_config, own=empty)
    assert "More Information Needed" not in str(made)
    assert made.data.tags[0] == "x"
    written = read_card(str(fresh).replace("# ram\n", "# ram\n\nFor streets in the rain.\n"), "written")
    assert has_own_words(written)


END = "<!-- ram_hf: end of the part that is renewed -->"


@pytest.mark.parametrize(
    ("spoil", "counts"),
    [
        (lambda text: text.replace(END, ""), "1 marks .* 0 marks"),
        (lambda text: text + text, "2 marks .* 2 marks"),
        (lambda text: END + text.replace(END, ""), "1 marks .* 1 marks"),
    ],
)
def test_broken_marks_are_refused(card, spoil, counts):
    card.text = spoil(card.text)
    with pytest.raises(ValueError, match=counts):
        make_card("me/ram", own=card)


@pytest.mark.parametrize(
    "text", ["---\nlicense: [\n---\n", "---\n- a\n- b\n---\n", "---\nmodel-index: [{a: 1}]\n---\n"]
)
def test_metadata_that_cannot_be_read_is_told(text):
    with pytest.raises(ValueError, match="The metadata of the card of 'me/ram' cannot be read"):
        read_card(text, "of 'me/ram'")


def test_new_results_take_the_place_of_old_ones_on_the_same_rows(card):
    new = results_of_report(make_report(precision=0.9)) + results_of_report(make_report(split="winter", precision=0.2))
    before = len(card.data.eval_results)
    renewed = with_results(read_card(str(card), "card"), new, "me/ram-street")
    assert len(renewed.data.eval_results) == 2 * before
    text = generated_part(renewed)
    assert "| mAP | - | 90.0 |" in text
    assert "| mAP | - | 20.0 |" in text
    assert "42.5" not in text
    assert text.count("## Results") == text.count("## Training") == 1
    assert text.index("## What a score means") < text.index("## Results") < text.index("## Training")
    assert str(with_results(read_card(str(renewed), "card"), new, "me/ram-street")) == str(renewed)
    plain = with_results(read_card("Only words.\n", "card"), new, "me/ram-street")
    assert plain.text == "Only words.\n"
    assert len(plain.data.eval_results) == 2 * before


def test_what_was_asked_for_is_said_with_the_results(card):
    report = make_report(split="winter")
    report["evaluated"] |= {"prompt_template": ["openai-7", "{label}!"], "refine": 3}
    renewed = with_results(card, results_of_report(report), "me/ram-street")
    lines = [line for line in generated_part(renewed).splitlines() if line.startswith("In percent")]
    assert [("labels in `openai-7` and `{label}!`, `--refine 3`." in line) for line in lines] == [False, True]
    read = read_card(str(renewed), "card").data.eval_results[-1]
    assert (read.metric_args["prompt_template"], read.metric_args["refine"]) == (["openai-7", "{label}!"], 3)


def test_results_of_which_other_things_were_asked_stand_in_tables_of_their_own(card):
    report = make_report()
    report["evaluated"]["refine"] = 3
    del report["zsl"]  # which stays as it was
    generated = generated_part(with_results(card, results_of_report(report), "me/ram-street"))
    heads = [line for line in generated.splitlines() if line.startswith(("In percent", "| |"))]
    assert ["--refine" in line for line in heads[::2]] == [False, True]
    assert ["(ZSL)" in line for line in heads[1::2]] == [True, False]


def test_rows_without_a_name_are_told_apart_by_what_they_hold():
    here, there = make_report(dataset=None), make_report(dataset=None)
    there["gzsl"]["labels"] = [{"name": "cat", "num_positives": 3, "average_precision": 0.5}]
    assert len(merged_results(results_of_report(here), results_of_report(there))) == 2 * len(results_of_report(here))
    assert len(merged_results(results_of_report(here), results_of_report(here))) == len(results_of_report(here))
    assert {result.dataset_name for result in results_of_report(here)} == {"a data set that is not on the Hub"}


def test_results_of_others_are_kept_and_not_in_our_table(card):
    foreign = EvalResult(
        task_type="zero-shot-image-classification", dataset_type="me/street", dataset_name="Streets",
        dataset_split="test", metric_type="accuracy", metric_value=0.123,
    )  # fmt: skip
    renewed = with_results(card, [foreign], "me/ram-street")
    assert foreign in renewed.data.eval_results
    assert "12.3" not in generated_part(renewed)


def test_a_run_is_read_from_its_folder(tmp_path):
    (tmp_path / "training.json").write_text(json.dumps({"arguments": {"seed": 1}, "steps": 7, "of later versions": 1}))
    (tmp_path / "b.json").write_text(json.dumps(make_report(precision=0.5)))
    (tmp_path / "a.json").write_text(json.dumps(make_report(split="winter")))
    (tmp_path / "config.json").write_text("{}")
    (tmp_path / "broken.json").write_text("{")
    run = read_run(tmp_path)
    assert (run.steps, run.arguments) == (7, {"seed": 1})
    assert {result.dataset_split for result in run.results} == {"test", "winter"}
    assert read_run(None) == read_run(tmp_path / "nowhere") == read_run("") == RunRecord()
    (tmp_path / "training.json").write_text("[")
    with pytest.raises(ValueError, match=r"training\.json' is no JSON object"):
        read_run(tmp_path)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("openai/clip-vit-base-patch16", "openai/clip-vit-base-patch16"),
        ("a/b.c-d_e", "a/b.c-d_e"),
        *(
            (name, None)
            for name in ("/home/me/clip", "./clip", "~/clip", "../a", "C:\\a\\b", "ram-photo", "a/b/c", "", None)
        ),
    ],
)
def test_names_of_the_hub(name, expected):
    assert hub_id(name) == expected


def test_a_folder_is_no_name_of_the_hub(tmp_path, monkeypatch):
    (tmp_path / "runs" / "mine").mkdir(parents=True)
    monkeypatch.chdir(tmp_path)
    assert hub_id("runs/mine") is None
    assert hub_id("runs/other") == "runs/other"


@pytest.mark.parametrize(
    ("written", "expected"),
    [
        ("https://huggingface.co/user/repo", "user/repo"),
        ("huggingface.co/datasets/user/repo/tree/main", "user/repo"),
        ("https://hf.co/user/repo/", "user/repo"),
        ("user/repo/", "user/repo"),
        (" user/repo ", "user/repo"),
        ("user/my repo", "user/my-repo"),
        ("user/repo", None),
        ("/home/user", None),
        ("./user/repo/", None),
        ("shards/of/mine", None),
    ],
)
def test_what_name_was_meant(written, expected):
    assert intended_id(written) == expected


@pytest.mark.parametrize(
    ("written", "expected"),
    [
        ("user/repo@v1", ("user/repo", "v1")),
        ("gpt2@refs/pr/1", ("gpt2", "refs/pr/1")),
        ("user/repo", ("user/repo", None)),
        ("/data/of@home", ("/data/of@home", None)),
        ("runs/of/me@home", ("runs/of/me@home", None)),
    ],
)
def test_a_revision_in_a_name(written, expected):
    assert split_revision(written, None) == expected
    with pytest.raises(ValueError, match="names a revision, and so does"):
        split_revision("user/repo@v1", "main")


def test_results_that_somebody_wrote_are_valid_for_the_hub():
    """What huggingface_hub reads out of the card is what it writes into one."""
    text = (RAM_TINY / "README.md").read_text()
    results = read_card(text, "ram-tiny").data.eval_results
    again = ModelCardData(model_name="ram-tiny", eval_results=results).to_dict()["model-index"]
    assert model_index_to_eval_results(again) == ("ram-tiny", results)
    assert again == yaml.safe_load(text.split("---\n")[1])["model-index"]
    by_name = {result.metric_name: result.metric_value for result in results}
    assert (by_name["ZSL mAP"], by_name["GZSL mAP"]) == (0.3327, 0.4393)


def test_a_calibration_is_told_with_its_table(tiny_config):
    weights = {"evidence_weights": [1.0, 1.0], "statistics_weights": [0.0] * 6, "bias": 0.0, "threshold": 0.284}
    config = type(tiny_config)(**{**tiny_config.to_dict(), "reference_labels": ["dog", "cat"], "calibration": weights})
    bins = [{"lowest": 0.05, "highest": 0.3, "mean_probability": 0.121, "share_present": 0.103, "num_entries": 1489}]
    found = {"calibrated": {"images": 1500, "labels": 218}, "ece": 0.0371, "brier": 0.0099, "bins": bins}
    text = str(make_card("me/ram-street", config=config, run=make_run(calibration=found)))
    assert "## What a probability means" in text
    assert "From 0.284 on F1 is best. Fitted to 1,500 images with 218 labels" in text
    assert "error is 0.037 and the Brier score 0.0099" in text
    assert "| 0.05 to 0.30 | 0.121 | 0.103 | 1,489 |" in text
    bare = str(make_card("me/ram-street", config=config, run=make_run()))  # its report was lost
    assert "## What a probability means" in bare
    assert "Fitted to" not in bare
    assert "What a probability means" not in str(make_card("me/ram-street", config=tiny_config, run=make_run()))


def test_a_run_knows_its_calibration(tmp_path):
    (tmp_path / "calibration.json").write_text('{"ece": 0.5}')
    assert read_run(tmp_path).calibration == {"ece": 0.5}
    (tmp_path / "calibration.json").write_text("[]")
    with pytest.raises(ValueError, match=r"calibration.json' is no JSON object"):
        read_run(tmp_path)
