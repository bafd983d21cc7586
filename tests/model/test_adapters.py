"""Checkpoints of the adapters alone: all that was trained is in them, and they find their CLIP again."""

import copy
import json

import pytest
import torch
from huggingface_hub import HfApi, constants
from safetensors.torch import load_file
from transformers import AutoModel, CLIPModel

from ram_hf import RamModel
from ram_hf.model.adapters import fingerprint

from ..hub_server import WRITE_TOKEN


def trained(clip, **options):
    """A model of that CLIP with every weight of its own, and every statistic, changed."""
    model = RamModel.from_clip(clip, **options)
    model.add_learned_tokens(ladder_tokens=3, prompt_tokens=2)
    generator = torch.Generator().manual_seed(3)
    for name, tensor in model.state_dict().items():
        if not name.startswith("clip.") and tensor.is_floating_point():
            tensor.copy_(torch.rand(tensor.shape, generator=generator) * 0.2 + 0.05)
    return model.eval()


@pytest.fixture
def clip_folder(tiny_model, tmp_path):
    tiny_model.clip.save_pretrained(tmp_path / "clip")
    return tmp_path / "clip"


@pytest.fixture
def hub_clip(hub, clip_folder):
    """A CLIP on the Hub with a later commit of other weights, and the first one's hash."""
    api = HfApi(token=WRITE_TOKEN)
    api.create_repo("user/clip")
    first = api.upload_folder(repo_id="user/clip", folder_path=clip_folder).oid
    later = CLIPModel.from_pretrained(clip_folder)
    with torch.no_grad():
        later.logit_scale.add_(1)
    later.push_to_hub("user/clip", token=WRITE_TOKEN)
    return first


def scores(model, label_inputs):
    pixel_values = torch.randn(1, 3, 32, 32, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        return copy.deepcopy(model).float()(pixel_values, **label_inputs).scores


def test_all_that_was_trained_is_in_the_file_and_nothing_of_clip(clip_folder, tmp_path):
    model = trained(clip_folder)
    model.save_pretrained(tmp_path / "small", adapters_only=True)
    saved = load_file(tmp_path / "small" / "model.safetensors")
    expected = {name: tensor for name, tensor in model.state_dict().items() if not name.startswith("clip.")}
    assert saved.keys() == expected.keys()
    assert all(torch.equal(saved[name], tensor) for name, tensor in expected.items())
    trainable = {name for name, parameter in model.named_parameters() if parameter.requires_grad}
    assert trainable <= saved.keys()
    for part in ("tokens", "running_mean", "running_var", "local_temperature", "prompts"):
        assert any(part in name for name in saved)
    assert str(tmp_path) not in (tmp_path / "small" / "config.json").read_text()
    assert model.config.base_model_fingerprint is None


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
def test_scores_come_back_to_the_bit_from_the_hub_and_without_it(
    dtype, hub, hub_clip, label_inputs, tmp_path, monkeypatch
):
    model = trained("user/clip", revision=hub_clip, dtype=dtype)
    expected = scores(model, label_inputs)
    model.save_pretrained(tmp_path / "small", adapters_only=True)
    api = HfApi(token=WRITE_TOKEN)
    api.create_repo("user/small")
    api.upload_folder(repo_id="user/small", folder_path=tmp_path / "small")
    config = json.loads(hub.repo("user/small").files()["config.json"])
    assert (config["base_model_name_or_path"], config["base_model_revision"]) == ("user/clip", hub_clip)
    for offline in (False, True):
        monkeypatch.setattr(constants, "HF_HUB_OFFLINE", offline)
        for name in ("user/small", tmp_path / "small"):
            for load in (RamModel.from_pretrained, AutoModel.from_pretrained):
                loaded = load(name)
                assert loaded.dtype == dtype
                assert loaded.config.base_model_fingerprint is None
                assert loaded.config.name_or_path == str(name)
                assert not any(parameter.requires_grad for parameter in loaded.clip.parameters())
                assert torch.equal(scores(loaded, label_inputs), expected)


def test_a_branch_becomes_the_commit_that_it_was(hub, hub_clip, tmp_path):
    model = trained("user/clip")
    model.config.base_model_revision = None
    model.save_pretrained(tmp_path, adapters_only=True)
    saved = json.loads((tmp_path / "config.json").read_text())
    assert saved["base_model_revision"] == hub.repo("user/clip").find("main") != hub_clip


def test_a_joined_model_saves_whole_and_small_again(clip_folder, label_inputs, tmp_path):
    model = trained(clip_folder)
    model.save_pretrained(tmp_path / "small", adapters_only=True)
    joined = RamModel.from_pretrained(tmp_path / "small", base_model=clip_folder, epsilon=0.1)
    joined.save_pretrained(tmp_path / "whole")
    whole = RamModel.from_pretrained(tmp_path / "whole")
    whole.config.base_model_name_or_path = str(clip_folder)
    whole.save_pretrained(tmp_path / "again", adapters_only=True)
    again = RamModel.from_pretrained(tmp_path / "again", base_model=CLIPModel.from_pretrained(clip_folder))
    for other in (joined, whole, again):
        assert torch.equal(scores(other, label_inputs), scores(model, label_inputs))
    with pytest.raises(ValueError, match="holds CLIP's weights itself: leave `base_model` out"):
        RamModel.from_pretrained(tmp_path / "whole", base_model=clip_folder)


def test_options_of_loading_reach_the_joined_model(clip_folder, tmp_path):
    trained(clip_folder).save_pretrained(tmp_path / "repo" / "small", adapters_only=True, variant="fp16")
    model, info = RamModel.from_pretrained(
        tmp_path / "repo",
        subfolder="small",
        variant="fp16",
        base_model=clip_folder,
        dtype=torch.bfloat16,
        attn_implementation="eager",
        epsilon=0.3,
        output_loading_info=True,
    )
    assert (model.dtype, model.config.epsilon) == (torch.bfloat16, 0.3)
    assert model.clip.vision_model.config._attn_implementation == "eager"
    assert not any(info[name] for name in ("missing_keys", "unexpected_keys", "mismatched_keys"))


@pytest.mark.parametrize("tensor", ["visual_projection.weight", "text_model.final_layer_norm.bias", "logit_scale"])
def test_trained_weights_of_clip_are_not_left_behind(tensor, clip_folder, tmp_path):
    model = trained(clip_folder)
    with torch.no_grad():
        model.clip.get_parameter(tensor).view(-1)[0].add_(1e-3)
    with pytest.raises(ValueError, match=rf"clip\.{tensor}\. They would be lost"):
        model.save_pretrained(tmp_path / "small", adapters_only=True)
    assert not (tmp_path / "small").exists()


def test_more_weights_inside_clip_are_not_left_behind(clip_folder, tmp_path):
    model = trained(clip_folder)
    model.clip.text_projection.register_parameter("lora_A", torch.nn.Parameter(torch.ones(2)))
    with pytest.raises(ValueError, match=r"clip\.text_projection\.lora_A\. They would be lost"):
        model.save_pretrained(tmp_path / "small", adapters_only=True)


def test_a_model_without_a_base_is_saved_whole_alone(tiny_model, tmp_path):
    with pytest.raises(ValueError, match="does not tell which CLIP it was made from"):
        tiny_model.save_pretrained(tmp_path, adapters_only=True)
    tiny_model.config.base_model_name_or_path = "user/nowhere"
    with pytest.raises(ValueError, match="adapters belong to the CLIP 'user/nowhere', which cannot be loaded"):
        tiny_model.save_pretrained(tmp_path, adapters_only=True)


def test_a_base_that_is_gone_or_another_is_told(hub, hub_clip, clip_folder, tiny_model, tmp_path):
    trained("user/clip", revision=hub_clip).save_pretrained(tmp_path / "small", adapters_only=True)
    other_shape = CLIPModel(CLIPModel.from_pretrained(clip_folder).config)
    other_shape.save_pretrained(tmp_path / "other")
    with pytest.raises(ValueError, match=r"of another CLIP than .*other'. it has the same shape and other weights"):
        RamModel.from_pretrained(tmp_path / "small", base_model=tmp_path / "other")
    config = tiny_model.clip.config
    config.vision_config.intermediate_size = 64
    config.vision_config.num_hidden_layers = 3
    with pytest.raises(ValueError, match=r"the given CLIP: its `vision_config.num_hidden_layers` is 3, not 5"):
        RamModel.from_pretrained(tmp_path / "small", base_model=CLIPModel(config))
    del hub.repo("user/clip").commits[hub_clip]  # moved
    for change in (lambda: None, lambda: hub.repos.pop(("models", "user/clip"))):
        change()
        with pytest.raises(ValueError, match=f"adapters alone, of the CLIP 'user/clip' at {hub_clip}, which cannot"):
            RamModel.from_pretrained(tmp_path / "small", cache_dir=tmp_path / "empty", token=WRITE_TOKEN)
    assert RamModel.from_pretrained(tmp_path / "small", base_model=clip_folder)
    trained(clip_folder).save_pretrained(tmp_path / "small", adapters_only=True)
    with pytest.raises(ValueError, match=r"of a CLIP that lay in a folder: tell where it is with `base_model`"):
        RamModel.from_pretrained(tmp_path / "small")


def test_fingerprints_tell_weights_apart(clip_folder):
    clip = CLIPModel.from_pretrained(clip_folder)
    seen = {fingerprint(clip)}
    assert fingerprint(CLIPModel.from_pretrained(clip_folder)) in seen
    with torch.no_grad():
        clip.visual_projection.weight[0, 0] *= 1 + 1e-6
    seen.add(fingerprint(clip))
    seen.add(fingerprint(clip.half()))
    assert len(seen) == 3
