"""What comes back from a training elsewhere is judged from its folder alone, and refused where it cannot be."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from conformance.support.sampled import sampled
from conformance.support.training_answers import write_answers
from harness.centernet2.port import TrainingPort
from harness.centernet2.rungs import RUNGS
from harness.checks.outcome import StageResult
from harness.errors import HarnessError
from harness.exchange.training_case.write import write_training_case
from harness.faults.training import TRAINING_FAULTS
from harness.run.training import dumped, stages
from harness.run.training.diagnose import diagnose_rung
from harness.run.training.options import parse_training_options
from harness.run.training.session import TrainingSession

BY_ID = {fault.id: fault for fault in TRAINING_FAULTS}
Arrays = dict[str, Any]


def nothing(port: TrainingPort) -> None:
    """Leave a port as it is."""


@pytest.fixture(scope="module")
def case(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("handed out") / "case"
    write_training_case("centernet2_narrow", "narrow", folder)
    return folder


@pytest.fixture(scope="module")
def right(case: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    answers = tmp_path_factory.mktemp("answers")
    write_answers(case, answers, nothing, cases=("base",), iterations=2)
    return answers


def opened(answers: Path, **given: str) -> TrainingSession:
    session = TrainingSession(parse_training_options(outputs=answers, **given), answers, lambda text: None)  # type: ignore[arg-type]
    session.check()
    return session


def results(session: TrainingSession) -> dict[str, StageResult]:
    found: dict[str, StageResult] = {
        rung: stages.rung(session, "outputs", rung) for rung in RUNGS if rung not in ("clipped", "parameters")
    }
    return {**found, "parameters": dumped.parameters(session), "later": dumped.later(session)}


def test_case_is_complete_and_needs_nothing_of_ours(case: Path) -> None:
    names = {path.name for path in case.iterdir()}
    assert {"README.md", "weights.pth", "config.json", "dump.py", "base", "many", "duplicated_heads"} <= names
    assert "harness" not in (case / "dump.py").read_text().replace("conformance suite", "")
    truth = json.loads((case / "base" / "truth.json").read_text())
    assert [len(truth[part]) for part in ("images", "annotations", "categories")] == [2, 7, 80]
    assert truth["annotations"][1]["bbox"] == [30.0, 10.0, 80.5, 100.25]
    config = json.loads((case / "config.json").read_text())
    assert config["MODEL.FPN.OUT_CHANNELS"] == 64
    assert config["MODEL.ROI_HEADS.BATCH_SIZE_PER_IMAGE"] == 65536


def test_answers_of_a_right_step_conform(right: Path) -> None:
    found = results(opened(right))
    assert {name for name, result in found.items() if not result.is_green} == set()
    compared = {name for name, result in found.items() if result.stage.outcome == "passed"}
    assert compared == {
        "features", "heads", "first-losses", "proposals", "stage-losses", "gradients", "parameters", "later",
    }  # fmt: skip
    assert found["matching"].stage.detail == dumped.NOT_DUMPED


@pytest.mark.parametrize("fault", sampled(["fpn_average", "norm_reg", "nms_per_level", "momentum_lost"], ["norm_reg"]))
def test_mistake_is_named_from_the_folder_alone(case: Path, tmp_path: Path, fault: str) -> None:
    write_answers(case, tmp_path / "answers", BY_ID[fault].change, cases=("base",))
    session, known = opened(tmp_path / "answers"), BY_ID[fault]
    wrong = [name for name, result in results(session).items() if not result.is_green]
    assert wrong[0] == known.rung
    assert [one.faults for one in diagnose_rung(session, "outputs", wrong[0])] == [(fault,)]  # type: ignore[arg-type]


def test_losses_and_gradients_alone_are_enough_to_name_a_mistake(case: Path, tmp_path: Path) -> None:
    change = BY_ID["roialign_unaligned"].change
    write_answers(case, tmp_path / "answers", change, cases=("base",), iterations=1, with_layers=False)
    session = opened(tmp_path / "answers")
    assert stages.rung(session, "outputs", "features").stage.outcome == "not-applicable"
    assert not stages.rung(session, "outputs", "stage-losses").is_green
    assert [one.faults for one in diagnose_rung(session, "outputs", "stage-losses")] == [("roialign_unaligned",)]


def changed(right: Path, folder: Path, change: Callable[[Arrays], None]) -> Path:
    """Copy the first answer with a change of its arrays."""
    with np.load(right / "base" / "iteration0.npz") as stored:
        arrays = {name: stored[name] for name in stored.files}
    change(arrays)
    (folder / "base").mkdir(parents=True)
    np.savez(folder / "base" / "iteration0.npz", **arrays)
    return folder


GRADIENT = "gradient/roi_heads.box_head.0.fc1.weight"


def about(**values: object) -> Callable[[Arrays], None]:
    def change(arrays: Arrays) -> None:
        arrays["about"] = np.array(json.dumps({**json.loads(str(arrays["about"])), **values}))

    return change


def put(name: str, make: Callable[[Any], Any]) -> Callable[[Arrays], None]:
    def change(arrays: Arrays) -> None:
        arrays[name] = make(arrays.get(name))

    return change


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (put(GRADIENT, lambda value: value.T.copy()), r"got \(3136, 128\) \(transposed\)"),
        (put(GRADIENT, lambda value: value.astype(np.float16)), "it is float16"),
        (put("gradient/of.nothing", lambda value: np.zeros(3, np.float32)), "no parameter of this name"),
        (put("loss/other", lambda value: np.float32(1)), "no loss of the step is named other"),
        (put("what/ever", lambda value: np.float32(1)), "nothing is known by this name"),
        (put("about", lambda value: np.array("{")), "it does not say what it is of"),
        (put("features/0", lambda value: None), "no readable .npz file"),
        (about(iteration=3), "it is of iteration 3"),
        (about(precision="bf16"), "it was computed in bf16"),
    ],
)
def test_answers_that_cannot_be_judged_are_errors_with_a_remedy(
    right: Path, tmp_path: Path, change: Callable[[Arrays], None], said: str
) -> None:
    with pytest.raises(HarnessError, match=said) as raised:
        opened(changed(right, tmp_path / "answers", change))
    assert raised.value.file
    assert raised.value.field or "npz" in raised.value.cause
    assert raised.value.remedy


def test_values_that_are_not_finite_fail(right: Path, tmp_path: Path) -> None:
    folder = changed(right, tmp_path / "answers", put(GRADIENT, lambda value: value * np.float32(np.nan)))
    result = stages.rung(opened(folder), "outputs", "gradients")
    assert "NaN or infinite" in (result.stage.detail or "")


def test_folders_that_hold_no_answer_are_errors(right: Path, tmp_path: Path) -> None:
    for name, said in (("nowhere", "no such folder"), ("empty", "holds no answer"), ("odd", "no batch is named bsae")):
        folder = tmp_path / name
        if name != "nowhere":
            folder.mkdir()
        if name == "odd":
            (folder / "bsae").mkdir()
        with pytest.raises(HarnessError, match=said):
            opened(folder)
    late = tmp_path / "late" / "base"
    late.mkdir(parents=True)
    (late / "iteration1.npz").write_bytes((right / "base" / "iteration1.npz").read_bytes())
    with pytest.raises(HarnessError, match="iteration 0 is missing"):
        opened(tmp_path / "late")
    (late / "iteration1.npz").rename(late / "iteration0.npz")
    (late / "iteration0.npz").write_bytes((right / "base" / "iteration0.npz").read_bytes()[:5000])
    with pytest.raises(HarnessError, match=r"no readable \.npz file"):
        opened(tmp_path / "late")
