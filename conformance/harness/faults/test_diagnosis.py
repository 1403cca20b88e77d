"""The search for known faults: its budget, its constants, and what counts as an explanation."""

from __future__ import annotations

import itertools
import time
from pathlib import Path

import numpy as np
import pytest

from conformance.catalogue.cases import cases
from conformance.catalogue.diagnosing import PortDiagnosis, named
from harness.cards import tolerances
from harness.errors import HarnessError
from harness.faults import CATALOGUE, PortSpec
from harness.faults.diagnosis.evidence import Distance, Evidence, half_over_single
from harness.faults.diagnosis.explanation import Hypothesis, accounts_for
from harness.faults.diagnosis.search_table import FILE, load_search_table
from harness.faults.stages.batch import BatchSpec, source_of

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def official(tmp_path_factory: pytest.TempPathFactory) -> PortDiagnosis:
    return PortDiagnosis(cases()["official"], tmp_path_factory.mktemp("official"))


@pytest.fixture(scope="module")
def other_std(official: PortDiagnosis) -> Evidence:
    """Heads of a port whose fault is found only by a fit, after most of the search."""
    [fault] = [fault for fault in CATALOGUE if fault.id == "input-std"]
    return official.evidence(fault.apply(PortSpec(), (0.21, 0.33, 0.4)))


def test_answer_and_evaluations_do_not_depend_on_the_clock(
    official: PortDiagnosis, other_std: Evidence, monkeypatch: pytest.MonkeyPatch
) -> None:
    quick, slow = official.search(other_std), official.search(other_std)
    answer = quick.explain()
    assert named(answer) == [{"input-std"}]
    hours = itertools.count(step=3600)
    for clock in ("monotonic", "perf_counter", "process_time", "time"):
        monkeypatch.setattr(time, clock, lambda: float(next(hours)))
    assert slow.explain() == answer
    assert slow.chain.evaluations == quick.chain.evaluations


def test_search_ends_at_its_budget_after_single_faults(official: PortDiagnosis, other_std: Evidence) -> None:
    search = official.search(other_std)
    search.budget = 0
    assert named(search.explain()) == [frozenset()]
    tried = {hypothesis.ids[0] for hypothesis in search.tried}
    assert tried == {f.id for f in official.faults() if f.stage in other_std.stages}
    evaluations = search.chain.evaluations
    assert evaluations.network + evaluations.faulty_network < 100


def test_two_faults_are_not_sought_where_one_explains_some_images_and_spoils_others(official: PortDiagnosis) -> None:
    heads = [dict(of_image) for of_image in official.port(PortSpec()).heads(official.images)]
    assert not official.search(official.of_heads(heads)).explain()
    heads[-1]["hm"] = heads[-1]["hm"].copy()
    heads[-1]["hm"].flat[99] = np.nan
    search = official.search(official.of_heads(heads))
    assert named(search.explain()) == [frozenset()]
    assert search.tried.keys() & {Hypothesis((fault,), ((),)) for fault in CATALOGUE if fault.id == "nan"}
    assert search.chain.evaluations.arithmetic < 500


@pytest.mark.parametrize(
    ("spec", "sources"),
    [
        (BatchSpec("last stale"), [0, 1, 5, 3, 4, 2]),
        (BatchSpec("run before"), [3, 4, 5, 0, 1, 2]),
        (BatchSpec(), [0, 1, 2, 3, 4, 5]),
    ],
)
def test_stale_slots_of_the_first_batch_are_those_of_the_last_where_all_ran_before(
    spec: BatchSpec, sources: list[int]
) -> None:
    assert [source_of(spec, index, 3, repeated=5) for index in range(6)] == sources
    assert [source_of(spec, index, 3) for index in range(3)] == [0, 1, 2]


def test_allowance_of_float16_in_float32_follows_the_tolerance_table(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before, changed = half_over_single(), tmp_path / "tolerances.toml"
    text = tolerances.TABLE.read_text(encoding="utf-8")
    changed.write_text(text.replace("factor = 16\n", "factor = 32\n"), encoding="utf-8")
    monkeypatch.setattr(tolerances, "TABLE", changed)
    assert half_over_single() == before / 2


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [("reason =", "source =", "reason"), ("[fit.step]", "[fit.stride]", "did you mean 'step'")],
)
def test_constant_without_a_reason_or_of_another_name_is_an_error(
    tmp_path: Path, old: str, new: str, message: str
) -> None:
    path = tmp_path / "search.toml"
    path.write_text(FILE.read_text(encoding="utf-8").replace(old, new, 1), encoding="utf-8")
    with pytest.raises(HarnessError, match=message):
        load_search_table(path)


def test_images_that_hardly_show_a_mistake_say_nothing_for_it_and_may_not_get_worse() -> None:
    quiet, loud, explained = (Distance({"rows": value}, 0.0) for value in (0.4, 15.0, 1.0))
    assert accounts_for([quiet, explained], [quiet, loud])
    assert not accounts_for([quiet, loud], [quiet, loud])
    assert not accounts_for([loud, explained], [quiet, loud])
