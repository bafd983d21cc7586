"""Models that come with the package: written small, found by name."""

import json
from pathlib import Path

import pytest
import torch
import yaml
from safetensors.torch import load_file

from ram_hf import RamConfig, RamModel, RamProcessor, cli
from ram_hf.model import bundled
from ram_hf.model.run_record import read_run
from ram_hf.pretraining.bundling import write_bundle
from tests.conftest import RAM_TINY

ROOT = Path(__file__).parents[2]
LARGEST_PACKAGE_DATA = 25e6  # bytes


@pytest.fixture
def trained(tiny_model, tiny_processor, tmp_path) -> Path:
    folder = tmp_path / "trained"
    tiny_model.save_pretrained(folder)
    tiny_processor.save_pretrained(folder)
    return folder


@pytest.fixture
def bundles(trained, tmp_path, monkeypatch) -> Path:
    monkeypatch.setattr(bundled, "_FOLDER", tmp_path / "bundled")
    write_bundle(trained, tmp_path / "bundled" / "ram-small")
    return tmp_path / "bundled"


def test_a_bundle_is_half_as_large_and_scores_alike(trained, bundles, tiny_model, tiny_processor, pixel_values):
    before, after = ((folder / "model.safetensors").stat().st_size for folder in (trained, bundles / "ram-small"))
    assert after < 0.6 * before
    label_inputs = tiny_processor(labels=["dog", "red car"])
    loaded = RamModel.from_pretrained("ram-small")
    assert {parameter.dtype for parameter in loaded.parameters()} == {torch.float32}
    torch.testing.assert_close(
        loaded(pixel_values, **label_inputs).scores, tiny_model(pixel_values, **label_inputs).scores, rtol=0, atol=0.02
    )


def test_statistics_and_temperatures_keep_their_precision(bundles):
    weights = load_file(bundles / "ram-small" / "model.safetensors")
    kept = {name: value for name, value in weights.items() if value.dtype == torch.float32}
    assert all(value.dim() < 2 for value in kept.values())
    assert "temperatures.local_temperature" in kept
    assert any(name.endswith("running_var") for name in kept)


def test_a_bundle_holds_no_code_and_no_folder_of_its_maker(bundles, trained):
    folder = bundles / "ram-small"
    assert not list(folder.glob("*.py"))
    for file in folder.glob("*.json"):
        assert not {"auto_map", "is_local", "local_files_only"} & json.loads(file.read_text()).keys()
    assert RamConfig.from_pretrained(folder).base_model_name_or_path is None
    assert str(trained.parent) not in (folder / "config.json").read_text()
    assert (folder / "model.safetensors").stat().st_mode & 0o777 == 0o644


def test_a_bundle_cuts_no_texts_as_in_training(trained, tmp_path):
    """Options of a tokenizer's last call, which are saved with it, and would be taken for those of each call."""
    file = trained / "tokenizer_config.json"
    called = {"max_length": 4, "stride": 0, "truncation_strategy": "longest_first"}
    file.write_text(json.dumps(json.loads(file.read_text()) | called))
    labels, cut = ["a red car on a street"], {"truncation": True}
    assert RamProcessor.from_pretrained(trained)(labels=labels, **cut)["input_ids"].shape == (1, 4)
    write_bundle(trained, tmp_path / "ram-new")
    assert RamProcessor.from_pretrained(tmp_path / "ram-new")(labels=labels, **cut)["input_ids"].shape[1] > 4


def test_the_record_of_the_run_comes_along(trained, tmp_path):
    write_bundle(trained, tmp_path / "without")
    assert not (tmp_path / "without" / "training.json").exists()
    (trained / "training.json").write_text(json.dumps({"arguments": {"seed": 3}, "steps": 7}))
    write_bundle(trained, tmp_path / "with")
    assert read_run(tmp_path / "with").steps == 7


def test_the_record_of_ram_tiny_is_what_its_configuration_says():
    """`configs/ram_tiny/ram.yaml`, but for what belongs to one machine; as many labels as in its card."""
    record = json.loads((RAM_TINY / "training.json").read_text())
    config = yaml.safe_load((ROOT / "configs" / "ram_tiny" / "ram.yaml").read_text())
    assert record["arguments"].items() <= config.items()
    assert config.keys() - record["arguments"] == {
        *("model", "dataset", "output_dir", "seen_labels", "streaming", "num_workers"),
        *("save_steps", "log_steps", "report_to"),
    }
    assert record["steps"] == config["max_steps"]
    assert (len(record["seen_labels"]), len(record["unseen_labels"])) == (218, 110)


def test_the_command_writes_a_bundle_and_says_its_size(trained, tmp_path, capsys):
    assert cli.main(["pretrain", "bundle", str(trained), str(tmp_path / "ram-new")]) == 0
    size = (tmp_path / "ram-new" / "model.safetensors").stat().st_size
    assert capsys.readouterr().out == f"{tmp_path / 'ram-new'}: {size / 1e6:.1f} MB of weights\n"


def test_names_are_found_by_all_three_classes(bundles):
    assert RamConfig.from_pretrained("ram-small").clip_config.projection_dim == 48
    assert RamProcessor.from_pretrained("ram-small").label_template == "A photo of a {label}."
    assert RamModel.from_pretrained("ram-small").config.name_or_path == str(bundles / "ram-small")


def test_a_folder_in_the_working_directory_goes_first(bundles, tmp_path, monkeypatch):
    (tmp_path / "ram-small").mkdir()
    monkeypatch.chdir(tmp_path)
    assert bundled.find_bundled("ram-small") == "ram-small"


@pytest.mark.parametrize(
    "name", ["openai/clip-vit-base-patch16", "no-such-model", "../ram-small", "", Path("ram-small")]
)
def test_other_names_stay_as_they_are(bundles, name):
    assert bundled.find_bundled(name) == name


def test_the_default_comes_with_the_package():
    """The model itself that is taken where none is named: all that a user needs, and no code."""
    folder = Path(bundled.find_bundled(bundled.DEFAULT_MODEL))
    assert folder.parent == bundled._FOLDER
    assert {"NOTICE", "README.md", "training.json"} <= {file.name for file in folder.iterdir()}
    assert not list(folder.glob("*.py"))
    training = yaml.safe_load((ROOT / "configs" / "ram_photo" / "clip.yaml").read_text())
    config = RamConfig.from_pretrained(bundled.DEFAULT_MODEL)
    assert config.clip_config.vision_config.image_size == training["saved_image_size"]
    assert config.clip_config.projection_dim == training["sizes"]["projection_dim"]
    assert config.base_model_name_or_path is None


def test_package_data_stay_small():
    """What everybody downloads: all files of all models that come with the package."""
    files = [file for folder in bundled._FOLDER.iterdir() for file in folder.iterdir()]
    assert any(file.name == "model.safetensors" for file in files)
    assert sum(file.stat().st_size for file in files) < LARGEST_PACKAGE_DATA


def test_the_default_has_probabilities():
    """Calibrated, with the labels that it was trained on; a label's is the same whatever else is asked for."""
    model = RamModel.from_pretrained(bundled.DEFAULT_MODEL)
    processor = RamProcessor.from_pretrained(bundled.DEFAULT_MODEL)
    assert list(model.config.reference_labels) == list(
        read_run(bundled.find_bundled(bundled.DEFAULT_MODEL)).seen_labels
    )
    picture = ROOT / "examples" / "pictures" / "photo-cat.jpg"
    with torch.inference_mode():
        found = model(**processor(images=[picture], labels=["cat", "a red car", "sky"]))
        alone = model(**processor(images=[picture], labels=["sky"]))
    assert ((found.probabilities > 0) & (found.probabilities < 1)).all()
    assert torch.equal(found.probabilities[0, 2], alone.probabilities[0, 0])
    torch.testing.assert_close(found.scores.sum(dim=-1), torch.ones(1))


def test_ram_tiny_finds_what_a_scene_holds():
    """The committed model itself: it loads, is small, and knows what its world is made of."""
    assert RAM_TINY.joinpath("model.safetensors").stat().st_size < 15e6
    assert {"NOTICE", "README.md"} <= {file.name for file in RAM_TINY.iterdir()}
    model, processor = RamModel.from_pretrained(RAM_TINY), RamProcessor.from_pretrained(RAM_TINY)
    record = read_run(RAM_TINY)
    labels = [*record.seen_labels, *record.unseen_labels]
    assert len(labels) == 328
    with torch.inference_mode():
        output = model(**processor(images=[ROOT / "examples" / "scenes" / "scene-14.jpg"], labels=labels))
    best = [tag["label"] for tag in processor.post_process_tagging(output, labels, top_k=2)[0]]
    assert set(best) == {"volcano", "traffic light"}


def test_ram_tiny_tells_what_is_there():
    """It is calibrated: what an example scene holds is probable, and all else is not, whatever else is asked for."""
    model, processor = RamModel.from_pretrained(RAM_TINY), RamProcessor.from_pretrained(RAM_TINY)
    assert len(model.config.reference_labels) == 218
    assert {"0.8", "0.9", "0.95"} == model.config.calibration["precision_thresholds"].keys()
    picture = ROOT / "examples" / "scenes" / "scene-14.jpg"
    labels = ["volcano", "traffic light", "owl", "bell", "canoe"]
    with torch.inference_mode():
        found = model(**processor(images=[picture], labels=labels)).probabilities[0]
    threshold = model.config.calibration["threshold"]
    assert (found >= threshold).tolist() == [True, True, False, False, False]
    with torch.inference_mode():
        alone = model(**processor(images=[picture], labels=["owl"])).probabilities
    assert torch.equal(alone[0, 0], found[2])
