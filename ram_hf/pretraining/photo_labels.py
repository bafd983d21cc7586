"""All names that photographs are called by: their own labels, what those are a kind of, and the teacher's classes."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from .photographs import Photographs


@dataclass
class LabelBank:
    """L names, and which of them fit which of N photographs.

    Attributes:
        names: the E exact labels first, then the others.
        num_exact: E.
        named: for each photograph the numbers of its names, shape (names of it,).
        exact: 1 present, 0 absent, -1 unknown, shape (N, E), int8.
        class_names: 1 where a class of the teacher goes by the name, shape (classes, L).
    """

    names: list[str]
    num_exact: int
    named: list[Tensor]
    exact: Tensor
    class_names: Tensor


def make_label_bank(
    photographs: Photographs,
    *,
    exact_labels: Sequence[str],
    parents: Mapping[str, Sequence[str]],
    class_names: Sequence[str],
) -> LabelBank:
    """Collect the names, in lower case as a CLIP reads them: `Beagle` and `beagle` are one.

    Args:
        photographs: with their labels, in lower case.
        exact_labels: labels that are complete where `labels_exact` is given.
        parents: what a thing is a kind of, by its name: a chihuahua is a dog and an animal.
        class_names: of the teacher's classes, in order.
    """
    class_names = [name.lower() for name in class_names]
    parents = {name.lower(): [parent.lower() for parent in above] for name, above in parents.items()}
    found = {name for labels in photographs.labels for name in labels} | set(class_names)
    found |= {parent for name in found for parent in parents.get(name, ())}
    names = [*exact_labels, *sorted(found - set(exact_labels))]
    numbers = {name: number for number, name in enumerate(names)}

    def all_names(name: str) -> list[int]:
        return [numbers[name], *(numbers[parent] for parent in parents.get(name, ()))]

    exact = torch.full((len(photographs), len(exact_labels)), -1, dtype=torch.int8)
    named = []
    for row, labels in enumerate(photographs.labels):
        named.append(torch.tensor(sorted({number for name in labels for number in all_names(name)}), dtype=torch.long))
        complete = photographs.labels_exact[row]
        if complete is not None:
            exact[row] = torch.tensor([name in complete for name in exact_labels], dtype=torch.int8)
    goes_by = torch.zeros(len(class_names), len(names))
    for row, name in enumerate(class_names):
        goes_by[row, all_names(name)] = 1
    return LabelBank(names, len(exact_labels), named, exact, goes_by)


__all__ = ["LabelBank", "make_label_bank"]
