"""RAM or CLIP: one answer for configurations in memory, folders and names."""

import pytest
from transformers import CLIPConfig, CLIPVisionConfig

from ram_hf.model.checkpoint_kind import kind_of, kind_of_checkpoint, load_clip, refuse_missing_folder


def test_the_kind_of_a_configuration(tiny_config):
    assert kind_of(tiny_config) == kind_of(tiny_config.to_dict()) == "ram"
    assert kind_of(CLIPConfig()) == kind_of({"model_type": "clip"}) == "clip"
    for other in (CLIPVisionConfig(), {"model_type": "bert"}, {}, None):
        assert kind_of(other) is None


def test_the_kind_of_a_checkpoint(tiny_model, tmp_path):
    tiny_model.config.save_pretrained(tmp_path / "ram")
    tiny_model.clip.config.save_pretrained(tmp_path / "clip")
    assert kind_of_checkpoint(tmp_path / "ram") == "ram"
    assert kind_of_checkpoint(str(tmp_path / "clip")) == "clip"
    assert kind_of_checkpoint(tmp_path, subfolder="clip") == "clip"
    assert kind_of_checkpoint("ram-photo") == "ram"


def test_what_is_neither_is_told(tmp_path):
    CLIPVisionConfig().save_pretrained(tmp_path / "tower")
    (tmp_path / "nameless").mkdir()
    (tmp_path / "nameless" / "config.json").write_text("{}")
    with pytest.raises(ValueError, match="is a 'clip_vision_model' checkpoint, neither a RAM nor a CLIP"):
        kind_of_checkpoint(tmp_path / "tower")
    with pytest.raises(ValueError, match=r"holds no `config.json` that names its model type"):
        kind_of_checkpoint(tmp_path / "nameless")
    with pytest.raises(ValueError, match="'ram-photo' is a RAM model already"):
        load_clip("ram-photo")


@pytest.mark.parametrize("name", ["./nowhere", "~/nowhere", "/nowhere", "a/b/c"])
def test_a_folder_that_is_not_there_is_told_before_the_hub_is_asked(name):
    with pytest.raises(FileNotFoundError, match="There is no folder"):
        refuse_missing_folder(name)


def test_a_name_of_the_hub_is_no_missing_folder(tmp_path):
    for name in ("someone/clip", "clip", tmp_path, None):
        refuse_missing_folder(name)
