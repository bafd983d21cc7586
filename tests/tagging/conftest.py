import pytest


@pytest.fixture(scope="session")
def model_folder(tmp_path_factory, _shared_tiny_model, tiny_processor):
    """A tiny RAM with its processor, as `--model` takes it."""
    folder = tmp_path_factory.mktemp("model")
    _shared_tiny_model.save_pretrained(folder)
    tiny_processor.save_pretrained(folder)
    return folder
