"""Trainings on a CPU take another attention in bf16, and there alone."""

import copy

import pytest
import torch
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

from ram_hf.pretrained import load_model
from ram_hf.training.accelerators import make_accelerator
from ram_hf.training.arguments import RamTrainingArguments
from ram_hf.training.attention import attention_for_training
from ram_hf.training.loop import train

needs_a_cpu = pytest.mark.skipif(torch.accelerator.is_available(), reason="of trainings on a CPU")


@pytest.fixture
def fused_calls(monkeypatch):
    """For each call of CLIP's fused attention, whether a gradient is asked for."""
    calls, fused = [], ALL_ATTENTION_FUNCTIONS["sdpa"]

    def noted(*args, **kwargs):
        calls.append(torch.is_grad_enabled())
        return fused(*args, **kwargs)

    monkeypatch.setitem(ALL_ATTENTION_FUNCTIONS, "sdpa", noted)
    return calls


@needs_a_cpu
@pytest.mark.parametrize(
    ("changes", "trains_fused"),
    [
        ({"mixed_precision": "bf16"}, False),
        ({"mixed_precision": "bf16", "gradient_checkpointing": True}, False),
        ({"mixed_precision": "no"}, True),
    ],
)
def test_steps_in_bf16_on_a_cpu_are_without_fused_attention(options, fused_calls, changes, trains_fused):
    train(RamTrainingArguments(**{**options, **changes, "max_steps": 2, "eval_split": "train"}))
    assert (True in fused_calls) == trains_fused
    assert False in fused_calls  # what judges is in float32


@needs_a_cpu
def test_gradients_are_the_same_within_rounding(clip_folder):
    model, processor = load_model(clip_folder, for_training=True)
    label_ids = processor(labels=["red", "green", "blue"])["input_ids"]
    pixels, labels = torch.randn(4, 3, 32, 32), torch.eye(3)[[0, 1, 2, 0]]

    def gradients(precision: str, *, chosen: bool) -> torch.Tensor:
        learner, accelerator = copy.deepcopy(model).train(), make_accelerator(precision)
        own = learner.config._attn_implementation
        assert own == "sdpa"
        context = attention_for_training(learner, accelerator) if chosen else torch.enable_grad()
        with context, accelerator.autocast():
            learner(pixels, input_ids=label_ids, labels=labels).loss.backward()
        assert learner.config._attn_implementation == own
        return torch.cat([p.grad.flatten() for p in learner.parameters() if p.grad is not None])

    exact, fused = gradients("no", chosen=False), gradients("bf16", chosen=False)
    assert torch.equal(gradients("no", chosen=True), exact)
    plain = gradients("bf16", chosen=True)
    assert not torch.equal(plain, fused)
    assert (plain - exact).norm() < 0.05 * exact.norm()  # as of the fused one
