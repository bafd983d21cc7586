"""How well a CLIP knows photographs that were held back, zero-shot: by names, through its text tower."""

from collections.abc import Sequence

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor
from transformers import CLIPModel, CLIPTokenizer

from ..evaluation.ranking import mean_average_precision
from ..model.processing_ram import DEFAULT_LABEL_TEMPLATE
from .photo_labels import LabelBank
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
        `mAP`: of the exact labels where they are complete, ranked by RAM's score, a softmax over them; `mAP_cosine`:
        the same ranked by the similarity itself; `mAP_nouns`: of all labels of these photographs by similarity, what
        is not named counting as absent; `top1`, `top5`: of photographs with one label, among all such labels.
    """
    was_training = model.training
    model.eval()
    is_complete = (bank.exact[rows] >= 0).all(dim=1).numpy()
    scenes, singles = rows[is_complete], _singles(photographs, rows[~is_complete])
    found: dict[str, float] = {}
    if len(scenes):
        exact = bank.names[: bank.num_exact]
        embeds = _image_embeds(model, photographs, scenes, image_size)
        similarity = embeds @ _name_embeds(model, tokenizer, exact).T
        targets = bank.exact[scenes].numpy()
        scores = (model.logit_scale.exp() * similarity).softmax(dim=-1)
        found["mAP"] = mean_average_precision(scores.numpy(), targets).mean
        found["mAP_cosine"] = mean_average_precision(similarity.numpy(), targets).mean
        nouns, noun_targets = _nouns(photographs, scenes)
        noun_scores = embeds @ _name_embeds(model, tokenizer, nouns).T
        found["mAP_nouns"] = mean_average_precision(noun_scores.numpy(), noun_targets).mean
    if len(singles):
        names = sorted({photographs.labels[row][0] for row in singles})
        similarity = _image_embeds(model, photographs, singles, image_size) @ _name_embeds(model, tokenizer, names).T
        right = torch.tensor([names.index(photographs.labels[row][0]) for row in singles])
        best = similarity.topk(min(5, len(names)), dim=-1).indices == right[:, None]
        found["top1"], found["top5"] = float(best[:, 0].float().mean()), float(best.any(dim=1).float().mean())
    model.train(was_training)
    return found


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


def _image_embeds(model: CLIPModel, photographs: Photographs, rows: np.ndarray, image_size: int) -> Tensor:
    found = []
    for first in range(0, len(rows), _AT_ONCE):
        pixels = torch.from_numpy(photographs.pixels[rows[first : first + _AT_ONCE]]).permute(0, 3, 1, 2)
        views = whole_views(pixels, image_size=image_size).to(model.device)
        found.append(model.get_image_features(views, interpolate_pos_encoding=True).pooler_output.float().cpu())
    return F.normalize(torch.cat(found), dim=-1)


def _name_embeds(model: CLIPModel, tokenizer: CLIPTokenizer, names: Sequence[str]) -> Tensor:
    texts = [DEFAULT_LABEL_TEMPLATE.format(label=name) for name in names]
    inputs = tokenizer(texts, padding=True, truncation=True, return_tensors="pt").to(model.device)
    return F.normalize(model.get_text_features(**inputs).pooler_output.float().cpu(), dim=-1)


__all__ = ["judge_photo_clip"]
