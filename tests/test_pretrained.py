"""A model by its name, and what can be set of it."""

import json
import resource

import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file
from transformers import pipeline
from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil

from ram_hf import RamModel, RamProcessor
from ram_hf.cli import main
from ram_hf.pretrained import load_model
from ram_hf.training.arguments import RamTrainingArguments
from ram_hf.training.prepared_model import prepare_model

TASK = "zero-shot-multi-label-tagging"


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
        ({"epsilon": -0.1}, "`epsilon` must be between"),
    ],
)
def test_what_a_ram_has_fixed_is_refused(ram_folder, config, message):
    with pytest.raises(ValueError, match=message):
        load_model(ram_folder, config=config)


@pytest.mark.parametrize("kind", ["ram", "clip"])
@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"epsilon": "x"}, r"`config` sets `epsilon` to 'x', but it must be of type float \| int\."),
        ({"ladder_tokens": None}, r"`config` sets `ladder_tokens` to None, but it must be of type int\."),
        ({"ladder_layers": [1.5]}, r"`config` sets `ladder_layers` to \[1\.5\], .* of type list\[int\] \| None\."),
        ({"ladder_layers": [99]}, r"`ladder_layers` must hold distinct .* from 0 to 4 .*, got \[99\]\."),
        ({"aggregation": "median"}, "`aggregation` must be one of transport, .*, got 'median'"),
        ({"prompt_tokens": -1}, "`prompt_tokens` must be between 0 and"),
        ({"clip_config": {}}, "`config` sets `clip_config`, which comes with the checkpoint: leave it out"),
    ],
)
def test_a_wrong_field_is_told_before_weights_are_read(request, monkeypatch, kind, config, message):
    folder = request.getfixturevalue(f"{kind}_folder")
    monkeypatch.setattr(RamModel, "from_clip", None)
    monkeypatch.setattr(RamModel, "from_pretrained", None)
    with pytest.raises(ValueError, match=f"^{message}"):
        load_model(folder, config=config)


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


def test_training_begins_with_the_papers_form(clip_folder, tiny_processor, tmp_path):
    def prepared(name, **ram_config):
        options = {"dataset": "rows", "output_dir": str(tmp_path / "out"), "label_column": "labels", "max_steps": 1}
        arguments = RamTrainingArguments(model=str(name), seen_labels=["red"], ram_config=ram_config, **options)
        config = prepare_model(arguments)[0].config
        tokens = (config.ladder_tokens, config.prompt_tokens)
        return (config.local_attention, config.aggregation, config.score_combination, config.global_weight, *tokens)

    assert prepared(clip_folder) == ("value", "transport", "mean", 0.5, 8, 4)
    assert prepared(clip_folder, local_attention="key") == ("key", "transport", "mean", 0.5, 8, 4)
    assert prepared(clip_folder, ladder_layers=[])[-2:] == (8, 4)  # and no adapters, which nobody asked for
    RamModel.from_clip(clip_folder).save_pretrained(tmp_path / "free")
    tiny_processor.save_pretrained(tmp_path / "free")
    assert prepared(tmp_path / "free") == ("key", "max", "product", 0.4, 8, 4)  # a model's own form stays
    none = {"ladder_tokens": 0, "prompt_tokens": 0}
    trained = RamModel.from_clip(clip_folder, config=none, for_training=True)
    torch.nn.init.normal_(trained.ladder["4"].adapter.output_conv.weight)
    trained.save_pretrained(tmp_path / "without")
    tiny_processor.save_pretrained(tmp_path / "without")
    assert prepared(tmp_path / "without")[-2:] == (0, 0)  # nor is one whose adapters were trained without
    assert prepared(tmp_path / "without", prompt_tokens=3)[-2:] == (0, 3)  # unless that is asked for
    assert prepared(tmp_path / "free", prompt_tokens=3)[-2:] == (8, 3)  # as of a CLIP
    assert prepared(tmp_path / "free", **none)[-2:] == (0, 0)


@pytest.mark.parametrize("tokens", [{"prompt_tokens": 3}, {"ladder_tokens": 0, "prompt_tokens": 0}])
def test_training_may_leave_adapters_out(clip_folder, tiny_processor, tmp_path, tokens):
    """Of a CLIP, and of a RAM with prompts and without adapters that is trained on."""
    model, _ = load_model(clip_folder, config={"ladder_layers": [], **tokens}, for_training=True)
    assert not model.ladder
    model.save_pretrained(tmp_path)
    tiny_processor.save_pretrained(tmp_path)
    again, _ = load_model(tmp_path, for_training=True)
    assert again.config.prompt_tokens == (tokens["prompt_tokens"] or 4)  # with nothing in it, it is training-free
    assert bool(again.ladder) == (not tokens["prompt_tokens"])


@pytest.fixture
def free_folder(clip_folder, tiny_processor, tmp_path):
    RamModel.from_clip(clip_folder).save_pretrained(tmp_path / "free")
    tiny_processor.save_pretrained(tmp_path / "free")
    return tmp_path / "free"


def test_parts_that_a_training_free_ram_lacks_may_have_any_size(free_folder):
    fields = {"ladder_layers": [4, 1], "prompt_layers": [2, 0], "aggregation_kernel_size": 5}
    model, _ = load_model(free_folder, config=fields, for_training=True)
    assert (list(model.ladder), list(model.prompts)) == (["1", "4"], ["0", "2"])
    assert {layer.adapter.gate_conv.kernel_size for layer in model.ladder.values()} == {(5, 5)}
    assert (model.config.ladder_layers, model.config.prompt_layers) == ([1, 4], [0, 2])
    assert not any(layer.adapter.output_conv.weight.any() for layer in model.ladder.values())
    assert list(load_model(free_folder, config={"ladder_layers": [0]})[0].ladder) == ["0"]  # without training too


def test_a_training_free_ram_with_adapters_is_trained_as_one_without(clip_folder, free_folder):
    """Models were saved so before adapters came with training: their adapters add nothing."""
    RamModel.from_clip(clip_folder, config={"ladder_layers": [1, 4]}).save_pretrained(free_folder)
    model, _ = load_model(free_folder)
    assert (model.config.ladder_tokens, model.config.prompt_tokens) == (0, 0)
    adapter = model.ladder["4"].adapter
    assert not adapter.output_conv.weight.any()
    grown, _ = load_model(free_folder, for_training=True)
    assert {index: layer.tokens.shape for index, layer in grown.ladder.items()} == {"1": (8, 64), "4": (8, 64)}
    assert {layer.tokens.shape for layer in grown.prompts.values()} == {(4, 32)}
    assert torch.equal(grown.ladder["4"].adapter.area_conv.weight, adapter.area_conv.weight)
    none, _ = load_model(free_folder, config={"ladder_tokens": 0, "prompt_tokens": 0}, for_training=True)
    assert (none.config.ladder_tokens, none.config.prompt_tokens) == (0, 0)  # as of a CLIP


def test_a_training_free_ram_takes_layers_as_a_clip_does(clip_folder, free_folder):
    for layers in ({"ladder_layers": []}, {"ladder_layers": None, "prompt_layers": None}):
        of_clip, of_ram = (
            load_model(folder, config=layers, for_training=True)[0] for folder in (clip_folder, free_folder)
        )
        assert (list(of_ram.ladder), list(of_ram.prompts)) == (list(of_clip.ladder), list(of_clip.prompts))
    with pytest.raises(ValueError, match=r"^`ladder_layers` must hold distinct zero-based layer indices from 0 to 4"):
        load_model(free_folder, config={"ladder_layers": [5]}, for_training=True)


def test_parts_that_are_there_fix_their_layers(clip_folder, free_folder, tiny_processor):
    """And a model with learned tokens is given no other parts."""
    message = "`config` sets `{}` but the RAM checkpoint .*; start from a CLIP to choose it"
    adapters = {"ladder_layers": [1], "ladder_tokens": 0, "prompt_tokens": 0}
    prompts = {"ladder_layers": [], "ladder_tokens": 0, "prompt_tokens": 2}
    for has, wanted in (
        (adapters, {"ladder_layers": [2]}),
        (adapters, {"aggregation_kernel_size": 5}),
        (prompts, {"prompt_layers": [0]}),
        (prompts, {"ladder_layers": [2]}),
    ):
        RamModel.from_clip(clip_folder, config=has, for_training=True).save_pretrained(free_folder)
        with pytest.raises(ValueError, match=message.format(*wanted)):
            load_model(free_folder, config=wanted, for_training=True)
    RamModel.from_clip(clip_folder, config=adapters, for_training=True).save_pretrained(free_folder)
    model, _ = load_model(free_folder, config={"prompt_layers": [0], "prompt_tokens": 3}, for_training=True)
    assert (list(model.ladder), list(model.prompts)) == (["1"], ["0"])


@pytest.mark.parametrize("name", ["./nowhere", "no where", "a/b/c"])
def test_what_is_not_there_is_told_in_one_line(name):
    with pytest.raises(FileNotFoundError, match=f"There is no model '{name}'"):
        load_model(name)


# --- weights that are not what the configuration says ----------------------------------------------------------------


def rewrite(folder, change):
    """Change the tensors of a folder: `change` takes name and tensor and gives (name, tensor), or None to drop it."""
    file = folder / "model.safetensors"
    changed = [change(name, tensor) for name, tensor in load_file(file).items()]
    save_file(dict(pair for pair in changed if pair), file, {"format": "pt"})
    return folder


def without(part):
    return lambda name, tensor: None if part in name else (name, tensor)


def renamed(name, tensor):
    return f"of_another.{name}", tensor


def reshaped(part):
    return lambda name, tensor: (name, torch.zeros(7) if part in name else tensor)


INCOMPLETE = [
    (without("ladder.4."), "ladder.4.adapter.area_batch_norm.bias, .* and [0-9]+ more"),
    (without("local_temperature"), "missing would be random: temperatures.local_temperature"),
    (without(""), "clip.logit_scale"),
    (renamed, "clip.logit_scale"),
]


@pytest.mark.parametrize(("change", "message"), INCOMPLETE)
def test_random_weights_are_refused_by_name(ram_folder, change, message):
    rewrite(ram_folder, change)
    with pytest.raises(ValueError, match=f"are incomplete, .*{message}"):
        load_model(ram_folder)
    with pytest.raises(ValueError, match=f"are incomplete, .*{message}"):
        pipeline(TASK, model=str(ram_folder), device="cpu")
    assert isinstance(RamModel.from_pretrained(ram_folder), RamModel)  # which warns, as transformers does


def test_random_weights_of_a_clip_are_refused_by_name(clip_folder):
    rewrite(clip_folder, without("text_projection"))
    with pytest.raises(ValueError, match=r"missing would be random: text_projection\.weight"):
        load_model(clip_folder)
    with pytest.raises(ValueError, match=r"missing would be random: text_projection\.weight"):
        pipeline(TASK, model=str(clip_folder), device="cpu")


def test_random_weights_neither_tag_nor_train(ram_folder, tmp_path, capsys):
    rewrite(ram_folder, without("ladder.3.tokens"))
    Image.new("RGB", (40, 30), "red").save(tmp_path / "red.png")
    assert main(["tag", str(tmp_path / "red.png"), "--labels", "red,blue", "--model", str(ram_folder)]) == 1
    captured = capsys.readouterr()
    assert captured.out == ""
    assert "missing would be random: ladder.3.tokens." in captured.err
    arguments = RamTrainingArguments(
        model=str(ram_folder),
        dataset="rows",
        output_dir=str(tmp_path),
        label_column="labels",
        seen_labels=["red"],
        max_steps=1,
    )
    with pytest.raises(ValueError, match=r"missing would be random: ladder\.3\.tokens\."):
        prepare_model(arguments)


@pytest.mark.parametrize("part", ["local_temperature", "ladder.4.tokens", "clip.visual_projection"])
def test_shapes_that_do_not_fit_are_told_one_by_one(ram_folder, part):
    rewrite(ram_folder, reshaped(part))
    message = rf"do not fit their `config.json`: \S*{part}\S* \(7,\) instead of \("
    for load in (load_model, RamModel.from_pretrained):
        with pytest.raises(ValueError, match=message):
            load(ram_folder)
    with pytest.raises(ValueError, match=message):
        pipeline(TASK, model=str(ram_folder), device="cpu")
    with pytest.raises(ValueError, match="are incomplete"):
        pipeline(TASK, model=RamModel.from_pretrained(ram_folder, ignore_mismatched_sizes=True))


@pytest.mark.parametrize("value", [float("nan"), float("inf"), 0.0, -0.1])
@pytest.mark.parametrize("name", ["local_temperature", "global_temperature"])
def test_temperatures_that_are_none_are_refused(ram_folder, name, value):
    rewrite(ram_folder, lambda each, tensor: (each, torch.full_like(tensor, value) if name in each else tensor))
    for load in (load_model, RamModel.from_pretrained):
        with pytest.raises(ValueError, match=f"`temperatures.{name}` must be above 0 and finite, got"):
            load(ram_folder)


@pytest.mark.parametrize("kind", ["ram", "clip"])
@pytest.mark.parametrize("value", [float("nan"), float("-inf")])
@pytest.mark.parametrize("part", ["text_projection.weight", "vision_model.encoder.layers.1.mlp.fc1.weight"])
def test_weights_that_are_no_numbers_are_refused_by_name(request, kind, part, value):
    folder = request.getfixturevalue(f"{kind}_folder")

    def broken(name, tensor):
        if name.endswith(part):
            tensor.view(-1)[3] = value
        return name, tensor

    with pytest.raises(ValueError, match=rf"hold NaN or infinite numbers: \S*{part}\.$"):
        load_model(rewrite(folder, broken))


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "Expecting value"),
        (b'{"model_type": "recover_a', "Unterminated string"),
        (b"\xef\xbb\xbf{}", "BOM"),
        (b"\xff\xfe\x00\x80", "can't decode byte 0xff"),
        (b"[" * 100_000, ""),
    ],
)
@pytest.mark.parametrize("file", ["config.json", "processor_config.json", "tokenizer.json", "tokenizer_config.json"])
def test_a_damaged_json_file_is_named(ram_folder, file, content, reason):
    (ram_folder / file).write_bytes(content)
    with pytest.raises(ValueError, match=rf"{file}' cannot be read as JSON in UTF-8 \(.*{reason}"):
        load_model(ram_folder)


@pytest.mark.parametrize("content", ["[1]", "3", "null", '"recover_and_match"'])
@pytest.mark.parametrize("file", ["config.json", "processor_config.json"])
def test_a_json_file_of_something_else_is_named(ram_folder, file, content):
    (ram_folder / file).write_text(content)
    with pytest.raises(ValueError, match=rf"{file}' holds a \w+ where an object was expected"):
        load_model(ram_folder)


@pytest.mark.parametrize("content", [b"", b"\x00" * 50, b"not weights at all", b"\xff" * 100])
def test_damaged_weights_are_named(ram_folder, clip_folder, content):
    for folder in (ram_folder, clip_folder):
        (folder / "model.safetensors").write_bytes(content)
        with pytest.raises(ValueError, match=rf"The weights of '{folder}' cannot be read \(\w+: "):
            load_model(folder)


def test_weights_cut_short_are_named(ram_folder):
    file = ram_folder / "model.safetensors"
    file.write_bytes(file.read_bytes()[:-1000])
    with pytest.raises(ValueError, match=r"The weights of .* cannot be read"):
        load_model(ram_folder)


def test_a_damaged_configuration_is_told_in_one_line(ram_folder, tmp_path, capsys):
    (ram_folder / "config.json").write_text("")
    Image.new("RGB", (40, 30), "red").save(tmp_path / "red.png")
    assert main(["tag", str(tmp_path / "red.png"), "--labels", "red", "--model", str(ram_folder)]) == 1
    assert f"ram-hf: error: '{ram_folder / 'config.json'}' cannot be read as JSON" in capsys.readouterr().err


def test_a_file_is_no_model(ram_folder):
    with pytest.raises(ValueError, match="is a file: name the folder"):
        load_model(ram_folder / "model.safetensors")


@pytest.mark.parametrize("side", [20_000, 33, 1])
def test_a_processor_of_another_size_is_refused_before_an_image_is_read(ram_folder, tiny_model, tiny_processor, side):
    image_processor = CLIPImageProcessorPil(size={"height": side, "width": side})
    processor = RamProcessor(image_processor, tiny_processor.tokenizer)
    processor.save_pretrained(ram_folder)
    message = f"makes images of {side} x {side} pixels but the model takes 32 x 32"
    with pytest.raises(ValueError, match=message):
        load_model(ram_folder)
    with pytest.raises(ValueError, match=message):
        pipeline(TASK, model=tiny_model, processor=processor, device="cpu")


def test_a_folder_without_its_tokenizer_is_refused(ram_folder):
    (ram_folder / "tokenizer.json").unlink()
    with pytest.raises(ValueError, match=r"The tokenizer has \d+ tokens and ends a text with"):
        load_model(ram_folder)


def test_the_report_of_loading_is_still_to_be_had(ram_folder):
    model, info = RamModel.from_pretrained(rewrite(ram_folder, without("ladder.4.tokens")), output_loading_info=True)
    assert list(info["missing_keys"]) == model.tensors_not_loaded == ["ladder.4.tokens"]


def test_a_folder_has_no_revisions(clip_folder):
    with pytest.raises(ValueError, match="is a folder, which has no revisions: leave out 'v2'"):
        load_model(clip_folder, revision="v2")


def test_a_tilde_is_the_home(clip_folder, monkeypatch):
    monkeypatch.setenv("HOME", str(clip_folder.parent))
    monkeypatch.setenv("USERPROFILE", str(clip_folder.parent))
    assert load_model(f"~/{clip_folder.name}")[0].config.ladder_tokens == 0


# --- weights that are looked at before memory is spent ---------------------------------------------------------------


@pytest.mark.parametrize("kind", ["ram", "clip"])
@pytest.mark.parametrize("dtype", [torch.int32, torch.int8, torch.bool])
def test_weights_of_other_numbers_are_refused_by_name(request, kind, dtype):
    folder = request.getfixturevalue(f"{kind}_folder")
    rewrite(folder, lambda name, tensor: (name, tensor.to(dtype) if name.endswith("1.mlp.fc2.weight") else tensor))
    with pytest.raises(
        ValueError, match=r"must be floating point numbers, got \S*layers\.1\.mlp\.fc2\.weight \((I|BOOL)"
    ):
        load_model(folder)


def change_towers(folder, kind, sizes):
    content = json.loads((folder / "config.json").read_text())
    towers = content if kind == "clip" else content["clip_config"]
    for tower, fields in sizes.items():
        towers[tower].update(fields)
    (folder / "config.json").write_text(json.dumps(content))


HUGE = [
    {"vision_config": {"hidden_size": 2**16, "intermediate_size": 2**18, "num_attention_heads": 1024}},
    {"vision_config": {"num_hidden_layers": 1024}},
    {"vision_config": {"image_size": 2**14, "patch_size": 1}},
    {"text_config": {"vocab_size": 2**24, "hidden_size": 2**16}},
    {"text_config": {"intermediate_size": 2**18}},
]


@pytest.mark.parametrize("kind", ["ram", "clip"])
@pytest.mark.parametrize("sizes", HUGE)
def test_a_configuration_of_more_than_the_weights_costs_nothing(request, kind, sizes):
    folder = request.getfixturevalue(f"{kind}_folder")
    change_towers(folder, kind, sizes)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(
        ValueError, match=r"describes a CLIP of [0-9,]+ numbers, but its weights hold [0-9,]+: they do"
    ):
        load_model(folder)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 50_000  # KiB


@pytest.mark.parametrize("tower", ["vision_config", "text_config"])
def test_a_billion_layers_cost_nothing(ram_folder, tower):
    change_towers(ram_folder, "ram", {tower: {"num_hidden_layers": 10**9}})
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(ValueError, match=r"num_hidden_layers` must be between 1 and 1024"):
        load_model(ram_folder)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 50_000  # KiB


def test_a_wrong_configuration_of_a_clip_is_not_the_fault_of_given_fields(clip_folder):
    change_towers(clip_folder, "clip", {"vision_config": {"initializer_factor": 1e9}})
    message = r"The weights of .* cannot be read .*`clip_config\.vision_config\.initializer_factor` must be between"
    for config in (None, {"epsilon": 0.2}):
        with pytest.raises(ValueError, match=message):
            load_model(clip_folder, config=config)


def write_index(folder, content):
    (folder / "model.safetensors").rename(folder / "shard.safetensors")
    (folder / "model.safetensors.index.json").write_text(json.dumps(content))


@pytest.mark.parametrize(
    ("shard", "message"),
    [
        ("../other/model.safetensors", "names '../other/model.safetensors', which is no file beside it"),
        ("/etc/hostname", "names '/etc/hostname', which is no file beside it"),
        ("..", "names '..', which is no file beside it"),
        ("gone.safetensors", "names 'gone.safetensors', which is not there"),
        (3, "names '3', which is not there"),
    ],
)
def test_an_index_names_files_beside_it_alone(ram_folder, tiny_model, shard, message):
    tiny_model.save_pretrained(ram_folder.parent / "other")
    names = list(load_file(ram_folder / "model.safetensors"))
    write_index(ram_folder, {"metadata": {}, "weight_map": dict.fromkeys(names, shard)})
    with pytest.raises(ValueError, match=rf"model\.safetensors\.index\.json' {message}"):
        load_model(ram_folder)


@pytest.mark.parametrize("content", [{"metadata": {}}, {"weight_map": ["shard.safetensors"]}, {"weight_map": None}])
def test_an_index_without_a_map_is_named(ram_folder, content):
    write_index(ram_folder, content)
    with pytest.raises(ValueError, match=r"index\.json' has no object `weight_map`"):
        load_model(ram_folder)


def test_shards_beside_their_index_are_read(ram_folder, tiny_model):
    names = list(load_file(ram_folder / "model.safetensors"))
    write_index(ram_folder, {"metadata": {}, "weight_map": dict.fromkeys(names, "shard.safetensors")})
    model, _ = load_model(ram_folder)
    assert torch.equal(model.ladder["4"].tokens, tiny_model.ladder["4"].tokens)


def test_adapters_alone_are_no_model_that_is_too_small(clip_folder, tiny_processor, tmp_path):
    model = RamModel.from_clip(clip_folder)
    model.add_learned_tokens()
    model.save_pretrained(tmp_path / "small", adapters_only=True)
    tiny_processor.save_pretrained(tmp_path / "small")
    with pytest.raises(ValueError, match="holds adapters alone, of a CLIP that lay in a folder"):
        load_model(tmp_path / "small")


@pytest.mark.parametrize(
    "name", [" user/repo", "user/repo/", "https://huggingface.co/user/repo/tree/main", "user/ repo"]
)
def test_the_name_that_was_meant_is_told(name):
    with pytest.raises(FileNotFoundError, match="Did you mean 'user/repo'"):
        load_model(name)
