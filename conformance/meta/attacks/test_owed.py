"""A wrong port conforms under no choice of tests, and what a choice leaves out is named."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import chain, combinations
from pathlib import Path
from typing import Never

import pytest

from conformance.support.attack import PORT, SIZES, WRONG, Arrays, Mistake, Port, judged, right
from conformance.support.suite import read_results
from conformance.support.tiny import TinySetup
from harness.checks.owed import Owed, owed_by
from harness.devices.torch import TorchDevice
from harness.report.document import make_runs
from harness.report.records import Document, Message, Reported, Run, Stage
from harness.run import session
from harness.run.checking import run_check
from harness.run.conclude import RunDocument

pytestmark = pytest.mark.attacks

OWED = owed_by({"accuracy"}, SIZES)


def subsets() -> Iterator[tuple[Owed, ...]]:
    """Every choice of tests that leaves at least one."""
    return chain.from_iterable(combinations(OWED, count) for count in range(1, len(OWED) + 1))


def run_of(tiny: TinySetup, folder: Path, mistake: Mistake) -> Callable[[tuple[Owed, ...]], Run]:
    """Judge a port once; give the run that a choice of its tests leads to."""
    with judged(tiny, folder, mistake) as check:
        check.every_stage()
    card, by_test = check.session.device(PORT).card, dict[tuple[str, int | None], list[Message]]()
    for message in check.messages:
        if isinstance(message, Reported) and isinstance(message.record, Stage):
            by_test.setdefault((message.test, message.record.batch_size), []).append(message)

    def of(chosen: tuple[Owed, ...]) -> Run:
        messages = [message for one in chosen for message in by_test[one.test, one.batch_size]]
        return make_runs([card], "fp32", messages, OWED)[0]

    return of


@pytest.mark.parametrize("mistake", WRONG, ids=lambda mistake: mistake.__name__)
def test_wrong_port_conforms_under_no_choice_of_tests(tiny: TinySetup, tmp_path: Path, mistake: Mistake) -> None:
    of = run_of(tiny, tmp_path, mistake)
    assert of(OWED).verdict == "deviates"
    for chosen in subsets():
        found = of(chosen)
        assert found.verdict in ("deviates", "incomplete"), chosen
        assert found.not_run == tuple(str(one) for one in OWED if one not in chosen)


@pytest.mark.attacks(always=True)
def test_right_port_conforms_by_all_tests_alone(tiny: TinySetup, tmp_path: Path) -> None:
    of = run_of(tiny, tmp_path, right)
    verdicts = {len(chosen): of(chosen).verdict for chosen in subsets()}
    assert verdicts == dict.fromkeys(range(1, len(OWED)), "incomplete") | {len(OWED): "conforms"}


def skip() -> Never:
    pytest.skip("the chip is busy")


def xfail() -> Never:
    pytest.xfail("known to the vendor")


def unittest_skip() -> Never:
    import unittest

    raise unittest.SkipTest("the chip is busy")


def leave_pytest() -> Never:
    pytest.exit("all is well", returncode=0)


def leave_python() -> Never:
    raise SystemExit(0)


@pytest.mark.parametrize(
    "leave", [skip, xfail, unittest_skip, leave_pytest, leave_python], ids=lambda leave: leave.__name__
)
def test_device_that_leaves_a_check_leaves_it_incomplete(
    tiny: TinySetup, tmp_path: Path, leave: Callable[[], Never]
) -> None:
    """It is wrong from then on, and what it does is no reason to believe it."""

    def mistake(outputs: object, before: int) -> Never:
        leave()

    with judged(tiny, tmp_path, mistake, tmp_path / "r.json") as check:
        document = RunDocument(check.session)
        document.owe({"accuracy"})
        check.every_stage()
        found = document.close(check.messages)
    assert (found.verdict, found.runs[0].verdict) == ("incomplete", "incomplete")
    assert {"heads at batch size 1", "accuracy at batch size 2"} <= set(found.runs[0].not_run)


@pytest.mark.attacks(always=True)
def test_check_leaves_an_incomplete_document_from_its_beginning(
    tiny: TinySetup, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A device that ends the process at its first batch leaves what is read here."""
    file, found = tmp_path / "r.json", list[Document | None]()

    def mistake(outputs: Arrays, before: int) -> Arrays:
        found.append(read_results(file))
        return outputs

    with judged(tiny, tmp_path, mistake, file) as check:
        monkeypatch.setattr(session, "create_device", lambda name: Port(mistake) if name == PORT else TorchDevice())
        last = run_check(check.session.options, lambda text: None, None)
    assert (last.verdict, read_results(file)) == ("conforms", last)
    first = found[0]
    assert first is not None
    assert (first.verdict, first.runs[0].verdict) == ("incomplete", "incomplete")
    assert first.runs[0].not_run == tuple(map(str, OWED))
    assert first.environment == last.environment
