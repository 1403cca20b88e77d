"""Files and folders that appear complete or not at all, even if the process is killed; reading of a user's files."""

from __future__ import annotations

import glob
import json
import os
import re
import shutil
import stat
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

from harness.errors import HarnessError
from harness.temporary import Claim, partial_mark, remove_abandoned

KINDS = {
    stat.S_IFREG: "a file",
    stat.S_IFDIR: "a folder",
    stat.S_IFIFO: "a named pipe",
    stat.S_IFCHR: "a device node",
    stat.S_IFBLK: "a device node",
    stat.S_IFSOCK: "a socket",
    stat.S_IFLNK: "a link",
}
CHUNK = 2**12
BEGINNING = 64
"""Bytes that tell what a file is."""
LONGEST_NAME = 255
"""Bytes of a file's name, on every usual file system."""


def check_output(path: Path, field: str | None = None) -> None:
    """Check the place of an output file before the work: it is a regular file or a new name, where one may write.

    Folders above it that are missing are made when the file is written. A link is refused, since renaming would replace
    the link and not what it leads to.

    Args:
        path: The file to be written.
        field: The option that names it.

    Raises:
        HarnessError: A folder, a link, a named pipe, a device node or a socket stands there, a folder above it is none
            or may not be written, or the name is impossible.
    """
    mode = _mode_at(path, field)
    if mode is not None and not stat.S_ISREG(mode):
        raise HarnessError(
            f"it is {kind_of(mode)}, and only a regular file or a new name is written",
            file=path,
            field=field,
            remedy="name the file that the link leads to" if stat.S_ISLNK(mode) else "name another file",
        )
    _check_parent(path, field)


def check_replaceable(path: Path, field: str | None, beginning: re.Pattern[bytes], what: str) -> None:
    """Refuse to replace a file that holds something else than what is about to be written, such as an input of the run.

    Args:
        path: The file to be written; one that is empty, or not there, will do.
        field: The option that names it.
        beginning: Of a file that may be replaced.
        what: What such a file is, with its article.

    Raises:
        HarnessError: It holds something else, or cannot be read.
    """
    if not is_file(path):
        return
    with open_regular(path, field, sys.maxsize) as file:
        first = file.read(BEGINNING)
    if first and beginning.match(first) is None:
        raise HarnessError(
            f"the file that is there is not {what}, and is not replaced",
            file=path,
            field=field,
            remedy="name another file, or remove this one",
        )


def check_output_folder(path: Path, field: str | None = None, *, in_use: bool = False) -> None:
    """Check the place of an output folder before the work: it is an empty folder or a new name, where one may write.

    Args:
        path: The folder to be made.
        field: The option that names it.
        in_use: Whether a folder with files in it will do.

    Raises:
        HarnessError: Something else stands there, a folder above it is none or may not be written, or the name is
            impossible.
    """
    # A link to a folder that is only added to stays one; a new folder would take the link's place.
    mode = _mode_at(path, field, follow=in_use)
    if mode is None and _mode_at(path, field) is not None:
        raise HarnessError(
            "it is a link that leads nowhere", file=path, field=field, remedy="remove it, or name another"
        )
    if mode is not None and not (stat.S_ISDIR(mode) and (in_use or not entries(path, field))):
        kind = "" if stat.S_ISDIR(mode) else f", but {kind_of(mode)}"
        cause = f"it is there already and not an empty folder{kind}"
        raise HarnessError(cause, file=path, field=field, remedy="remove it, or name another")
    _check_parent(path, field)


@contextmanager
def open_regular(
    path: Path, field: str | None, limit: int, *, cause: str = "cannot be read", remedy: str = "check the path"
) -> Iterator[BinaryIO]:
    """Open a regular file that a user gives. Nothing else is opened: a named pipe would wait for ever.

    Args:
        path: The file; a link to it will do.
        field: The option or field that names it.
        limit: Most bytes that it may have.
        cause: Beginning of the message where it cannot be opened.
        remedy: Advice in that case.

    Raises:
        HarnessError: The file is missing, may not be read, is no regular file, is too large, or has an impossible name.
    """

    def check(found: os.stat_result) -> None:
        if not stat.S_ISREG(found.st_mode):
            said = f"{cause}: it is {kind_of(found.st_mode)}, and only a regular file is read"
            raise HarnessError(said, file=path, field=field, remedy=remedy)
        if found.st_size > limit:
            raise _too_large(found.st_size, limit, path, field)

    try:
        # To open a device node can have effects, hence a look before. A named pipe that has taken the file's place
        # since then would wait for its writer without O_NONBLOCK.
        check(path.stat())
        file = os.fdopen(os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0)), "rb")
    except (OSError, ValueError) as error:
        raise HarnessError(f"{cause}: {_reason(error)}", file=path, field=field, remedy=remedy) from error
    with file:
        check(os.fstat(file.fileno()))
        try:
            yield file
        except OSError as error:  # a file of /proc opens and cannot be read
            raise HarnessError(f"{cause}: {_reason(error)}", file=path, field=field, remedy=remedy) from error


def read_regular(
    path: Path, field: str | None, limit: int, *, cause: str = "cannot be read", remedy: str = "check the path"
) -> bytes:
    """Read a regular file that a user gives; see `open_regular` for arguments and errors."""
    with open_regular(path, field, limit, cause=cause, remedy=remedy) as file:
        content = file.read(os.fstat(file.fileno()).st_size)
        # A file of /proc states no size, and another may grow.
        while len(content) <= limit and (more := file.read(CHUNK)):
            content += more
    if len(content) > limit:
        raise _too_large(len(content), limit, path, field)
    return content


def read_text(path: Path, field: str | None, limit: int, *, remedy: str = "check the path") -> str:
    """Read a regular file that a user gives as UTF-8; see `open_regular` for arguments.

    Raises:
        HarnessError: See `open_regular`, or the file is no UTF-8.
    """
    try:
        return read_regular(path, field, limit, remedy=remedy).decode("utf-8")
    except UnicodeDecodeError as error:
        raise HarnessError(f"not UTF-8: {error}", file=path, field=field, remedy=remedy) from error


def read_json(path: Path, field: str | None, limit: int, *, cause: str, remedy: str) -> Any:  # noqa: ANN401
    """Read a JSON file that a user gives, of any content.

    Args:
        path: The file.
        field: The option or field that names it.
        limit: Most bytes that it may have.
        cause: Beginning of the message where it is none, such as "no summary".
        remedy: Advice where it is none.

    Raises:
        HarnessError: See `open_regular`, or the file is no JSON, or nested deeper than Python follows.
    """
    try:
        return json.loads(read_regular(path, field, limit, remedy=remedy))
    except RecursionError as error:
        raise HarnessError(f"{cause}: nested too deep", file=path, field=field, remedy=remedy) from error
    except ValueError as error:
        raise HarnessError(f"{cause}: no JSON: {error}", file=path, field=field, remedy=remedy) from error


def is_file(path: Path) -> bool:
    """Tell whether a regular file, or a link to one, is there; False too for what `Path.is_file` raises for."""
    return os.path.isfile(path)  # noqa: PTH113 - a name that is too long, a folder of another user


def is_folder(path: Path) -> bool:
    """Tell whether a folder, or a link to one, is there; False too for what `Path.is_dir` raises for."""
    return os.path.isdir(path)  # noqa: PTH112


def entries(folder: Path, field: str | None = None) -> list[Path]:
    """List what lies in a folder that a user gives, sorted by name.

    Raises:
        HarnessError: It is missing, no folder, or may not be read.
    """
    try:
        return sorted(folder.iterdir())
    except (OSError, ValueError) as error:
        reason = _reason(error)
        raise HarnessError(f"cannot be read: {reason}", file=folder, field=field, remedy="check the path") from error


def kind_of(mode: int) -> str:
    """Name the kind of a directory entry, by its mode: "a folder", "a named pipe"."""
    return KINDS.get(stat.S_IFMT(mode), "no regular file")


@contextmanager
def whole_file(path: Path) -> Iterator[Path]:
    """Give a path beside `path` to write to. It is renamed to `path` when the block ends, and removed if it fails.

    Raises:
        HarnessError: `path` is no place for a file (see `check_output`), or something in the block, or the renaming,
            fails with an OSError.
    """
    check_output(path)
    partial = _beside(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        partial.touch()
        with Claim(partial):
            yield partial
            partial.replace(path)
    except OSError as error:
        raise _failed(error, path, partial) from error
    finally:
        if partial.exists():
            partial.unlink()


@contextmanager
def whole_folder(path: Path) -> Iterator[Path]:
    """Give a new folder beside `path` to fill. It is renamed to `path` when the block ends, and removed if it fails.

    Raises:
        HarnessError: `path` exists and is no empty folder, is no place for one (see `check_output_folder`), or
            something in the block fails with an OSError.
    """
    check_output_folder(path)
    partial = _beside(path)
    try:
        partial.mkdir(parents=True)
        with Claim(partial):
            yield partial
            partial.replace(path)
    except OSError as error:
        raise _failed(error, path, partial) from error
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def _mode_at(path: Path, field: str | None, *, follow: bool = False) -> int | None:
    """Return the mode of what stands at `path`, a link itself unless `follow`; None where nothing does."""
    try:
        return path.stat(follow_symlinks=follow).st_mode
    except (FileNotFoundError, NotADirectoryError):  # the latter is of a folder above it, which `_check_parent` names
        return None
    except (OSError, ValueError) as error:
        raise _unwritable(_reason(error), path, field) from error


def _check_parent(path: Path, field: str | None) -> None:
    """Refuse a path whose nearest existing parent is no folder, or none that one may write in."""
    parents = path.absolute().parents
    for parent in parents:
        try:
            mode = parent.stat().st_mode
        except (FileNotFoundError, NotADirectoryError):
            if parent.is_symlink():
                raise _unwritable(f"{parent} is a link that leads nowhere", path, field) from None
            continue
        except OSError as error:
            raise _unwritable(_reason(error), path, field) from error
        if not stat.S_ISDIR(mode):
            raise _unwritable(f"{parent} is {kind_of(mode)}, not a folder", path, field)
        if not os.access(parent, os.W_OK | os.X_OK):
            raise _unwritable(f"nothing may be written in {parent}", path, field)
        return


def _unwritable(reason: str, path: Path, field: str | None) -> HarnessError:
    return HarnessError(
        f"it cannot be written: {reason}",
        file=path,
        field=field,
        remedy="name a place that is there and may be used",
    )


def _too_large(size: int, limit: int, path: Path, field: str | None) -> HarnessError:
    return HarnessError(
        f"{size} bytes, where at most {limit} are read",
        file=path,
        field=field,
        remedy="check that it is the file you mean",
    )


def _reason(error: OSError | ValueError) -> str:
    return (error.strerror if isinstance(error, OSError) else None) or str(error)


def _beside(path: Path) -> Path:
    """Return a hidden name of this process beside `path`; what killed processes left there of `path` is removed."""
    mark = partial_mark()
    # A name of the greatest length leaves no room for the mark.
    kept = os.fsdecode(os.fsencode(path.name)[: LONGEST_NAME - len(mark) - 1])
    remove_abandoned(path.parent, f".{glob.escape(kept)}.*.partial")
    return path.with_name(f".{kept}{mark}")


def _failed(error: OSError, path: Path, partial: Path) -> HarnessError:
    # A full disk comes without a file name; of a copy, the second is that of the file that was written.
    named = error.filename2 or error.filename
    return HarnessError(
        error.strerror or str(error),
        file=path if named is None or str(named).startswith(str(partial)) else named,
        remedy="check that it is there and may be used, and that the disk has space",
    )
