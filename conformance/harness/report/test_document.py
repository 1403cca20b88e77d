"""The results document is made of what the tests report, in whatever order, and is written whole or not at all."""

import json
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from conformance.support.example_records import accuracy, run, stage
from conformance.support.full_disk import file_size_limit, small_disk
from conformance.support.suite import CHECKS, ROOT, Suite, read_results
from harness.cards import DeviceCard
from harness.checks.owed import GROUPS, owed_by
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


def reported(record: object, device: str = "a", test: str = "test_x.py::test_x") -> Reported:
    return Reported.model_validate({"device": device, "precision": "fp32", "test": test, "record": record})


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
    Trouble(device="b", text="broken", verdict="incomplete"),
)


@settings(suppress_health_check=[HealthCheck.too_slow])
@given(messages=st.permutations(MESSAGES))
def test_order_of_the_tests_does_not_show(messages: Sequence[Message]) -> None:
    cards = [device_card("b"), device_card("a")]
    runs = make_runs(cards, "fp32", messages, [])
    assert runs == make_runs(cards, "fp32", MESSAGES, [])
    assert [(found.device, found.execution, found.verdict) for found in runs] == [
        ("b", "simulated", "incomplete"),
        ("a", "simulated", "conforms"),
    ]
    assert runs[1].executed == {"precision": "fp32", "provider": "CPU"}
    assert [len(part) for part in (runs[1].stages, runs[1].accuracy, runs[1].perf)] == [4, 2, 4]


@pytest.mark.parametrize("message", MESSAGES, ids=lambda message: type(message).__name__)
def test_message_survives_the_way_between_processes(message: Message) -> None:
    assert unpack(pack(message)) == message


@pytest.mark.parametrize(
    ("outcomes", "troubles", "expected"),
    [
        (["passed"], [], "conforms"),
        (["passed", "not-applicable", "expected-failure"], [], "conforms"),
        ([], [], "undecided"),
        (["not-applicable"], [], "undecided"),
        (["passed"], [("a", "incomplete")], "incomplete"),
        (["passed"], [("a", "deviates")], "deviates"),
        (["passed"], [(None, "deviates")], "undecided"),
        (["passed"], [(None, "error")], "undecided"),
        (["passed"], [(None, "incomplete")], "incomplete"),
        (["passed"], [("other", "deviates")], "conforms"),
        (["passed", "undecided"], [], "undecided"),
        (["failed", "undecided"], [], "deviates"),
        (["passed", "failed"], [("a", "incomplete")], "deviates"),
        (["passed", "failed"], [("a", "error")], "error"),
    ],
)
def test_verdict_of_a_device(
    outcomes: list[Outcome], troubles: list[tuple[str | None, Verdict]], expected: Verdict
) -> None:
    stages = [stage(outcome, str(place)) for place, outcome in enumerate(outcomes)]
    found = [s if s.outcome != "not-applicable" else s.model_copy(update={"comparisons": 0}) for s in stages]
    told = [Trouble(device=device, text="t", verdict=verdict) for device, verdict in troubles]
    [of_a, _] = make_runs([device_card("a"), device_card("other")], "fp32", [*map(reported, found), *told], [])
    assert of_a.verdict == expected


def test_run_in_which_an_owed_stage_reported_nothing_is_incomplete() -> None:
    """A test counts as run by what it reported, whatever the outcome; a speed counts, an AP alone does not."""
    [fps, *_], [*_, ap] = GROUPS["perf"], GROUPS["accuracy"]
    found = [
        *(
            reported(stage("passed", name, size), test=test)
            for test, name in GROUPS["accuracy"].items()
            for size in (1, 4)
        ),
        *(reported(stage("not-applicable", name), test=test) for test, name in GROUPS["perf"].items() if test != fps),
        reported(perf(1, "device"), test=fps),
    ]
    cards, owed = [device_card("a")], owed_by({"accuracy"}, (1, 4))
    [whole] = make_runs(cards, "fp32", found, owed)
    assert (whole.verdict, whole.not_run) == ("conforms", ())
    [whole] = make_runs(cards, "fp32", found, [*owed, *owed_by({"perf"}, (1,))])
    assert (whole.verdict, whole.not_run) == ("conforms", ())
    less = [message for message in found if message.test != ap]
    [part] = make_runs(cards, "fp32", [*less, reported(accuracy(0.5, 4), test=ap)], owed)
    assert (part.verdict, part.not_run) == ("incomplete", ("accuracy at batch size 1", "accuracy at batch size 4"))
    [part] = make_runs([device_card("b")], "fp32", [], owed_by({"perf"}, (4,)))
    assert part.not_run == tuple(f"{name} at batch size 4" for name in GROUPS["perf"].values())


@pytest.mark.parametrize(
    ("verdicts", "beside", "expected"),
    [
        (["conforms"], [], "conforms"),
        (["conforms", "deviates"], [], "deviates"),
        (["conforms", "undecided"], [], "undecided"),
        (["undecided", "deviates"], [], "deviates"),
        (["incomplete", "undecided"], [], "incomplete"),
        ([], [], "undecided"),
        (["conforms"], ["deviates"], "deviates"),
        (["deviates"], ["error", "deviates"], "error"),
    ],
)
def test_verdict_of_all_devices_is_the_worst(verdicts: list[Verdict], beside: list[Verdict], expected: Verdict) -> None:
    runs = [run().model_copy(update={"verdict": verdict}) for verdict in verdicts]
    assert make_document("m", None, {}, runs, [], beside).verdict == expected


DOCUMENT = make_document("m", None, {"python": "3" * 9000}, [run(stage("passed"))], ["p"])


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
        "part",
    ]
    assert text["schema"] == 2
    judged = {"device", "execution", "precision", "verdict", "expected_failures", "not_run", "diagnosis"}
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


@pytest.mark.parametrize("older", [None, '{"schema": 1}'])
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


def test_full_disk_is_an_error_before_any_work(suite: Suite, full_disk: Path) -> None:
    for device in ("right", "nosuch"):
        ended = suite.run(f"--device={device}", *CHECKS, results=full_disk / "r.json")
        assert (ended.status, ended.document) == (4, None)
        assert ended.output.count("No space left on device") == 1
        assert "collected" not in ended.output
    assert "no device named 'nosuch'" in ended.output
    assert [entry.name for entry in full_disk.iterdir()] == ["filler"]


def test_disk_that_fills_up_is_an_error_and_leaves_nothing_half_written(suite: Suite, tmp_path: Path) -> None:
    with small_disk(tmp_path / "disk", "size=8k") as folder:
        ended = suite.run("--device=right", *CHECKS, results=folder / "r.json")
        assert ended.status == 4
        said = f"{folder / 'r.json'}: --results: the results cannot be written: No space left on device"
        assert said in ended.output
        assert "verdict: error" in ended.output
        assert "right (stand-in) fp32: conforms" in ended.output  # what took its time to find out is shown all the same
        assert [entry.name for entry in folder.iterdir()] == ["r.json"]
        assert ended.result.verdict == "incomplete"  # as it stood while the run went on


INTERRUPTIBLE = """
import runpy, signal, sys
signal.signal(signal.SIGINT, signal.default_int_handler)
sys.argv = sys.argv[1:]
runpy.run_module(sys.argv[0], run_name="__main__")
"""
"""A shell starts what runs in its background with Ctrl-C ignored, and children inherit that."""


def interrupted(suite: Suite, results: Path, arguments: Sequence[str], number: signal.Signals) -> int:
    """Exit status of a run that gets a signal while a device is at work."""
    running = results.parent.with_suffix(".running")
    environment = {**suite.environment, "ENDLESS_RUNNING": str(running)}
    asked = [f"--results={results}", "--device=right,endless"]
    command = [sys.executable, "-c", INTERRUPTIBLE, *arguments, *asked]
    with subprocess.Popen(command, cwd=ROOT, env=environment, stdout=subprocess.DEVNULL) as process:
        deadline = time.monotonic() + 120
        while not running.exists() and process.poll() is None and time.monotonic() < deadline:
            time.sleep(0.05)
        process.send_signal(number)
        try:
            return process.wait(60)
        finally:
            process.kill()  # else a run that does not heed Ctrl-C would be waited for without end


@pytest.mark.attacks
@pytest.mark.parametrize("module", ["pytest", "harness"])
@pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_ended_run_leaves_a_whole_document_that_is_incomplete(
    suite: Suite, tmp_path: Path, module: str, number: signal.Signals, status: int
) -> None:
    of_pytest = module == "pytest"
    arguments = [module, *suite.options, *CHECKS] if of_pytest else [module, "check", *suite.options[2:]]
    assert interrupted(suite, tmp_path / "r.json", arguments, number) == status
    document = read_results(tmp_path / "r.json")
    assert document is not None
    assert document.verdict == "incomplete"
    assert document.problems[0] == "the run was interrupted: not every test was run"
    assert [problem.partition(": not run: ")[0] for problem in document.problems[1:]] == ["endless"]
    assert [found.verdict for found in document.runs] == ["incomplete", "incomplete"]
    assert list(tmp_path.iterdir()) == [tmp_path / "r.json"]
