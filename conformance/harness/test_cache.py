"""Entries of the cache are named by their inputs, and are complete or absent."""

import os
import platform
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from conformance.support.full_disk import small_disk
from harness.cache import cached_folder, content_key, locked
from harness.errors import HarnessError

Part = str | int | list[str]
PARTS = st.dictionaries(st.text(), st.text() | st.integers() | st.lists(st.text(), max_size=3), max_size=4)


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("CENTERNET_CONFORMANCE_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def entries(folder: Path) -> list[str]:
    """List a folder of the cache."""
    return sorted(path.name for path in folder.iterdir())


@settings(max_examples=40, deadline=None)
@given(one=PARTS, other=PARTS)
def test_key_differs_where_anything_differs(one: dict[str, Part], other: dict[str, Part]) -> None:
    assert (content_key(one) == content_key(other)) == (one == other)


@settings(max_examples=40, deadline=None)
@given(parts=PARTS)
def test_order_of_the_parts_does_not_matter_to_a_key_that_is_a_file_name(parts: dict[str, Part]) -> None:
    key = content_key(parts)
    assert key == content_key(dict(reversed(parts.items())))
    assert key.isalnum()


def write(text: str, built: list[str]) -> Callable[[Path], None]:
    def build(folder: Path) -> None:
        built.append(text)
        (folder / "content").write_text(text)

    return build


def test_what_was_built_is_found_again_by_its_key_and_kind(cache: Path) -> None:
    built: list[str] = []
    for kind, key, text in (("a", "k", "1"), ("a", "l", "2"), ("b", "k", "3"), ("a", "k", "4"), ("b", "k", "5")):
        folder = cached_folder(kind, key, write(text, built))
        assert folder == cache / kind / key
    assert built == ["1", "2", "3"]
    assert (cache / "a" / "k" / "content").read_text() == "1"
    assert (entries(cache / "a"), entries(cache / "b")) == (["k", "l"], ["k"])


@pytest.mark.parametrize("end", [KeyboardInterrupt, HarnessError("no"), RuntimeError])
def test_failed_build_leaves_no_entry_and_is_made_anew(cache: Path, end: type[BaseException] | BaseException) -> None:
    def fail(folder: Path) -> None:
        (folder / "content").write_text("half")
        raise end

    with pytest.raises(end if isinstance(end, type) else type(end)):
        cached_folder("a", "k", fail)
    assert entries(cache / "a") == []
    assert (cached_folder("a", "k", write("whole", [])) / "content").read_text() == "whole"


BUILDER = """
import sys, time
from pathlib import Path
from conformance.support.full_disk import small_disk
from harness.cache import cached_folder

def build(folder: Path) -> None:
    with Path(sys.argv[2]).open("a") as built:
        built.write("built\\n")
    (folder / "content").write_text("half")
    time.sleep(float(sys.argv[3]))

cached_folder("a", sys.argv[1], build)
"""


def builder(key: str, built: Path, seconds: float) -> subprocess.Popen[bytes]:
    """A process that takes its time to build."""
    return subprocess.Popen([sys.executable, "-c", BUILDER, key, built, str(seconds)])


def half_built(cache: Path, key: str, built: Path) -> None:
    """Kill a process while it builds."""
    with builder(key, built, 600) as process:
        deadline = time.monotonic() + 30
        while not list(cache.glob(f"a/.{key}.*.partial/content")) and time.monotonic() < deadline:
            time.sleep(0.02)
        process.send_signal(signal.SIGKILL)


def test_killed_build_leaves_no_entry_and_its_leavings_go_with_the_next(cache: Path, tmp_path: Path) -> None:
    half_built(cache, "k", tmp_path / "built")
    half_built(cache, "kk", tmp_path / "built")
    assert len(entries(cache / "a")) == 4  # with the locks
    assert not (cache / "a" / "k").exists()
    assert (cached_folder("a", "k", write("whole", [])) / "content").read_text() == "whole"
    other, whole, lock = entries(cache / "a")
    assert lock == "kk.lock"
    assert whole == "k"
    assert other.startswith(".kk.")  # which another process may be at work on


def test_processes_that_want_the_same_build_it_once(cache: Path, tmp_path: Path) -> None:
    both = [builder("k", tmp_path / "built", 0.5) for _ in range(2)]
    assert [process.wait(60) for process in both] == [0, 0]
    assert (tmp_path / "built").read_text() == "built\n"
    assert entries(cache / "a") == ["k"]  # and no lock is left


def test_a_lock_keeps_other_processes_out_until_its_block_ends(cache: Path, tmp_path: Path) -> None:
    with locked(cache / "a" / "k"):
        other = builder("k", tmp_path / "built", 0)
        with pytest.raises(subprocess.TimeoutExpired):
            other.wait(1)
        assert not (tmp_path / "built").exists()
    assert other.wait(60) == 0
    assert entries(cache / "a") == ["k"]


WAITING = """
import signal, sys
from pathlib import Path
import harness.cache
signal.signal(signal.SIGINT, signal.default_int_handler)
harness.cache.QUIET_S, harness.cache.AGAIN_S = 0.1, 0.2
with harness.cache.locked(Path(sys.argv[1])):
    pass
"""


def test_who_holds_a_lock_is_said_while_another_waits_and_ctrl_c_ends_the_wait(cache: Path) -> None:
    with locked(cache / "k"):
        command = [sys.executable, "-c", WAITING, str(cache / "k")]
        with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as other:
            assert other.stderr is not None
            said = [other.stderr.readline() for _ in range(3)]
            interrupted = time.monotonic()
            other.send_signal(signal.SIGINT)
            assert other.wait(20) != 0
            assert time.monotonic() - interrupted < 2
    holder = f"pid {os.getpid()} on {platform.node()} since "
    for line in said:
        assert re.match(rf"{cache / 'k'}: waiting for \d+ s for {holder}\d{{4}}-\d\d-\d\d \d\d:\d\d:\d\d\S+: .", line)
    assert entries(cache) == []


def test_locks_of_killed_processes_and_of_earlier_versions_go_and_held_ones_stay(cache: Path) -> None:
    keys = [content_key({"": number}) for number in range(3)]
    (cache / "a").mkdir(parents=True)
    for name in (keys[0], keys[1], "poetry"):
        (cache / "a" / f"{name}.lock").touch()
    with locked(cache / "a" / keys[1]):
        cached_folder("a", keys[2], write("1", []))
        assert entries(cache / "a") == sorted([f"{keys[1]}.lock", keys[2], "poetry.lock"])


def spoil_content(entry: Path) -> str:
    (entry / "content").write_text("2")
    return "content is not as it was made"


def remove_content(entry: Path) -> str:
    (entry / "content").unlink()
    return "content cannot be read: No such file or directory"


def put_pipe(entry: Path) -> str:
    (entry / "content").unlink()
    os.mkfifo(entry / "content")
    return "content cannot be read: it is a named pipe"


def empty(entry: Path) -> str:
    for file in entry.iterdir():
        file.unlink()
    return "content.sha256 cannot be read: No such file or directory"


def spoil_hashes(entry: Path) -> str:
    (entry / "content.sha256").write_bytes(b"\xff")
    return "content.sha256 cannot be read: "


def empty_hashes(entry: Path) -> str:
    (entry / "content.sha256").write_bytes(b"")
    return "content.sha256 is empty"


@pytest.mark.parametrize("damage", [spoil_content, remove_content, put_pipe, empty, spoil_hashes, empty_hashes])
def test_damaged_entry_is_made_anew_and_said(
    cache: Path, damage: Callable[[Path], str], caplog: pytest.LogCaptureFixture
) -> None:
    built: list[str] = []
    entry = cached_folder("a", "k", write("1", built))
    cached_folder("a", "k", write("1", built))
    assert (built, caplog.messages) == (["1"], [])
    found = damage(entry)
    for _ in range(2):
        assert (cached_folder("a", "k", write("1", built)) / "content").read_text() == "1"
    assert built == ["1", "1"]
    [said] = caplog.messages
    assert said.startswith(f"{cache / 'a' / 'k'}: {found}")
    assert said.endswith("; it is made anew")


def test_entry_is_found_where_nothing_can_be_written(cache: Path) -> None:
    with small_disk(cache, "size=1m") as disk:
        cached_folder("a", "k", write("1", []))
        subprocess.run(["mount", "-o", "remount,ro", disk], check=True)
        assert (cached_folder("a", "k", write("2", [])) / "content").read_text() == "1"
        with pytest.raises(HarnessError, match="the cache cannot be written: Read-only file system") as caught:
            cached_folder("a", "l", write("2", []))
    assert "CENTERNET_CONFORMANCE_CACHE" in (caught.value.remedy or "")


@pytest.mark.parametrize("in_the_way", ["cache", "cache/a"])
def test_cache_that_cannot_be_written_is_an_error_that_names_its_variable(tmp_path: Path, in_the_way: str) -> None:
    file = tmp_path / in_the_way
    file.parent.mkdir(exist_ok=True)
    file.write_text("a file")
    built: list[str] = []
    with pytest.raises(HarnessError, match="the cache cannot be written: ") as caught:
        cached_folder("a", "k", write("1", built))
    assert caught.value.file == str(tmp_path / "cache" / "a")
    assert caught.value.remedy is not None
    assert "CENTERNET_CONFORMANCE_CACHE" in caught.value.remedy
    assert built == []


@pytest.fixture
def full(cache: Path) -> Iterator[Path]:
    """The cache lies on a file system of 64 KiB and 5 files."""
    with small_disk(cache, "size=64k,nr_inodes=6") as disk:
        yield disk


def test_disk_that_fills_up_during_a_build_is_an_error_and_leaves_no_entry(full: Path) -> None:
    def too_much(folder: Path) -> None:
        (folder / "content").write_bytes(bytes(100_000))

    with pytest.raises(HarnessError, match="No space left on device") as caught:
        cached_folder("a", "k", too_much)
    assert caught.value.file is not None
    assert caught.value.file.startswith(str(full / "a"))
    assert entries(full / "a") == []
    assert (cached_folder("a", "k", write("less", [])) / "content").read_text() == "less"


def test_disk_without_room_for_a_lock_is_an_error_that_names_the_variable(full: Path) -> None:
    for number in range(4):
        (full / str(number)).touch()
    with pytest.raises(HarnessError, match="the cache cannot be written: No space left on device") as caught:
        cached_folder("a", "k", write("1", []))
    assert caught.value.remedy is not None
    assert "CENTERNET_CONFORMANCE_CACHE" in caught.value.remedy
