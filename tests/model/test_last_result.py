"""A memory of one result: when it holds, when it drops, and what it asks of a device."""

import copy

import pytest
import torch
from transformers import CLIPTextConfig
from transformers.models.clip.modeling_clip import CLIPAttention

from ram_hf.model.last_result import LastResult
from tests.host_syncs import counted_host_syncs


class Counted:
    """A function of tensors that counts how often it is computed."""

    def __init__(self):
        self.memory, self.runs = LastResult(), 0

    def __call__(self, inputs, modules=()):
        def compute():
            self.runs += 1
            return sum(each.sum() for each in inputs)

        return self.memory.get(inputs, list(modules), compute)


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
    counted, tensor, module = Counted(), torch.zeros(3), torch.nn.BatchNorm1d(2).eval()
    counted([tensor], [module])
    counted([tensor], [module])
    with torch.no_grad():
        module.weight.mul_(2)
    counted([tensor], [module])
    module.running_mean.add_(1)
    counted([tensor], [module])
    counted([tensor], [copy.deepcopy(module)])
    assert counted.runs == 4
    counted.memory.clear()
    counted([tensor], [module])
    assert counted.runs == 5


def test_a_module_that_behaves_otherwise_drops_the_result():
    counted, tensor, module = Counted(), torch.zeros(3), torch.nn.Sequential(torch.nn.Linear(2, 2)).eval()

    def put_a_forward_in_place():
        module[0].forward = lambda states: states

    changes = [
        module.train,
        lambda: module[0].register_forward_hook(lambda *_: None),
        lambda: module[0].register_forward_pre_hook(lambda *_: None),
        put_a_forward_in_place,
    ]
    for runs, change in enumerate([lambda: None, *changes], start=1):
        change()
        counted([tensor], [module])
        counted([tensor], [module])
        assert counted.runs == runs


class Switchable(torch.nn.Linear):
    is_on = True


def test_nothing_is_remembered_of_a_module_that_does_not_tell():
    """Of another library's, which may hold a switch, and of one that is random."""
    random = CLIPAttention(CLIPTextConfig(hidden_size=8, num_attention_heads=2, attention_dropout=0.1))
    for module in (torch.nn.Sequential(Switchable(2, 2)), random.train()):
        counted, tensor = Counted(), torch.zeros(3)
        counted([tensor], [module])
        counted([tensor], [module])
        assert counted.runs == 2
    counted, switchable = Counted(), Switchable(2, 2)
    for module in (random.eval(), switchable, random):
        counted([tensor], [module])
    assert counted.runs == 3  # whose weights may be others by now
    counted = Counted()
    counted([tensor], [random.eval()])
    counted([tensor], [random])
    assert counted.runs == 1


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
