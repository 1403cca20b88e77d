"""Entries of the cache are named by their inputs, and are complete or absent."""

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
    """List a folder of the cache, without locks."""
    return sorted(path.name for path in folder.iterdir() if path.suffix != ".lock")


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
    assert len(entries(cache / "a")) == 2
    assert not (cache / "a" / "k").exists()
    assert (cached_folder("a", "k", write("whole", [])) / "content").read_text() == "whole"
    other, whole = entries(cache / "a")
    assert whole == "k"
    assert other.startswith(".kk.")  # which another process may be at work on


def test_processes_that_want_the_same_build_it_once(cache: Path, tmp_path: Path) -> None:
    both = [builder("k", tmp_path / "built", 0.5) for _ in range(2)]
    assert [process.wait(60) for process in both] == [0, 0]
    assert (tmp_path / "built").read_text() == "built\n"
    assert entries(cache / "a") == ["k"]


def test_a_lock_keeps_other_processes_out_until_its_block_ends(cache: Path, tmp_path: Path) -> None:
    with locked(cache / "a" / "k"):
        other = builder("k", tmp_path / "built", 0)
        with pytest.raises(subprocess.TimeoutExpired):
            other.wait(1)
        assert not (tmp_path / "built").exists()
    assert other.wait(60) == 0


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
