import warnings

import numpy as np
import ot
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from ram_hf.model.optimal_transport import (
    cost_from_similarity,
    largest_teacher_cost,
    patch_marginal_from_similarity,
    sinkhorn,
    teacher_cost,
)


def random_problem(seed, batch_size, num_patches, num_labels):
    generator = torch.Generator().manual_seed(seed)
    cost = torch.rand(batch_size, num_patches, num_labels, generator=generator)
    patch_marginal = torch.rand(batch_size, num_patches, generator=generator).softmax(dim=1)
    label_marginal = torch.rand(batch_size, num_labels, generator=generator).softmax(dim=1)
    return cost, patch_marginal, label_marginal


@settings(deadline=None, max_examples=40)
@given(
    seed=st.integers(0, 2**16),
    num_patches=st.integers(1, 40),
    num_labels=st.integers(1, 60),
    epsilon=st.sampled_from([0.015, 0.05, 0.1, 0.15, 1.0]),
)
def test_plan_is_pots_plan(seed, num_patches, num_labels, epsilon):
    cost, patch_marginal, label_marginal = random_problem(seed, 2, num_patches, num_labels)
    result = sinkhorn(cost, patch_marginal, label_marginal, epsilon=epsilon, tolerance=1e-9, max_iterations=20_000)
    for image in range(2):
        u, v = patch_marginal[image].double().numpy(), label_marginal[image].double().numpy()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # POT warns that it stopped at its own, tighter, tolerance
            oracle = ot.bregman.sinkhorn_log(
                u / u.sum(), v / v.sum(), cost[image].double().numpy(), epsilon, numItermax=20000, stopThr=1e-12
            )
        np.testing.assert_allclose(result.plan[image].numpy(), oracle, atol=1e-5)
    torch.testing.assert_close(result.plan.sum(dim=1), label_marginal, atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(result.plan.sum(dim=2), patch_marginal, atol=1e-4, rtol=0)
    assert result.plan.min() >= 0


@pytest.mark.parametrize(("num_patches", "num_labels"), [(1, 1), (1, 20_000), (1000, 1), (1000, 300)])
@pytest.mark.parametrize("extreme", ["zeros", "ones", "one cheap label", "one cheap patch", "random"])
def test_no_nan_at_the_ends_of_the_range(num_patches, num_labels, extreme):
    cost, patch_marginal, _ = random_problem(0, 1, num_patches, num_labels)
    if extreme != "random":
        cost = torch.full_like(cost, 0.0 if extreme == "zeros" else 1.0)
    if extreme == "one cheap label":
        cost[:, :, 0] = 0
    if extreme == "one cheap patch":
        cost[:, 0] = 0
    label_marginal = torch.full((num_labels,), 1 / num_labels)
    result = sinkhorn(cost, patch_marginal, label_marginal, epsilon=0.1)
    assert result.plan.isfinite().all()
    torch.testing.assert_close(result.plan.sum(dim=1)[0], label_marginal, atol=1e-6, rtol=1e-3)


@pytest.mark.parametrize("epsilon", [0.1, 0.01, 0.001])
def test_small_epsilon_and_zero_marginals(epsilon):
    cost, patch_marginal, label_marginal = random_problem(3, 2, 9, 5)
    patch_marginal[:, 2], label_marginal[:, 1] = 0, 0
    patch_marginal /= patch_marginal.sum(dim=1, keepdim=True)
    label_marginal /= label_marginal.sum(dim=1, keepdim=True)
    plan = sinkhorn(cost, patch_marginal, label_marginal, epsilon=epsilon).plan
    assert plan.isfinite().all()
    assert not plan[:, 2].any()
    assert not plan[:, :, 1].any()
    torch.testing.assert_close(plan.sum(dim=1), label_marginal, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize(("scale", "shift"), [(20, 0), (1, 10), (300, -150)])
def test_costs_of_any_size(scale, shift):
    cost, patch_marginal, label_marginal = random_problem(4, 2, 9, 5)
    cost = cost * scale + shift
    result = sinkhorn(cost, patch_marginal, label_marginal, epsilon=0.1, tolerance=1e-9, max_iterations=500)
    torch.testing.assert_close(result.plan.sum(dim=1), label_marginal, atol=1e-5, rtol=1e-4)


def test_both_forms_of_the_iteration_agree(monkeypatch):
    cost, patch_marginal, label_marginal = random_problem(5, 3, 16, 7)
    options = {"epsilon": 0.1, "tolerance": 1e-3, "max_iterations": 100}
    scalings = sinkhorn(cost, patch_marginal, label_marginal, **options)
    monkeypatch.setattr("ram_hf.model.optimal_transport._LARGEST_EXPONENT", 0.0)
    logarithms = sinkhorn(cost, patch_marginal, label_marginal, **options)
    torch.testing.assert_close(scalings.plan, logarithms.plan, atol=1e-7, rtol=1e-5)
    assert scalings.num_iterations.tolist() == logarithms.num_iterations.tolist()


def test_each_image_stops_on_its_own():
    cost, patch_marginal, label_marginal = random_problem(7, 6, 20, 8)
    cost[0] = 0.5  # converges at once
    together = sinkhorn(cost, patch_marginal, label_marginal, epsilon=0.1)
    assert len(set(together.num_iterations.tolist())) > 1
    for image in range(6):
        only = slice(image, image + 1)
        alone = sinkhorn(cost[only], patch_marginal[only], label_marginal[only], epsilon=0.1)
        assert alone.num_iterations[0] == together.num_iterations[image]
        torch.testing.assert_close(alone.plan[0], together.plan[image], atol=1e-7, rtol=1e-6)


def test_stopping_rule_is_the_mean_change_of_the_row_scaling():
    cost, u, v = random_problem(9, 1, 12, 5)
    kernel, row, column = (-cost[0] / 0.1).exp(), torch.ones(12), torch.ones(5)
    count = 0
    while True:
        count += 1
        previous, row = row, u[0] / (kernel @ column)
        column = v[0] / (kernel.T @ row)
        if (row - previous).abs().mean() < 1e-3:
            break
    result = sinkhorn(cost, u, v, epsilon=0.1, tolerance=1e-3)
    assert result.num_iterations.tolist() == [count]
    torch.testing.assert_close(result.plan[0], row[:, None] * kernel * column, atol=1e-7, rtol=1e-5)


def test_tolerance_zero_runs_exactly_the_limit_and_exports():
    cost, u, v = random_problem(11, 2, 6, 4)
    assert sinkhorn(cost, u, v, epsilon=0.1, tolerance=0, max_iterations=17).num_iterations.tolist() == [17, 17]

    class Transport(torch.nn.Module):
        def forward(self, cost, u, v):
            return sinkhorn(cost, u, v, epsilon=0.1, tolerance=0, max_iterations=20).plan

    exported = torch.export.export(Transport(), (cost, u, v)).module()
    torch.testing.assert_close(exported(cost, u, v), Transport()(cost, u, v))


@pytest.mark.parametrize("largest_cost", [None, 1.0])
def test_a_graph_survives_a_small_epsilon(largest_cost):
    """Where exp(-cost / epsilon) is no float32 any more; a graph cannot look, so it is told or is careful."""
    cost, u, v = random_problem(12, 2, 6, 4)
    cost = cost / 10 + 0.9
    options = {"epsilon": 0.005, "tolerance": 0, "max_iterations": 20}

    class Transport(torch.nn.Module):
        def forward(self, cost, u, v):
            return sinkhorn(cost, u, v, largest_cost=largest_cost, **options).plan

    plan = torch.export.export(Transport(), (cost, u, v)).module()(cost, u, v)
    assert plan.isfinite().all()
    torch.testing.assert_close(plan.sum(dim=1), v, atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(plan, sinkhorn(cost, u, v, **options).plan)


def test_the_bound_of_the_cost_decides_and_is_one():
    """A bound takes the place of a look at the cost, and the teacher's cost keeps within its own."""
    cost, u, v = random_problem(14, 1, 6, 4)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("ram_hf.model.optimal_transport._iterate_scalings", None)
        expected = sinkhorn(cost, u, v, epsilon=0.1, largest_cost=5.001)
        with pytest.raises(TypeError, match="not callable"):
            sinkhorn(cost, u, v, epsilon=0.1, largest_cost=4.999)
    torch.testing.assert_close(sinkhorn(cost, u, v, epsilon=0.1).plan, expected.plan, atol=1e-7, rtol=1e-5)
    similarity = torch.zeros(1, 7, 2)
    similarity[0, 1:, 0] = 1  # all patches but the first are sure of the first label
    costs = teacher_cost(similarity, logit_scale=1e3, sharpness=20.0)
    assert 10 < costs.max() <= largest_teacher_cost(7, sharpness=20.0)


def test_half_precision_runs_in_float32_and_returns_the_callers_dtype():
    cost, u, v = random_problem(13, 2, 30, 10)
    half = sinkhorn(cost.bfloat16(), u, v, epsilon=0.1)
    assert half.plan.dtype == torch.bfloat16
    expected = sinkhorn(cost.bfloat16().float(), u, v, epsilon=0.1).plan
    torch.testing.assert_close(half.plan, expected.bfloat16())
    exact = sinkhorn(cost, u, v, epsilon=0.1)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        inside = sinkhorn(cost, u, v, epsilon=0.1)
    assert torch.equal(inside.plan, exact.plan)
    assert torch.equal(inside.num_iterations, exact.num_iterations)
    whole = sinkhorn(cost.half(), u.half(), v.half(), epsilon=0.1)
    rounded = sinkhorn(cost.half().float(), u.half().float(), v.half().float(), epsilon=0.1)
    assert torch.equal(whole.plan, rounded.plan.half())


def test_the_callers_tensors_are_left_alone():
    problem = random_problem(15, 1, 4, 3)
    copies = [tensor.clone() for tensor in problem]
    sinkhorn(*problem, epsilon=0.1)
    for tensor, copy in zip(problem, copies, strict=True):
        assert torch.equal(tensor, copy)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"cost": torch.rand(3, 4)}, r"`cost` must have shape \(images, patches, labels\), got \(3, 4\)"),
        ({"cost": torch.rand(2, 3, 0), "label_marginal": torch.rand(0)}, "3 patches and 0 labels"),
        ({"patch_marginal": torch.rand(2, 5)}, r"`patch_marginal` must have shape \(2, 3\), got \(2, 5\)"),
        ({"label_marginal": torch.rand(5)}, r"`label_marginal` must have shape \(4,\) or \(2, 4\), got \(5,\)"),
        ({"epsilon": 0}, "`epsilon` must be above 0, got 0"),
        ({"tolerance": -1}, "`tolerance` must be at least 0"),
        ({"max_iterations": 0}, "`max_iterations` at least 1"),
    ],
)
def test_bad_problems_are_refused(change, message):
    problem = {
        "cost": torch.rand(2, 3, 4),
        "patch_marginal": torch.full((2, 3), 1 / 3),
        "label_marginal": torch.full((4,), 1 / 4),
        "epsilon": 0.1,
    }
    with pytest.raises(ValueError, match=message):
        sinkhorn(**{**problem, **change})


def test_patch_marginal_and_cost_follow_their_equations():
    similarity = torch.rand(2, 5, 3, requires_grad=True) * 2 - 1
    marginal = patch_marginal_from_similarity(similarity, temperature=0.1)
    weights = (similarity.max(dim=2).values / 0.1).exp()
    torch.testing.assert_close(marginal, (weights / weights.sum(dim=1, keepdim=True)).detach())
    cost = cost_from_similarity(similarity, logit_scale=100.0)
    weights = (100 * similarity.detach().double()).exp()
    expected = 1 - weights / weights.sum(dim=2, keepdim=True)
    torch.testing.assert_close(cost.double(), expected, atol=1e-5, rtol=1e-4)
    assert not marginal.requires_grad
    assert not cost.requires_grad


def test_teacher_cost_masks_with_the_smallest_entry_of_the_batch():
    similarity = torch.rand(2, 5, 3)
    absent = torch.tensor([[False, True, False], [True, True, False]])
    q = (20 * (30 * similarity).softmax(dim=2)).softmax(dim=1)
    expected = torch.where(absent[:, None], q.min(), q)
    actual = teacher_cost(similarity, logit_scale=30.0, sharpness=20.0, absent=absent)
    torch.testing.assert_close(actual, -expected.log())
