"""Every known mistake is caught in the stage where it was made."""

import json
import zlib
from collections.abc import Callable
from dataclasses import fields
from pathlib import Path

import numpy as np
import pytest

from conformance.catalogue.adequacy import FOUND_IN, Adequacy, invisible
from conformance.catalogue.cases import cases
from conformance.catalogue.scorecard import KEY
from harness.faults import CATALOGUE, STAGES, AnyFault, PortSpec

DRAWS = 2
BY_ID = {fault.id: fault for fault in CATALOGUE}
ONE_A_STAGE = (
    "input-channels-swapped", "dcn-offset-xy", "wh-reg-swapped", "nan", "batch-permuted", "peaks-missing",
    "boxes-corners", "crowd-ignored", "fps-times-chips",
)  # fmt: skip

Note = Callable[[str, object], None]
Suites = dict[str, Adequacy]


@pytest.fixture(scope="session")
def suites(tmp_path_factory: pytest.TempPathFactory) -> Suites:
    return {name: Adequacy(case, tmp_path_factory.mktemp(f"adequacy-{name}")) for name, case in cases().items()}


def draws(fault: AnyFault) -> list[tuple[float, ...]]:
    """Different parameters of a fault, the same in every run."""
    random = np.random.default_rng(zlib.crc32(fault.id.encode()))
    found = [fault.draw(random) for _ in range(DRAWS)]
    return list(dict.fromkeys(found))


def test_catalogue_holds_mistakes_with_origin_and_not_variants_of_one() -> None:
    assert len(CATALOGUE) >= 60
    assert len(BY_ID) == len(CATALOGUE)
    assert {fault.stage for fault in CATALOGUE} == set(STAGES)
    assert tuple(one.name for one in fields(PortSpec)) == STAGES
    for fault in CATALOGUE:
        assert fault.seen_in
        assert fault.touched
        assert len(draws(fault)[0]) == len(fault.parameters)
        assert fault.apply(PortSpec(), draws(fault)[0]) != PortSpec(), fault.id
    changes = [fault.apply(PortSpec(), draws(fault)[0]) for fault in CATALOGUE]
    assert len(set(changes)) == len(changes)


@pytest.mark.parametrize("fault_id", ONE_A_STAGE)
def test_one_fault_a_stage_is_caught_where_it_was_made(suites: Suites, fault_id: str) -> None:
    fault, suite = BY_ID[fault_id], suites["official"]
    verdict = suite.judge(fault, draws(fault)[0])
    assert FOUND_IN[fault.stage] in verdict.failed


def test_a_right_port_is_not_accused(suites: Suites) -> None:
    suite = suites["official"]
    by_device, by_files = suite.judge_port(PortSpec()), suite.judge_files(PortSpec())
    assert by_device.failed == by_files.failed == frozenset()
    assert by_device.passed == {"heads", "batch", "detections"}
    assert by_files.passed == set(FOUND_IN.values()) - {"batch"}


@pytest.mark.catalogue
@pytest.mark.parametrize("fault_id", BY_ID)
def test_every_fault_is_caught_where_it_was_made(suites: Suites, fault_id: str, record_property: Note) -> None:
    """In every model in which it can be made; where nothing is found, the port gives what a right one gives."""
    fault, caught = BY_ID[fault_id], 0
    for name, suite in suites.items():
        if not fault.applies(suite.case.setting()):
            continue
        for params in draws(fault):
            found = FOUND_IN[fault.stage] in suite.judge(fault, params).failed
            hidden = not found and invisible(suite, fault, params)
            entry = {"kind": "adequacy", "fault": fault_id, "stage": fault.stage, "caught": found, "invisible": hidden}
            record_property(KEY, json.dumps(entry))
            assert found or hidden, f"{fault_id} {params} in {name}"
            caught += found
    assert caught, "no input shows this fault"


@pytest.mark.catalogue
@pytest.mark.parametrize("fault_id", ["dcn-offset-xy", "wh-axes-swapped"])
def test_a_fault_upstream_is_not_blamed_on_what_follows(suites: Suites, fault_id: str) -> None:
    """Files of a port that is wrong in one stage deviate there, and later stages conform on what they were given."""
    verdict = suites["official"].judge_files(BY_ID[fault_id].apply(PortSpec()))
    assert verdict.failed == {"heads"}
    assert verdict.passed == {"preprocess", "detections", "evaluate", "speed"}


@pytest.mark.catalogue
@pytest.mark.parametrize("name", cases())
def test_right_ports_are_not_accused(suites: Suites, tmp_path: Path, name: str, record_property: Note) -> None:
    suite, of_half = suites[name], Adequacy(cases()[name], tmp_path, "fp16")
    devices = [suite.judge_port(PortSpec()), of_half.judge_port(PortSpec(), half=True)]
    for verdict in (*devices, suite.judge_files(PortSpec())):
        record_property(KEY, json.dumps({"kind": "right", "alarm": bool(verdict.failed)}))
        assert not verdict.failed
