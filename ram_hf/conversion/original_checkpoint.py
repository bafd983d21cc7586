"""Import of checkpoints of the method's published training code; only their key names and shapes are needed."""

import os
import re
import zipfile
from collections.abc import Mapping

import torch
from safetensors.torch import load_file
from torch import Tensor
from transformers import CLIPTokenizer
from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil

from ..atomic import whole_files
from ..model.configuration_ram import RamConfig
from ..model.loaded_weights import refuse_nonsense, some
from ..model.modeling_ram import RamModel
from ..model.processing_ram import RamProcessor
from .tensor_names import TEXT_LAYER, VISION_LAYER, rename_tensor

_HEAD_WIDTH = 64  # both towers of the published code have attention heads of this width
_PIXEL_MEAN = _PIXEL_STD = [0.5, 0.5, 0.5]  # the published training normalises pixels so, not as CLIP does
_OPENAI_TOKENIZER = "openai/clip-vit-base-patch16"
_OPENAI_VOCAB_SIZE = 49408
_STUDENT = "clip_model."
_TEACHER = "clip_model_teacher."
_COUNTER = ".num_batches_tracked"
# What every checkpoint must hold for its sizes to be read off, and how many dimensions each has.
_REQUIRED = {
    "visual.conv1.weight": 4,
    "visual.positional_embedding": 2,
    "visual.proj": 2,
    "positional_embedding": 2,
    "token_embedding.weight": 2,
    "visual.transformer.resblocks.0.mlp.c_fc.weight": 2,
    "transformer.resblocks.0.mlp.c_fc.weight": 2,
}


def convert_original_checkpoint(path: str | os.PathLike) -> RamModel:
    """Read a checkpoint of the method's published training code.

    All sizes are inferred from the tensors. The frozen teacher that such checkpoints carry is left out: it is the same
    CLIP without adapters. `normalize_plan` is off, as in the published code.

    Args:
        path: `.safetensors` file, or a PyTorch file (`.pth`, `.pt`, `.bin`), which is read with `weights_only=True`.

    Returns:
        The model, in evaluation mode, float32.

    Raises:
        FileNotFoundError: when there is no such file.
        ValueError: when the file is damaged, or is not such a checkpoint; the message names what is missing.
    """
    name = os.fspath(path)
    tensors = _student_tensors(_read_tensors(path), name)
    _check_size(tensors, name)
    # Names and shapes alone, first: nothing is cast, copied or built for a file that does not hold a whole model.
    shapes = {each: torch.empty(tensor.shape, device="meta") for each, tensor in tensors.items()}
    config = _infer_config(shapes, name)
    _check_fit(_renamed(shapes, name), config, name)
    model = RamModel(config)
    model.load_state_dict(_renamed({each: _as_float(tensor) for each, tensor in tensors.items()}, name))
    refuse_nonsense(model, path)
    return model.eval()


def convert_to_folder(
    checkpoint: str | os.PathLike, folder: str | os.PathLike, *, tokenizer: str | os.PathLike | None = None
) -> RamModel:
    """Convert a checkpoint and save model and processor, ready for `from_pretrained`.

    Args:
        checkpoint: see [`convert_original_checkpoint`].
        folder: where to save; made when it is not there.
        tokenizer: id or folder of the CLIP tokenizer that the checkpoint was trained with; OpenAI's when left out.

    Returns:
        The model that was saved.

    Raises:
        FileNotFoundError: when there is no such checkpoint.
        NoRoomError: when the disk is full; what was there stays.
        ValueError: when the checkpoint cannot be read, or its tokenizer cannot be had or does not fit; in the latter
            cases the model is saved already.
    """
    model = convert_original_checkpoint(checkpoint)
    with whole_files(folder) as unfinished:
        model.save_pretrained(unfinished)
    vision = model.clip.config.vision_config
    try:
        clip_tokenizer = _load_tokenizer(tokenizer, model.clip.config.text_config.vocab_size)
    except ValueError as error:
        raise ValueError(f"The model is saved in {os.fspath(folder)!r}, without a processor: {error}") from error
    size = {"height": vision.image_size, "width": vision.image_size}
    image_processor = CLIPImageProcessorPil(size=size, image_mean=_PIXEL_MEAN, image_std=_PIXEL_STD)
    with whole_files(folder) as unfinished:
        RamProcessor(image_processor, clip_tokenizer).save_pretrained(unfinished)
    return model


def _load_tokenizer(name: str | os.PathLike | None, vocab_size: int) -> CLIPTokenizer:
    if name is None and vocab_size != _OPENAI_VOCAB_SIZE:
        raise ValueError(
            f"its vocabulary of {vocab_size} is not OpenAI's of {_OPENAI_VOCAB_SIZE}. "
            "Name the tokenizer that it was trained with."
        )
    source = os.fspath(name or _OPENAI_TOKENIZER)
    try:
        tokenizer = CLIPTokenizer.from_pretrained(source)
    except OSError as error:
        raise ValueError(
            f"the tokenizer {source!r} cannot be had ({str(error).splitlines()[0]}). Name one that is on this machine."
        ) from error
    if len(tokenizer) != vocab_size:
        raise ValueError(f"the tokenizer {source!r} has {len(tokenizer)} tokens and the model {vocab_size}.")
    return tokenizer


def _read_tensors(path: str | os.PathLike) -> Mapping:
    if not os.path.isfile(path):
        raise FileNotFoundError(f"There is no checkpoint {os.fspath(path)!r}.")
    try:
        if os.fspath(path).endswith(".safetensors"):
            return load_file(path)
        _refuse_compressed(path)
        return torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # a damaged pickle can raise anything
        raise ValueError(
            f"{os.fspath(path)!r} cannot be read as a checkpoint (truncated, or neither PyTorch nor safetensors): "
            f"{error}"
        ) from error


def _refuse_compressed(path: str | os.PathLike) -> None:
    """PyTorch stores what it saves as it is; what unpacks to more than the file may unpack to all memory."""
    if not zipfile.is_zipfile(path):
        return
    with zipfile.ZipFile(path) as archive:
        parts = archive.infolist()
    if any(part.compress_type != zipfile.ZIP_STORED for part in parts):
        raise ValueError("its parts are compressed, which PyTorch does not do")
    if sum(part.file_size for part in parts) > os.path.getsize(path):
        raise ValueError("its parts are larger than the file")


def _check_size(tensors: Mapping[str, Tensor], path: str) -> None:
    """Raise ValueError where tensors are views that repeat: written out, they are larger than the file."""
    size = sum(tensor.numel() * tensor.element_size() for name, tensor in tensors.items() if not _is_left_out(name))
    if size > os.path.getsize(path):
        raise ValueError(f"{path!r} is {os.path.getsize(path)} bytes long, and its tensors claim to be {size}.")


def _is_left_out(name: str) -> bool:
    return name.startswith(("visual.attn.", _TEACHER))  # a second name for the last layer's attention; the same CLIP


def _as_float(tensor: Tensor) -> Tensor:
    return tensor.float() if tensor.is_floating_point() else tensor


def _student_tensors(content: object, path: str) -> dict[str, Tensor]:
    """The student's tensors without its prefix, wherever the file keeps them."""
    for wrapper in ("model", "state_dict"):
        if isinstance(content, Mapping) and isinstance(content.get(wrapper), Mapping):
            content = content[wrapper]
    if not isinstance(content, Mapping):
        raise ValueError(f"{path!r} holds a {type(content).__name__}, not a dictionary of tensors.")
    if foreign := [type(name).__name__ for name in content if not isinstance(name, str)]:
        raise ValueError(f"{path!r} holds something under a {foreign[0]}, where a tensor has a name.")
    content = {name.removeprefix("module."): value for name, value in content.items()}
    tensors = {name.removeprefix(_STUDENT): value for name, value in content.items() if name.startswith(_STUDENT)}
    missing = [_STUDENT + name for name in _REQUIRED if name not in tensors]
    missing += [name for name in ("temperature", "temperature_loc") if name not in content]
    if missing:
        raise ValueError(
            f"{path!r} is not a checkpoint of the published training code: it has no {some(missing)}. "
            f"It holds {some(list(content)) or 'nothing'}."
        )
    tensors["temperature"], tensors["temperature_loc"] = content["temperature"], content["temperature_loc"]
    # The frozen teacher is left out but for its depth: a student that lacks a layer must not pass for a smaller one.
    tensors.update({name: value for name, value in content.items() if name.startswith(_TEACHER)})
    _check_tensors(tensors, path)
    return tensors


def _check_tensors(tensors: Mapping[str, Tensor], path: str) -> None:
    foreign = [name for name, value in tensors.items() if not isinstance(value, Tensor)]
    if foreign:
        raise ValueError(f"{path!r} holds something else than a tensor under {some(foreign)}.")
    strange = [name for name, value in tensors.items() if not _is_plain(name, value)]
    if strange:
        found = some(f"{name} ({str(tensors[name].dtype).removeprefix('torch.')})" for name in strange)
        raise ValueError(f"{path!r}: weights must be plain tensors of floating point numbers, got {found}.")
    for name, dimensions in {**_REQUIRED, "temperature": 0, "temperature_loc": 0}.items():
        value = tensors[name]
        if value.dim() != dimensions and not (dimensions == 0 and value.numel() == 1):
            raise ValueError(f"{path!r}: {name} must have {dimensions} dimensions, got shape {tuple(value.shape)}.")


def _is_plain(name: str, tensor: Tensor) -> bool:
    if tensor.layout != torch.strided or tensor.device.type != "cpu" or tensor.is_quantized:
        return False
    return tensor.is_floating_point() or (name.endswith(_COUNTER) and tensor.dtype == torch.int64)


def _renamed(tensors: Mapping[str, Tensor], path: str) -> dict[str, Tensor]:
    weights: dict[str, Tensor] = {}
    unknown = []
    for name, tensor in tensors.items():
        if _is_left_out(name):
            continue
        try:
            renamed = rename_tensor(name, tensor)
        except ValueError as error:
            raise ValueError(f"{path!r}: {error}") from error
        if not renamed:
            unknown.append(name)
        if twice := sorted(set(renamed) & set(weights)):
            raise ValueError(f"{path!r} gives {twice[0]} twice, the second time as {name}.")
        weights.update(renamed)
    if unknown:
        raise ValueError(f"{path!r} holds tensors that this method does not have: {some(unknown)}.")
    return weights


def _check_fit(weights: Mapping[str, Tensor], config: RamConfig, path: str) -> None:
    """Raise ValueError unless the weights are all that a model of this configuration has, in its shapes."""
    with torch.device("meta"):
        model = RamModel(config)
    shapes = {name: tuple(tensor.shape) for name, tensor in model.state_dict().items()}
    if unknown := sorted(set(weights) - set(shapes)):
        raise ValueError(f"{path!r} holds tensors that this method does not have: {some(unknown)}.")
    if missing := sorted(set(shapes) - set(weights)):
        raise ValueError(f"{path!r} is incomplete: nothing in it gives {some(missing)}.")
    wrong = [name for name, tensor in weights.items() if tuple(tensor.shape) != shapes[name]]
    if wrong:
        found = some(f"{name} {tuple(weights[name].shape)} instead of {shapes[name]}" for name in wrong)
        raise ValueError(f"{path!r} holds tensors whose shapes do not fit each other: {found}.")


def _infer_config(tensors: Mapping[str, Tensor], path: str) -> RamConfig:
    vision_width, num_channels, patch_size, _ = tensors["visual.conv1.weight"].shape
    num_patches = tensors["visual.positional_embedding"].shape[0] - 1
    context_length, text_width = tensors["positional_embedding"].shape
    projection_dim = tensors["visual.proj"].shape[1]
    vision_layers = _num_layers(tensors, VISION_LAYER, "vision", path)
    text_layers = _num_layers(tensors, TEXT_LAYER, "text", path)
    # A layer that has one part of a ladder lacks the rest: it is then missed by name.
    ladder_layers = _layer_indices(tensors, VISION_LAYER + r"\.(conv_adapter|adapt_embeds)")
    prompt_layers = _layer_indices(tensors, TEXT_LAYER + r"\.deep_embeds")
    ladder_tokens = [
        value.shape[0] for name, value in tensors.items() if name.endswith(".adapt_embeds") and value.dim()
    ]
    prompt_tokens = [
        value.shape[0] for name, value in tensors.items() if name.endswith(".deep_embeds") and value.dim()
    ]
    gates = [value.shape[-1] for name, value in tensors.items() if name.endswith("conv_adapter_layers.weight")]
    vocab_size = tensors["token_embedding.weight"].shape[0]
    clip_config = {
        "projection_dim": projection_dim,
        "vision_config": {
            "hidden_size": vision_width,
            "intermediate_size": tensors["visual.transformer.resblocks.0.mlp.c_fc.weight"].shape[0],
            "num_hidden_layers": vision_layers,
            "num_attention_heads": max(1, vision_width // _HEAD_WIDTH),
            "num_channels": num_channels,
            "image_size": round(num_patches**0.5) * patch_size,
            "patch_size": patch_size,
            "projection_dim": projection_dim,
        },
        "text_config": {
            "hidden_size": text_width,
            "intermediate_size": tensors["transformer.resblocks.0.mlp.c_fc.weight"].shape[0],
            "num_hidden_layers": text_layers,
            "num_attention_heads": max(1, text_width // _HEAD_WIDTH),
            "max_position_embeddings": context_length,
            "vocab_size": vocab_size,
            "projection_dim": projection_dim,
            "bos_token_id": vocab_size - 2,
            "eos_token_id": vocab_size - 1,  # the largest id ends the text
        },
    }
    fields = {
        "clip_config": clip_config,
        "ladder_layers": ladder_layers,
        "prompt_layers": prompt_layers,
        "ladder_tokens": max(ladder_tokens, default=0),
        "prompt_tokens": max(prompt_tokens, default=0),
        "aggregation_kernel_size": max(gates, default=3),
        "normalize_plan": False,
    }
    try:
        return RamConfig.from_dict(fields)
    except ValueError as error:
        raise ValueError(f"{path!r} holds tensors whose shapes are those of no model. {error}") from error


def _num_layers(tensors: Mapping[str, Tensor], pattern: str, tower: str, path: str) -> int:
    layers = _layer_indices(tensors, pattern)
    gap = next((index for index, layer in enumerate(layers) if index != layer), None)
    if gap is not None:
        raise ValueError(f"{path!r} has a layer {layers[gap]} of the {tower} tower but none {gap}.")
    return len(layers)


def _layer_indices(tensors: Mapping[str, Tensor], pattern: str) -> list[int]:
    """Indices of the layers of student or teacher that have a tensor of this pattern."""
    matches = (re.match(pattern, name.removeprefix(_TEACHER)) for name in tensors)
    return sorted({int(match.group(1)) for match in matches if match})


__all__ = ["convert_original_checkpoint", "convert_to_folder"]
