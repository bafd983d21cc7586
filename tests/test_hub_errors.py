"""Each refusal of the Hub, and each failure on the way, is told in words of ours that hold no token."""

import logging
import re

import pytest

from ram_hf import RamTaggingPipeline, cli
from ram_hf.hub_errors import explain, redacted

from .hub_server import READ_TOKEN, WRITE_TOKEN

STATUSES = [
    (401, "does not know your token"),
    (403, "Your token may not do this"),
    (429, r"takes no more requests for now \(429\), and does in 7 seconds\. Run the same again"),
    (500, r"out of order \(500\)\. Run the same again"),
    (503, r"out of order \(503\)\. Run the same again"),
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


def test_what_is_no_error_of_the_hub_is_left_alone():
    assert explain(ValueError("no")) is None
    assert redacted(f"a {WRITE_TOKEN} b'Bearer abc.def' hf_hub") == "a [token] b'Bearer [token]' hf_hub"
