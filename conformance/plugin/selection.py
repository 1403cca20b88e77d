"""Selection of tests: by default, where processes share the machine, and without a checkout."""

import os
import re
from collections.abc import Container, Iterable
from pathlib import Path

import pytest

from conformance.plugin.config import CONFIG
from conformance.plugin.entry import PACKAGE, is_own
from harness.errors import HarnessError
from harness.paths import in_checkout
from harness.report.environment import cores
from harness.run.options import CheckOptions
from harness.run.training.options import TrainingOptions

BY_NAME_ONLY = {"catalogue", "toolchain", "simulator", "attacks", "fuzz", "r50"}
"""Markers of tests that are long, or want what few have: they run where ``-m`` says so, or with `always=True`."""
TRAINING = PACKAGE / "training"
"""Tests of devices that train."""
SLOWDOWN = PACKAGE / "device" / "test_slowdown.py"
"""Test of a speed against an older one: it exists where there is an older one."""
NAMED_PERF = "named_perf"
"""Output of a process of pytest-xdist: whether ``-m`` names the tests of speed, which such a run leaves out."""
GONE = {"numerics": "name the tests: pytest conformance/harness, or pytest --pyargs conformance.harness"}
"""Markers of earlier versions, and what to do instead."""


def pytest_configure(config: pytest.Config) -> None:
    """Give each pytest-xdist process its own cores."""
    worker = os.environ.get("PYTEST_XDIST_WORKER")
    if worker is not None:
        _take_cores(int(worker.removeprefix("gw")), int(os.environ["PYTEST_XDIST_WORKER_COUNT"]))
    elif config.option.numprocesses:
        # Torch and NumPy count the cores when they are imported, which in a process yet to start is before it takes
        # its own; threads that are too many for them wait for each other.
        os.environ.setdefault("OMP_NUM_THREADS", str(_share(config.option.numprocesses)))


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """Look into the tests of devices that train where ``-m`` names them: their devices and models are others."""
    if collection_path == TRAINING and not isinstance(config.stash[CONFIG], TrainingOptions):
        return True
    return None


def _share(workers: int) -> int:
    return max(1, cores() // workers)


def _take_cores(index: int, workers: int) -> None:
    """Keep this process to its own cores: runtimes start a thread a core, and would fight for those of all."""
    if not hasattr(os, "sched_setaffinity"):
        return
    cores, share = sorted(os.sched_getaffinity(0)), _share(workers)
    start = index * share % len(cores)
    os.sched_setaffinity(0, cores[start : start + share])


def check_expression(config: pytest.Config) -> None:
    """Check the markers that ``-m`` names.

    Raises:
        HarnessError: One of them is gone, and the user has none of that name.
    """
    declared = {line.partition(":")[0].partition("(")[0] for line in config.getini("markers")}
    for name in set(re.findall(r"\w+", config.option.markexpr or "")) & (GONE.keys() - declared):
        raise HarnessError("this marker is gone", field=f"-m {name}", remedy=GONE[name])


# Last, when -m and -k have chosen: a test of speed that is left then was asked for.
@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave out tests of the suite that the run does not ask for or cannot have."""
    left_out = set() if in_checkout() else {"checkout"}
    if config.stash[CONFIG].workers or getattr(config.stash[CONFIG], "shard", None) is not None:
        left_out.add("perf")
    # An empty argument can only be the value of -m: every test is asked for.
    if not config.option.markexpr and "" not in config.invocation_params.args:
        left_out |= BY_NAME_ONLY
    if not isinstance(config.stash[CONFIG], TrainingOptions):  # a folder that the command line names is not ignored
        items[:] = [item for item in items if TRAINING not in item.path.parents]
    options = config.stash[CONFIG]
    if not isinstance(options, CheckOptions) or options.against is None:
        items[:] = [item for item in items if item.path != SLOWDOWN]
    selected, deselected = list[pytest.Item](), list[pytest.Item]()
    for item in items:
        gone = is_own(item.path) and any(_leaves_out(mark, left_out) for mark in _closest(item.iter_markers()))
        (deselected if gone else selected).append(item)
    if hasattr(config, "workeroutput"):
        named = "perf" in re.findall(r"\w+", config.option.markexpr or "")
        config.workeroutput[NAMED_PERF] = named and any(item.get_closest_marker("perf") for item in deselected)
    if deselected:
        config.hook.pytest_deselected(items=deselected)
        items[:] = selected


def _closest(marks: Iterable[pytest.Mark]) -> Iterable[pytest.Mark]:
    """The first mark of each name: what a test says counts, before what its module says."""
    found: dict[str, pytest.Mark] = {}
    for mark in marks:
        found.setdefault(mark.name, mark)
    return found.values()


def _leaves_out(mark: pytest.Mark, left_out: Container[str]) -> bool:
    return mark.name in left_out and not mark.kwargs.get("always", False)


def pytest_report_header(config: pytest.Config) -> list[str]:
    """Say which tests are left out, and why."""
    lines = []
    if config.option.numprocesses:
        lines.append("perf tests: deselected under -n, run them alone with: pytest -m perf")
    elif config.option.shard is not None:
        lines.append("perf tests: deselected with --shard, run them without: pytest -m perf")
    if not in_checkout():
        lines.append("tests of the repository itself: deselected, the suite is installed without its checkout")
    return lines
