import json
import time

import numpy as np
import pytest
import torch
from PIL import Image
from transformers import AutoProcessor, CLIPProcessor
from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil

from ram_hf import RamOutput, RamProcessor
from tests.conftest import make_tokenizer


def wide_picture():
    """Red at the left edge, blue at the right: a centre crop would lose both."""
    pixels = np.full((40, 160, 3), 128, np.uint8)
    pixels[:, :30], pixels[:, -30:] = [255, 0, 0], [0, 0, 255]
    return Image.fromarray(pixels)


def test_the_square_is_what_would_have_been_cropped_to():
    """Some CLIPs resize the short side to more than they crop: the model takes the crop's size."""
    image_processor = CLIPImageProcessorPil(size={"shortest_edge": 40}, crop_size={"height": 32, "width": 32})
    processor = RamProcessor(image_processor, make_tokenizer())
    assert processor(images=wide_picture())["pixel_values"].shape == (1, 3, 32, 32)
    uncropped = CLIPImageProcessorPil(
        size={"shortest_edge": 40}, crop_size={"height": 32, "width": 32}, do_center_crop=False
    )
    processor = RamProcessor(uncropped, make_tokenizer())
    assert processor(images=wide_picture())["pixel_values"].shape == (1, 3, 40, 40)


def test_the_whole_picture_is_squashed(tiny_processor):
    pixel_values = tiny_processor(images=wide_picture())["pixel_values"]
    assert pixel_values.shape == (1, 3, 32, 32)
    assert pixel_values[0, 0, :, 0].mean() > 1.5 > pixel_values[0, 2, :, 0].mean()
    assert pixel_values[0, 2, :, -1].mean() > 1.5 > pixel_values[0, 0, :, -1].mean()
    cropping = RamProcessor(
        CLIPImageProcessorPil(size={"shortest_edge": 32}, crop_size={"height": 32, "width": 32}),
        make_tokenizer(),
        squash=False,
    )
    assert cropping(images=wide_picture())["pixel_values"][0, 0].max() < 1


def test_pixels_are_normalised_as_clip_does(tiny_processor):
    flat = Image.new("RGB", (50, 20), (255, 128, 0))
    expected = (torch.tensor([255, 128, 0]) / 255 - torch.tensor([0.48145466, 0.4578275, 0.40821073])) / torch.tensor(
        [0.26862954, 0.26130258, 0.27577711]
    )
    torch.testing.assert_close(tiny_processor(images=flat)["pixel_values"][0, :, 5, 5], expected, atol=1e-5, rtol=1e-5)


def test_labels_are_put_into_the_template_and_padded_to_the_longest(tiny_processor):
    encoded = tiny_processor(labels=["dog", "a red car"])
    text = [tiny_processor.tokenizer.decode(ids, skip_special_tokens=True).strip() for ids in encoded["input_ids"]]
    assert [sentence.replace(" ", "") for sentence in text] == ["aphotoofadog.", "aphotoofaaredcar."]
    lengths = [len(tiny_processor.tokenizer(f"A photo of a {name}.")["input_ids"]) for name in ("dog", "a red car")]
    assert encoded["input_ids"].shape == encoded["attention_mask"].shape == (2, max(lengths))
    assert encoded["attention_mask"].sum(dim=1).tolist() == lengths


@pytest.mark.parametrize("template", ["{label}", "{}", "this is {label} in the wild"])
def test_other_templates(tiny_processor, template):
    expected = tiny_processor(text=template.replace("{label}", "dog").replace("{}", "dog"))
    assert torch.equal(tiny_processor(labels="dog", label_template=template)["input_ids"], expected["input_ids"])


@pytest.mark.parametrize(
    "template",
    [
        *("{label:>1000000000}", "{label!r}", "{label.__class__}", "{label[0]}", "{0}", "{:>9}", "{label} {other}"),
        *("{{label}}", "{label} }", "{label", "{}{{}}", "a photo", "", None, 3, ["{}", 3]),
    ],
)
def test_a_template_is_no_format_string(tiny_processor, template, tmp_path):
    with pytest.raises(ValueError, match="`label_template` must be a sentence"):
        RamProcessor(tiny_processor.image_processor, tiny_processor.tokenizer, label_template=template)
    tiny_processor.save_pretrained(tmp_path)
    file = tmp_path / "processor_config.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), "label_template": template}))
    with pytest.raises(ValueError, match="`label_template` must be a sentence"):
        RamProcessor.from_pretrained(tmp_path)


def test_a_long_template_is_not_shown_whole(tiny_processor):
    with pytest.raises(ValueError, match="`label_template`") as caught:
        tiny_processor(labels="dog", label_template="x" * 10**6)
    assert len(str(caught.value)) < 500


def test_a_label_is_put_in_each_place(tiny_processor):
    expected = tiny_processor(text="{x} or \\1 {x}")
    given = tiny_processor(labels="{x}", label_template="{label} or \\1 {}")
    assert torch.equal(given["input_ids"], expected["input_ids"])


def test_labels_with_braces_are_names_not_fields(tiny_processor):
    assert tiny_processor(labels=["{x}", "{}"])["input_ids"].shape[0] == 2


def test_images_and_labels_together_feed_the_model(tiny_model, tiny_processor):
    inputs = tiny_processor(images=[wide_picture(), wide_picture()], labels=["dog", "car"])
    with torch.no_grad():
        scores = tiny_model(**inputs).scores
    assert scores.shape == (2, 2)
    torch.testing.assert_close(scores[0], scores[1], atol=3e-5, rtol=1e-4)


def test_the_call_that_clip_users_know(tiny_processor):
    inputs = tiny_processor(text=["a dog", "a red car"], images=wide_picture(), return_tensors="pt", padding=True)
    assert inputs["input_ids"].shape[0] == 2
    assert tiny_processor(labels=["dog"], padding="max_length")["input_ids"].shape == (1, 77)


@pytest.mark.parametrize(
    "options",
    [
        {"padding": "max_length", "max_length": 77},
        {"padding": "max_length", "max_length": 30, "truncation": True},
        {"padding": True, "add_special_tokens": False},
        {"padding": True, "pad_to_multiple_of": 8, "return_special_tokens_mask": True},
        {"text_kwargs": {"padding": "max_length", "max_length": 40}, "images_kwargs": {"do_normalize": False}},
        {"images_kwargs": {"size": {"height": 16, "width": 16}}, "padding": True},
        {"padding": True, "return_attention_mask": False, "image_mean": [0.5, 0.5, 0.5]},
    ],
)
@pytest.mark.parametrize("return_tensors", ["pt", "np", "common"])
def test_the_options_that_clip_takes(tiny_processor, options, return_tensors):
    clip = CLIPProcessor(tiny_processor.image_processor, tiny_processor.tokenizer)
    if return_tensors == "common":
        options = {**options, "common_kwargs": {"return_tensors": "np"}}
    else:
        options = {**options, "return_tensors": return_tensors}
    inputs = {"text": ["a dog", "a red car by the sea"], "images": [wide_picture()] * 2}
    expected, actual = clip(**inputs, **options), tiny_processor(**inputs, **options)
    assert actual.keys() == expected.keys()
    for name, value in expected.items():
        assert type(actual[name]) is type(value), name
        np.testing.assert_array_equal(np.asarray(actual[name]), np.asarray(value))


def test_lists_when_asked(tiny_processor):
    inputs = tiny_processor(labels=["dog", "car"], return_tensors=None, padding=False)
    assert [type(ids) for ids in inputs["input_ids"]] == [list, list]


def test_pictures_from_a_generator(tiny_processor):
    assert tiny_processor(images=(wide_picture() for _ in range(3)))["pixel_values"].shape[0] == 3


def test_a_longer_context_is_the_tokenizers_word():
    tokenizer = make_tokenizer()
    tokenizer.model_max_length = 248
    processor = RamProcessor(CLIPImageProcessorPil(), tokenizer)
    assert processor(labels=["x" * 100])["input_ids"].shape[1] > 100


def test_a_batch_as_one_tensor(tiny_processor):
    batch = torch.randint(0, 255, (3, 3, 20, 24), dtype=torch.uint8)
    one_by_one = [tiny_processor(images=image)["pixel_values"][0] for image in batch]
    assert torch.equal(tiny_processor(images=batch)["pixel_values"], torch.stack(one_by_one))


def test_lists_in_the_list(tiny_processor):
    """As the processors of transformers take them: also without an image for the first text."""
    images = [wide_picture().rotate(angle) for angle in (0, 90, 180)]
    expected = tiny_processor(images=images)["pixel_values"]
    for nested in ([images], [[images[0]], [images[1], images[2]]], [[], images[:2], [[images[2]]]], (images,)):
        assert torch.equal(tiny_processor(images=nested)["pixel_values"], expected)
    with pytest.raises(ValueError, match="`images` is empty"):
        tiny_processor(images=[[], []])


def test_saving_leaves_the_processor_as_it_was(tiny_processor, tmp_path):
    before, parts = tiny_processor.to_dict(), repr(tiny_processor.image_processor)
    tiny_processor.save_pretrained(tmp_path / "first")
    assert tiny_processor.to_dict() == before
    assert repr(tiny_processor.image_processor) == parts
    loaded = RamProcessor.from_pretrained(tmp_path / "first")
    loaded.save_pretrained(tmp_path / "second")
    assert RamProcessor.from_pretrained(tmp_path / "second").to_dict() == loaded.to_dict()
    files = [(tmp_path / name / "processor_config.json").read_text() for name in ("first", "second")]
    assert files[0] == files[1]
    assert json.loads(files[0])["auto_map"] == {"AutoProcessor": "processing_ram.RamProcessor"}


def test_save_and_load(tiny_processor, tiny_model, tmp_path):
    processor = RamProcessor(
        tiny_processor.image_processor, tiny_processor.tokenizer, label_template="{label} seen from above"
    )
    processor.save_pretrained(tmp_path)
    tiny_model.config.save_pretrained(tmp_path)
    for loaded in (RamProcessor.from_pretrained(tmp_path), AutoProcessor.from_pretrained(tmp_path)):
        assert type(loaded) is RamProcessor
        assert loaded.label_template == "{label} seen from above"
        assert torch.equal(loaded(labels=["dog"])["input_ids"], processor(labels=["dog"])["input_ids"])
        ours, theirs = (p(images=wide_picture())["pixel_values"] for p in (processor, loaded))
        assert torch.equal(ours, theirs)
    assert json.loads((tmp_path / "processor_config.json").read_text())["squash"] is True


def test_nothing_of_how_it_was_loaded_is_saved(tiny_processor, tmp_path):
    tiny_processor.save_pretrained(tmp_path / "first")
    RamProcessor.from_pretrained(tmp_path / "first", local_files_only=True).save_pretrained(tmp_path / "second")
    for file in (tmp_path / "second").glob("*.json"):
        assert "local" not in file.read_text().replace("locale", ""), file.name
        assert str(tmp_path) not in file.read_text(), file.name


def test_a_clip_repository_gives_a_squashing_processor(tmp_path):
    """What CLIP's own repositories hold: shortest edge, centre crop."""
    clip_processor = CLIPProcessor(
        CLIPImageProcessorPil(size={"shortest_edge": 32}, crop_size={"height": 32, "width": 32}), make_tokenizer()
    )
    clip_processor.save_pretrained(tmp_path)
    processor = RamProcessor.from_pretrained(tmp_path)
    pixel_values = processor(images=wide_picture())["pixel_values"]
    assert pixel_values.shape == (1, 3, 32, 32)
    assert pixel_values[0, 0, :, 0].mean() > 1.5


def test_post_processing():
    processor = RamProcessor(CLIPImageProcessorPil(), make_tokenizer())
    output = RamOutput(scores=torch.tensor([[0.2, 0.5, 0.3], [0.3, 0.3, 0.4]]))
    names = ["a", "b", "c"]
    ranked = processor.post_process_tagging(output, names)
    assert [[tag["label"] for tag in tags] for tags in ranked] == [["b", "c", "a"], ["c", "a", "b"]]
    assert ranked[0][0]["score"] == pytest.approx(0.5)
    assert [len(tags) for tags in processor.post_process_tagging(output, names, top_k=2, threshold=0.35)] == [1, 1]
    with pytest.raises(ValueError, match="`labels` has 2 names but there are scores for 3"):
        processor.post_process_tagging(output, names[:2])
    with pytest.raises(ValueError, match="`top_k` must be at least 1, got 0"):
        processor.post_process_tagging(output, names, top_k=0)
    for wrong in (1.5, float("nan"), [0.1, 0.2]):
        with pytest.raises(ValueError, match="from 0 to 1, as scores are, or one for each of the 3 labels"):
            processor.post_process_tagging(output, names, threshold=wrong)


def test_post_processing_takes_probabilities_where_there_are_any():
    processor = RamProcessor(CLIPImageProcessorPil(), make_tokenizer())
    output = RamOutput(scores=torch.tensor([[0.9, 0.1]]), probabilities=torch.tensor([[0.2, 0.7]]))
    (tags,) = processor.post_process_tagging(output, ["a", "b"], threshold=[0.1, 0.8])
    assert tags == [{"label": "a", "score": pytest.approx(0.2)}]


@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
def test_scores_that_are_no_numbers_never_leave(tiny_processor, value):
    output = RamOutput(scores=torch.tensor([[0.2, 0.8], [0.5, value]]))
    for options in ({}, {"top_k": 1}, {"threshold": 0.9}):
        with pytest.raises(ValueError, match="The scores of image 1 are not finite"):
            tiny_processor.post_process_tagging(output, ["a", "b"], **options)


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({}, ValueError, "Nothing to prepare"),
        ({"labels": ["dog"], "paddin": True}, TypeError, "no option 'paddin'. Did you mean 'padding'"),
        ({"labels": ["dog"], "text_kwargs": {"size": 3}}, TypeError, "no option 'size'"),
        ({"images": wide_picture(), "images_kwargs": {"sise": 3}}, TypeError, "no option 'sise'. Did you mean 'size'"),
        ({"labels": ["dog"], "size": {"height": 8, "width": 8}}, TypeError, "no effect: size"),
        ({"labels": ["dog"], "images_kwargs": {"do_normalize": False}}, TypeError, "no effect: do_normalize"),
        (
            {"text": "a", "padding": True, "text_kwargs": {"padding": False}},
            ValueError,
            "padding was passed two times",
        ),
        ({"images": wide_picture(), "do_rescale": False}, ValueError, "`do_rescale=False` is not needed"),
        ({"labels": []}, ValueError, "There are no labels"),
        ({"labels": 7}, TypeError, "Labels must be a list of names, got int: 7"),
        ({"labels": 0.5}, TypeError, "Labels must be a list of names, got float"),
        ({"text": True}, TypeError, "Labels must be a list of names, got bool"),
        ({"labels": b"dog"}, TypeError, "Label 0 must be a string, got int"),
        ({"labels": ["dog", "\ud83d"]}, ValueError, "Label 1 holds half of a character .*: '.ud83d'"),
        ({"labels": "a\udc80b"}, ValueError, "Label 0 holds half of a character"),
        ({"text": ["\udfff"]}, ValueError, "Label 0 holds half of a character"),
        ({"labels": ["dog", " "]}, ValueError, "Label 1 is empty"),
        ({"labels": ["dog", 3]}, TypeError, "Label 1 must be a string, got int: 3"),
        ({"labels": ["dog"], "text": ["dog"]}, ValueError, "not both"),
        ({"labels": ["dog"], "label_template": "a photo"}, ValueError, "must be a sentence with {label}"),
        ({"labels": ["dog"], "label_template": "{label} {other}"}, ValueError, "must be a sentence with {label}"),
        ({"images": []}, ValueError, "`images` is empty"),
        ({"images": [wide_picture(), np.zeros((0, 3, 3))]}, ValueError, "Image 1: The image array"),
        ({"images": [wide_picture(), 3]}, TypeError, "Image 1: An image must be"),
        ({"images": "nowhere.jpg"}, ValueError, "Image 0: There is no file 'nowhere.jpg'"),
    ],
)
def test_bad_input(tiny_processor, arguments, error, message):
    with pytest.raises(error, match=message):
        tiny_processor(**arguments)


def test_a_label_that_is_too_long_is_named(tiny_processor):
    long = "x" * 80
    with pytest.raises(ValueError, match=f"Label 1 takes 9. tokens .* takes 77: '{long}'. Shorten it, or pass"):
        tiny_processor(labels=["dog", long])
    encoded = tiny_processor(labels=["dog", long], truncation=True)
    assert encoded["input_ids"].shape == (2, 77)
    assert encoded["input_ids"][1, -1] == tiny_processor.tokenizer.eos_token_id


@pytest.mark.parametrize("unit", ["x", "dog ", "\U0001f415"])
@pytest.mark.parametrize("length", [200, 10**7])
def test_a_very_long_label_is_measured_and_not_shown_whole(tiny_processor, unit, length):
    long = unit * (length // len(unit))
    started = time.perf_counter()
    with pytest.raises(ValueError, match=r"Label 1 .* but the text tower takes 77") as caught:
        tiny_processor(labels=["dog", long])
    assert len(str(caught.value)) < 400
    cut = tiny_processor(labels=["dog", long], truncation=True)["input_ids"]
    assert torch.equal(cut, tiny_processor(labels=["dog", long[:2000]], truncation=True)["input_ids"])
    assert time.perf_counter() - started < 10


def test_template_without_a_place_for_the_label_is_refused():
    with pytest.raises(ValueError, match="`label_template`"):
        RamProcessor(CLIPImageProcessorPil(), make_tokenizer(), label_template="a photo")


def test_tokens_are_counted_as_they_are_tokenised(tiny_processor):
    labels = ["dog", "a red car", "x" * 200]
    counts = tiny_processor.count_tokens(labels)
    assert counts[:2] == [len(tiny_processor(labels=label)["input_ids"][0]) for label in labels[:2]]
    assert counts[2] > tiny_processor.context_length == 77
    assert tiny_processor.count_tokens("dog", label_template="{label}")[0] < counts[0]
    with pytest.raises(ValueError, match="Label 0 is empty"):
        tiny_processor.count_tokens([" "])
