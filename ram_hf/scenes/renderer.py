"""Scenes: images composed from drawings and cut-out photographs, with labels, boxes and a caption.

`ram-hf scenes` writes them as a corpus (see [`ram_hf.scenes.corpus`]); training can compose them as it goes:

>>> renderer = SceneRenderer("shared/scenes", size=64, objects=(1, 3), captions="salient")
>>> scene = renderer.render(np.random.default_rng(0))
>>> scene.image.shape, scene.labels
((64, 64, 3), ['toilet'])
"""

import itertools
import math
import os
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, NamedTuple, get_args

import numpy as np
from PIL import Image, ImageChops

from ..data.label_set import LabelList
from .backgrounds import Backgrounds, recolour
from .captions import Captions, write_caption
from .draws import Draws
from .parts import Concept, Drawing, Licenses, Photos, Split, Stamps, read_parts

if TYPE_CHECKING:
    from ..data.sources import Box

Range = tuple[float, float]

VISIBLE_SHARE = 0.6  # of each object's pixels, those beyond the image's edge included
_OPAQUE = 64  # alpha from which a pixel counts as the object's, of 255
_MOST_OBJECTS = 12
_SMALLEST_SIZE = 32  # pixels, of an image
_SMALLEST_OBJECT = 12.0  # pixels, its longer side; below, drawings cannot be told apart
_ROTATION = 30.0  # degrees either way
_STAMP_SHARE = 0.5  # of the images of a concept that has drawings and stamps
_LEAST_CONTRAST = 25.0  # of an object to what it covers: mean difference of the colour channels, of 255
_PLACES = 5  # tried before an object is made smaller, and may then blend in
_SHRINKING = 0.85
_SHRINKS = 4  # before the scene is laid out anew
_LAYOUTS = 20


class Scene(NamedTuple):
    """An image and what is in it; objects in the order of their visible area, the largest first.

    Args:
        image: pixels, shape (size, size, 3), uint8, RGB.
        labels: one for each object, all different.
        boxes: of the visible pixels, {label, x0, y0, x1, y1} in whole pixels, half-open.
        caption: an English phrase.
        visible: share of each object's pixels that can be seen, in [0.6, 1].
    """

    image: np.ndarray
    labels: list[str]
    boxes: list["Box"]
    caption: str
    visible: list[float]


class SceneRenderer:
    """Composes scenes without end: some concepts, each at most once, on a photograph or a texture.

    Scene `index` follows from (seed, split, index) and the options alone. Training and testing draw from different
    streams and share no photograph, and no stamp of a concept that has several (see
    [`ram_hf.scenes.parts.read_parts`], which also explains the options that are not explained here).

    Args:
        source: folder with the parts.
        size: width and height of the images, pixels, at least 32. Drawings have about 90 pixels: beyond 128 they are
            enlarged, and look soft.
        seed: of the scenes that are asked for by number; >= 0.
        split: "train" or "test".
        objects: smallest and largest number of objects, each number as often; within 1 to 12.
        object_sizes: smallest and largest longer side of an object, as a share of the image's; None for sizes that
            fall with the number of objects, from 0.48-0.95 for one to 0.23-0.46 for six. Objects that find no room
            are made smaller than that.
        styles: styles of drawings, each as often; None for all that the licences allow.
        concepts: "seen", "unseen", "all", a list of labels, or a file with one a line.
        stamps: cut-out photographs: "none", "only", or "mixed": half the images of a concept that has both.
        backgrounds: photographs behind: "none", "cc0" or "all" that the licences allow.
        licenses: "permissive" or "all".
        texture_share: share of scenes on procedural textures; None for one that falls with the number of photographs.
        captions: what they name: "salient" the largest object, sometimes two; "all" every one.

    Raises:
        FileNotFoundError: when a file of the source is missing.
        ValueError: when an option is out of range or unknown, or there are fewer concepts than objects.
    """

    def __init__(
        self,
        source: str | os.PathLike,
        *,
        size: int = 96,
        seed: int = 0,
        split: Split = "train",
        objects: tuple[int, int] = (1, 6),
        object_sizes: Range | None = None,
        styles: Sequence[str] | None = None,
        concepts: LabelList = "all",
        stamps: Stamps = "none",
        backgrounds: Photos = "all",
        licenses: Licenses = "permissive",
        texture_share: float | None = None,
        captions: Captions = "all",
    ):
        if size < _SMALLEST_SIZE:
            raise ValueError(f"`size` must be at least {_SMALLEST_SIZE} pixels, got {size}.")
        if seed < 0:
            raise ValueError(f"`seed` must not be negative, got {seed}.")
        if captions not in get_args(Captions):
            raise ValueError(f"`captions` must be 'salient' or 'all', got {captions!r}.")
        self.parts = read_parts(
            source,
            split=split,
            styles=styles,
            concepts=concepts,
            stamps=stamps,
            backgrounds=backgrounds,
            licenses=licenses,
        )
        self.size, self.seed, self.split = size, seed, split
        self._check_objects(objects, object_sizes)
        self._objects, self._object_sizes, self._captions = objects, object_sizes, captions
        self._backgrounds = Backgrounds(self.parts.photos, size=size, texture_share=texture_share)

    @property
    def seen_labels(self) -> list[str]:
        """Labels that scenes can hold and RAM may train on, in the order of the source."""
        return [concept.label for concept in self.parts.concepts if concept.is_seen]

    @property
    def unseen_labels(self) -> list[str]:
        """Labels that scenes can hold and RAM must not train on, in the order of the source."""
        return [concept.label for concept in self.parts.concepts if not concept.is_seen]

    @property
    def texture_share(self) -> float:
        """Share of scenes on procedural textures."""
        return self._backgrounds.texture_share

    def scene(self, index: int) -> Scene:
        """Compose scene number `index` of the seed and the split, in any order and any process."""
        key = (get_args(Split).index(self.split), index)
        return self.render(np.random.Generator(np.random.PCG64(np.random.SeedSequence(self.seed, spawn_key=key))))

    def scenes(self, start: int = 0) -> Iterator[Scene]:
        """Compose the scenes from number `start` on, without end."""
        return map(self.scene, itertools.count(start))

    def render(
        self,
        rng: np.random.Generator,
        *,
        objects: tuple[int, int] | None = None,
        object_sizes: Range | None = None,
        captions: Captions | None = None,
    ) -> Scene:
        """Compose a scene from random numbers; the options, where given, stand in for the renderer's own.

        Args:
            rng: the scene follows from it, and moves it on.
            objects: smallest and largest number of objects.
            object_sizes: smallest and largest longer side of an object, as a share of the image's.
            captions: what the caption names.

        Raises:
            ValueError: when an option is out of range, or that many objects find no room.
        """
        if objects is not None or object_sizes is not None:
            self._check_objects(objects or self._objects, object_sizes)
        draws = Draws(rng)
        count = draws.integer(*(objects or self._objects))
        concepts = [self.parts.concepts[number] for number in draws.sample(len(self.parts.concepts), count)]
        drawings = [_draw_drawing(concept, draws) for concept in concepts]
        low, high = object_sizes or self._object_sizes or default_object_sizes(count)
        background = self._backgrounds.draw(draws)
        for layout in range(_LAYOUTS):
            shrinking = 0.9**layout
            canvas = self._compose(drawings, draws, background, (low * shrinking, high * shrinking))
            if canvas is not None:
                return self._describe(canvas, concepts, draws, captions or self._captions)
        raise ValueError(f"{count} objects find no room in {self.size} pixels; ask for fewer, or a larger picture.")

    def _compose(
        self, drawings: Sequence[Drawing], draws: Draws, background: Image.Image, sizes: Range
    ) -> "_Canvas | None":
        """Put the drawings on the background one over the other; None where one finds no room."""
        canvas = _Canvas(background.copy())
        for drawing in drawings:
            side = max(_SMALLEST_OBJECT, self.size * draws.uniform(*sizes))
            angle, flip = math.radians(draws.uniform(-_ROTATION, _ROTATION)), draws.chance(0.5)
            matrix = recolour(draws, hue=9, brightness=(0.85, 1.15), contrast=(0.85, 1.15))
            for contrast in (_LEAST_CONTRAST, *[0.0] * _SHRINKS):
                sprite = _Sprite.draw(drawing, side, angle=angle, flip=flip, matrix=matrix)
                if any(canvas.place(sprite, draws, contrast=contrast) for _ in range(_PLACES)):
                    break
                side = max(_SMALLEST_OBJECT, side * _SHRINKING)
            else:
                return None
        return canvas

    def _describe(self, canvas: "_Canvas", concepts: Sequence[Concept], draws: Draws, captions: Captions) -> Scene:
        order = sorted(range(len(concepts)), key=lambda number: -canvas.visible[number])
        corners = [canvas.box(number) for number in order]
        labels = [concepts[number].label for number in order]
        boxes: list[Box] = [
            {"label": label, "x0": x0, "y0": y0, "x1": x1, "y1": y1}
            for label, (x0, y0, x1, y1) in zip(labels, corners, strict=True)
        ]
        return Scene(
            np.array(canvas.image),
            labels,
            boxes,
            write_caption([concepts[number].names for number in order], draws, mode=captions),
            [canvas.visible[number] / canvas.areas[number] for number in order],
        )

    def _check_objects(self, objects: tuple[int, int], object_sizes: Range | None) -> None:
        low, high = objects
        if not 1 <= low <= high <= _MOST_OBJECTS:
            raise ValueError(f"`objects` must be a range within 1 to {_MOST_OBJECTS}, got {low} to {high}.")
        if high > len(self.parts.concepts):
            raise ValueError(
                f"Scenes of up to {high} different objects need as many concepts; the options leave "
                f"{len(self.parts.concepts)}."
            )
        if object_sizes is not None and not 0 < object_sizes[0] <= object_sizes[1] <= 1:
            raise ValueError(f"`object_sizes` must be a range within 0 to 1, got {object_sizes}.")


def default_object_sizes(count: int) -> Range:
    """Smallest and largest longer side of each of `count` objects, as a share of the image's."""
    largest = min(0.95, 1.12 / math.sqrt(count))
    return largest / 2, largest


class _Sprite(NamedTuple):
    """A drawing as it will stand in an image."""

    rgb: Image.Image
    alpha: Image.Image
    mask: np.ndarray  # (height, width), bool: the pixels that count as the object's

    @classmethod
    def draw(cls, drawing: Drawing, side: float, *, angle: float, flip: bool, matrix: tuple[float, ...]) -> "_Sprite":
        """Scale the longer side to `side` pixels, turn by `angle` radians, mirror and recolour."""
        scale = side / max(drawing.size)
        level, level_scale = drawing.level(scale)
        ratio = level_scale / scale  # pixels of the copy for a pixel of the sprite
        cosine, sine = math.cos(angle), math.sin(angle)
        width = math.ceil((level.width * abs(cosine) + level.height * abs(sine)) / ratio)
        height = math.ceil((level.width * abs(sine) + level.height * abs(cosine)) / ratio)
        a, b, d, e = cosine * ratio, sine * ratio, -sine * ratio, cosine * ratio
        if flip:
            a, b = -a, -b
        c, f = (level.width - a * width - b * height) / 2, (level.height - d * width - e * height) / 2
        pixels = level.transform(
            (width, height), Image.Transform.AFFINE, (a, b, c, d, e, f), Image.Resampling.BILINEAR
        ).convert("RGBA")
        alpha = pixels.getchannel("A")
        return cls(pixels.convert("RGB").convert("RGB", matrix), alpha, np.asarray(alpha) >= _OPAQUE)


class _Canvas:
    """An image that objects are put on, and whose each pixel is.

    `areas` and `visible` count the pixels of each object: all of them, and those that nothing hides.
    """

    def __init__(self, image: Image.Image):
        self.image = image
        self.owner = np.full((image.height, image.width), -1, dtype=np.int8)  # the topmost object's number
        self.areas: list[int] = []
        self.visible: list[int] = []

    def place(self, sprite: _Sprite, draws: Draws, *, contrast: float = 0.0) -> bool:
        """Try one random place; false, and nothing has changed, where it does not do (see [`_Canvas.put`])."""
        height, width = sprite.mask.shape
        x, y = (
            round(draws.uniform(-0.15 * extent, full - 0.85 * extent)) if extent < full else (full - extent) // 2
            for extent, full in ((width, self.image.width), (height, self.image.height))
        )
        return self.put(sprite, x, y, contrast=contrast)

    def put(self, sprite: _Sprite, x: int, y: int, *, contrast: float = 0.0) -> bool:
        """Put the sprite's upper left corner at pixel (x, y), and say whether that was done.

        It is not where too little of some object would be seen, or the sprite differs by less than `contrast` (mean
        over its pixels and channels, of 255) from what it would cover.
        """
        height, width = sprite.mask.shape
        rows = slice(max(0, y), min(self.image.height, y + height))
        columns = slice(max(0, x), min(self.image.width, x + width))
        mask = sprite.mask[rows.start - y : rows.stop - y, columns.start - x : columns.stop - x]
        area, inside = int(np.count_nonzero(sprite.mask)), int(np.count_nonzero(mask))
        if not inside or inside < VISIBLE_SHARE * area:
            return False
        region = self.owner[rows, columns]
        hidden = np.bincount(region[mask] + 1, minlength=len(self.areas) + 1)[1:].tolist()
        visible = [before - lost for before, lost in zip(self.visible, hidden, strict=True)]
        if any(left < VISIBLE_SHARE * all for left, all in zip(visible, self.areas, strict=True)):
            return False
        if contrast:
            covered = self.image.crop((x, y, x + width, y + height))
            every_other = (slice(None, None, 2), slice(None, None, 2))  # is exact enough
            difference = np.asarray(ImageChops.difference(covered, sprite.rgb))[every_other][sprite.mask[every_other]]
            if difference.sum() < contrast * max(1, difference.size):
                return False
        region[mask] = len(self.areas)
        self.image.paste(sprite.rgb, (x, y), sprite.alpha)
        self.areas.append(area)
        self.visible = [*visible, inside]
        return True

    def box(self, number: int) -> tuple[int, int, int, int]:
        """Smallest box around the visible pixels of an object: x0, y0, x1, y1, half-open."""
        mine = self.owner == number
        rows, columns = np.flatnonzero(mine.any(axis=1)), np.flatnonzero(mine.any(axis=0))
        return int(columns[0]), int(rows[0]), int(columns[-1]) + 1, int(rows[-1]) + 1


def _draw_drawing(concept: Concept, draws: Draws) -> Drawing:
    if concept.stamps and (not concept.styles or draws.chance(_STAMP_SHARE)):
        return draws.choice(concept.stamps)
    return draws.choice(concept.styles[draws.choice(list(concept.styles))])


__all__ = ["Scene", "SceneRenderer", "default_object_sizes"]
