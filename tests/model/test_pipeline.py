import io
import json
import subprocess
import sys

import numpy as np
import pytest
import torch
from datasets import Dataset
from datasets import Image as ImageFeature
from PIL import Image
from transformers import CLIPProcessor, pipeline
from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil
from transformers.pipelines.pt_utils import KeyDataset

from ram_hf import RamModel, RamOutput, RamProcessor, RamTaggingPipeline
from ram_hf.model.label_encoder import LabelEncoder
from ram_hf.model.refine import refine_scores
from tests.conftest import LABELS, make_config, make_tokenizer

TASK = "zero-shot-multi-label-tagging"


def make_pictures(count: int = 5) -> list[Image.Image]:
    """Pictures of different sizes, none of them square."""
    noise = np.random.default_rng(0)
    return [Image.fromarray(noise.integers(0, 256, (40 + index, 60, 3), dtype=np.uint8)) for index in range(count)]


@pytest.fixture
def tagger(tiny_model, tiny_processor) -> RamTaggingPipeline:
    return pipeline(TASK, model=tiny_model, processor=tiny_processor, device="cpu")


@pytest.fixture
def count_label_encodings(tagger, monkeypatch) -> list:
    """Grows by one whenever a label list is encoded."""
    runs = []
    encode = LabelEncoder._encode_in_pieces
    monkeypatch.setattr(LabelEncoder, "_encode_in_pieces", lambda *args: (runs.append(1), encode(*args))[1])
    return runs


@pytest.fixture
def clip_folder(tiny_model, tmp_path):
    """A CLIP as it lies on the Hub, with an image processor that crops."""
    folder = tmp_path / "clip"
    tiny_model.clip.save_pretrained(folder)
    CLIPProcessor(
        CLIPImageProcessorPil(size={"shortest_edge": 32}, crop_size={"height": 32, "width": 32}), make_tokenizer()
    ).save_pretrained(folder)
    return folder


def expected_tags(model, processor, picture, labels, **options) -> list[dict]:
    with torch.no_grad():
        return processor.post_process_tagging(model(**processor(images=[picture], labels=labels)), labels, **options)[
            0
        ]


def assert_same_tags(found, expected):
    assert [tag["label"] for tag in found] == [tag["label"] for tag in expected]
    assert [tag["score"] for tag in found] == pytest.approx([tag["score"] for tag in expected], abs=1e-5)


@pytest.fixture
def calibrated(tagger, tiny_processor) -> RamTaggingPipeline:
    with torch.no_grad():
        features = tagger.model.get_label_features(**tiny_processor(labels=["sea", "dog", "wood"]))
    tagger.model.set_reference_labels(["sea", "dog", "wood"], features)
    tagger.model.config.calibration = {
        "evidence_weights": [0.4, 0.02],
        "statistics_weights": [-0.2, 0.5, 0.4, -0.01, 0.004, 0.008],
        "bias": -0.5,
        "threshold": 0.0,
        "precision_thresholds": {"0.9": 1.0},
        "label_thresholds": {LABELS[1]: 1.0},
        "labels_per_image": 2.0,
        "num_labels": 10,
    }
    return tagger


# --- probabilities ---------------------------------------------------------------------------------------------------


def by_label(tags: list[dict]) -> dict[str, float]:
    return {tag["label"]: tag["score"] for tag in tags}


def test_a_calibrated_model_gives_each_label_its_own_probability(calibrated, tiny_model, tiny_processor):
    (picture,) = make_pictures(1)
    tags = by_label(calibrated(picture, candidate_labels=LABELS, threshold=0))
    with torch.no_grad():
        output = tiny_model(**tiny_processor(images=[picture], labels=LABELS))
    assert tags == pytest.approx(dict(zip(LABELS, output.probabilities[0].tolist(), strict=True)))
    assert 0.05 < min(tags.values()) < max(tags.values()) < 0.98
    for label in LABELS:  # alone it has the same
        assert by_label(calibrated(picture, candidate_labels=[label], threshold=0))[label] == tags[label]
    paper = calibrated(picture, candidate_labels=LABELS, score="paper")
    assert_same_tags(paper, expected_tags_of_scores(output))


def expected_tags_of_scores(output):
    ranked = sorted(zip(output.scores[0].tolist(), LABELS, strict=True), reverse=True)
    return [{"label": label, "score": score} for score, label in ranked]


def test_probabilities_are_not_refined(calibrated):
    (picture,) = make_pictures(1)
    with pytest.raises(ValueError, match=r'goes with the paper.s score alone. Pass `score="paper"` too'):
        calibrated(picture, candidate_labels=LABELS, refine=2)
    assert len(calibrated(picture, candidate_labels=LABELS, refine=2, score="paper")) == len(LABELS)


def test_the_stored_threshold_is_the_default(calibrated):
    (picture,) = make_pictures(1)
    found = by_label(calibrated(picture, candidate_labels=LABELS))
    assert found.keys() == set(LABELS) - {LABELS[1]}  # which has a threshold of its own
    assert calibrated(picture, candidate_labels=LABELS, threshold="precision=0.9") == []
    assert len(calibrated(picture, candidate_labels=LABELS, threshold="best-f1")) == 4
    calibrated.model.config.calibration["threshold"] = 1.0
    assert calibrated(picture, candidate_labels=LABELS) == []


def test_the_expected_number_of_labels_moves_all_odds_alike(calibrated):
    (picture,) = make_pictures(1)
    found = by_label(calibrated(picture, candidate_labels=LABELS, threshold=0))
    moved = by_label(calibrated(picture, candidate_labels=LABELS, threshold=0, expected_labels_per_image=2))
    for label, probability in found.items():  # odds of 1 to 1 in place of 1 to 4
        odds = moved[label] / (1 - moved[label]) / (probability / (1 - probability))
        assert odds == pytest.approx(4, rel=1e-4)


def test_regions_belong_to_the_labels_own_column(calibrated):
    (picture,) = make_pictures(1)
    together = calibrated(picture, candidate_labels=LABELS, threshold=0, return_regions=True)
    alone = calibrated(picture, candidate_labels=[together[0]["label"]], threshold=0, return_regions=True)
    np.testing.assert_array_equal(alone[0]["heat_map"], together[0]["heat_map"])
    assert together[0]["heat_map"].max() == 1


@pytest.mark.parametrize(
    ("options", "error"),
    [
        ({"threshold": "precision=0.5"}, "no threshold 'precision=0.5'.*precision=0.9"),
        ({"score": "papers"}, '`score` must be "probability" or "paper", got \'papers\''),
        ({"expected_labels_per_image": 4}, "below the number of labels \\(4\\), got 4"),
        ({"score": "paper", "threshold": "best-f1"}, "for probabilities alone"),
    ],
)
def test_wrong_wishes_for_probabilities_are_refused_before_an_image_is_read(calibrated, options, error):
    with pytest.raises(ValueError, match=error):
        calibrated("there-is-no-such-picture.jpg", candidate_labels=LABELS, **options)


def test_a_model_that_is_not_calibrated_says_so(tagger, monkeypatch):
    said = []
    monkeypatch.setattr("ram_hf.model.pipeline_ram.logger.warning_once", said.append)
    (picture,) = make_pictures(1)
    with pytest.raises(ValueError, match="not calibrated"):
        tagger(picture, candidate_labels=LABELS, score="probability")
    tagger(picture, candidate_labels=LABELS, score="paper")
    assert not said
    tagger(picture, candidate_labels=LABELS)
    assert len(said) == 1
    assert "`ram-hf calibrate`" in said[0]


# --- what goes in ----------------------------------------------------------------------------------------------------


def test_one_picture_gives_one_list_best_first(tagger, tiny_model, tiny_processor):
    (picture,) = make_pictures(1)
    tags = tagger(picture, candidate_labels=LABELS)
    assert_same_tags(tags, expected_tags(tiny_model, tiny_processor, picture, LABELS))
    scores = [tag["score"] for tag in tags]
    assert scores == sorted(scores, reverse=True)
    assert sum(scores) == pytest.approx(1)


def test_every_form_of_one_picture(tagger, tmp_path):
    (picture,) = make_pictures(1)
    path = tmp_path / "a, b.png"
    picture.save(path)
    expected = tagger(picture, LABELS)
    for source in (path, str(path), path.read_bytes(), np.asarray(picture), torch.from_numpy(np.array(picture))):
        assert tagger(source, LABELS) == expected


def test_every_form_of_several_pictures(tagger, tmp_path):
    pictures = make_pictures(3)
    expected = [tagger(picture, LABELS) for picture in pictures]
    rows = Dataset.from_dict({"image": [np.asarray(picture).tolist() for picture in pictures]}).with_format("numpy")
    for several in (pictures, tuple(pictures), iter(pictures), (p for p in pictures), map(np.asarray, pictures)):
        assert list(tagger(several, LABELS)) == expected
    for lazy in (KeyDataset(rows, "image"), rows["image"], iter(pictures)):
        found = tagger(lazy, LABELS)
        assert not isinstance(found, list)
        assert list(found) == expected
    batch = np.stack([np.asarray(picture.resize((60, 40))) for picture in pictures])
    assert tagger(batch, LABELS) == [tagger(image, LABELS) for image in batch]
    assert tagger([], LABELS) == []


@pytest.mark.parametrize("return_regions", [False, True])
def test_batch_size_does_not_change_results(tagger, return_regions):
    pictures = make_pictures(5)
    options = {"candidate_labels": LABELS, "return_regions": return_regions}
    for expected, *found in zip(
        [tagger(picture, **options) for picture in pictures],
        tagger(pictures, batch_size=2, **options),  # with an odd one at the end
        tagger(pictures, batch_size=8, **options),
        tagger(iter(pictures), batch_size=3, **options),
        strict=True,
    ):
        for tags in found:
            assert_same_tags(tags, expected)
            if return_regions:
                for tag, other in zip(tags, expected, strict=True):
                    np.testing.assert_allclose(tag["heat_map"], other["heat_map"], atol=1e-4)
                    assert (tag["peak"], tag["box"]) == (other["peak"], other["box"])


def test_a_generator_is_read_when_its_results_are_asked_for(tagger):
    read = []

    def pictures():
        for index, picture in enumerate(make_pictures(5)):
            read.append(index)
            yield picture

    results = tagger(pictures(), LABELS, batch_size=2)
    assert len(read) <= 1  # transformers looks at the first
    next(results_iterator := iter(results))
    assert len(read) == 2
    assert len(list(results_iterator)) == 4


def test_labels_in_one_string_and_once_for_all(tagger, tiny_model, tiny_processor):
    (picture,) = make_pictures(1)
    expected = tagger(picture, candidate_labels=["dog", "red car"])
    assert tagger(picture, candidate_labels=" dog, red car,") == expected
    assert tagger(picture, (name for name in ["dog", "red car"])) == expected
    fixed = pipeline(
        TASK, model=tiny_model, processor=tiny_processor, device="cpu", candidate_labels="dog, red car", top_k=1
    )
    assert fixed(picture) == expected[:1]
    assert fixed(picture, top_k=None) == expected
    assert fixed(picture, "tree") == [{"label": "tree", "score": pytest.approx(1)}]
    assert fixed(picture) == expected[:1]


def test_top_k_and_threshold(tagger):
    (picture,) = make_pictures(1)
    every = tagger(picture, LABELS)
    assert tagger(picture, LABELS, top_k=2) == every[:2]
    assert tagger(picture, LABELS, top_k=100) == every
    assert tagger(picture, LABELS, threshold=every[1]["score"]) == every[:2]
    assert tagger(picture, LABELS, threshold=1.0) == []
    assert tagger(picture, LABELS, threshold=every[2]["score"], top_k=1) == every[:1]


def test_the_template_is_the_processors_or_that_of_the_call(tagger, tiny_model, tiny_processor):
    (picture,) = make_pictures(1)
    other = RamProcessor(tiny_processor.image_processor, tiny_processor.tokenizer, label_template="{label} from above")
    expected = expected_tags(tiny_model, other, picture, LABELS)
    plain = tagger(picture, LABELS)
    for template in ("{label} from above", "{} from above"):
        assert_same_tags(tagger(picture, LABELS, prompt_template=template), expected)
    assert_same_tags(RamTaggingPipeline(tiny_model, other, device="cpu")(picture, LABELS), expected)
    assert plain == tagger(picture, LABELS)
    assert plain != tagger(picture, LABELS, prompt_template="{label} from above")


def test_several_templates_are_averaged(tagger, tiny_model, tiny_processor):
    (picture,) = make_pictures(1)
    templates = ["{label} from above", "openai-7"]
    other = RamProcessor(tiny_processor.image_processor, tiny_processor.tokenizer, label_template=templates)
    expected = expected_tags(tiny_model, other, picture, LABELS)
    given = list(templates)
    assert_same_tags(tagger(picture, LABELS, prompt_template=given), expected)
    del given[1]  # what was remembered does not change with the caller's list
    one = tagger(picture, LABELS, prompt_template=given)
    assert one == tagger(picture, LABELS, prompt_template="{label} from above")
    assert one != tagger(picture, LABELS, prompt_template=templates)


def test_the_best_labels_are_judged_again(tagger, tiny_model, tiny_processor):
    picture, other = make_pictures(2)
    inputs = tiny_processor(images=[picture], labels=LABELS)
    with torch.no_grad():
        features = tiny_model.get_label_features(inputs["input_ids"])
        output = tiny_model(inputs["pixel_values"], label_features=features, output_transport_plan=True)
        scores = refine_scores(tiny_model, inputs["pixel_values"], features, output, num_labels=2)
    (expected,) = tiny_processor.post_process_tagging(RamOutput(scores=scores), LABELS)
    refined = tagger(picture, LABELS, refine=2)
    assert_same_tags(refined, expected)
    assert {tag["label"]: tag["score"] for tag in refined} != {
        tag["label"]: tag["score"] for tag in tagger(picture, LABELS)
    }
    assert_same_tags(tagger([other, picture], LABELS, refine=2, batch_size=2)[1], expected)
    regions = tagger(picture, LABELS, refine=2, return_regions=True)
    assert [tag["label"] for tag in regions] == [tag["label"] for tag in refined]
    assert all("box" in tag for tag in regions)


# --- label features are encoded once ---------------------------------------------------------------------------------


def test_the_same_labels_are_encoded_once(tagger, count_label_encodings):
    pictures = make_pictures(3)
    tagger(pictures, LABELS)
    tagger(pictures[0], list(LABELS))
    tagger(pictures, ",".join(LABELS), batch_size=2, top_k=1, return_regions=True)
    assert len(count_label_encodings) == 1
    tagger(pictures[0], LABELS[:2])
    assert len(count_label_encodings) == 2


def test_the_same_labels_are_tokenised_once(tagger, monkeypatch):
    tokenised = []
    tokenize = RamProcessor._tokenize
    monkeypatch.setattr(RamProcessor, "_tokenize", lambda *args: tokenised.append(1) or tokenize(*args))
    tagger(make_pictures(3), LABELS)
    tagger(make_pictures(3), LABELS, batch_size=2)
    assert len(tokenised) == 1


def test_label_features_are_dropped_with_the_template(tagger, count_label_encodings):
    (picture,) = make_pictures(1)
    plain = tagger(picture, LABELS)
    tagger(picture, LABELS, prompt_template="{label} from above")
    assert len(count_label_encodings) == 2
    tagger.processor = RamProcessor(
        tagger.processor.image_processor, tagger.processor.tokenizer, label_template="{label} in a drawing"
    )
    assert tagger(picture, LABELS) != plain
    assert len(count_label_encodings) == 3


@pytest.mark.parametrize("part", ["clip.text_model.final_layer_norm.bias", "prompts.2.tokens"])
def test_label_features_are_dropped_with_the_weights(tagger, count_label_encodings, tiny_processor, part):
    (picture,) = make_pictures(1)
    before = tagger(picture, LABELS)
    with torch.no_grad():
        parameter = tagger.model.get_parameter(part)
        parameter += torch.randn(parameter.shape, generator=torch.Generator().manual_seed(0))
    after = tagger(picture, LABELS)
    assert len(count_label_encodings) == 2
    assert after != before
    tagger.model.clear_label_cache()
    assert_same_tags(after, expected_tags(tagger.model, tiny_processor, picture, LABELS))


# --- regions ---------------------------------------------------------------------------------------------------------


def test_regions_point_at_the_peak_of_the_plan(tagger, tiny_model, tiny_processor):
    (picture,) = make_pictures(1)  # 60 x 40 pixels, 4 x 4 patches
    with torch.no_grad():
        inputs = tiny_processor(images=[picture], labels=LABELS)
        plan = tiny_model(**inputs, output_transport_plan=True).transport_plan[0]
    tags = tagger(picture, LABELS, return_regions=True)
    assert {tag["label"] for tag in tags} == set(LABELS)
    for tag in tags:
        column = plan[:, LABELS.index(tag["label"])].reshape(4, 4)
        np.testing.assert_allclose(tag["heat_map"], column / column.max(), atol=1e-5)
        row, patch = divmod(int(column.argmax()), 4)
        assert tag["peak"] == {"x": (patch + 0.5) * 15, "y": (row + 0.5) * 10}
        assert tag["box"]["xmin"] <= patch * 15 < (patch + 1) * 15 <= tag["box"]["xmax"]
        assert tag["box"]["ymin"] <= row * 10 < (row + 1) * 10 <= tag["box"]["ymax"]
    assert tagger(picture, LABELS, return_regions=True, top_k=1)[0].keys() == tags[0].keys()
    assert tagger(picture, LABELS)[0].keys() == {"label", "score"}


def test_regions_are_in_pixels_of_the_upright_picture(tagger):
    (upright,) = make_pictures(1)
    lying = upright.transpose(Image.Transpose.ROTATE_90)
    exif = lying.getexif()
    exif[0x0112] = 6  # to be turned by 90 degrees clockwise
    lying.info["exif"] = exif.tobytes()
    (tag,) = tagger(lying, LABELS, return_regions=True, top_k=1)
    (expected,) = tagger(upright, LABELS, return_regions=True, top_k=1)
    assert tag["peak"] == expected["peak"]
    assert tag["box"] == expected["box"]


def test_duplicate_labels(tagger):
    (picture,) = make_pictures(1)
    tags = tagger(picture, ["dog", "tree", "dog"], return_regions=True)
    first, second = [tag for tag in tags if tag["label"] == "dog"]
    assert first["score"] == second["score"]
    assert first["peak"] == second["peak"]


def test_a_processor_that_crops_has_no_regions(tiny_model, tiny_processor):
    cropping = RamProcessor(tiny_processor.image_processor, tiny_processor.tokenizer, squash=False)
    tagger = RamTaggingPipeline(tiny_model, cropping, device="cpu")
    with pytest.raises(ValueError, match="`squash=True`, this one crops"):
        tagger(make_pictures(1), LABELS, return_regions=True)


# --- models ----------------------------------------------------------------------------------------------------------


def test_a_model_in_training_mode_is_put_into_evaluation_mode(tiny_model, tiny_processor):
    assert not RamTaggingPipeline(tiny_model.train(), tiny_processor, device="cpu").model.training


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision(tiny_model, tiny_processor, tmp_path, dtype):
    tiny_model.save_pretrained(tmp_path)
    tiny_processor.save_pretrained(tmp_path)
    tagger = pipeline(TASK, model=str(tmp_path), dtype=dtype, device="cpu")
    assert tagger.model.dtype == dtype
    for tags in tagger(make_pictures(3), LABELS, batch_size=2, return_regions=True):
        assert sum(tag["score"] for tag in tags) == pytest.approx(1, abs=1e-5)
        assert all(tag["heat_map"].dtype == np.float32 for tag in tags)


@pytest.mark.parametrize("as_object", [False, True])
def test_a_clip_is_wrapped_and_squashes(clip_folder, as_object):
    (picture,) = make_pictures(1)
    model = RamModel.from_clip(clip_folder)
    given = model.clip if as_object else str(clip_folder)
    tagger = pipeline(TASK, model=given, device="cpu")
    assert isinstance(tagger.model, RamModel)
    assert isinstance(tagger.processor, RamProcessor)
    assert tagger.model.config.base_model_name_or_path == str(clip_folder)
    processor = RamProcessor.from_pretrained(clip_folder)
    assert torch.equal(tagger.processor(images=[picture])["pixel_values"], processor(images=[picture])["pixel_values"])
    assert_same_tags(tagger(picture, LABELS), expected_tags(model, processor, picture, LABELS))


def test_the_processor_is_found_where_the_model_came_from(tiny_model, tiny_processor, clip_folder, tmp_path):
    own = RamProcessor(tiny_processor.image_processor, tiny_processor.tokenizer, label_template="{label} from above")
    tiny_model.save_pretrained(tmp_path / "ram")
    own.save_pretrained(tmp_path / "ram")
    loaded = RamModel.from_pretrained(tmp_path / "ram")
    assert pipeline(TASK, model=loaded, device="cpu").processor.label_template == "{label} from above"
    assert pipeline(TASK, model=RamModel.from_clip(clip_folder), device="cpu").processor.squash


def test_without_a_processor_it_is_told_where_one_was_looked_for(tiny_model, tmp_path):
    with pytest.raises(ValueError, match=r"does not tell where it came from. Pass one, for example `processor="):
        pipeline(TASK, model=tiny_model)
    tiny_model.save_pretrained(tmp_path)
    with pytest.raises(ValueError, match=r"none can be loaded from '.+' \(.+\). Pass one, for example `processor="):
        pipeline(TASK, model=str(tmp_path))


def test_the_stock_zero_shot_pipeline_runs(tiny_model, tiny_processor, tmp_path):
    tiny_model.save_pretrained(tmp_path)
    tiny_processor.save_pretrained(tmp_path)
    (picture,) = make_pictures(1)
    tags = pipeline("zero-shot-image-classification", model=str(tmp_path), device="cpu")(
        picture, candidate_labels=LABELS
    )
    with torch.no_grad():
        inputs = tiny_processor(images=[picture], labels=LABELS, label_template="This is a photo of {}.")
        output = tiny_model(**inputs)
    torch.testing.assert_close(output.logits_per_image.softmax(dim=-1), output.scores)
    assert_same_tags(tags, tiny_processor.post_process_tagging(output, LABELS)[0])


# --- what is refused -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({}, ValueError, r"`candidate_labels` is missing: pass the label names, for example"),
        ({"candidate_labels": []}, ValueError, "pass at least one label name"),
        ({"candidate_labels": " , "}, ValueError, "pass at least one label name"),
        ({"candidate_labels": ["dog", " "]}, ValueError, "Label 1 is empty"),
        ({"candidate_labels": ["dog", 3]}, TypeError, "Label 1 must be a string, got int: 3"),
        ({"candidate_labels": 3}, TypeError, "`candidate_labels` must be a list of label names, got int"),
        ({"candidate_labels": ["dog " * 30]}, ValueError, "the text tower takes 77"),
        ({"candidate_labels": "dog", "prompt_template": "a photo"}, ValueError, "a sentence with {label}"),
        ({"candidate_labels": "dog", "prompt_template": []}, ValueError, "`prompt_template` must hold at least one"),
        ({"candidate_label": "dog"}, TypeError, "no argument 'candidate_label'. Did you mean 'candidate_labels'"),
        ({"candidate_labels": "dog", "topk": 3}, TypeError, "Did you mean 'top_k'"),
        ({"candidate_labels": "dog", "hypothesis_template": "{}"}, TypeError, "Did you mean 'prompt_template'"),
        ({"candidate_labels": "dog", "batchsize": 3}, TypeError, "Did you mean 'batch_size'"),
        (
            {"candidate_labels": "dog", "xyz": 3},
            TypeError,
            "There are 'batch_size', 'candidate_labels', 'expected_labels_per_image', 'num_workers'",
        ),
        ({"candidate_labels": "dog", "top_k": 0}, ValueError, "`top_k` must be at least 1, got 0"),
        ({"candidate_labels": "dog", "refine": 0}, ValueError, "`refine` must be how many labels .* got 0"),
        ({"candidate_labels": "dog", "refine": True}, ValueError, "`refine` must be how many labels .* got True"),
    ],
)
def test_errors_of_a_call(tagger, arguments, error, message):
    with pytest.raises(error, match=message):
        tagger(make_pictures(1), **arguments)


def test_wrong_labels_are_told_before_a_picture_is_read(tagger):
    pictures = iter(make_pictures(2))
    with pytest.raises(ValueError, match="Label 1 is empty"):
        tagger(pictures, ["dog", ""])
    assert len(list(pictures)) == 2


@pytest.mark.parametrize(
    ("picture", "error", "message"),
    [
        ("nowhere.png", OSError, "There is no file 'nowhere.png'"),
        (b"GIF", ValueError, "it is of no known format"),
        (3, TypeError, "An image must be a PIL picture, a path"),
        ({"image": None, "labels": []}, TypeError, "a row of a dataset came, with image, labels. Pass a column of it"),
    ],
)
@pytest.mark.parametrize("as_list", [False, True])
def test_errors_of_a_picture(tagger, picture, error, message, as_list):
    with pytest.raises(error, match=message):
        tagger([picture] if as_list else picture, LABELS)


BROKEN = {
    "no image": b"GIF",
    "half of one": "half.png",
    "gone": "nowhere.png",
    "nothing": None,
    "of no size": np.zeros((0, 3, 3)),
    "not finite": np.full((4, 4, 3), np.nan),
}


@pytest.fixture
def broken(request, tmp_path):
    """One of `BROKEN`."""
    source = BROKEN[request.param]
    if isinstance(source, str) and source == "half.png":
        source = tmp_path / source
        make_pictures(1)[0].save(source)
        source.write_bytes(source.read_bytes()[:2000])
    return source


@pytest.mark.parametrize("broken", BROKEN, indirect=True)
def test_a_broken_picture_loses_none_of_the_others(tagger, broken):
    first, last = make_pictures(2)
    expected = [tagger(first, LABELS), tagger(last, LABELS)]
    for several in ([first, broken, last], iter([first, broken, last]), map(_same, [first, broken, last])):
        tags, told, others = tagger(several, LABELS, on_error="skip")
        assert [tags, others] == expected
        assert list(told) == ["error"]
        assert told["error"]
        assert "\n" not in told["error"]
    assert tagger(broken, LABELS, on_error="skip") == told
    with pytest.raises((TypeError, ValueError, OSError)):
        tagger([first, broken, last], LABELS, on_error="raise")


def _same(image):
    return image


@pytest.mark.parametrize("batch_size", [1, 2, 3, 8])
@pytest.mark.parametrize("num_workers", [0, 1])
@pytest.mark.parametrize("return_regions", [False, True])
def test_broken_pictures_of_a_batch(tagger, batch_size, num_workers, return_regions):
    pictures = make_pictures(5)
    expected = tagger(pictures, LABELS)
    for places in ([0], [1, 2], [4], [0, 1, 2, 3, 4]):
        sources = [b"GIF" if place in places else picture for place, picture in enumerate(pictures)]
        options = {"batch_size": batch_size, "num_workers": num_workers, "return_regions": return_regions}
        found = tagger(sources, LABELS, on_error="skip", **options)
        assert len(found) == 5
        for place, tags in enumerate(found):
            if place in places:
                assert tags == {"error": "Cannot read the given bytes as an image: it is of no known format"}
            else:
                assert_same_tags(tags, expected[place])


def test_broken_pictures_of_a_dataset_that_decodes_them_itself(tagger, tmp_path):
    pictures = make_pictures(4)
    for index, picture in enumerate(pictures):
        picture.save(tmp_path / f"{index}.png")
    paths = [str(tmp_path / f"{index}.png") for index in range(4)]
    expected = tagger(paths, LABELS)
    (tmp_path / "1.png").write_bytes(b"GIF")
    rows = Dataset.from_dict({"image": [*paths, None]}).cast_column("image", ImageFeature())
    for images in (KeyDataset(rows, "image"), rows["image"]):
        for batch_size in (1, 3):
            found = list(tagger(images, LABELS, on_error="skip", batch_size=batch_size))
            assert ["error" in tags for tags in found] == [False, True, False, False, True]
            for index in (0, 2, 3):
                assert_same_tags(found[index], expected[index])
        with pytest.raises(OSError, match="cannot identify image"):
            list(tagger(images, LABELS))


def test_on_error_is_said_once_for_all_or_in_a_call(tiny_model, tiny_processor):
    options = {"model": tiny_model, "processor": tiny_processor, "device": "cpu"}
    tagger = pipeline(TASK, **options, on_error="skip")
    assert list(tagger(b"GIF", LABELS)) == ["error"]
    with pytest.raises(ValueError, match="no known format"):
        tagger(b"GIF", LABELS, on_error="raise")
    for call in (
        lambda: tagger(make_pictures(1), LABELS, on_error="ignore"),
        lambda: pipeline(TASK, **options, on_error="ignore"),
    ):
        with pytest.raises(ValueError, match='`on_error` must be "raise" or "skip", got \'ignore\''):
            call()
    with pytest.raises(TypeError, match="a row of a dataset came"):  # no image is broken: the call is wrong
        tagger([{"image": None}], LABELS)


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"candidate_labels": ["dog", ""]}, ValueError, "Label 1 is empty"),
        ({"candidate_label": ["dog"]}, TypeError, "Did you mean 'candidate_labels'"),
        ({"tokenizer": make_tokenizer()}, TypeError, r"pass `processor=RamProcessor\(image_processor, tokenizer\)`"),
    ],
)
def test_errors_of_the_constructor(tiny_model, tiny_processor, arguments, error, message):
    with pytest.raises(error, match=message):
        pipeline(TASK, model=tiny_model, processor=tiny_processor, **arguments)


def test_another_model_is_refused(tiny_model, tiny_processor):
    with pytest.raises(TypeError, match="or a CLIP with a ViT tower, got a CLIPTextModel of type 'clip_text_model'"):
        RamTaggingPipeline(tiny_model.clip.text_model, tiny_processor)


# --- saving ----------------------------------------------------------------------------------------------------------


@pytest.fixture
def saved_tagger(tiny_model, tiny_processor, tmp_path):
    own = RamProcessor(tiny_processor.image_processor, tiny_processor.tokenizer, label_template="{label} from above")
    tagger = RamTaggingPipeline(tiny_model, own, device="cpu")
    tagger.save_pretrained(tmp_path / "tagger-1.0")
    return tagger, tmp_path / "tagger-1.0"


@pytest.mark.parametrize("options", [{}, {"trust_remote_code": True}])
def test_a_saved_pipeline_loads_with_the_package(saved_tagger, options):
    tagger, folder = saved_tagger
    (picture,) = make_pictures(1)
    loaded = pipeline(TASK, model=str(folder), device="cpu", **options)
    assert type(loaded) is RamTaggingPipeline
    assert loaded.processor.label_template == "{label} from above"
    assert_same_tags(loaded(picture, LABELS), tagger(picture, LABELS))


@pytest.mark.parametrize("options", [{}, {"trust_remote_code": True}])
def test_the_task_need_not_be_named(saved_tagger, options):
    tagger, folder = saved_tagger
    (picture,) = make_pictures(1)
    loaded = pipeline(model=str(folder), device="cpu", **options)
    assert type(loaded) is RamTaggingPipeline
    assert_same_tags(loaded(picture, LABELS), tagger(picture, LABELS))


def test_the_task_of_another_model_is_what_it_was(clip_folder):
    with pytest.raises(RuntimeError, match="offline mode"):
        pipeline(model=str(clip_folder), device="cpu")


def test_a_saved_pipeline_loads_where_ram_hf_cannot_be_imported(saved_tagger, tmp_path):
    """And what that process saves again is complete as well."""
    tagger, folder = saved_tagger
    (picture,) = make_pictures(1)
    picture.save(tmp_path / "picture.png")
    expected = tagger(picture, LABELS, return_regions=True, top_k=1)[0]
    code = f"""
import sys
sys.modules["ram_hf"] = None
import json
from transformers import pipeline
for task, folder in (({TASK!r}, {str(folder)!r}), (None, {str(tmp_path / "again")!r})):
    tagger = pipeline(task, model=folder, trust_remote_code=True, device="cpu")
    (tag,) = tagger({str(tmp_path / "picture.png")!r}, {LABELS!r}, return_regions=True, top_k=1)
    print(json.dumps([type(tagger).__module__, tag["label"], tag["score"], tag["peak"], tag["box"]]))
    tagger.save_pretrained({str(tmp_path / "again")!r})
stock = pipeline("zero-shot-image-classification", {str(folder)!r}, trust_remote_code=True, device="cpu")
assert type(stock.model).__module__.startswith("transformers_modules.")
assert len(stock({str(tmp_path / "picture.png")!r}, candidate_labels={LABELS!r})) == len({LABELS!r})
"""
    environment = {"HF_HOME": str(tmp_path / "home"), "HF_HUB_OFFLINE": "1", "PATH": "/usr/bin:/bin"}
    result = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=120, check=False, env=environment
    )
    assert result.returncode == 0, result.stderr
    for line in result.stdout.splitlines():
        module, label, score, peak, box = json.loads(line)
        assert module.startswith("transformers_modules.")
        assert (label, peak, box) == (expected["label"], expected["peak"], expected["box"])
        assert score == pytest.approx(expected["score"], abs=1e-6)
    assert len(result.stdout.splitlines()) == 2


def test_a_model_saved_alone_names_no_pipeline(saved_tagger, tmp_path):
    tagger, folder = saved_tagger
    assert "custom_pipelines" in json.loads((folder / "config.json").read_text())
    tagger.model.save_pretrained(tmp_path / "alone")
    assert "custom_pipelines" not in json.loads((tmp_path / "alone/config.json").read_text())
    RamModel.from_pretrained(folder).save_pretrained(tmp_path / "loaded")
    assert "custom_pipelines" not in json.loads((tmp_path / "loaded/config.json").read_text())


def test_saving_does_not_push(tagger, tmp_path):
    with pytest.raises(ValueError, match=r"Use `push_to_hub\(repo_id\)`"):
        tagger.save_pretrained(tmp_path, push_to_hub=True)


def test_a_clip_pipeline_is_saved_as_a_ram_model(clip_folder, tmp_path):
    tagger = pipeline(TASK, model=str(clip_folder), device="cpu")
    tagger.save_pretrained(tmp_path / "ram", max_shard_size="1GB")  # as `push_to_hub` calls it
    (picture,) = make_pictures(1)
    loaded = pipeline(TASK, model=str(tmp_path / "ram"), device="cpu")
    assert_same_tags(loaded(picture, LABELS), tagger(picture, LABELS))


def test_a_config_keeps_nothing_of_a_pipeline():
    assert not hasattr(make_config(custom_pipelines={TASK: {}}), "custom_pipelines")


def test_open_files(tagger):
    file = io.BytesIO()
    picture = make_pictures(1)[0]
    picture.save(file, "PNG")
    expected = tagger(picture, candidate_labels=LABELS)
    assert tagger(file, candidate_labels=LABELS) == expected
    assert tagger([file, picture], candidate_labels=LABELS) == [expected, expected]
