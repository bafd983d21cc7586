import json
import re
import subprocess
import sys

import pytest
import torch
from safetensors.torch import load_file

from ram_hf.training.checkpoints import Checkpoint, find_newest, load_checkpoint, save_checkpoint


def make_checkpoint(step: int, size: int = 10) -> Checkpoint:
    return Checkpoint(
        step=step,
        weights={"a": torch.full((size,), float(step)), "n": torch.tensor(step)},
        average={"a": torch.zeros(size)},
        optimizers=[{"state": {0: {"exp_avg": torch.ones(3)}}, "param_groups": [{"lr": 0.1, "name": "adapters"}]}],
        processes=[{"stream": {"epoch": 1, "row": 7}, "random": torch.get_rng_state()}],
        facts={"model": "m", "best": None},
    )


def names(folder) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_a_checkpoint_comes_back_as_it_was(tmp_path):
    checkpoint = make_checkpoint(100)
    path = save_checkpoint(tmp_path / "deep" / "checkpoints", checkpoint, keep=2)
    assert path == tmp_path / "deep" / "checkpoints" / "step-00000100"
    loaded = load_checkpoint(str(path))
    assert loaded.step == 100
    assert loaded.facts == {"model": "m", "best": None}
    assert loaded.optimizers[0]["param_groups"] == [{"lr": 0.1, "name": "adapters"}]
    assert loaded.processes[0]["stream"] == {"epoch": 1, "row": 7}
    for found, expected in (
        (loaded.weights, checkpoint.weights),
        (loaded.average, checkpoint.average),
        (loaded.optimizers[0]["state"][0], checkpoint.optimizers[0]["state"][0]),
        ({"random": loaded.processes[0]["random"]}, {"random": checkpoint.processes[0]["random"]}),
    ):
        assert found.keys() == expected.keys()
        assert all(torch.equal(found[name], value) for name, value in expected.items())


def test_the_files_are_those_that_runs_of_before_have(tmp_path):
    """A run that began with an older version goes on from them."""
    path = save_checkpoint(tmp_path, make_checkpoint(5), keep=1)
    assert names(path) == ["average.safetensors", "facts.json", "state.pt", "weights.safetensors"]
    assert (path / "facts.json").read_text() == '{\n "step": 5,\n "model": "m",\n "best": null\n}'
    assert torch.equal(load_file(path / "weights.safetensors")["a"], torch.full((10,), 5.0))
    assert load_file(path / "average.safetensors").keys() == {"a"}
    assert torch.load(path / "state.pt", weights_only=True).keys() == {"optimizers", "processes"}


def test_weights_that_train_and_lie_crosswise_are_kept(tmp_path):
    crosswise = torch.nn.Parameter(torch.arange(6.0).reshape(2, 3)).T
    checkpoint = make_checkpoint(1)._replace(weights={"w": crosswise}, average={})
    loaded = load_checkpoint(save_checkpoint(tmp_path, checkpoint, keep=1))
    assert torch.equal(loaded.weights["w"], crosswise)
    assert loaded.average == {}


@pytest.mark.parametrize(("keep", "left"), [(1, [100]), (2, [10, 100]), (3, [5, 10, 100]), (9, [5, 10, 100])])
def test_the_newest_stay(tmp_path, keep, left):
    for step in (5, 10, 100):
        save_checkpoint(tmp_path, make_checkpoint(step), keep=keep)
    assert names(tmp_path) == [f"step-{step:08d}" for step in left]
    assert find_newest(str(tmp_path)) == tmp_path / "step-00000100"


def test_the_newest_is_that_of_the_last_step_whatever_was_written_when(tmp_path):
    for step in (3, 41, 100, 7, 20):
        (tmp_path / f"step-{step:08d}").mkdir()
    assert find_newest(tmp_path).name == "step-00000100"
    save_checkpoint(tmp_path, make_checkpoint(101), keep=3)
    assert names(tmp_path) == ["step-00000041", "step-00000100", "step-00000101"]


def test_a_step_that_is_done_again_takes_the_place_of_the_first(tmp_path):
    save_checkpoint(tmp_path, make_checkpoint(5), keep=2)
    save_checkpoint(tmp_path, make_checkpoint(5)._replace(facts={"model": "other"}), keep=2)
    assert names(tmp_path) == ["step-00000005"]
    assert load_checkpoint(tmp_path / "step-00000005").facts == {"model": "other"}


def test_where_there_is_none(tmp_path):
    assert find_newest(tmp_path / "nowhere") is None
    assert find_newest(tmp_path) is None
    (tmp_path / "file").write_text("")
    assert find_newest(tmp_path / "file") is None


def test_other_files_are_no_checkpoints_and_stay(tmp_path):
    others = [
        "notes.txt",
        "step-0000000",
        "step-000000099",
        "step-0000000x",
        "xstep-00000009",
        ".step-000000099",
        ".step-00000009.",
    ]
    for name in others:
        (tmp_path / name).mkdir()
    assert find_newest(tmp_path) is None
    save_checkpoint(tmp_path, make_checkpoint(5), keep=1)
    assert find_newest(tmp_path).name == "step-00000005"
    assert names(tmp_path) == sorted([*others, "step-00000005"])


def test_what_a_killed_process_left_is_no_checkpoint(tmp_path):
    save_checkpoint(tmp_path, make_checkpoint(5), keep=2)
    code = f"""
import os
from ram_hf.training import checkpoints
from tests.training.test_checkpoints import make_checkpoint
checkpoints.torch.save = lambda *args: os._exit(9)
checkpoints.save_checkpoint({str(tmp_path)!r}, make_checkpoint(9), keep=2)
"""
    assert subprocess.run([sys.executable, "-c", code], timeout=120, check=False).returncode == 9
    assert len(names(tmp_path)) == 2
    assert find_newest(tmp_path).name == "step-00000005"
    save_checkpoint(tmp_path, make_checkpoint(12), keep=2)
    assert names(tmp_path) == ["step-00000005", "step-00000012"]


def test_a_checkpoint_that_was_being_replaced_is_still_found(tmp_path):
    """Killed after the old one was put aside and before the new one had its name: the only one there is."""
    save_checkpoint(tmp_path, make_checkpoint(5), keep=1)
    code = f"""
import os
from pathlib import Path
from tests.training.test_checkpoints import make_checkpoint, save_checkpoint
rename = Path.rename
Path.rename = lambda self, target: os._exit(9) if "unfinished" in self.name else rename(self, target)
save_checkpoint({str(tmp_path)!r}, make_checkpoint(5), keep=1)
"""
    assert subprocess.run([sys.executable, "-c", code], timeout=120, check=False).returncode == 9
    assert "step-00000005" not in names(tmp_path)
    assert load_checkpoint(find_newest(tmp_path)).step == 5
    save_checkpoint(tmp_path, make_checkpoint(9), keep=2)
    assert find_newest(tmp_path).name == "step-00000009"
    assert names(tmp_path) == ["step-00000009"]


def test_a_full_disk_leaves_the_previous_checkpoint_whole(tmp_path):
    """The operating system itself refuses files above a limit, as it does on a full disk."""
    save_checkpoint(tmp_path, make_checkpoint(5), keep=1)
    code = f"""
import resource, signal
from tests.training.test_checkpoints import make_checkpoint, save_checkpoint
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))
try:
    save_checkpoint({str(tmp_path)!r}, make_checkpoint(6, size=100_000), keep=1)
except OSError as error:
    print(error)
"""
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120, check=True)
    assert result.stdout.startswith(f"Checkpoint {tmp_path}/step-00000006 cannot be written: ")
    assert result.stdout.endswith(f". The last whole checkpoint is {tmp_path}/step-00000005.\n")
    assert names(tmp_path) == ["step-00000005"]
    assert load_checkpoint(tmp_path / "step-00000005").step == 5


def test_a_first_checkpoint_that_cannot_be_written_says_so(tmp_path):
    checkpoint = make_checkpoint(6)._replace(facts={"model": object()})
    with pytest.raises(
        OSError, match=r"step-00000006 cannot be written: .*object.* There is no earlier checkpoint\.$"
    ):
        save_checkpoint(tmp_path / "checkpoints", checkpoint, keep=1)
    assert names(tmp_path) == []


@pytest.mark.parametrize("file", ["average.safetensors", "facts.json", "state.pt", "weights.safetensors"])
@pytest.mark.parametrize("content", [b"junk", None], ids=["junk", "missing"])
def test_a_damaged_checkpoint_says_what_to_do(tmp_path, file, content):
    path = save_checkpoint(tmp_path, make_checkpoint(5), keep=1)
    (path / file).unlink()
    if content is not None:
        (path / file).write_bytes(content)
    ending = r" cannot be read \(.+\)\. Remove it to go on from the one before it\.$"
    with pytest.raises(ValueError, match=f"^Checkpoint {re.escape(str(path))}(?s:{ending})"):
        load_checkpoint(path)


def test_a_checkpoint_without_a_step_is_damaged(tmp_path):
    path = save_checkpoint(tmp_path, make_checkpoint(5), keep=1)
    (path / "facts.json").write_text(json.dumps({"model": "m"}))
    with pytest.raises(ValueError, match=r"cannot be read \('step'\)"):
        load_checkpoint(path)


class Shell:
    """What runs a command where it is unpickled."""

    def __reduce__(self):
        return print, ("this must not be run",)


def test_a_checkpoint_cannot_run_code(tmp_path, capsys):
    path = save_checkpoint(tmp_path, make_checkpoint(5), keep=1)
    torch.save({"optimizers": [Shell()], "processes": []}, path / "state.pt")
    with pytest.raises(ValueError, match="cannot be read"):
        load_checkpoint(path)
    assert capsys.readouterr().out == ""
