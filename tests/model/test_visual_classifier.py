"""What labels look like, learned from unlabelled images: the stream, the discriminants, and the scores by them."""

import itertools

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis

from ram_hf import RamModel
from ram_hf.model.patch_collection import KeptPatches, PatchCollector
from ram_hf.model.visual_classifier import discriminants_of, fit_classifier, shrunk_precision

from ..conftest import LABELS

OTHERS = ["cat", "a house", "river"]
WIDTH, SCALE = 6, torch.tensor(10.0)


def random_patches(seed: int, number: int = 60, num_labels: int = 4) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(number, WIDTH, generator=generator), torch.randn(num_labels, WIDTH, generator=generator)


def collect(chunks, labels: torch.Tensor, most: int) -> KeptPatches:
    collector = PatchCollector(labels, SCALE, patches_per_label=most)
    for chunk in chunks:
        collector.add(chunk)
    return collector.kept()


def plainly_kept(patches: torch.Tensor, labels: torch.Tensor, most: int) -> list[tuple[int, float, np.ndarray]]:
    """All in memory, patch by patch: label, entropy and feature of what is kept."""
    patches, labels = (each / each.norm(dim=1, keepdim=True) for each in (patches.double(), labels.double()))
    by_label: dict[int, list] = {}
    for patch in patches:
        probabilities = (0.6 * SCALE * labels @ patch).exp()
        probabilities = probabilities / probabilities.sum()
        entropy = float(-(probabilities * probabilities.log()).sum())
        best = int(probabilities.argmax())
        by_label.setdefault(best, []).append((entropy, float(probabilities[best]), patch.numpy()))
    return [
        (label, entropy, probability, patch)
        for label in sorted(by_label)
        for entropy, probability, patch in sorted(by_label[label], key=lambda each: each[0])[:most]
    ]


@settings(deadline=None, max_examples=60)
@given(
    seed=st.integers(0, 10**6),
    most=st.integers(1, 30),
    cuts=st.lists(st.integers(0, 60), max_size=6),
    shuffle=st.randoms(use_true_random=False),
)
def test_any_chunks_in_any_order_keep_what_a_plain_computation_keeps(seed, most, cuts, shuffle):
    patches, labels = random_patches(seed)
    order = list(range(len(patches)))
    shuffle.shuffle(order)
    ends = [0, *sorted(cuts), len(order)]
    chunks = [patches[order[start:end]] for start, end in itertools.pairwise(ends) if end > start]
    found = collect(chunks, labels, most)
    expected = plainly_kept(patches, labels, most)
    assert found.labels.tolist() == [label for label, *_ in expected]
    for values, place in ((found.entropies, 1), (found.probabilities, 2), (found.features, 3)):
        assert np.allclose(values.numpy(), np.array([each[place] for each in expected]), atol=1e-5)


def test_what_waits_is_sorted_in_before_it_grows(monkeypatch):
    monkeypatch.setattr("ram_hf.model.patch_collection._PENDING_ENTRIES", 0)
    patches, labels = random_patches(3, number=4000)
    collector = PatchCollector(labels, SCALE, patches_per_label=5)
    most = 0
    for chunk in patches.split(10):
        collector.add(chunk)
        most = max(most, collector._kept.features.numel() + collector._num_pending * WIDTH)
    assert most <= 2 * 5 * 4 * WIDTH + 10 * WIDTH
    assert all(map(torch.equal, collector.kept(), collect([patches], labels, 5)))


def test_a_collector_goes_on_from_what_was_kept():
    patches, labels = random_patches(4)
    begun = collect(patches[:25].split(5), labels, 4)
    collector = PatchCollector(labels, SCALE, patches_per_label=4, kept=begun)
    collector.add(patches[25:])
    assert all(map(torch.equal, collector.kept(), collect([*patches[:25].split(5), patches[25:]], labels, 4)))


def test_discriminants_are_those_of_scikit_learn():
    """Equal priors, as many patches of each label, and its shrinkage as ours comes to."""
    rng = np.random.default_rng(0)
    num_labels, each = 4, 12
    centres = rng.normal(size=(num_labels, WIDTH)).repeat(each, 0)
    features = centres + rng.normal(size=centres.shape) @ rng.normal(size=(WIDTH, WIDTH))
    labels = np.arange(num_labels).repeat(each)
    number = len(features)
    shrinkage = WIDTH / (number - 1 + WIDTH)
    oracle = LinearDiscriminantAnalysis(solver="lsqr", shrinkage=shrinkage, priors=np.full(num_labels, 1 / num_labels))
    oracle.fit(features, labels)
    means = np.stack([features[labels == label].mean(0) for label in range(num_labels)])
    precision = shrunk_precision(torch.from_numpy(features - means[labels]))
    found = discriminants_of(torch.from_numpy(means), precision)
    factor = number / ((1 - shrinkage) * (number - 1))  # it divides by n, and shares the variance out otherwise
    assert np.allclose(found.weights * factor, oracle.coef_, rtol=1e-6)
    assert np.allclose(found.biases * factor, oracle.intercept_ + np.log(num_labels), rtol=1e-6)
    deviations = features - means[labels]
    published = WIDTH * np.linalg.inv(
        (number - 1) * np.cov(deviations.T) + np.trace(np.cov(deviations.T)) * np.eye(WIDTH)
    )
    assert np.allclose(precision * WIDTH / (number - 1), published)


def test_the_fit_is_the_equations_written_plainly():
    patches, words = random_patches(5, number=300)
    words = torch.cat([words, -words.sum(0, keepdim=True) * 1e-3 + torch.tensor([0.0, 0, 0, 0, 0, 1])])
    kept = collect([patches], words, 20)
    chosen = kept.labels != 2  # a label without patches
    kept = KeptPatches(*(each[chosen] for each in kept))
    found = fit_classifier(kept, words)

    h, p, j = kept.features.double().numpy(), kept.probabilities.double().numpy(), kept.labels.numpy()
    t = F.normalize(words.double(), dim=1).numpy()
    seen = [label for label in range(5) if (j == label).any()]
    assert 2 not in seen
    raw = {label: (p[j == label, None] * h[j == label]).sum(0) / p[j == label].sum() for label in seen}
    deviations = h - np.stack([raw[label] for label in j])
    covariance = deviations.T @ deviations / (len(h) - 1)
    precision = 0.01 * np.linalg.inv(covariance + np.trace(covariance) / (len(h) - 1) * np.eye(WIDTH))
    x = t[seen] - t[seen].mean(0)
    y = np.stack([raw[label] for label in seen])
    mean, y = y.mean(0), y - y.mean(0)
    factor = (x * y).sum() / (x * x).sum()
    matrix = factor * np.eye(WIDTH) + np.linalg.inv(x.T @ x + np.eye(WIDTH)) @ x.T @ (y - factor * x)
    of_words = mean + (t - t[seen].mean(0)) @ matrix
    totals = np.array([p[j == label].sum() for label in range(5)])[:, None]
    means = (totals * np.stack([raw.get(label, np.zeros(WIDTH)) for label in range(5)]) + 4 * of_words) / (totals + 4)
    assert np.allclose(found.precision, precision, rtol=1e-4)
    assert np.allclose(found.means, means, atol=1e-5)
    assert np.allclose(found.means[2], of_words[2], atol=1e-5)
    assert np.allclose(
        F.normalize(words, dim=1).numpy() @ found.word_map.numpy() + found.word_offset.numpy(), of_words, atol=1e-5
    )
    assert torch.equal(found.features, words)


# --- the model ------------------------------------------------------------------------------------------------------


@pytest.fixture
def features(tiny_model, tiny_processor):
    with torch.no_grad():
        return tiny_model.get_label_features(**tiny_processor(labels=[*LABELS, *OTHERS]))


@pytest.fixture
def images():
    return torch.randn(12, 3, 32, 32, generator=torch.Generator().manual_seed(7))


def scores(model, pixel_values, features):
    with torch.no_grad():
        return model(pixel_values, label_features=features)


def test_local_logits_are_of_the_discriminants(tiny_model, features, images, pixel_values):
    """By the equations: nearest mean by the shared covariance, in each patch, as a softmax over the labels."""
    tiny_model.config.aggregation = "max"
    before = scores(tiny_model, pixel_values, features)
    tiny_model.adapt(images.split(5), features[:4], LABELS, patches_per_label=9)
    after = scores(tiny_model, pixel_values, features)
    assert torch.equal(after.global_logits, before.global_logits)
    classifier = tiny_model.visual_classifier
    words = F.normalize(features, dim=1).double()
    means = words @ classifier.word_map.double() + classifier.word_offset.double()
    means[:4] = classifier.means.double()
    difference = after.patch_embeds.double().unsqueeze(2) - means
    distances = torch.einsum("bpld,de,bple->bpl", difference, classifier.precision.double(), difference)
    expected = (-distances / 2).log_softmax(dim=2).amax(dim=1)
    torch.testing.assert_close(after.local_logits.double(), expected, rtol=1e-3, atol=1e-3)
    assert not torch.allclose(after.local_logits, before.local_logits, atol=1e-2)


@pytest.mark.parametrize("aggregation", ["transport", "max"])
def test_scores_do_not_depend_on_the_batch_nor_on_the_order_of_labels(tiny_model, features, images, aggregation):
    tiny_model.config.aggregation = aggregation
    tiny_model.adapt([images], features[:4], LABELS)
    together = scores(tiny_model, images, features).scores
    alone = torch.cat([scores(tiny_model, image, features).scores for image in images.split(1)])
    torch.testing.assert_close(together, alone)
    order = torch.tensor([6, 1, 3, 0, 5, 2, 4])
    torch.testing.assert_close(scores(tiny_model, images, features[order]).scores, together[:, order])


def test_how_images_come_changes_nothing_and_each_label_tells_its_patches(tiny_model, features, images):
    counts = tiny_model.adapt(images.split(1), features[:4], LABELS, patches_per_label=7)
    assert counts.shape == (4,)
    assert counts.max() == 7
    first = dict(tiny_model.visual_classifier.state_dict())
    again = tiny_model.adapt(iter([images[:5], images[5:]]), features[:4], LABELS, patches_per_label=7)
    assert torch.equal(again, counts)
    for name, tensor in tiny_model.visual_classifier.state_dict().items():
        torch.testing.assert_close(tensor, first[name], rtol=1e-3, atol=1e-3, msg=name)


def test_it_is_saved_with_its_names_and_loaded(tiny_model, features, images, pixel_values, tmp_path):
    tiny_model.adapt([images], features[:4], LABELS)
    expected = scores(tiny_model, pixel_values, features).scores
    tiny_model.save_pretrained(tmp_path)
    loaded = RamModel.from_pretrained(tmp_path)
    assert loaded.config.adapted_labels == LABELS
    assert loaded.is_adapted_to(features).tolist() == [True] * 4 + [False] * 3
    assert torch.equal(scores(loaded, pixel_values, features).scores, expected)
    half = RamModel.from_pretrained(tmp_path, dtype=torch.bfloat16)
    assert half.visual_classifier.precision.dtype == torch.float32
    found = scores(half, pixel_values.bfloat16(), features.bfloat16()).scores
    assert half.is_adapted_to(features.bfloat16()).tolist() == [True] * 4 + [False] * 3
    assert found.isfinite().all()


def test_a_plain_model_is_adapted_to_nothing(tiny_model, features):
    assert not tiny_model.is_adapted_to(features).any()


def test_training_knows_words_alone(tiny_model, features, images, tiny_processor):
    tiny_model.config.teacher_weight = 0
    labels = torch.ones(12, 7)
    tiny_model.train()
    torch.manual_seed(0)
    before = tiny_model(images, label_features=features, labels=labels).local_logits
    tiny_model.eval().adapt([images], features[:4], LABELS)
    tiny_model.train()
    torch.manual_seed(0)
    torch.testing.assert_close(tiny_model(images, label_features=features, labels=labels).local_logits, before)


@pytest.mark.parametrize("aggregation", ["transport", "max"])
def test_probabilities_are_of_the_discriminants_too(tiny_model, features, images, aggregation):
    """A calibration before it is dropped; evidence afterwards is each label's own, and another than that of words."""
    tiny_model.config.aggregation = aggregation
    calibration = {"evidence_weights": [0.4, 0.02], "statistics_weights": [0.0] * 6, "bias": -0.5, "threshold": 0.3}
    tiny_model.set_reference_labels(["cat", "a house", "river"], features[4:])
    tiny_model.config.calibration = calibration
    by_words = tiny_model.score_stored(tiny_model.encode_images(images), features)
    tiny_model.adapt([images], features[:4], LABELS)
    assert not tiny_model.is_calibrated
    tiny_model.config.calibration = calibration
    with torch.no_grad():
        stored = tiny_model.encode_images(images)
        found = tiny_model.score_stored(stored, features)
        assert torch.equal(tiny_model.score_stored(stored, features[2:3]).probabilities, found.probabilities[:, 2:3])
    assert torch.equal(found.global_logits, by_words.global_logits)
    assert not torch.allclose(found.local_logits, by_words.local_logits, atol=1e-2)
    assert found.probabilities.isfinite().all()


def test_what_cannot_be_adapted_to_is_refused(tiny_model, features, images):
    with pytest.raises(ValueError, match="No image came"):
        tiny_model.adapt([], features)
    with pytest.raises(ValueError, match="give more than '0' alone"):
        tiny_model.adapt([images], features[:1])
    with pytest.raises(ValueError, match="one for each of the 7"):
        tiny_model.adapt([images], features, LABELS)
    with pytest.raises(ValueError, match="must be distinct, got 'dog' more than once"):
        tiny_model.adapt([images], features[:2], ["dog", "dog"])
    with pytest.raises(ValueError, match=r"`pixel_values` must have shape"):
        tiny_model.adapt([images[0]], features)
    with pytest.raises(ValueError, match=r"call `model.eval\(\)` before"):
        tiny_model.train().adapt([images], features)
    assert tiny_model.visual_classifier is None
    assert tiny_model.config.adapted_labels is None


def test_patches_that_are_all_alike_are_refused():
    kept = KeptPatches(torch.eye(6)[:1].expand(8, 6), torch.zeros(8, dtype=torch.long), torch.ones(8), torch.zeros(8))
    with pytest.raises(ValueError, match="do not differ within their labels, as those of blank images"):
        fit_classifier(kept, torch.eye(6)[:2])
