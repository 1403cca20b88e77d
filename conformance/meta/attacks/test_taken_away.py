"""Tests that are taken away from a run of pytest: whatever took them, the run is incomplete and names their stages."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest

from conformance.support.suite import CHECKS, ROOT, Suite
from harness.report.baseline import read_document

pytestmark = pytest.mark.attacks

HEADS, ACCURACY = "conformance/device/test_heads.py", "conformance/device/test_accuracy.py"
SMALL = ("--batch-sizes=4", "--limit=4")
REMOVES = """
import pytest
@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items):
    items[:] = [item for item in items if "contract" in item.name or "alone" in item.name]
"""
MARKS = """
import pytest
def pytest_collection_modifyitems(items):
    for item in items:
        if "contract" not in item.name:
            item.add_marker(pytest.mark.{mark})
"""
PASSES = """
def pytest_pyfunc_call(pyfuncitem):
    return True if "contract" not in pyfuncitem.name else None
"""
GREENS = """
import pytest
@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item):
    report = yield
    report.outcome = "passed"
    return report
@pytest.hookimpl(trylast=True)
def pytest_sessionfinish(session):
    session.exitstatus = 0
"""
CRASHES = """
import os
def pytest_runtest_call(item):
    if "contract" not in item.name and "PYTEST_XDIST_WORKER" in os.environ:
        os._exit(0)
"""
LEAVES = """
import os
def pytest_runtest_call():
    os._exit(0)
"""
UNEXPECTED_EXIT = """
import pytest
def pytest_runtest_teardown():
    pytest.exit("all is well", returncode=0)
"""


@dataclass(frozen=True)
class Way:
    """A way of taking tests away from a run on a wrong device.

    Attributes:
        device: Passes what is left.
        arguments: Of pytest.
        lacking: Stages at batch size 4 that do not run.
        plugin: Source of a plug-in of the user's.
        addopts: Value of the variable ``PYTEST_ADDOPTS``.
        files: Paths of tests.
    """

    device: str
    arguments: Sequence[str]
    lacking: str
    plugin: str | None = None
    addopts: str = ""
    files: Sequence[str] = CHECKS


ALONE = "test_sample_in_a_batch_equals_the_sample_alone"
IN_HEADS = "heads batch detections"
REST = f"{IN_HEADS} accuracy"
WAYS = {
    "-k conversion": Way("swapped", ["-k", "conversion"], REST),
    "-k alone": Way("swapped", ["-k", "alone"], "contract heads detections accuracy"),
    "-k batch1": Way("permuted", ["--batch-sizes=1,4", "-k", "batch1"], f"contract {REST}"),
    "id": Way("swapped", [], "contract heads detections accuracy", files=[f"{HEADS}::{ALONE}"]),
    "file": Way("right", [], "contract accuracy", files=[HEADS]),
    "--ignore": Way("slight", [f"--ignore={HEADS}", "-m", "accuracy"], IN_HEADS, files=["conformance/device"]),
    "--deselect": Way("slight", [f"--deselect={HEADS}"], IN_HEADS),
    "-m": Way("slight", ["-m", "accuracy and not xdist_group"], REST, MARKS.format(mark="xdist_group")),
    "PYTEST_ADDOPTS": Way("swapped", [], REST, addopts="-k conversion"),
    "removed by a plug-in": Way("swapped", [], "heads detections accuracy", REMOVES),
    "skipped by a plug-in": Way("swapped", [], REST, MARKS.format(mark="skip")),
    "xfailed by a plug-in": Way("swapped", [], REST, MARKS.format(mark="xfail(run=False)")),
    "passed by a plug-in": Way("swapped", [], REST, PASSES),
    "--setup-plan": Way("swapped", ["--setup-plan"], f"contract {REST}"),
    "other names": Way("swapped", ["-o", "python_functions=test_artifact"], REST),
    "-n and -k": Way("swapped", ["-n", "2", "-k", "conversion"], REST),
    "-n and a process that ends": Way("swapped", ["-n", "1", "--max-worker-restart=0"], "heads", CRASHES),
    "pytest.exit": Way("slight", [], "heads", UNEXPECTED_EXIT),
}  # fmt: skip


@pytest.mark.parametrize("name", WAYS)
def test_what_is_taken_away_is_owed(suite: Suite, name: str) -> None:
    way = WAYS[name]
    environment = {"PYTEST_ADDOPTS": way.addopts}
    asked = (f"--device={way.device}", *SMALL, *way.arguments)
    ended = suite.run(*asked, *way.files, plugin=way.plugin, environment=environment)
    assert (ended.status, ended.result.verdict) == (1, "incomplete"), ended.output
    run = ended.run_of(way.device)
    assert run.verdict == "incomplete"
    for stage in way.lacking.split():
        assert f"{stage} at batch size 4" in run.not_run
    [line] = [line for line in ended.output.splitlines() if line.startswith(f"{way.device} (stand-in) fp32: ")]
    assert line.startswith(f"{way.device} (stand-in) fp32: incomplete, not run: ")
    assert "\nverdict: incomplete\n" in ended.output


@pytest.mark.attacks(always=True)
def test_one_test_is_no_verdict_on_a_device(suite: Suite) -> None:
    ended = suite.run("--device=swapped", *SMALL, "-k", "conversion", *CHECKS)
    assert (ended.status, ended.result.verdict) == (1, "incomplete")
    assert "swapped (stand-in) fp32: incomplete, not run: heads, batch, detections and" in ended.output


@pytest.mark.parametrize("option", ["-x", "--maxfail=1", "--stepwise", "-x -n1"])
def test_run_that_stops_at_a_failure_names_what_it_did_not_come_to(suite: Suite, option: str) -> None:
    caching = ("-p", "cacheprovider", "-p", "stepwise", "-o", f"cache_dir={suite.tiny.root / 'cached'}")
    ended = suite.run("--device=swapped,permuted", *SMALL, *option.split(), *caching, *CHECKS)
    assert (ended.status, ended.result.verdict) == (1, "deviates")
    assert (ended.run_of("swapped").verdict, ended.run_of("permuted").verdict) == ("deviates", "incomplete")
    assert len(ended.run_of("permuted").not_run) == 5


def test_tests_that_failed_last_time_are_not_all(suite: Suite) -> None:
    """The first two images are among those that the device finds something in."""
    caching = ("-p", "cacheprovider", "-o", f"cache_dir={suite.tiny.root / 'cached'}")
    first = suite.run("--device=selective", "--batch-sizes=4", *caching, ACCURACY)
    assert first.result.verdict == "deviates"
    again = suite.run("--device=selective", "--batch-sizes=4", "--limit=2", "--lf", *caching, *CHECKS)
    assert (again.status, again.result.verdict) == (1, "incomplete")
    assert again.outcomes("selective", 4) == {"accuracy": "passed"}


@pytest.mark.parametrize("device", ["skipping", "xfailing", "unittesting", "quitting", "leaving"])
def test_device_that_leaves_a_test_has_not_run_it(suite: Suite, device: str) -> None:
    ended = suite.run(f"--device={device}", *SMALL, *CHECKS)
    assert (ended.status, ended.result.verdict) == (1, "incomplete"), ended.output
    assert {f"{stage} at batch size 4" for stage in REST.split()} == set(ended.run_of(device).not_run)


@pytest.mark.parametrize(
    ("more", "devices"), [((), "swapped"), (("-n", "2"), "swapped,permuted")], ids=["alone", "in two processes"]
)
def test_green_reports_do_not_change_what_was_found(suite: Suite, more: Sequence[str], devices: str) -> None:
    ended = suite.run(f"--device={devices}", *SMALL, *more, *CHECKS, plugin=GREENS)
    assert (ended.status, ended.result.verdict) == (1, "deviates")


def test_process_that_ends_leaves_a_document_that_is_incomplete(suite: Suite) -> None:
    """Its status is that of success, since nothing is left that could give another."""
    ended = suite.run("--device=right", *SMALL, *CHECKS, plugin=LEAVES)
    assert (ended.status, ended.result.verdict) == (0, "incomplete")
    assert set(ended.run_of("right").not_run) == {f"{stage} at batch size 4" for stage in f"contract {REST}".split()}
    assert ended.result.environment
    assert ended.result.problems == ("the run has begun and has not ended: this document is replaced at its end",)


def test_part_of_the_suite_cannot_be_blocked(suite: Suite) -> None:
    ended = suite.run("--device=swapped", *SMALL, "-p", "no:conformance.plugin.session", *CHECKS)
    assert ended.status == 4
    assert "-p no:conformance.plugin.session: without this part of the suite no verdict can be given" in ended.output


def test_module_that_cannot_be_collected_is_an_error(suite: Suite) -> None:
    fails = "import pytest\ndef pytest_pycollect_makemodule(module_path):\n    if 'heads' in module_path.name:\n"
    fails += "        raise pytest.Collector.CollectError('away with it')\n"
    ended = suite.run("--device=slight", *SMALL, *CHECKS, plugin=fails)
    assert (ended.status, ended.result.verdict) == (4, "error")
    go_on = suite.run("--device=slight", *SMALL, "--continue-on-collection-errors", *CHECKS, plugin=fails)
    assert (go_on.status, go_on.result.verdict) == (4, "error")


def test_pytest_that_fails_itself_is_an_error(suite: Suite) -> None:
    fails = "def pytest_runtest_logfinish():\n    raise ZeroDivisionError\n"
    ended = suite.run("--device=swapped", *SMALL, "-k", "conversion or alone", *CHECKS, plugin=fails)
    assert (ended.status, ended.result.verdict) == (4, "error")
    assert "\nverdict: error\n" in ended.output


def test_speed_alone_says_nothing_of_accuracy(suite: Suite) -> None:
    ended = suite.run("--device=swapped", *SMALL, "-m", "accuracy or perf", "-k", "estimate", "conformance/device")
    assert (ended.status, ended.result.verdict) == (1, "incomplete")
    assert "perf at batch size 4" in ended.run_of("swapped").not_run


def test_speed_that_is_named_is_owed_also_where_processes_share_the_machine(suite: Suite) -> None:
    ended = suite.run("--device=right", *SMALL, "-m", "accuracy or perf", "-n", "2", "conformance/device")
    assert (ended.status, ended.result.verdict) == (1, "incomplete")
    assert set(ended.run_of("right").not_run) == {
        f"{stage} at batch size 4" for stage in ("perf", "estimate", "stated speed", "harness-overhead", "pipeline")
    }
    whole = suite.run("--device=right", *SMALL, "-m", "accuracy and not (perf or export)", "-n", "2", *CHECKS)
    assert (whole.status, whole.result.verdict) == (0, "conforms")


@pytest.mark.parametrize("command", [["pytest", *CHECKS], ["harness", "check"]], ids=lambda command: command[0])
def test_python_that_leaves_out_assertions_leaves_out_no_check(
    suite: Suite, tmp_path: Path, command: Sequence[str]
) -> None:
    module, *rest = command
    asked = [*rest, *suite.options[2:], "--device=right,swapped", *SMALL, f"--results={tmp_path / 'r.json'}"]
    ended = subprocess.run([sys.executable, "-OO", "-m", module, *asked], cwd=ROOT, env=suite.environment, check=False)
    document = read_document(tmp_path / "r.json")
    assert (ended.returncode, document.verdict) == (1, "deviates")
    assert [run.verdict for run in document.runs] == ["conforms", "deviates"]


def test_a_list_of_tests_is_no_verdict(suite: Suite) -> None:
    listed = suite.run("--device=swapped", "--collect-only", "-q", *CHECKS)
    assert (listed.status, listed.document, "verdict" in listed.output) == (0, None, False)
