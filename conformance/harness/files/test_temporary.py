"""Leftovers of a killed process are removed by the next, and nothing else is."""

import fcntl
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import pytest

from conformance.support.full_disk import file_size_limit
from harness.errors import HarnessError
from harness.files import whole_file, whole_folder
from harness.files.temporary import PREFIX, SUFFIX, TemporaryFolder


@pytest.fixture(autouse=True)
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of temporary files."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    return tmp_path


@pytest.fixture(scope="module")
def gone() -> int:
    """Number of a process that is no more."""
    with subprocess.Popen(["true"]) as process:
        process.wait()
    return process.pid


KILLED = """
import os, signal, sys, tempfile
from pathlib import Path
from conformance.support.full_disk import file_size_limit
from harness.errors import HarnessError
from harness.files import whole_file, whole_folder
from harness.files.temporary import TemporaryFolder
place = Path(sys.argv[1])
tempfile.tempdir = str(place)
with TemporaryFolder() as folder, whole_file(place / "file") as file, whole_folder(place / "folder") as made:
    for path in (Path(folder) / "a", file, made / "b"):
        path.write_text("half")
    os.kill(os.getpid(), int(sys.argv[2]))
    print(flush=True)
    sys.stdin.read()
"""


def start(place: Path, number: int) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-c", KILLED, str(place), str(number)]
    return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)


def write_all(place: Path) -> None:
    """Make a temporary folder, a file and a folder, as the next process would."""
    with TemporaryFolder(), whole_file(place / "file") as file, whole_folder(place / "folder") as folder:
        file.write_text("whole")
        (folder / "b").write_text("whole")


def test_leavings_of_a_killed_process_go_with_the_next_and_those_of_a_living_one_stay(place: Path) -> None:
    with start(place, signal.SIGKILL) as killed:
        assert killed.wait(20) == -signal.SIGKILL
    assert len(list(place.iterdir())) == 3
    with start(place, 0) as living:
        assert living.stdout is not None
        assert living.stdout.readline() == b"\n"
        held = set(place.iterdir())
        assert len(held) == 3  # that of the killed one are gone
        write_all(place)
        assert set(place.iterdir()) == held | {place / "file", place / "folder"}
        (place / "folder" / "b").unlink()
        living.communicate(timeout=20)
    assert sorted(path.name for path in place.iterdir()) == ["file", "folder"]


def folder_of(process: int) -> Callable[[Path], Path]:
    def make(place: Path) -> Path:
        made = place / f"{PREFIX}{process}-abcdefgh{SUFFIX}"
        (made / "inside").mkdir(parents=True)
        return made

    return make


def test_only_what_is_known_to_be_abandoned_is_removed(place: Path, gone: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """By its number alone, a folder of another container is abandoned; its lock is seen."""
    locked = folder_of(gone)(place)
    holder = os.open(locked, os.O_RDONLY)
    fcntl.flock(holder, fcntl.LOCK_EX)
    alive = folder_of(os.getppid())(place)
    others = [
        place / name for name in (f"{PREFIX}abcdefgh", f"{PREFIX}{gone}-baseline", f".results.{gone}-run.partial")
    ]
    for other in others:
        other.mkdir()
    linked = place / f"{PREFIX}{gone}-linkedto{SUFFIX}"
    linked.symlink_to(others[0])
    with TemporaryFolder(), whole_file(place / "results") as file:
        file.write_text("whole")
    assert set(place.iterdir()) == {locked, alive, linked, place / "results", *others}
    os.close(holder)
    with monkeypatch.context() as patch:
        patch.setattr("harness.files.temporary.os.getuid", lambda: os.geteuid() + 1)
        with TemporaryFolder():
            pass
        assert locked.is_dir()
    with TemporaryFolder():
        assert not locked.exists()


def test_number_of_this_process_is_that_of_an_earlier_one_unless_it_is_its_own(place: Path) -> None:
    """The first process of every container has the same number."""
    earlier = folder_of(os.getpid())(place)
    with TemporaryFolder() as mine, TemporaryFolder():
        assert Path(mine).is_dir()
        assert not earlier.exists()


def test_partial_file_that_was_replaced_stays_its_owners(place: Path) -> None:
    """As in an export: the file that was locked is no more, and a new one has its name."""
    with whole_file(place / "file") as outer:
        with whole_file(outer) as inner:
            inner.write_text("replaced")
        with whole_file(place / "file") as other:
            other.write_text("other")
        assert outer.read_text() == "replaced"
    assert [path.name for path in place.iterdir()] == ["file"]


def test_full_disk_is_an_error_that_names_the_variable(place: Path) -> None:
    said = "no temporary files can be written: File too large"
    with (
        pytest.raises(HarnessError, match=said) as caught,
        TemporaryFolder() as folder,
        file_size_limit(1000),
    ):
        Path(folder, "large").write_bytes(bytes(10_000))
    assert caught.value.file == str(place)
    assert "TMPDIR" in (caught.value.remedy or "")
    assert list(place.iterdir()) == []
    with pytest.raises(HarnessError, match="no temporary files can be written: No such file"):
        TemporaryFolder(place / "missing")
