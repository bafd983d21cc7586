"""The command line itself: which command, whose errors, and how they are told."""

import io
import sys
from types import ModuleType

import pytest

from ram_hf import cli


@pytest.fixture
def room(monkeypatch):
    """A command `play`, whose `run` can be replaced."""
    module = ModuleType("ram_hf.play")
    module.add_arguments = lambda parser: parser.add_argument("--times", type=int, default=1)
    module.run = lambda args: 0
    monkeypatch.setitem(sys.modules, "ram_hf.play", module)
    monkeypatch.setattr(cli, "COMMANDS", {**cli.COMMANDS, "play": ("ram_hf.play", "play a game")})
    return module


def raising(error):
    def run(args):
        raise error

    return run


@pytest.mark.parametrize("help_option", ["-h", "--help"])
def test_help_lists_every_command_and_imports_no_room(help_option, capsys, monkeypatch):
    monkeypatch.setattr(cli, "import_module", raising(AssertionError("a room is imported")))
    with pytest.raises(SystemExit) as stopped:
        cli.main([help_option])
    assert stopped.value.code == 0
    shown = capsys.readouterr().out
    assert all(name in shown for name in cli.COMMANDS)


def test_only_the_room_of_the_command_is_imported(room, monkeypatch):
    imported, real = [], cli.import_module
    monkeypatch.setattr(cli, "import_module", lambda name: imported.append(name) or real(name))
    assert cli.main(["play"]) == 0
    assert set(imported) == {"ram_hf.play"}


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        ([], "Name a command: tag, train"),
        (["pley"], "There is no command 'pley'. Did you mean 'play'? See `ram-hf --help`."),
        (["--times", "3"], "There is no command '--times'."),
        (["play", "--time", "3"], "There is no option '--time'. Did you mean '--times'? See `ram-hf play --help`."),
        (["play", "--time=3"], "There is no option '--time'. Did you mean"),
        (["play", "--times", "many"], "Argument --times: invalid int value: 'many'. See `ram-hf play --help`."),
        (["play", "stray"], "Unrecognized arguments: stray. See `ram-hf play --help`."),
    ],
)
def test_what_cannot_be_read_is_told_in_a_line(room, argv, message, capsys):
    assert cli.main(argv) == 2
    told = capsys.readouterr().err
    assert told.startswith(f"ram-hf: error: {message}")
    assert told.count("\n") == 1


def test_an_error_is_a_line_and_a_traceback_where_asked_for(room, capsys):
    room.run = raising(ValueError("It broke\n   in two."))
    assert cli.main(["play"]) == 1
    assert capsys.readouterr().err == "ram-hf: error: It broke in two.\n"
    for argv in (["play", "--debug"], ["--debug", "play"]):
        assert cli.main(argv) == 1
        told = capsys.readouterr().err
        assert told.startswith("Traceback (most recent call last)")
        assert told.endswith("\nram-hf: error: It broke in two.\n")


def test_an_error_without_words_has_its_type(room, capsys):
    room.run = raising(RuntimeError())
    assert cli.main(["play"]) == 1
    assert capsys.readouterr().err == "ram-hf: error: RuntimeError\n"


@pytest.mark.parametrize(("told", "shown"), [("stopped at step 3", "stopped at step 3"), ("", "interrupted")])
def test_an_interruption_is_no_error(room, told, shown, capsys):
    room.run = raising(KeyboardInterrupt(told))
    assert cli.main(["play"]) == 130
    assert capsys.readouterr().err == f"ram-hf: {shown}\n"


def test_the_status_is_that_of_the_command(room):
    room.run = lambda args: 5 + args.times
    assert cli.main(["play", "--times", "2"]) == 7


def test_closed_streams_are_the_null_device(room, monkeypatch):
    for name in ("stdin", "stdout", "stderr"):
        monkeypatch.setattr(sys, name, None)
    room.run = lambda args: sys.stdout.write("hello") and int(bool(sys.stdin.buffer.read() or sys.stdout.isatty()))
    assert cli.main(["play"]) == 0


@pytest.mark.parametrize("encoding", ["cp1252", "ascii"])
def test_what_an_output_cannot_spell_is_escaped(encoding, room, monkeypatch):
    written = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(written, encoding=encoding))
    room.run = lambda args: (sys.stdout.write("dog \u732b") and sys.stdout.flush()) or 0
    assert cli.main(["play"]) == 0
    assert written.getvalue() == b"dog \\u732b"


def test_an_error_is_told_where_the_end_of_a_worker_comes_in_between(monkeypatch, capsys):
    """torch raises out of a signal handler, at whatever line the program stands."""
    tell, times = cli._tell, []

    def interrupted_once(error, **options):
        times.append(error)
        if len(times) == 1:
            raise RuntimeError("DataLoader worker (pid 1) is killed by signal: Killed.")
        tell(error, **options)

    monkeypatch.setattr(cli, "_tell", interrupted_once)
    assert cli.main(["tag", "no-such-picture.jpg", "--labels", "dog"]) == 1
    shown = capsys.readouterr().err
    assert shown.startswith("ram-hf: error: ")
    assert "no-such-picture.jpg" in shown
