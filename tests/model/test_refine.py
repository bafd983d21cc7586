"""The second look at the best labels of an image."""

import pytest
import torch
import torch.nn.functional as F

from ram_hf.model.refine import look_again

GRID = (4, 4)
IMAGE = torch.arange(3 * 32 * 32, dtype=torch.float32).reshape(1, 3, 32, 32) / 3072


def plan_of(*hot: tuple[slice, slice], num_labels: int | None = None) -> torch.Tensor:
    """A plan (1, 16, L) whose columns are high in these patches."""
    plan = torch.full((1, *GRID, num_labels or len(hot)), 0.01)
    for label, patches in enumerate(hot):
        plan[0][(*patches, label)] = 0.05
    return plan.flatten(1, 2)


def seen_crops(scores, plan, *, num_labels, images=IMAGE):
    """The crops that are looked at, and what comes of scoring each label of each with 0.8."""
    crops = []

    def score(pixels):
        crops.append(pixels)
        return torch.full((len(pixels), scores.shape[1]), 0.8)

    refined = look_again(images, scores, plan, grid=GRID, num_labels=num_labels, score_crops=score)
    return crops, refined


def test_a_label_is_judged_again_in_the_box_of_its_patches():
    scores = torch.tensor([[0.6, 0.1, 0.2]])
    plan = plan_of((slice(1, 3), slice(2, 4)), num_labels=3)
    ((crop,), refined) = seen_crops(scores, plan, num_labels=2)
    expected = F.interpolate(IMAGE[:, :, 8:24, 16:32], size=(32, 32), mode="bilinear")
    torch.testing.assert_close(crop, expected)
    torch.testing.assert_close(refined, torch.tensor([[0.7, 0.1, 0.2]]))
    assert scores[0, 0] == torch.tensor(0.6)  # what is given stays


def test_the_box_holds_all_patches_of_half_the_range():
    plan = plan_of((slice(0, 1), slice(0, 1)))
    plan[0, 7, 0] = 0.031  # row 1, the last column: just above half of the range
    plan[0, 12, 0] = 0.029
    ((crop,), _) = seen_crops(torch.tensor([[0.9, 0.0]]), plan.repeat(1, 1, 2), num_labels=1)
    torch.testing.assert_close(crop, F.interpolate(IMAGE[:, :, 0:16, 0:32], size=(32, 32), mode="bilinear"))


@pytest.mark.parametrize(("num_labels", "looked_at"), [(1, [0]), (2, [0, 3]), (3, [0, 3, 1]), (9, [0, 3, 1])])
def test_of_the_best_those_above_the_middle_of_the_range(num_labels, looked_at):
    scores = torch.tensor([[0.5, 0.3, 0.1, 0.4, 0.25]])  # the middle is 0.3
    scores[0, 1] += 0.01
    hot = [(slice(label % 4, label % 4 + 1), slice(0, 1)) for label in range(5)]
    crops, refined = seen_crops(scores, plan_of(*hot), num_labels=num_labels)
    assert sum(map(len, crops)) == len(looked_at)
    assert (refined != scores).nonzero()[:, 1].tolist() == sorted(looked_at)


def test_equal_scores_leave_nothing_above_the_middle():
    scores = torch.full((1, 3), 0.3)
    crops, refined = seen_crops(scores, plan_of(*[(slice(0, 1), slice(0, 1))] * 3), num_labels=3)
    assert not crops
    assert torch.equal(refined, scores)


def test_no_more_crops_at_once_than_images():
    scores = torch.tensor([[0.9, 0.8, 0.0], [0.9, 0.8, 0.0]])
    plan = plan_of(*[(slice(0, 1), slice(0, 1))] * 3).repeat(2, 1, 1)
    crops, _ = seen_crops(scores, plan, num_labels=2, images=IMAGE.repeat(2, 1, 1, 1))
    assert [len(each) for each in crops] == [2, 2]


def test_scores_do_not_depend_on_the_batch(tiny_model, tiny_processor, pixel_values, label_inputs):
    with torch.no_grad():
        features = tiny_model.get_label_features(**label_inputs)

        def refined(images):
            output = tiny_model(images, label_features=features, output_transport_plan=True)
            return look_again(
                images,
                output.scores,
                output.transport_plan,
                grid=GRID,
                num_labels=2,
                score_crops=lambda crops: tiny_model(crops, label_features=features).scores,
            )

        together = refined(pixel_values)
        alone = torch.cat([refined(image) for image in pixel_values.split(1)])
        plain = tiny_model(pixel_values, label_features=features).scores
    torch.testing.assert_close(together, alone, atol=3e-5, rtol=1e-4)
    assert not torch.allclose(together, plain, atol=1e-4)
