"""Tests of devices that train exist under ``-m training`` alone, and a run of a part of them earns no verdict."""

from collections.abc import Sequence

import pytest

from conformance.support.suite import Suite
from harness.checks.owed import GROUPS

OPTIONS = ("-p", "no:cacheprovider")
REFUSED: dict[str, tuple[Sequence[str], str]] = {
    "both kinds of devices": (["-m", "training or accuracy"], "-m training or accuracy: devices that train are others"),
    "every kind of devices": (["-m", "training or perf"], "run -m training by itself"),
    "images": (["-m", "training", "--coco=somewhere"], "--coco: it has no meaning for a training"),
    "batch sizes": (["-m", "training", "--batch-sizes=1"], "--batch-sizes: it has no meaning for a training"),
    "processes of an inference": (["--processes=2"], "--processes: only a training has processes"),
    "device that infers": (["-m", "training", "--device=torch"], "no training device named 'torch'"),
    "device that is not there": (["-m", "training", "--device=npu"], "device 'npu' is not there: torch_npu"),
    "model that is not trained": (["-m", "training", "--model=dla_34"], "no model whose training can be checked"),
    "no answers": (["-m", "training", "--outputs=nowhere"], "nowhere: --outputs: no such folder"),
    "missing weights": (["-m", "training", "--weights=none.pth"], "none.pth"),
}


@pytest.mark.parametrize("arguments", REFUSED)
def test_what_a_training_cannot_have_is_an_error_with_a_remedy(suite: Suite, arguments: str) -> None:
    given, said = REFUSED[arguments]
    ended = suite.run(*given, "conformance/training", options=OPTIONS)
    assert (ended.status, ended.result.verdict) == (4, "error")
    [problem] = ended.result.problems
    assert said in problem
    assert "remedy: " in problem


@pytest.mark.parametrize("selection", [[], ["-m", "not perf"], ["-m", "not training"], ["-m", "accuracy"]])
def test_without_the_marker_there_are_none(suite: Suite, selection: list[str]) -> None:
    ended = suite.run("--collect-only", "-q", *selection, "conformance/training", "conformance/device")
    assert "conformance/training" not in ended.output
    assert "conformance/device/test_accuracy.py" in ended.output or selection == ["-m", "not training"]


def test_part_of_a_training_is_incomplete_and_names_what_did_not_run(suite: Suite) -> None:
    ended = suite.run("-m", "training", "-k", "targets_equal", "conformance/training", options=OPTIONS)
    [run] = ended.result.runs
    assert (ended.status, run.verdict, run.device) == (1, "incomplete", "cpu")
    assert [(stage.name, stage.outcome) for stage in run.stages] == [("training-targets", "passed")]
    assert len(run.not_run) == len(GROUPS["training"]) - 1
    assert "training-gradients at batch size 2" in run.not_run
    assert ended.result.model == "centernet2_narrow"
    assert ended.result.weights_sha256
