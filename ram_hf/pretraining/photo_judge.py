"""How well a CLIP knows photographs that were held back, zero-shot: by names, through its text tower."""

from collections.abc import Iterator, Sequence

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor
from transformers import CLIPModel, CLIPTokenizer

from ..evaluation.ranking import mean_average_precision
from ..model.processing_ram import DEFAULT_LABEL_TEMPLATE
from .photo_labels import LabelBank
from .photo_student import encode_streams, pooled_over_patches
from .photo_views import whole_views
from .photographs import Photographs

_AT_ONCE = 128
_LEAST_POSITIVES = 5  # of a noun to be judged by


@torch.no_grad()
def judge_photo_clip(
    model: CLIPModel,
    tokenizer: CLIPTokenizer,
    photographs: Photographs,
    bank: LabelBank,
    rows: np.ndarray,
    *,
    image_size: int,
) -> dict[str, float]:
    """Judge by held-back rows.

    Args:
        model: the CLIP.
        tokenizer: of the CLIP.
        photographs: decoded.
        bank: their names.
        rows: held back.
        image_size: side at which it looks, pixels.

    Returns:
        `mAP`: of the exact labels where they are complete, ranked by a softmax over them, as RAM's global score;
        `mAP_local`: by the patches that fit a name most, and `mAP_both`: by the mean, as RAM's score; `mAP_nouns`: of
        all labels of these photographs by similarity, what is not named counting as absent; `top1`, `top5`: of
        photographs with one label, among all such labels. What there are no photographs for is left out.
    """
    was_training = model.training
    model.eval()
    is_complete = (bank.exact[rows] >= 0).all(dim=1).numpy() & (bank.num_exact > 0)
    scenes, singles = rows[is_complete], _singles(photographs, rows[~is_complete])
    found: dict[str, float] = {}
    if len(scenes):
        found |= _judge_scenes(model, tokenizer, photographs, bank, scenes, image_size)
    if len(singles):
        found |= _judge_singles(model, tokenizer, photographs, singles, image_size)
    model.train(was_training)
    return found


def _judge_scenes(
    model: CLIPModel,
    tokenizer: CLIPTokenizer,
    photographs: Photographs,
    bank: LabelBank,
    rows: np.ndarray,
    image_size: int,
) -> dict[str, float]:
    nouns, noun_targets = _nouns(photographs, rows)
    exact_embeds = _name_embeds(model, tokenizer, bank.names[: bank.num_exact])
    noun_embeds = _name_embeds(model, tokenizer, nouns)
    scale = model.logit_scale.exp()
    scores: dict[str, list[Tensor]] = {"mAP": [], "mAP_local": [], "mAP_both": [], "mAP_nouns": []}
    for image_embeds, patch_embeds in _image_embeds(model, photographs, rows, image_size):
        whole = (scale * image_embeds @ exact_embeds.T).softmax(dim=-1)
        local = pooled_over_patches(scale * patch_embeds @ exact_embeds.T).softmax(dim=-1)
        found = (whole, local, (whole + local) / 2, image_embeds @ noun_embeds.T)
        for name, values in zip(scores, found, strict=True):
            scores[name].append(values)
    exact_targets = bank.exact[rows].numpy()
    targets = {name: noun_targets if name == "mAP_nouns" else exact_targets for name in scores}
    return {
        name: mean_average_precision(torch.cat(values).numpy(), targets[name]).mean for name, values in scores.items()
    }


def _judge_singles(
    model: CLIPModel, tokenizer: CLIPTokenizer, photographs: Photographs, rows: np.ndarray, image_size: int
) -> dict[str, float]:
    names = sorted({photographs.labels[row][0] for row in rows})
    name_embeds = _name_embeds(model, tokenizer, names)
    batches = _image_embeds(model, photographs, rows, image_size)
    similarity = torch.cat([image_embeds @ name_embeds.T for image_embeds, _ in batches])
    right = torch.tensor([names.index(photographs.labels[row][0]) for row in rows])
    best = similarity.topk(min(5, len(names)), dim=-1).indices == right[:, None]
    return {"top1": float(best[:, 0].float().mean()), "top5": float(best.any(dim=1).float().mean())}


def _singles(photographs: Photographs, rows: np.ndarray) -> np.ndarray:
    is_single = [photographs.captions[row] is None and len(photographs.labels[row]) == 1 for row in rows]
    return rows[np.array(is_single, dtype=bool)]


def _nouns(photographs: Photographs, rows: np.ndarray) -> tuple[list[str], np.ndarray]:
    counts: dict[str, int] = {}
    for row in rows:
        for name in photographs.labels[row]:
            counts[name] = counts.get(name, 0) + 1
    nouns = sorted(name for name, count in counts.items() if count >= min(_LEAST_POSITIVES, len(rows)))
    nouns = nouns or sorted(counts)
    return nouns, np.array([[name in photographs.labels[row] for name in nouns] for row in rows]).astype(np.int64)


def _image_embeds(
    model: CLIPModel, photographs: Photographs, rows: np.ndarray, image_size: int
) -> Iterator[tuple[Tensor, Tensor]]:
    """Embeddings of images (B, D) and their patches (B, P, D), a few rows at a time."""
    for first in range(0, len(rows), _AT_ONCE):
        pixels = torch.from_numpy(photographs.pixels[rows[first : first + _AT_ONCE]]).permute(0, 3, 1, 2)
        main, local = encode_streams(model, whole_views(pixels, image_size=image_size).to(model.device))
        yield F.normalize(main[:, 0].float(), dim=-1).cpu(), F.normalize(local.float(), dim=-1).cpu()


def _name_embeds(model: CLIPModel, tokenizer: CLIPTokenizer, names: Sequence[str]) -> Tensor:
    texts = [DEFAULT_LABEL_TEMPLATE.format(label=name) for name in names]
    inputs = tokenizer(texts, padding=True, truncation=True, return_tensors="pt").to(model.device)
    return F.normalize(model.get_text_features(**inputs).pooler_output.float().cpu(), dim=-1)


__all__ = ["judge_photo_clip"]
