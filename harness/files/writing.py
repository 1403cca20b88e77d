"""Files and folders that appear complete or not at all, even if the process is killed."""

from __future__ import annotations

import glob
import os
import re
import shutil
import stat
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from harness.errors import HarnessError
from harness.files.reading import LONGEST_NAME, entries, is_file, kind_of, open_regular, reason_of
from harness.files.temporary import Claim, partial_mark, remove_abandoned

BEGINNING = 64
"""Bytes that tell what a file is."""


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
def whole_file(path: Path) -> Iterator[Path]:
    """Give a path beside `path` to write to. It is renamed to `path` when the block ends, and removed if it fails.

    Raises:
        HarnessError: `path` is no place for a file (see `check_output`), or something in the block, or the renaming,
            fails with an OSError.
    """
    check_output(path)

    def make(partial: Path) -> None:
        partial.parent.mkdir(parents=True, exist_ok=True)
        partial.touch()

    def remove(partial: Path) -> None:
        if partial.exists():
            partial.unlink()

    with _whole(path, make, remove) as partial:
        yield partial


@contextmanager
def whole_folder(path: Path) -> Iterator[Path]:
    """Give a new folder beside `path` to fill. It is renamed to `path` when the block ends, and removed if it fails.

    Raises:
        HarnessError: `path` exists and is no empty folder, is no place for one (see `check_output_folder`), or
            something in the block fails with an OSError.
    """
    check_output_folder(path)
    with _whole(
        path, lambda partial: partial.mkdir(parents=True), lambda partial: shutil.rmtree(partial, ignore_errors=True)
    ) as partial:
        yield partial


@contextmanager
def _whole(path: Path, make: Callable[[Path], None], remove: Callable[[Path], None]) -> Iterator[Path]:
    """Make something beside `path`, give it to be filled, and rename it to `path`, or remove it."""
    partial = _beside(path)
    try:
        make(partial)
        with Claim(partial):
            yield partial
            partial.replace(path)
    except OSError as error:
        raise _failed(error, path, partial) from error
    finally:
        remove(partial)


def _mode_at(path: Path, field: str | None, *, follow: bool = False) -> int | None:
    """Return the mode of what stands at `path`, a link itself unless `follow`; None where nothing does."""
    try:
        return path.stat(follow_symlinks=follow).st_mode
    except (FileNotFoundError, NotADirectoryError):  # the latter is of a folder above it, which `_check_parent` names
        return None
    except (OSError, ValueError) as error:
        raise _unwritable(reason_of(error), path, field) from error


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
            raise _unwritable(reason_of(error), path, field) from error
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
