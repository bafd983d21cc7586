"""What trains, how fast, and how the rates change: parameter groups by structure, and the schedule."""

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from ..model.modeling_ram import RamModel

_MOMENTUM = 0.9  # of SGD for ladder tokens and prompts, from the published recipe


@dataclass(frozen=True)
class ParameterGroup:
    """Parameters that share a learning rate.

    Attributes:
        name: "adapters", "temperatures" or "tokens".
        parameters: by their name in the model.
    """

    name: str
    parameters: dict[str, nn.Parameter]


def parameter_groups(model: RamModel) -> list[ParameterGroup]:
    """Sort what trains by what it is a part of, never by a pattern in its name.

    Args:
        model: with its backbone frozen.

    Returns:
        The groups that have parameters: the Ladder Local Adapters, the temperatures, and the learned tokens (ladder
        tokens and prompts).

    Raises:
        ValueError: when a parameter requires a gradient and belongs to none of the groups.
    """
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    members = {
        "adapters": [p for layer in model.ladder.values() for p in layer.adapter.parameters()],
        "temperatures": list(model.temperatures.parameters()),
        "tokens": [
            layer.tokens for layer in [*model.ladder.values(), *model.prompts.values()] if layer.tokens is not None
        ],
    }
    groups = [
        ParameterGroup(name, {names[id(p)]: p for p in parameters if p.requires_grad})
        for name, parameters in members.items()
    ]
    placed = {name for group in groups for name in group.parameters}
    stray = [name for name, parameter in model.named_parameters() if parameter.requires_grad and name not in placed]
    if stray:
        raise ValueError(
            f"These parameters require a gradient but have no learning rate: {', '.join(stray[:5])}. "
            "Only adapters, temperatures and learned tokens train; call `model.freeze_backbone()`."
        )
    return [group for group in groups if group.parameters]


def make_optimizers(
    groups: list[ParameterGroup], *, learning_rates: dict[str, float], weight_decay: float
) -> list[torch.optim.Optimizer]:
    """AdamW for adapters and temperatures, SGD with momentum for learned tokens, as published.

    Args:
        groups: see [`parameter_groups`].
        learning_rates: peak rate of each group by its name.
        weight_decay: of AdamW.

    Returns:
        One or two optimizers; each of their groups carries `name` and `peak_lr`, which [`set_learning_rates`] reads.
    """

    def options(group: ParameterGroup) -> dict[str, Any]:
        rate = learning_rates[group.name]
        return {"params": list(group.parameters.values()), "lr": rate, "peak_lr": rate, "name": group.name}

    by_adam = [options(group) for group in groups if group.name != "tokens"]
    by_sgd = [options(group) for group in groups if group.name == "tokens"]
    optimizers: list[torch.optim.Optimizer] = [torch.optim.AdamW(by_adam, weight_decay=weight_decay)]
    if by_sgd:
        optimizers.append(torch.optim.SGD(by_sgd, momentum=_MOMENTUM))
    return optimizers


class Optimizers:
    """The optimizers of a run as one, with the gradient scaler of fp16 where there is one.

    They are not wrapped by Accelerate: each one that it wraps moves the scaler on, which two of them in a step would
    do twice.

    Args:
        model: whose parameters they have.
        optimizers: see [`make_optimizers`].
        max_grad_norm: the norm of the gradient is clipped to this; None for no clipping.
        scaler: of fp16.
    """

    def __init__(
        self,
        model: RamModel,
        optimizers: Sequence[torch.optim.Optimizer],
        *,
        max_grad_norm: float | None,
        scaler: torch.amp.GradScaler | None,
    ):
        self._temperatures = list(model.temperatures.parameters())
        self._parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]
        self._optimizers = list(optimizers)
        self._max_grad_norm = math.inf if max_grad_norm is None else max_grad_norm
        self._scaler = scaler

    def set_learning_rates(self, schedule: Callable[[int, float], float], step: int) -> dict[str, float]:
        """See [`set_learning_rates`]."""
        return set_learning_rates(self._optimizers, schedule, step)

    def step(self) -> Tensor:
        """Clip the gradient, change the weights and forget it; returns its norm before, a scalar on the device."""
        if self._scaler is not None:
            for optimizer in self._optimizers:
                self._scaler.unscale_(optimizer)
        norm = nn.utils.clip_grad_norm_(self._parameters, self._max_grad_norm)
        with at_most_halved(self._temperatures):
            for optimizer in self._optimizers:
                optimizer.step() if self._scaler is None else self._scaler.step(optimizer)
                optimizer.zero_grad()
        if self._scaler is not None:
            self._scaler.update()
        return norm

    def state_dict(self) -> list[dict[str, Any]]:
        """The state of each optimizer, and of the scaler where there is one."""
        return [part.state_dict() for part in (*self._optimizers, self._scaler) if part is not None]

    def load_state_dict(self, states: Sequence[dict[str, Any]]) -> None:
        """Go on from there; rates and decay stay this run's own: lowering them is what one does after a divergence."""
        for optimizer, state in zip(self._optimizers, states, strict=False):
            own = [
                {name: value for name, value in group.items() if name != "params"} for group in optimizer.param_groups
            ]
            optimizer.load_state_dict(state)
            for group, values in zip(optimizer.param_groups, own, strict=True):
                group.update(values)
        for state in states[len(self._optimizers) :]:  # there is none after a change from another precision
            if self._scaler is not None:
                self._scaler.load_state_dict(state)


def cosine_with_warmup(
    *, warmup_steps: int, total_steps: int, warmup_learning_rate: float
) -> Callable[[int, float], float]:
    """Linear from `warmup_learning_rate` to the peak, then half a cosine down to zero.

    Args:
        warmup_steps: steps until the peak, >= 0.
        total_steps: step at which the rate reaches zero, > `warmup_steps`; it stays there.
        warmup_learning_rate: rate of the first step.

    Returns:
        Function of a zero-based step and the peak rate. It keeps no state, so that resuming needs none.

    Raises:
        ValueError: when the warm-up is not shorter than the whole.
    """
    if not 0 <= warmup_steps < total_steps:
        raise ValueError(
            f"The warm-up of {warmup_steps} steps must be shorter than the schedule of {total_steps}. "
            "Set `warmup_steps` or `schedule_steps`."
        )

    def rate(step: int, peak: float) -> float:
        if step < warmup_steps:
            return warmup_learning_rate + (peak - warmup_learning_rate) * step / warmup_steps
        progress = min(1.0, (step - warmup_steps) / (total_steps - warmup_steps))
        return peak * (1 + math.cos(math.pi * progress)) / 2

    return rate


def set_learning_rates(
    optimizers: Iterable[torch.optim.Optimizer], schedule: Callable[[int, float], float], step: int
) -> dict[str, float]:
    """Give each group its rate for this step; returns the rates by the group's name."""
    rates = {}
    for optimizer in optimizers:
        for group in optimizer.param_groups:
            group["lr"] = rates[group["name"]] = schedule(step, group["peak_lr"])
    return rates


@contextmanager
def at_most_halved(temperatures: Iterable[nn.Parameter]) -> Iterator[None]:
    """Keep temperatures positive over a step: none of them falls below half of what it was.

    A step of AdamW moves a temperature by about the rate, however small it is itself; across zero, the labels that
    fit least would rank first.
    """
    before = [(temperature, temperature.detach().clone()) for temperature in temperatures]
    yield
    with torch.no_grad():
        for temperature, value in before:
            temperature.clamp_(min=value / 2)


__all__ = [
    "Optimizers",
    "ParameterGroup",
    "at_most_halved",
    "cosine_with_warmup",
    "make_optimizers",
    "parameter_groups",
    "set_learning_rates",
]
