"""Top-5 overlap of half precision with float32, on scenes: how many of the five best labels stay among the five best.

Run from the repository's root: `python benchmarks/half_precision.py SCENES`, a folder that `ram-hf scenes` wrote (the
test scenes of `benchmarks/ablation.py` lie in `runs/ablation/scenes/test`).
"""

import argparse
from pathlib import Path

import torch
from datasets import Image, load_dataset

from ram_hf import RamModel, RamProcessor


def top_5(model: RamModel, processor: RamProcessor, pictures: list, labels: list[str]) -> torch.Tensor:
    """The five best labels of each picture, shape (pictures, 5)."""
    with torch.inference_mode():
        features = model.get_label_features(**processor(labels=labels))
        found = [
            model(
                **processor(images=pictures[first : first + 50]).to(model.dtype),
                label_features=features,
                output_probabilities=False,
            ).scores
            for first in range(0, len(pictures), 50)
        ]
    return torch.cat(found).topk(5).indices


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("scenes", type=Path, help="folder that `ram-hf scenes` wrote")
    parser.add_argument("--model", default="examples/ram-tiny", help="model to judge")
    parser.add_argument("--images", type=int, default=1000, help="scenes to rank")
    options = parser.parse_args()
    files = sorted(str(file) for file in options.scenes.glob("*.parquet"))
    rows = load_dataset("parquet", data_files=files, split="train").take(options.images)
    pictures = [row["image"] for row in rows.cast_column("image", Image(decode=True))]
    names = [options.scenes / f"labels_{split}.txt" for split in ("seen", "unseen")]
    labels = [label for file in names for label in file.read_text().splitlines()]
    processor = RamProcessor.from_pretrained(options.model)
    full = top_5(RamModel.from_pretrained(options.model, dtype=torch.float32).eval(), processor, pictures, labels)
    print(f"{len(pictures)} scenes, {len(labels)} labels")
    for dtype in (torch.bfloat16, torch.float16):
        half = top_5(RamModel.from_pretrained(options.model, dtype=dtype).eval(), processor, pictures, labels)
        overlap = (full.unsqueeze(2) == half.unsqueeze(1)).any(dim=2).float().mean().item()
        print(f"{str(dtype).removeprefix('torch.'):10} top-5 overlap {overlap:.4f}")


if __name__ == "__main__":
    main()
