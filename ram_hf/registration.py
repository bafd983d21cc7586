"""Make RAM known to transformers' Auto classes and `pipeline`, without importing transformers before its user does.

Registering needs our classes, and those need torch (seconds). So registration waits until that part of transformers is
imported by whoever wants it, which an import hook notices.
"""

import functools
import importlib.abc
import importlib.machinery
import sys
from collections.abc import Callable, Sequence
from types import ModuleType
from typing import Any

# Registration waits until no module below these is half imported: transformers imports its Auto classes from within
# its base classes, and our classes are made of the latter.
_WATCHED = ("transformers", "ram_hf.model")

# What `pipeline` asks about a model before its configuration: its commit, and whether it is an adapter of peft.
_ASKED_FIRST = ("resolve_revision", "cached_file", "find_adapter_config_file")


def _register_config() -> None:
    from transformers.models.auto.configuration_auto import AutoConfig

    from .model.configuration_ram import RamConfig

    AutoConfig.register(RamConfig.model_type, RamConfig, exist_ok=True)
    _teach_bundled_names(AutoConfig)


def _register_model() -> None:
    from transformers.models.auto.modeling_auto import AutoModel, AutoModelForZeroShotImageClassification

    from .model.configuration_ram import RamConfig
    from .model.modeling_ram import RamModel

    AutoModel.register(RamConfig, RamModel, exist_ok=True)
    AutoModelForZeroShotImageClassification.register(RamConfig, RamModel, exist_ok=True)
    _teach_bundled_names(AutoModel)
    _teach_bundled_names(AutoModelForZeroShotImageClassification)


def _register_processor() -> None:
    from transformers.models.auto.processing_auto import AutoProcessor

    from .model.configuration_ram import RamConfig
    from .model.processing_ram import RamProcessor

    AutoProcessor.register(RamConfig, RamProcessor, exist_ok=True)
    _teach_bundled_names(AutoProcessor)


def _register_tokenizer() -> None:
    from transformers.models.auto.tokenization_auto import AutoTokenizer

    _teach_bundled_names(AutoTokenizer)


def _register_image_processor() -> None:
    from transformers.models.auto.image_processing_auto import AutoImageProcessor

    _teach_bundled_names(AutoImageProcessor)


def _register_pipeline() -> None:
    from transformers.pipelines import PIPELINE_REGISTRY

    from .model.bundled import DEFAULT_MODEL
    from .model.pipeline_ram import TASK, RamTaggingPipeline, TaggingAutoModel

    default = (DEFAULT_MODEL, "main")  # and the revision that it would have on the Hub
    PIPELINE_REGISTRY.register_pipeline(
        TASK, RamTaggingPipeline, pt_model=TaggingAutoModel, default=default, type="multimodal"
    )
    pipelines = sys.modules["transformers.pipelines"]
    _teach_the_task(pipelines, TASK)
    for name in _ASKED_FIRST:
        if hasattr(pipelines, name):
            setattr(pipelines, name, _taking_bundled_names(getattr(pipelines, name)))


def _teach_the_task(pipelines: Any, task: str) -> None:
    """Let `pipeline(model=...)` without a task know ours by the model's type, which needs no card on the Hub."""
    from .model.checkpoint_kind import kind_of_checkpoint

    of_transformers = pipelines.get_task

    @functools.wraps(of_transformers)
    def get_task(model: str, token: str | None = None, **kwargs: Any) -> str:
        try:
            kind = kind_of_checkpoint(model, token=token)
        except (OSError, ValueError):
            kind = None
        return task if kind == "ram" else of_transformers(model, token, **kwargs)

    pipelines.get_task = get_task


def _teach_bundled_names(auto_class: Any) -> None:
    """Let an Auto class, and so `pipeline`, take the name of a model that comes with the package, such as "ram-photo".

    It asks the Hub for the name before it knows that the checkpoint is ours, so this cannot wait for our own classes.
    """
    from .model.bundled import find_bundled

    of_transformers = auto_class.from_pretrained.__func__

    @functools.wraps(of_transformers)
    def from_pretrained(cls: Any, pretrained_model_name_or_path: Any, *args: Any, **kwargs: Any) -> Any:
        return of_transformers(cls, find_bundled(pretrained_model_name_or_path), *args, **kwargs)

    auto_class.from_pretrained = classmethod(from_pretrained)


def _taking_bundled_names(function: Callable[..., Any]) -> Callable[..., Any]:
    """A function of a model's name that takes the name of one that comes with the package too."""
    from .model.bundled import find_bundled

    @functools.wraps(function)
    def with_bundled_names(name: Any, *args: Any, **kwargs: Any) -> Any:
        return function(find_bundled(name), *args, **kwargs)

    return with_bundled_names


# What to do once a module of transformers is there; each entry leaves when done. One each, so that a program pays for
# the classes that it uses.
_PENDING: dict[str, Callable[[], None]] = {
    "transformers.models.auto.configuration_auto": _register_config,
    "transformers.models.auto.modeling_auto": _register_model,
    "transformers.models.auto.processing_auto": _register_processor,
    "transformers.models.auto.tokenization_auto": _register_tokenizer,
    "transformers.models.auto.image_processing_auto": _register_image_processor,
    "transformers.pipelines": _register_pipeline,
}


class _RegisterAfterImport(importlib.abc.MetaPathFinder):
    """Watches imports of transformers and registers once they are complete."""

    def __init__(self) -> None:
        self.depth = 0  # watched modules that are being executed right now

    def find_spec(
        self, fullname: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        """Find the module where Python would, and watch its execution."""
        if not any(fullname == watched or fullname.startswith(f"{watched}.") for watched in _WATCHED):
            return None
        spec = importlib.machinery.PathFinder.find_spec(fullname, path, target)
        if spec is not None and spec.loader is not None:
            spec.loader = _WatchedLoader(spec.loader, self)
        return spec

    def register_what_is_ready(self) -> None:
        # One at a time: registering imports more of transformers, which can come back here and do the rest.
        while ready := next((name for name in _PENDING if name in sys.modules), None):
            _PENDING.pop(ready)()
        if not _PENDING and self in sys.meta_path:
            sys.meta_path.remove(self)


class _WatchedLoader(importlib.abc.Loader):
    """Executes a module with its own loader, then reports that it is complete."""

    def __init__(self, loader: importlib.abc.Loader, finder: _RegisterAfterImport) -> None:
        self.loader = loader
        self.finder = finder

    def __getattr__(self, name: str) -> Any:
        return getattr(self.loader, name)  # `get_code`, `get_data`, ...

    def create_module(self, spec: importlib.machinery.ModuleSpec) -> ModuleType | None:
        return self.loader.create_module(spec)

    def exec_module(self, module: ModuleType) -> None:
        # From here on the module is as if it had never been watched.
        module.__loader__ = self.loader
        if module.__spec__ is not None:
            module.__spec__.loader = self.loader
        self.finder.depth += 1
        try:
            self.loader.exec_module(module)
        finally:
            self.finder.depth -= 1
        if self.finder.depth == 0:
            self.finder.register_what_is_ready()


def install() -> None:
    """Register now what transformers has loaded already, and watch for the rest."""
    finder = _RegisterAfterImport()
    sys.meta_path.insert(0, finder)
    finder.register_what_is_ready()
