"""The page of a run shows where a faulty port differs, from what the run left: no device runs again for it."""

import re
from pathlib import Path

import pytest

from conformance.support.example_records import document, run, stage
from conformance.support.suite import CHECKS, Suite
from conformance.support.tiny import TinySetup
from harness.cards import load_model_card
from harness.report.records import Document, Outcome
from harness.run import evidence
from harness.run.evidence import gather
from harness.run.options import CheckOptions, parse_options
from harness.run.published import with_published
from harness.run.session import Session

PERMUTED = ("--device=permuted", "--batch-sizes=4")


def pictures_of(folder: Path) -> list[str]:
    return re.findall(r"data:image/[^\"]+", (folder / "report.html").read_text())


def test_pictures_are_the_same_from_pytest_check_and_many_processes(suite: Suite, tmp_path: Path) -> None:
    ways = {
        "pytest": lambda *given: suite.run(*given, *CHECKS),
        "processes": lambda *given: suite.run(*given, "-n2", *CHECKS),
        "check": suite.check,
    }
    found = {}
    for name, way in ways.items():
        ended = way(*PERMUTED, f"--report={tmp_path / name}")
        assert ended.status == 1, ended.output
        found[name] = pictures_of(tmp_path / name)
        assert len([one for one in found[name] if "png" in one]) == 3
        text = (tmp_path / name / "report.html").read_text()
        assert "A head that deviates: hm, highest score over the classes" in text
    assert found["pytest"] == found["processes"] == found["check"]


def make_session(tiny: TinySetup, shared: Path, device: str) -> Session:
    given = {"model": str(tiny.card), "weights": tiny.weights, "onnx": tiny.onnx, "coco": tiny.coco}
    return Session(parse_options(device=device, batch_sizes="4", **given), shared, lambda text: None)  # type: ignore[arg-type]


def document_of(session: Session, outcome: Outcome) -> Document:
    card = session.device(session.options.devices[0]).card
    one = run(stage(outcome, "heads", 4), device=card.name)
    return document(one.model_copy(update={"execution": card.execution}))


@pytest.mark.parametrize("outcome", ["failed", "passed"])
def test_no_device_runs_for_the_pictures(
    tiny: TinySetup, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, outcome: Outcome
) -> None:
    first = make_session(tiny, tmp_path, "onnxruntime")
    first.detections("onnxruntime", 4)
    _ = first.reference_results
    first.close()
    second = make_session(tiny, tmp_path, "onnxruntime")
    monkeypatch.setattr(Session, "artifact", lambda *given: pytest.fail("a device is asked to run"))
    [found] = gather(second, document_of(second, outcome)).values()
    assert found.photos == ()
    assert found.note == "no image in which they visibly differ, of scores from 0.3 on"
    assert (found.maps is not None) == (outcome == "failed")


def test_run_that_ended_early_has_no_pictures(tiny: TinySetup, tmp_path: Path) -> None:
    session = make_session(tiny, tmp_path, "onnxruntime")
    [found] = gather(session, document_of(session, "failed")).values()
    assert (found.photos, found.maps) == ((), None)
    assert found.note == "no run over all images came to its end"
    assert not list(tmp_path.iterdir())


def test_pictures_beyond_what_a_page_holds_are_left_out(
    tiny: TinySetup, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    session = make_session(tiny, tmp_path, "onnxruntime")
    session.detections("onnxruntime", 4)
    _ = session.reference_results
    monkeypatch.setattr(evidence, "PAGE_BYTES", 10)
    [found] = gather(session, document_of(session, "failed")).values()
    assert (found.maps, found.note) == (None, "left out: the page holds no more pictures")


def test_published_figures_come_from_both_cards(tmp_path: Path) -> None:
    card = load_model_card("dlav0_34_sophon")
    options = CheckOptions(("bm1684x",), card)
    session = Session(options, tmp_path, lambda text: None)
    device = session.device("bm1684x").card
    [found] = with_published(document_of(session, "passed"), session).runs
    assert [one.value for one in found.published if one.figure == "AP" and one.precision is None] == [
        one.ap for one in card.published
    ]
    expected = {(one.fps, one.precision, one.batch_size) for one in device.published if one.model == "dlav0_34"}
    assert {(one.value, one.precision, one.batch_size) for one in found.published if one.figure == "fps"} == expected
    assert expected
