"""Tags drawn on the image: boxes, scores, and where each label is.

>>> draw_tags(Image.open("street.jpg"), tagger("street.jpg", candidate_labels=["dog"], return_regions=True))
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from PIL import Image, ImageDraw

from .fonts import font_for

# Viridis (CC0, https://bids.github.io/colormap) at nine even steps: equal steps of heat look equally large.
_VIRIDIS = np.array(
    [
        *((68, 1, 84), (71, 44, 122), (59, 81, 139), (44, 113, 142), (33, 144, 141)),
        *((39, 173, 129), (92, 200, 99), (170, 220, 50), (253, 231, 37)),
    ],
    dtype=np.float32,
)
# Okabe and Ito's palette, which the colour-blind can tell apart; one colour a label, in turn.
_COLOURS = ("#E69F00", "#56B4E9", "#009E73", "#F0E442", "#0072B2", "#D55E00", "#CC79A7")
_INK, _PAPER, _FAINT = "#1A1A1A", "#FFFFFF", "#D9D9D9"
_SIDE = (
    512,
    1600,
)  # the longer side that the image is drawn with, pixels: small ones grow, so that text can be read
_HEAT_OPACITY = 0.65
_MAPS_IN_A_ROW = 4
_SHORTEST = 64  # pixels to which the shorter side of a strip is stretched, or there would be nothing to see


def draw_tags(image: Image.Image, tags: Sequence[Mapping[str, Any]], *, max_heat_maps: int = 8) -> Image.Image:
    """Draw an image with its tags: a box for each label, a list of scores, and a heat map for each label.

    Args:
        image: the image, of any size and mode. It is drawn with a longer side of 512 to 1600 pixels.
        tags: best first, `{"label", "score"}` with, where known, `heat_map` (array of shape (rows, columns), in
            [0, 1], over the whole image), `box` ({xmin, ymin, xmax, ymax}) and `peak` ({x, y}), in pixels of the
            image, as the pipeline's `return_regions=True` gives them.
        max_heat_maps: draw at most so many heat maps.

    Returns:
        A new RGB image.

    Raises:
        ValueError: when a heat map is not two-dimensional or not finite.
    """
    image = image.convert("RGB")
    original = image.size
    image = image.resize(_drawn_size(original), Image.Resampling.LANCZOS)
    unit = max(14, round(max(image.size) / 32))  # pixels of a line of text
    legend = _legend(tags, unit, image.height)
    maps = _heat_maps(image, tags, max_heat_maps, unit, width=image.width + legend.width)
    canvas = Image.new(
        "RGB", (image.width + legend.width, max(image.height, legend.height) + (maps.height if maps else 0)), _PAPER
    )
    canvas.paste(_with_boxes(image, original, tags, unit), (0, 0))
    canvas.paste(legend, (image.width, 0))
    if maps:
        canvas.paste(maps, (0, canvas.height - maps.height))
    return canvas


def heat_to_colours(heat: np.ndarray) -> np.ndarray:
    """Colours of viridis for heat in [0, 1]: shape (..., 3), uint8."""
    place = np.clip(heat, 0, 1) * (len(_VIRIDIS) - 1)
    below = np.minimum(place.astype(int), len(_VIRIDIS) - 2)
    share = (place - below)[..., None]
    return ((1 - share) * _VIRIDIS[below] + share * _VIRIDIS[below + 1]).round().astype(np.uint8)


def _drawn_size(size: tuple[int, int]) -> tuple[int, int]:
    factor = min(max(_SIDE[0] / max(size), 1), _SIDE[1] / max(size))
    width, height = (max(_SHORTEST, round(side * factor)) for side in size)
    return width, height


def _with_boxes(
    image: Image.Image, original: tuple[int, int], tags: Sequence[Mapping[str, Any]], unit: int
) -> Image.Image:
    """The image with each label's box and the label on it; the best label is drawn last, on top."""
    image = image.copy()
    draw = ImageDraw.Draw(image)
    x_scale, y_scale = image.width / original[0], image.height / original[1]
    line, plates = max(2, unit // 6), []
    for number, tag in reversed(list(enumerate(tags))):
        colour = _COLOURS[number % len(_COLOURS)]
        if peak := tag.get("peak"):
            x, y, radius = peak["x"] * x_scale, peak["y"] * y_scale, unit / 3
            draw.ellipse((x - radius, y - radius, x + radius, y + radius), fill=colour, outline=_INK)
        if box := tag.get("box"):
            corners = (box["xmin"] * x_scale, box["ymin"] * y_scale)
            ends = (box["xmax"] * x_scale - 1, box["ymax"] * y_scale - 1)
            draw.rectangle((*corners, *ends), outline=colour, width=line)
            plates.append((corners, str(tag["label"]), colour))
    for corner, text, colour in plates:  # after all boxes, whose lines would cross them
        _plate(draw, corner, text, colour, unit, limit=image.size)
    return image


def _plate(
    draw: ImageDraw.ImageDraw,
    corner: tuple[float, float],
    text: str,
    colour: str,
    unit: int,
    *,
    limit: tuple[int, int],
) -> None:
    """Text on a plate of colour, moved inside the image where it would stick out."""
    font = font_for(text, round(unit * 0.8))
    text = _fitting(text, font, limit[0] - unit)
    width, height = font.getlength(text) + unit * 0.5, unit * 1.1
    x, y = min(corner[0], limit[0] - width), min(corner[1], limit[1] - height)
    x, y = max(0.0, x), max(0.0, y)
    draw.rectangle((x, y, x + width, y + height), fill=colour)
    draw.text((x + unit * 0.25, y + height / 2), text, fill=_on(colour), font=font, anchor="lm")


def _legend(tags: Sequence[Mapping[str, Any]], unit: int, height: int) -> Image.Image:
    """The labels with their scores, a bar each; as many as fit beside the image, at least three."""
    numbers = font_for("0", unit)
    width, row = unit * 15, round(unit * 1.9)
    shown = tags[: max(3, (height - unit) // row)]
    panel = Image.new("RGB", (width, max(1, unit + row * len(shown))), _PAPER)
    draw = ImageDraw.Draw(panel)
    largest = max((float(tag["score"]) for tag in shown), default=1.0) or 1.0
    for number, tag in enumerate(shown):
        y, score = unit // 2 + number * row, float(tag["score"])
        font = font_for(str(tag["label"]), unit)
        draw.text((unit, y), _fitting(str(tag["label"]), font, width - unit * 5), fill=_INK, font=font)
        draw.text((width - unit, y), f"{score:.3f}", fill=_INK, font=numbers, anchor="ra")
        bar, top = (unit, width - unit), y + round(unit * 1.3)
        draw.rectangle((bar[0], top, bar[1], top + unit // 4), fill=_FAINT)
        end = bar[0] + round((bar[1] - bar[0]) * score / largest)
        draw.rectangle((bar[0], top, max(end, bar[0] + 1), top + unit // 4), fill=_COLOURS[number % len(_COLOURS)])
    return panel


def _heat_maps(
    image: Image.Image, tags: Sequence[Mapping[str, Any]], most: int, unit: int, *, width: int
) -> Image.Image | None:
    """A strip of small copies of the image, each under its label's heat, and what the colours mean."""
    hot = [(number, tag) for number, tag in enumerate(tags) if tag.get("heat_map") is not None][:most]
    if not hot:
        return None
    gap = unit // 2
    tile_width = (width - gap * (_MAPS_IN_A_ROW + 1)) // _MAPS_IN_A_ROW
    tile_height = max(_SHORTEST, min(round(tile_width * image.height / image.width), 2 * tile_width))
    grey = image.resize((tile_width, tile_height), Image.Resampling.LANCZOS).convert("L").convert("RGB")
    row = tile_height + round(unit * 1.6)
    panel = Image.new("RGB", (width, gap + -(-len(hot) // _MAPS_IN_A_ROW) * row + round(unit * 1.8)), _PAPER)
    draw, size = ImageDraw.Draw(panel), round(unit * 0.8)
    for place, (number, tag) in enumerate(hot):
        x, y = gap + place % _MAPS_IN_A_ROW * (tile_width + gap), gap + place // _MAPS_IN_A_ROW * row
        panel.paste(_under_heat(grey, tag["heat_map"]), (x, y))
        draw.rectangle(
            (x, y + tile_height, x + tile_width - 1, y + tile_height + unit // 5),
            fill=_COLOURS[number % len(_COLOURS)],
        )
        text = f"{tag['label']} {float(tag['score']):.3f}"
        font = font_for(text, size)
        draw.text((x, y + tile_height + unit // 4), _fitting(text, font, tile_width), fill=_INK, font=font)
    bar_width, top = unit * 8, panel.height - round(unit * 1.3)
    bar = heat_to_colours(np.linspace(0, 1, bar_width))[None].repeat(max(2, unit // 2), axis=0)
    font = font_for("nothing of the label", size)
    draw.text((gap, top), "nothing of the label", fill=_INK, font=font)
    x = gap + round(font.getlength("nothing of the label")) + unit // 2
    panel.paste(Image.fromarray(bar), (x, top + unit // 4))
    draw.text((x + bar_width + unit // 2, top), "the label's strongest patch", fill=_INK, font=font)
    return panel


def _under_heat(image: Image.Image, heat_map: Any) -> Image.Image:
    heat = np.asarray(heat_map, dtype=np.float32)
    if heat.ndim != 2 or heat.size == 0 or not np.isfinite(heat).all():
        raise ValueError(f"`heat_map` must be finite, of shape (rows, columns), got shape {heat.shape}.")
    smooth = Image.fromarray(heat).resize(image.size, Image.Resampling.BICUBIC)
    return Image.blend(image, Image.fromarray(heat_to_colours(np.asarray(smooth))), _HEAT_OPACITY)


def _fitting(text: str, font: Any, width: float) -> str:
    """The text on one line, cut with an ellipsis where it is too wide."""
    text = " ".join(text.split())
    if font.getlength(text) <= width:
        return text
    while text and font.getlength(text + "…") > width:
        text = text[:-1]
    return text + "…"


def _on(colour: str) -> str:
    """Black or white, whichever can be read on a colour."""
    red, green, blue = (int(colour[start : start + 2], 16) for start in (1, 3, 5))
    return _INK if 0.299 * red + 0.587 * green + 0.114 * blue > 120 else _PAPER


__all__ = ["draw_tags", "heat_to_colours"]
