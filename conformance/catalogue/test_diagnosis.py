"""The diagnosis names the mistake that was made, and none if it is not in the catalogue."""

import json
import zlib
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest

from conformance.catalogue.by_hand import SPOILT
from conformance.catalogue.cases import cases
from conformance.catalogue.diagnosing import PortDiagnosis, named
from conformance.catalogue.scorecard import KEY
from harness.centernet.decode import NonFiniteHeadError
from harness.errors import HarnessError
from harness.faults import CATALOGUE, AnyFault, PortSpec
from harness.faults.fault import Params

pytestmark = pytest.mark.usefixtures("one_thread")

Note = Callable[[str, object], None]
BY_ID = {fault.id: fault for fault in CATALOGUE}
PAIRS = 16
SURE = 0.9
RIGHT_OF_SURE = 0.85
LEFT_OUT = 4
"""Every n-th fault is left out of the catalogue, in turn."""
PARTS = 4
"""Parts of the test, so that processes can share it."""


def drawn(fault: AnyFault, salt: str) -> Params:
    return fault.draw(np.random.default_rng(zlib.crc32(f"{fault.id} {salt}".encode())))


@pytest.fixture(scope="module")
def official(tmp_path_factory: pytest.TempPathFactory) -> PortDiagnosis:
    return PortDiagnosis(cases()["official"], tmp_path_factory.mktemp("official"))


@pytest.mark.parametrize("fault_id", ["input-channels-swapped", "dcn-offset-xy", "wh-reg-swapped", "batch-permuted"])
def test_a_mistake_is_named(official: PortDiagnosis, fault_id: str) -> None:
    [first, *_] = official.explain(official.evidence(BY_ID[fault_id].apply(PortSpec())))
    assert [fault.id for fault in first.faults] == [fault_id]
    assert first.confidence >= SURE
    assert first.residual < 1e-3


def test_two_mistakes_are_named_together(official: PortDiagnosis) -> None:
    spec = BY_ID["wh-axes-swapped"].apply(BY_ID["input-channels-swapped"].apply(PortSpec()))
    first = official.explain(official.evidence(spec))[0]
    assert {fault.id for fault in first.faults} == {"wh-axes-swapped", "input-channels-swapped"}


def test_a_right_port_is_given_no_name(official: PortDiagnosis) -> None:
    assert official.explain(official.evidence(PortSpec())) == []


def test_what_no_known_mistake_gives_is_unknown(official: PortDiagnosis) -> None:
    heads = official.port(PortSpec()).heads(official.images)
    heads[0]["hm"][0, 7, 3, 5] += 0.5
    assert named(official.explain(official.of_heads(heads))) == [frozenset()]


@pytest.mark.catalogue
@pytest.mark.parametrize("half", [False, True], ids=["fp32", "fp16"])
@pytest.mark.parametrize("name", ["official", "ltrb"])
def test_one_mistake_is_first_in_95_of_100(tmp_path: Path, record_property: Note, name: str, half: bool) -> None:
    diagnosis, right, answers = PortDiagnosis(cases()[name], tmp_path, half=half), [], []
    for fault in diagnosis.faults():
        evidence = diagnosis.evidence(fault.apply(PortSpec(), drawn(fault, f"{name} {half}")))
        if not diagnosis.shows(evidence):
            continue
        found = diagnosis.explain(evidence)
        right.append(named(found)[:1] == [{fault.id}])
        answers.append((found[0].confidence, right[-1]))
        _note(record_property, "single", fault.id, right[-1], found[0].confidence, right[-1])
    _require_calibrated(answers)
    assert len(right) > 40
    assert np.mean(right) >= 0.95


@pytest.mark.catalogue
@pytest.mark.parametrize("half", [False, True], ids=["fp32", "fp16"])
def test_two_mistakes_are_among_three_in_90_of_100(tmp_path: Path, record_property: Note, half: bool) -> None:
    diagnosis, right, answers = PortDiagnosis(cases()["official"], tmp_path, half=half), [], []
    for a, b in diagnosis.pairs():
        one, other = drawn(a, "pair"), drawn(b, "pair")
        both, alone = b.apply(a.apply(PortSpec(), one), other), (a.apply(PortSpec(), one), b.apply(PortSpec(), other))
        try:
            with np.errstate(all="ignore"):  # what one mistake leaves may be no numbers for the other
                evidence = diagnosis.evidence(both)
        except (HarnessError, NonFiniteHeadError, ValueError):
            continue  # the second mistake cannot be made in what the first one leaves
        # One that leaves no trace of the other is no pair.
        if len(right) == PAIRS or not all(_tells_apart(diagnosis, evidence, spec) for spec in alone):
            continue
        found = diagnosis.explain(evidence)
        right.append({a.id, b.id} in named(found))
        true_answer = named(found)[0] == {a.id, b.id}
        answers.append((found[0].confidence, true_answer))
        _note(record_property, "pair", f"{a.id} + {b.id}", right[-1], found[0].confidence, true_answer)
    _require_calibrated(answers)
    assert len(right) >= PAIRS // 2
    assert np.mean(right) >= 0.9


@pytest.mark.catalogue
@pytest.mark.parametrize("part", range(PARTS))
def test_a_fault_that_is_not_in_the_catalogue_is_unknown(tmp_path: Path, record_property: Note, part: int) -> None:
    diagnosis, right = PortDiagnosis(cases()["official"], tmp_path), []
    for fault in diagnosis.faults()[LEFT_OUT * part :: LEFT_OUT * PARTS]:
        evidence = diagnosis.evidence(fault.apply(PortSpec(), drawn(fault, "unknown")))
        if not diagnosis.shows(evidence):
            continue
        found = diagnosis.explain(evidence, without=[fault])
        right.append(named(found)[:1] == [frozenset()])
        _note(record_property, "unknown", fault.id, right[-1], found[0].confidence, right[-1])
    assert np.mean(right) >= 0.95


@pytest.mark.catalogue
@pytest.mark.parametrize("name", cases())
def test_right_ports_are_given_no_name(tmp_path: Path, record_property: Note, name: str) -> None:
    for half in (False, True):
        diagnosis = PortDiagnosis(cases()[name], tmp_path / str(half), half=half)
        found = diagnosis.explain(diagnosis.evidence(PortSpec()))
        right = not any(one.faults for one in found)
        _note(record_property, "nothing", name, right, 0.0, right)
        assert right


@pytest.mark.catalogue
@pytest.mark.parametrize("what", SPOILT)
def test_ports_that_were_spoilt_by_hand_are_named(
    official: PortDiagnosis, tmp_path: Path, record_property: Note, what: str
) -> None:
    fault_id, edit = SPOILT[what]
    found = official.explain(edit(official, tmp_path))
    right = named(found)[:1] == [{fault_id}]
    _note(record_property, "hand", what, right, found[0].confidence, right)
    assert right, named(found)


def _require_calibrated(answers: Sequence[tuple[float, bool]]) -> None:
    """Of the answers given at 0.9 or more, 85 of 100 are right."""
    sure = [right for confidence, right in answers if confidence >= SURE]
    if sure and np.mean(sure) < RIGHT_OF_SURE:
        pytest.fail(f"{sum(sure)} of {len(sure)} answers given at a confidence of {SURE} or more are right")


def _tells_apart(diagnosis: PortDiagnosis, evidence: object, spec: PortSpec) -> bool:
    search = diagnosis.search(evidence)  # type: ignore[arg-type]
    with np.errstate(all="ignore"):
        distances = [search.evidence.distance(search.chain, spec, index).worst for index in range(len(search.right))]
    return float(np.mean(distances)) > 2.0


def _note(note: Note, kind: str, what: str, right: bool, confidence: float, true_answer: bool) -> None:
    entry = {"kind": kind, "what": what, "right": right, "confidence": confidence, "true_answer": true_answer}
    note(KEY, json.dumps(entry))
