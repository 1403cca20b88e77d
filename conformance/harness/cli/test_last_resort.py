"""Whatever nobody foresaw ends a verb with status 4, one line, and a file to send in; so does a stream that fails."""

import json
import re
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from conformance.support.command_line import run
from harness.cli import last_resort
from harness.errors import HarnessError
from harness.report.defect import MARK

HELP = (sys.executable, "-m", "harness", "dataset", "--help")


@pytest.fixture
def scratch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder for temporary files."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    return tmp_path


def break_it(
    monkeypatch: pytest.MonkeyPatch, error: BaseException, where: str = "harness.cards.load_model_card"
) -> None:
    def broken(*given: object, **named: object) -> None:
        raise error

    monkeypatch.setattr(where, broken)


@pytest.mark.parametrize(
    "error",
    [
        ZeroDivisionError("division by zero"),
        RecursionError(),
        MemoryError(),
        EOFError("no answer"),
        OSError(32, "pipe"),
    ],
    ids=lambda error: type(error).__name__,
)
def test_what_nobody_foresaw_is_an_error_with_a_file_to_send_in(
    scratch: Path, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    break_it(monkeypatch, error)
    status, _, said = run("preprocess", "--output", scratch / "never")
    [file] = scratch.iterdir()
    assert status == 4
    assert re.fullmatch(rf"{type(error).__name__}.* \(\S+[.]py, line \d+\)\n  remedy: {MARK} {file}\n", said)
    told = file.read_text()
    assert all(part in told for part in ("'preprocess' '--output'", "python 3.", "Traceback", type(error).__name__))


def test_check_leaves_a_document_that_says_error(scratch: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    break_it(monkeypatch, KeyError("hm"), "harness.run.check")
    status, _, said = run("check", "--results", scratch / "r.json")
    document = json.loads((scratch / "r.json").read_text())
    assert (status, document["verdict"], document["model"]) == (4, "error", "embedded")
    assert document["problems"] == [said.strip()]
    assert MARK in said


def test_rows_that_compare_would_not_replace_stay(scratch: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (scratch / "rows.json").write_text("[]")
    status, _, said = run("score", "--results", scratch / "rows.json")
    assert (status, (scratch / "rows.json").read_text()) == (4, "[]")
    assert "--detections" in said


def test_without_a_place_for_the_file_the_error_holds_it(scratch: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(scratch / "none"))
    break_it(monkeypatch, ValueError("odd"))
    status, _, said = run("preprocess", "--output", scratch / "never")
    assert status == 4
    assert f"{MARK} what follows\n" in said
    assert "Traceback (most recent call last)" in said


def test_errors_of_users_and_missing_packages_pass() -> None:
    for error in (HarnessError("theirs"), ModuleNotFoundError(name="torch"), KeyboardInterrupt()):
        with pytest.raises(type(error)) as caught, last_resort.at_hand():
            raise error
        assert caught.value is error


@pytest.mark.parametrize(
    ("shell", "status", "said"),
    [
        ("PYTHONIOENCODING=ascii {command} | true; exit ${{PIPESTATUS[0]}}", 0, ""),
        ("{command} >/dev/full", 4, "standard output: cannot be written: No space left on device"),
        ("{command} >&- 2>&-", 0, ""),
        ("mkdir gone; cd gone; rmdir ../gone; {command}", 4, "the current folder is gone"),
    ],
)
def test_streams_and_folders_of_any_state_end_a_verb_in_order(
    tmp_path: Path, shell: str, status: int, said: str
) -> None:
    script = shell.format(command=" ".join(HELP))
    ended = subprocess.run(["bash", "-c", script], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert (ended.returncode, ended.stderr.partition("\n")[0]) == (status, said)
