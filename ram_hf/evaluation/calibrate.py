"""Calibration of a model by its name: loaded, fitted on rows that are opened for it, and written."""

import copy
import importlib.util
import json
import os
from collections.abc import Iterable, Iterator, Sequence, Sized
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from ..atomic import locked, locked_folder, refuse_used_folder, whole_files, whole_folder, write_whole
from ..changed_model import write_changed_model
from ..data.batches import EvaluationInputs, PrepareRow, evaluation_batches
from ..data.label_census import LabelCensus, check_tally, refuse_nothing
from ..data.label_set import LabelList, LabelSet
from ..data.sources import AnyDataset, DatasetSpec, RowReader
from ..data.transforms import EvalTransform
from ..model.checkpoint_kind import kind_of_checkpoint
from ..model.common_nouns import COMMON_NOUNS
from ..model.loaded_weights import remove_stale_weights
from ..model.modeling_ram import RamModel
from ..model.processing_ram import RamProcessor
from ..model.run_record import CALIBRATION_DIAGRAM, CALIBRATION_FILE, read_run
from ..pretrained import load_model, split_revision
from .calibration import fit_calibration
from .calibration_report import draw_diagram, report_content, report_text
from .held_out import Reference, collect_evidence, deal_labels

if TYPE_CHECKING:
    from tqdm import tqdm


def calibrate(
    model: str,
    rows: DatasetSpec,
    *,
    labels: LabelList = (),
    label_template: str | Sequence[str] | None = None,
    reference: LabelList | None = None,
    output: str | os.PathLike[str] | None = None,
    folds: int = 5,
    seed: int = 0,
    batch_size: int = 32,
    num_workers: int = 4,
    max_images: int | None = None,
    skip_broken: bool = False,
    show_progress: bool = False,
) -> str:
    """Fit what makes a model's evidence a probability, on labels left out of its reference in turn, and write it.

    Args:
        model: a RAM or a CLIP (training-free), Hub id or folder.
        rows: to fit to; the probabilities are right for images like these.
        labels: to fit by; without them all labels that the dataset's features know.
        label_template: sentence around a label, or several, or a set's name, which becomes that of the processor that
            is written; None for its own.
        reference: labels that images are read with. Without them those that the model has already; else those that it
            was trained on, or, of one without training, [`COMMON_NOUNS`].
        output: folder to write the calibrated model to, new or empty; without it the folder `model` itself changes.
        folds: turns in which the labels are left out.
        seed: of the chance that deals labels into folds.
        batch_size: images of one forward pass.
        num_workers: threads that decode.
        max_images: fit to the first so many rows.
        skip_broken: pass over rows that cannot be read.
        show_progress: show a bar on stderr.

    Returns:
        What was found, in words.

    Raises:
        BlockingIOError: when another run writes into that folder.
        FileExistsError: when `output` holds something.
        FileNotFoundError: when there is no such model or dataset.
        ValueError: when there is nowhere to write to, no label list, too little to fit to (fewer than 100 labels in
            the images, or none of a fold), or something does not fit the dataset.
    """
    _check_numbers(
        folds=(folds, 2), batch_size=(batch_size, 1), num_workers=(num_workers, 0), max_images=(max_images, 1)
    )
    target = _target(model, output)
    with locked(target) if output is not None else locked_folder(target):
        dataset, reader = rows.open()
        label_set = _label_set(labels, reader)
        reader.check_labels(label_set.names)
        if (counted := rows.counted_before(label_set.names)) is not None:
            refuse_nothing(counted, purpose="calibrate by")  # before minutes of work
        ram, processor = load_model(model)
        if label_template is not None:
            processor.label_template = label_template if isinstance(label_template, str) else list(label_template)
        unused = copy.deepcopy(processor)  # use leaves its padding in a tokenizer
        ram.to(_device())
        full = _reference(ram, processor, model, reference, label_set, keeps_features=label_template is None)
        census = LabelCensus(label_set.names)
        passed_over: list[str] = []
        batches = evaluation_batches(
            dataset if max_images is None else dataset.take(max_images),
            PrepareRow(reader, EvalTransform.of(processor), label_names=label_set.names),
            batch_size=batch_size,
            num_workers=num_workers,
            passed_over=passed_over if skip_broken else None,
            census=census,
        )
        with closing(batches), _bar(dataset, max_images, show=show_progress) as bar:
            evidence = collect_evidence(
                ram,
                _counted(batches, bar),
                label_names=label_set.names,
                label_features=_encode(ram, processor, label_set.names),
                reference=full,
                folds=deal_labels(len(label_set), num_folds=folds, seed=seed),
            )
        check_tally(census.tally(), purpose="calibrate by")
        fit = fit_calibration(evidence)
        ram.set_reference_labels(*full)
        ram.config.calibration = fit.calibration.to_dict()
        content = report_content(fit, num_reference_labels=len(full.names), passed_over=len(passed_over))
        _write(ram, unused, model, target, content, in_place=output is None)
    return report_text(content)


def _target(model: str, output: str | os.PathLike[str] | None) -> Path:
    """The folder to write, checked before minutes of work."""
    if int(os.environ.get("WORLD_SIZE", "1")) > 1:
        raise ValueError("Calibrating is done by one process: start it without `accelerate launch`.")
    if output is not None:
        refuse_used_folder(output)
        return Path(output)
    folder = Path(model).expanduser()
    if not folder.is_dir():
        raise ValueError(f"{model!r} is no folder that could be written to: name one with `--output FOLDER`.")
    if kind_of_checkpoint(folder) == "clip":
        raise ValueError(f"{model!r} holds a CLIP, which would be lost in its place: name a folder with `--output`.")
    return folder


def _label_set(labels: LabelList, reader: RowReader) -> LabelSet:
    if labels:
        return LabelSet.from_options(labels)
    if reader.label_names is None:
        raise ValueError("The labels of this dataset are free strings: name a label file with `--labels`.")
    return LabelSet(tuple(reader.label_names))


def _reference(
    ram: RamModel,
    processor: RamProcessor,
    model: str,
    wanted: LabelList | None,
    label_set: LabelSet,
    *,
    keeps_features: bool,
) -> Reference:
    """Reference labels; with `keeps_features` those that the model has are of the right sentences already."""
    if wanted is not None:
        names: Sequence[str] = LabelSet.from_options(wanted).names
    elif ram.reference is not None:
        names = list(ram.config.reference_labels or ())
        if keeps_features:
            return Reference(names, ram.reference.features.clone())
    elif seen := read_run(_source(model)).seen_labels:
        names = seen
    else:  # without training, when adapters are missing or add nothing, it has no labels of its own
        names = label_set.names if ram.has_trained_adapters else COMMON_NOUNS
    return Reference(list(names), _encode(ram, processor, names))


@torch.no_grad()
def _encode(ram: RamModel, processor: RamProcessor, names: Sequence[str]) -> torch.Tensor:
    return ram.get_label_features(processor(labels=list(names))["input_ids"].to(ram.device))


def _bar(dataset: AnyDataset, max_images: int | None, *, show: bool) -> "tqdm":
    from tqdm import tqdm

    total = len(dataset) if isinstance(dataset, Sized) else None
    total = min((number for number in (total, max_images) if number is not None), default=None)
    return tqdm(total=total, unit=" pictures", disable=not show)


def _counted(batches: Iterable[tuple[int, EvaluationInputs]], bar: "tqdm") -> Iterator[tuple[int, EvaluationInputs]]:
    for number, batch in batches:
        yield number, batch
        bar.update(len(batch["labels"]))


def _write(
    ram: RamModel, processor: RamProcessor, model: str, target: Path, content: dict[str, Any], *, in_place: bool
) -> None:
    """Model, processor, report and diagram, whole."""
    with whole_files(target) if in_place else whole_folder(target) as unfinished:
        write_changed_model(unfinished, ram, processor, source=_source(model), with_words=not in_place)
        write_whole(unfinished / CALIBRATION_FILE, json.dumps(content, indent=1) + "\n")
        if importlib.util.find_spec("matplotlib") is not None:
            draw_diagram(content, unfinished / CALIBRATION_DIAGRAM)
    if in_place:
        remove_stale_weights(target, None)


def _source(model: str) -> str:
    return os.fspath(split_revision(os.path.expanduser(model), None)[0])


def _device() -> torch.device:
    device = torch.accelerator.current_accelerator() if torch.accelerator.is_available() else None
    return device or torch.device("cpu")


def _check_numbers(**numbers: tuple[int | None, int]) -> None:
    for name, (value, least) in numbers.items():
        if value is not None and value < least:
            raise ValueError(f"`{name}` must be at least {least}, got {value}.")


__all__ = ["calibrate"]
