"""What the positives of each label count for in the loss: rare labels more than frequent ones."""

import math
import os
from collections.abc import Callable, Mapping
from pathlib import Path

import torch
from accelerate import Accelerator
from accelerate.utils import broadcast_object_list
from torch import Tensor

from ..data.label_census import Tally
from ..data.label_set import LabelSet
from ..model.suggestions import did_you_mean
from ..text_files import read_text
from .arguments import BALANCED


def make_label_weights(
    option: str | None, label_set: LabelSet, known: Tally | None, count: Callable[[], Tally], accelerator: Accelerator
) -> tuple[Tensor | None, Tally | None]:
    """The weights that `label_weights` asks for, and how often the labels come as far as that is known.

    Args:
        option: of the run's arguments.
        label_set: whose seen labels have weights.
        known: how often they come, where that has been counted.
        count: counts them; called on the main process, and only if the weights follow from it.
        accelerator: of the running processes.

    Returns:
        Weights of shape (L,), None where all count alike; and the counts.

    Raises:
        FileNotFoundError, ValueError: see [`read_label_weights`].
    """
    if option is None:
        return None, known
    if option != BALANCED:
        return torch.tensor(read_label_weights(option, label_set)), known
    if known is None:
        told = [count() if accelerator.is_main_process else None]
        known = broadcast_object_list(told)[0]
    return torch.tensor(balanced_weights(known.num_positives)), known


def balanced_weights(num_positives: Mapping[str, int]) -> list[float]:
    """`w_j = m / n_j`, with n_j positives of label j and m their mean over the labels that have any.

    So `n_j w_j` is the same for each label, and the weights of all positives sum to their number. A label without a
    positive, whose weight is used nowhere, has 1.
    """
    counts = [count for count in num_positives.values() if count]
    mean = sum(counts) / max(len(counts), 1)
    return [mean / count if count else 1.0 for count in num_positives.values()]


def read_label_weights(file: str | os.PathLike, label_set: LabelSet) -> list[float]:
    """Read a label, a tab and its weight a line; blank lines and those that begin with `#` are skipped.

    Returns:
        A weight for each seen label; 1 for those that the file does not name.

    Raises:
        FileNotFoundError: when there is no such file.
        ValueError: when a line has another form, its label is not seen or comes twice, or its weight is not a finite
            number above 0.
    """
    path = Path(file).expanduser()
    if not path.is_file():
        raise FileNotFoundError(f"There is no file {str(path)!r} of `label_weights`, which may also be {BALANCED!r}.")
    weights: dict[str, float] = {}
    for number, line in enumerate(read_text(path).splitlines(), start=1):
        if not line.strip() or line.startswith("#"):
            continue
        name, _, text = (part.strip() for part in line.partition("\t"))
        place = f"{path}, line {number}"
        if name not in label_set.seen:
            raise ValueError(f"{place}: {name!r} is no seen label. {did_you_mean(name, label_set.seen)}")
        if name in weights:
            raise ValueError(f"{place}: the label {name!r} comes twice.")
        try:
            weights[name] = float(text)
        except ValueError:
            raise ValueError(f"{place}: expected a label, a tab and a number, got {line!r}.") from None
        if not (math.isfinite(weights[name]) and weights[name] > 0):
            raise ValueError(f"{place}: a weight must be finite and above 0, got {text!r}.")
    return [weights.get(name, 1.0) for name in label_set.seen]


__all__ = ["balanced_weights", "make_label_weights", "read_label_weights"]
