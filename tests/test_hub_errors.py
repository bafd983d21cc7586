"""Each refusal of the Hub, and each failure on the way, is told in words of ours that hold no token."""

import logging
import re

import pytest

from ram_hf import RamTaggingPipeline, cli
from ram_hf.hub_errors import explain, plain_errors, redacted

from .hub_server import READ_TOKEN, WRITE_TOKEN

STATUSES = [
    (401, "does not know your token"),
    (403, "Your token may not read 'user/repo'"),
    (429, r"takes no more requests for now \(429\), and does in 7 seconds\. Run the same again.*'user/repo'"),
    (500, r"out of order \(500\), asked for 'user/repo'\. Run the same again"),
    (503, r"out of order \(503\), asked for 'user/repo'\. Run the same again"),
]
ONE_IMAGE = ["tag", "image.png", "--labels", "dog", "--model"]


@pytest.fixture
def repo(hub, tiny_model, tiny_processor, monkeypatch, tmp_path):
    from PIL import Image

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("time.sleep", lambda seconds: None)  # which the client does between its attempts
    Image.new("RGB", (9, 9)).save("image.png")
    RamTaggingPipeline(tiny_model, tiny_processor).push_to_hub("user/repo", token=WRITE_TOKEN)
    return hub.repo("user/repo")


def told(argv, capsys):
    assert cli.main(argv) == 1
    return capsys.readouterr().err.splitlines()[-1]


@pytest.mark.parametrize(("status", "words"), STATUSES)
@pytest.mark.parametrize("argv", [["pull", "user/repo"], [*ONE_IMAGE, "user/repo"]], ids=["pull", "tag"])
def test_a_status_is_told(argv, status, words, repo, hub, capsys, monkeypatch):
    monkeypatch.setenv("HF_TOKEN", READ_TOKEN)
    hub.fail(status, times=100, Retry_After="7")
    line = told(argv, capsys)
    assert re.search(words, line), line
    assert "hf_" not in line
    hub.failures.clear()
    assert cli.main(argv) == 0


@pytest.mark.parametrize("argv", [["pull", "user/repo"], [*ONE_IMAGE, "user/repo"]], ids=["pull", "tag"])
def test_who_and_what_is_not_there_is_told(argv, repo, hub, capsys, monkeypatch):
    repo.is_gated = True
    assert "is gated: ask for access" in told(argv, capsys)
    repo.is_private = True
    assert "may" in (line := told(argv, capsys))
    assert "`hf auth login`" in line
    monkeypatch.setenv("HF_TOKEN", "hf_notMyTokenAtAll")
    assert "does not know your token" in (line := told(argv, capsys))
    assert "hf_not" not in line


def test_a_hub_that_is_gone_and_one_that_may_not_be_asked_are_told(repo, hub, capsys, monkeypatch):
    from huggingface_hub import constants

    hub.drop(times=1000)
    for argv in (["pull", "user/repo"], [*ONE_IMAGE, "user/repo"]):
        assert "The connection to the Hub broke off or cannot be had" in told(argv, capsys)
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    assert "HF_HUB_OFFLINE" in told([*ONE_IMAGE, "user/repo"], capsys)


def test_tokens_reach_no_error_and_no_log(repo, hub, capsys, monkeypatch, caplog):
    caplog.set_level(logging.DEBUG)
    monkeypatch.setenv("HF_TOKEN", READ_TOKEN)
    hub.fail(500, "/resolve/", times=3)
    for argv in (["pull", "user/repo"], [*ONE_IMAGE, "user/repo"], ["pull", "user/none"]):
        cli.main(argv)
    shown = capsys.readouterr()
    for text in (shown.out, shown.err, caplog.text):
        assert READ_TOKEN not in text
    monkeypatch.setenv("HF_TOKEN", f"{READ_TOKEN}é")  # no header may hold that, and the client's error quotes it
    assert READ_TOKEN not in told(["pull", "user/repo"], capsys)


@pytest.mark.parametrize("debug", [[], ["--debug"]], ids=["line", "traceback"])
def test_tokens_in_what_a_library_raises_are_not_shown(debug, capsys, monkeypatch):
    def refuse(*_, **__):
        raise RuntimeError(f"Illegal header value b'Bearer {READ_TOKEN}'")

    monkeypatch.setattr("huggingface_hub.snapshot_download", refuse)
    assert cli.main(["pull", "user/repo", *debug]) == 1
    shown = capsys.readouterr().err
    assert ("Traceback" in shown) == bool(debug)
    assert "Illegal header value b'Bearer [token]'" in shown
    assert READ_TOKEN not in shown


def test_what_is_no_error_of_the_hub_is_left_alone():
    assert explain(ValueError("no")) is None
    assert redacted(f"a {WRITE_TOKEN} b'Bearer abc.def' hf_hub") == "a [token] b'Bearer [token]' hf_hub"


@pytest.mark.parametrize(
    ("method", "path", "headers", "status", "kind", "words"),
    [
        ("POST", "/api/repos/create", {}, 403, PermissionError, "may not write to 'user/new'"),
        ("GET", "/api/models/user/repo/revision/v2", {"X-Error-Code": "RevisionNotFound"}, 404, FileNotFoundError,
         "no branch, tag or commit 'v2' of 'user/repo'"),
        ("GET", "/datasets/user/reds/resolve/main/a/b.txt", {"X-Error-Code": "EntryNotFound"}, 404, FileNotFoundError,
         "no file 'a/b.txt' in 'user/reds'"),
        ("GET", "/api/models/user/reds", {"X-Error-Code": "RepoNotFound"}, 404, FileNotFoundError,
         "The Hub has no model 'user/reds', or none that you may see. Check the name"),
        ("GET", "/api/datasets/user/repo/revision/main", {"X-Error-Code": "RepoNotFound"}, 401, FileNotFoundError,
         "The Hub has no data set 'user/repo', or none that you may see. Check the name"),
        ("HEAD", "/user/repo/resolve/main/config.json", {"X-Error-Code": "GatedRepo"}, 403, PermissionError,
         "'user/repo' is gated: ask for access"),
        ("POST", "/api/models/user/repo/commit/main", {"X-Error-Message": "A commit has happened since."}, 412,
         ValueError, "refuses this to 'user/repo' (412). The Hub says: A commit has happened since."),
    ],
)  # fmt: skip
def test_what_is_said_names_the_repository_and_its_type(method, path, headers, status, kind, words):
    from huggingface_hub.utils import _http, hf_raise_for_status

    httpx = getattr(_http, "httpx2", None) or _http.httpx  # which one depends on its release
    request = httpx.Request(method, f"https://huggingface.co{path}")
    name = "user/new" if path.endswith("create") else None
    with pytest.raises(kind) as error, plain_errors(name):
        hf_raise_for_status(httpx.Response(status, headers=headers, request=request))
    assert type(error.value) is kind
    assert words in str(error.value)


@pytest.mark.parametrize(
    ("name", "hint"),
    [("https://huggingface.co/user/repo", "'user/repo'"), ("user/repo/", "'user/repo'"), ("my street", None)],
)
def test_what_can_be_no_name_is_told_with_what_was_meant(name, hint):
    from huggingface_hub.utils import validate_repo_id

    with pytest.raises(ValueError, match="No repository can be named") as error, plain_errors(name):
        validate_repo_id(name)
    assert ("Did you mean" in str(error.value)) == (hint is not None)
    assert hint is None or hint in str(error.value)
