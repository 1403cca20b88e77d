"""The results document is made of what the tests report, in whatever order, and is written whole or not at all."""

import json
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from conformance.support.example_records import accuracy, run, stage
from conformance.support.full_disk import file_size_limit, small_disk
from conformance.support.suite import CHECKS, ROOT, Suite, read_results
from conformance.support.tiny import TinySetup
from harness.cards import DeviceCard
from harness.checks.verdict import Circumstances
from harness.errors import HarnessError
from harness.report.document import make_document, make_runs, write_document
from harness.report.records import (
    Executed,
    Latency,
    Message,
    Outcome,
    Perf,
    Reported,
    Trouble,
    Verdict,
    pack,
    to_json,
    unpack,
)


def device_card(name: str) -> DeviceCard:
    return DeviceCard(
        name=name, description="d", execution="simulated", toolchain="t", dialect="standard", precisions=("fp32",)
    )


def perf(batch_size: int, interval: str) -> Perf:
    return Perf(batch_size=batch_size, fps=1.0, latency_ms=Latency(p50=1, p90=2, p99=3), interval=interval)


def reported(record: object, device: str = "a") -> Reported:
    return Reported.model_validate({"device": device, "precision": "fp32", "record": record})


MESSAGES: Sequence[Message] = (
    *(
        reported(stage("passed", name, size), device)
        for name in ("heads", "accuracy")
        for size in (1, 4)
        for device in "ab"
    ),
    *(reported(accuracy(size / 10, size)) for size in (1, 4)),
    *(reported(perf(size, interval)) for size in (1, 4) for interval in ("device", "end to end")),
    Executed(device="a", precision="fp32", executed={"provider": "CPU"}),
    Executed(device="a", precision="fp32", executed={"precision": "fp32"}),
    Trouble(device="b", text="broken", error=False),
)


@given(messages=st.permutations(MESSAGES))
def test_order_of_the_tests_does_not_show(messages: Sequence[Message]) -> None:
    cards = [device_card("b"), device_card("a")]
    runs = make_runs(cards, "fp32", messages, Circumstances())
    assert runs == make_runs(cards, "fp32", MESSAGES, Circumstances())
    assert [(found.device, found.execution, found.verdict) for found in runs] == [
        ("b", "simulated", "undecided"),
        ("a", "simulated", "conforms"),
    ]
    assert runs[1].executed == {"precision": "fp32", "provider": "CPU"}
    assert [len(part) for part in (runs[1].stages, runs[1].accuracy, runs[1].perf)] == [4, 2, 4]


@pytest.mark.parametrize("message", MESSAGES, ids=lambda message: type(message).__name__)
def test_message_survives_the_way_between_processes(message: Message) -> None:
    assert unpack(pack(message)) == message


@pytest.mark.parametrize(
    ("outcomes", "troubles", "failed", "expected"),
    [
        (["passed"], [], False, "conforms"),
        (["passed", "not-applicable", "expected-failure"], [], False, "conforms"),
        ([], [], False, "undecided"),
        (["not-applicable"], [], False, "undecided"),
        (["passed"], [], True, "undecided"),
        (["passed"], [("a", False)], False, "undecided"),
        (["passed"], [(None, False)], False, "undecided"),
        (["passed"], [("other", False)], False, "conforms"),
        (["passed", "undecided"], [], False, "undecided"),
        (["failed", "undecided"], [], True, "deviates"),
        (["passed", "failed"], [("a", False)], True, "deviates"),
        (["passed", "failed"], [("a", True)], True, "error"),
    ],
)
def test_verdict_of_a_device(
    outcomes: list[Outcome], troubles: list[tuple[str | None, bool]], failed: bool, expected: Verdict
) -> None:
    stages = [stage(outcome, str(place)) for place, outcome in enumerate(outcomes)]
    found = [s if s.outcome != "not-applicable" else s.model_copy(update={"comparisons": 0}) for s in stages]
    messages = [reported(s) for s in found] + [Trouble(device=d, text="t", error=e) for d, e in troubles]
    [of_a, _] = make_runs([device_card("a"), device_card("other")], "fp32", messages, Circumstances(failed=failed))
    assert of_a.verdict == expected


@pytest.mark.parametrize(
    ("verdicts", "error", "failed", "expected"),
    [
        (["conforms"], False, False, "conforms"),
        (["conforms", "deviates"], False, False, "deviates"),
        (["conforms", "undecided"], False, False, "undecided"),
        (["undecided", "deviates"], False, False, "deviates"),
        ([], False, False, "undecided"),
        (["conforms"], False, True, "deviates"),
        (["deviates"], True, True, "error"),
    ],
)
def test_verdict_of_a_run_is_its_worst(verdicts: list[Verdict], error: bool, failed: bool, expected: Verdict) -> None:
    runs = [run().model_copy(update={"verdict": verdict}) for verdict in verdicts]
    assert make_document("m", None, {}, runs, [], Circumstances(error, failed)).verdict == expected


DOCUMENT = make_document("m", None, {"python": "3" * 9000}, [run(stage("passed"))], ["p"], Circumstances())


def test_document_has_the_keys_that_users_rely_on() -> None:
    text = to_json(DOCUMENT)
    assert list(text) == [
        "schema",
        "model",
        "data",
        "weights_sha256",
        "onnx_sha256",
        "environment",
        "verdict",
        "expected_failures",
        "problems",
        "runs",
    ]
    assert text["schema"] == 2
    judged = {"device", "execution", "precision", "verdict", "expected_failures", "diagnosis"}
    assert {*judged, "stages", "accuracy", "perf"} <= text["runs"][0].keys()


def test_document_replaces_an_older_one_and_its_folder_is_made(tmp_path: Path) -> None:
    file = tmp_path / "a" / "b" / "r.json"
    for model in ("old", "new"):
        write_document(DOCUMENT.model_copy(update={"model": model}), file)
    assert json.loads(file.read_text())["model"] == "new"
    assert list(file.parent.iterdir()) == [file]


@pytest.mark.parametrize("place", ["taken/r.json", "folder"])
def test_place_that_cannot_be_written_is_named(tmp_path: Path, place: str) -> None:
    (tmp_path / "taken").write_text("a file")
    (tmp_path / "folder" / "full").mkdir(parents=True)
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(HarnessError, match="the results cannot be written: ") as caught:
        write_document(DOCUMENT, tmp_path / place)
    assert (caught.value.file, caught.value.field) == (str(tmp_path / place), "--results")
    assert caught.value.remedy is not None
    assert sorted(tmp_path.rglob("*")) == before


@pytest.mark.parametrize("older", [None, "{}"])
def test_document_that_does_not_fit_leaves_what_was_there(tmp_path: Path, older: str | None) -> None:
    file = tmp_path / "r.json"
    if older is not None:
        file.write_text(older)
    too_large = pytest.raises(HarnessError, match="the results cannot be written: File too large")
    with too_large, file_size_limit(4096):
        write_document(DOCUMENT, file)
    assert [entry.read_text() for entry in tmp_path.iterdir()] == ([] if older is None else [older])


@pytest.fixture
def full_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of one page, which is taken."""
    with small_disk(tmp_path / "disk", "size=4k") as folder:
        (folder / "filler").write_bytes(bytes(4096))
        yield folder


def test_full_disk_is_an_error_and_leaves_nothing_half_written(suite: Suite, full_disk: Path) -> None:
    checks = ("--device=right", "--batch-sizes=1", "conformance/device/test_heads.py")
    ended = suite.run(*checks, results=full_disk / "r.json")
    assert (ended.status, ended.document) == (4, None)
    assert f"{full_disk / 'r.json'}: --results: the results cannot be written: No space left on device" in ended.output
    assert "verdict: error" in ended.output
    assert "right (stand-in) fp32: conforms" in ended.output  # what took its time to find out is shown all the same
    ended = suite.run("--device=nosuch", *checks[1:], results=full_disk / "r.json")
    assert (ended.status, ended.document) == (4, None)
    assert "no device named 'nosuch'" in ended.output
    assert "No space left on device" in ended.output
    assert [entry.name for entry in full_disk.iterdir()] == ["filler"]


INTERRUPTIBLE = """
import runpy, signal, sys
signal.signal(signal.SIGINT, signal.default_int_handler)
sys.argv = sys.argv[1:]
runpy.run_module(sys.argv[0], run_name="__main__")
"""
"""A shell starts what runs in its background with Ctrl-C ignored, and children inherit that."""


def interrupted(suite: Suite, results: Path, running: Path, arguments: Sequence[str]) -> int:
    """Exit status of a run that gets Ctrl-C while a device is at work."""
    running.unlink(missing_ok=True)
    asked = [f"--results={results}", "--device=right,endless"]
    command = [sys.executable, "-c", INTERRUPTIBLE, *arguments, *asked]
    with subprocess.Popen(command, cwd=ROOT, env=suite.environment, stdout=subprocess.DEVNULL) as process:
        deadline = time.monotonic() + 120
        while not running.exists() and process.poll() is None and time.monotonic() < deadline:
            time.sleep(0.05)
        process.send_signal(signal.SIGINT)
        try:
            return process.wait(60)
        finally:
            process.kill()  # else a run that does not heed Ctrl-C would be waited for without end


@pytest.mark.parametrize(("module", "status"), [("pytest", pytest.ExitCode.INTERRUPTED), ("harness", 130)])
def test_ctrl_c_leaves_a_whole_document_that_is_incomplete(
    suite: Suite, tiny: TinySetup, tmp_path: Path, module: str, status: int
) -> None:
    of_pytest = module == "pytest"
    arguments = [module, *suite.options, *CHECKS] if of_pytest else [module, "check", *suite.options[2:]]
    assert interrupted(suite, tmp_path / "r.json", tiny.vendor / "endless.running", arguments) == status
    document = read_results(tmp_path / "r.json")
    assert document is not None
    assert document.verdict == "incomplete"
    assert document.problems == ("the run was interrupted: not every test was run",)
    assert [found.verdict for found in document.runs] == ["incomplete", "incomplete"]
    assert list(tmp_path.iterdir()) == [tmp_path / "r.json"]
