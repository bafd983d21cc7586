import subprocess

import pytest

from tests.fork_server import ForkServer


@pytest.fixture(scope="session")
def server_that_mounts():
    asked = ["unshare", "-rm", "sh", "-c", "mount -t tmpfs -o size=16k tmpfs /mnt"]
    try:
        refused = subprocess.run(asked, capture_output=True, text=True, timeout=60, check=False)
    except FileNotFoundError as error:
        pytest.skip(f"no small file system can be made here: {error}")
    if refused.returncode:
        pytest.skip(f"no small file system may be mounted here: {refused.stderr.strip()}")
    server = ForkServer(alone=True)
    yield server
    server.close()


@pytest.fixture(scope="session")
def model_folder(tmp_path_factory, _shared_tiny_model, tiny_processor):
    """A tiny RAM with its processor."""
    folder = tmp_path_factory.mktemp("model")
    _shared_tiny_model.save_pretrained(folder)
    tiny_processor.save_pretrained(folder)
    return folder
