"""The Hub of the tests, asked by the real client: what it stores, gives back and refuses."""

import hashlib

import pytest
import torch
from huggingface_hub import HfApi, constants, hf_hub_download, snapshot_download
from huggingface_hub.errors import (
    GatedRepoError,
    HfHubHTTPError,
    RemoteEntryNotFoundError,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)

from ram_hf import RamModel, RamProcessor, RamTaggingPipeline

from .hub_server import READ_TOKEN, WRITE_TOKEN

CONTENT = bytes(range(256)) * 8


def pushed(hub, path="weights.bin", content=CONTENT, **options):
    api = HfApi(token=WRITE_TOKEN)
    api.create_repo("user/repo", exist_ok=True)
    return api.upload_file(path_or_fileobj=content, path_in_repo=path, repo_id="user/repo", **options)


def test_a_ram_goes_there_and_comes_back(hub, tiny_model, tiny_processor, label_inputs, tmp_path):
    tagger = RamTaggingPipeline(tiny_model, tiny_processor)
    tagger.push_to_hub("user/tagger", private=True, token=WRITE_TOKEN)
    assert hub.repo("user/tagger").is_private
    model = RamModel.from_pretrained("user/tagger", token=READ_TOKEN)
    processor = RamProcessor.from_pretrained("user/tagger", token=READ_TOKEN)
    inputs = {**label_inputs, **tiny_processor(images=torch.rand(3, 40, 40))}
    assert torch.equal(model(**inputs).scores, tiny_model(**inputs).scores)
    assert processor.label_template == tiny_processor.label_template


@pytest.mark.parametrize("part_size", [None, 500])
@pytest.mark.parametrize("path", ["weights.bin", "folder/notes.txt"])
def test_files_come_back_as_they_were(hub, part_size, path):
    hub.part_size = part_size
    pushed(hub, path)
    with open(hf_hub_download("user/repo", path), "rb") as file:
        assert file.read() == CONTENT
    assert hub.repo("user/repo").commits[hub.repo("user/repo").find("main")].files[path].is_large == ("bin" in path)
    assert any("/part/5" in request.path for request in hub.requests) == (part_size is not None and "bin" in path)


def test_what_is_there_is_not_sent_again(hub):
    pushed(hub)
    sent = len(hub.requests)
    pushed(hub)
    assert not [request for request in hub.requests[sent:] if request.method == "PUT" or "/commit/" in request.path]


def test_revisions_tags_and_pull_requests(hub):
    api = HfApi(token=WRITE_TOKEN)
    first = pushed(hub, content=b"one").oid
    api.create_tag("user/repo", tag="v1")
    api.create_branch("user/repo", branch="next/one")
    proposed = pushed(hub, content=b"two", create_pr=True)
    pushed(hub, content=b"three", revision="next/one")
    assert proposed.pr_revision == "refs/pr/1"
    expected = {first: b"one", "v1": b"one", "main": b"one", "refs/pr/1": b"two", "next/one": b"three"}
    for revision, content in expected.items():
        with open(hf_hub_download("user/repo", "weights.bin", revision=revision), "rb") as file:
            assert file.read() == content
    refs = api.list_repo_refs("user/repo", include_pull_requests=True)
    assert [each.name for each in refs.branches] == ["main", "next/one"]
    assert [each.target_commit for each in refs.pull_requests] == [proposed.oid]
    assert [each.title for each in api.list_repo_commits("user/repo")][1:] == ["initial commit"]


def test_listings_and_snapshots(hub):
    pushed(hub, "a/b/one.txt", b"1")
    pushed(hub, "two.bin", b"22")
    api = HfApi(token=WRITE_TOKEN)
    assert {each.path for each in api.list_repo_tree("user/repo")} == {"a", "two.bin"}
    assert set(api.list_repo_files("user/repo")) == {"a/b/one.txt", "two.bin"}
    info = api.model_info("user/repo", files_metadata=True)
    assert {each.rfilename: each.size for each in info.siblings} == {"a/b/one.txt": 1, "two.bin": 2}
    assert api.get_paths_info("user/repo", ["two.bin", "none"])[0].lfs.sha256 == hashlib.sha256(b"22").hexdigest()
    api.delete_folder("a", "user/repo")
    assert snapshot_download("user/repo").endswith(api.model_info("user/repo").sha)
    assert set(hub.repo("user/repo").files()) == {"two.bin"}


def test_who_may_not_is_refused(hub):
    pushed(hub)
    assert HfApi(token=READ_TOKEN).whoami()["name"] == "user"
    with pytest.raises(HfHubHTTPError, match="403"):
        HfApi(token=READ_TOKEN).upload_file(path_or_fileobj=b"", path_in_repo="x", repo_id="user/repo")
    with pytest.raises(HfHubHTTPError, match="401"):
        HfApi(token="hf_wrong").model_info("user/repo")
    hub.repo("user/repo").is_gated = True
    with pytest.raises(GatedRepoError):
        hf_hub_download("user/repo", "weights.bin", token=READ_TOKEN)
    hub.repo("user/repo").is_private = True
    with pytest.raises(RepositoryNotFoundError):
        hf_hub_download("user/repo", "weights.bin", token=False)


def test_what_is_not_there_is_told_apart(hub):
    pushed(hub)
    with pytest.raises(RepositoryNotFoundError):
        hf_hub_download("user/none", "weights.bin", token=READ_TOKEN)
    with pytest.raises(RevisionNotFoundError):
        hf_hub_download("user/repo", "weights.bin", revision="none")
    with pytest.raises(RemoteEntryNotFoundError):
        hf_hub_download("user/repo", "none.bin")


def test_failures_on_demand(hub, monkeypatch):
    monkeypatch.setattr(constants, "DOWNLOAD_CHUNK_SIZE", 50)
    pushed(hub)
    hub.fail(429, "/preupload/", times=2, Retry_After="0")
    hub.drop("/store/", method="PUT", after=2)
    pushed(hub, content=CONTENT + b"more")
    hub.drop("/store/", method="GET", after=100)
    with open(hf_hub_download("user/repo", "weights.bin"), "rb") as file:
        assert file.read() == CONTENT + b"more"
    resumed = [request.headers["range"] for request in hub.requests if "range" in request.headers]
    assert resumed == ["bytes=100-"]
    assert not any(failure.times for failure in hub.failures)
