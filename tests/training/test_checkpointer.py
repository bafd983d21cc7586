import pytest
from accelerate import Accelerator

from ram_hf.training.checkpointer import Checkpointer, move_aside
from ram_hf.training.checkpoints import find_newest, load_checkpoint
from ram_hf.training.progress import Progress


class Part:
    """A part of a run that is its state, and that takes another one unless it has a complaint."""

    def __init__(self, state, complaint=None):
        self.state, self.complaint = state, complaint

    def state_dict(self):
        return self.state

    def load_state_dict(self, state):
        if self.complaint is not None:
            raise ValueError(self.complaint)
        self.state = state


def make_run(folder, **changes):
    parts = {
        "facts": Progress({"seed": 0}),
        "processes": Part([]),
        "weights": Part({}),
        "average": Part({}),
        "optimizers": Part([]),
        **changes,
    }
    return parts, Checkpointer(folder, parts, keep=2, accelerator=Accelerator(cpu=True))


def test_every_part_goes_on_where_it_was(tmp_path):
    parts, checkpointer = make_run(tmp_path, processes=Part([{"stream": 3}]), optimizers=Part([{"state": 4}]))
    parts["facts"].step, parts["facts"].best = 7, 0.5
    checkpointer.save()
    facts = {"judged": 0, "experiment": {"seed": 0}, "best": 0.5, "num_without_rise": 0}
    assert load_checkpoint(find_newest(tmp_path)).facts == facts
    again, checkpointer = make_run(tmp_path)
    checkpointer.resume()
    assert (again["facts"].step, again["facts"].best) == (7, 0.5)
    assert (again["processes"].state, again["optimizers"].state) == ([{"stream": 3}], [{"state": 4}])


def test_without_a_checkpoint_nothing_changes(tmp_path):
    parts, checkpointer = make_run(tmp_path)
    checkpointer.resume()
    assert (parts["facts"].step, parts["facts"].best) == (0, None)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"facts": Progress({"seed": 1})}, "it was trained with `seed` 0, not 1"),
        ({"facts": Progress({"augment": True})}, "it was trained with `augment` None, not True"),
        ({"optimizers": Part([], "was trained with bad luck")}, "it was trained with bad luck"),
    ],
)
def test_a_part_that_does_not_fit_says_why(tmp_path, changes, message):
    make_run(tmp_path)[1].save()
    _, checkpointer = make_run(tmp_path, **changes)
    with pytest.raises(ValueError, match=f"step-00000000 does not fit this run: {message}. Restore that, or give"):
        checkpointer.resume()


def test_a_run_is_moved_aside_with_all_that_it_made(tmp_path):
    for round_ in (1, 2):
        (tmp_path / "checkpoints").mkdir()
        (tmp_path / "metrics.jsonl").write_text(str(round_))
        (tmp_path / "model.safetensors").write_text("stays")
        move_aside(tmp_path, Accelerator(cpu=True))
        assert not (tmp_path / "checkpoints").exists()
        assert (tmp_path / f"previous-{round_}" / "metrics.jsonl").read_text() == str(round_)
    assert (tmp_path / "model.safetensors").exists()
