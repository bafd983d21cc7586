"""The common tests of transformers, out of its source distribution, which `make test` fetches into the environment.

None of their text is in this repository: they are unpacked into a folder of this process's own, and imported there.
"""

import importlib.util
import os
import sys
import tarfile
import tempfile
from pathlib import Path
from types import ModuleType

import pytest
import transformers
from PIL import Image

FOLDER = Path(sys.prefix) / "source-distributions"
_PACKAGE = "transformers_common_tests"

# What the common tests import and the source distribution does not ship, in a line each.
_STUBS = {
    "src/transformers/__init__.py": "",  # the installed one is taken: a second one beside it would be another library
    "tests/__init__.py": "",
    "tests/exporters/test_export.py": "class ExportTesterMixin: pass",
    "tests/generation/test_utils.py": "class GenerationTesterMixin: pass",
    "tests/utils/test_configuration_utils.py": "config_common_kwargs = {}",
    "tests/utils/tiny_model_summary.json": "{}",
    "utils/fetch_hub_objects_for_ci.py": "def url_to_local_path(url): return __file__.replace('.py', '.png')",
}


def common_tests(name: str) -> ModuleType:
    """A module of the common tests, such as "test_modeling_common"; the tests that want it are skipped without."""
    if _PACKAGE not in sys.modules:
        _import_package(_unpack(find_archive()))
    return importlib.import_module(f"{_PACKAGE}.{name}")


def find_archive() -> Path:
    """The source distribution of the installed transformers; skips without it, and raises where CI demands it."""
    archive = FOLDER / f"transformers-{transformers.__version__}.tar.gz"
    if archive.is_file():
        return archive
    message = f"the common tests of transformers are not there: `make test` fetches them to {archive}"
    if os.environ.get("RAM_HF_REQUIRE_COMMON_TESTS"):
        raise FileNotFoundError(message)
    pytest.skip(message, allow_module_level=True)


def _unpack(archive: Path) -> Path:
    global _unpacked  # as long as this process
    _unpacked = tempfile.TemporaryDirectory(prefix="transformers-tests-")
    folder = Path(_unpacked.name)
    root = f"{archive.name.removesuffix('.tar.gz')}/"
    with tarfile.open(archive) as tar:
        for member in tar:
            if member.name.startswith(f"{root}tests/"):
                member.name = member.name.removeprefix(root)
                tar.extract(member, folder, filter="data")
    for name, line in _STUBS.items():
        file = folder / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(line)
    Image.linear_gradient("L").convert("RGB").save(folder / "utils/fetch_hub_objects_for_ci.png")
    return folder


def _import_package(folder: Path) -> None:
    """As a package of another name than that of our own tests; its modules import each other relatively."""
    tests = folder / "tests"
    spec = importlib.util.spec_from_file_location(
        _PACKAGE, tests / "__init__.py", submodule_search_locations=[str(tests)]
    )
    module = importlib.util.module_from_spec(spec)
    sys.modules[_PACKAGE] = module
    spec.loader.exec_module(module)
