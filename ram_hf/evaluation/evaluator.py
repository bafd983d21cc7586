"""Evaluation of a model: on unseen labels alone, on seen and unseen ones together, in one process or several."""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor, nn

from ..model.refine import refine_scores
from .pointing import PointingGame, pointing_hits
from .report import EvaluationReport, evaluate_scores

if TYPE_CHECKING:
    from accelerate import Accelerator

    from ..model.modeling_ram import RamModel, RamOutput


def evaluation_settings(num_labels: int, *, unseen: Sequence[int] = ()) -> dict[str, list[int]]:
    """Which labels are ranked against each other.

    Zero-shot learning (`zsl`) ranks the unseen labels alone; generalised zero-shot learning (`gzsl`) ranks all labels,
    seen and unseen, in one list. Without unseen labels there is one setting, `plain`, with all of them.

    Args:
        num_labels: number of all labels.
        unseen: indices of the labels that training never saw.

    Returns:
        Label indices by setting, for [`evaluate_model`].

    Raises:
        ValueError: when an index is repeated or out of range.
    """
    _check_indices("unseen", unseen, num_labels)
    everything = list(range(num_labels))
    return {"zsl": sorted(unseen), "gzsl": everything} if len(unseen) else {"plain": everything}


@dataclass
class _Findings:
    """What one process has found: scores by batch, and the games, which are sums and know no order."""

    targets: dict[int, np.ndarray] = field(default_factory=dict)  # batch index -> (B, L)
    scores: dict[int, dict[str, np.ndarray]] = field(default_factory=dict)  # batch index -> setting -> (B, labels)
    probabilities: dict[int, np.ndarray] = field(default_factory=dict)  # batch index -> (B, L)
    games: dict[str, dict[str, PointingGame]] = field(default_factory=lambda: defaultdict(dict))  # setting -> columns


def evaluate_model(
    model: "RamModel | nn.Module",
    batches: Iterable[tuple[int, Mapping[str, Any]]],
    *,
    label_names: Sequence[str],
    label_features: Tensor,
    settings: Mapping[str, Sequence[int]],
    ks: Sequence[int] = (3, 5),
    refine: int | None = None,
    accelerator: "Accelerator | None" = None,
) -> EvaluationReport:
    """Run a model over images, once for each setting, and judge how it ranks the labels.

    Scores depend on the list of labels they are computed for, so each setting has its own forward pass on its labels
    alone. Probabilities, of a model that is calibrated, do not, and are computed once. The model runs in evaluation
    mode without gradients; the modes of its modules are put back afterwards.

    With several processes, each passes its own share of the batches and all get the same report. What they found is
    gathered once, at the end, and put into the order of the batch indices: the numbers are those of a single process
    with the same batches, to the last digit.

    Args:
        model: a [`RamModel`], prepared by the accelerator or not.
        batches: pairs of the index of a batch, unique over all processes, and the batch:

            - `pixel_values`: shape (B, 3, H, W);
            - `labels`: 1 where the label is in the image, 0 where not, -1 where unknown, over all `label_names`,
              shape (B, L);
            - `boxes`, optional: for each image a mapping from label name to its boxes [x0, y0, x1, y1] in pixels of
              the original image, or None; with them the pointing game is played, by the columns of the transport
              plan and by those of the similarity of patches and labels;
            - `sizes`, with `boxes`: for each image its original width and height, in pixels, which the
              model saw squashed to a square.
        label_names: all L labels.
        label_features: their features, from `RamModel.get_label_features`, shape (L, D).
        settings: indices of the labels to rank against each other, by name; see [`evaluation_settings`].
        ks: how many labels are predicted for each image; a setting with fewer labels than a k goes without it.
        refine: how many of an image's best labels to judge again, see [`look_again`]; None for none. Probabilities
            stay as they are.
        accelerator: of the running processes; None for a single one.

    Returns:
        [`EvaluationReport`], equal on all processes.

    Raises:
        ValueError: when there are no batches, an index comes twice, an input does not fit the labels, a `k` is below
            1, boxes name a label that is not in `label_names`, a target is none of 1, 0 and -1,
            or a score is NaN.
    """
    _check_inputs(label_names, label_features, settings, ks)
    if accelerator is not None:
        model = accelerator.unwrap_model(model)
    device = next(model.parameters()).device
    features = {name: label_features[list(indices)].to(device) for name, indices in settings.items()}
    names = {setting: [label_names[index] for index in indices] for setting, indices in settings.items()}

    found = _Findings()
    calibration: Any = model.config.calibration if getattr(model, "is_calibrated", False) else None
    plain: dict[str, bool] = {} if calibration is None else {"output_probabilities": False}  # they come by themselves
    with _evaluation_mode(model), torch.no_grad():
        for index, batch in batches:
            _check_batch(index, batch, label_names, found)
            pixel_values, boxes = batch["pixel_values"].to(device), batch.get("boxes")
            found.targets[index] = _targets(index, batch["labels"])
            found.scores[index] = {}
            for setting in settings:
                output = model(
                    pixel_values,
                    label_features=features[setting],
                    output_transport_plan=boxes is not None or refine is not None,
                    **plain,
                )
                scores = output.scores
                if refine is not None:
                    scores = refine_scores(model, pixel_values, features[setting], output, num_labels=refine)
                found.scores[index][setting] = scores.float().cpu().numpy()
                if boxes is not None:
                    grid = model.config.patch_grid(*pixel_values.shape[-2:])
                    _play(found.games[setting], output, boxes, batch["sizes"], grid, names[setting])
            if calibration is not None:
                judged: Any = model.score_stored(model.encode_images(pixel_values), label_features.to(device))
                found.probabilities[index] = judged.probabilities.cpu().numpy()

    found = _merge([found] if accelerator is None else _gather(found))
    order = sorted(found.targets)
    if not order:
        raise ValueError("There is nothing to evaluate: no image came in `batches`, or none of them could be read.")
    targets = np.concatenate([found.targets[index] for index in order])
    return EvaluationReport(
        {
            setting: evaluate_scores(
                np.concatenate([found.scores[index][setting] for index in order]),
                targets[:, list(indices)],
                label_names=names[setting],
                ks=[k for k in ks if k <= len(indices)],
                pointing=found.games.get(setting),
                probabilities=_columns(found.probabilities, order, indices),
                **({} if calibration is None else {"threshold": calibration["threshold"]}),
            )
            for setting, indices in settings.items()
        }
    )


def _columns(
    probabilities: Mapping[int, np.ndarray], order: Sequence[int], indices: Sequence[int]
) -> np.ndarray | None:
    if not probabilities:
        return None
    return np.concatenate([probabilities[index][:, list(indices)] for index in order])


def _targets(index: int, labels: Tensor) -> np.ndarray:
    targets = labels.cpu().numpy()
    small = targets.astype(np.int8)  # they are kept for the whole data set
    if (small != targets).any():
        raise ValueError(f"`labels` of batch {index} must be 1, 0 or -1, got {targets[small != targets][0]}.")
    return small


@contextmanager
def _evaluation_mode(model: nn.Module) -> Iterator[None]:
    # `model.train()` would put frozen parts that their owner keeps in evaluation mode into training mode.
    in_training = [module for module in model.modules() if module.training]
    model.eval()
    try:
        yield
    finally:
        for module in in_training:
            module.training = True


def _play(
    games: dict[str, PointingGame],
    output: "RamOutput",
    boxes: Sequence[Mapping[str, Sequence[Sequence[float]]] | None],
    sizes: Sequence[tuple[int, int]],
    grid: tuple[int, int],
    label_names: Sequence[str],
) -> None:
    """Play the pointing game on each image of a batch that has boxes."""
    for image, (image_boxes, size) in enumerate(zip(boxes, sizes, strict=True)):
        if not image_boxes:
            continue
        columns_by_name = {
            "transport_plan": output["transport_plan"][image],  # (P, L)
            "similarity": output["patch_embeds"][image] @ output["label_embeds"].T,  # (P, L)
        }
        for name, columns in columns_by_name.items():
            hits, counted = pointing_hits(columns, grid=grid, size=size, boxes=image_boxes, label_names=label_names)
            games.setdefault(name, PointingGame(len(label_names))).update(hits, counted)


def _gather(found: _Findings) -> list[_Findings]:
    from accelerate.utils import gather_object

    # Not `gather_for_metrics`, which cuts what it takes for the padding of the last batch.
    return gather_object([found])


def _merge(findings: Sequence[_Findings]) -> _Findings:
    merged = _Findings()
    for found in findings:
        repeated = sorted(merged.targets.keys() & found.targets.keys())
        if repeated:
            raise ValueError(
                f"Batch indices {repeated[:5]} came from more than one process. Number the batches over all "
                "processes, and let each process pass its own."
            )
        merged.targets.update(found.targets)
        merged.scores.update(found.scores)
        merged.probabilities.update(found.probabilities)
        for setting, games in found.games.items():
            for name, game in games.items():
                merged.games[setting].setdefault(name, PointingGame(len(game.total))).update(game.hits, game.total)
    return merged


# --- the public border -----------------------------------------------------------------------------------------------


def _check_indices(name: str, indices: Sequence[int], num_labels: int) -> None:
    if len(set(indices)) != len(indices) or any(not 0 <= index < num_labels for index in indices):
        raise ValueError(f"`{name}` must hold distinct label indices from 0 to {num_labels - 1}, got {list(indices)}.")


def _check_inputs(
    label_names: Sequence[str], label_features: Tensor, settings: Mapping[str, Sequence[int]], ks: Sequence[int]
) -> None:
    if label_features.dim() != 2 or len(label_features) != len(label_names):
        raise ValueError(
            f"`label_features` must have shape (labels, width) for the {len(label_names)} `label_names`, got "
            f"{tuple(label_features.shape)}."
        )
    if len(set(label_names)) != len(label_names):
        repeated = sorted({name for name in label_names if list(label_names).count(name) > 1})
        raise ValueError(f"`label_names` must be distinct, but {repeated[:5]} come more than once.")
    if not settings:
        raise ValueError("`settings` is empty; `evaluation_settings` makes them.")
    for name, indices in settings.items():
        _check_indices(f"settings[{name!r}]", indices, len(label_names))
    if not ks or min(ks) < 1:
        raise ValueError(f"`ks` must be numbers from 1 on, got {list(ks)}.")


def _check_batch(index: int, batch: Mapping[str, Any], label_names: Sequence[str], found: _Findings) -> None:
    if index in found.targets:
        raise ValueError(f"Batch index {index} came twice: every batch needs an index of its own.")
    num_images, labels = len(batch["pixel_values"]), batch["labels"]
    if tuple(labels.shape) != (num_images, len(label_names)):
        raise ValueError(
            f"`labels` of batch {index} must have shape (images, all label names) = {(num_images, len(label_names))}, "
            f"got {tuple(labels.shape)}."
        )
    boxes = batch.get("boxes")
    if boxes is None:
        return
    sizes = batch.get("sizes")
    if len(boxes) != num_images or sizes is None or len(sizes) != num_images:
        raise ValueError(
            f"`boxes` and `sizes` (width and height of each original image) of batch {index} must have one entry "
            f"for each of its {num_images} images, got {len(boxes)} and {None if sizes is None else len(sizes)}."
        )
    unknown = {name for image_boxes in boxes for name in image_boxes or ()}.difference(label_names)
    if unknown:
        raise ValueError(f"`boxes` of batch {index} name labels that are not in `label_names`: {sorted(unknown)[:5]}.")


__all__ = ["evaluate_model", "evaluation_settings"]
