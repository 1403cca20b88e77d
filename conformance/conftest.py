"""Fixtures that tests share, each made once, and the score of the catalogue at the end of a run."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import onnx
import pytest
import torch
from filelock import FileLock

from conformance.catalogue.scorecard import entries_of, print_scorecard
from conformance.support.stand_ins import cann as stand_in_cann
from conformance.support.suite import Suite
from conformance.support.tiny import TinySetup, make_tiny
from harness.devices.artifact import Exported
from harness.report.terminal import SUMMARY


@pytest.fixture(autouse=True)
def without_summary(monkeypatch: pytest.MonkeyPatch) -> None:
    """Keep what tests run out of the summary of a step of GitHub Actions that runs the tests."""
    monkeypatch.delenv(SUMMARY, raising=False)


@pytest.fixture(scope="session")
def tiny(tmp_path_factory: pytest.TempPathFactory, worker_id: str) -> TinySetup:
    """A tiny model, its data and a vendor's devices; one for all processes of a run."""
    base = tmp_path_factory.getbasetemp()
    root = (base if worker_id == "master" else base.parent) / "tiny"
    with FileLock(root.with_suffix(".lock")):
        if not root.exists():
            partial = root.with_suffix(".partial")
            partial.mkdir()
            make_tiny(partial)
            partial.rename(root)
    return TinySetup(root)


@pytest.fixture(scope="session")
def suite(tiny: TinySetup) -> Iterator[Suite]:
    """Starts runs of the suite."""
    with Suite(tiny) as suite:
        yield suite


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Close a run of the catalogue with its score, and one of mutated files with the table that is asked for."""
    reports = [report for some in terminalreporter.stats.values() for report in some if hasattr(report, "when")]
    properties = [report.user_properties for report in reports if report.when == "call"]
    if table := os.environ.get("CENTERNET_CONFORMANCE_BAD_INPUT"):
        from conformance.meta.fuzz import tally  # here, since it reaches for every verb

        tally.write_table(Path(table), tally.count(properties))
    entries = entries_of(properties)
    if entries:
        terminalreporter.section("catalogue")
        terminalreporter.write(print_scorecard(entries))


def at_opset(model: Path, target: Path, opset: int = 11) -> Path:
    """The tiny network in an opset that ATC reads; its operators are the same in all of them."""
    graph = onnx.load(model)
    graph.opset_import[0].version = opset
    graph.ir_version = 6
    onnx.save(graph, target)
    return target


@pytest.fixture
def host(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A host with the stand-ins for programs, and none for Python."""
    for name, value in stand_in_cann.install(tmp_path / "host").items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("CENTERNET_CONFORMANCE_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    monkeypatch.delenv("ASCEND_TOOLKIT_HOME", raising=False)
    return tmp_path / "host"


@pytest.fixture
def exported(tiny: TinySetup, tmp_path: Path) -> Exported:
    return Exported(tiny.model_card, "ascend", path=at_opset(tiny.onnx, tmp_path / "tiny.onnx"))


@pytest.fixture
def one_thread() -> Iterator[None]:
    """Run PyTorch on one thread: small networks are slower on several, tens of times so where cores are shared."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)
