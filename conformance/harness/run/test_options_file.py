"""Options that a file states are those of the command line, which wins; what is wrong in it is named."""

from pathlib import Path

import pytest

from conformance.support.command_line import run
from conformance.support.suite import CHECKS, Suite
from harness.errors import HarnessError
from harness.run.options_file import stated_options

PROJECT = """
[tool.centernet-conformance]
device = ["onnxruntime", "torch"]
batch-sizes = [1, 4]
limit = 8
coco = "data/coco"
model = "cards/own.toml"
allow-other-weights = true

[tool.centernet-conformance.training]
device = "cuda"
model = "centernet2_narrow"
results = "training.json"
processes = 1
"""


def test_table_of_the_nearest_project_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "pyproject.toml").write_text(PROJECT)
    (tmp_path / "below").mkdir()
    monkeypatch.chdir(tmp_path / "below")
    assert stated_options(None) == {
        "device": "onnxruntime,torch",
        "batch_sizes": "1,4",
        "limit": 8,
        "coco": str(tmp_path / "data/coco"),
        "model": str(tmp_path / "cards/own.toml"),
        "allow_other_weights": True,
    }
    assert stated_options(None, training=True) == {
        "device": "cuda",
        "model": "centernet2_narrow",
        "results": str(tmp_path / "training.json"),
        "processes": 1,
    }


def test_project_without_the_table_states_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert stated_options(None) == {}
    (tmp_path / "pyproject.toml").write_text("[tool.other]\ndevice = 'x'\n")
    assert stated_options(None) == {}
    with pytest.raises(HarnessError, match=r"tool.centernet-conformance: there is no such table"):
        stated_options(tmp_path / "pyproject.toml")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("batch-size = 1", "batch-size: unknown key\n  remedy: did you mean 'batch-sizes'?"),
        ("limit = 'ten'", "limit: Input should be a valid integer"),
        ("processes = 2", "processes: unknown key"),
        ("[training]\nlimit = 2", "training.limit: unknown key"),
        ("device", "not valid TOML"),
    ],
)
def test_what_is_wrong_is_named(tmp_path: Path, text: str, said: str) -> None:
    (tmp_path / "options.toml").write_text(text)
    with pytest.raises(HarnessError) as caught:
        stated_options(tmp_path / "options.toml")
    assert said in str(caught.value)
    assert "options.toml" in str(caught.value)


def test_command_line_wins_in_pytest_and_in_check(suite: Suite, tmp_path: Path) -> None:
    file = tmp_path / "options.toml"
    file.write_text("device = 'rihgt'\nprecision = 'fp8'\n")
    refused = (
        ((), "precision 'fp8' is not supported"),
        (("--precision=fp32",), "no device named 'rihgt'"),
    )
    for options, said in refused:
        ended = suite.run("--config", str(file), "--collect-only", *options, *CHECKS)
        assert ended.status == 4
        assert said in ended.output
        status, _, err = run("check", "--config", file, *options)
        assert status == 4
        assert said in err
    ended = suite.run("--config", str(file), "--collect-only", "--device=right", "--precision=fp32", *CHECKS)
    assert ended.status == 0


def test_reuse_and_fresh_of_a_file_yield_to_the_other_on_the_command_line(suite: Suite, tmp_path: Path) -> None:
    file = tmp_path / "options.toml"
    later = ("--max-slowdown", "0")  # refused after the two are read
    for stated, given in (("reuse", "--fresh"), ("fresh", "--reuse")):
        file.write_text(f"{stated} = true\n")
        assert "'0' is no share of the time" in suite.run("--config", str(file), given, *later, *CHECKS).output
        assert "'0' is no share of the time" in run("check", "--config", file, given, *later)[2]
    file.write_text("reuse = true\nfresh = true\n")
    assert "give one of them" in suite.run("--config", str(file), *CHECKS).output
    assert "give one of them" in run("check", "--config", file)[2]


def test_gate_of_speed_in_a_file_counts_in_pytest_and_in_check(suite: Suite, tmp_path: Path) -> None:
    file = tmp_path / "options.toml"
    file.write_text("against = 'old.onnx'\nmax-slowdown = '7%'\n")
    said = f"--against: no such file, and no device of this name: '{tmp_path / 'old.onnx'}'"
    assert said in suite.run("--config", str(file), *CHECKS).output
    assert said in suite.check("--config", str(file)).output
    ended = suite.check("--config", str(file), "--max-slowdown=0")
    assert (ended.status, "'0' is no share of the time" in ended.output) == (4, True)


def test_file_that_is_not_there_is_an_error(suite: Suite) -> None:
    ended = suite.run("--config=none.toml", *CHECKS)
    assert (ended.status, ended.result.verdict) == (4, "error")
    assert "none.toml: no such file" in ended.output
