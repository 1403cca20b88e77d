"""`check` says of a device what ``pytest -m accuracy`` says, word for word but for times."""

from __future__ import annotations

import ast
import re
from pathlib import Path
from typing import Any

import pytest

from conformance.support.suite import CHECKS, Ended, Suite
from harness.checks.owed import GROUPS
from harness.run.checking import STAGE_CHECKS, TESTS

EXCUSED = "excused in accuracy, detections and heads at batch size 4"
EXPIRED = "expired in heads at batch size 1"
REFUSED = "refused in conversion at batch sizes 1 and 4"


def without_times(ended: Ended) -> dict[str, Any]:
    found = ended.result.model_dump()
    for run in found["runs"]:
        run["perf"] = [(perf["batch_size"], perf["interval"]) for perf in run["perf"]]
        run["accuracy"] = [{**one, "reference_stored": None} for one in run["accuracy"]]
    return found


def closing(ended: Ended) -> list[str]:
    """Lines of the summary that hold no times, nor what an earlier run stored."""
    lines = ended.output.partition("= conformance =")[2].partition("= short test summary")[0].splitlines()
    lines = [line for line in lines if "stored ones" not in line]
    return [line for line in lines if re.match(r"(\S+: stage|problem|verdict|\S+( \(stand-in\))?( fp32)?:)", line)]


@pytest.mark.parametrize(
    ("devices", "sizes", "status", "verdict"),
    [
        (
            "right,excused",
            "4",
            0,
            "conforms, with 3 expected failures: excused in accuracy, detections and heads at batch size 4",
        ),
        ("swapped,crashing", "4", 1, "deviates"),
        pytest.param(
            "elsewhere,cured,stray,expired",
            "1",
            1,
            "deviates, with 1 expected failure: expired in heads at batch size 1",
            marks=pytest.mark.attacks,
        ),
        ("late,refused", "1,4", 4, f"error, with 2 expected failures: {REFUSED}"),
    ],
)
def test_check_gives_the_document_of_pytest(suite: Suite, devices: str, sizes: str, status: int, verdict: str) -> None:
    """For right and wrong devices, expected failures and a toolchain that refuses the model."""
    asked = (f"--device={devices}", f"--batch-sizes={sizes}", suite.known)
    of_pytest, of_check = suite.run(*asked, *CHECKS), suite.check(*asked)
    assert (of_pytest.status, of_check.status) == (status, status), of_check.output
    assert without_times(of_check) == without_times(of_pytest)
    assert closing(of_check) == closing(of_pytest)
    assert f"verdict: {verdict}" in closing(of_check)
    counts = [run.expected_failures for run in of_check.result.runs]
    assert f"with {sum(counts)} expected" in f"with 0 expected {verdict}"
    assert of_check.result.expected_failures == sum(counts)


@pytest.mark.parametrize(
    ("arguments", "cause"),
    [
        (("--device=nosuch",), "--device: no device named 'nosuch'"),
        (("--batch-sizes=0",), "--batch-sizes: '0' is no list of different batch sizes"),
        (("--device=absent",), "no chip answers on the bus"),
        (("--baseline=none.json",), "none.json: --baseline: cannot be read"),
    ],
)
def test_what_cannot_be_had_is_an_error_with_a_document(suite: Suite, arguments: tuple[str], cause: str) -> None:
    ended = suite.check(*arguments)
    assert (ended.status, ended.result.verdict, ended.result.runs) == (4, "error", ())
    assert cause in ended.result.problems[0]
    assert cause in ended.output
    assert "Traceback" not in ended.output


def test_tests_that_expectations_may_speak_of_are_those_of_the_devices() -> None:
    tests = Path(__file__).parents[2]
    found = [
        f"{file.name}::{node.name}"
        for folder in ("device", "training")
        for file in sorted((tests / folder).glob("test_*.py"))
        for node in ast.parse(file.read_text()).body
        if isinstance(node, ast.FunctionDef) and node.name.startswith("test_")
    ]
    assert sorted(found) == sorted(test for group in GROUPS.values() for test in group)
    assert sorted(TESTS) == sorted(test for test in found if test not in GROUPS["training"])
    assert list(GROUPS["accuracy"].values()) == list(STAGE_CHECKS)
