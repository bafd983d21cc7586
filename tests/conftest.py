"""Fixtures shared by all tests: a RAM model small enough to build in a blink, and the reference data."""

import copy
import os
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from huggingface_hub import constants, hf_api
from tokenizers.pre_tokenizers import ByteLevel
from transformers import CLIPTokenizer
from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil

from ram_hf import RamConfig, RamModel, RamProcessor

from .fork_server import ForkServer
from .hub_server import HubServer

torch.set_num_threads(1)  # the tests themselves run in parallel

# A trained model, calibrated, of scenes: for tests of what a model says. What the package brings may say other things.
RAM_TINY = Path(__file__).parents[1] / "examples" / "ram-tiny"

LABELS = ["dog", "red car", "tree", "a bicycle by the river"]


def make_tokenizer() -> CLIPTokenizer:
    """A CLIP tokenizer that spells: one token a character, so that any label can be written."""
    characters = sorted(ByteLevel.alphabet())
    tokens = [*characters, *(character + "</w>" for character in characters), "<|startoftext|>", "<|endoftext|>"]
    return CLIPTokenizer(vocab={token: index for index, token in enumerate(tokens)}, merges=[], model_max_length=77)


def make_config(**overrides) -> RamConfig:
    """5 vision and 4 text layers, 64 wide, 8-pixel patches on 32-pixel images: about 0.5 M parameters."""
    vocab_size = len(make_tokenizer())
    clip_config = {
        "projection_dim": 48,
        "logit_scale_init_value": 3.0,
        "vision_config": {
            "hidden_size": 64,
            "intermediate_size": 96,
            "num_hidden_layers": 5,
            "num_attention_heads": 4,
            "image_size": 32,
            "patch_size": 8,
        },
        "text_config": {
            "hidden_size": 32,
            "intermediate_size": 64,
            "num_hidden_layers": 4,
            "num_attention_heads": 2,
            "vocab_size": vocab_size,
            "bos_token_id": vocab_size - 2,
            "eos_token_id": vocab_size - 1,
        },
    }
    for tower in ("vision_config", "text_config"):
        clip_config[tower]["projection_dim"] = clip_config["projection_dim"]
        clip_config[tower].update(overrides.pop(tower, {}))
    return RamConfig(clip_config=clip_config, **overrides)


@pytest.fixture(scope="session")
def tiny_config() -> RamConfig:
    return make_config()


@pytest.fixture(scope="session")
def _shared_tiny_model() -> RamModel:
    torch.manual_seed(0)
    return RamModel(make_config()).eval()


@pytest.fixture
def tiny_model(_shared_tiny_model) -> RamModel:
    return copy.deepcopy(_shared_tiny_model)


@pytest.fixture(scope="session")
def tiny_processor() -> RamProcessor:
    return RamProcessor(CLIPImageProcessorPil(size={"height": 32, "width": 32}), make_tokenizer())


@pytest.fixture
def pixel_values() -> torch.Tensor:
    return torch.randn(3, 3, 32, 32, generator=torch.Generator().manual_seed(1))


@pytest.fixture
def label_inputs(tiny_processor) -> dict[str, torch.Tensor]:
    return dict(tiny_processor(labels=LABELS))


@pytest.fixture
def hub(tmp_path, monkeypatch) -> Iterator[HubServer]:
    """A Hub on loopback with an empty cache and no token, for this process and for those that it starts."""
    home = tmp_path / "hf_home"
    server = HubServer()
    environment = {"HF_ENDPOINT": server.url, "HF_HOME": str(home), "HF_HUB_DISABLE_XET": "1"}
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    for name in ("HF_HUB_OFFLINE", "HF_TOKEN", "HF_HUB_CACHE", "HF_MODULES_CACHE"):
        monkeypatch.delenv(name, raising=False)
    # The client has read its environment long ago.
    read_by_the_client = {
        "ENDPOINT": server.url,
        "HUGGINGFACE_CO_URL_TEMPLATE": server.url + "/{repo_id}/resolve/{revision}/{filename}",
        "HF_HUB_OFFLINE": False,
        "HF_HUB_DISABLE_XET": True,
        "HF_HUB_CACHE": str(home / "hub"),
        "HF_TOKEN_PATH": str(home / "token"),
    }
    for name, value in read_by_the_client.items():
        monkeypatch.setattr(constants, name, value)
    monkeypatch.setattr(hf_api.api, "endpoint", server.url)
    monkeypatch.setattr("transformers.utils.hub._hf_api", None, raising=False)  # transformers' own, made when needed
    with server.serving():
        yield server
    assert not server.faults, server.faults[0]


@pytest.fixture(scope="session")
def server() -> Iterator[ForkServer]:
    """Runs `ram-hf` in processes of its own; what a test of them takes if the imports are not what it asks about."""
    server = ForkServer()
    yield server
    server.close()


@pytest.fixture(scope="session")
def shared_dir() -> Path:
    """The reference data beside the checkout; CI sets RAM_HF_REQUIRE_SHARED, so that it cannot go missing."""
    folder = Path(__file__).parents[2] / "shared"
    if not folder.is_dir():
        message = f"the reference data is not there: no folder {folder}"
        if os.environ.get("RAM_HF_REQUIRE_SHARED"):
            pytest.fail(message)
        pytest.skip(message)
    return folder
