import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from ram_hf.model.losses import asymmetric_loss, label_loss, log_odds_of_softmax, multi_matching_loss


@given(seed=st.integers(0, 2**16), images=st.integers(1, 5), labels=st.integers(1, 9))
def test_multi_matching_loss_is_its_equation(seed, images, labels):
    generator = torch.Generator().manual_seed(seed)
    logits = torch.randn(images, labels, generator=generator, dtype=torch.float64) * 10
    targets = torch.randint(0, 2, (images, labels), generator=generator)
    everything = math.log(sum(math.exp(value) for value in logits.flatten().tolist()))
    terms = [logits[b, j].item() - everything for b in range(images) for j in range(labels) if targets[b, j]]
    expected = -sum(terms) / len(terms) if terms else 0.0
    assert multi_matching_loss(logits, targets).item() == pytest.approx(expected, abs=1e-9)


def test_a_batch_without_positives_costs_nothing_and_still_has_a_gradient():
    logits = torch.randn(2, 3, requires_grad=True)
    loss = multi_matching_loss(logits, torch.zeros(2, 3))
    loss.backward()
    assert loss.item() == 0
    assert not logits.grad.any()


def test_asymmetric_loss_is_its_equation_and_masks_the_unknown():
    logits = torch.tensor([[1.5, -0.5, 3.0], [0.2, -4.0, 0.0]], dtype=torch.float64)
    labels = torch.tensor([[1, 0, -1], [0, 0, 1]])
    total = 0.0
    for logit, label in zip(logits.flatten().tolist(), labels.flatten().tolist(), strict=True):
        p = 1 / (1 + math.exp(-logit))
        shifted = max(p - 0.05, 0)
        if label == 1:
            total += (1 - p) * -math.log(p)
        if label == 0:
            total += shifted**4 * -math.log(1 - shifted)
    assert asymmetric_loss(logits, labels).item() == pytest.approx(total / 2, rel=1e-9)


def test_asymmetric_loss_with_no_focus_and_no_clip_is_cross_entropy():
    logits, labels = torch.randn(4, 5), torch.randint(0, 2, (4, 5))
    loss = asymmetric_loss(logits, labels, gamma_negative=0, gamma_positive=0, clip=0)
    expected = torch.nn.functional.binary_cross_entropy_with_logits(logits, labels.float(), reduction="sum") / 4
    torch.testing.assert_close(loss, expected)


def test_unknown_entries_take_no_gradient():
    logits = torch.randn(2, 4, requires_grad=True)
    labels = torch.tensor([[1, -1, 0, -1], [-1, 0, 1, 0]])
    asymmetric_loss(logits, labels).backward()
    assert torch.equal(logits.grad == 0, (labels == -1) | ((labels == 0) & (logits.sigmoid() < 0.05)))


def test_log_odds_of_softmax():
    logits = torch.randn(3, 6, dtype=torch.float64) * 5
    p = logits.softmax(dim=1)
    torch.testing.assert_close(log_odds_of_softmax(logits), p.log() - (1 - p).log())
    assert log_odds_of_softmax(torch.tensor([[25.0], [0.0]])).isfinite().all()
    assert log_odds_of_softmax(torch.tensor([[500.0, 0.0, -500.0]])).isfinite().all()


@pytest.mark.parametrize("has_unknown", [False, True])
def test_one_unknown_entry_makes_the_loss_of_a_batch_asymmetric(has_unknown):
    """Values and gradients are those of the one loss alone, to the bit: the other one takes no part."""
    logits, labels = torch.randn(3, 4, generator=torch.Generator().manual_seed(0)) * 9, torch.eye(3, 4)
    labels[0, 3] = -1 if has_unknown else 0
    found, expected = (logits.clone().requires_grad_() for _ in range(2))
    loss = label_loss(found, labels)
    alone = (
        asymmetric_loss(log_odds_of_softmax(expected), labels)
        if has_unknown
        else multi_matching_loss(expected, labels)
    )
    loss.backward()
    alone.backward()
    assert torch.equal(loss, alone)
    assert torch.equal(found.grad, expected.grad)


def test_an_impossible_pair_costs_its_positive_nothing():
    """`0 * -inf` is NaN: what is not positive must be left out, not multiplied away."""
    logits = torch.tensor([[1.0, -math.inf, 0.0]])
    expected = -(1 - math.log(math.e + 1))
    assert multi_matching_loss(logits, torch.tensor([[1, 0, 0]])).item() == pytest.approx(expected)


def test_a_sure_and_wrong_negative_costs_a_finite_price():
    logits = torch.tensor([[200.0]], requires_grad=True)
    loss = asymmetric_loss(logits, torch.tensor([[0]]), clip=0)
    loss.backward()
    assert loss.item() == pytest.approx(-math.log(1e-6), rel=0.05)
    assert logits.grad.isfinite().all()


def test_an_easy_negative_costs_exactly_nothing():
    """Odd focusing shows a margin that is not cut off at 0."""
    logits, labels = torch.tensor([[-6.0]]), torch.tensor([[0]])
    assert asymmetric_loss(logits, labels, gamma_negative=0.0).item() == 0
    assert asymmetric_loss(logits, labels, gamma_negative=1.0).item() == 0


def test_the_log_odds_of_certainty_are_bounded():
    assert log_odds_of_softmax(torch.tensor([[25.0]])).item() == pytest.approx(-math.log(1e-6), rel=0.01)


@given(seed=st.integers(0, 2**16), images=st.integers(1, 5), labels=st.integers(1, 6))
def test_weighted_losses_are_their_equations(seed, images, labels):
    generator = torch.Generator().manual_seed(seed)
    logits = torch.randn(images, labels, generator=generator, dtype=torch.float64) * 5
    targets = torch.randint(0, 2, (images, labels), generator=generator)
    weights = torch.rand(labels, generator=generator, dtype=torch.float64) * 1e-2 + 1e-4
    everything = math.log(sum(math.exp(value) for value in logits.flatten().tolist()))
    pairs = [(b, j) for b in range(images) for j in range(labels) if targets[b, j]]
    total = -sum(weights[j].item() * (logits[b, j].item() - everything) for b, j in pairs)
    expected = total / sum(weights[j].item() for _, j in pairs) if pairs else 0.0
    assert multi_matching_loss(logits, targets, label_weights=weights).item() == pytest.approx(expected, abs=1e-9)
    plain, positives = (asymmetric_loss(logits, mask) for mask in (targets, torch.where(targets == 1, 1, -1)))
    by_label = [asymmetric_loss(logits[:, [j]], torch.where(targets[:, [j]] == 1, 1, -1)) for j in range(labels)]
    expected = (plain - positives) + sum(weight * loss for weight, loss in zip(weights, by_label, strict=True))
    torch.testing.assert_close(asymmetric_loss(logits, targets, label_weights=weights), expected)


@pytest.mark.parametrize("has_unknown", [False, True])
def test_weights_of_one_change_nothing(has_unknown):
    logits, labels = torch.randn(3, 4, generator=torch.Generator().manual_seed(0)) * 9, torch.eye(3, 4)
    labels[0, 3] = -1 if has_unknown else 0
    torch.testing.assert_close(label_loss(logits, labels, label_weights=torch.ones(4)), label_loss(logits, labels))
    weights = torch.tensor([1.0, 1.0, 5.0, 1.0])
    assert label_loss(logits, labels, label_weights=weights) != label_loss(logits, labels)
    assert label_loss(logits, torch.zeros(3, 4), label_weights=weights) == 0
