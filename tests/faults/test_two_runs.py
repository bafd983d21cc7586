"""Two runs at once into one output: the second is refused at once, by the lock; what a killed run left is no lock."""

import os
import shutil
import subprocess
import sys
from importlib import import_module
from pathlib import Path

import pytest

from ram_hf.cli import main
from tests.faults.commands import COMMANDS, words_of
from tests.faults.test_full_disks import inputs  # noqa: F401  (fixture)
from tests.pretraining.drawn_photographs import ColourTeacher
from tests.training.conftest import clip_folder, corpus, corpus_rows  # noqa: F401  (fixtures)

pytestmark = [pytest.mark.slow, pytest.mark.shared]
# Where each command is in the middle of its work.
_MIDDLE = {
    "tag": "tagging.command._tag_batch",
    "index": "tagging.index_command._add",
    "adapt": "tagging.adapt_command._read",
    "train": "training.loop.prepare_model",
    "evaluate": "evaluation.by_name.evaluate",
    "prepare": "data.command.write_shards",
    "scenes": "scenes.corpus.write_scenes",
    "convert": "conversion.original_checkpoint.convert_original_checkpoint",
    "clip-on-scenes": "pretraining.scene_clip.make_processor",
    "photographs": "pretraining.photographs._write_pixels",
    "teacher": "pretraining.teacher.compute_teacher_features",
    "clip-on-photographs": "pretraining.photo_clip._read_bank",
    "multi-labels": "pretraining.photo_rows._read",
    "bundle": "pretraining.bundling._leave_out_code",
}
_HOLD = "import sys; from ram_hf.atomic import lock\nwith lock(sys.argv[1]): print(flush=True); sys.stdin.read()"


@pytest.fixture
def outputs(tmp_path, inputs):  # noqa: F811
    shutil.copytree(inputs / "images", tmp_path / "out")
    return tmp_path


@pytest.mark.parametrize("name", COMMANDS)
def test_the_second_run_is_refused_at_once(name, inputs, outputs, monkeypatch, capfd):  # noqa: F811
    from ram_hf.pretraining import teacher

    monkeypatch.setattr(teacher, "EfficientNetLite0", lambda size: ColourTeacher())
    words = words_of(COMMANDS[name], inputs, outputs)
    module, _, function = _MIDDLE.get(name, _MIDDLE["tag"]).rpartition(".")
    module = import_module(f"ram_hf.{module}")
    work, locks = getattr(module, function), []

    def meanwhile(*args, **options):
        if not locks:
            before = sorted(outputs.rglob("*"))
            locks.extend(path for path in before if path.name.endswith(".lock"))
            capfd.readouterr()
            assert main(words) == 1
            said = capfd.readouterr().err
            assert "ram-hf: error: Another run writes there: it holds the lock" in said
            assert any(str(path) in said for path in locks)
            assert sorted(outputs.rglob("*")) == before
        return work(*args, **options)

    monkeypatch.setattr(module, function, meanwhile)
    assert main(words) == 0, capfd.readouterr().err
    assert locks
    assert not list(outputs.rglob("*.lock"))

    # A run that is killed leaves its locks; whose number its process had does not matter.
    shutil.rmtree(outputs / "out")
    shutil.copytree(inputs / "images", outputs / "out")
    for lock in locks:
        lock.parent.mkdir(parents=True, exist_ok=True)
        kill_one_that_holds(lock)
        lock.write_text(str(os.getpid()))
    assert main(words) == 0, capfd.readouterr().err
    assert not list(outputs.rglob("*.lock"))


def kill_one_that_holds(lock: Path) -> None:
    command = [sys.executable, "-c", _HOLD, str(lock)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as holder:
        assert holder.stdout.readline() == b"\n"
        holder.kill()
    assert lock.exists()
