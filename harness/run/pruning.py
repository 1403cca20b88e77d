"""Size of the store of outputs, and what is removed from it, a whole set at a time."""

from __future__ import annotations

import shutil
import time
from pathlib import Path

from harness.cache import KEY
from harness.errors import HarnessError

DAY_S = 86400
GB = 1e9


def stored_size(folder: Path) -> tuple[int, int]:
    """Return the number of sets of outputs in a store, and their bytes."""
    sizes = [size for _, size, _ in _sets(folder)]
    return len(sizes), sum(sizes)


def prune_store(folder: Path, older_than: float, larger_than: float) -> tuple[int, int]:
    """Remove sets of outputs by age, and then the oldest until the rest is small enough.

    A run that is under way loses nothing but what it would have been spared: it computes anew what is gone.

    Args:
        folder: Of the store.
        older_than: Days since the newest output of a set was written, beyond which the set goes.
        larger_than: Gigabytes (10^9 bytes) that the sets may have together.

    Returns:
        Number of sets that were removed, and their bytes.

    Raises:
        HarnessError: One cannot be removed.
    """
    found = sorted(_sets(folder))
    total, now = sum(size for _, size, _ in found), time.time()
    removed = list[int]()
    for newest, size, path in found:
        if now - newest <= older_than * DAY_S and total <= larger_than * GB:
            break
        try:
            shutil.rmtree(path)
        except OSError as error:
            cause = f"it cannot be removed: {error.strerror or error}"
            raise HarnessError(cause, file=path, remedy="remove it as its owner") from error
        total -= size
        removed.append(size)
    return len(removed), sum(removed)


def _sets(folder: Path) -> list[tuple[float, int, Path]]:
    """Time of the newest file (seconds of the epoch), bytes and folder of each set."""
    found = []
    for path in folder.glob("*") if folder.is_dir() else ():
        if KEY.fullmatch(path.name) and path.is_dir():
            stats = [file.stat() for file in path.rglob("*") if file.is_file()]
            newest = max((stat.st_mtime for stat in stats), default=path.stat().st_mtime)
            found.append((newest, sum(stat.st_size for stat in stats), path))
    return found
