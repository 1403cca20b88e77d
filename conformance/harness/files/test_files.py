"""Files and folders appear whole or not at all."""

from __future__ import annotations

import errno
import os
import shutil
import socket
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path

import pytest

from conformance.support.full_disk import file_size_limit
from harness.errors import HarnessError
from harness.files import check_output, check_output_folder, read_regular, read_text, whole_file, whole_folder

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


def test_full_disk_is_not_blamed_on_the_file_that_was_copied(tmp_path: Path) -> None:
    source = tmp_path / "source"
    source.write_bytes(bytes(10_000))
    with (
        pytest.raises(HarnessError, match="File too large") as caught,
        whole_folder(tmp_path / "name") as partial,
        file_size_limit(1000),
    ):
        shutil.copyfile(source, partial / "copy")
    assert caught.value.file == str(tmp_path / "name")


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


def folder(path: Path) -> None:
    path.mkdir()


def link(path: Path) -> None:
    path.symlink_to(path.parent / "elsewhere")


def bound_socket(path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as one:
        one.bind(str(path))


IRREGULAR = [(os.mkfifo, "a named pipe"), (bound_socket, "a socket"), (folder, "a folder")]


@pytest.mark.parametrize(("make", "kind"), [*IRREGULAR, (link, "a link")])
@pytest.mark.parametrize("check", [check_output, check_output_folder])
def test_output_replaces_nothing_but_its_own_kind(
    tmp_path: Path, check: Callable[[Path, str], None], make: Callable[[Path], None], kind: str
) -> None:
    place = tmp_path / "x"
    make(place)
    if check is check_output_folder and kind == "a folder":
        (place / "mine").touch()
        kind = "not an empty folder"
    mode = place.lstat().st_mode
    with pytest.raises(HarnessError, match=rf"/x: --results: .*{kind}.*\n  remedy: ") as caught:
        check(place, "--results")
    assert (caught.value.file, caught.value.field) == (str(place), "--results")
    with pytest.raises(HarnessError), (whole_file if check is check_output else whole_folder)(place):
        pytest.fail("the work began")
    assert place.lstat().st_mode == mode


def test_device_node_stays_a_device_node() -> None:
    for check in (check_output, check_output_folder):
        with pytest.raises(HarnessError, match=r"/dev/null: --output: .* a device node"):
            check(Path("/dev/null"), "--output")
    with pytest.raises(HarnessError, match="/dev/zero: cannot be read: it is a device node"):
        read_regular(Path("/dev/zero"), None, 10)


@pytest.mark.parametrize("check", [check_output, check_output_folder])
@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("file/x", "file is a file, not a folder"),
        ("y" * 5000, "File name too long"),
        ("nul\0", "null"),
        ("dangling/x", "a link that leads nowhere"),
        ("closed/new/x", "nothing may be written in .*closed"),
    ],
    ids=lambda value: ascii(value)[1:8],
)
def test_place_is_refused_before_the_work(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, check: Callable[[Path, str], None], name: str, said: str
) -> None:
    (tmp_path / "file").touch()
    (tmp_path / "dangling").symlink_to(tmp_path / "none")
    (tmp_path / "closed").mkdir()
    # Root may write everywhere.
    monkeypatch.setattr(os, "access", lambda path, mode: Path(path).name != "closed")
    with pytest.raises(HarnessError, match=f"--output: it cannot be written: .*{said}.*\n  remedy: "):
        check(tmp_path / name, "--output")


def test_new_names_and_older_files_are_places_for_output(tmp_path: Path) -> None:
    (tmp_path / "older").touch()
    for name in ("new", "older", "folder/of/it/new", "n" * 255):
        check_output(tmp_path / name, "--results")
        with whole_file(tmp_path / name) as partial:
            partial.touch()
    (tmp_path / "link").symlink_to("folder")
    for name in ("folder", "link"):  # a link to a disk with more room
        check_output_folder(tmp_path / name, "--output", in_use=True)


@pytest.mark.parametrize(("make", "kind"), IRREGULAR)
def test_only_a_regular_file_is_read(tmp_path: Path, make: Callable[[Path], None], kind: str) -> None:
    make(tmp_path / "x")
    with pytest.raises(HarnessError, match=rf"/x: --onnx: cannot be read: it is {kind}, .*\n  remedy: check the path"):
        read_regular(tmp_path / "x", "--onnx", 10)


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("none", "No such file"),
        ("y" * 5000, "File name too long"),
        ("nul\0", "null"),
        ("\udcff", "No such file"),
        ("large", "11 bytes, where at most 10 are read"),
        ("latin", "not UTF-8"),
        ("loop", "symbolic links"),
    ],
    ids=lambda value: ascii(value)[1:8],
)
def test_file_that_cannot_be_read_is_named(tmp_path: Path, name: str, said: str) -> None:
    (tmp_path / "large").write_bytes(b"x" * 11)
    (tmp_path / "latin").write_bytes(b"\xe4")
    (tmp_path / "loop").symlink_to("loop")
    with pytest.raises(HarnessError, match=f"--model: .*{said}.*\n  remedy: ") as caught:
        read_text(tmp_path / name, "--model", 10)
    assert caught.value.file == str(tmp_path / name)
    caught.value.message().encode()


def test_file_is_read_whole_through_a_link(tmp_path: Path) -> None:
    (tmp_path / "x").write_bytes(b"0123456789")
    (tmp_path / "link").symlink_to("x")
    assert read_regular(tmp_path / "link", None, 10) == b"0123456789"
    with pytest.raises(HarnessError, match="where at most 3 are read"):  # it states a size of 0
        read_regular(Path("/proc/self/status"), None, 3)


def test_file_of_another_user_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "x").touch()

    def refuse(*arguments: object) -> None:  # root may read everything
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))

    monkeypatch.setattr(os, "open", refuse)
    with pytest.raises(HarnessError, match="/x: --coco: cannot be read: Permission denied"):
        read_regular(tmp_path / "x", "--coco", 10)
