"""When a run waits for its device."""

import sys
from collections import Counter
from contextlib import contextmanager
from pathlib import Path

import pytest
import torch
from accelerate import Accelerator

from ram_hf.training.arguments import RamTrainingArguments
from ram_hf.training.loop import train
from ram_hf.training.readings import Readings


@contextmanager
def reads_counted(monkeypatch, room: str):
    """Count what makes the host wait for a device, by the file of `room` that asks."""
    found: Counter[str] = Counter()

    def counted(real):
        def method(self, *args, **kwargs):
            file = Path(sys._getframe(1).f_code.co_filename)
            if file.parent.name == room:
                found[file.name] += 1
            return real(self, *args, **kwargs)

        return method

    with monkeypatch.context() as patch:
        for name in ("item", "tolist", "cpu", "numpy", "nonzero", "__bool__", "__float__", "__int__", "__index__"):
            patch.setattr(torch.Tensor, name, counted(getattr(torch.Tensor, name)))
        yield found


@pytest.mark.parametrize(("log_steps", "reads"), [(1, 12), (3, 4), (12, 1)])
def test_a_step_is_read_only_where_it_is_logged(options, monkeypatch, log_steps, reads):
    options = {**options, "log_steps": log_steps, "save_steps": 12, "gradient_accumulation_steps": 2}
    with reads_counted(monkeypatch, "training") as found:
        train(RamTrainingArguments(**options))
    del found["checkpoints.py"]  # writes to the disk, what it is for
    assert found == {"readings.py": reads}


@pytest.fixture
def temperatures():
    return torch.nn.ParameterDict({"global_temperature": torch.tensor(0.5), "local_temperature": torch.tensor(0.25)})


def test_what_is_read_is_the_last_step(temperatures, tmp_path):
    readings = Readings(Accelerator(cpu=True), temperatures, tmp_path)
    assert readings.read() == {}
    readings.note(1, torch.tensor([9.0, 9.0]), torch.tensor(9.0))
    readings.note(2, torch.tensor([1.0, 2.0]), torch.tensor(4.0))
    expected = {"loss": 3.0, "loss/global": 1.0, "loss/local": 2.0, "gradient_norm": 4.0}
    assert readings.read() == {**expected, "global_temperature": 0.5, "local_temperature": 0.25}
    assert readings.read() == {}


@pytest.mark.parametrize(
    ("losses", "norm", "message"),
    [
        ([float("nan"), 1.0], 1.0, "At step 2 the global loss is nan. There is no checkpoint yet"),
        ([1.0, float("inf")], 1.0, "At step 2 the local loss is inf."),
        ([1.0, 1.0], float("nan"), "At step 2 the norm of the gradient is nan."),
        ([float("nan")] * 2, 1.0, "At step 2 the global loss is nan and the local loss is nan."),
    ],
)
def test_the_first_step_that_is_not_finite_is_told(temperatures, tmp_path, losses, norm, message):
    readings = Readings(Accelerator(cpu=True), temperatures, tmp_path)
    readings.note(1, torch.ones(2), torch.tensor(1.0))
    readings.note(2, torch.tensor(losses), torch.tensor(norm))
    readings.note(3, torch.full((2,), float("nan")), torch.tensor(1.0))
    readings.note(4, torch.ones(2), torch.tensor(1.0))
    with pytest.raises(FloatingPointError, match=f"^{message}"):
        readings.read()


def test_the_scaler_of_fp16_may_meet_a_gradient_that_is_not_finite(temperatures, tmp_path):
    accelerator = Accelerator(cpu=True)
    accelerator.scaler = torch.amp.GradScaler("cpu")
    readings = Readings(accelerator, temperatures, tmp_path)
    readings.note(1, torch.ones(2), torch.tensor(float("inf")))
    assert readings.read()["gradient_norm"] == float("inf")
    readings.note(2, torch.full((2,), float("nan")), torch.tensor(1.0))
    with pytest.raises(FloatingPointError, match="At step 2 the global loss is nan"):
        readings.read()


def test_divergence_between_two_logged_steps_reaches_no_checkpoint(options):
    """The loss is not finite from the third step on; the sixth would be saved, and the twelfth logged."""
    options |= {"adapter_learning_rate": 1e20, "warmup_steps": 1, "warmup_learning_rate": 0.0}
    options |= {"log_steps": 12, "save_steps": 6, "eval_split": "train"}
    with pytest.raises(FloatingPointError, match=r"At step [23] the (global|local) loss is nan.*no checkpoint yet"):
        train(RamTrainingArguments(**options))
    folder = Path(options["output_dir"])
    assert not (folder / "checkpoints").exists()
    assert not (folder / "model.safetensors").exists()
