"""A cache of results that take long to compute, by the content of their inputs."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock

from harness.errors import HarnessError
from harness.files import whole_folder
from harness.paths import cache_path


def content_key(parts: Mapping[str, object]) -> str:
    """Return one key (32 hexadecimal digits) for all inputs of a result: options, versions, hashes of files."""
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:32]


def cached_folder(kind: str, key: str, build: Callable[[Path], None]) -> Path:
    """Return the folder of a key in the cache; let `build` make it if it does not exist yet.

    Args:
        kind: Folder of the cache.
        key: Key of the result, from `content_key`.
        build: Fills the empty folder that it is given.

    Raises:
        HarnessError: The cache cannot be written, or `build` fails.
    """
    return built_folder(cache_path() / kind / key, build)


def built_folder(folder: Path, build: Callable[[Path], None]) -> Path:
    """Return a folder; let `build` make it if it does not exist yet.

    The folder appears under its name when it is complete. A build that is interrupted or killed leaves no entry and is
    repeated the next time. Processes that want the same folder at the same time wait for the one that builds it.

    Args:
        folder: The folder.
        build: Fills the empty folder that it is given.

    Raises:
        HarnessError: The folder cannot be written, or `build` fails.
    """
    if folder.is_dir():
        return folder
    with locked(folder):
        # A partial folder belongs to a process that was killed: a living one would hold the lock.
        for stale in folder.parent.glob(f".{folder.name}.*.partial"):
            shutil.rmtree(stale, ignore_errors=True)
        if not folder.is_dir():
            with whole_folder(folder) as partial:
                build(partial)
    return folder


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Hold a lock on `path`, which other processes wait for, while the block runs.

    Raises:
        HarnessError: The lock cannot be written beside `path`.
    """
    lock = FileLock(path.with_name(f"{path.name}.lock"))
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        lock.acquire()
    except OSError as error:
        raise HarnessError(
            f"the cache cannot be written: {error.strerror or error}",
            file=path.parent,
            remedy="set CENTERNET_CONFORMANCE_CACHE to a folder that can",
        ) from error
    try:
        yield
    finally:
        lock.release()
