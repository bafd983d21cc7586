import pytest

from ram_hf import RamModel
from ram_hf.tagging.feature_encoder import feature_fingerprint

CHANGES = {
    "local_attention": "key",
    "aggregation": "max",
    "repair_outliers": True,
    "aggregate_similar": True,
    "epsilon": 0.2,
}


@pytest.mark.parametrize("field", CHANGES)
def test_what_changes_features_changes_the_fingerprint(tiny_model, tiny_processor, field):
    before = feature_fingerprint(tiny_model, tiny_processor)
    setattr(tiny_model.config, field, CHANGES[field])
    assert feature_fingerprint(tiny_model, tiny_processor) != before


def test_what_comes_after_the_features_does_not(tiny_model, tiny_processor):
    before = feature_fingerprint(tiny_model, tiny_processor)
    tiny_model.config.score_combination, tiny_model.config.global_weight = "product", 0.3
    assert feature_fingerprint(tiny_model, tiny_processor) == before


def test_the_same_clip_has_the_same_fingerprint_each_time(tiny_model, tiny_processor):
    first, second = (feature_fingerprint(RamModel.from_clip(tiny_model.clip), tiny_processor) for _ in range(2))
    assert first == second
