"""Pictures from files of strangers to small squares of pixels, in processes that work ahead of the model.

Imports Pillow and NumPy alone, because each worker process imports this file: torch would cost it seconds.
"""

import multiprocessing
import os
import queue
import stat
import threading
import warnings
from collections import deque
from collections.abc import Generator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from PIL import Image

from ..model.image_decoding import decode_image, size_in_header
from ..model.pixels import squash

if TYPE_CHECKING:
    from ..model.processing_ram import RamProcessor

_JPEG_START = b"\xff\xd8"
MAX_SECONDS = 120  # of one picture, in a worker process
_FEW = 8  # images that are decoded in this process
_MOST_WORKERS = 8
_WAIT_FOR_START = 60  # seconds
_STARTS = 3  # of a process that ends as it starts


class SquareSize(NamedTuple):
    """How pictures are made alike: squashed to `side` x `side` pixels with Pillow's filter of number `resample`."""

    side: int
    resample: int = Image.Resampling.BICUBIC

    @classmethod
    def of(cls, processor: "RamProcessor") -> "SquareSize":
        """What a model's processor makes of pictures.

        Raises:
            ValueError: when it crops them instead of squashing them.
        """
        if not processor.squash:
            raise ValueError("The processor of this model crops pictures; reading files needs `squash=True`.")
        settings = processor.image_processor
        return cls(settings.size["height"], int(settings.resample))


class ReadImage(NamedTuple):
    """What came of a file: `pixels` (side, side, 3), uint8; or None and the reason in one line.

    `damage` is None, or what of the file is broken although its pixels are all there. `size` is the width and height
    of the whole picture, upright.
    """

    path: str
    pixels: np.ndarray | None
    error: str | None = None
    damage: str | None = None
    size: tuple[int, int] = (0, 0)


Reading = Generator[ReadImage, None, None]


def load_image(path: str, *, draft_size: int, damage: list[str] | None = None) -> Image.Image:
    """Read a file that may be broken or made to do harm: a picture that is upright and RGB.

    Its content decides on the format, not its name. Of animations and files of many pages the first picture counts.

    Args:
        path: file to read.
        draft_size: see [`decode_image`].
        damage: see there too.

    Raises:
        ValueError: when there is no picture in it, or one of too many pixels.
        OSError: when the file cannot be read.
    """
    status = os.stat(path)
    if stat.S_ISDIR(status.st_mode):
        os.scandir(path).close()  # raises, or there would not have been this folder among the pictures
        raise ValueError("this is a folder")
    if not stat.S_ISREG(status.st_mode):
        raise ValueError("this is not a regular file")  # reading a pipe or a device may never end
    if status.st_size == 0:
        raise ValueError("the file is empty")
    with open(path, "rb") as file:
        return decode_image(file, "the file", draft_size=draft_size, damage=damage)


def read_square(path: str, size: SquareSize) -> ReadImage:
    """Read a file as [`load_image`] does and squash it to the square; never raises for what is in a file."""
    try:
        # A JPEG keeps at least twice the pixels that are needed each way, which changes scores only slightly.
        damage: list[str] = []
        image = load_image(path, draft_size=2 * size.side, damage=damage)
        pixels = np.asarray(squash(image, size.side, size.resample))
        return ReadImage(path, pixels, None, "; ".join(dict.fromkeys(damage)) or None, _whole_size(path, image))
    except MemoryError:
        return ReadImage(path, None, "there is not enough memory to decode it")
    except OSError as error:
        return ReadImage(path, None, error.strerror or _one_line(error))
    except Exception as error:  # decoders of damaged files raise nearly anything
        return ReadImage(path, None, _one_line(error))


def _whole_size(path: str, decoded: Image.Image) -> tuple[int, int]:
    """Width and height of a picture that was turned upright and, as a JPEG, decoded at a part of its size."""
    with open(path, "rb") as file:
        if file.read(len(_JPEG_START)) != _JPEG_START:
            return decoded.size
        width, height = size_in_header(file)
    is_turned = (decoded.width - decoded.height) * (width - height) < 0
    return (height, width) if is_turned else (width, height)


def num_workers_for(num_images: int) -> int:
    """How many processes should decode so many pictures; none for a few, where starting them takes longer."""
    if num_images <= _FEW:
        return 0
    has_affinity = hasattr(os, "sched_getaffinity")  # not on macOS and Windows
    num_cores = len(os.sched_getaffinity(0)) if has_affinity else os.cpu_count() or 1
    return min(num_cores, _MOST_WORKERS)


def read_ahead(paths: Sequence[str], size: SquareSize, *, workers: int, ahead: int) -> Reading:
    """Read pictures, in order, while the caller works on those that came before.

    Args:
        paths: files to read.
        size: what [`read_square`] makes of each.
        workers: number of processes; 0 reads in this one, when a picture is asked for. A picture that a process dies
            of twice, or takes more than `MAX_SECONDS` for, costs no other.
        ahead: how many pictures may be ready or in work before they are asked for.

    Yields:
        One result for each path.
    """
    if not workers:
        yield from (read_square(path, size) for path in paths)
        return
    team = [_Worker(size) for _ in range(workers)]
    idle: queue.SimpleQueue[_Worker] = queue.SimpleQueue()
    for worker in team:
        idle.put(worker)

    def read(path: str) -> ReadImage:
        worker = idle.get()
        try:
            return worker.read(path)
        finally:
            idle.put(worker)

    waiting: deque[Future[ReadImage]] = deque()
    threads = ThreadPoolExecutor(workers, thread_name_prefix="read")
    try:
        for path in paths:
            waiting.append(threads.submit(read, path))
            if len(waiting) >= max(ahead, workers):
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    finally:
        threads.shutdown(wait=False, cancel_futures=True)
        for worker in team:
            worker.kill()  # a thread that waits for its answer goes on
        threads.shutdown()
        for worker in team:
            worker.stop()


class _Worker:
    """A process that decodes one picture at a time, started again when it has died."""

    # Not forked: a copy of a process with torch's threads can deadlock.
    _context = multiprocessing.get_context("spawn")

    def __init__(self, size: SquareSize):
        self._size = size
        self._process: BaseProcess | None = None
        self._is_over = False

    def read(self, path: str) -> ReadImage:
        result = self._try(path)
        if result is None and not self._is_over:  # it may not be to blame: memory was short, and this process taken
            result = self._try(path)
        return result or ReadImage(
            path, None, "decoding it ended its process (out of memory, or a crash in the decoder)"
        )

    def _try(self, path: str) -> ReadImage | None:
        """What comes of a file; None when the process ended."""
        if self._process is None:
            self._start()
        try:
            self._connection.send(path)
            if self._connection.poll(MAX_SECONDS):
                return self._connection.recv()
        except (EOFError, OSError):
            self.stop()
            return None
        self.stop()
        return ReadImage(path, None, f"decoding it took longer than {MAX_SECONDS} s")

    def _start(self) -> None:
        for _ in range(_STARTS):  # it may be taken for want of memory here too
            self._connection, theirs = self._context.Pipe()
            process = self._context.Process(target=_work, args=(theirs, self._size), daemon=True)
            process.start()
            self._process = process  # not before: another thread ends what is there
            theirs.close()  # so that its end is noticed
            if not self._connection.poll(_WAIT_FOR_START):
                raise RuntimeError(
                    f"A process that decodes did not start within {_WAIT_FOR_START} s; try `--workers 0`."
                )
            with suppress(EOFError, OSError):
                self._connection.recv()
                return
            self.stop()
        raise RuntimeError("A process that decodes ended as it started; try `--workers 0`.")

    def kill(self) -> None:
        """End it for good."""
        self._is_over = True
        if (process := self._process) is not None:
            process.kill()

    def stop(self) -> None:
        if self._process is not None:
            self._process.kill()  # it holds nothing that could be lost
            self._process.join()
            self._connection.close()
            self._process = None


def _work(connection: Connection, size: SquareSize) -> None:
    """Body of a worker process: paths in, results out, until the other end is gone."""
    import signal

    warnings.simplefilter("ignore")  # Pillow warns of oddities that matter only where they become errors
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches every process; what happens is the parent's decision
    parent = multiprocessing.parent_process()
    if parent is not None:
        threading.Thread(target=_end_with, args=(parent,), daemon=True).start()
    with suppress(OSError), open("/proc/self/oom_score_adj", "w") as file:  # on Linux: when memory is short, take this
        file.write("1000")
    connection.send(None)
    with suppress(EOFError, OSError):
        while True:
            connection.send(read_square(connection.recv(), size))


def _end_with(parent: BaseProcess) -> None:
    parent.join()  # also when it is killed, in the middle of a picture
    os._exit(1)


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split()) or type(error).__name__


__all__ = [
    "MAX_SECONDS",
    "ReadImage",
    "SquareSize",
    "load_image",
    "read_ahead",
    "read_square",
]
