import itertools
import math

import pytest
import torch

from ram_hf.training.optimization import (
    Optimizers,
    at_most_halved,
    cosine_with_warmup,
    make_optimizers,
    parameter_groups,
    set_learning_rates,
)

RATES = {"adapters": 5e-6, "temperatures": 5e-5, "tokens": 1e-3}
ADAPTER_PARTS = [
    "point_conv.weight",
    "point_batch_norm.weight",
    "point_batch_norm.bias",
    "point_query_norm.weight",
    "point_query_norm.bias",
    "area_conv.weight",
    "area_batch_norm.weight",
    "area_batch_norm.bias",
    "area_query_norm.weight",
    "area_query_norm.bias",
    "label_norm.weight",
    "label_norm.bias",
    "gate_conv.weight",
    "output_conv.weight",
]


def test_every_trainable_name_has_its_optimizer_and_rate(tiny_model):
    groups = {group.name: list(group.parameters) for group in parameter_groups(tiny_model)}
    assert groups == {
        "adapters": [f"ladder.{layer}.adapter.{part}" for layer in (2, 3, 4) for part in ADAPTER_PARTS],
        "temperatures": ["temperatures.global_temperature", "temperatures.local_temperature"],
        "tokens": [f"ladder.{layer}.tokens" for layer in (2, 3, 4)] + [f"prompts.{n}.tokens" for n in (1, 2, 3)],
    }
    adam, sgd = make_optimizers(parameter_groups(tiny_model), learning_rates=RATES, weight_decay=1e-4)
    assert isinstance(adam, torch.optim.AdamW)
    assert isinstance(sgd, torch.optim.SGD)
    told = [
        (g["name"], g["lr"], g.get("weight_decay"), g.get("momentum")) for o in (adam, sgd) for g in o.param_groups
    ]
    assert told == [("adapters", 5e-6, 1e-4, None), ("temperatures", 5e-5, 1e-4, None), ("tokens", 1e-3, 0, 0.9)]
    assert sum(len(g["params"]) for o in (adam, sgd) for g in o.param_groups) == sum(map(len, groups.values()))


def test_a_trainable_backbone_is_refused(tiny_model):
    tiny_model.clip.visual_projection.weight.requires_grad_(True)
    with pytest.raises(ValueError, match=r"no learning rate: clip\.visual_projection\.weight"):
        parameter_groups(tiny_model)


def test_the_schedule_warms_up_and_follows_a_cosine():
    schedule = cosine_with_warmup(warmup_steps=10, total_steps=110, warmup_learning_rate=1e-6)
    assert schedule(0, 1.0) == 1e-6
    assert schedule(5, 1.0) == pytest.approx(0.5, abs=1e-5)
    assert schedule(10, 1.0) == 1.0
    for step in (20, 60, 100):
        assert schedule(step, 0.5) == pytest.approx(0.5 * (1 + math.cos(math.pi * (step - 10) / 100)) / 2)
    assert schedule(110, 1.0) == schedule(999, 1.0) == 0
    with pytest.raises(ValueError, match="warm-up of 5 steps must be shorter than the schedule of 5"):
        cosine_with_warmup(warmup_steps=5, total_steps=5, warmup_learning_rate=0)


def test_rates_reach_the_optimizers(tiny_model):
    optimizers = make_optimizers(parameter_groups(tiny_model), learning_rates=RATES, weight_decay=0)
    told = set_learning_rates(optimizers, lambda step, peak: peak * step, 3)
    assert told == {name: 3 * rate for name, rate in RATES.items()}
    assert [group["lr"] for optimizer in optimizers for group in optimizer.param_groups] == list(told.values())


@pytest.mark.parametrize("rate", [1e-5, 3e-4, 1.0])
def test_a_step_halves_a_temperature_at_most(rate):
    steep, gentle = (torch.nn.Parameter(torch.tensor(value)) for value in (2e-4, 100.0))
    optimizer = torch.optim.AdamW([steep, gentle], lr=rate, weight_decay=0)
    values = [steep.item()]
    for _ in range(5):
        (steep + gentle).backward()  # falls for ever
        with at_most_halved([steep, gentle]):
            optimizer.step()
            optimizer.zero_grad()
        values.append(steep.item())
    for before, after in itertools.pairwise(values):
        assert after == pytest.approx(max(before - rate, before / 2), rel=1e-3)
    assert gentle.item() == pytest.approx(100 - 5 * rate)


def make_all(model, *, rate=1e-3, scaler=None, max_grad_norm=None) -> Optimizers:
    optimizers = make_optimizers(parameter_groups(model), learning_rates=dict.fromkeys(RATES, rate), weight_decay=rate)
    return Optimizers(model, optimizers, max_grad_norm=max_grad_norm, scaler=scaler)


def set_gradients(model, value: float) -> None:
    for parameter in model.parameters():
        if parameter.requires_grad:
            parameter.grad = torch.full_like(parameter, value)


def trained(model) -> dict[str, torch.Tensor]:
    return {name: p.detach().clone() for name, p in model.named_parameters() if p.requires_grad}


def test_a_step_changes_all_that_trains_and_forgets_the_gradient(tiny_model):
    before, optimizers = trained(tiny_model), make_all(tiny_model)
    set_gradients(tiny_model, 0.5)
    norm = optimizers.step()
    assert norm.item() == pytest.approx(0.5 * math.sqrt(sum(value.numel() for value in before.values())))
    assert all(not torch.equal(value, before[name]) for name, value in trained(tiny_model).items())
    assert all(parameter.grad is None for parameter in tiny_model.parameters())


def test_a_gradient_is_clipped_and_its_norm_told_as_it_was(tiny_model):
    before, optimizers = trained(tiny_model), make_all(tiny_model, rate=1.0, max_grad_norm=1e-3)
    set_gradients(tiny_model, 1.0)
    assert optimizers.step() > 100
    moved = trained(tiny_model)["ladder.4.tokens"] - before["ladder.4.tokens"]  # by SGD: as far as its gradient says
    assert 0 < moved.norm() < 1e-3


def test_a_run_goes_on_with_its_own_rates(tiny_model):
    optimizers = make_all(tiny_model, rate=1e-3)
    set_gradients(tiny_model, 0.5)
    optimizers.step()
    again = make_all(tiny_model, rate=1e-5)
    again.load_state_dict(optimizers.state_dict())
    for state in again.state_dict():
        assert {group["peak_lr"] for group in state["param_groups"]} == {1e-5}
    assert again.state_dict()[0]["param_groups"][0]["weight_decay"] == 1e-5
    assert torch.equal(again.state_dict()[0]["state"][0]["exp_avg"], optimizers.state_dict()[0]["state"][0]["exp_avg"])
    assert again.state_dict()[1]["state"].keys() == optimizers.state_dict()[1]["state"].keys()


def test_the_scaler_skips_what_is_not_finite_and_goes_on_as_it_was(tiny_model):
    before, scaler = trained(tiny_model), torch.amp.GradScaler("cpu", init_scale=1024.0)
    optimizers = make_all(tiny_model, scaler=scaler)
    scaler.scale(torch.ones(()))  # as the backward pass does
    set_gradients(tiny_model, math.inf)
    optimizers.step()
    assert all(torch.equal(value, before[name]) for name, value in trained(tiny_model).items())
    assert scaler.get_scale() == 512  # moved on once, though there are two optimizers
    again = torch.amp.GradScaler("cpu")
    make_all(tiny_model, scaler=again).load_state_dict(optimizers.state_dict())
    assert again.get_scale() == 512
    make_all(tiny_model).load_state_dict(optimizers.state_dict())  # in another precision now
    make_all(tiny_model, scaler=again).load_state_dict(make_all(tiny_model).state_dict())
