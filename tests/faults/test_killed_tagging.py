"""`ram-hf tag` killed at random moments and resumed ends as if it had never stopped: nothing lost, nothing double."""

import random
import shutil
from pathlib import Path

import pytest

from tests.conftest import LABELS
from tests.fork_server import tree
from tests.tagging.hostile import save_photographs

pytestmark = pytest.mark.slow
NUM_KILLS, NUM_IMAGES, SEED = 20, 16, 12
_FOREIGN = """<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">
<rdf:Description xmlns:xmp="http://ns.adobe.com/xap/1.0/" xmp:Rating="4"/></rdf:RDF></x:xmpmeta>
"""
OUTPUTS = {
    "jsonl": ["--output", "out/tags.jsonl"],
    "csv": ["--output", "out/tags.csv"],
    "parquet": ["--output", "out/tags.parquet"],
    "captions": ["--sidecar", "txt"],
    "xmp": ["--sidecar", "xmp"],
    "overlays": ["--overlay", "out/drawn"],
    "together": ["--output", "out/tags.csv", "--sidecar", "xmp", "--overlay", "out/drawn"],
}


@pytest.fixture(scope="module")
def images(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("images")
    save_photographs(folder, NUM_IMAGES, size=(40, 30))
    (folder / "0003.jpg").write_bytes(b"")  # cannot be read
    (folder / "0005.jpg.xmp").write_text(_FOREIGN)  # somebody's own
    (folder / "0006.xmp").write_text(_FOREIGN)
    return folder


class Folder:
    """A folder with images and outputs in it, always at the same place, and the command that tags them."""

    def __init__(self, server, images, place, command):
        self._server, self._images, self._place = server, images, place
        self._argv = ["tag", place / "images"]
        self._argv += [place / word if word.startswith("out/") else word for word in command]

    def renew(self):
        shutil.rmtree(self._place, ignore_errors=True)
        shutil.copytree(self._images, self._place / "images")
        (self._place / "out").mkdir()

    def run(self, *more, **how):
        return self._server.run([*self._argv, *more], self._place, **how)

    def content(self):
        return tree(self._place)


@pytest.mark.parametrize("kind", OUTPUTS)
def test_killed_and_resumed(server, images, model_folder, tmp_path, kind):
    command = [*OUTPUTS[kind], "--model", str(model_folder), "--labels", ",".join(LABELS), "--top-k", "2"]
    folder = Folder(server, images, tmp_path / "work", [*command, "--batch-size", "2", "--workers", "0"])
    folder.renew()
    undisturbed = folder.run()
    assert undisturbed.status == 0, undisturbed.said
    assert undisturbed.changes > NUM_IMAGES // 2
    expected = folder.content()
    assert len(expected) > NUM_IMAGES + 2

    moments = random.Random(f"{SEED} {kind}")
    killed = 0
    while killed < NUM_KILLS:
        folder.renew()
        story = []
        for begins in (True, False, False, False):  # killed, and killed again as it goes on
            by_time = moments.random() < 0.3
            if by_time:
                how = {"kill_after": moments.uniform(0, undisturbed.seconds)}
            else:
                how = {"kill_at": moments.randrange(1, undisturbed.changes // (1 if begins else 3) + 1)}
            run = folder.run(*([] if begins else ["--resume"]), **how)
            story.append((how, run.status))
            assert run.status in (0, -9), (story, run.said)
            assert run.status == -9 or by_time or how["kill_at"] > run.changes, story
            killed += run.status == -9
            if run.status == 0:
                break
        resumed = folder.run("--resume")
        print(story)
        assert resumed.status == 0, (story, resumed.said)
        assert folder.content() == expected, story
