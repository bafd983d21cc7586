"""How patches speak for a label without a transport plan, and how both halves make one score."""

import math

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from ram_hf import RamModel
from ram_hf.model.aggregation import combine_scores
from ram_hf.model.matching import match_patches
from ram_hf.model.optimal_transport import cost_from_similarity, patch_marginal_from_similarity, sinkhorn
from ram_hf.model.reference_labels import Scales, describe_images, label_evidence

from ..conftest import LABELS, make_config

PLAIN = ("max", "mean", "logsumexp")
CONFIGS = {aggregation: make_config(aggregation=aggregation) for aggregation in ("transport", *PLAIN)}


def embeds(*shape, seed=0):
    return F.normalize(torch.randn(*shape, 8, generator=torch.Generator().manual_seed(seed)), dim=-1)


def matched(patch_embeds, label_embeds, aggregation, temperature=0.1):
    return match_patches(
        patch_embeds,
        label_embeds,
        CONFIGS[aggregation],
        logit_scale=torch.tensor(20.0),
        local_temperature=torch.tensor(temperature),
        output_transport_plan=True,
    )


@pytest.mark.parametrize("aggregation", PLAIN)
def test_local_logits_are_their_equations(aggregation):
    """Patch by patch and label by label, with Python's own numbers."""
    patches, labels = embeds(2, 5), embeds(3, seed=1)
    found = matched(patches, labels, aggregation)
    for image in range(2):
        similarity = (patches[image].double() @ labels.double().T).tolist()
        exponentials = [[math.exp(s / 0.1) for s in row] for row in similarity]
        shares = [[e / sum(row) for e in row] for row in exponentials]
        for label in range(3):
            of_patches = [row[label] for row in shares]
            expected = {
                "max": math.log(max(of_patches)),
                "mean": math.log(sum(of_patches) / 5),
                "logsumexp": math.log(sum(row[label] for row in exponentials) / 5),
            }
            assert found.local_logits[image, label].item() == pytest.approx(expected[aggregation], abs=1e-5)
            for patch in range(5):
                column = of_patches[patch] / sum(of_patches) / 3
                assert found.transport_plan[image, patch, label].item() == pytest.approx(column, rel=1e-4)


@settings(max_examples=30, deadline=None)
@given(data=st.data())
@pytest.mark.parametrize("aggregation", PLAIN)
def test_nothing_depends_on_an_order_or_on_other_images(aggregation, data):
    num_images, num_patches, num_labels = (data.draw(st.integers(1, 6)) for _ in range(3))
    patches, labels = embeds(num_images, num_patches, seed=2), embeds(num_labels, seed=3)
    whole = matched(patches, labels, aggregation)
    order = data.draw(st.permutations(range(num_labels)))
    of_patches = data.draw(st.permutations(range(num_patches)))
    turned = matched(patches[:, of_patches], labels[order], aggregation)
    torch.testing.assert_close(turned.local_logits, whole.local_logits[:, order], atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(turned.transport_plan, whole.transport_plan[:, of_patches][..., order])
    torch.testing.assert_close(whole.transport_plan.sum(dim=1), torch.full((num_images, num_labels), 1 / num_labels))
    for image in range(num_images):
        alone = matched(patches[image : image + 1], labels, aggregation)
        torch.testing.assert_close(alone.local_logits[0], whole.local_logits[image], atol=1e-5, rtol=1e-5)


def test_pieces_of_images_give_what_all_at_once_does(monkeypatch):
    patches, labels = embeds(5, 4), embeds(3, seed=1)
    expected = [matched(patches, labels, aggregation) for aggregation in PLAIN]
    monkeypatch.setattr("ram_hf.model.matching._PLAN_ENTRIES_AT_ONCE", 2 * 4 * 3)
    with torch.no_grad():
        for aggregation, whole in zip(PLAIN, expected, strict=True):
            for piece, one in zip(matched(patches, labels, aggregation), whole, strict=True):
                torch.testing.assert_close(piece, one, atol=1e-6, rtol=1e-5)


def test_the_mean_lies_below_the_largest():
    patches, labels = embeds(4, 6), embeds(5, seed=1)
    largest, mean = (matched(patches, labels, each).local_logits for each in ("max", "mean"))
    assert (mean <= largest).all()
    one_patch = [matched(patches[:, :1], labels, each).local_logits.softmax(dim=-1) for each in PLAIN]
    torch.testing.assert_close(one_patch[0], one_patch[1])
    torch.testing.assert_close(one_patch[0], one_patch[2])


# --- one score of two ---------------------------------------------------------------------------------------------


LOGITS = st.lists(st.floats(-80, 80, width=32), min_size=4, max_size=4)


@settings(max_examples=100, deadline=None)
@given(of_whole=LOGITS, of_patches=LOGITS, weight=st.floats(0, 1), combination=st.sampled_from(["mean", "product"]))
def test_scores_sum_to_one_and_logits_are_their_logarithm(of_whole, of_patches, weight, combination):
    config = make_config(score_combination=combination, global_weight=weight)
    scores, logits = combine_scores(torch.tensor([of_whole]), torch.tensor([of_patches]), config)
    torch.testing.assert_close(scores.sum(dim=-1), torch.ones(1))
    torch.testing.assert_close(logits.softmax(dim=-1), scores, atol=1e-6, rtol=1e-4)
    torch.testing.assert_close(logits.exp(), scores, atol=1e-6, rtol=1e-4)
    whole, patches = (torch.tensor([each]).double().softmax(dim=-1) for each in (of_whole, of_patches))
    expected = weight * whole + (1 - weight) * patches
    if combination == "product":
        powers = 2 * weight * whole.log() + 2 * (1 - weight) * patches.log()
        expected = (powers - powers.amax()).exp() / (powers - powers.amax()).exp().sum()
    torch.testing.assert_close(scores.double(), expected, atol=1e-5, rtol=1e-3)


def test_a_weight_of_one_or_nothing_leaves_one_half():
    whole, patches = torch.randn(3, 5), torch.randn(3, 5)
    for weight, expected in ((1.0, whole), (0, patches)):
        scores, logits = combine_scores(whole, patches, make_config(global_weight=weight))
        torch.testing.assert_close(scores, expected.softmax(dim=-1))
        torch.testing.assert_close(logits, expected.log_softmax(dim=-1), atol=1e-5, rtol=1e-5)


# --- in the model -------------------------------------------------------------------------------------------------


def test_by_default_every_bit_is_the_papers(tiny_model, pixel_values, label_inputs):
    """The formulas as they were before there was a choice, operation by operation."""
    with torch.no_grad():
        output = tiny_model(pixel_values, **label_inputs, output_transport_plan=True)
        config, scale = tiny_model.config, tiny_model.clip.logit_scale.float().exp()
        similarity = output.patch_embeds @ output.label_embeds.T
        num_labels = similarity.shape[2]
        plan = sinkhorn(
            cost_from_similarity(similarity, logit_scale=scale),
            patch_marginal_from_similarity(similarity, temperature=config.patch_marginal_temperature),
            similarity.new_full((num_labels,), 1 / num_labels),
            epsilon=config.epsilon,
            largest_cost=1.0,
            tolerance=config.sinkhorn_tolerance,
            max_iterations=config.sinkhorn_max_iterations,
        ).plan
        local = (plan * similarity).sum(dim=1) / tiny_model.temperatures.local_temperature * num_labels
        whole = output.global_logits
        scores = (whole.softmax(dim=-1) + local.softmax(dim=-1)) / 2
        logits = torch.logaddexp(whole.log_softmax(dim=-1), local.log_softmax(dim=-1)) - math.log(2)
    for found, expected in (
        (output.transport_plan, plan),
        (output.local_logits, local),
        (output.scores, scores),
        (output.logits_per_image, logits),
    ):
        assert torch.equal(found, expected)


def test_from_clip_takes_what_ranks_best_and_training_what_the_paper_has(tiny_model):
    fields = ("local_attention", "aggregation", "score_combination", "global_weight", "ladder_tokens")
    free = RamModel.from_clip(tiny_model.clip)
    assert [getattr(free.config, name) for name in fields] == ["key", "max", "product", 0.4, 0]
    chosen = RamModel.from_clip(tiny_model.clip, config={"aggregation": "mean"})
    assert (chosen.config.aggregation, chosen.config.score_combination) == ("mean", "product")
    trained = RamModel.from_clip(tiny_model.clip, for_training=True)
    assert [getattr(trained.config, name) for name in fields] == ["value", "transport", "mean", 0.5, 8]
    scale = tiny_model.clip.logit_scale.exp().item()
    for model, ratio in ((free, 2), (chosen, 1), (trained, 4)):
        assert model.temperatures.local_temperature.item() == pytest.approx(ratio / scale)


@pytest.mark.parametrize("fields", [{}, {"aggregation": "logsumexp"}, {"repair_outliers": True}])
def test_a_saved_training_free_model_stays_the_same(tiny_model, pixel_values, label_inputs, tmp_path, fields):
    model = RamModel.from_clip(tiny_model.clip, config=fields)
    model.save_pretrained(tmp_path)
    loaded = RamModel.from_pretrained(tmp_path)
    with torch.no_grad():
        found, expected = (each(pixel_values, **label_inputs).scores for each in (loaded, model))
    assert torch.equal(found, expected)


def test_half_precision_stays_near(tiny_model, pixel_values, label_inputs):
    model = RamModel.from_clip(tiny_model.clip)
    with torch.no_grad():
        expected = model(pixel_values, **label_inputs).scores
        found = model.bfloat16()(pixel_values.bfloat16(), **label_inputs).scores
    assert found.dtype == torch.float32
    torch.testing.assert_close(found, expected, atol=0.05, rtol=0)


@pytest.mark.parametrize("aggregation", PLAIN)
def test_training_goes_without_a_teacher_where_there_is_no_plan(tiny_model, pixel_values, label_inputs, aggregation):
    tiny_model.config.aggregation = aggregation
    features = tiny_model.get_label_features(**label_inputs)
    output = tiny_model.train()(pixel_values, label_features=features, labels=torch.eye(3, 4))
    output.local_loss.backward()
    assert tiny_model.temperatures.local_temperature.grad.isfinite()
    assert tiny_model.ladder["4"].adapter.output_conv.weight.grad.any()


# --- one label by itself ------------------------------------------------------------------------------------------


def evidence_of(labels, aggregation, **options):
    config = CONFIGS[aggregation]
    scales = Scales(torch.tensor(20.0), torch.tensor(0.05), torch.tensor(0.1))
    reference = embeds(6, seed=4)
    features = describe_images(embeds(2, seed=5), embeds(2, 5, seed=6), reference, config, scales)
    return features, label_evidence(features, labels, reference, config, scales, **options)


@pytest.mark.parametrize("aggregation", PLAIN)
def test_evidence_is_its_equation(aggregation):
    """A candidate against the reference labels alone; one that is in their list stands in it once."""
    reference, patches = embeds(6, seed=4), embeds(2, 5, seed=6).double()
    labels = torch.cat([embeds(3, seed=7), reference[2:3]])
    features, found = evidence_of(labels, aggregation, output_transport_plan=True)
    rivals = (patches @ reference.double().T / 0.1).exp().sum(dim=2, keepdim=True)
    own = (patches @ labels.double().T / 0.1).exp()
    shares = own / (rivals + own * torch.tensor([1, 1, 1, 0]))
    expected = {
        "max": shares.amax(dim=1).log(),
        "mean": shares.mean(dim=1).log(),
        "logsumexp": own.mean(dim=1).log(),
    }[aggregation]
    torch.testing.assert_close(found.local_logits.double(), expected, atol=1e-4, rtol=1e-4)
    columns = shares / shares.sum(dim=1, keepdim=True) / 4
    torch.testing.assert_close(found.transport_plan.double(), columns, atol=1e-6, rtol=1e-4)
    torch.testing.assert_close(features.patch_rivals.double(), rivals[..., 0].log(), atol=1e-4, rtol=1e-4)
    assert not features.row_scalings.any()


@settings(max_examples=20, deadline=None)
@given(chosen=st.lists(st.integers(0, 69), min_size=1, max_size=90), aggregation=st.sampled_from(PLAIN))
def test_no_evidence_depends_on_what_else_is_asked(chosen, aggregation):
    labels = embeds(70, seed=8)
    _, alone = evidence_of(labels, aggregation)
    _, found = evidence_of(labels[chosen], aggregation)
    assert torch.equal(found.local_logits, alone.local_logits[:, chosen])


def test_probabilities_of_a_training_free_model(tiny_model, pixel_values, tiny_processor):
    model = RamModel.from_clip(tiny_model.clip)
    with torch.no_grad():
        features = model.get_label_features(**tiny_processor(labels=[*LABELS, "cat"]))
        model.set_reference_labels([*LABELS, "cat"], features)
        model.config.calibration = {
            "evidence_weights": [0.1, 0.1],
            "statistics_weights": [0.0] * 6,
            "bias": 0.0,
            "threshold": 0.5,
        }
        together = model(pixel_values, label_features=features).probabilities
        alone = model(pixel_values, label_features=features[2:3]).probabilities
    assert ((together > 0) & (together < 1)).all()
    assert torch.equal(together[:, 2:3], alone)


@pytest.mark.parametrize("mended", [{}, {"repair_outliers": True, "aggregate_similar": True}])
def test_a_training_free_model_is_one_graph(tiny_model, label_inputs, mended):
    pixel_values = torch.randn(2, 3, 40, 48, generator=torch.Generator().manual_seed(1))
    model = RamModel.from_clip(tiny_model.clip, config=mended)
    with torch.no_grad():
        inputs = {"label_features": model.get_label_features(**label_inputs), "interpolate_pos_encoding": True}
        expected = model(pixel_values, **inputs).scores
        exported = torch.export.export(model, (pixel_values,), inputs).module()
        torch.testing.assert_close(exported(pixel_values, **inputs).scores, expected, atol=1e-5, rtol=1e-4)
