"""A tiny random model and batches with labels and boxes, the same in every process."""

import torch

from ram_hf import RamConfig, RamModel

LABEL_NAMES = ["dog", "red car", "tree", "lamp", "boat", "cup"]
UNSEEN = [1, 3, 4]
SIZES = [(64, 32), (30, 50), (32, 32), (100, 40)]


def make_model() -> RamModel:
    """3 vision and 2 text layers, 16 patches: builds in a blink."""
    torch.manual_seed(0)
    tower = {"hidden_size": 32, "intermediate_size": 48, "num_attention_heads": 2, "projection_dim": 24}
    clip_config = {
        "projection_dim": 24,
        "vision_config": {**tower, "num_hidden_layers": 3, "image_size": 32, "patch_size": 8},
        "text_config": {**tower, "num_hidden_layers": 2, "vocab_size": 20, "bos_token_id": 18, "eos_token_id": 19},
    }
    return RamModel(RamConfig(clip_config=clip_config, ladder_layers=[2], prompt_layers=[1])).eval()


def make_label_features() -> torch.Tensor:
    return torch.randn(len(LABEL_NAMES), 24, generator=torch.Generator().manual_seed(1))


def make_batches(*, num_batches: int = 5, with_boxes: bool = True) -> list[tuple[int, dict]]:
    """Batches of 4 images, the last one of 3; one target in ten is unknown."""
    generator = torch.Generator().manual_seed(2)
    batches = []
    for index in range(num_batches):
        num_images = 3 if index == num_batches - 1 else 4
        draw = torch.rand(num_images, len(LABEL_NAMES), generator=generator)
        batch = {
            "pixel_values": torch.randn(num_images, 3, 32, 32, generator=generator),
            "labels": (draw < 0.3).float() - (draw > 0.9).float(),
        }
        if with_boxes:
            batch["sizes"] = SIZES[:num_images]
            batch["boxes"] = [
                None
                if image == 2
                else {
                    LABEL_NAMES[label]: [[0, 0, width / 2, height / 2]]
                    for label in batch["labels"][image].eq(1).nonzero()[:, 0].tolist()
                }
                for image, (width, height) in enumerate(batch["sizes"])
            ]
        batches.append((index, batch))
    return batches
