"""A disk without room, for each command that writes: told by name, nothing half is left, and with room it goes on."""

import fnmatch
import re
import shutil

import pytest
from safetensors.torch import save_file

from tests.faults.commands import COMMANDS, original_checkpoint, words_of, write_inputs
from tests.fork_server import tree
from tests.training.conftest import (  # noqa: F401  (fixtures)
    clip_folder,
    corpus,
    corpus_rows,
)
from tests.training.conftest import options as training_options

pytestmark = [pytest.mark.slow, pytest.mark.shared]
_UNFINISHED = re.compile(r"unfinished|\.lock|\.old-")


@pytest.fixture(scope="module")
def inputs(tmp_path_factory, _shared_tiny_model, tiny_processor, clip_folder, corpus, shared_dir):  # noqa: F811
    folder = tmp_path_factory.mktemp("inputs")
    options = training_options.__wrapped__(corpus, clip_folder, folder)
    write_inputs(folder, _shared_tiny_model, tiny_processor, options)
    tensors = original_checkpoint(shared_dir / "parity", len(tiny_processor.tokenizer))
    save_file(tensors, folder / "original.safetensors")
    return folder


@pytest.fixture(scope="module")
def outputs(tmp_path_factory):
    return tmp_path_factory.mktemp("outputs")


@pytest.fixture(scope="module")
def undisturbed(server, inputs, outputs):
    """What each command writes, and how many bytes of how large files: made once a command."""
    known = {}

    def look(name):
        if name not in known:
            run = begin(server, name, inputs, outputs)
            assert run.status == 0, run.said
            sizes = [path.stat().st_size for path in (outputs / "out").rglob("*") if path.is_file()]
            known[name] = tree(outputs / "out"), sizes
        return known[name]

    return look


def begin(server, name, inputs, outputs, **limits):
    shutil.rmtree(outputs / "out", ignore_errors=True)
    (outputs / "out").mkdir()
    if "OUT/out " in COMMANDS[name].words:  # files beside the images
        shutil.copytree(inputs / "images", outputs / "out", dirs_exist_ok=True)
    return server.run(words_of(COMMANDS[name], inputs, outputs), outputs, **limits)


def check_told(run, name, outputs, reason):
    assert run.status == 1, (run.status, run.said)
    (last,) = re.findall("^ram-hf: error: .*", run.said, re.MULTILINE)  # on a line of its own
    assert reason in last
    assert str(outputs / "out") in last
    assert re.search("stays|is left|is kept|No row is written|holds what it held|earlier checkpoint|whole", last), last


def check_left(found, whole, name):
    """Each file is that of an undisturbed run, or one that grows."""
    grows = COMMANDS[name].grows
    for file, content in found.items():
        assert not _UNFINISHED.search(file), file
        if not any(fnmatch.fnmatch(file, f"*{pattern}") for pattern in grows):
            assert whole.get(file) == content, f"{file} is half"


def check_end(run, found, whole, name):
    assert run.status == 0, run.said
    assert found.keys() == whole.keys()
    for file, content in whole.items():
        # A checkpoint that was written again holds the same, in other bytes.
        if not file.endswith(COMMANDS[name].differs or "no such") and "checkpoints/" not in file:
            assert found[file] == content, file


@pytest.mark.parametrize("name", COMMANDS)
def test_a_limit_of_file_sizes(server, inputs, outputs, undisturbed, name):
    whole, sizes = undisturbed(name)
    run = begin(server, name, inputs, outputs, most_bytes=max(sizes) // 2)
    check_told(run, name, outputs, "File too large")
    check_left(tree(outputs / "out"), whole, name)
    again = server.run(words_of(COMMANDS[name], inputs, outputs, resumed=True), outputs)
    check_end(again, tree(outputs / "out"), whole, name)


@pytest.mark.parametrize("share", [0.3, 0.8])
@pytest.mark.parametrize("name", COMMANDS)
def test_a_full_file_system(server_that_mounts, inputs, outputs, undisturbed, name, share):
    ask = server_that_mounts.ask
    whole, sizes = undisturbed(name)
    shutil.rmtree(outputs / "out", ignore_errors=True)
    (outputs / "out").mkdir()
    pages = sum(-(-size // 4096) for size in sizes)
    at = str(outputs / "out")
    ask(do="mount", folder=at, size=4096 * max(2, int(share * pages)))
    try:
        if "OUT/out " in COMMANDS[name].words:
            images = sum(-(-path.stat().st_size // 4096) for path in (inputs / "images").iterdir())
            ask(do="mount", folder=at, size=4096 * max(images + 1, images + int(share * (pages - images))))
            ask(do="copy", source=str(inputs / "images"), target=at)
        run = server_that_mounts.run(words_of(COMMANDS[name], inputs, outputs), outputs)
        check_told(run, name, outputs, "No space left on device")
        check_left(ask(do="tree", folder=at), whole, name)
        ask(do="mount", folder=at, size=2**28)
        again = server_that_mounts.run(words_of(COMMANDS[name], inputs, outputs, resumed=True), outputs)
        check_end(again, ask(do="tree", folder=at), whole, name)
    finally:
        ask(do="unmount", folder=at)
