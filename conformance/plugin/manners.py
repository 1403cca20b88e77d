"""Markers, strictness and filters of warnings, for the suite's own tests and for nobody else's.

A `pytest.ini` would decide for every test of a run, and an installed wheel has none.
"""

from __future__ import annotations

import warnings
from collections.abc import Generator

import pytest

from conformance.plugin.entry import is_own

MARKERS = {
    "accuracy": "the device's contract, heads, detections and AP against the reference",
    "perf": "fps and latency by batch size, and what the harness itself costs",
    "export": "the export dialects",
    "training": "a device that trains CenterNet2, rung by rung against the reference (under -m training alone)",
    "catalogue": "the catalogue of known porting mistakes (its own command)",
    "toolchain": "needs a vendor's toolchain (its own command)",
    "simulator": "the emulation of Sophon chips against their simulators, an hour on few cores (its own command)",
    "attacks": "ways to a green that was not earned; a few run always, the rest has its own command",
    "r50": "CenterNet2 with its whole backbone: half a minute and 2 GB",
    "fuzz": "inputs of every format, mutated; a hundred run always, thousands by their own command",
    "checkout": "needs the repository: left out where the suite is installed from a wheel",
}
SHOWN = (DeprecationWarning, PendingDeprecationWarning, FutureWarning)
"""Warnings that do not fail a test; every other does."""


@pytest.hookimpl(tryfirst=True)
def pytest_configure(config: pytest.Config) -> None:
    """Declare the markers; ignore what pytest-benchmark warns of where processes share the machine."""
    warnings.filterwarnings("ignore", message="Benchmarks are automatically disabled because xdist")
    for name, meaning in MARKERS.items():
        config.addinivalue_line("markers", f"{name}: {meaning}")


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report(
    collector: pytest.Collector,
) -> Generator[None, pytest.CollectReport, pytest.CollectReport]:
    """Fail where a module of the suite warns when it is imported, as of a marker that is not declared."""
    if not is_own(getattr(collector, "path", collector.config.rootpath)):
        return (yield)
    with warnings.catch_warnings():
        for category in SHOWN:
            warnings.simplefilter("default", category, append=True)
        warnings.simplefilter("error", append=True)
        return (yield)


# Last, since the names of markers count in the selection by -k.
@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Make warnings fail the suite's tests, and an unexpected pass where a test is marked as failing."""
    filters = ["error", *(f"default::{category.__name__}" for category in SHOWN)]
    strict = pytest.mark.filterwarnings(*filters, *(config.option.pythonwarnings or ()))
    for item in items:
        if is_own(item.path):
            item.add_marker(strict, append=False)  # before what the test itself says, which then counts
            for mark in list(item.iter_markers("xfail")):
                item.add_marker(pytest.mark.xfail(*mark.args, **{"strict": True, **mark.kwargs}), append=False)
