"""`ram-hf tag` as a process of its own: stopped in every way, and what it leaves behind."""

import fcntl
import os
import pty
import signal
import struct
import subprocess
import sys
import termios
import time
from pathlib import Path

import psutil
import pytest

from tests.conftest import LABELS

from .hostile import save_photographs

pytestmark = pytest.mark.slow
NUM_PICTURES, BATCH_SIZE = 600, 4
# Slow enough to be caught in the middle.
SLOW = "import sys, time; from ram_hf.tagging import command; tag = command._tag_batch\n" + (
    "def slow(*args):\n    time.sleep(0.02)\n    return tag(*args)\n"
    "command._tag_batch = slow\n"
    "if __name__ == '__main__':\n    from ram_hf.cli import main; sys.exit(main())"
)


@pytest.fixture
def folder(tmp_path):
    save_photographs(tmp_path / "photos", NUM_PICTURES, size=(40, 30))
    (tmp_path / "photos" / "0017.jpg").write_bytes(b"")
    (tmp_path / "slow.py").write_text(SLOW)
    return tmp_path


def start(folder, model_folder, *options, **more) -> subprocess.Popen:
    command = [sys.executable, "slow.py", "tag", "photos", "--model", str(model_folder), "--labels", ",".join(LABELS)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(Path(__file__).parents[2])}
    return subprocess.Popen(
        [*command, "--workers", "1", "--batch-size", str(BATCH_SIZE), *options],
        cwd=folder,
        env=environment,
        stderr=subprocess.PIPE,
        text=True,
        **more,
    )


def wait_for_rows(file: Path, number: int) -> None:
    deadline = time.monotonic() + 60
    while not file.exists() or file.read_bytes().count(b"\n") < number:
        assert time.monotonic() < deadline
        time.sleep(0.01)


def finish(process: subprocess.Popen) -> str:
    _, errors = process.communicate(timeout=120)
    return errors


def test_killed_and_interrupted_runs_resume_to_what_an_undisturbed_one_writes(folder, model_folder):
    whole = start(folder, model_folder, "--output", "whole.csv")
    assert "599 pictures tagged, 1 failed" in finish(whole)
    assert whole.returncode == 0

    rows, output = folder / "tags.csv.partial.jsonl", folder / "tags.csv"
    killed = start(folder, model_folder, "--output", "tags.csv")
    wait_for_rows(rows, 100)
    workers = psutil.Process(killed.pid).children(recursive=True)
    killed.kill()
    finish(killed)
    psutil.wait_procs(workers, timeout=20)
    assert not any(worker.is_running() for worker in workers)  # none is left behind
    assert not output.exists()

    refused = start(folder, model_folder, "--output", "tags.csv")
    assert "'tags.csv.partial.jsonl' exists. Pass `--resume`" in finish(refused)
    assert refused.returncode == 1

    interrupted = start(folder, model_folder, "--output", "tags.csv", "--resume", start_new_session=True)
    wait_for_rows(rows, 250)
    os.killpg(interrupted.pid, signal.SIGINT)  # as Ctrl-C does: its workers too
    errors = finish(interrupted)
    assert interrupted.returncode == 130
    assert "Traceback" not in errors
    num_rows = output.read_bytes().count(b"\n") - 1
    assert num_rows % BATCH_SIZE == 0  # the running batch was finished
    assert (
        f"Interrupted with {NUM_PICTURES - num_rows} pictures left; the same command with --resume goes on" in errors
    )
    assert (folder / "whole.csv").read_bytes().startswith(output.read_bytes())
    assert not rows.exists()

    resumed = start(folder, model_folder, "--output", "tags.csv", "--resume")
    assert f"{NUM_PICTURES - num_rows} pictures tagged, 0 failed" in finish(resumed)
    assert output.read_bytes() == (folder / "whole.csv").read_bytes()
    assert sorted(path.name for path in folder.iterdir()) == ["photos", "slow.py", "tags.csv", "whole.csv"]


def test_interrupt_while_the_model_loads(folder, model_folder):
    process = start(folder, model_folder, "--output", "tags.jsonl", start_new_session=True)
    time.sleep(1)
    os.killpg(process.pid, signal.SIGINT)
    assert finish(process).splitlines()[-1] == "ram-hf: interrupted"
    assert process.returncode == 130


def test_a_reader_that_has_seen_enough(folder, model_folder):
    process = start(folder, model_folder, stdout=subprocess.PIPE)
    assert process.stdout.readline().startswith("photos/0000.jpg\t")
    process.stdout.close()
    assert "Traceback" not in process.stderr.read()
    assert process.wait(timeout=60) == 1


def test_terminal_sees_progress(folder, model_folder):
    """A bar with pictures a second and time left, on a terminal and nowhere else."""
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("4H", 24, 100, 0, 0))
    process = start(folder, model_folder, "--output", "tags.jsonl")
    assert "pictures/s" not in finish(process)
    command = [*process.args[:-2], "--output", "again.jsonl"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(Path(__file__).parents[2])}
    process = subprocess.Popen(command, cwd=folder, env=environment, stderr=theirs)
    os.close(theirs)
    shown = b""
    try:
        while piece := os.read(ours, 4096):
            shown += piece
    except OSError:  # the other end is closed
        pass
    assert process.wait(timeout=60) == 0
    assert b" pictures/s]" in shown
    assert b"600/600" in shown
    assert b"599 pictures tagged, 1 failed" in shown
