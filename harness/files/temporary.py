"""Files and folders that go with the process that made them; the next process removes what a killed one left.

Their names hold the number of the process, and it holds a lock on them (which also keeps systemd's cleaner of old
temporary files away). Another process removes one of its own user if that process is gone and the lock is free: a lock
is seen from other containers that share the disk, where the number means another process. Age says nothing.
"""

from __future__ import annotations

import errno
import fcntl
import os
import re
import shutil
import stat
import tempfile
import uuid
from contextlib import suppress
from pathlib import Path
from types import TracebackType

from harness.errors import HarnessError

PREFIX = "centernet-conformance-"
FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
"""Errors of a disk without room for more, or a limit of the user's."""
SUFFIX = ".temporary"
OWNER = re.compile(rf"{PREFIX}(\d+)-[a-z0-9_]{{8}}{re.escape(SUFFIX)}|\..*\.(\d+)-[0-9a-f]{{8}}\.partial", re.DOTALL)
"""Names that only this module gives, with the number of the process."""


class TemporaryFolder(tempfile.TemporaryDirectory[str]):
    """A new folder that is removed by `cleanup`, at the end of a block, or after a kill by the next that is made.

    Args:
        parent: Folder in which it is made; by default that of temporary files.

    Raises:
        HarnessError: It cannot be made, or its disk is full, also at the end of a block.
    """

    def __init__(self, parent: Path | None = None) -> None:
        try:
            parent = Path(tempfile.gettempdir()) if parent is None else parent
            remove_abandoned(parent, f"{PREFIX}*{SUFFIX}")
            super().__init__(SUFFIX, f"{PREFIX}{os.getpid()}-", parent)
        except OSError as error:
            raise _without_room(error, parent) from error
        self._claim = Claim(Path(self.name))

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, place: TracebackType | None
    ) -> None:
        super().__exit__(kind, error, place)
        if isinstance(error, OSError) and error.errno in FULL:
            within = str(error.filename or self.name).startswith(self.name)  # a full disk comes without a name
            if within:
                raise _without_room(error, Path(self.name).parent) from error

    def cleanup(self) -> None:
        """Remove the folder; more than once is allowed."""
        super().cleanup()
        self._claim.release()


class Claim:
    """Keeps a file or folder of this process from being taken for that of a process that is gone.

    Args:
        path: The file or folder, which exists.
    """

    def __init__(self, path: Path) -> None:
        self._path = path.absolute()
        self._descriptor = _locked(path)  # None on file systems without such locks: nobody gets one there
        _CLAIMED.add(self._path)

    def __enter__(self) -> None:
        pass

    def __exit__(self, *error: object) -> None:
        self.release()

    def release(self) -> None:
        """Give it up; more than once is allowed."""
        _CLAIMED.discard(self._path)
        descriptor, self._descriptor = self._descriptor, None
        if descriptor is not None:
            os.close(descriptor)


_CLAIMED: set[Path] = set()


def partial_mark() -> str:
    """Return the end of a partial file's or folder's name, which tells whose it is."""
    return f".{os.getpid()}-{uuid.uuid4().hex[:8]}.partial"


def remove_abandoned(parent: Path, pattern: str) -> None:
    """Remove the files and folders in `parent` that match and whose process is gone; what cannot be removed stays."""
    with suppress(OSError):  # the folder cannot be listed
        for path in sorted(parent.glob(pattern)):
            with suppress(OSError):  # another process has removed it
                _remove_if_abandoned(path)


def _remove_if_abandoned(path: Path) -> None:
    found, owner = path.lstat(), OWNER.fullmatch(path.name)
    is_folder = stat.S_ISDIR(found.st_mode)
    if (
        path.absolute() in _CLAIMED
        or owner is None
        or found.st_uid != os.getuid()
        or not (is_folder or stat.S_ISREG(found.st_mode))
    ):
        return
    process = int(owner[1] or owner[2])
    # This process's own number is that of an earlier one: the first process of every container has the same.
    if process != os.getpid() and _is_alive(process):
        return
    descriptor = _locked(path)
    if descriptor is None:
        return
    try:
        if is_folder:
            shutil.rmtree(path)
        else:
            path.unlink()
    finally:
        os.close(descriptor)


def _without_room(error: OSError, folder: Path | None) -> HarnessError:
    return HarnessError(
        f"no temporary files can be written: {error.strerror or error}",
        file=folder,
        remedy="free some space, or set TMPDIR to a folder that has it",
    )


def _is_alive(process: int) -> bool:
    try:
        os.kill(process, 0)
    except (ProcessLookupError, OverflowError):
        return False
    except PermissionError:  # of another user
        return True
    return True


def _locked(path: Path) -> int | None:
    """Lock a file or folder until the returned descriptor is closed; None where that is impossible."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    except OSError:
        return None
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:  # held by another, or a file system without such locks
        os.close(descriptor)
        return None
    return descriptor
