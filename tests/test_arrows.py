"""Imports point down the map of CONTRIBUTING.md, and one file alone writes."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

import ram_hf

PACKAGE = Path(ram_hf.__file__).parent
FILES = sorted(PACKAGE.rglob("*.py"))
MODEL_WITHOUT_TORCH = {"model.image_decoding", "model.pixels", "model.suggestions"}

# What each room imports besides itself, rooms and single files; what is not here is imported from nowhere.
ARROWS = {
    "__main__": {"cli"},
    "train": {"cli"},
    "cli": {"interruption", "model.suggestions", "hub_errors"},  # the rooms by name, each when it is called
    "pretraining": {
        "training",
        "scenes",
        "evaluation",
        "data",
        "model",
        "atomic",
        "interruption",
        "pretrained",
        "option_types",
    },
    "training": {
        "evaluation",
        "data",
        "model",
        "atomic",
        "interruption",
        "pretrained",
        "option_types",
        "text_files",
        "yaml_options",
    },
    "tagging": {
        "changed_model",
        "data.label_set",
        "model",
        "atomic",
        "interruption",
        "pretrained",
        "visualize",
        "option_types",
        "prompt_option",
        "text_files",
        "matching_paths",
    },
    "evaluation": {
        "changed_model",
        "data",
        "model",
        "atomic",
        "pretrained",
        "option_types",
        "prompt_option",
        "config_option",
        "uploads",
        "hub_errors",
    },
    "conversion": {"data", "model", "atomic", "option_types"},
    "visualize": {"model", "atomic", "fonts"},
    "fonts": set(),
    "scenes": {"data", "atomic", "interruption", *MODEL_WITHOUT_TORCH, "option_types"},
    "data": {
        "atomic",
        "interruption",
        "uploads",
        "hub_errors",
        "model.hub_names",
        "model.images",
        *MODEL_WITHOUT_TORCH,
        "option_types",
        "text_files",
        "matching_paths",
    },
    "publishing": {"data", "model", "atomic", "pretrained", "uploads", "hub_errors"},
    "pretrained": {"model", "hub_errors"},
    "changed_model": {"model"},
    "hub_errors": {"model.hub_names"},
    "registration": {"model"},
    "uploads": {"model.suggestions", "hub_errors"},
    "atomic": set(),
    "option_types": set(),
    "prompt_option": {"model.prompt_sets", "model.prompt_templates"},
    "config_option": {"model.suggestions", "option_types", "yaml_options"},
    "yaml_options": set(),
    "text_files": set(),
    "matching_paths": set(),
    "interruption": set(),
    "model": set(),
}

# Inside the travelling folder: the arithmetic knows nothing else of ours, and a processor no model.
MODEL_ARROWS = {
    "configuration_ram": {"bundled", "calibration", "suggestions"},
    "calibration": {"suggestions"},
    "optimal_transport": {"reading"},  # where asking a device is free: nothing of CLIP, nothing of ours
    "reading": set(),
    "hub_names": set(),
    "handler": set(),  # loaded by its path alone
    "eval_results": set(),
    "run_record": {"eval_results", "hub_names"},
    "card_text": {"configuration_ram", "eval_results", "hub_names", "run_record"},
    "own_weight": set(),
    "losses": set(),
    "suggestions": set(),
    "prompt_sets": set(),
    "prompt_templates": {"prompt_sets", "suggestions"},
    "mean_direction": set(),
    "refine": {"modeling_ram"},
    "image_decoding": {"colour_profiles", "pixels", "png_chunks"},
    "colour_profiles": set(),
    "png_chunks": set(),
    "ladder_adapter": {"clip_attention", "configuration_ram", "optimal_transport"},
    "image_encoder": {
        *("clip_attention", "configuration_ram", "ladder_adapter", "layer_record", "own_weight", "patch_repair"),
    },
    "patch_repair": set(),
    "layer_record": set(),
    "aggregation": {"configuration_ram"},
    "matching": {"aggregation", "configuration_ram", "optimal_transport"},
    "reference_labels": {"aggregation", "configuration_ram", "optimal_transport"},
    "patch_collection": set(),
    "visual_classifier": {"own_weight", "patch_collection", "reference_labels"},
}
NEVER_BY_THE_PROCESSOR = {"modeling_ram", "ladder_adapter", "label_encoder", "optimal_transport", "losses"}


@pytest.mark.parametrize("file", FILES, ids=lambda file: str(file.relative_to(PACKAGE)))
def test_imports_point_down(file):
    room = _dotted(file).partition(".")[0]
    if room == "__init__":
        return  # hands out names of every room, and imports none of them until it is asked
    assert room in ARROWS, f"The room {room!r} is new: add it to the map in CONTRIBUTING.md and to `ARROWS`."
    for line, target in _imports(file):
        target_room = target.partition(".")[0]
        allowed = ARROWS[room] | {room}
        assert target_room in allowed or target in allowed, (
            f"{file.relative_to(PACKAGE)}:{line} imports ram_hf.{target}, which {room!r} must not know; it may import "
            f"{', '.join(sorted(allowed))}. Move what is shared down, or hand it in as an argument."
        )


@pytest.mark.parametrize("file", sorted((PACKAGE / "model").glob("*.py")), ids=lambda file: file.name)
def test_imports_inside_the_travelling_folder(file):
    siblings = {target.partition(".")[2] for _, target in _imports(file)}
    allowed = MODEL_ARROWS.get(file.stem)
    if allowed is not None:
        assert siblings <= allowed, f"{file.name} imports {sorted(siblings - allowed)}"
    if file.stem == "processing_ram":
        assert not siblings & NEVER_BY_THE_PROCESSOR


def test_no_circle():
    graph = {_dotted(file): {target for _, target in _imports(file)} for file in FILES}
    while free := {name for name, targets in graph.items() if not targets & graph.keys()}:
        graph = {name: targets for name, targets in graph.items() if name not in free}
    assert not graph, f"These import each other in a circle: {sorted(graph)}"


@pytest.mark.parametrize("file", FILES, ids=lambda file: str(file.relative_to(PACKAGE)))
def test_atomic_alone_opens_files_for_writing(file):
    writes = {
        f"line {node.lineno}"
        for node in ast.walk(ast.parse(file.read_text()))
        if isinstance(node, ast.Call) and _opens_for_writing(node)
    }
    if file.name == "atomic.py":
        assert writes, "This test no longer sees what it looks for."
    elif file.name == "reader.py":
        assert len(writes) <= 1, "/proc/self/oom_score_adj is no file; nothing else may be written here."
    else:
        assert not writes, f"{file.relative_to(PACKAGE)} writes in {sorted(writes)}: use ram_hf.atomic"


def _dotted(file: Path) -> str:
    return ".".join(file.relative_to(PACKAGE).with_suffix("").parts).removesuffix(".__init__")


def _imports(file: Path) -> Iterator[tuple[int, str]]:
    """Line and module, below `ram_hf`, of each import in a file, also of those inside functions."""
    package = ["ram_hf", *file.relative_to(PACKAGE).parts[:-1]]
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.Import):
            modules = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else []
            module = ".".join([*base, *([node.module] if node.module else [])])
            # `from .room import file` names a module; `from .file import name` does not.
            modules = [
                f"{module}.{alias.name}" if _is_module(f"{module}.{alias.name}") else module for alias in node.names
            ]
        else:
            continue
        for module in modules:
            if module.startswith("ram_hf."):
                yield node.lineno, module.removeprefix("ram_hf.")


def _is_module(dotted: str) -> bool:
    path = PACKAGE.parent.joinpath(*dotted.split("."))
    return path.with_suffix(".py").is_file() or (path / "__init__.py").is_file()


def _opens_for_writing(call: ast.Call) -> bool:
    name = call.func.attr if isinstance(call.func, ast.Attribute) else getattr(call.func, "id", "")
    if name in ("write_text", "write_bytes"):
        # Into a path that `whole_file` or `whole_folder` gave: those are named so.
        owner = ast.unparse(call.func.value)
        return "unfinished" not in owner
    if name != "open":
        return False
    owner = ast.unparse(call.func.value) if isinstance(call.func, ast.Attribute) else ""
    if owner in ("Image", "fsspec", "tarfile", "zipfile"):
        return False
    position = 1 if not owner or owner in ("io", "os") else 0
    modes = [word.value for word in call.keywords if word.arg == "mode"] + call.args[position : position + 1]
    return any(
        isinstance(mode, ast.Constant) and isinstance(mode.value, str) and set("wax+") & set(mode.value)
        for mode in modes
    ) and not ("unfinished" in owner or any("unfinished" in ast.unparse(argument) for argument in call.args))
