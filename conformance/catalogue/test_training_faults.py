"""Every known mistake of a training is caught at the rung where it is made, and named; right trainings conform."""

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import torch

from conformance.catalogue.scorecard import KEY
from conformance.support.training_answers import write_answers
from harness.centernet2.cases import case_model
from harness.centernet2.port import TrainingPort
from harness.centernet2.rungs import RUNGS, Rung
from harness.checks.outcome import StageResult
from harness.exchange.training_case.write import write_training_case
from harness.faults.training import TRAINING_FAULTS, TrainingFault
from harness.report.records import Diagnosis
from harness.run.training import dumped, stages, together
from harness.run.training.diagnose import diagnose_rung
from harness.run.training.options import parse_training_options
from harness.run.training.session import REFERENCE, TrainingSession
from harness.run.training.worker import Job

Note = Callable[[str, object], None]

OF_PORT = (
    "zero_gt_padding", "gt_over_20_dropped", "giou_plus_one_lost", "roialign_unaligned", "level_borders_of_the_port",
    "level_borders_floored", "nms_per_level", "clip_to_padded_size", "empty_boxes_kept", "fixed_shape_192",
    "normalised_by_rank",
)  # fmt: skip
"""Mistakes of the Ascend port of CenterNet2."""
OTHERS = (
    "p7_without_relu",
    "groupnorm_eps",
    "high_fp_not_ignored",
    "clip_by_norm",
    "momentum_lost",
    "decay_of_groupnorm",
)
"""Of other rungs, and of the solver."""
BY_ID = {fault.id: fault for fault in TRAINING_FAULTS}
ALONE = [fault for fault in TRAINING_FAULTS if fault.rung != "processes"]
SEEDS = 20
"""Number of seeds of the weights."""


def nothing(port: TrainingPort) -> None:
    """Leave a port as it is."""


@pytest.fixture(scope="session")
def sessions(tmp_path_factory: pytest.TempPathFactory) -> dict[str, TrainingSession]:
    return {
        precision: TrainingSession(
            parse_training_options(precision=precision), tmp_path_factory.mktemp(precision), lambda text: None
        )
        for precision in ("fp32", "bf16")
    }


@pytest.fixture(scope="session")
def case(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("training") / "case"
    write_training_case("centernet2_narrow", "narrow", folder)
    return folder


def judged(session: TrainingSession, rung: Rung) -> StageResult:
    if rung == "clipped":
        return stages.clipped(session, "cpu")
    return stages.parameters(session, "cpu") if rung == "parameters" else stages.rung(session, "cpu", rung)


def first_wrong(session: TrainingSession) -> Rung | None:
    return next((rung for rung in RUNGS if not judged(session, rung).is_green), None)


def named(found: list[Diagnosis]) -> list[str]:
    return [one.faults[0] for one in found if one.faults]


def note(record: Note, fault: TrainingFault, how: str, rung: str | None, answers: list[str]) -> None:
    place = answers.index(fault.id) if fault.id in answers else None
    entry = {"kind": "training", "how": how, "fault": fault.id, "caught": rung is not None, "place": place}
    record(KEY, json.dumps({**entry, "answers": answers}))


@pytest.mark.catalogue
@pytest.mark.parametrize("precision", ["fp32", "bf16"])
@pytest.mark.parametrize("fault", ALONE, ids=lambda fault: fault.id)
def test_fault_is_caught_where_it_is_made_and_named(
    sessions: dict[str, TrainingSession], precision: str, fault: TrainingFault, record_property: Note
) -> None:
    session = sessions[precision]
    session.replace("cpu", session.faulty(fault.change))
    rung = first_wrong(session)
    answers = named(diagnose_rung(session, "cpu", rung)) if rung is not None else []
    note(record_property, fault, precision, rung, answers)
    if precision == "fp32":
        assert rung == fault.rung
        assert answers[:1] == [fault.id]


@pytest.mark.catalogue
@pytest.mark.parametrize("fault_id", [*OF_PORT, *OTHERS])
def test_fault_is_named_from_a_folder_alone(case: Path, tmp_path: Path, fault_id: str, record_property: Note) -> None:
    rung, answers = judged_folder(case, tmp_path, BY_ID[fault_id])
    note(record_property, BY_ID[fault_id], "a folder", rung, answers)
    assert answers[:1] == [fault_id]


def judged_folder(case: Path, folder: Path, fault: TrainingFault) -> tuple[str | None, list[str]]:
    write_answers(case, folder / "answers", fault.change)
    session = TrainingSession(parse_training_options(outputs=folder / "answers"), folder, lambda text: None)
    session.check()
    for rung in RUNGS:
        result = dumped.parameters(session) if rung == "parameters" else dumped.rung(session, rung)
        if not result.is_green:
            return rung, named(diagnose_rung(session, "outputs", rung))
    return None, []


@pytest.mark.catalogue
def test_processes_that_do_not_share_their_counts_are_named(
    sessions: dict[str, TrainingSession], monkeypatch: pytest.MonkeyPatch, record_property: Note
) -> None:
    session, fault = sessions["fp32"], BY_ID["normalised_by_rank"]
    session.replace("cpu", session.faulty(nothing))
    right = together.make_job

    def wrong(session: TrainingSession, kind: str, name: str, fault_id: str | None = None) -> Job:
        return right(session, kind, name, fault_id or fault.id)

    monkeypatch.setattr(together, "make_job", wrong)
    result = together.processes(session, "cpu")
    answers = named(together.diagnose_processes(session, "cpu"))
    note(record_property, fault, "fp32", None if result.is_green else "processes", answers)
    assert not result.is_green
    assert answers == [fault.id]


@contextmanager
def two_threads() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        yield
    finally:
        torch.set_num_threads(before)


@contextmanager
def without_onednn() -> Iterator[None]:
    with torch.backends.mkldnn.flags(enabled=False):
        yield


@contextmanager
def as_it_is() -> Iterator[None]:
    yield


def channels_last(port: TrainingPort) -> None:
    port.model.to(memory_format=torch.channels_last)


WAYS: dict[str, tuple[Callable[[], object], Callable[[TrainingPort], None]]] = {
    "two threads": (two_threads, nothing),
    "without oneDNN": (without_onednn, nothing),
    "channels last": (as_it_is, channels_last),
}


@pytest.mark.filterwarnings("ignore:TF32 acceleration on top of oneDNN")  # of the switch itself
@pytest.mark.usefixtures("one_thread")
@pytest.mark.catalogue
@pytest.mark.parametrize("seed", range(SEEDS))
def test_right_training_conforms_however_it_is_computed(seed: int, tmp_path: Path, record_property: Note) -> None:
    session = TrainingSession(parse_training_options(), tmp_path, lambda text: None)
    session.subject.model = case_model("narrow", salt="" if seed == 0 else str(seed))
    for rung in RUNGS[:-2]:
        for name in session.cases_of(rung):
            session.values(REFERENCE, "fp32", rung, name)
    alarms = []
    for way, (context, change) in WAYS.items():
        session.replace("cpu", session.faulty(change))
        with context():  # type: ignore[attr-defined]
            wrong = first_wrong(session)
        alarms += [] if wrong is None else [f"{way}: {judged(session, wrong).stage.detail}"]
    record_property(KEY, json.dumps({"kind": "training-right", "alarm": bool(alarms)}))
    assert not alarms
