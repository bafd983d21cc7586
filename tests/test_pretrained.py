"""A model by its name, and what can be set of it."""

import pytest
import torch

from ram_hf import RamModel
from ram_hf.pretrained import load_model


@pytest.fixture
def ram_folder(tiny_model, tiny_processor, tmp_path):
    tiny_model.save_pretrained(tmp_path / "ram")
    tiny_processor.save_pretrained(tmp_path / "ram")
    return tmp_path / "ram"


@pytest.fixture
def clip_folder(tiny_model, tiny_processor, tmp_path):
    tiny_model.clip.save_pretrained(tmp_path / "clip")
    tiny_processor.save_pretrained(tmp_path / "clip")
    return tmp_path / "clip"


def test_a_ram_comes_as_it_is_and_takes_what_its_weights_leave_open(ram_folder):
    model, processor = load_model(ram_folder, dtype=torch.bfloat16, config={"epsilon": 0.2, "ladder_tokens": 3})
    assert (model.config.epsilon, model.config.ladder_tokens) == (0.2, 8)
    assert model.dtype == torch.bfloat16
    assert not model.training
    assert processor.label_template


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"ladder_layers": [1]}, r"`config` sets `ladder_layers` but the RAM checkpoint .* has \[2, 3, 4\]"),
        ({"local_temperature": 1.0}, "`config` sets `local_temperature`"),
        ({"epsilom": 0.1}, "'epsilom', which is no field of RamConfig"),
        ({"epsilon": -0.1}, "`epsilon` must be above 0"),
    ],
)
def test_what_a_ram_has_fixed_is_refused(ram_folder, config, message):
    with pytest.raises(ValueError, match=message):
        load_model(ram_folder, config=config)


def test_a_clip_becomes_a_training_free_ram_with_any_fields(clip_folder):
    model, _ = load_model(clip_folder, revision="main", config={"ladder_layers": [1], "prompt_tokens": 2})
    assert (model.config.ladder_layers, model.config.prompt_tokens, model.config.ladder_tokens) == ([1], 2, 0)
    assert model.config.base_model_revision == "main"


def test_a_training_free_ram_is_given_its_tokens(clip_folder, tiny_processor, tmp_path):
    RamModel.from_clip(clip_folder).save_pretrained(tmp_path / "free")
    tiny_processor.save_pretrained(tmp_path / "free")
    model, _ = load_model(tmp_path / "free", config={"ladder_tokens": 3})
    assert (model.config.ladder_tokens, model.config.prompt_tokens) == (3, 0)
    assert model.ladder["4"].tokens.shape == (3, 64)


@pytest.mark.parametrize("name", ["./nowhere", "no where", "a/b/c"])
def test_what_is_not_there_is_told_in_one_line(name):
    with pytest.raises(FileNotFoundError, match=f"There is no model '{name}'"):
        load_model(name)
