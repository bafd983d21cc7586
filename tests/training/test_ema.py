import pytest
import torch

from ram_hf.training.ema import MovingAverage, TrainedWeights


def test_trained_state_is_all_but_clip(tiny_model):
    state = TrainedWeights(tiny_model).state_dict()
    assert not any(name.startswith("clip.") for name in state)
    assert "ladder.4.adapter.point_batch_norm.running_mean" in state  # a buffer: it does not require a gradient
    trainable = {name for name, parameter in tiny_model.named_parameters() if parameter.requires_grad}
    assert trainable <= set(state)


def test_the_average_is_its_formula(tiny_model):
    average = MovingAverage(TrainedWeights(tiny_model), 0.5)
    weight = tiny_model.temperatures.local_temperature
    expected = weight.item()
    for step, value in enumerate([1.0, 2.0, -3.0, 7.0, 5.0, 2.0, 9.0, 1.0, 4.0, 3.0, 6.0]):
        with torch.no_grad():
            weight.fill_(value)
        average.update(step)
        decay = min(0.5, (1 + step) / (10 + step))
        expected = decay * expected + (1 - decay) * value
    torch.testing.assert_close(
        average.state_dict()["temperatures.local_temperature"].item(), expected, atol=1e-5, rtol=0
    )


def test_a_block_with_the_average_leaves_the_model_as_it_was(tiny_model):
    average = MovingAverage(TrainedWeights(tiny_model), 0.5)
    with torch.no_grad():
        for parameter in tiny_model.ladder.parameters():
            parameter.add_(1.0)
    before = {name: value.clone() for name, value in tiny_model.state_dict().items()}
    with average.applied():
        inside = tiny_model.state_dict()
        assert all(torch.equal(inside[name], value) for name, value in average.state_dict().items())
        assert not torch.equal(inside["ladder.4.tokens"], before["ladder.4.tokens"])
    assert all(torch.equal(value, before[name]) for name, value in tiny_model.state_dict().items())


def test_without_averaging_the_weights_stand_for_their_average(tiny_model):
    average = MovingAverage(TrainedWeights(tiny_model), 0.0)
    with torch.no_grad():
        tiny_model.temperatures.local_temperature.fill_(3.0)
    average.update(0)
    with average.applied():
        assert tiny_model.temperatures.local_temperature == 3.0
    assert average.state_dict() == {}


def test_an_average_goes_on_from_its_state(tiny_model):
    weights = TrainedWeights(tiny_model)
    average = MovingAverage(weights, 0.5)
    state = {name: value + 1 for name, value in average.state_dict().items()}
    average.load_state_dict(state)
    assert all(torch.equal(average.state_dict()[name], value) for name, value in state.items())
    with pytest.raises(ValueError, match="was trained without `ema_decay`"):
        average.load_state_dict({})
    with pytest.raises(ValueError, match="was trained with `ema_decay`"):
        MovingAverage(weights, 0.0).load_state_dict(state)


def test_weights_of_another_architecture_are_refused(tiny_model):
    weights = TrainedWeights(tiny_model)
    state = {name: value.clone() for name, value in weights.state_dict().items()}
    for broken in ({**state, "more": torch.zeros(1)}, {**state, "ladder.4.tokens": torch.zeros(1)}, {}):
        with pytest.raises(ValueError, match="holds other weights"):
            weights.load_state_dict(broken)
    weights.load_state_dict(state)
