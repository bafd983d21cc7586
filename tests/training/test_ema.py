import torch

from ram_hf.training.ema import MovingAverage, trained_state


def test_trained_state_is_all_but_clip(tiny_model):
    state = trained_state(tiny_model)
    assert not any(name.startswith("clip.") for name in state)
    assert "ladder.4.adapter.point_batch_norm.running_mean" in state  # a buffer: it does not require a gradient
    trainable = {name for name, parameter in tiny_model.named_parameters() if parameter.requires_grad}
    assert trainable <= set(state)


def test_the_average_is_its_formula(tiny_model):
    average = MovingAverage(tiny_model, 0.5)
    weight = tiny_model.temperatures.local_temperature
    expected = weight.item()
    for step, value in enumerate([1.0, 2.0, -3.0, 7.0, 5.0, 2.0, 9.0, 1.0, 4.0, 3.0, 6.0]):
        with torch.no_grad():
            weight.fill_(value)
        average.update(tiny_model)
        decay = min(0.5, (1 + step) / (10 + step))
        expected = decay * expected + (1 - decay) * value
    torch.testing.assert_close(average.average["temperatures.local_temperature"].item(), expected, atol=1e-5, rtol=0)


def test_a_block_with_the_average_leaves_the_model_as_it_was(tiny_model):
    average = MovingAverage(tiny_model, 0.5)
    with torch.no_grad():
        for parameter in tiny_model.ladder.parameters():
            parameter.add_(1.0)
    before = {name: value.clone() for name, value in tiny_model.state_dict().items()}
    with average.applied(tiny_model):
        inside = tiny_model.state_dict()
        assert all(torch.equal(inside[name], value) for name, value in average.average.items())
        assert not torch.equal(inside["ladder.4.tokens"], before["ladder.4.tokens"])
    assert all(torch.equal(value, before[name]) for name, value in tiny_model.state_dict().items())
