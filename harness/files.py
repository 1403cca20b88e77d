"""Files and folders that appear complete or not at all, even if the process is killed."""

from __future__ import annotations

import shutil
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from harness.errors import HarnessError


@contextmanager
def whole_file(path: Path) -> Iterator[Path]:
    """Give a path beside `path` to write to. It is renamed to `path` when the block ends, and removed if it fails.

    Raises:
        HarnessError: Something in the block, or the renaming, fails with an OSError.
    """
    partial = _beside(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield partial
        partial.replace(path)
    except OSError as error:
        raise _failed(error, path) from error
    finally:
        if partial.exists():
            partial.unlink()


@contextmanager
def whole_folder(path: Path) -> Iterator[Path]:
    """Give a new folder beside `path` to fill. It is renamed to `path` when the block ends, and removed if it fails.

    Raises:
        HarnessError: `path` exists and is no empty folder, or something in the block fails with an OSError.
    """
    if path.is_file() or (path.is_dir() and any(path.iterdir())):
        raise HarnessError(
            "it is there already and not an empty folder", file=path, remedy="remove it, or name another"
        )
    partial = _beside(path)
    try:
        partial.mkdir(parents=True)
        yield partial
        partial.replace(path)
    except OSError as error:
        raise _failed(error, path) from error
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def _beside(path: Path) -> Path:
    return path.with_name(f".{path.name}.{uuid.uuid4().hex[:8]}.partial")


def _failed(error: OSError, path: Path) -> HarnessError:
    # A full disk comes without a file name.
    return HarnessError(
        error.strerror or str(error),
        file=error.filename or path,
        remedy="check that it is there and may be used, and that the disk has space",
    )
