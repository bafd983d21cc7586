"""`ram-hf index` killed at random moments and run again ends as if it had never stopped."""

import copy
import os
import random
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

from ram_hf.tagging.index import ImageIndex
from tests.conftest import LABELS
from tests.fork_server import tree
from tests.tagging.hostile import photograph, save_photographs

pytestmark = pytest.mark.slow
NUM_KILLS, NUM_IMAGES, SEED = 20, 14, 7


@pytest.fixture(scope="module")
def model_of_references(tmp_path_factory, _shared_tiny_model, tiny_processor):
    folder = tmp_path_factory.mktemp("model")
    model = copy.deepcopy(_shared_tiny_model)
    with torch.no_grad():
        model.set_reference_labels(LABELS, model.get_label_features(**tiny_processor(labels=LABELS)))
    model.save_pretrained(folder)
    tiny_processor.save_pretrained(folder)
    return folder


class Folder:
    """A folder with images and their index in it, always at the same place."""

    def __init__(self, server, place: Path, model):
        self._server, self._place = server, place
        words = ["--model", model, "--batch-size", "2", "--workers", "0", "--shard-size", "4"]
        self._argv = ["index", place / "images", "--output", place / "index", *words]

    def renew(self, was: Path | None = None):
        shutil.rmtree(self._place, ignore_errors=True)
        if was is not None:
            shutil.copytree(was, self._place)
            return
        save_photographs(self._place / "images", NUM_IMAGES, size=(40, 30))
        (self._place / "images" / "0003.jpg").write_bytes(b"")  # cannot be read
        for file in (self._place / "images").iterdir():
            os.utime(file, ns=(10**18, 10**18))

    def run(self, **how):
        return self._server.run(self._argv, self._place, **how)

    def files(self):
        return tree(self._place / "index")

    def content(self) -> dict[str, tuple]:
        """By path what is said of each image, and its features as a whole; in whatever order."""
        index = ImageIndex(self._place / "index")
        assert index.description.complete
        embeds = index.image_embeds()
        found = {image.path: (image, embeds[number]) for number, image in enumerate(index.images())}
        assert len(found) == len(index)
        return found


def kill_and_run_again(folder: Folder, moments: random.Random, undisturbed, renew, check) -> None:
    killed = 0
    while killed < NUM_KILLS:
        renew()
        story = []
        for _ in range(3):  # killed, and killed again as it goes on
            by_time = moments.random() < 0.3
            if by_time:
                how = {"kill_after": moments.uniform(0, undisturbed.seconds)}
            else:
                how = {"kill_at": moments.randrange(1, undisturbed.changes + 1)}
            run = folder.run(**how)
            story.append((how, run.status))
            assert run.status in (0, -9), (story, run.said)
            killed += run.status == -9
        again = folder.run()
        print(story)
        assert again.status == 0, (story, again.said)
        check(story)


def test_first_run(server, model_of_references, tmp_path):
    folder = Folder(server, tmp_path / "work", model_of_references)
    folder.renew()
    undisturbed = folder.run()
    assert undisturbed.status == 0, undisturbed.said
    expected = folder.files()
    assert len([name for name in expected if name.endswith(".arrow")]) == 4

    def check(story):
        assert folder.files() == expected, story

    kill_and_run_again(folder, random.Random(SEED), undisturbed, folder.renew, check)


def test_later_run(server, model_of_references, tmp_path):
    """Images were removed, moved, changed and added since the index was made."""
    place = tmp_path / "work"
    folder = Folder(server, place, model_of_references)
    folder.renew()
    assert folder.run().status == 0
    images = place / "images"
    (images / "0001.jpg").unlink()
    (images / "below").mkdir()
    (images / "0006.jpg").rename(images / "below" / "0006.jpg")
    photograph(40, 30, seed=99).save(images / "0008.jpg")
    photograph(40, 30, seed=98).save(images / "new.jpg")
    shutil.copytree(place, tmp_path / "before")
    undisturbed = folder.run()
    assert undisturbed.status == 0, undisturbed.said
    expected = folder.content()
    assert len(expected) == NUM_IMAGES

    def check(story):
        found = folder.content()
        assert found.keys() == expected.keys(), story
        for path, (image, embeds) in expected.items():
            assert found[path][0] == image, (path, story)
            # Another batch may give other last digits.
            assert np.allclose(found[path][1].astype("f4"), embeds.astype("f4"), atol=1e-3), (path, story)

    kill_and_run_again(folder, random.Random(SEED + 1), undisturbed, lambda: folder.renew(tmp_path / "before"), check)
