"""Scenes and what is said of them, composed as training goes: batches to train a CLIP from scratch on."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import IterableDataset, get_worker_info
from transformers import CLIPTokenizer

from ..scenes.captions import write_caption
from ..scenes.draws import Draws
from ..scenes.renderer import SceneRenderer
from .clip_tokenizer import learn_clip_tokenizer

_TWO_NAMED = 0.2  # share of the captions that name a second thing, where there is one
_PLAIN_SENTENCES = 0.5  # share of the label sentences that are the template; the rest are captions, with synonyms


@dataclass
class PairBatch:
    """B images with a caption each, and a sentence for each of the L labels.

    Attributes:
        pixels: shape (B, 3, H, W), uint8.
        input_ids: the B captions and then the L label sentences, shape (B + L, T).
        named: 1 where the caption of an image names the label, shape (B, L).
    """

    pixels: Tensor
    input_ids: Tensor
    named: Tensor


class ScenePairs(IterableDataset):
    """Endless batches of captioned scenes; batch `index` follows from the seed and the options alone.

    Captions are like those of the web: they name the largest thing, one in five the second largest too, and never the
    rest. Give it to a `DataLoader` with `batch_size=None`, with any number of workers: the order stays.

    Args:
        renderer: composes the scenes; its concepts are the labels.
        tokenizer: of the CLIP to train.
        label_template: sentence for a label, with `{label}`.
        batch_size: B.
        text_length: T, to which sentences are padded or cut, so that a compiled model sees one shape.
        scene_share: share of the images that hold several objects; the others hold one.
        objects: smallest and largest number of objects of those.
        object_sizes: longer side of single objects as a share of the image's; None for the renderer's own.
        seed: of all batches.
        start: index of the first batch.
    """

    def __init__(
        self,
        renderer: SceneRenderer,
        tokenizer: CLIPTokenizer,
        *,
        label_template: str,
        batch_size: int,
        text_length: int,
        scene_share: float = 0.0,
        objects: tuple[int, int] = (2, 4),
        object_sizes: tuple[float, float] | None = None,
        seed: int = 0,
        start: int = 0,
    ):
        self.renderer, self.tokenizer, self.label_template = renderer, tokenizer, label_template
        self.batch_size, self.text_length = batch_size, text_length
        self.scene_share, self.objects, self.object_sizes = scene_share, objects, object_sizes
        self.seed, self.start = seed, start
        self._names = [concept.names for concept in renderer.parts.concepts]
        self._columns = {names[0]: column for column, names in enumerate(self._names)}

    def __iter__(self) -> Iterator[PairBatch]:
        worker = get_worker_info()
        index, stride = (self.start, 1) if worker is None else (self.start + worker.id, worker.num_workers)
        while True:
            yield self.batch(index)
            index += stride

    def batch(self, index: int) -> PairBatch:
        """Compose batch number `index`."""
        rng = np.random.default_rng([self.seed, index])
        draws = Draws(rng)
        size = self.renderer.size
        pixels = np.empty((self.batch_size, size, size, 3), dtype=np.uint8)
        named = torch.zeros(self.batch_size, len(self._names))
        sentences = []
        for number in range(self.batch_size):
            if draws.chance(self.scene_share):
                scene = self.renderer.render(rng, objects=self.objects)
            else:
                scene = self.renderer.render(rng, objects=(1, 1), object_sizes=self.object_sizes)
            pixels[number] = scene.image
            columns = [self._columns[label] for label in scene.labels[: 2 if draws.chance(_TWO_NAMED) else 1]]
            named[number, columns] = 1
            sentences.append(write_caption([self._names[column] for column in columns], draws))
        for names in self._names:
            plain = draws.chance(_PLAIN_SENTENCES)
            sentences.append(self.label_template.format(label=names[0]) if plain else write_caption([names], draws))
        input_ids = self.tokenizer(
            sentences, padding="max_length", truncation=True, max_length=self.text_length, return_tensors="pt"
        )["input_ids"]
        return PairBatch(torch.from_numpy(pixels).permute(0, 3, 1, 2), input_ids, named)


def train_tokenizer(
    renderer: SceneRenderer, *, vocab_size: int, captions: int = 30_000, seed: int = 0
) -> CLIPTokenizer:
    """Learn a byte-pair vocabulary, of CLIP's form, from captions that a renderer's concepts would get.

    Args:
        renderer: its concepts are what the captions name.
        vocab_size: see [`learn_clip_tokenizer`].
        captions: number of captions to learn from.
        seed: of the captions.

    Raises:
        ValueError: when the vocabulary is too small.
    """
    draws = Draws(np.random.default_rng(seed))
    names = [concept.names for concept in renderer.parts.concepts]
    most = min(2, len(names))
    texts = (
        write_caption([names[number] for number in draws.sample(len(names), draws.integer(1, most))], draws)
        for _ in range(captions)
    )
    return learn_clip_tokenizer(texts, vocab_size=vocab_size)


__all__ = ["PairBatch", "ScenePairs", "train_tokenizer"]
