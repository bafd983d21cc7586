"""An interruption waits for the module that is being imported."""

import signal
import sys
import time
from importlib import import_module

import pytest

from ram_hf.interruption import interruption_after_imports


@pytest.fixture
def half_way(tmp_path, monkeypatch):
    """A module, and one that imports it, which are interrupted while they are set up."""
    (tmp_path / "half_way_inside.py").write_text("import signal\nsignal.raise_signal(signal.SIGINT)\nWHOLE = True\n")
    (tmp_path / "half_way.py").write_text("from half_way_inside import WHOLE\n")
    monkeypatch.syspath_prepend(tmp_path)
    yield "half_way"
    for name in ("half_way", "half_way_inside"):
        sys.modules.pop(name, None)


def import_and_wait(name):
    with interruption_after_imports():
        import_module(name)
        time.sleep(10)


def test_import_is_finished_first(half_way):
    with pytest.raises(KeyboardInterrupt):
        import_and_wait(half_way)
    assert sys.modules[half_way].WHOLE


def test_elsewhere_at_once():
    with interruption_after_imports():
        started = time.monotonic()
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)
        assert time.monotonic() - started < 1
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


@pytest.mark.parametrize("handler", [signal.SIG_IGN, lambda number, frame: None], ids=["ignored", "handled"])
def test_other_handling_stays(handler):
    previous = signal.signal(signal.SIGINT, handler)
    try:
        with interruption_after_imports():
            assert signal.getsignal(signal.SIGINT) is handler
        assert signal.getsignal(signal.SIGINT) is handler
    finally:
        signal.signal(signal.SIGINT, previous)
