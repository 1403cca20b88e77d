"""A run writes its page where it is asked for, and tells GitHub Actions why it is not green."""

import json
from pathlib import Path
from xml.etree import ElementTree

import pytest

from conformance.support.suite import CHECKS, Suite

RIGHT = ("--device=right", "--batch-sizes=1", "--limit=2")


def test_page_beside_the_document_in_pytest_and_check(suite: Suite, tmp_path: Path) -> None:
    for number, run in enumerate((lambda *given: suite.run(*given, *CHECKS), suite.check)):
        folder = tmp_path / str(number)
        ended = run(*RIGHT, "--report", str(folder))
        assert ended.status == 0, ended.output
        assert json.loads((folder / "badge.json").read_text())["message"] == ended.result.verdict
        assert "::error" not in ended.output
        assert "right" in (folder / "report.html").read_text()


def test_failures_become_annotations_and_the_markdown_the_summary(suite: Suite, tmp_path: Path) -> None:
    summary = tmp_path / "summary.md"
    summary.write_text("before\n")
    given = {"GITHUB_STEP_SUMMARY": str(summary)}
    ended = suite.run("--device=swapped", "--batch-sizes=1", "--limit=2", *CHECKS, environment=given)
    assert ended.status == 1
    lines = [line for line in ended.output.splitlines() if line.startswith("::error ")]
    assert lines
    assert lines[0].startswith("::error title=conformance deviates::swapped")
    assert summary.read_text().startswith("before\n# deviates\n")


@pytest.mark.parametrize("processes", ["-n0", "-n2"])
def test_junit_carries_verdict_and_reasons(suite: Suite, tmp_path: Path, processes: str) -> None:
    file = tmp_path / "junit.xml"
    given = ("--device=swapped", "--batch-sizes=1", "--limit=2", f"--junitxml={file}", processes)
    ended = suite.run(*given, *CHECKS)
    assert ended.status == 1, ended.output
    [whole] = ElementTree.parse(file).getroot()
    properties = [(one.get("name"), one.get("value")) for one in whole.findall("properties/property")]
    assert properties[0] == ("verdict", "deviates")
    assert properties[1][0] == "reason"
    assert str(properties[1][1]).startswith("swapped (stand-in) fp32: heads at batch size 1 failed: ")
    failed = {str(case.get("name")): str(case.findtext("failure")) for case in whole.iter("testcase")}
    heads = failed["test_device_heads_equal_reference[swapped-batch1]"]
    assert heads.startswith("stage heads, device swapped, precision fp32, batch size 1: ")
    assert "\n  diagnosis: " in heads


@pytest.mark.parametrize("place", ["a file", "a folder that is not there"])
def test_what_cannot_be_written_is_an_error(suite: Suite, tmp_path: Path, place: str) -> None:
    if place == "a file":
        (tmp_path / "x").write_text("mine")
        ended = suite.run(*RIGHT, f"--report={tmp_path / 'x'}", *CHECKS)
        assert (tmp_path / "x").read_text() == "mine"
        assert "--report: it is there already and not an empty folder" in ended.output
    else:
        given = {"GITHUB_STEP_SUMMARY": str(tmp_path / "none" / "x.md")}
        ended = suite.run(*RIGHT, *CHECKS, environment=given)
        assert "GITHUB_STEP_SUMMARY: the summary cannot be written" in ended.output
    assert (ended.status, ended.result.verdict) == (4, "error")
