"""The command line: every verb explains itself, and says what is missing or wrong."""

import inspect
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
import typer

from conformance.support.command_line import run
from harness.cli import app, doctor
from harness.cli.progress import progress
from harness.devices.torch import TorchDevice
from harness.errors import HarnessError
from harness.paths import data_path

VERBS = {
    command.callback.__name__.replace("_", "-"): command.callback
    for command in app.registered_commands
    if command.callback
}


@pytest.mark.parametrize("verb", VERBS)
def test_help_explains_the_verb_with_a_command_that_it_accepts(verb: str) -> None:
    status, out, _ = run(verb, "--help")
    example = re.search(r"Example: python -m harness (.*)", inspect.getdoc(VERBS[verb]) or "")
    assert status == 0
    assert example is not None
    assert f"Example: python -m harness {example[1]}" in " ".join(out.split())
    name, *arguments = shlex.split(example[1])
    assert name == verb
    command = typer.main.get_group(app).commands[verb]
    command.make_context(verb, arguments)  # parses, and does not run


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["infer", "--output", "x", "--devcie", "torch"], "--devcie"),
        (["export", "--output"], "--output"),
        (["preprocess"], "--output"),
        (["decrypt"], "decrypt"),
        (["infer", "--output", "x", "--device", "torhc"], "did you mean 'torch'?"),
        (["preprocess", "--output", "x", "--model", "nonsense"], "no model card named 'nonsense'"),
        (["preprocess", "--output", "x", "--coco", "nowhere"], "nowhere/annotations"),
        (["export", "--output", "x.onnx", "--batch-size", "0"], "'0' is no batch size"),
        (["export", "--output", "x.onnx", "--weights", "none.pth"], "none.pth"),
        (["infer", "--output", "x", "--onnx", "none.onnx"], "none.onnx"),
        (["score", "--detections", "none.json"], "none.json"),
        (["score", "--results", "rows.json"], "remedy: give --detections rows.json"),
        (["compare", "--results", "rows.json"], "remedy: give --detections rows.json"),
        (["export", "--output", "x", "--dialect", "caffe"], "use one of standard, decomposed, ascend, torchscript"),
        (["train", "--output", "x", "--iterations", "1", "--split", "val"], "no split 'val'"),
    ],
)
def test_what_is_missing_or_wrong_is_said_and_ends_with_4(arguments: list[str], message: str) -> None:
    status, out, err = run(*arguments)
    assert status == 4
    assert message in err
    assert "Traceback" not in err
    assert out == ""


def test_diagnose_says_that_it_finds_a_layer_and_who_names_the_mistake() -> None:
    said = " ".join(re.sub("[│╭╮╰╯─]", " ", run("diagnose", "--help")[1]).split())
    assert "This names a layer, not a mistake." in said
    assert "named by 'pytest -m accuracy' for a device, and by 'compare' for files" in said


def python(code: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-c", code], cwd=data_path(), check=False, capture_output=True, text=True)


def test_help_needs_neither_pytorch_nor_opencv() -> None:
    found = python("import harness.cli, sys; print({'torch', 'cv2', 'onnx', 'onnxruntime'} & set(sys.modules))")
    assert found.stdout == "set()\n"


def test_missing_package_is_named() -> None:
    code = "import sys; sys.modules['typer'] = None; from harness.__main__ import run; run()"
    found = python(code)
    assert found.returncode == 4
    assert "typer" in found.stderr
    assert "pip install -e ." in found.stderr


def test_doctor_lists_packages_and_devices() -> None:
    status, out, _ = run("doctor")
    assert status == 0
    for word in ("Python", "torch", "torchvision", "onnx", "onnxruntime", "opencv-python-headless"):
        assert re.search(rf"^ {word} +>=\S+ +\d\S* +ok", out, re.MULTILINE), word
    assert re.search(r"^ torch +silicon +can run", out, re.MULTILINE)
    assert "CPUExecutionProvider" in out
    assert re.search(r"^ ascend310p +silicon +as ascend310 *$", out, re.MULTILINE)  # the reason stands once


def test_doctor_fails_on_what_is_missing_or_too_old(monkeypatch: pytest.MonkeyPatch) -> None:
    stated = ["torch>=999", "no-such-package>=1", "no-such-tool>=1; extra == 'dev'", "numpy>=1"]
    monkeypatch.setattr(doctor, "requires", lambda name: stated)
    status, _, err = run("doctor")
    assert status == 4
    assert re.search(r"torch is \S+, not >=999, no-such-package is missing;", err)
    assert "no-such-tool" not in err


def test_doctor_says_why_a_device_cannot_run_here(monkeypatch: pytest.MonkeyPatch) -> None:
    def no_driver(self: TorchDevice) -> None:
        raise HarnessError("no driver", remedy="install it")

    monkeypatch.setattr(TorchDevice, "check", no_driver)
    status, out, _ = run("doctor")
    assert status == 0
    assert re.search(r"^ torch +silicon +no driver", out, re.MULTILINE)


def test_doctor_fails_where_the_cache_cannot_be_written(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    monkeypatch.setenv("CENTERNET_CONFORMANCE_CACHE", str(tmp_path / "file" / "cache"))
    status, _, err = run("doctor")
    assert status == 4
    assert "the cache cannot be written" in err


def test_long_work_has_a_bar_on_a_terminal(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")  # rich takes standard error for a terminal
    with progress("long work") as report:
        for done in range(1, 11):
            report(done, 10, "well")
    out, err = capsys.readouterr()
    assert out == ""
    assert "long work well" in err
    assert "10/10" in err
    assert "━" in err


def test_long_work_shows_few_plain_lines_elsewhere(capsys: pytest.CaptureFixture[str]) -> None:
    with progress("long work") as report:
        for done in range(7, 5001, 7):
            report(done, 5000)
        report(5000, 5000)
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 20
    assert lines[-1] == "long work: 5000 of 5000"
