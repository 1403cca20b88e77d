"""Reading of a user's files and folders: nothing but regular files is opened, and nothing without a limit."""

from __future__ import annotations

import hashlib
import json
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

from harness.errors import HarnessError

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
LONGEST_NAME = 255
"""Bytes of a file's name, on every usual file system."""
LARGEST_FILE = 2**34
"""Most bytes that a file of weights or a model may have."""


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
        raise HarnessError(f"{cause}: {reason_of(error)}", file=path, field=field, remedy=remedy) from error
    with file:
        check(os.fstat(file.fileno()))
        try:
            yield file
        except OSError as error:  # a file of /proc opens and cannot be read
            raise HarnessError(f"{cause}: {reason_of(error)}", file=path, field=field, remedy=remedy) from error


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


def file_sha256(path: Path) -> str:
    """Return the hexadecimal SHA-256 of a file.

    Raises:
        HarnessError: It cannot be read, or is no regular file.
    """
    with open_regular(path, None, LARGEST_FILE) as file:
        return hashlib.file_digest(file, "sha256").hexdigest()  # type: ignore[arg-type]


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
        reason = reason_of(error)
        raise HarnessError(f"cannot be read: {reason}", file=folder, field=field, remedy="check the path") from error


def kind_of(mode: int) -> str:
    """Name the kind of a directory entry, by its mode: "a folder", "a named pipe"."""
    return KINDS.get(stat.S_IFMT(mode), "no regular file")


def reason_of(error: OSError | ValueError) -> str:
    """Return what the system says of an error, without number and path."""
    return (error.strerror if isinstance(error, OSError) else None) or str(error)


def _too_large(size: int, limit: int, path: Path, field: str | None) -> HarnessError:
    return HarnessError(
        f"{size} bytes, where at most {limit} are read",
        file=path,
        field=field,
        remedy="check that it is the file you mean",
    )
