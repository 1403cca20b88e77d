"""A vendor's tool: its failure is shown and kept, its progress is shown, and none of its processes is left."""

import logging
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from harness.convert import process
from harness.convert.process import LAST_LINES, run_tool
from harness.errors import HarnessError

VARIABLES = {"PATH": os.environ["PATH"]}


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("CENTERNET_CONFORMANCE_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def work(tmp_path: Path) -> Path:
    """Folder in which the tools run."""
    (tmp_path / "work").mkdir()
    return tmp_path / "work"


def tool(folder: Path, body: str) -> Path:
    """A program of a few lines of shell."""
    program = folder / "compiler"
    program.write_text(f"#!/bin/sh\n{body}\n", encoding="utf-8")
    program.chmod(0o755)
    return program


def failure(work: Path, body: str) -> HarnessError:
    """Return the error of a tool that fails."""
    with pytest.raises(HarnessError) as caught:
        run_tool([tool(work, body)], work, VARIABLES, "compiling m", work / "m.onnx")
    return caught.value


def test_a_tool_gets_its_arguments_as_they_are_and_nothing_else_of_ours(work: Path) -> None:
    body = 'for word in "$@"; do echo "<$word>"; done; pwd -P; echo "[$HOME$FOREIGN]"; cat'
    text = run_tool([tool(work, body), "a b", "$HOME;", work], work, {**VARIABLES, "FOREIGN": "f"}, "compiling m")
    assert text.splitlines() == ["<a b>", "<$HOME;>", f"<{work}>", str(work.resolve()), "[f]"]


def test_output_comes_back_whole_without_colours_whatever_its_bytes(work: Path) -> None:
    body = r"printf '\033[31mred\033[0m\n'; printf '\377 byte\n' >&2"
    assert run_tool([tool(work, body)], work, VARIABLES, "compiling m") == "red\n\ufffd byte\n"


def test_failure_shows_status_file_and_last_lines(work: Path) -> None:
    error = failure(work, "seq 100 140; echo; exit 3")
    first, *lines = error.cause.splitlines()
    assert first == "compiling m: ended with status 3; its last lines:"
    assert lines == [f"  | {number}" for number in range(141 - LAST_LINES, 141)]
    assert error.file == str(work / "m.onnx")


def test_whole_log_of_a_failure_outlives_the_folder_it_was_in(work: Path, cache: Path) -> None:
    errors = [failure(work, f"seq 100 {last}; exit 3") for last in (140, 150)]
    for file in work.iterdir():
        file.unlink()
    kept = sorted((cache / "logs").iterdir(), key=lambda log: log.stat().st_size)
    assert [log.read_text().split()[-1] for log in kept] == ["140", "150"]
    for error, log in zip(errors, kept, strict=True):
        assert str(log) in (error.remedy or "")


def test_what_a_tool_printed_is_shown_also_where_its_log_cannot_be_kept(work: Path, cache: Path) -> None:
    cache.write_text("in the way")
    error = failure(work, "echo out of registers; exit 3")
    assert error.cause.splitlines()[-1] == "  | out of registers"
    assert "CENTERNET_CONFORMANCE_CACHE" in (error.remedy or "")


@pytest.mark.parametrize(("number", "name"), [(9, "SIGKILL"), (11, "SIGSEGV"), (35, "35")])
def test_tool_that_is_killed_is_shown_by_its_signal(work: Path, number: int, name: str) -> None:
    assert f"ended with signal {name};" in failure(work, f"kill -{number} $$").cause


def test_operator_that_the_compiler_refuses_is_named(work: Path) -> None:
    error = failure(work, """echo "RuntimeError: Op not support:{'DeformConv'}"; seq 100; exit 1""")
    assert error.cause.startswith("compiling m: ended with status 1: the tool has no operator 'DeformConv'")


@pytest.mark.parametrize("place", ["missing", "data"])
def test_program_that_cannot_be_started_is_named(work: Path, place: str) -> None:
    (work / "data").write_text("no program")
    with pytest.raises(HarnessError, match="compiling m: cannot be started: ") as caught:
        run_tool([work / place], work, VARIABLES, "compiling m")
    assert caught.value.file == str(work / place)


def test_sign_of_life_is_given_while_a_tool_works(work: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The tool ends when it has been seen to be alive."""
    seen, said = work / "seen", list[str]()

    def listen(record: logging.LogRecord) -> bool:
        said.append(record.getMessage())
        if len(said) == 3:
            seen.touch()
        return True

    monkeypatch.setattr(process, "SIGN_OF_LIFE", 0.1)
    with listening(listen):
        run_tool([tool(work, waiting_for(seen))], work, VARIABLES, "compiling m")
    first, *signs, last = said
    assert first == "compiling m"
    assert len(signs) >= 2
    assert all(sign.startswith("compiling m: ") and sign.endswith(" s") for sign in signs)
    assert last.startswith("compiling m: done in ")


@contextmanager
def listening(listen: Callable[[logging.LogRecord], bool]) -> Iterator[None]:
    level = process.logger.level
    process.logger.setLevel(logging.INFO)
    process.logger.addFilter(listen)
    try:
        yield
    finally:
        process.logger.removeFilter(listen)
        process.logger.setLevel(level)


def waiting_for(file: Path) -> str:
    """Shell that waits for a file, 20 seconds at most."""
    return f"for turn in $(seq 200); do [ -e {file} ] && exit 0; sleep 0.1; done; exit 9"


class Family:
    """A tool with child processes, all of which inherit a pipe that shows whether one of them is left.

    Args:
        folder: Folder of the pipe.
    """

    def __init__(self, folder: Path) -> None:
        self.pipe = folder / "pipe"
        os.mkfifo(self.pipe)
        self.reader = os.open(self.pipe, os.O_RDONLY | os.O_NONBLOCK)

    def shell(self, then: str) -> str:
        """Write a tool with a child and a grandchild, each of which ignores polite signals; it then does `then`."""
        deaf = "trap '' HUP INT TERM"
        child = f"{deaf}; sleep 600 & echo ready >&9; sleep 600; sleep 600"
        return f'exec 9>{self.pipe}; {deaf}; ( {child} ) & while [ ! -e "{self.pipe}.go" ]; do sleep 0.05; done; {then}'

    def wait_until_ready(self) -> None:
        assert self._until(b"ready\n"), "the family did not start"

    def go(self) -> None:
        self.pipe.with_name("pipe.go").touch()

    def is_gone(self) -> bool:
        """Tell whether all processes end within seconds."""
        gone = self._until(b"")
        os.close(self.reader)
        return gone

    def _until(self, wanted: bytes) -> bool:
        deadline = time.monotonic() + 10
        while time.monotonic() < deadline:
            try:
                if os.read(self.reader, 100) == wanted:
                    return True
            except BlockingIOError:
                pass
            time.sleep(0.02)
        return False


def test_exception_leaves_nothing_of_a_tool_running(work: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    family, heard = Family(work), list[str]()

    def give_up(record: logging.LogRecord) -> bool:
        heard.append(record.getMessage())
        if len(heard) == 2:
            family.wait_until_ready()
            raise RuntimeError("enough")
        return True

    monkeypatch.setattr(process, "SIGN_OF_LIFE", 0.1)
    with listening(give_up), pytest.raises(RuntimeError, match="enough"):
        run_tool([tool(work, family.shell("wait"))], work, VARIABLES, "compiling m")
    assert family.is_gone()


@pytest.mark.parametrize("end", ["exit 0", "exit 1", "kill -9 $$"])
def test_tool_that_ends_before_those_it_started_leaves_none_of_them(work: Path, end: str) -> None:
    family = Family(work)
    body = family.shell(end)
    family.go()
    if end == "exit 0":
        run_tool([tool(work, body)], work, VARIABLES, "compiling m")
    else:
        failure(work, body)
    assert family.is_gone()


ENDED = """
import logging, os, signal, sys
from pathlib import Path
from harness.convert import process
from harness.run.signals import received_signals
logging.basicConfig(level=logging.INFO, format="%(message)s")
signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background has it ignored
process.SIGN_OF_LIFE = 0.1
with received_signals():
    process.run_tool([sys.argv[1]], Path(sys.argv[2]), {"PATH": os.environ["PATH"]}, "compiling m")
"""


@pytest.mark.parametrize(
    ("number", "said"), [(signal.SIGINT, b"KeyboardInterrupt"), (signal.SIGTERM, b"Terminated"), (signal.SIGKILL, b"")]
)
def test_nothing_of_a_tool_outlives_the_run(work: Path, number: signal.Signals, said: bytes) -> None:
    family = Family(work)
    command = [sys.executable, "-c", ENDED, str(tool(work, family.shell("wait"))), str(work)]
    with subprocess.Popen(command, stderr=subprocess.PIPE) as ours:
        assert ours.stderr is not None
        begun = [ours.stderr.readline() for _ in range(2)]
        family.wait_until_ready()
        ours.send_signal(number)
        try:
            _, printed = ours.communicate(timeout=20)
        finally:
            ours.kill()  # else what does not heed a signal would be waited for without end
    assert begun == [b"compiling m\n", b"compiling m: 0 s\n"]
    assert said in printed
    assert family.is_gone()


def test_tool_starts_with_the_usual_signals_and_no_locale_of_ours(work: Path) -> None:
    """Python ignores SIGPIPE and sets LC_CTYPE, also for what it starts."""
    text = run_tool([tool(work, "env; grep SigIgn /proc/self/status")], work, VARIABLES, "compiling m")
    assert "LC_" not in text
    ignored = int(text.split()[-1], 16)
    assert not ignored & (1 << signal.SIGPIPE - 1 | 1 << signal.SIGXFSZ - 1)
