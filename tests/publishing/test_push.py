"""`ram-hf push` and `push_to_hub` against a Hub on loopback: what goes there, what stays, and what is refused."""

import getpass
import json
import os
import re
import socket
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from huggingface_hub import HfApi, ModelCard
from safetensors.torch import load, load_file, save_file

from ram_hf import RamModel, RamProcessor, RamTaggingPipeline, cli
from ram_hf.model.card import generated_part
from tests.hub_server import READ_TOKEN, WRITE_TOKEN

REPO = "user/street"
ROOT = Path(__file__).parents[2]


def push(*arguments: object) -> int:
    return cli.main(["push", *map(str, arguments)])


def card_of(hub, repo: str = REPO) -> ModelCard:
    return ModelCard(hub.repo(repo).files("main")["README.md"].decode())


def put_card(text: str, repo: str = REPO) -> None:
    HfApi().create_repo(repo, exist_ok=True)
    HfApi().upload_file(path_or_fileobj=text.encode(), path_in_repo="README.md", repo_id=repo)


def test_what_goes_there(logged_in, trained, capsys, tiny_model, label_inputs):
    assert push(trained, REPO, "--private", "--message", "First") == 0
    output = capsys.readouterr()
    assert output.out == f"{logged_in.url}/user/street\n"
    assert re.search(r"Sending \d+ files, [\d.]+ MB, to user/street", output.err)
    repo = logged_in.repo(REPO)
    assert repo.is_private
    assert repo.commits[repo.find("main")].title == "First"
    files = set(repo.files("main"))
    assert {"model.safetensors", "config.json", "processor_config.json", "tokenizer.json"} <= files
    assert {"modeling_ram.py", "pipeline_ram.py", "handler.py", "README.md", "NOTICE", "training.json"} <= files
    assert {file for file in files if file.endswith((".pt", ".jsonl", ".txt", ".lock")) or "/" in file} == set()
    data = card_of(logged_in).data
    assert (data.base_model, data.datasets, data.library_name) == ("user/clip", ["user/street"], "transformers")
    assert {(each.metric_name, each.metric_value) for each in data.eval_results} == {("mAP", 0.25), ("OF1@3", 0.5)}
    model, processor = RamModel.from_pretrained(REPO), RamProcessor.from_pretrained(REPO)
    inputs = {**label_inputs, **processor(images=torch.rand(3, 40, 40))}
    assert torch.equal(model(**inputs).scores, tiny_model(**inputs).scores)


@pytest.mark.parametrize("stored", [torch.float32, torch.float16, torch.bfloat16], ids=str)
def test_weights_go_as_they_are_stored(logged_in, trained, label_inputs, stored):
    """Whatever the configuration says they are to be loaded in."""
    weights = load_file(trained / "model.safetensors")
    weights = {name: tensor.to(stored) if tensor.dim() > 1 else tensor for name, tensor in weights.items()}
    save_file(weights, trained / "model.safetensors", {"format": "pt"})
    assert push(trained, REPO) == 0
    pushed = load(logged_in.repo(REPO).files("main")["model.safetensors"])
    assert {name: tensor.dtype for name, tensor in pushed.items()} == {name: w.dtype for name, w in weights.items()}
    inputs = {**label_inputs, "pixel_values": torch.rand(2, 3, 32, 32)}
    before, after = RamModel.from_pretrained(trained), RamModel.from_pretrained(REPO)
    assert after.dtype == before.dtype == torch.float32
    assert torch.equal(before(**inputs).scores, after(**inputs).scores)


def test_nothing_local_is_pushed(logged_in, trained, tmp_path):
    assert push(trained, REPO) == 0
    model, processor = RamModel.from_pretrained(trained), RamProcessor.from_pretrained(trained)
    RamTaggingPipeline(model, processor).push_to_hub("user/by-pipeline")
    model.push_to_hub("user/by-parts")
    processor.push_to_hub("user/by-parts")
    local = [str(tmp_path), str(Path.home()) + "/", str(ROOT), f"{socket.gethostname()}/", f"/{getpass.getuser()}/"]
    for repo in (REPO, "user/by-pipeline", "user/by-parts"):
        files = logged_in.repo(repo).files("main")
        assert {"README.md", "training.json", "config.json"} <= set(files)
        for name, content in files.items():
            words = [*local, WRITE_TOKEN, *([] if name.endswith(".py") else ["is_local", "local_files_only"])]
            assert not [word for word in words if word.encode() in content], f"in {name} of {repo}"


@pytest.mark.parametrize("is_installed", [True, False])
def test_the_snippets_of_the_card_run_as_they_stand(logged_in, trained, tmp_path, is_installed):
    assert push(trained, REPO) == 0
    snippets = re.findall(r"```python\n(.*?)```", str(card_of(logged_in)), flags=re.DOTALL)
    assert len(snippets) == 2
    for snippet in snippets:
        code = snippet if is_installed else f"import sys\nsys.modules['ram_hf'] = None\n{snippet}"
        environment = {**os.environ, "PYTHONPATH": str(ROOT) if is_installed else ""}
        done = subprocess.run(
            [sys.executable, "-c", code],
            **{"cwd": tmp_path, "env": environment, "capture_output": True, "text": True, "check": False},
        )
        assert done.returncode == 0, done.stderr
        assert "dog" in done.stdout
        assert "red car" in done.stdout


def test_the_card_is_renewed_around_words_that_stay(logged_in, trained, capsys):
    (trained / "README.md").write_text("---\nlicense: mit\n---\n# Streets\n\nTaken in winter.\n")
    assert push(trained, REPO) == 0
    first = str(card_of(logged_in))
    assert "# Streets\n\nTaken in winter.\n" in first
    assert "license: mit" in first
    put_card(first.replace("in winter.", "in *summer*.").replace("license: mit", "license: cc0-1.0\nodd: 1"))
    record = json.loads((trained / "training.json").read_text())
    (trained / "training.json").write_text(json.dumps({**record, "steps": 99}))
    (trained / "report.json").unlink()
    assert push(trained, REPO) == 0
    second = card_of(logged_in)
    assert "Taken in *summer*." in second.text
    assert "Taken in winter" not in str(second)
    assert (second.data.license, second.data["odd"]) == ("cc0-1.0", 1)
    assert "99 steps" in generated_part(second)
    assert len(second.data.eval_results) == 2  # found once, and not lost with the report
    assert "The words of the card at user/street stay" in capsys.readouterr().err


def test_a_license_is_the_base_models_unless_said(logged_in, trained):
    assert push(trained, "user/one") == 0
    assert card_of(logged_in, "user/one").data.license == "unknown"
    put_card("---\nlicense: other\nlicense_name: clip\nlicense_link: LICENSE\n---\n", "user/clip")
    assert push(trained, "user/two") == 0
    two = card_of(logged_in, "user/two").data
    assert (two.license, two.license_name, two.license_link) == ("other", "clip", "LICENSE")
    assert push(trained, "user/three", "--license", "apache-2.0") == 0
    assert card_of(logged_in, "user/three").data.license == "apache-2.0"


def test_a_branch_is_made_and_main_stays(logged_in, trained):
    assert push(trained, REPO, "--revision", "next") == 0
    repo = logged_in.repo(REPO)
    assert "model.safetensors" in repo.files("next")
    assert "model.safetensors" not in repo.files("main")


def test_push_to_hub_of_model_processor_and_pipeline(logged_in, trained, tiny_model):
    model, processor = RamModel.from_pretrained(trained), RamProcessor.from_pretrained(trained)
    processor.push_to_hub("user/parts")  # first, so that a card is there that knows less
    model.push_to_hub("user/parts", tags=["mine"])
    RamTaggingPipeline(model, processor).push_to_hub("user/whole")
    parts = card_of(logged_in, "user/parts")
    for card in (parts, card_of(logged_in, "user/whole")):
        assert "9 steps" in generated_part(card)
        assert "More Information Needed" not in str(card)
        assert card.data.base_model == "user/clip"
        assert len(card.data.eval_results) == 2
    assert "mine" in parts.data.tags
    assert "handler.py" in logged_in.repo("user/whole").files("main")
    RamModel.from_pretrained("user/whole").push_to_hub("user/copy")  # from the Hub, and its run is still known
    assert "9 steps" in generated_part(card_of(logged_in, "user/copy"))
    tiny_model.push_to_hub("user/fresh")
    assert "No run of `ram-hf train` is recorded" in str(card_of(logged_in, "user/fresh"))


def test_an_empty_template_gives_way(logged_in, tiny_model):
    from transformers.utils.hub import create_and_tag_model_card

    HfApi().create_repo(REPO)
    put_card(str(create_and_tag_model_card(REPO, ["kept"])))
    tiny_model.push_to_hub(REPO)
    card = card_of(logged_in)
    assert "More Information Needed" not in str(card)
    assert card.data.tags[0] == "kept"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["nowhere", REPO], "There is no folder 'nowhere'"),
        (["{folder}/checkpoints", REPO], "has no config.json. There is one in '{folder}'"),
        (["{folder}/clip", REPO], "holds a CLIP and no RAM model"),
        ([REPO, "{folder}"], "`ram-hf push FOLDER REPO`, in this order"),
        (["{folder}", "user/my street"], "No repository can be named 'user/my street': it is 'owner/name'"),
        (["{folder}", "https://huggingface.co/user/street"], "Did you mean 'user/street'?"),
        (["{folder}", "user/street/"], "Did you mean 'user/street'?"),
        (["{folder}", REPO, "--adapters-only"], "adapters belong to the CLIP"),
        (["{folder}", "someone/street"], "Your token may not write to 'someone/street'"),
        (["{folder}", REPO, "--privat"], "Did you mean '--private'"),
    ],
)
def test_what_cannot_be_pushed_is_told(logged_in, trained, tiny_model, capsys, arguments, message):
    tiny_model.clip.save_pretrained(trained / "clip")
    assert push(*(argument.format(folder=trained) for argument in arguments)) in (1, 2)
    error = capsys.readouterr().err.splitlines()[-1]
    assert message.format(folder=trained) in error
    assert not [request for request in logged_in.requests if "/commit/" in request.path]


def test_without_a_token_nothing_is_done(hub, trained, capsys):
    assert push(trained, REPO) == 1
    assert "`hf auth login`" in capsys.readouterr().err
    assert not hub.requests


@pytest.mark.parametrize("token", [READ_TOKEN, "hf_" + "x" * 34])
def test_a_token_that_may_not_is_told_and_never_shown(hub, trained, capsys, monkeypatch, token):
    monkeypatch.setenv("HF_TOKEN", token)
    assert push(trained, REPO) == 1
    error = capsys.readouterr().err
    assert "token" in error.splitlines()[-1]
    assert token not in error


def test_private_is_not_pushed_to_what_is_public(logged_in, trained, capsys):
    assert push(trained, REPO) == 0
    commits = len(logged_in.repo(REPO).commits)
    assert push(trained, REPO, "--private") == 1
    assert "is there already, and public" in capsys.readouterr().err
    assert len(logged_in.repo(REPO).commits) == commits


def test_a_broken_upload_goes_on_when_run_again(logged_in, trained, capsys, monkeypatch):
    monkeypatch.setattr("huggingface_hub.utils._http.time.sleep", lambda _: None)
    logged_in.fail(503, "/commit/", times=99)
    assert push(trained, REPO) == 1
    assert "Run the same again" in capsys.readouterr().err
    logged_in.failures.clear()
    sent = len(logged_in.requests)
    assert push(trained, REPO) == 0
    assert not [request for request in logged_in.requests[sent:] if request.method == "PUT"]


def test_words_that_cannot_be_read_are_not_written_over(logged_in, trained, capsys):
    HfApi().create_repo(REPO)
    put_card("---\nlicense: [\n---\nMine.\n")
    assert push(trained, REPO) == 1
    assert "The metadata of the card of 'user/street' cannot be read" in capsys.readouterr().err
    assert logged_in.repo(REPO).files("main")["README.md"].endswith(b"Mine.\n")


def test_adapters_alone_name_their_base(logged_in, tiny_model, tiny_processor, label_inputs, tmp_path):
    tiny_model.clip.push_to_hub("user/clip")
    tiny_processor.push_to_hub("user/clip")
    model = RamModel.from_clip("user/clip", for_training=True)
    RamTaggingPipeline(model, tiny_processor).save_pretrained(tmp_path / "trained")
    assert push(tmp_path / "trained", REPO, "--adapters-only") == 0
    data = card_of(logged_in).data
    assert (data.base_model, data["base_model_relation"]) == ("user/clip", "adapter")
    whole = sum(map(len, logged_in.repo("user/clip").files("main").values()))
    assert len(logged_in.repo(REPO).files("main")["model.safetensors"]) < whole / 2
    inputs = {**label_inputs, **tiny_processor(images=torch.rand(3, 40, 40))}
    assert torch.equal(RamModel.from_pretrained(REPO)(**inputs).scores, model(**inputs).scores)
