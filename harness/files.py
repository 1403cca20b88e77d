"""Files and folders that are there whole or not at all, whatever ends the process."""

from __future__ import annotations

import shutil
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from harness.errors import HarnessError


@contextmanager
def whole_file(path: Path) -> Iterator[Path]:
    """A path beside `path` to write to; it takes the name of `path` when the block ends, and goes when it fails.

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
    """A new folder beside `path` to fill; it takes the name of `path` when the block ends, and goes when it fails.

    Raises:
        HarnessError: `path` is there already and no empty folder, or something in the block fails with an OSError.
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
