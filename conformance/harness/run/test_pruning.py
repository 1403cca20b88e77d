"""The store is emptied by age and by size."""

import os
from pathlib import Path

import pytest

from harness.run.pruning import DAY_S, prune_store, stored_size


@pytest.mark.parametrize(("days", "gigabytes", "left"), [(5, 1, 2), (50, 1, 3), (50, 25e-9, 2), (0, 0, 0)])
def test_pruning_removes_what_is_old_and_then_the_oldest(
    days: float, gigabytes: float, left: int, tmp_path: Path
) -> None:
    (tmp_path / "runs").mkdir()
    for age in (1, 3, 10):
        one = tmp_path / f"{age:032x}"
        one.mkdir()
        (one / "a.npz").write_bytes(b"0123456789")
        changed = (tmp_path / "runs").stat().st_mtime - age * DAY_S
        os.utime(one / "a.npz", (changed, changed))
    assert stored_size(tmp_path) == (3, 30)
    assert prune_store(tmp_path, days, gigabytes) == (3 - left, 10 * (3 - left))
    assert stored_size(tmp_path) == (left, 10 * left)
    assert (tmp_path / "runs").is_dir()
