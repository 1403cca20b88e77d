"""Which tests run: speed is not measured while other processes share the machine."""

from __future__ import annotations

import os

import pytest

from conformance.plugin.config import CONFIG


def pytest_configure(config: pytest.Config) -> None:
    """Give each pytest-xdist process its own cores."""
    worker = os.environ.get("PYTEST_XDIST_WORKER")
    if worker is not None:
        _take_cores(int(worker.removeprefix("gw")), int(os.environ["PYTEST_XDIST_WORKER_COUNT"]))
    elif config.option.numprocesses:
        # Torch and NumPy count the cores when they are imported, which in a process yet to start is before it takes
        # its own; threads that are too many for them wait for each other.
        os.environ.setdefault("OMP_NUM_THREADS", str(_share(config.option.numprocesses)))


def _share(workers: int) -> int:
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, cores // workers)


def _take_cores(index: int, workers: int) -> None:
    """Runtimes start one thread a core they may use; with all cores in every process they would fight for them."""
    if not hasattr(os, "sched_setaffinity"):
        return
    cores, share = sorted(os.sched_getaffinity(0)), _share(workers)
    start = index * share % len(cores)
    os.sched_setaffinity(0, cores[start : start + share])


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave the perf tests out under pytest-xdist."""
    if not config.stash[CONFIG].workers:
        return
    perf = [item for item in items if item.get_closest_marker("perf")]
    if perf:
        config.hook.pytest_deselected(items=perf)
        items[:] = [item for item in items if not item.get_closest_marker("perf")]


def pytest_report_header(config: pytest.Config) -> str | None:
    """Say that the perf tests are left out."""
    if config.option.numprocesses:
        return "perf tests: deselected under -n, run them alone with: pytest -m perf"
    return None
