"""Handler for Inference Endpoints: an image and candidate labels in, tags out.

The service loads this file by its path and knows nothing of the files beside it, so it imports libraries alone; the
pipeline that it asks for is in the same folder.
"""

import base64
import binascii
from collections.abc import Mapping
from typing import Any

import torch
from transformers import pipeline

TASK = "zero-shot-multi-label-tagging"


class EndpointHandler:
    """What an endpoint calls.

    Args:
        path: folder of the repository.

    Example:
        >>> handler = EndpointHandler("path/of/the/repository")
        >>> handler({"inputs": image_in_base64, "parameters": {"candidate_labels": ["dog", "red car"], "top_k": 1}})
        [{'label': 'red car', 'score': 0.71}]
    """

    def __init__(self, path: str = "") -> None:
        accelerator = torch.accelerator.current_accelerator() if torch.accelerator.is_available() else None
        self.tagger = pipeline(TASK, model=path, trust_remote_code=True, device=accelerator or "cpu")

    def __call__(self, data: Mapping[str, Any]) -> list[Any]:
        """Tag the image, or the images, of one request.

        Args:
            data: `inputs`, an image or a list of them: in base64 (also as a `data:` URL), bytes, or a PIL image; and
                `parameters`, the arguments of the pipeline: `candidate_labels` (a list, or one string with commas),
                `top_k`, `threshold`, `prompt_template`, `return_regions`. An `inputs` of
                `{"image": ..., "candidate_labels": [...]}` is taken too. Addresses and paths are not followed.

        Returns:
            For an image a list of `{"label": str, "score": float}`, best first; for a list of images a list of such
            lists; lists and numbers alone, ready for JSON.

        Raises:
            ValueError: when there is no image or no label, or an image cannot be read.
            TypeError: when an image is of another kind, or a parameter is unknown.
        """
        inputs, parameters = data.get("inputs"), dict(data.get("parameters") or {})
        if isinstance(inputs, Mapping):
            parameters.update({name: value for name, value in inputs.items() if name != "image"})
            inputs = inputs.get("image")
        if isinstance(inputs, list):
            images: Any = [_image(each) for each in inputs]
        else:
            images = _image(inputs)
        return _plain(self.tagger(images, **parameters))


def _image(value: Any) -> Any:
    if value is None:
        raise ValueError('There is no image: send `{"inputs": "<the file in base64>", "parameters": {...}}`.')
    if not isinstance(value, str):
        return value
    content = value.partition(",")[2] if value.startswith("data:") else value
    try:
        return base64.b64decode("".join(content.split()), validate=True)
    except (binascii.Error, ValueError) as error:
        shown = value if len(value) <= 60 else f"{value[:60]}..."
        raise ValueError(
            f"The image must be the file itself in base64, got {shown!r}; addresses and paths are not followed."
        ) from error


def _plain(value: Any) -> Any:
    """Arrays as lists, which JSON can hold."""
    if isinstance(value, Mapping):
        return {name: _plain(entry) for name, entry in value.items()}
    if isinstance(value, list):
        return [_plain(entry) for entry in value]
    return value.tolist() if hasattr(value, "tolist") else value


__all__ = ["TASK", "EndpointHandler"]
