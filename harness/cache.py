"""What takes long to make and can be made again, kept by the content of what it was made from."""

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
    """One name for all that a thing is made from: options, versions, and the hashes of files."""
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:32]


def cached_folder(kind: str, key: str, build: Callable[[Path], None]) -> Path:
    """The folder of this key, made by `build` where it is not there yet.

    It appears when it is whole: what is interrupted or killed leaves no entry, and is made anew the next time.

    Args:
        kind: Folder of the cache.
        key: As `content_key` gives it.
        build: Fills the empty folder that it is given.

    Raises:
        HarnessError: The cache cannot be written, or `build` fails.
    """
    folder = cache_path() / kind / key
    if folder.is_dir():
        return folder
    with locked(folder):
        for stale in folder.parent.glob(f".{key}.*.partial"):  # of a process that was killed: it held this lock
            shutil.rmtree(stale, ignore_errors=True)
        if not folder.is_dir():
            with whole_folder(folder) as partial:
                build(partial)
    return folder


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Keep other processes out of what the block does with `path`.

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
