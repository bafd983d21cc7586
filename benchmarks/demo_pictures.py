"""What a model says of the photographs that `make demo` tags, and on how many a right label comes first.

Run from the repository's root: `python benchmarks/demo_pictures.py [--draw FILE]`. What is right stands in
`examples/pictures/truth.csv`; photographs and labels were chosen before anybody saw what a model makes of them.
"""

import argparse
import csv
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from PIL import Image, ImageDraw, ImageOps
from transformers import pipeline

from ram_hf.data.label_set import read_label_list
from ram_hf.fonts import font_for
from ram_hf.model.bundled import DEFAULT_MODEL
from ram_hf.model.pipeline_ram import TASK

EXAMPLES = Path("examples")
TILE, GAP, LINE, COLUMNS = (220, 150), 6, 18, 4  # pixels of a photograph, around it and of a line below it; in a row
LETTERS = 12  # pixels
RIGHT, WRONG = "#009E73", "#D55E00"  # of Okabe and Ito's palette, which the colour-blind can tell apart


class Tagged(NamedTuple):
    """A photograph, the labels that are right for it, and the first that a model gives it, best first."""

    file: Path
    right: list[str]
    tags: list[dict]

    @property
    def is_right(self) -> bool:
        """Whether a right label comes first."""
        return bool(self.tags) and self.tags[0]["label"] in self.right

    @property
    def told(self) -> str:
        """The labels that it is given, with their scores."""
        return ", ".join(f"{tag['label']} {tag['score']:.2f}" for tag in self.tags) or "nothing"


def draw(photographs: Sequence[Tagged]) -> Image.Image:
    """All photographs with what is said of them, and what would be right where the first label is wrong."""
    width, height = TILE[0] + 2 * GAP, TILE[1] + 3 * GAP + 2 * LINE
    sheet = Image.new("RGB", (COLUMNS * width, -(-len(photographs) // COLUMNS) * height), "white")
    canvas = ImageDraw.Draw(sheet)
    for number, photograph in enumerate(photographs):
        x, y = number % COLUMNS * width, number // COLUMNS * height
        with Image.open(photograph.file) as image:
            shown = ImageOps.pad(image.convert("RGB"), TILE, color="white")
        sheet.paste(shown, (x + GAP, y + GAP))
        lines = [(photograph.told, RIGHT if photograph.is_right else WRONG)]
        if not photograph.is_right:
            lines.append((f"right: {', '.join(photograph.right)}", "black"))
        for row, (text, ink) in enumerate(lines):
            size = min(LETTERS, int(LETTERS * TILE[0] / font_for(text, LETTERS).getlength(text)))
            canvas.text((x + GAP, y + 2 * GAP + TILE[1] + row * LINE), text, fill=ink, font=font_for(text, size))
    return sheet


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--model", default=DEFAULT_MODEL, help="RAM or CLIP, folder or name (default: %(default)s)")
    parser.add_argument("--score", choices=["probability", "paper"], help="as the pipeline takes it")
    parser.add_argument("--draw", type=Path, metavar="FILE", help="picture to write, of all photographs")
    options = parser.parse_args()
    labels = read_label_list(EXAMPLES / "labels.txt")
    with (EXAMPLES / "pictures" / "truth.csv").open(encoding="utf-8", newline="") as file:
        truth = {EXAMPLES / "pictures" / row["path"]: row["labels"].split("|") for row in csv.DictReader(file)}
    # As `ram-hf tag --top-k 3` reports them: what lies below the threshold of a calibration is left out.
    tagger = pipeline(TASK, model=options.model, candidate_labels=labels, top_k=3, score=options.score)
    photographs = [Tagged(path, right, tagger(str(path))) for path, right in truth.items()]
    print("| photograph | right labels | what the model puts first | right? |\n|---|---|---|---|")
    for photograph in photographs:
        answer = "yes" if photograph.is_right else "no"
        print(f"| {photograph.file.name} | {', '.join(photograph.right)} | {photograph.told} | {answer} |")
    number = sum(photograph.is_right for photograph in photographs)
    print(f"\n{options.model}: a right label of {len(labels)} first on {number} of {len(photographs)} photographs")
    if options.draw:
        draw(photographs).save(options.draw, quality=85)


if __name__ == "__main__":
    main()
