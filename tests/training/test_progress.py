from types import SimpleNamespace

import pytest
import torch
from accelerate import Accelerator

from ram_hf.training.progress import ProcessState, Progress


class Loader:
    """Knows its place, as `BatchLoader` does."""

    place = {"epoch": 0, "row": 0}  # noqa: RUF012

    def state_dict(self):
        return self.place

    def load_state_dict(self, state):
        self.place = state


def test_a_process_goes_on_at_its_place_with_its_random_numbers():
    process = ProcessState(Loader(), Accelerator(cpu=True))
    assert process.stream == {"epoch": 0, "row": 0}
    process.stream = {"epoch": 2, "row": 5}
    state = process.state_dict()
    drawn = torch.rand(3)
    loader = Loader()
    again = ProcessState(loader, Accelerator(cpu=True))
    again.load_state_dict(state)
    assert again.stream == loader.place == {"epoch": 2, "row": 5}
    assert torch.equal(torch.rand(3), drawn)


def test_each_process_takes_its_own_place():
    states = [{"stream": {"epoch": 0, "row": row}, "random": torch.get_rng_state()} for row in (3, 4)]
    process = ProcessState(Loader(), SimpleNamespace(num_processes=2, process_index=1))
    process.load_state_dict(states)
    assert process.stream == {"epoch": 0, "row": 4}


def test_another_number_of_processes_is_refused():
    process = ProcessState(Loader(), Accelerator(cpu=True))
    with pytest.raises(ValueError, match=r"was written by 2 process\(es\), not 1, .*launch --num_processes 2"):
        process.load_state_dict(process.state_dict() * 2)


def test_progress_is_kept_with_its_experiment():
    progress = Progress({"seed": 3})
    progress.step, progress.judged, progress.best, progress.num_without_rise = 4, 3, 0.25, 2
    state = {"step": 4, "judged": 3, "experiment": {"seed": 3}, "best": 0.25, "num_without_rise": 2}
    assert progress.state_dict() == state
    again = Progress({"seed": 3})
    again.load_state_dict(progress.state_dict())
    assert (again.step, again.judged, again.best, again.num_without_rise) == (4, 3, 0.25, 2)
