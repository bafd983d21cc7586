import dataclasses
import json

import pytest
from huggingface_hub.errors import StrictDataclassClassValidationError, StrictDataclassFieldValidationError
from transformers import CLIPConfig, PreTrainedConfig

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
        ({"epsilon": 0}, "`epsilon` must be above 0, got 0"),
        ({"local_temperature": -1.0}, "`local_temperature` must be above 0"),
        ({"ladder_tokens": -1}, "`ladder_tokens` must be at least 0"),
        ({"prompt_tokens": 76}, "`prompt_tokens` must be between 0 and 75"),
        ({"aggregation_kernel_size": 2}, "`aggregation_kernel_size` must be odd"),
        ({"sinkhorn_max_iterations": 0}, "`sinkhorn_max_iterations` must be at least 1"),
        ({"clip_config": {"vision_config": {"image_size": [224, 160]}}}, "`clip_config.vision_config.image_size`"),
    ],
)
def test_nonsense_is_refused(fields, message):
    with pytest.raises(StrictDataclassClassValidationError, match=message):
        RamConfig(**fields)


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
