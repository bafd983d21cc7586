"""What a model makes of a vocabulary: names that it cuts or takes for one another, and labels that it never finds."""

import itertools
from collections.abc import Sequence
from contextlib import closing
from typing import NamedTuple

import numpy as np

from ..model.modeling_ram import RamModel
from ..model.processing_ram import RamProcessor
from .near_labels import EVERYDAY_WORDS, directions, near_pairs
from .outputs import TagOptions
from .reader import num_workers_for, read_ahead
from .tagger import Tagger, encode_names
from .vocabulary import Vocabulary


class NeverFound(NamedTuple):
    """A label that no image has.

    Args:
        label: its name.
        score: the highest that an image gives it.
        path: of that image.
    """

    label: str
    score: float
    path: str


class Search(NamedTuple):
    """What came of looking for labels in images.

    Args:
        never: labels that were not found, in their order.
        num_images: how many images were looked at.
        errors: paths of images that cannot be read, and why.
    """

    never: list[NeverFound]
    num_images: int
    errors: dict[str, str]


def too_long(
    vocabulary: Vocabulary, processor: RamProcessor, label_template: str | Sequence[str] | None = None
) -> dict[str, int]:
    """Names to match that are longer than the text tower takes, with their numbers of tokens."""
    names = [name for each in vocabulary.candidates for name in each]
    counts = processor.count_tokens(names, label_template=label_template)
    return {name: count for name, count in zip(names, counts, strict=True) if count > processor.context_length}


def nearly_one(
    vocabulary: Vocabulary,
    model: RamModel,
    processor: RamProcessor,
    *,
    at_least: float,
    most: int,
    label_template: str | Sequence[str] | None = None,
    without: Sequence[str] = (),
) -> tuple[list[tuple[float, str, str]], int]:
    """Names to match of different labels that are nearly one to a model, the nearest first.

    Args:
        vocabulary: the labels.
        model: who reads them.
        processor: its processor.
        at_least: from which likeness on; see [`directions`].
        most: how many pairs to return.
        label_template: sentence around a name; None for the processor's own.
        without: names to leave out.

    Returns:
        Pairs, each with its likeness in [-1, 1] and the two names, and how many there are in all.
    """
    columns = enumerate(vocabulary.candidates)
    named = [(name, column) for column, names in columns for name in names if name not in without]
    if len(named) < 2:
        return [], 0
    features = encode_names(model, processor, [name for name, _ in named], label_template)
    everyday = encode_names(model, processor, EVERYDAY_WORDS, label_template)
    owners = [column for _, column in named]
    pairs, number = near_pairs(directions(features, everyday), owners, at_least=at_least, most=most)
    return [(pair.likeness, named[pair.first][0], named[pair.second][0]) for pair in pairs], number


def look_for_labels(tagger: Tagger, options: TagOptions, paths: Sequence[str], *, batch_size: int) -> Search:
    """Look for the labels of a vocabulary in images, as tagging them would.

    Args:
        tagger: the model with the vocabulary encoded.
        options: what decides on an image's tags.
        paths: of the images.
        batch_size: images that go through the model at once.
    """
    vocabulary = options.vocabulary
    highest = np.full(len(vocabulary.candidates), -1.0)
    where = np.zeros(len(vocabulary.candidates), dtype=np.int64)
    is_found = np.zeros(len(vocabulary.candidates), dtype=bool)
    errors: dict[str, str] = {}
    number = 0
    reading = read_ahead(paths, tagger.square, workers=num_workers_for(len(paths)), ahead=3 * batch_size)
    with closing(reading) as read:
        while batch := list(itertools.islice(read, batch_size)):
            images = [(index, image) for index, image in enumerate(batch, start=number) if image.pixels is not None]
            errors.update({image.path: image.error for image in batch if image.error is not None})
            number += len(batch)
            scores = tagger.score([image.pixels for _, image in images]) if images else ()
            for (index, _), of_image in zip(images, scores, strict=True):
                is_found[vocabulary.found(of_image, top_k=options.top_k, threshold=options.threshold)] = True
                where[of_image > highest] = index
                highest = np.maximum(highest, of_image)
    never = [
        NeverFound(label.name, float(highest[column]), paths[where[column]])
        for column, label in enumerate(vocabulary.matched)
        if not is_found[column] and vocabulary.gives(column)
    ]
    return Search(never, number - len(errors), errors)


__all__ = ["NeverFound", "Search", "look_for_labels", "nearly_one", "too_long"]
