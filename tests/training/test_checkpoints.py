import subprocess
import sys

import pytest
import torch

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


def test_round_trip_and_pruning(tmp_path):
    assert find_newest(tmp_path / "nowhere") is None
    for step in (5, 10, 100):
        save_checkpoint(tmp_path, make_checkpoint(step), keep=2)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["step-00000010", "step-00000100"]
    loaded = load_checkpoint(find_newest(tmp_path))
    assert loaded.step == 100
    assert torch.equal(loaded.weights["a"], torch.full((10,), 100.0))
    assert loaded.processes[0]["stream"] == {"epoch": 1, "row": 7}
    assert torch.equal(loaded.optimizers[0]["state"][0]["exp_avg"], torch.ones(3))
    assert loaded.optimizers[0]["param_groups"] == [{"lr": 0.1, "name": "adapters"}]
    assert loaded.facts == {"model": "m", "best": None}


def test_what_a_killed_process_left_is_no_checkpoint(tmp_path):
    save_checkpoint(tmp_path, make_checkpoint(5), keep=2)
    (tmp_path / "partial-step-00000009").mkdir()
    (tmp_path / "partial-step-00000009" / "weights.safetensors").write_bytes(b"half")
    assert find_newest(tmp_path).name == "step-00000005"
    save_checkpoint(tmp_path, make_checkpoint(9), keep=2)
    assert find_newest(tmp_path).name == "step-00000009"
    assert not list(tmp_path.glob("partial-*"))


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
    assert "step-00000006 cannot be written" in result.stdout
    assert "The last whole checkpoint is" in result.stdout
    assert sorted(path.name for path in tmp_path.iterdir()) == ["step-00000005"]
    assert load_checkpoint(tmp_path / "step-00000005").step == 5


def test_a_damaged_checkpoint_says_what_to_do(tmp_path):
    path = save_checkpoint(tmp_path, make_checkpoint(5), keep=1)
    (path / "state.pt").write_bytes(b"junk")
    with pytest.raises(ValueError, match=r"cannot be read .* Remove it to go on from the one before it"):
        load_checkpoint(path)
