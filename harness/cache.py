"""A cache of results that take long to compute, by the content of their inputs."""

from __future__ import annotations

import datetime
import hashlib
import json
import logging
import os
import platform
import re
import shlex
import shutil
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path

from filelock import FileLock, Timeout

from harness.errors import HarnessError
from harness.files import open_regular, whole_folder
from harness.paths import cache_path
from harness.report.escape import printable

logger = logging.getLogger(__name__)

CONTENT = "content.sha256"
KEY = re.compile("[0-9a-f]{32}")
MOST = 400
"""Letters that tell who holds a lock."""
MOST_BYTES = 2**40
QUIET_S, AGAIN_S = 2.0, 30.0
"""Seconds for which a process waits for a lock without a word, and between words after that."""


def content_key(parts: Mapping[str, object]) -> str:
    """Return one key (32 hexadecimal digits) for all inputs of a result: options, versions, hashes of files."""
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:32]


def cached_folder(kind: str, key: str, build: Callable[[Path], None]) -> Path:
    """Return the folder of a key in the cache; let `build` make it if it does not exist yet, or is damaged.

    Every file is held to the hash that it had when it was made, in the entry's file ``content.sha256``.

    Args:
        kind: Folder of the cache.
        key: Key of the result, from `content_key`.
        build: Fills the empty folder that it is given.

    Raises:
        HarnessError: The cache cannot be written, or `build` fails.
    """

    def build_and_seal(folder: Path) -> None:
        build(folder)
        _seal(folder)
        _remove_free_locks(folder.parent)

    return built_folder(cache_path() / kind / key, build_and_seal, _damage)


def built_folder(
    folder: Path, build: Callable[[Path], None], damage: Callable[[Path], str | None] = lambda folder: None
) -> Path:
    """Return a folder; let `build` make it if it does not exist yet, or is damaged.

    The folder appears under its name when it is complete. A build that is interrupted or killed leaves no entry and is
    repeated the next time. Processes that want the same folder at the same time wait for the one that builds it.

    Args:
        folder: The folder.
        build: Fills the empty folder that it is given.
        damage: Says of a folder that is there what is wrong with it; None where nothing is.

    Raises:
        HarnessError: The folder cannot be written, or `build` fails.
    """
    if folder.is_dir() and damage(folder) is None:
        return folder
    with locked(folder):
        # A partial folder belongs to a process that was killed: a living one would hold the lock.
        for stale in folder.parent.glob(f".{folder.name}.*.partial"):
            shutil.rmtree(stale, ignore_errors=True)
        found = damage(folder) if folder.is_dir() else None
        if found is not None:
            logger.warning("%s: %s; it is made anew", folder, found)
            _remove(folder)
        if not folder.is_dir():
            with whole_folder(folder) as partial:
                build(partial)
    return folder


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Hold a lock on `path` while the block runs; other processes wait for it, and say for whom.

    Raises:
        HarnessError: The lock cannot be written beside `path`.
    """
    lock = FileLock(path.with_name(f"{path.name}.lock"))
    file = Path(lock.lock_file)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        _acquire(lock, path)
    except OSError as error:
        raise _unwritable(error, path.parent) from error
    try:
        with suppress(OSError):  # on a full disk: the lock holds without a name
            file.write_text(printable(_holder()), encoding="utf-8")
        yield
    finally:
        # Before it is free: whoever waits sees that the file which it then locks has no name, and makes another.
        with suppress(OSError):
            file.unlink()
        lock.release()


def _acquire(lock: FileLock, path: Path) -> None:
    """Wait for a lock; tell after `QUIET_S`, and then every `AGAIN_S`, who holds it."""
    started, pause = time.monotonic(), QUIET_S
    while True:
        try:
            lock.acquire(timeout=pause)
        except Timeout:
            waited, pause = time.monotonic() - started, AGAIN_S
            logger.warning("%s: waiting for %.0f s for %s", path, waited, _holder_of(Path(lock.lock_file)))
        else:
            return


def _holder() -> str:
    since = datetime.datetime.now().astimezone().isoformat(" ", "seconds")
    return f"pid {os.getpid()} on {platform.node()} since {since}: {shlex.join(sys.orig_argv)}"[:MOST]


def _holder_of(file: Path) -> str:
    try:
        return printable(file.read_bytes()[:MOST].decode(errors="replace")) or "another process"
    except OSError:  # it has just been released
        return "another process"


def _remove_free_locks(folder: Path) -> None:
    """Remove the locks that killed processes, and earlier versions, left beside the entries of a folder."""
    for file in folder.glob("*.lock"):
        if KEY.fullmatch(file.stem):
            with suppress(OSError), FileLock(file).acquire(timeout=0):  # of which Timeout is one: it is held
                file.unlink()


def _seal(folder: Path) -> None:
    """Note the hash of every file of an entry, as ``sha256sum`` does."""
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    lines = [f"{_sha256(path)}  {path.relative_to(folder).as_posix()}\n" for path in files]
    (folder / CONTENT).write_text("".join(lines), encoding="utf-8")


def _damage(folder: Path) -> str | None:
    """Return what is wrong with an entry; None where every file is what it was when it was made."""
    name = CONTENT
    try:
        lines = (folder / CONTENT).read_text(encoding="utf-8").splitlines()
        for line in lines:
            expected, _, name = line.partition("  ")
            if _sha256(folder / name) != expected:
                return f"{name} is not as it was made"
    except (OSError, UnicodeDecodeError) as error:
        return f"{name} cannot be read: {getattr(error, 'strerror', None) or error}"
    except HarnessError as error:
        return f"{name} {error.cause}"
    return None if lines else f"{CONTENT} is empty"


def _sha256(path: Path) -> str:
    with open_regular(path, None, MOST_BYTES) as file:
        return hashlib.file_digest(file, "sha256").hexdigest()  # type: ignore[arg-type]


def _remove(folder: Path) -> None:
    try:
        shutil.rmtree(folder)
    except OSError as error:
        raise _unwritable(error, folder) from error


def _unwritable(error: OSError, folder: Path) -> HarnessError:
    return HarnessError(
        f"the cache cannot be written: {error.strerror or error}",
        file=folder,
        remedy="set CENTERNET_CONFORMANCE_CACHE to a folder that can",
    )
