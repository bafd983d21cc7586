"""Runs `ram-hf` again and again in processes of its own, without paying for the imports each time.

A server has imported everything and loaded a model, and started no thread (none would come along). Each run is a fork,
which does all that a command line does but import: read arguments, load, lock, write. A run can be killed at any time
or at the n-th change that it makes below a folder (before a file is opened for writing, renamed, removed, ...), and be
given a limit of file sizes.
"""

import gc
import hashlib
import json
import os
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Any, NamedTuple

ROOT = Path(__file__).parents[1]
_CHANGES = {"os.rename", "os.remove", "os.mkdir", "os.rmdir", "os.truncate", "os.chmod", "os.link", "shutil.rmtree"}
_WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT


class Run(NamedTuple):
    """What came of a run: its exit status (negative: the signal), what it said, changes made, seconds taken."""

    status: int
    said: str
    changes: int
    seconds: float


class ForkServer:
    """The near end.

    Args:
        alone: in a mount namespace of its own, where it may mount file systems.
    """

    def __init__(self, *, alone: bool = False):
        command = [sys.executable, "-m", "tests.fork_server"]
        self._home = tempfile.TemporaryDirectory(prefix="ram_hf-home-")
        environment = {**os.environ, "OMP_NUM_THREADS": "1", "ACCELERATE_USE_CPU": "1", "PYTHONPATH": str(ROOT)}
        environment |= {"HF_HOME": self._home.name, "HF_HUB_OFFLINE": "1"}
        self._process = subprocess.Popen(
            ["unshare", "-rm", *command] if alone else command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=environment,
            cwd=ROOT,
        )
        assert self._answer() == "ready"

    def close(self) -> None:
        self._process.stdin.close()
        self._process.wait(timeout=60)
        self._home.cleanup()

    def ask(self, **request: Any) -> Any:
        self._process.stdin.write(json.dumps(request) + "\n")
        self._process.stdin.flush()
        return self._answer()

    def run(
        self,
        argv: list[str],
        folder: Path,
        *,
        cwd: Path = ROOT,
        kill_at: int | None = None,
        kill_after: float | None = None,
        most_bytes: int | None = None,
    ) -> Run:
        """Run `ram-hf` in `cwd`, counting its changes below `folder`; killed at one of them, or after some seconds."""
        return Run(
            *self.ask(
                do="run",
                argv=list(map(str, argv)),
                folder=str(folder),
                cwd=str(cwd),
                kill_at=kill_at,
                kill_after=kill_after,
                most_bytes=most_bytes,
            )
        )

    def _answer(self) -> Any:
        line = self._process.stdout.readline()
        assert line, "the server of runs has died"
        return json.loads(line)


def tree(folder: str | Path) -> dict[str, str]:
    """Each file below a folder with a hash of its content."""
    files = [path for path in sorted(Path(folder).rglob("*")) if not path.is_dir()]
    return {str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


# --- the far end -----------------------------------------------------------------------------------------------------


def serve() -> None:
    replies = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # whatever prints, prints elsewhere
    _import_everything()
    threads = os.listdir("/proc/self/task")
    _load_once()
    assert os.listdir("/proc/self/task") == threads, "a fork takes none along of the threads that a model started"
    gc.freeze()  # or whatever collects in a run would walk through all that is here
    print(json.dumps("ready"), file=replies, flush=True)
    for line in sys.stdin:
        request = json.loads(line)
        answer = _ANSWERS[request.pop("do")](**request)
        print(json.dumps(answer), file=replies, flush=True)


def _import_everything() -> None:
    from importlib import import_module

    from ram_hf import cli
    from ram_hf.pretraining import teacher
    from tests.pretraining.drawn_photographs import ColourTeacher

    rooms = (
        "training.loop evaluation.by_name conversion.original_checkpoint scenes.corpus scenes.renderer data.prepare"
    )
    rooms += " data.prepare pretraining.scene_clip pretraining.photo_clip pretraining.photo_rows pretraining.bundling"
    rooms += " tagging.tagger tagging.locks tagging.overlay tagging.writers tagging.sidecars visualize pretrained"
    rooms += " tagging.loading tagging.index tagging.index_changes tagging.feature_encoder"
    for name in [module for module, _ in cli.COMMANDS.values()] + [f"ram_hf.{room}" for room in rooms.split()]:
        import_module(name)
    import pyarrow.parquet  # noqa: F401
    from PIL import Image
    from transformers import CLIPModel, CLIPTokenizer  # noqa: F401
    from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil  # noqa: F401

    Image.init()
    teacher.EfficientNetLite0 = lambda size: ColourTeacher()  # the real one is a package of its own, and slow


def _load_once() -> None:
    """What transformers works out at the first model that it loads, and remembers, takes longer than a small model."""
    from tqdm import tqdm
    from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil

    from ram_hf import RamModel, RamProcessor
    from ram_hf.pretrained import load_model
    from tests.conftest import make_config, make_tokenizer

    tqdm.monitor_interval = 0  # it would watch each bar from a thread

    with tempfile.TemporaryDirectory() as folder:
        RamModel(make_config()).save_pretrained(folder)
        RamProcessor(CLIPImageProcessorPil(size={"height": 32, "width": 32}), make_tokenizer()).save_pretrained(folder)
        load_model(folder)


def _run(argv, folder, cwd, kill_at, kill_after, most_bytes) -> Run:
    log = Path("/tmp") / f"ram_hf-run-{os.getpid()}.txt"
    log.touch()
    counted, count = os.pipe()
    begun = time.monotonic()
    pid = os.fork()
    if pid == 0:
        os.close(counted)
        _be_the_run(argv, folder, cwd, kill_at, most_bytes, log, count)
    os.close(count)
    if kill_after is not None:
        time.sleep(kill_after)
        os.kill(pid, signal.SIGKILL)
    _, status = os.waitpid(pid, 0)
    changes = len(os.read(counted, 2**16))  # of a pipe that was never full: a byte each
    os.close(counted)
    said = log.read_text(errors="replace")
    log.unlink()
    return Run(os.waitstatus_to_exitcode(status), said, changes, time.monotonic() - begun)


def _be_the_run(argv, folder, cwd, kill_at, most_bytes, log, count) -> None:
    status = 70
    try:
        said = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        os.dup2(said, 1)
        os.dup2(said, 2)
        os.chdir(cwd)
        if most_bytes is not None:
            resource.setrlimit(resource.RLIMIT_FSIZE, (most_bytes, most_bytes))
        number = 0
        below = os.path.realpath(folder)

        def note(event: str, args: tuple) -> None:
            nonlocal number
            if event not in _CHANGES and not (event == "open" and args[2] and args[2] & _WRITING):
                return
            if not any(isinstance(each, str | os.PathLike) and os.fspath(each).startswith(below) for each in args):
                return
            number += 1
            os.write(count, b".")
            if number == kill_at:
                os.kill(os.getpid(), signal.SIGKILL)

        sys.addaudithook(note)
        import torch
        import tqdm.auto
        import tqdm.std

        from ram_hf.cli import main

        for kind in (tqdm.std.tqdm, tqdm.auto.tqdm):  # the lock is shared with forks, and a killed one would keep it
            kind.set_lock(threading.RLock())
        torch.set_num_threads(1)  # makes torch's pool anew, which threads that load weights would do all at once
        status = main(argv)
        sys.stdout.flush()
        sys.stderr.flush()
    finally:
        os._exit(status)


def _mount(folder, size) -> None:
    """A small file system, or one that is there made of another size."""
    kind = (
        ["-o", f"remount,size={size}"] if os.path.ismount(folder) else ["-t", "tmpfs", "-o", f"size={size}", "tmpfs"]
    )
    subprocess.run(["mount", *kind, folder], check=True)


def _unmount(folder) -> None:
    subprocess.run(["umount", folder], check=True)


def _tree(folder) -> dict[str, str]:
    return tree(folder)


def _copy(source, target) -> None:
    shutil.copytree(source, target, dirs_exist_ok=True)


_ANSWERS = {"run": _run, "mount": _mount, "unmount": _unmount, "tree": _tree, "copy": _copy}

if __name__ == "__main__":
    serve()
