import dataclasses
import json

import pytest
from huggingface_hub.errors import StrictDataclassClassValidationError, StrictDataclassFieldValidationError
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import CLIPConfig, CLIPTextConfig, CLIPVisionConfig, PreTrainedConfig

from ram_hf import RamConfig
from ram_hf.model.configuration_ram import check_field_names


def test_defaults_take_the_last_three_layers():
    config = RamConfig()
    assert config.ladder_layers == [9, 10, 11]
    assert config.prompt_layers == [9, 10, 11]
    assert isinstance(config.clip_config, CLIPConfig)
    assert RamConfig(clip_config={"vision_config": {"num_hidden_layers": 2}}).ladder_layers == [0, 1]


def test_every_field_is_saved_and_read_back(tmp_path, tiny_config):
    config = RamConfig(clip_config=tiny_config.clip_config, ladder_layers=[4, 1], epsilon=0.2, normalize_plan=False)
    config.save_pretrained(tmp_path)
    saved = json.loads((tmp_path / "config.json").read_text())
    own = {field.name for field in dataclasses.fields(RamConfig)} - {
        field.name for field in dataclasses.fields(PreTrainedConfig)
    }
    assert own <= set(saved)
    assert saved["model_type"] == "recover_and_match"
    loaded = RamConfig.from_pretrained(tmp_path)
    assert loaded.ladder_layers == [1, 4]
    assert loaded.to_dict() == {
        **config.to_dict(),
        "transformers_version": loaded.to_dict().get("transformers_version"),
    }


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"ladder_layers": [12]}, r"`ladder_layers` must hold distinct zero-based layer indices from 0 to 11"),
        ({"ladder_layers": [-1]}, "`ladder_layers`"),
        ({"prompt_layers": [3, 3]}, "`prompt_layers`"),
        ({"epsilon": 0}, "`epsilon` must be between 0.0001 and 1e\\+09, got 0"),
        ({"local_temperature": -1.0}, "`local_temperature` must be between"),
        ({"ladder_tokens": -1}, "`ladder_tokens` must be between 0 and 4096"),
        ({"prompt_tokens": 76}, "`prompt_tokens` must be between 0 and 75"),
        ({"aggregation_kernel_size": 2}, "`aggregation_kernel_size` must be odd"),
        ({"sinkhorn_max_iterations": 0}, "`sinkhorn_max_iterations` must be between 1 and 100000"),
        ({"sinkhorn_max_iterations": 10**9}, "`sinkhorn_max_iterations`"),
        ({"patch_marginal_temperature": float("nan")}, "`patch_marginal_temperature` must be between .*, got nan"),
        ({"epsilon": 1e-300}, "`epsilon`"),
        ({"teacher_sharpness": float("inf")}, "`teacher_sharpness`"),
        ({"local_attention": "query"}, "`local_attention` must be one of value, key, got 'query'"),
        ({"aggregation": "sum"}, "`aggregation` must be one of transport, max, mean, logsumexp, got 'sum'"),
        ({"score_combination": "geometric"}, "`score_combination` must be one of mean, product, got 'geometric'"),
        ({"global_weight": 1.1}, "`global_weight` must be between 0 and 1, got 1.1"),
        (
            {"clip_config": {"text_config": {"layer_norm_eps": float("nan")}}},
            "`clip_config.text_config.layer_norm_eps`",
        ),
        ({"clip_config": {"vision_config": {"hidden_size": 0}}}, "`clip_config.vision_config.hidden_size`"),
        ({"clip_config": {"vision_config": {"hidden_act": "quick_gelo"}}}, "Did you mean 'quick_gelu'"),
        ({"clip_config": {"vision_config": {"patch_size": 1000}}}, "patch_size` is 1000, more than the `image_size`"),
        ({"clip_config": {"logit_scale_init_value": 1000}}, "`clip_config.logit_scale_init_value`"),
        ({"clip_config": {"vision_config": {"image_size": [224, 160]}}}, "`clip_config.vision_config.image_size`"),
    ],
)
def test_nonsense_is_refused(fields, message):
    with pytest.raises(StrictDataclassClassValidationError, match=message):
        RamConfig(**fields)


_OWN = sorted(RamConfig.__annotations__)
_OF_CLIP = sorted({*CLIPConfig.__annotations__} - {"vision_config", "text_config"})
_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.sampled_from([10**400, 0, 1]) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=5,
)
_PLACES = [
    *((name,) for name in [*_OWN, *sorted(PreTrainedConfig.__annotations__)]),
    *(("clip_config", name) for name in [*_OF_CLIP, "vision_config", "text_config"]),
    *(("clip_config", "vision_config", name) for name in sorted(CLIPVisionConfig.__annotations__)),
    *(("clip_config", "text_config", name) for name in sorted(CLIPTextConfig.__annotations__)),
]


@settings(max_examples=300, deadline=None)
@given(place=st.sampled_from(_PLACES), value=_JSON)
def test_any_value_in_any_field_loads_or_is_refused_by_name(place, value):
    content = value
    for name in reversed(place):
        content = {name: content}
    try:
        RamConfig.from_dict(json.loads(json.dumps(content)))
    except ValueError as error:
        message = str(error)
    else:
        return
    assert any(name in message for name in place), message


@pytest.mark.parametrize(
    "text", ['{"epsilon": NaN}', '{"epsilon": 1e999}', '{"epsilon": "0.1"}', '{"epsilon": [0.1]}']
)
def test_what_a_file_says_is_refused_as_a_value_error(tmp_path, text):
    (tmp_path / "config.json").write_text(text)
    with pytest.raises(ValueError, match=r"^The configuration is wrong: .*epsilon"):
        RamConfig.from_pretrained(tmp_path)


def test_wrong_types_are_refused():
    with pytest.raises(StrictDataclassFieldValidationError, match="ladder_tokens"):
        RamConfig(ladder_tokens="8")


def test_a_clip_configuration_is_not_taken_for_ours(tmp_path):
    CLIPConfig().save_pretrained(tmp_path)
    with pytest.raises(ValueError, match="from_clip"):
        RamConfig.from_pretrained(tmp_path)


def test_a_field_that_is_none_is_refused_with_the_nearest():
    check_field_names(["epsilon", "ladder_layers", "clip_config"])
    with pytest.raises(ValueError, match=r"'epsilom', which is no field of RamConfig. Did you mean 'epsilon'\?"):
        check_field_names(["ladder_tokens", "epsilom"])
