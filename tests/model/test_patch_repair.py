import pytest
import torch
import torch.nn.functional as F

from ram_hf import RamModel
from ram_hf.model.patch_repair import aggregate_similar, local_outlier_factor, repair_outliers


def points_of(num_images, num_patches, width=6, seed=0):
    return torch.randn(num_images, num_patches, width, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize(("num_points", "num_neighbours"), [(40, 30), (64, 5), (3, 2), (2, 1)])
def test_the_factor_is_that_of_scikit_learn(num_points, num_neighbours):
    neighbors = pytest.importorskip("sklearn.neighbors")
    points = points_of(3, num_points)
    points[1] *= torch.logspace(-1, 1, num_points)[:, None]  # of very different densities
    found = local_outlier_factor(points, num_neighbours=num_neighbours)
    for image in range(3):
        judge = neighbors.LocalOutlierFactor(n_neighbors=num_neighbours).fit(points[image].double().numpy())
        expected = torch.from_numpy(-judge.negative_outlier_factor_)
        torch.testing.assert_close(found[image].double(), expected, rtol=1e-3, atol=1e-3)


def test_points_that_coincide_have_a_factor():
    points = points_of(1, 1).expand(1, 9, 6)
    assert local_outlier_factor(points, num_neighbours=4).isfinite().all()


def crowd(rows=6, columns=7):
    """Patches that are nearly one, so that whoever is changed stands out."""
    points = points_of(1, 1, seed=1) + 0.05 * points_of(1, rows * columns, seed=2)
    return points.reshape(rows, columns, 6)


@pytest.mark.parametrize(("row", "column"), [(2, 3), (0, 0), (5, 2)])
def test_what_stands_out_becomes_the_mean_of_what_is_around(row, column):
    patch_map = crowd()
    patch_map[row, column] *= -1
    patch_map[3, 5] *= -1  # 5 % of 42 are two
    found = repair_outliers(patch_map.reshape(1, 42, 6), (6, 7)).reshape(6, 7, 6)
    for at_row, at_column in ((row, column), (3, 5)):
        around = [
            patch_map[r, c]
            for r in range(max(at_row - 1, 0), min(at_row + 2, 6))
            for c in range(max(at_column - 1, 0), min(at_column + 2, 7))
            if (r, c) != (at_row, at_column)
        ]
        torch.testing.assert_close(found[at_row, at_column], torch.stack(around).mean(dim=0))
        patch_map[at_row, at_column] = found[at_row, at_column]
    assert torch.equal(found, patch_map)  # nothing else has changed


def test_few_patches_are_left_as_they_are():
    patches = points_of(2, 16)
    assert repair_outliers(patches, (4, 4)) is patches


def test_repair_knows_no_other_image():
    patches = points_of(3, 40)
    together = repair_outliers(patches, (5, 8))
    for image in range(3):
        torch.testing.assert_close(repair_outliers(patches[image : image + 1], (5, 8))[0], together[image])


def test_alike_patches_become_their_mean_by_similarity():
    features, tokens = points_of(2, 7), points_of(2, 7, width=4, seed=3)
    found = aggregate_similar(features, tokens)
    for image in range(2):
        similarity = F.cosine_similarity(tokens[image][:, None], tokens[image][None], dim=-1)
        for patch in range(7):
            alike = (similarity[patch] >= similarity.mean()) & (similarity[patch] > 0)
            weights = similarity[patch][alike] / similarity[patch][alike].sum()
            expected = weights @ F.normalize(features[image][alike], dim=-1)
            torch.testing.assert_close(found[image, patch], expected, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("field", ["repair_outliers", "aggregate_similar"])
def test_the_model_mends_where_it_is_asked_to(tiny_model, field, label_inputs):
    pixel_values = points_of(2, 3 * 40, width=48).reshape(2, 3, 40, 48)  # 5 x 6 patches: one stands out
    plain, mended = (RamModel.from_clip(tiny_model.clip, config=config) for config in ({}, {field: True}))
    with torch.no_grad():
        features = plain.get_label_features(**label_inputs)
        expected, found = (
            each(pixel_values, label_features=features, interpolate_pos_encoding=True) for each in (plain, mended)
        )
        alone = mended(pixel_values[1:], label_features=features, interpolate_pos_encoding=True)
    assert torch.equal(found.global_logits, expected.global_logits)
    changed = (found.patch_embeds - expected.patch_embeds).abs().amax(dim=-1) > 1e-4
    assert changed.sum(dim=1).tolist() == ([1, 1] if field == "repair_outliers" else [30, 30])
    torch.testing.assert_close(found.patch_embeds.norm(dim=-1), torch.ones(2, 30))
    torch.testing.assert_close(alone.scores[0], found.scores[1], atol=1e-5, rtol=1e-4)
