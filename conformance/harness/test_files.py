"""Files and folders appear whole or not at all."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path

import pytest

from harness.errors import HarnessError
from harness.files import whole_file, whole_folder

Whole = Callable[[Path], AbstractContextManager[Path]]


def write(whole: Whole, partial: Path, text: str) -> None:
    (partial if whole is whole_file else partial / "inside").write_text(text)


def write_and_fail(whole: Whole, partial: Path, end: type[BaseException]) -> None:
    write(whole, partial, "half")
    raise end


def read(whole: Whole, path: Path) -> str:
    return (path if whole is whole_file else path / "inside").read_text()


@pytest.mark.parametrize("whole", [whole_file, whole_folder])
def test_name_appears_when_the_block_ends(tmp_path: Path, whole: Whole) -> None:
    path = tmp_path / "new" / "name"
    with whole(path) as partial:
        write(whole, partial, "content")
        assert not path.exists()
        assert partial.parent == path.parent  # the same file system, so that renaming is one step
    assert read(whole, path) == "content"
    assert list(path.parent.iterdir()) == [path]


@pytest.mark.parametrize("whole", [whole_file, whole_folder])
@pytest.mark.parametrize("end", [KeyboardInterrupt, RuntimeError])
def test_nothing_is_left_of_a_block_that_fails(tmp_path: Path, whole: Whole, end: type[BaseException]) -> None:
    with pytest.raises(end), whole(tmp_path / "name") as partial:
        write_and_fail(whole, partial, end)
    assert list(tmp_path.iterdir()) == []


def test_older_file_stays_until_the_new_one_is_whole(tmp_path: Path) -> None:
    path = tmp_path / "name"
    path.write_text("old")
    with pytest.raises(KeyboardInterrupt), whole_file(path) as partial:
        write_and_fail(whole_file, partial, KeyboardInterrupt)
    assert path.read_text() == "old"
    with whole_file(path) as partial:
        partial.write_text("new")
    assert path.read_text() == "new"


@pytest.mark.parametrize("whole", [whole_file, whole_folder])
def test_full_disk_is_an_error_that_names_the_target(tmp_path: Path, whole: Whole) -> None:
    with pytest.raises(HarnessError, match="No space left") as caught, whole(tmp_path / "name"):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    assert caught.value.file == str(tmp_path / "name")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("whole", [whole_file, whole_folder])
def test_place_that_cannot_be_written_is_an_error(tmp_path: Path, whole: Whole) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(HarnessError, match="file"), whole(tmp_path / "file" / "name"):
        pytest.fail("there is nowhere to write to")


def test_folder_in_use_is_refused_before_the_work_and_stays_as_it_is(tmp_path: Path) -> None:
    (tmp_path / "used").mkdir()
    (tmp_path / "used" / "mine").write_text("precious")
    for taken in (tmp_path / "used", tmp_path / "used" / "mine"):
        with pytest.raises(HarnessError, match="already"), whole_folder(taken):
            pytest.fail("the work began")
    assert (tmp_path / "used" / "mine").read_text() == "precious"


def test_empty_folder_may_be_filled(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    with whole_folder(tmp_path / "empty") as partial:
        (partial / "a").write_text("1")
    assert [path.name for path in (tmp_path / "empty").iterdir()] == ["a"]
