"""A memory of one result: when it holds, when it drops, and what it asks of a device."""

import pytest
import torch

from ram_hf.model.last_result import LastResult
from tests.host_syncs import counted_host_syncs


class Counted:
    """A function of tensors that counts how often it is computed."""

    def __init__(self):
        self.memory, self.runs = LastResult(), 0

    def __call__(self, inputs, weights=()):
        def compute():
            self.runs += 1
            return sum(each.sum() for each in inputs)

        return self.memory.get(inputs, list(weights), compute)


def test_equal_content_is_the_same_input():
    counted, tensor = Counted(), torch.arange(4.0)
    for again in (tensor, tensor, tensor.clone(), tensor.double().float()):
        assert counted([again]).item() == 6
    assert counted.runs == 1


@pytest.mark.parametrize(
    "other",
    [
        [torch.arange(4.0) + 1],
        [torch.arange(5.0)],
        [torch.arange(4.0)[None]],
        [torch.arange(1.0)],  # would broadcast
        [torch.arange(4)],
        [torch.arange(4.0), torch.zeros(2)],
        [torch.full((4,), float("nan"))],
    ],
)
def test_another_content_shape_kind_or_number_is_another_input(other):
    counted = Counted()
    counted([torch.arange(4.0)])
    counted(other)
    assert counted.runs == 2


def test_each_of_several_inputs_counts():
    counted = Counted()
    for first, second in ((1, 1), (1, 1), (2, 1), (2, 2)):
        counted([torch.full((2,), first), torch.full((3,), second)])
    assert counted.runs == 3


def test_an_input_that_is_refilled_in_place_is_another():
    counted, tensor = Counted(), torch.zeros(3)
    counted([tensor])
    assert counted([tensor.add_(1)]).item() == 3


def test_a_weight_that_changes_drops_the_result():
    counted, tensor, weight = Counted(), torch.zeros(3), torch.ones(2)
    counted([tensor], [weight])
    counted([tensor], [weight])
    weight.mul_(2)
    counted([tensor], [weight])
    counted([tensor], [weight.clone()])
    assert counted.runs == 3
    counted.memory.clear()
    counted([tensor], [weight])
    assert counted.runs == 4


def test_the_device_is_asked_once_for_all_inputs_and_never_for_the_same_tensors():
    counted, inputs = Counted(), [torch.ones(2), torch.ones(3), torch.ones(4)]
    counted(inputs)
    with counted_host_syncs() as syncs:
        counted(inputs)
    assert syncs == []
    copies = [tensor.clone() for tensor in inputs]
    with counted_host_syncs() as syncs:
        counted(copies)
    assert len(syncs) == 1
    assert counted.runs == 1
