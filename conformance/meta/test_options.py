"""A request that cannot be met ends with status 4, a message that helps, and a document that says so."""

import os
from collections.abc import Sequence
from types import SimpleNamespace
from typing import cast

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from conformance.plugin import selection
from conformance.plugin.entry import TAKE_PATHS, join_values
from conformance.support.suite import CHECKS, Suite

REFUSED: dict[str, tuple[Sequence[str], Sequence[str]]] = {
    "unknown device": (
        ["--device=nosuch"],
        ["--device: no device named 'nosuch'", "installed: ", "onnxruntime", "torch"],
    ),
    "misspelt device": (["--device=onxruntime"], ["did you mean 'onnxruntime'?"]),
    "device twice": (["--device=right,right"], ["--device: 'right,right' is no list of different device names"]),
    "absent": (["--device=right,absent"], ["--device absent: no chip answers on the bus", "remedy: seat the card"]),
    "chip without its toolkit": (
        ["--device=ascend310p"],
        ["device 'ascend310p' cannot run here", "no atc on the PATH", "ASCEND_TOOLKIT_HOME is not set", ":emulated"],
    ),
    "precision of no device": (["--precision=fp16"], ["device 'right' has no precision 'fp16'", "use one of fp32"]),
    "unknown precision": (["--precision=fp8"], ["--precision: precision 'fp8' is not supported yet", "fp32"]),
    "no precision": (["--precision="], ["--precision: precision '' is not supported yet"]),
    "no images to calibrate with": (["--calibration-images=0"], ["--calibration-images: 0 images", "give 1 or more"]),
    "precision of another device": (
        ["--device=halfonly", "--precision=fp32"],
        ["device 'halfonly' has no precision 'fp32'", "use one of fp16"],
    ),
    "devices that usually differ": (
        ["--device=right,halfonly"],
        ["--precision: these devices usually run at different precisions: right fp32, halfonly fp16", "say which one"],
    ),
    "batch size 0": (["--batch-sizes=0"], ["--batch-sizes: '0' is no list", "whole numbers from 1 up"]),
    "batch sizes of words": (["--batch-sizes=1,many"], ["--batch-sizes: '1,many' is no list"]),
    "no expectations": (["--expectations=none.toml"], ["none.toml: no such file", "remedy: check the path"]),
    "no images": (["--limit=0"], ["--limit: 0 images", "remedy: give 1 or more"]),
    "unknown model": (["--model=dla"], ["--model: no model card named 'dla'", "embedded", ".toml"]),
    "missing model": (["--model=none.toml"], ["none.toml: no such file"]),
    "speed of shared machine": (["-m", "perf", "-n", "2"], ["-m perf -n: ", "remedy: leave -n out"]),
    "unknown device in a list": (["--collect-only", "--device=nosuch"], ["--device: no device named 'nosuch'"]),
}


@pytest.mark.parametrize("arguments", REFUSED)
def test_what_cannot_be_had_is_an_error_and_never_a_skip(suite: Suite, arguments: str) -> None:
    given_options, parts = REFUSED[arguments]
    ended = suite.run("--device=right", *given_options, *CHECKS)
    assert (ended.status, ended.result.verdict, ended.result.runs) == (4, "error", ())
    [problem] = ended.result.problems
    for part in parts:
        assert part in problem
        assert part in ended.output
    assert ended.output.count("\n  remedy: ") == 1
    assert not any(word in ended.output for word in ("Traceback", "INTERNALERROR", "skipped", "passed"))


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        (["-k", "no_such_test", *CHECKS], "no test was selected: nothing was checked"),
        (["conformance/test_nothing.py"], "the tests that were asked for could not be collected"),
    ],
)
def test_no_test_is_an_error(suite: Suite, arguments: Sequence[str], problem: str) -> None:
    ended = suite.run("--device=right", *arguments)
    assert (ended.status, ended.result.verdict) == (4, "error")
    assert ended.result.problems == (problem,)
    assert ended.run_of("right").verdict == "undecided"
    assert f"problem: {problem}" in ended.output
    assert "verdict: error" in ended.output


words = st.one_of(st.sampled_from(TAKE_PATHS), st.sampled_from(["-m", "accuracy", "--limit", "3", "-x", "a/b", "--"]))


@given(st.lists(words))
def test_joining_an_option_with_its_path_changes_nothing_else(arguments: list[str]) -> None:
    joined = join_values(arguments)
    assert join_values(joined) == joined
    apart = [part for word in joined for part in (word.split("=", 1) if word.startswith(TAKE_PATHS) else [word])]
    assert apart == arguments


@pytest.mark.parametrize("option", TAKE_PATHS)
def test_option_takes_the_path_that_follows_it(option: str) -> None:
    assert join_values(["-m", "accuracy", option, "/data/x", "-q"]) == ["-m", "accuracy", f"{option}=/data/x", "-q"]
    assert join_values([option, "-q"]) == [option, "-q"]
    assert join_values([f"{option}=a", "b"]) == [f"{option}=a", "b"]


@pytest.mark.parametrize(("chosen", "threads"), [(None, "2"), ("3", "3")])
def test_processes_to_be_started_are_told_of_their_share_of_threads_unless_the_user_said(
    monkeypatch: pytest.MonkeyPatch, chosen: str | None, threads: str
) -> None:
    monkeypatch.delenv("PYTEST_XDIST_WORKER", raising=False)
    monkeypatch.setattr(os, "sched_getaffinity", lambda process: set(range(5)), raising=False)
    monkeypatch.setenv("OMP_NUM_THREADS", chosen or "")  # in any case, so that what is set here is taken back
    if chosen is None:
        monkeypatch.delenv("OMP_NUM_THREADS")
    selection.pytest_configure(cast(pytest.Config, SimpleNamespace(option=SimpleNamespace(numprocesses=2))))
    assert os.environ["OMP_NUM_THREADS"] == threads


def test_this_process_computes_with_no_more_threads_than_it_has_cores() -> None:
    """Of one process true in any case; of several, by what they were told."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    assert torch.get_num_threads() <= max(cores, int(os.environ.get("OMP_NUM_THREADS", "0")))
