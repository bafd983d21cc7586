"""A CLIP distilled from a stub of a teacher, on drawings made on the spot."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from accelerate.utils import DistributedType
from PIL import Image
from safetensors.torch import load_file
from transformers import CLIPModel

from ram_hf import RamModel, RamProcessor
from ram_hf.cli import main
from ram_hf.pretrained import load_model
from ram_hf.pretraining import photo_clip
from ram_hf.pretraining.clip_tokenizer import learn_clip_tokenizer
from ram_hf.pretraining.photo_arguments import PhotoClipArguments
from ram_hf.pretraining.photo_batches import PhotoBatches
from ram_hf.pretraining.photo_clip import train_photo_clip
from ram_hf.pretraining.photo_labels import make_label_bank
from ram_hf.pretraining.photo_schedule import constant_then_decay
from ram_hf.pretraining.photo_student import LOSSES, PhotoStudent, distillation_losses
from ram_hf.pretraining.photo_views import draw_views, epoch_rows
from ram_hf.pretraining.photographs import decode_photographs, open_photographs
from ram_hf.pretraining.small_clip import make_clip, make_processor, open_clip, read_sizes, save_clip
from ram_hf.pretraining.teacher import compute_teacher_features, open_teacher_features
from tests.pretraining.drawn_photographs import EXACT, ColourTeacher, write_files, write_words

# As a configured machine, or a launcher for another program, leaves them behind.
AMBIENT = {"ACCELERATE_GRADIENT_ACCUMULATION_STEPS": "4", "ACCELERATE_MIXED_PRECISION": "bf16"}
AMBIENT |= {"ACCELERATE_DYNAMO_BACKEND": "EAGER", "ACCELERATE_SPLIT_BATCHES": "true"}

SIZES = {"image_size": 16, "patch_size": 4, "vision_width": 32, "vision_layers": 2, "vision_heads": 2}
SIZES |= {"text_width": 32, "text_layers": 1, "text_heads": 2, "projection_dim": 16, "context_length": 24}
WEIGHTS = {"image": 1.0, "patches": 0.5, "local_patches": 0.5, "names": 1.0, "local_names": 0.5, "exact": 1.0}
WEIGHTS |= {"local_exact": 0.5, "captions": 0.25}
PARENTS = {"apple": ["fruit"], "sea": ["water"]}


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    """Decoded drawings, the teacher's features of them, and words."""
    folder = tmp_path_factory.mktemp("photographs")
    photographs = decode_photographs(write_files(folder), folder / "photographs", size=32)
    compute_teacher_features(photographs, ColourTeacher(), folder / "teacher", directions=3, fitted_on=32)
    write_words(folder)
    return folder


@pytest.fixture
def arguments(source, tmp_path):
    return PhotoClipArguments(
        photographs=str(source / "photographs"),
        teacher=str(source / "teacher"),
        words=str(source),
        output_dir=str(tmp_path / "clip"),
        total_steps=6,
        decay_steps=2,
        stages=[{"from_step": 0, "image_size": 8}, {"from_step": 3, "image_size": 16}],
        sizes=SIZES,
        loss_weights=WEIGHTS,
        held_back_every=4,
        batch_size=12,
        names_at_once=5,
        vocab_size=560,
        warmup_steps=1,
        mixed_precision="no",
        compile=False,
        eval_steps=100,
        save_minutes=0.0,
        log_steps=1,
    )


@pytest.fixture(scope="module")
def bank(source):
    return make_label_bank(
        open_photographs(source / "photographs"),
        exact_labels=EXACT,
        parents=PARENTS,
        class_names=["apple", "leaf", "sea"],
    )


def batches_of(source, bank, rows):
    return PhotoBatches(
        open_photographs(source / "photographs"),
        open_teacher_features(source / "teacher"),
        bank,
        rows,
        learn_clip_tokenizer(["apple leaf sea sand fruit water"], vocab_size=560),
        batch_size=20,
        captioned_share=0.4,
        names_at_once=5,
        teacher_share=0.5,
        name_length=12,
        caption_length=16,
        patch_size=4,
        least_area=0.5,
        seed=0,
    )


@pytest.fixture(scope="module")
def batches(source, bank):
    return batches_of(source, bank, np.arange(96))


def test_a_thing_goes_by_what_it_is_a_kind_of_too(source, bank):
    assert bank.names == ["apple", "leaf", "fruit", "sand", "sea", "water"]
    apple = open_photographs(source / "photographs").labels.index(["apple"])
    assert [bank.names[number] for number in bank.named[apple]] == ["apple", "fruit"]
    assert bank.class_names.tolist() == [[1, 0, 1, 0, 0, 0], [0, 1, 0, 0, 0, 0], [0, 0, 0, 0, 1, 1]]


def test_exact_labels_are_known_where_they_are_complete(source, bank):
    photographs = open_photographs(source / "photographs")
    for row, labels in enumerate(photographs.labels_exact):
        expected = [-1, -1] if labels is None else [int(name in labels) for name in EXACT]
        assert bank.exact[row].tolist() == expected


def test_a_view_and_its_map_show_the_same():
    """A map that is the image itself stays so through crop and flip, but for the tint of the image."""
    torch.manual_seed(0)
    coarse = torch.randint(0, 255, (6, 3, 8, 8), dtype=torch.uint8)
    maps = coarse.float().permute(0, 2, 3, 1) / 127.5 - 1
    generator = torch.Generator().manual_seed(1)
    views = draw_views(coarse, maps, image_size=8, patch_size=1, least_area=0.5, generator=generator)
    for image, seen in zip(views.pixels, views.maps.permute(0, 3, 1, 2), strict=True):
        together = torch.corrcoef(torch.stack([image.flatten(), seen.flatten()]))[0, 1]
        assert together > 0.8


def test_epochs_show_each_row_once_wherever_one_begins():
    rows = torch.arange(10) + 5
    stream = epoch_rows(rows, 0, 30, seed=3)
    assert sorted(stream[:10].tolist()) == sorted(stream[10:20].tolist()) == rows.tolist()
    assert stream[:10].tolist() != stream[10:20].tolist()
    assert epoch_rows(rows, 7, 9, seed=3).tolist() == stream[7:16].tolist()


def test_a_batch_says_what_is_known_of_each_photograph(batches):
    batch = batches.batch(0, image_size=16)
    assert batch.pixels.shape == (20, 3, 16, 16)
    assert batch.pixels.abs().max() <= 1
    assert batch.maps.shape == (20, 4, 4, 3)
    assert (batch.name_ids.shape, batch.caption_ids.shape) == ((5, 12), (8, 16))
    assert (batch.exact[:8] >= 0).all()
    assert (batch.exact[8:] == -1).all()
    assert (batch.name_shares.sum(dim=1) <= 1 + 1e-5).all()
    names = [batches.tokenizer.decode(ids, skip_special_tokens=True) for ids in batch.name_ids[:2]]
    assert ["apple" in names[0], "leaf" in names[1]] == [True, True]  # the exact ones, in their order


def test_batches_follow_from_their_number_alone(batches):
    first, again, other = (batches.batch(number, image_size=16) for number in (3, 3, 4))
    assert torch.equal(first.pixels, again.pixels)
    assert torch.equal(first.name_ids, again.name_ids)
    assert not torch.equal(first.pixels, other.pixels)


def test_a_batch_needs_photographs_of_both_kinds(source, bank):
    with pytest.raises(ValueError, match="12 other photographs of each batch are asked for"):
        batches_of(source, bank, np.arange(48))


def test_a_student_that_sees_what_the_teacher_saw_has_nothing_to_learn_of_it(batches):
    torch.manual_seed(0)
    student = PhotoStudent(make_clip(batches.tokenizer, read_sizes(SIZES), logit_scale=10.0), 3)
    batch = batches.batch(0, image_size=16)
    patches = batch.maps.flatten(1, 2)
    seen = (torch.cat([patches.mean(dim=1, keepdim=True), patches], dim=1), patches)
    student.head = torch.nn.Linear(3, 3)
    torch.nn.init.eye_(student.head.weight)
    torch.nn.init.zeros_(student.head.bias)
    losses = distillation_losses(
        student, batch, torch.ones(3), encode_images=lambda _: seen, encode_texts=lambda ids: torch.randn(len(ids), 3)
    )
    for name in ("image", "patches", "local_patches"):
        assert losses[name].abs() < 1e-5
    assert losses.keys() == set(LOSSES)


def test_a_student_encodes_as_clip_and_as_ram_do(batches, tmp_path):
    torch.manual_seed(0)
    clip = make_clip(batches.tokenizer, read_sizes(SIZES), logit_scale=10.0).eval()
    pixels = batches.batch(0, image_size=16).pixels
    clip.save_pretrained(tmp_path)
    ram = RamModel.from_clip(tmp_path, config={"local_attention": "value"})
    with torch.no_grad():
        main, local = PhotoStudent(clip, 3).encode_images(pixels)
        torch.testing.assert_close(main[:, 0], clip.get_image_features(pixels).pooler_output)
        expected = ram(pixel_values=pixels, label_features=torch.randn(2, 16)).patch_embeds
    torch.testing.assert_close(torch.nn.functional.normalize(local, dim=-1), expected)


def test_rates_rise_stay_and_fall():
    rate = constant_then_decay(warmup_steps=3, decay_steps=4, total_steps=20)
    assert [round(rate(step, 8.0), 3) for step in (0, 1, 2, 3, 15, 16)] == [2, 4, 6, 8, 8, 8]
    assert 8 > rate(17, 8.0) > rate(18, 8.0) > rate(19, 8.0) > rate(20, 8.0) == 0
    longer = constant_then_decay(warmup_steps=3, decay_steps=4, total_steps=30)
    assert all(longer(step, 8.0) == rate(step, 8.0) for step in range(16))  # a run may grow


def test_it_learns_and_loads_as_a_clip(arguments):
    arguments.total_steps, arguments.batch_size, arguments.stages = 60, 32, [{"from_step": 0, "image_size": 16}]
    judgement = train_photo_clip(arguments)
    assert judgement["mAP"] > 0.75
    assert judgement.keys() == {"mAP", "mAP_local", "mAP_both", "mAP_nouns", "top1", "top5"}
    lines = [json.loads(line) for line in Path(arguments.output_dir, "metrics.jsonl").read_text().splitlines()]
    assert lines[0]["loss"] > lines[-2]["loss"]
    assert lines[0]["loss/patches"] > 2 * lines[-2]["loss/patches"]
    assert lines[-1] == {"step": 60, **judgement}
    clip = CLIPModel.from_pretrained(arguments.output_dir)
    assert clip.config.vision_config.image_size == 16
    processor = RamProcessor.from_pretrained(arguments.output_dir)
    assert "max_length" not in processor.tokenizer.init_kwargs
    model = RamModel.from_clip(arguments.output_dir)
    assert model.get_label_features(**processor(labels=["apple", "sea"])).shape == (2, 16)


def test_it_learns_from_single_things_without_captions(arguments, source, tmp_path):
    """Nothing is complete and nothing captioned: what may be given away is of that kind."""
    photographs = decode_photographs([source / "b-singles.parquet"], tmp_path / "photographs", size=32)
    compute_teacher_features(photographs, ColourTeacher(), tmp_path / "teacher", directions=3, fitted_on=32)
    arguments.photographs, arguments.teacher = str(tmp_path / "photographs"), str(tmp_path / "teacher")
    arguments.total_steps, arguments.batch_size, arguments.captioned_share = 60, 24, 0.0
    judgement = train_photo_clip(arguments)
    assert judgement.keys() == {"top1", "top5"}
    assert judgement["top1"] > 0.75
    first, *_ = map(json.loads, Path(arguments.output_dir, "metrics.jsonl").read_text().splitlines())
    assert first["loss/exact"] == first["loss/local_exact"] == 0
    assert "loss/captions" not in first


def stop_after(monkeypatch, last: int) -> None:
    save = photo_clip._Run.save

    def save_and_stop(run, *, at_once):
        save(run, at_once=True)
        if run.step == last:
            raise KeyboardInterrupt

    monkeypatch.setattr(photo_clip._Run, "save", save_and_stop)


def test_the_environment_changes_nothing(arguments, tmp_path, monkeypatch):
    arguments.total_steps, arguments.decay_steps, arguments.warmup_steps = 2, 1, 0
    train_photo_clip(arguments)
    expected = load_file(f"{arguments.output_dir}/model.safetensors")
    for name, value in AMBIENT.items():
        monkeypatch.setenv(name, value)
    arguments.output_dir = str(tmp_path / "again")
    train_photo_clip(arguments)
    actual = load_file(f"{arguments.output_dir}/model.safetensors")
    assert all(torch.equal(actual[name], value) for name, value in expected.items())


def test_several_processes_and_shards_are_refused(arguments, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr("accelerate.Accelerator.num_processes", 2)
        with pytest.raises(ValueError, match="trained by one process"):
            train_photo_clip(arguments)
    monkeypatch.setattr("ram_hf.training.accelerators._SHARDED", (DistributedType.NO,))
    with pytest.raises(ValueError, match="Accelerate is configured for NO"):
        train_photo_clip(arguments)


def test_a_stopped_run_goes_on_to_the_same_weights(arguments, tmp_path):
    train_photo_clip(arguments)
    whole = load_file(f"{arguments.output_dir}/model.safetensors")
    arguments.output_dir = str(tmp_path / "again")
    with pytest.MonkeyPatch.context() as patch:
        stop_after(patch, 2)  # before images grow
        with pytest.raises(KeyboardInterrupt):
            train_photo_clip(arguments)
    train_photo_clip(arguments)
    for name, value in load_file(f"{arguments.output_dir}/model.safetensors").items():
        torch.testing.assert_close(value, whole[name], rtol=0, atol=0, msg=name)


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    """A CLIP of random weights whose tokenizer has read other texts, and a RAM around another one."""
    folder, sizes = tmp_path_factory.mktemp("written"), read_sizes(SIZES)
    for number, kind in enumerate(("clip", "ram")):
        torch.manual_seed(number)
        tokenizer = learn_clip_tokenizer(["zzyzx road"] * 2, vocab_size=520 + number)
        save_clip(folder / kind, make_clip(tokenizer, sizes, logit_scale=7.0), make_processor(tokenizer, sizes))
    ram, processor = load_model(folder / "ram", for_training=True)
    ram.save_pretrained(folder / "ram")
    processor.save_pretrained(folder / "ram")
    return folder


@pytest.mark.parametrize("kind", ["clip", "ram"])
def test_a_run_begins_with_the_weights_of_a_model(arguments, written, kind):
    arguments.start_from = str(written / kind)
    arguments.learning_rate = arguments.matrix_learning_rate = 0.0
    train_photo_clip(arguments)
    model, processor = load_model(written / kind)
    expected, actual = model.clip.state_dict(), load_file(f"{arguments.output_dir}/model.safetensors")
    assert actual.keys() == expected.keys()
    assert all(torch.equal(actual[name], value) for name, value in expected.items())
    vocabulary = RamProcessor.from_pretrained(arguments.output_dir).tokenizer.get_vocab()
    assert vocabulary == processor.tokenizer.get_vocab()


def test_a_clip_may_be_saved_for_larger_images_than_it_was_trained_on(arguments, tmp_path):
    train_photo_clip(arguments)
    small = CLIPModel.from_pretrained(arguments.output_dir)
    arguments.output_dir, arguments.saved_image_size = str(tmp_path / "large"), 24
    train_photo_clip(arguments)
    large = CLIPModel.from_pretrained(arguments.output_dir)
    processor = RamProcessor.from_pretrained(arguments.output_dir)
    pixels = processor(images=Image.new("RGB", (50, 40), "red"), return_tensors="pt")["pixel_values"]
    assert pixels.shape == (1, 3, 24, 24)
    with torch.no_grad():
        expected = small.get_image_features(pixels, interpolate_pos_encoding=True).pooler_output
        torch.testing.assert_close(large.get_image_features(pixels).pooler_output, expected)


@pytest.mark.parametrize("image_size", [24, 8])
def test_a_run_that_begins_with_a_model_may_take_images_of_another_size(arguments, written, image_size):
    arguments.start_from, arguments.sizes = str(written / "clip"), {**SIZES, "image_size": image_size}
    arguments.learning_rate = arguments.matrix_learning_rate = 0.0
    train_photo_clip(arguments)
    before, after = (CLIPModel.from_pretrained(folder).eval() for folder in (written / "clip", arguments.output_dir))
    assert after.config.vision_config.image_size == image_size
    pixels = torch.rand(2, 3, image_size, image_size)
    with torch.no_grad():
        expected = before.get_image_features(pixels, interpolate_pos_encoding=True).pooler_output
        torch.testing.assert_close(after.get_image_features(pixels).pooler_output, expected)
    size = RamProcessor.from_pretrained(arguments.output_dir).image_processor.size
    assert (size["height"], size["width"]) == (image_size, image_size)


def test_what_begins_with_a_model_learns_stops_and_goes_on(arguments, written, tmp_path):
    arguments.start_from = str(written / "ram")
    train_photo_clip(arguments)
    whole = load_file(f"{arguments.output_dir}/model.safetensors")
    before = load_model(arguments.start_from)[0].clip.state_dict()
    assert all(not torch.equal(whole[name], value) for name, value in before.items() if value.dim() == 2)
    lines = [json.loads(line) for line in Path(arguments.output_dir, "metrics.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines if "loss" in line] == [1, 2, 3, 4, 5, 6]
    assert lines[0]["learning_rate/others"] == arguments.learning_rate / 2  # it warms up
    arguments.output_dir = str(tmp_path / "again")
    with pytest.MonkeyPatch.context() as patch:
        stop_after(patch, 2)
        with pytest.raises(KeyboardInterrupt):
            train_photo_clip(arguments)
    train_photo_clip(arguments)
    again = load_file(f"{arguments.output_dir}/model.safetensors")
    assert all(torch.equal(again[name], value) for name, value in whole.items())


def test_a_model_of_other_sizes_and_none_at_all_are_refused(arguments, written, tmp_path):
    arguments.start_from, arguments.sizes = str(written / "clip"), {**SIZES, "vision_layers": 3, "text_width": 64}
    message = "vision_layers 3 where the model has 2, text_width 64 where the model has 32. Give `sizes` the model's"
    with pytest.raises(ValueError, match=message):
        train_photo_clip(arguments)
    arguments.start_from = str(tmp_path / "nothing")
    with pytest.raises(FileNotFoundError, match=r"There is no model '.*nothing': no such folder"):
        train_photo_clip(arguments)


def test_a_run_keeps_its_vocabulary_when_words_are_added(arguments, source, tmp_path):
    words = tmp_path / "words"
    words.mkdir()
    write_words(words)
    arguments.words = str(words)
    with pytest.MonkeyPatch.context() as patch:
        stop_after(patch, 2)
        with pytest.raises(KeyboardInterrupt):
            train_photo_clip(arguments)
    kept = RamProcessor.from_pretrained(f"{arguments.output_dir}/processor").tokenizer.get_vocab()
    (words / "hypernyms.json").write_text(json.dumps({"leaf": ["zzyzx", "zzyzx road"]}))
    train_photo_clip(arguments)
    assert RamProcessor.from_pretrained(arguments.output_dir).tokenizer.get_vocab() == kept


def test_another_run_takes_the_fall_from_a_checkpoint(arguments, tmp_path):
    train_photo_clip(arguments)
    whole = load_file(f"{arguments.output_dir}/model.safetensors")
    endless = str(tmp_path / "endless")
    arguments.output_dir, arguments.total_steps, arguments.decay_steps = endless, 100, 0
    with pytest.MonkeyPatch.context() as patch:
        stop_after(patch, 4)
        with pytest.raises(KeyboardInterrupt):
            train_photo_clip(arguments)
    arguments.start_from = f"{endless}/checkpoints/step-00000004"
    arguments.output_dir, arguments.total_steps, arguments.decay_steps = str(tmp_path / "fall"), 6, 2
    train_photo_clip(arguments)
    for name, value in load_file(f"{arguments.output_dir}/model.safetensors").items():
        torch.testing.assert_close(value, whole[name], rtol=0, atol=0, msg=name)
    kept = (Path(folder, "processor", "tokenizer.json").read_text() for folder in (endless, arguments.output_dir))
    assert len(set(kept)) == 1  # another run may begin with a checkpoint of this one


def test_a_checkpoint_without_the_tokenizer_of_its_run_is_refused(arguments, tmp_path):
    train_photo_clip(arguments)
    shutil.rmtree(f"{arguments.output_dir}/processor")
    arguments.start_from, arguments.output_dir = (
        f"{arguments.output_dir}/checkpoints/step-00000006",
        str(tmp_path / "b"),
    )
    with pytest.raises(FileNotFoundError, match=r"There is no folder '.*clip/processor'"):
        train_photo_clip(arguments)


def test_an_infinite_loss_stops_the_run(arguments):
    arguments.loss_weights = {**WEIGHTS, "names": float("inf")}
    with pytest.raises(FloatingPointError, match="At step 1 the loss is inf"):
        train_photo_clip(arguments)


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"stages": [{"size": 8, "from_step": 0}]}, "A stage must hold `image_size` and `from_step`, got"),
        ({"stages": [{"image_size": 8, "from_step": 1}]}, "must have `from_step: 0`"),
        ({"loss_weights": {"names": 1.0}}, "`loss_weights` must name"),
        ({"saved_image_size": 3}, "`saved_image_size` 3 holds no patch of 4 pixels"),
        ({"decay_steps": 6}, "`decay_steps` 6 do not fit into `total_steps` 6"),
    ],
)
def test_arguments_that_cannot_be_are_refused(arguments, changed, message):
    with pytest.raises(ValueError, match=message):
        PhotoClipArguments(**{**vars(arguments), **changed})


def test_the_shipped_configuration_is_read_and_options_go_before_it(monkeypatch, capsys):
    seen = []
    monkeypatch.setattr(photo_clip, "train_photo_clip", lambda arguments: seen.append(arguments) or {"mAP": 0.5})
    command = ["pretrain", "clip-on-photographs", "--config", "configs/ram_photo/clip.yaml"]
    assert main([*command, "--output_dir", "out", "--total_steps", "9000", "--decay_steps", "500"]) == 0
    (arguments,) = seen
    assert (arguments.output_dir, arguments.total_steps, arguments.decay_steps) == ("out", 9000, 500)
    assert arguments.stages[-1]["image_size"] == arguments.sizes["image_size"]
    assert arguments.start_from is None
    assert capsys.readouterr().out == "mAP 0.500\n"


def test_the_shipped_configuration_can_begin_with_the_model_of_the_package():
    sizes = yaml.safe_load(Path("configs/ram_photo/clip.yaml").read_text())["sizes"]
    clip, tokenizer = open_clip("ram-photo", read_sizes(sizes))
    assert clip.training
    assert all(value.requires_grad and value.dtype == torch.float32 for value in clip.parameters())
    assert len(tokenizer) == clip.config.text_config.vocab_size


def test_the_configuration_of_open_sources_differs_in_what_they_lack():
    """One CLIP of one shape: only its folders, maybe its length, and its captions are others."""
    texts = [Path(f"configs/ram_photo/{name}.yaml").read_text() for name in ("clip", "clip_open")]
    whole, opened = map(yaml.safe_load, texts)
    different = {name for name in opened if opened[name] != whole.get(name)}
    folders, length = {"photographs", "teacher", "output_dir"}, {"total_steps", "decay_steps", "stages"}
    assert folders | {"captioned_share"} <= different <= folders | length | {"captioned_share"}
    arguments = PhotoClipArguments(**opened)
    assert arguments.captioned_share == 0
    assert arguments.stages[-1]["image_size"] == arguments.sizes["image_size"]


def test_the_stages_follow_each_other_on_the_command_line(source, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("ram_hf.pretraining.teacher.EfficientNetLite0", lambda size: ColourTeacher())
    monkeypatch.setattr(
        "ram_hf.pretraining.teacher.compute_teacher_features.__kwdefaults__",
        {"directions": 3, "fitted_on": 32, "chunk": 64, "batch_size": 16},
    )
    files = [str(source / name) for name in ("a-scenes.parquet", "b-singles.parquet")]
    photographs, teacher = str(tmp_path / "photographs"), str(tmp_path / "teacher")
    assert main(["pretrain", "photographs", *files, "--output_dir", photographs]) == 0
    assert main(["pretrain", "teacher", photographs, "--output_dir", teacher]) == 0
    rows = ["pretrain", "multi-labels", files[0], "--words", str(source), "--output_dir", str(tmp_path / "rows")]
    assert main(rows) == 0
    told = capsys.readouterr().out
    assert "96 photographs\n" in told
    assert "features of 96 photographs\n" in told
    assert "45 photographs to train on, 3 apart\n" in told
    options = {"sizes": SIZES, "batch_size": 12, "names_at_once": 5, "vocab_size": 560, "warmup_steps": 0}
    options |= {"loss_weights": WEIGHTS, "total_steps": 1, "stages": [{"from_step": 0, "image_size": 16}]}
    options |= {"photographs": photographs, "teacher": teacher, "words": str(source), "output_dir": "unused"}
    options |= {"compile": False, "mixed_precision": "no"}
    (tmp_path / "clip.yaml").write_text(yaml.safe_dump(options))
    clip = str(tmp_path / "clip")
    command = ["pretrain", "clip-on-photographs", "--config", str(tmp_path / "clip.yaml"), "--output_dir", clip]
    assert main(command) == 0
    assert "mAP " in capsys.readouterr().out
    shutil.rmtree(clip)
