"""Sizes on disk of a RAM around ViT-B/16: whole and adapters alone, in float32 and bfloat16, with random weights.

Run from the repository's root: `python benchmarks/checkpoint_sizes.py`. It needs 3 GB of memory and 2 GB of disk.
"""

import argparse
import tempfile
import time
from pathlib import Path

import torch
from transformers import CLIPConfig, CLIPModel

from ram_hf import RamModel


def megabytes(folder: Path) -> float:
    """Size of the weights in a folder, in MB of 10^6 bytes."""
    return sum(file.stat().st_size for file in folder.glob("*.safetensors")) / 1e6


def main() -> None:
    argparse.ArgumentParser(description=__doc__.split("\n\n")[0]).parse_args()
    config = CLIPConfig(vision_config={"patch_size": 16})
    print("| weights | whole | adapters alone | seconds to load whole | to join |\n| --- | --- | --- | --- | --- |")
    for dtype in (torch.float32, torch.bfloat16):
        with tempfile.TemporaryDirectory() as root:
            clip, whole, small = (Path(root) / name for name in ("clip", "whole", "small"))
            CLIPModel(config).to(dtype).save_pretrained(clip)
            model = RamModel.from_clip(clip)
            model.add_learned_tokens()
            model.save_pretrained(whole)
            model.save_pretrained(small, adapters_only=True)
            times = []
            for folder, options in ((whole, {}), (small, {"base_model": clip})):
                start = time.perf_counter()
                RamModel.from_pretrained(folder, **options)
                times.append(time.perf_counter() - start)
            sizes = f"{megabytes(whole):,.0f} MB | {megabytes(small):,.0f} MB"
            print(f"| {str(dtype).removeprefix('torch.')} | {sizes} | {times[0]:.1f} | {times[1]:.1f} |")


if __name__ == "__main__":
    main()
