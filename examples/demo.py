"""Tag the example picture with a small model made on the spot: shows the way through the package, not its quality.

The weights are random, so the scores mean nothing; with a CLIP checkpoint (`--clip ID`) they do.
"""

import argparse
from pathlib import Path

import torch
from PIL import Image
from tokenizers.pre_tokenizers import ByteLevel
from transformers import CLIPConfig, CLIPModel, CLIPTokenizer
from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil

from ram_hf import RamModel, RamProcessor

PICTURE = Path(__file__).parent / "harbour.png"
LABELS = ["sailing boat", "sun", "house", "tree", "dog", "red car"]


def make_small_clip() -> tuple[CLIPModel, RamProcessor]:
    """A random CLIP of half a million parameters, and a tokenizer that spells letter by letter."""
    letters = sorted(ByteLevel.alphabet())
    tokens = [*letters, *(letter + "</w>" for letter in letters), "<|startoftext|>", "<|endoftext|>"]
    tokenizer = CLIPTokenizer(vocab={token: index for index, token in enumerate(tokens)}, merges=[])
    small = {"hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 4, "num_attention_heads": 4}
    config = CLIPConfig(
        projection_dim=64,
        vision_config={**small, "image_size": 64, "patch_size": 8},
        text_config={
            **small,
            "vocab_size": len(tokens),
            "bos_token_id": tokenizer.bos_token_id,
            "eos_token_id": tokenizer.eos_token_id,
        },
    )
    torch.manual_seed(0)
    return CLIPModel(config), RamProcessor(CLIPImageProcessorPil(size={"height": 64, "width": 64}), tokenizer)


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("picture", nargs="?", default=PICTURE)
    parser.add_argument("--clip", help="a CLIP checkpoint, Hub id or folder, instead of random weights")
    arguments = parser.parse_args()
    if arguments.clip:
        model, processor = RamModel.from_clip(arguments.clip), RamProcessor.from_pretrained(arguments.clip)
    else:
        clip, processor = make_small_clip()
        model = RamModel.from_clip(clip)
    image = Image.open(arguments.picture)
    with torch.inference_mode():
        label_features = model.get_label_features(**processor(labels=LABELS))
        output = model(**processor(images=image), label_features=label_features, output_transport_plan=True)
    plan = output.transport_plan[0]  # (patches, labels)
    side = round(plan.shape[0] ** 0.5)
    print(f"{Path(arguments.picture).name}, {image.width} x {image.height} pixels")
    print(f"{'label':14} {'score':>6}  strongest at (x, y)")
    for tag in processor.post_process_tagging(output, LABELS)[0]:
        row, column = divmod(int(plan[:, LABELS.index(tag["label"])].argmax()), side)
        x, y = (column + 0.5) / side * image.width, (row + 0.5) / side * image.height
        print(f"{tag['label']:14} {tag['score']:6.3f}  ({x:.0f}, {y:.0f})")
    if not arguments.clip:
        print("\nThese weights are random: the scores mean nothing. Try --clip openai/clip-vit-base-patch16.")


if __name__ == "__main__":
    main()
