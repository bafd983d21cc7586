"""Stopping a run when asked to: between two steps, and never in the middle of an import."""

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

_IMPORT_SYSTEM = "<frozen importlib._bootstrap>"
_SECONDS_BETWEEN_TRIES = 0.02


@contextmanager
def stop_signals() -> Iterator[Callable[[], bool]]:
    """Note an interruption or termination, finish the running step and save; a second one acts at once."""
    asked: list[int] = []
    if threading.current_thread() is not threading.main_thread():  # Python lets no other thread handle signals
        yield lambda: False
        return

    def note(number: int, _frame: object) -> None:
        if asked:
            raise KeyboardInterrupt
        asked.append(number)

    previous = {number: signal.signal(number, note) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield lambda: bool(asked)
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)


@contextmanager
def interruption_after_imports() -> Iterator[None]:
    """Raise `KeyboardInterrupt` as Python does, but not before a module that is being imported is there.

    torch is set up by C++ that calls Python: interrupted there, it aborts the process or raises another error.
    Where interruptions are ignored, or handled in another way, that stays.
    """
    here = threading.current_thread() is threading.main_thread()
    if not here or signal.getsignal(signal.SIGINT) is not signal.default_int_handler:
        yield
        return
    signal.signal(signal.SIGINT, _interrupt_after_imports)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, signal.default_int_handler)


def _interrupt_after_imports(number: int, frame: FrameType | None) -> None:
    if not _is_importing(frame):
        raise KeyboardInterrupt
    again = threading.Timer(_SECONDS_BETWEEN_TRIES, signal.raise_signal, [number])
    again.daemon = True
    again.start()


def _is_importing(frame: FrameType | None) -> bool:
    while frame is not None:
        if frame.f_code.co_filename == _IMPORT_SYSTEM:
            return True
        frame = frame.f_back
    return False


__all__ = ["interruption_after_imports", "stop_signals"]
