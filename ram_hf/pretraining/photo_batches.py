"""Batches of photographs with all that a small CLIP is to learn of them; batch `index` follows from the seed alone."""

from collections.abc import Callable
from dataclasses import dataclass, fields

import numpy as np
import torch
from torch import Tensor
from transformers import CLIPTokenizer

from .photo_labels import LabelBank
from .photo_views import draw_views, epoch_rows
from .photographs import Photographs
from .teacher import TeacherFeatures

_TEMPLATES = ("A photo of a {label}.", "{label}", "a picture of a {label}", "a {label}", "a photo of the {label}.")
_SMALLEST_FOR_TEACHER = "tiny-imagenet"  # source of 64-px images, which the teacher reads too poorly


@dataclass
class PhotoBatch:
    """B photographs, the first C of them captioned, and T names.

    Attributes:
        pixels: in [-1, 1], shape (B, 3, S, S).
        maps: what the teacher sees in each patch, shape (B, rows, columns, K).
        name_ids: sentences with the names, the E exact labels first, shape (T, tokens).
        name_shares: how much of a photograph each name is, of its own labels and of the teacher's classes; a row sums
            to at most 1, shape (B, T).
        exact: 1 present, 0 absent, -1 unknown, shape (B, E).
        caption_ids: shape (C, tokens).
    """

    pixels: Tensor
    maps: Tensor
    name_ids: Tensor
    name_shares: Tensor
    exact: Tensor
    caption_ids: Tensor

    def to(self, device: torch.device) -> "PhotoBatch":
        """The same on another device."""
        return PhotoBatch(**{field.name: getattr(self, field.name).to(device) for field in fields(self)})


class PhotoBatches:
    """Compose batches.

    Args:
        photographs: decoded.
        features: of the teacher, row by row.
        bank: names of the photographs.
        rows: to train on.
        tokenizer: of the CLIP to train.
        batch_size: B.
        captioned_share: share of a batch that has captions; those photographs are in a shuffling of their own.
        names_at_once: T; the names of the batch are among them, and the rest are drawn.
        teacher_share: how much of a photograph's names is what the teacher says, the rest its own labels.
        name_length: tokens of a name's sentence.
        caption_length: tokens of a caption.
        patch_size: side of a patch, pixels.
        least_area: smallest share of a photograph that a crop keeps.
        seed: of all batches.
    """

    def __init__(
        self,
        photographs: Photographs,
        features: TeacherFeatures,
        bank: LabelBank,
        rows: np.ndarray,
        tokenizer: CLIPTokenizer,
        *,
        batch_size: int,
        captioned_share: float,
        names_at_once: int,
        teacher_share: float,
        name_length: int,
        caption_length: int,
        patch_size: int,
        least_area: float,
        seed: int,
    ):
        self.photographs, self.features, self.bank, self.tokenizer = photographs, features, bank, tokenizer
        self.num_captioned = round(batch_size * captioned_share)
        self.num_others = batch_size - self.num_captioned
        self.names_at_once = min(names_at_once, len(bank.names))
        self.name_length, self.caption_length = name_length, caption_length
        self.patch_size, self.least_area, self.seed = patch_size, least_area, seed
        has_caption = np.array([caption is not None for caption in photographs.captions])
        self._captioned = torch.from_numpy(rows[has_caption[rows]])
        self._others = torch.from_numpy(rows[~has_caption[rows]])
        for count, kind, found in (
            (self.num_captioned, "captioned", self._captioned),
            (self.num_others, "other", self._others),
        ):
            if count and not len(found):
                raise ValueError(f"{count} {kind} photographs of each batch are asked for, and there is none.")
        is_readable = np.array([not source.startswith(_SMALLEST_FOR_TEACHER) for source in photographs.sources])
        self._teacher_shares = torch.from_numpy(teacher_share * is_readable).float()
        self._read_classes = _class_reader(features)

    def batch(self, index: int, *, image_size: int) -> PhotoBatch:
        """Compose batch number `index` with images of a size."""
        generator = torch.Generator().manual_seed((self.seed * 1_000_003 + index) * 2 + 1)
        captioned = self._rows(self._captioned, index, self.num_captioned)
        rows = torch.cat([captioned, self._rows(self._others, index, self.num_others)])
        views = draw_views(
            torch.from_numpy(self.photographs.pixels[rows.numpy()]).permute(0, 3, 1, 2),
            torch.from_numpy(self.features.maps[rows.numpy()]),
            image_size=image_size,
            patch_size=self.patch_size,
            least_area=self.least_area,
            generator=generator,
        )
        names = self._draw_names(rows, generator)
        return PhotoBatch(
            pixels=views.pixels,
            maps=views.maps,
            name_ids=self._tokens(self._sentences(names, generator), self.name_length),
            name_shares=self._shares(rows, views.maps, names),
            exact=self.bank.exact[rows].float(),
            caption_ids=self._tokens(
                [self.photographs.captions[row] or "" for row in captioned.tolist()], self.caption_length
            ),
        )

    def _rows(self, rows: Tensor, index: int, count: int) -> Tensor:
        return epoch_rows(rows, index * count, count, seed=self.seed) if count else rows[:0]

    def _draw_names(self, rows: Tensor, generator: torch.Generator) -> Tensor:
        """The exact labels, the names of the batch, and others by chance, in this order."""
        priority = torch.rand(len(self.bank.names), generator=generator)
        priority[torch.cat([self.bank.named[row] for row in rows.tolist()])] += 1
        priority[: self.bank.num_exact] = torch.arange(self.bank.num_exact, 0, -1) + 2.0
        return priority.argsort(descending=True)[: self.names_at_once]

    def _sentences(self, names: Tensor, generator: torch.Generator) -> list[str]:
        # The first template is the processor's own, and half of all sentences.
        drawn = torch.randint(2 * len(_TEMPLATES) - 2, (len(names),), generator=generator).tolist()
        templates = [_TEMPLATES[max(0, number - len(_TEMPLATES) + 2)] for number in drawn]
        return [t.format(label=self.bank.names[n]) for t, n in zip(templates, names.tolist(), strict=True)]

    def _shares(self, rows: Tensor, maps: Tensor, names: Tensor) -> Tensor:
        own = torch.zeros(len(rows), len(self.bank.names))
        for number, row in enumerate(rows.tolist()):
            own[number, self.bank.named[row]] = 1 / max(1, len(self.bank.named[row]))
        of_classes = self.bank.class_names / self.bank.class_names.sum(dim=1, keepdim=True)
        taught = self._read_classes(maps) @ of_classes
        share = self._teacher_shares[rows, None]
        return ((1 - share) * own + share * taught)[:, names]

    def _tokens(self, texts: list[str], length: int) -> Tensor:
        if not texts:
            return torch.zeros(0, length, dtype=torch.long)
        found = self.tokenizer(texts, padding="max_length", truncation=True, max_length=length, return_tensors="pt")
        return found["input_ids"]


def _class_reader(features: TeacherFeatures) -> Callable[[Tensor], Tensor]:
    """What the teacher says of a crop: its classifier on the mean of the crop's map."""
    weight, bias = torch.from_numpy(features.class_weight), torch.from_numpy(features.class_bias)
    bias = bias + weight @ torch.from_numpy(features.mean)
    weight = weight @ torch.from_numpy(features.directions).T

    def read(maps: Tensor) -> Tensor:
        return (maps.mean(dim=(1, 2)) @ weight.T + bias).softmax(dim=-1)

    return read


__all__ = ["PhotoBatch", "PhotoBatches"]
