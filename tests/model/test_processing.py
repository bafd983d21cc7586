import json

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
        ({"labels": ["dog"], "labl_template": "{}"}, TypeError, "no effect: labl_template"),
        ({"images": wide_picture(), "do_rescale": False}, ValueError, "`do_rescale=False` is not needed"),
        ({"labels": []}, ValueError, "There are no labels"),
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


def test_template_without_a_place_for_the_label_is_refused():
    with pytest.raises(ValueError, match="`label_template`"):
        RamProcessor(CLIPImageProcessorPil(), make_tokenizer(), label_template="a photo")
