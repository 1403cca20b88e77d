"""`history`: documents become lines, a drift is told with its step, and what is broken is an error."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from conformance.support.command_line import run
from harness.paths import data_path
from harness.report.history import FILE, read_history


def document(folder: Path, ap: float, fps: float = 20.0, **values: Any) -> Path:  # noqa: ANN401 - fields of a document
    found = json.loads((data_path("reports") / "baselines" / "embedded-onnxruntime.json").read_text()) | values
    (first, *_) = found["runs"]
    first["accuracy"] = [{**first["accuracy"][0], "AP": ap, "batch_size": 1}]
    latency = {"p50": 50.0, "p90": 51.0, "p99": 52.0}
    first["perf"] = [{"batch_size": 1, "fps": fps, "latency_ms": latency, "interval": "device"}]
    found["runs"] = [first]
    path = folder / "results.json"
    path.write_text(json.dumps(found))
    return path


def added(folder: Path, label: str, ap: float, fps: float = 20.0) -> None:
    status, _, err = run("history", "add", document(folder, ap, fps), "--output", folder / "h", "--label", label)
    assert (status, err) == (0, "")


def test_small_steps_that_add_up_are_told_with_the_largest(tmp_path: Path) -> None:
    for number in range(8):
        added(tmp_path, f"steady-{number}", 0.3650)
    for number in range(8):
        added(tmp_path, f"step-{number}", 0.3645 - 0.0005 * number - 0.0004 * (number >= 5))
    status, out, err = run("history", "show", tmp_path / "h")
    (told,) = [line for line in out.splitlines() if " AP fell " in line]
    assert (status, err) == (1, "")
    assert told.startswith("embedded on onnxruntime fp32 at batch size 1: AP fell from 0.36")
    assert "beginning with step-" in told
    assert told.endswith("largest step: 0.3625 to 0.3616 at step-5")
    assert out.splitlines()[-1] == "16 runs; a figure has fallen"
    assert run("history", "show", tmp_path / "h", "--since", "step-7")[0] == 0


def test_speed_is_compared_in_shares_of_it(tmp_path: Path) -> None:
    for number in range(10):
        added(tmp_path, f"{number}", 0.365, 2000.0 + number)
    for number in range(10, 16):
        added(tmp_path, f"{number}", 0.365, 1860.0 + number)
    status, out, _ = run("history", "show", tmp_path / "h")
    assert status == 1
    assert "fps fell from 2004.50 to 1871.50, " in out
    assert "beginning with 10 (" in out


def test_machines_and_images_are_not_compared_with_others(tmp_path: Path) -> None:
    for number in range(16):
        other = {"environment": {"machine": f"machine {number // 8}"}}
        other |= {"data": {"name": "x", "images": 9, "sha256": str(number // 8)}}
        path = document(tmp_path, 0.4 - 0.1 * (number // 8), 20.0 - 5 * (number // 8), **other)
        assert run("history", "add", path, "--output", tmp_path / "h")[0] == 0
    status, out, _ = run("history", "show", tmp_path / "h")
    assert (status, out.count("embedded")) == (0, 4)


def test_a_repeated_job_is_added_once(tmp_path: Path) -> None:
    added(tmp_path, "a", 0.365)
    status, out, _ = run("history", "add", tmp_path / "results.json", "--output", tmp_path / "h", "--label", "a")
    assert (status, len(read_history(tmp_path / "h"))) == (0, 1)
    assert "has the same figures of a already" in out
    added(tmp_path, "a", 0.366)
    assert len(read_history(tmp_path / "h")) == 2


def test_processes_that_add_at_the_same_time_lose_nothing(tmp_path: Path) -> None:
    path = document(tmp_path, 0.365)
    command = [sys.executable, "-m", "harness", "history", "add", str(path), "--output", str(tmp_path / "h")]
    started = [subprocess.Popen([*command, "--label", str(number)], stdout=subprocess.DEVNULL) for number in range(4)]
    assert [one.wait(120) for one in started] == [0] * 4
    assert sorted(str(one.label) for one in read_history(tmp_path / "h")) == ["0", "1", "2", "3"]
    assert [one.name for one in (tmp_path / "h").iterdir()] == [FILE]


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"verdict": "part"}, "a run whose verdict is 'part' has no place in a history"),
        ({"runs": []}, "it holds neither an AP nor a speed"),
        ({"schema": 7}, "RESULTS: not a results document"),
    ],
)
def test_document_that_has_no_place_is_refused(tmp_path: Path, given: dict[str, Any], said: str) -> None:
    path = document(tmp_path, 0.365)
    path.write_text(json.dumps(json.loads(path.read_text()) | given))
    status, out, err = run("history", "add", path, "--output", tmp_path / "h")
    assert (status, out) == (4, "")
    assert said in err
    assert not (tmp_path / "h").exists()


def test_broken_line_is_named_and_nothing_is_written(tmp_path: Path) -> None:
    added(tmp_path, "a", 0.365)
    file = tmp_path / "h" / FILE
    file.write_text(file.read_text() + '{"schema": 1, "added"')
    before = file.read_bytes()
    for arguments in (("show", tmp_path / "h"), ("add", tmp_path / "results.json", "--output", tmp_path / "h")):
        status, _, err = run("history", *arguments)
        assert status == 4
        assert "not an entry of a history in line 2" in err
        assert "remedy: remove the line" in err
    assert file.read_bytes() == before


def test_names_from_a_history_steer_no_terminal(tmp_path: Path) -> None:
    added(tmp_path, "a", 0.365)
    file = tmp_path / "h" / FILE
    file.write_text(file.read_text().replace('"onnxruntime"', '"x\\u001b[31m\\n[/red]"'))
    status, out, _ = run("history", "show", tmp_path / "h")
    assert status == 0
    assert "\x1b" not in out
    assert r"x\x1b[31m\n[/red]" in out


def test_what_is_no_folder_or_no_label_is_an_error(tmp_path: Path) -> None:
    added(tmp_path, "a", 0.365)
    path = tmp_path / "results.json"
    for arguments, said in (
        (("add", path, "--output", path), "it is there already and not an empty folder"),
        (("show", tmp_path / "none"), "history.jsonl"),
        (("show", tmp_path / "h", "--since", "b"), "--since: no run is labelled 'b'"),
    ):
        status, _, err = run("history", *arguments)
        assert status == 4
        assert said in err
