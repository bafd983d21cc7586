"""Each command that writes, small, with what it reads: for tests of what stops one."""

import copy
import json
from pathlib import Path
from typing import NamedTuple

import torch
import yaml
from PIL import Image

from tests.conftest import LABELS
from tests.pretraining.drawn_photographs import write_files, write_words
from tests.pretraining.test_photo_clip import SIZES as PHOTO_SIZES
from tests.pretraining.test_photo_clip import WEIGHTS
from tests.pretraining.test_scene_clip import OPTIONS as SCENE_OPTIONS
from tests.pretraining.test_scene_clip import SIZES as SCENE_SIZES
from tests.scene_source import write_bare_source
from tests.tagging.hostile import save_photographs


class Command(NamedTuple):
    """A command line in which IN is the folder that is read and OUT/out what is written.

    Attributes:
        words: of it.
        resume: what goes on after it was stopped.
        differs: files that hold times, and are not the same each time.
        grows: files that a stopped run keeps in part.
    """

    words: str
    resume: str = ""
    differs: tuple[str, ...] = ()
    grows: tuple[str, ...] = ()


_TAG = "tag IN/images --model IN/ram --labels-file IN/labels.txt --batch-size 2 --workers 0 --top-k 40 "
_BESIDE = _TAG.replace("IN/images", "OUT/out")
_LOG = ("metrics.jsonl",)
_TRAINING = (*_LOG, "checkpoints/*")
COMMANDS = {
    "tag-jsonl": Command(_TAG + "--output OUT/out/tags.jsonl", "--resume", grows=("tags.jsonl",)),
    "tag-csv": Command(_TAG + "--output OUT/out/tags.csv", "--resume", grows=("tags.csv.partial.jsonl",)),
    "tag-parquet": Command(_TAG + "--output OUT/out/tags.parquet", "--resume", grows=("tags.parquet.partial.jsonl",)),
    "tag-captions": Command(_BESIDE + "--sidecar txt", "--resume"),
    "tag-xmp": Command(_BESIDE + "--sidecar xmp", "--resume"),
    "tag-overlays": Command(_TAG + "--overlay OUT/out/drawn", "--resume"),
    "index": Command(
        "index IN/images --output OUT/out/index --model IN/referenced --batch-size 2 --workers 0 --shard-size 2",
        grows=("index.json",),
    ),
    "adapt": Command(
        "adapt IN/ram IN/images --labels-file IN/labels.txt --output OUT/out/adapted --batch-size 2 --workers 0",
        grows=(".ram_hf-adapt.safetensors",),
    ),
    "train": Command("train --config IN/train.yaml --output_dir OUT/out/run", differs=_LOG, grows=_TRAINING),
    "evaluate": Command("evaluate IN/ram IN/rows --split train --unseen IN/labels.txt --json OUT/out/report.json"),
    "prepare": Command("prepare table IN/table.csv IN/images OUT/out/rows --shard-size 3 --quiet"),
    "scenes": Command("scenes IN/source OUT/out/scenes --images 12 --size 48 --shard-size 4 --quiet"),
    "convert": Command("convert IN/original.safetensors OUT/out/ram --tokenizer IN/tokenizer"),
    "clip-on-scenes": Command(
        "pretrain clip-on-scenes --config IN/scenes.yaml --source IN/source --output_dir OUT/out/clip",
        differs=_LOG,
        grows=_TRAINING,
    ),
    "photographs": Command(
        "pretrain photographs IN/photos/a-scenes.parquet IN/photos/b-singles.parquet --output_dir OUT/out/photographs"
    ),
    "teacher": Command(
        "pretrain teacher IN/photographs --output_dir OUT/out/teacher",
        grows=("maps.npy", "progress.json"),
    ),
    "clip-on-photographs": Command(
        "pretrain clip-on-photographs --config IN/photos.yaml --output_dir OUT/out/clip", differs=_LOG, grows=_TRAINING
    ),
    "multi-labels": Command(
        "pretrain multi-labels IN/photos/a-scenes.parquet --words IN/photos --output_dir OUT/out/rows"
    ),
    "bundle": Command("pretrain bundle IN/ram OUT/out/bundle"),
}


def words_of(command: Command, inputs: Path, outputs: Path, *, resumed: bool = False) -> list[str]:
    words = [*command.words.split(), *(command.resume.split() if resumed else [])]
    return [word.replace("IN/", f"{inputs}/").replace("OUT/", f"{outputs}/") for word in words]


def write_inputs(folder: Path, model, processor, clip_options: dict) -> None:
    """All that the commands read; `clip_options` are those of a training on rows that are there."""
    from ram_hf.pretraining.photographs import decode_photographs
    from ram_hf.pretraining.teacher import compute_teacher_features
    from tests.pretraining.drawn_photographs import ColourTeacher

    for part in (model, processor):
        part.save_pretrained(folder / "ram")
    processor.tokenizer.save_pretrained(folder / "tokenizer")
    _write_referenced(folder / "referenced", model, processor)
    labels = [*LABELS, *(f"{'a thing of many words ' * 2}{number}" for number in range(36))]
    (folder / "labels.txt").write_text("\n".join(labels))
    images = save_photographs(folder / "images", 8, size=(64, 48))
    names = [f"{path.name},{LABELS[number % 2]}" for number, path in enumerate(images)]
    (folder / "table.csv").write_text("\n".join(["path,labels", *names]))
    _write_rows(folder / "rows", images)
    write_bare_source(folder / "source")
    (folder / "photos").mkdir()
    files = write_files(folder / "photos")
    write_words(folder / "photos")
    photographs = decode_photographs(files, folder / "photographs", size=112)
    compute_teacher_features(photographs, ColourTeacher(), folder / "teacher", directions=3, fitted_on=32)
    _write_configurations(folder, clip_options)


def _write_referenced(folder: Path, model, processor) -> None:
    model = copy.deepcopy(model)
    with torch.no_grad():
        model.set_reference_labels(LABELS, model.get_label_features(**processor(labels=LABELS)))
    model.save_pretrained(folder)
    processor.save_pretrained(folder)


def _write_rows(folder: Path, images: list[Path]) -> None:
    folder.mkdir()
    lines = [{"file_name": path.name, "labels": [LABELS[number % 2]]} for number, path in enumerate(images)]
    for path in images:
        Image.open(path).save(folder / path.name)
    (folder / "metadata.jsonl").write_text("\n".join(map(json.dumps, lines)))


def _write_configurations(folder: Path, clip_options: dict) -> None:
    train = {**clip_options, "max_steps": 6, "save_steps": 2, "keep_checkpoints": 1, "shuffle_buffer": 4}
    stages = [{"steps": 3, "image_size": 32}]
    scenes = {**SCENE_OPTIONS, "sizes": SCENE_SIZES, "stages": stages, "save_steps": 1, "source": "", "output_dir": ""}
    photos = {
        **{"photographs": str(folder / "photographs"), "teacher": str(folder / "teacher")},
        **{"words": str(folder / "photos"), "output_dir": "", "total_steps": 3, "decay_steps": 1},
        **{"stages": [{"from_step": 0, "image_size": 16}], "sizes": PHOTO_SIZES, "loss_weights": WEIGHTS},
        **{"held_back_every": 4, "batch_size": 12, "names_at_once": 5, "vocab_size": 560, "warmup_steps": 1},
        **{"mixed_precision": "no", "compile": False, "eval_steps": 100, "save_minutes": 0.0, "log_steps": 1},
    }
    for name, content in (("train", train), ("scenes", scenes), ("photos", photos)):
        (folder / f"{name}.yaml").write_text(yaml.safe_dump(content))


def original_checkpoint(parity: Path, num_tokens: int) -> dict[str, torch.Tensor]:
    """Of the published code's form, with a vocabulary of so many tokens."""
    from safetensors.torch import load_file

    tensors = load_file(parity / "tiny-checkpoint.safetensors")
    for name in ("clip_model.token_embedding.weight", "clip_model_teacher.token_embedding.weight"):
        tensors[name] = torch.randn(num_tokens, 64, generator=torch.Generator().manual_seed(0))
    return tensors
